"""Three PySceneDetect detectors at three frame rates, and a check of each suspicion.

Stable Video Diffusion runs three detectors at three rates and thresholds so that slow changes are seen as well as hard
cuts (arXiv 2311.15127, appendix C); it does not publish the values. Ours: the adaptive detector on every frame, the
content detector at 6 fps, the histogram detector at 2 fps, all sensitive, followed by the tests in `transitions`.
"""

from collections import deque
from itertools import pairwise

import numpy as np
from scenedetect.common import FrameTimecode
from scenedetect.detector import SceneDetector
from scenedetect.detectors import AdaptiveDetector, ContentDetector, HistogramDetector

from curation.config import CutSettings
from curation.cuts.transitions import Kind, Signature, Transition, blend_features, blend_score, fades, is_cut, likeness

_NEIGHBOURS = 6  # frames on each side of a hard-cut candidate that its isolation is measured against
_STEP = 4.0  # how many times its surroundings' a step of the signature must be, where the detector sees nothing
_REACH_S = 1.5  # how far beyond the frames under suspicion a gradual transition, and the calm beside it, may reach
_LONGEST_STRETCH_S = 4.0
_TICK = 4  # frames from one look of our own cue to the next
_LAGS = (16, 40)  # frames between which our own cue looks for slow change
_WINDOWS = (10, 16, 26, 42)  # frames that a window may cover; the longest is most of a dissolve of 60
_MARGIN = 16  # frames beside a stretch in which a window may have its middle, and win over one inside
_APART = 25  # frames between two gradual transitions at least


class _Adaptive(AdaptiveDetector):
    @property
    def content(self) -> float:
        """HSV difference (0-255) of the last frame to the one before."""
        return self._frame_score or 0.0


class _Slow:
    """A detector that sees the video at its own frame rate; `run` is the open stretch in which it saw change."""

    def __init__(self, detector: SceneDetector, fps: float) -> None:
        self.detector = detector
        self.fps = fps
        self._next = 0.0
        self._last: int | None = None

    def push(self, frame: FrameTimecode, time: float, bgr: np.ndarray) -> tuple[int, int] | None:
        """The two frames between which it saw a change, if it did."""
        if time + 1e-6 < self._next:
            return None
        self._next = (np.floor(time * self.fps + 1e-6) + 1) / self.fps
        before, self._last = self._last, frame.frame_num
        hits = self.detector.process_frame(frame, bgr)
        return (before, frame.frame_num) if hits and before is not None else None


class Cascade:
    """Finds transitions online. Feed every frame in order with `push`; each transition comes out once, in order,
    a few seconds of footage after it happened, and `flush` gives the rest."""

    def __init__(self, settings: CutSettings, fps: float) -> None:
        self._fps = float(fps)
        self._adaptive = _Adaptive(
            adaptive_threshold=settings.hard_threshold, min_scene_len=1, min_content_val=settings.hard_min_content
        )
        self._slow = [
            _Slow(ContentDetector(threshold=settings.medium_threshold, min_scene_len=0), settings.medium_fps),
            _Slow(HistogramDetector(threshold=settings.slow_threshold, min_scene_len=0), settings.slow_fps),
        ]
        self._slowest_s = max(1 / min(settings.medium_fps, settings.slow_fps), (_LAGS[-1] + _TICK) / self._fps)
        self._blend_threshold = settings.blend_threshold
        self._history: deque[tuple[Signature, float, float]] = deque()  # with HSV change and change of signature
        self._suspects: dict[int, bool] = {}  # frames that may be hard cuts, and whether the detector says so
        self._stretches: list[list[int]] = []  # [first, last] frame of stretches that may be gradual
        self._blank_since: int | None = None
        self._gradual_end = -_APART
        self._gradual: list[Transition] = []  # verified, kept until nothing that starts earlier can come
        self._cuts: deque[Transition] = deque()  # verified, kept until no open stretch can reach back to them
        self._settled_until = 0.0

    def push(self, index: int, time: float, bgr: np.ndarray) -> list[Transition]:
        """Look at the next frame, BGR uint8 (h, w, 3). Returns the transitions that are now certain, in order."""
        timecode = FrameTimecode(index, self._fps)
        hits = [hit.frame_num for hit in self._adaptive.process_frame(timecode, bgr)]
        signature = Signature.of(index, time, bgr)
        step = float(np.abs(signature.colour - self._history[-1][0].colour).mean()) if self._history else 0.0
        if step >= 8 and step >= 2 * self._history[-1][2]:
            # in noise every frame differs from the next; only the reduced picture steps where there is a cut
            self._suspects.setdefault(index, False)
        self._suspects |= dict.fromkeys(hits, True)
        self._history.append((signature, self._adaptive.content, step))
        for slow in self._slow:
            if seen := slow.push(timecode, time, bgr):
                self._stretch(*seen)
        self._look_back(signature)
        return self._settle(final=False)

    def flush(self) -> list[Transition]:
        """The transitions that were still uncertain when the video ended."""
        return self._settle(final=True)

    @property
    def settled_until(self) -> float:
        """Time (seconds) before which no further transition will be reported."""
        return self._settled_until

    def _look_back(self, now: Signature) -> None:
        """Our own cue: blank frames, and change that is too slow for the detectors."""
        if self._blank_since is not None and (
            not now.blank or now.time - self._time(self._blank_since) >= _LONGEST_STRETCH_S
        ):
            self._stretch(self._blank_since, now.index)
            self._blank_since = None
        elif now.blank and self._blank_since is None:
            self._blank_since = now.index
        if now.index % _TICK == 0:
            for lag in _LAGS:
                if len(self._history) > lag:
                    then = self._history[-1 - lag][0]
                    if np.abs(now.colour - then.colour).mean() >= 4 and likeness(now.luma, then.luma) < 0.9:
                        self._stretch(then.index, now.index)

    def _stretch(self, first: int, last: int) -> None:
        self._stretches.append([first, last])
        self._stretches.sort()
        merged = [self._stretches[0]]
        for a, b in self._stretches[1:]:
            longest = self._time(max(b, merged[-1][1])) - self._time(merged[-1][0])
            if a <= merged[-1][1] + 1 and longest <= _LONGEST_STRETCH_S:
                merged[-1][1] = max(b, merged[-1][1])
            else:
                merged.append([a, b])
        self._stretches = merged

    def _settle(self, final: bool) -> list[Transition]:
        now = self._history[-1][0] if self._history else None
        if now is None:
            return []
        for index in sorted(self._suspects):
            if final or now.index >= index + _NEIGHBOURS:
                self._verify(index, self._suspects.pop(index))
        while self._stretches and not self._suspects:
            first, last = self._stretches[0]
            open_until = self._time(last) + self._slowest_s + _REACH_S
            if not final and now.time < open_until:
                break
            self._stretches.pop(0)
            self._judge(first, last)
        horizon = now.time - self._slowest_s - _REACH_S
        if self._blank_since is not None:
            horizon = min(horizon, self._time(self._blank_since) - _REACH_S)
        if self._stretches:
            horizon = min(horizon, self._time(self._stretches[0][0]) - _REACH_S)
        if self._suspects:
            horizon = min(horizon, self._time(min(self._suspects)) - 1e-6)
        horizon = now.time + 1 if final else horizon
        out = [t for t in self._gradual if t.start <= horizon]
        self._gradual = [t for t in self._gradual if t.start > horizon]
        while self._cuts and self._cuts[0].start <= horizon:
            out.append(self._cuts.popleft())
        self._settled_until = max(self._settled_until, horizon)
        while len(self._history) > 2 * _NEIGHBOURS + 2 and self._history[0][0].time < horizon - 0.5:
            self._history.popleft()
        return sorted(out, key=lambda t: (t.start_frame, t.end_frame))

    def _verify(self, index: int, detected: bool) -> None:
        """Keep a hard-cut suspect if its surroundings say so."""
        at = index - self._history[0][0].index
        if at < 1:
            return
        near = [
            self._history[i] for i in range(max(0, at - _NEIGHBOURS), min(len(self._history), at + _NEIGHBOURS + 1))
        ]
        middle = min(at, _NEIGHBOURS)
        beside = [h for i, h in enumerate(near) if i != middle and h[0].index > 0]
        _, content, step = near[middle]
        calm = float(np.mean([h[1] for h in beside] or [0.0])), float(np.mean([h[2] for h in beside] or [0.0]))
        signatures = [h[0] for h in near]
        by_content, by_step = content / (calm[0] + 1e-3), step / (calm[1] + 1)
        isolation = max(by_content, by_step)
        if (detected or by_step >= _STEP) and is_cut(signatures[:middle], signatures[middle:], content, isolation):
            time = signatures[middle].time
            self._cuts.append(Transition("cut", time, time, index, index))

    def _judge(self, first: int, last: int) -> None:
        """Find the gradual transitions of a stretch, between the hard cuts in and around it."""
        low, high = self._time(first) - _REACH_S, self._time(last) + _REACH_S
        near = [h[0] for h in self._history if low <= h[0].time <= high]
        cuts = [c.start_frame for c in self._cuts if near[0].index < c.start_frame <= near[-1].index]
        edges = [near[0].index, *cuts, near[-1].index + 1]
        for start, stop in pairwise(edges):
            if start <= last and stop > first:
                window = near[start - near[0].index : stop - near[0].index]
                found: list[tuple[Kind, int, int]] = [("fade", a, b) for a, b in fades(window)]
                for a, b in self._blends(window, first, last, [(a, b) for _, a, b in found]):
                    found.append(("dissolve", a, b))
                for kind, a, b in sorted(found, key=lambda f: f[1]):
                    if window[a].index >= self._gradual_end + (_APART if kind == "dissolve" else 0):
                        self._gradual.append(
                            Transition(kind, window[a].time, window[b].time, window[a].index, window[b].index)
                        )
                        self._gradual_end = window[b].index

    def _blends(
        self, window: list[Signature], first: int, last: int, taken: list[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """Positions of dissolves and wipes in and around the stretch, the likeliest first."""
        colour, at = np.stack([s.colour for s in window]), window[0].index
        blank = np.cumsum([False, *(s.blank for s in window)])  # no blend goes through a flash
        scored = []
        for length in _WINDOWS:
            earliest = max(0, first - at - _MARGIN - length // 2)
            latest = min(last - at + _MARGIN - length // 2, len(window) - 1 - length)
            for a in range(earliest, latest + 1, max(3, length // 5)):
                flashes = blank[a + length + 1] > blank[a]
                features = None if flashes else blend_features(colour, a, a + length)
                if features is not None and (score := blend_score(features)) > self._blend_threshold:
                    scored.append((score, a, a + length))
        out: list[tuple[int, int]] = []
        for _, a, b in sorted(scored, reverse=True):
            if all(b + _APART <= c or a >= d + _APART for c, d in taken + out):
                out.append((a, b))
        return out

    def _time(self, index: int) -> float:
        return self._history[max(0, index - self._history[0][0].index)][0].time
