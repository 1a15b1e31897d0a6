"""Three PySceneDetect detectors at three frame rates, and a check of each suspicion.

Stable Video Diffusion runs three detectors at three rates and thresholds so that slow changes are seen as well as hard
cuts (arXiv 2311.15127, appendix C); it does not publish the values. Ours: the adaptive detector on every frame, the
content detector at 6 fps, the histogram detector at 2 fps, all sensitive, followed by the tests in `transitions`.
"""

from collections import deque

import numpy as np
from scenedetect.common import FrameTimecode
from scenedetect.detector import SceneDetector
from scenedetect.detectors import AdaptiveDetector, ContentDetector, HistogramDetector

from curation.config import CutSettings
from curation.cuts.transitions import Signature, Transition, gradual_kind, is_cut

_NEIGHBOURS = 6  # frames on each side of a hard-cut candidate that its isolation is measured against
_PAD_S = 0.3  # how far beyond a slow detector's samples a gradual transition may reach
_LONGEST_GRADUAL_S = 4.0


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
        self._slowest_s = 1 / min(settings.medium_fps, settings.slow_fps)
        self._history: deque[tuple[Signature, float]] = deque()
        self._suspects: deque[int] = deque()  # frames that may be hard cuts
        self._stretches: list[list[int]] = []  # [first, last] frame of stretches that may be gradual
        self._cuts: deque[Transition] = deque()  # verified, kept until no open stretch can reach back to them
        self._settled_until = 0.0

    def push(self, index: int, time: float, bgr: np.ndarray) -> list[Transition]:
        """Look at the next frame, BGR uint8 (h, w, 3). Returns the transitions that are now certain, in order."""
        timecode = FrameTimecode(index, self._fps)
        self._suspects += [hit.frame_num for hit in self._adaptive.process_frame(timecode, bgr)]
        self._history.append((Signature.of(index, time, bgr), self._adaptive.content))
        for slow in self._slow:
            if seen := slow.push(timecode, time, bgr):
                self._stretch(*seen)
        return self._settle(final=False)

    def flush(self) -> list[Transition]:
        """The transitions that were still uncertain when the video ended."""
        return self._settle(final=True)

    @property
    def settled_until(self) -> float:
        """Time (seconds) before which no further transition will be reported."""
        return self._settled_until

    def _stretch(self, first: int, last: int) -> None:
        self._stretches.append([first, last])
        self._stretches.sort()
        merged = [self._stretches[0]]
        for a, b in self._stretches[1:]:
            longest = self._time(max(b, merged[-1][1])) - self._time(merged[-1][0])
            if a <= merged[-1][1] + 1 and longest <= _LONGEST_GRADUAL_S:
                merged[-1][1] = max(b, merged[-1][1])
            else:
                merged.append([a, b])
        self._stretches = merged

    def _settle(self, final: bool) -> list[Transition]:
        now = self._history[-1][0] if self._history else None
        if now is None:
            return []
        while self._suspects and (final or now.index >= self._suspects[0] + _NEIGHBOURS):
            self._verify(self._suspects.popleft())
        out: list[Transition] = []
        while self._stretches and not self._suspects:
            first, last = self._stretches[0]
            open_until = self._time(last) + self._slowest_s + 2 * _PAD_S
            if not final and now.time < open_until:
                break
            self._stretches.pop(0)
            self._judge(first, last, out)
        horizon = now.time - self._slowest_s - 2 * _PAD_S
        if self._stretches:
            horizon = min(horizon, self._time(self._stretches[0][0]) - 2 * _PAD_S)
        if self._suspects:
            horizon = min(horizon, self._time(self._suspects[0]) - 1e-6)
        horizon = now.time + 1 if final else horizon
        while self._cuts and self._cuts[0].start <= horizon:
            out.append(self._cuts.popleft())
        self._settled_until = max(self._settled_until, horizon)
        while len(self._history) > 2 * _NEIGHBOURS + 2 and self._history[0][0].time < horizon - 4 * _PAD_S:
            self._history.popleft()
        return sorted(out, key=lambda t: (t.start_frame, t.end_frame))

    def _verify(self, index: int) -> None:
        """Keep a hard-cut suspect if its surroundings say so."""
        at = index - self._history[0][0].index
        if at < 1:
            return
        around = [
            self._history[i][1]
            for i in range(max(1, at - _NEIGHBOURS), min(len(self._history), at + _NEIGHBOURS + 1))
            if i != at
        ]
        content = self._history[at][1]
        after = [self._history[i][0] for i in range(at, min(len(self._history), at + _NEIGHBOURS + 1))]
        before = [self._history[i][0] for i in range(max(0, at - _NEIGHBOURS), at)]
        if is_cut(before, after, content, content / (float(np.mean(around or [0.0])) + 1e-3)):
            time = after[0].time
            self._cuts.append(Transition("cut", time, time, index, index))

    def _judge(self, first: int, last: int, out: list[Transition]) -> None:
        """Turn a stretch into gradual transitions if it is one. Hard cuts bound what it may cover; cuts that it
        swallows (a cut to black inside a fade) stay cuts."""
        if any(first < cut.start_frame <= last for cut in self._cuts):
            return
        start = max([self._history[0][0].index, *(c.start_frame for c in self._cuts if c.start_frame <= first)])
        end = min([self._history[-1][0].index, *(c.start_frame - 1 for c in self._cuts if c.start_frame > last)])
        padded = [
            s
            for s, _ in self._history
            if start <= s.index <= end and self._time(first) - _PAD_S <= s.time <= self._time(last) + _PAD_S
        ]
        kind = gradual_kind(padded)
        if kind:
            a, b = padded[0], padded[-1]
            out.append(Transition(kind, a.time, b.time, a.index, b.index))

    def _time(self, index: int) -> float:
        return self._history[max(0, index - self._history[0][0].index)][0].time
