"""Three PySceneDetect detectors at three frame rates suspect; a small network and two tests decide.

Stable Video Diffusion runs three detectors at three rates and thresholds so that slow changes are seen as well as hard
cuts (arXiv 2311.15127, appendix C); it does not publish the values. Ours: the adaptive detector on every frame, the
content detector at 6 fps, the histogram detector at 2 fps, all sensitive. Footage that none of them suspects is passed
over; the rest is shown to the network of `network`, whose word is weighed with the tests of `transitions`.
"""

import math
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from scenedetect.common import FrameTimecode
from scenedetect.detector import SceneDetector
from scenedetect.detectors import AdaptiveDetector, ContentDetector, HistogramDetector

from curation.config import CutSettings
from curation.cuts.motion import is_motion, reduced
from curation.cuts.network import REACH, fitted
from curation.cuts.transitions import (
    QUICK,
    Kind,
    Signature,
    Transition,
    difference,
    fades,
    is_cut,
    is_quick,
    likeness,
    without_bars,
)
from curation.cuts.transnet import TransNet

RULES = 4  # counted up when the same footage and settings give other transitions
_NEIGHBOURS = 6  # frames on each side of a hard-cut suspect that its isolation is measured against
_STEP = 4.0  # how many times its surroundings' a step of the signature must be, where the detector sees nothing
_NETWORK_FPS = 30  # of faster footage the network sees every second frame, or fewer
_BLOCK = 200  # frames that the network judges at a time
_TICK = 4  # frames from one look of our own cue to the next
_LAGS = (16, 40)  # frames between which our own cue looks for slow change
_NEAR = 24  # frames around a suspicion that are judged with it
_CALM = 8  # frames without suspicion after which what lies before is decided
_LONGEST_OPEN = 720  # frames after which it is decided in any case
_GAP, _SHORTEST = 4, 4  # frames: breaks in a gradual transition that are bridged, and its least length
_SURE_CUT, _NO_CUT = 1.2, -4.0  # log-odds with which the network overrules the tests
_LONG, _SIDE, _SAME = 8, 4, 0.88  # frames, frames, likeness: see `_leads_back`; in a dissolve neighbours are alike too
_QUICK_MOVE, _BESIDE = 24, 6  # frames of a stretch, at most; frames from it: see `_moves`
_PIECE = 12  # frames that must be left of a gradual transition beside a fade
_PEAK, _AROUND = 6, 4  # frames: see `_quick`
# the least log-odds of a cut, likeness and isolation: the less the network says, the more the pictures must
_QUICK_RULES = ((-3.0, 0.5, 1.4), (-8.0, 0.2, 2.5))
_NO_DOUBT = -4.0  # log-odds that are not worth remembering
_NONE = np.empty(0, np.uint8)
_UNSEEN = -20.0  # log-odds of frames that nobody suspects


class _Adaptive(AdaptiveDetector):
    """PySceneDetect's detector with its score from one pass over the picture instead of nine: the weights of hue,
    saturation and value are equal, so the mean of their three mean differences is that of all bytes."""

    _last: np.ndarray | None = None

    @property
    def content(self) -> float:
        """HSV difference (0-255) of the last frame to the one before."""
        return self._frame_score or 0.0

    def _calculate_frame_score(self, timecode: FrameTimecode, frame_img: np.ndarray) -> float:
        last, self._last = self._last, cv2.cvtColor(frame_img, cv2.COLOR_BGR2HSV)
        return 0.0 if last is None else cv2.norm(last, self._last, cv2.NORM_L1) / last.size


class _Slow:
    """A detector that sees the video at its own frame rate."""

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


@dataclass(slots=True)
class _Seen:
    """A frame that is not decided yet, or that a decision may still look back to."""

    signature: Signature
    content: float  # HSV change to the frame before
    step: float  # change of signature
    suspect: bool | None  # None: no hard cut; False: our own cue suspects one; True: the detector does
    grey: np.ndarray  # for `motion`
    picture: np.ndarray  # for TransNetV2, where it is asked
    cut: float = _UNSEEN  # the network's log-odds
    gradual: float = _UNSEEN


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
        self._threshold = settings.gradual_threshold
        self._transnet = TransNet() if settings.transnet else None
        self._stride = max(1, round(self._fps / _NETWORK_FPS))
        self._frames: deque[_Seen] = deque()
        self._first = 0  # index of the oldest frame kept
        self._suspicions: list[tuple[int, int]] = []  # first and last frame
        self._judged = 0  # frames before this one have the network's log-odds
        self._decided = 0  # frames before this one have given their transitions
        self._settled_until = 0.0
        self._doubts: deque[tuple[float, float]] = deque()  # time and log-odds of frames that were let pass

    def push(self, index: int, time: float, bgr: np.ndarray) -> list[Transition]:
        """Look at the next frame, BGR uint8 (h, w, 3). Returns the transitions that are now certain, in order."""
        timecode = FrameTimecode(index, self._fps)
        hits = [hit.frame_num for hit in self._adaptive.process_frame(timecode, bgr)]
        signature = Signature.of(index, time, bgr)
        last = self._frames[-1] if self._frames else None
        step = difference(signature, last.signature) if last else 0.0
        # in noise every frame differs from the next; only the reduced picture steps where there is a cut
        stepped = last is not None and step >= 8 and step >= 2 * last.step
        picture = self._transnet.reduced(bgr) if self._transnet else _NONE
        suspect = False if stepped else None
        self._frames.append(_Seen(signature, self._adaptive.content, step, suspect, reduced(bgr), picture))
        for hit in hits:
            if hit >= self._first:
                self._at(hit).suspect = True
        self._suspicions += [(at, at) for at in (*hits, *([index] if stepped else ()))]
        for slow in self._slow:
            if seen := slow.push(timecode, time, bgr):
                self._suspicions.append(seen)
        self._look_back(signature)
        if index + 1 < self._judged + _BLOCK + REACH * self._stride:
            return []
        self._judge(self._judged + _BLOCK)
        return self._decide(self._calm_point())

    def flush(self) -> list[Transition]:
        """The transitions that were still uncertain when the video ended."""
        end = self._first + len(self._frames)
        while self._judged < end:
            self._judge(min(end, self._judged + _BLOCK))
        return self._decide(end)

    @property
    def settled_until(self) -> float:
        """Time (seconds) before which no further transition will be reported."""
        return self._settled_until

    def doubt(self, start: float, end: float) -> float:
        """Probability that a transition was overlooked between two times (seconds) before `settled_until`: the
        network's highest for one frame, less what belongs to the transitions that were found. What lies before
        `start` is forgotten, so ask in order."""
        while self._doubts and self._doubts[0][0] < start - 1e-6:
            self._doubts.popleft()
        odds = max((o for t, o in self._doubts if t < end - 1e-6), default=_UNSEEN)
        return 1 / (1 + math.exp(-odds))

    def _at(self, index: int) -> _Seen:
        return self._frames[index - self._first]

    def _look_back(self, now: Signature) -> None:
        """Our own cue: blank frames, and change that is too slow for the detectors."""
        if now.blank:
            self._suspicions.append((now.index, now.index))
        if now.index % _TICK == 0:
            for lag in _LAGS:
                if len(self._frames) > lag:
                    then = self._frames[-1 - lag].signature
                    if difference(now, then) >= 4 and likeness(now.luma, then.luma) < 0.9:
                        self._suspicions.append((then.index, now.index))

    def _judge(self, end: int) -> None:
        """Show the network what is suspected of the frames before `end` that it has not judged."""
        begin, self._judged = self._judged, end
        for first, past in self._suspected(begin, end):
            self._show(first, past)

    def _suspected(self, begin: int, end: int) -> list[list[int]]:
        """The stretches near suspicions; those that the network would see together anyway are one."""
        reach = 2 * REACH * self._stride
        spans: list[list[int]] = []
        for a, b in sorted(self._suspicions):
            first, past = max(begin, a - _NEAR), min(end, b + _NEAR + 1)
            if first >= past:
                continue
            if spans and first - spans[-1][1] <= reach:
                spans[-1][1] = max(past, spans[-1][1])
            else:
                spans.append([first, past])
        return spans

    def _show(self, first: int, past: int) -> None:
        stride, reach = self._stride, REACH * self._stride
        low = max(self._first, first - reach)
        low += -low % stride
        high = min(self._first + len(self._frames), past + reach)
        shown = [self._at(i).signature.colour for i in range(low, high, stride)]
        odds = np.repeat(fitted()(np.stack(shown)), stride, axis=0)[: high - low]
        if self._transnet:
            odds = np.maximum(odds, self._transnet([self._at(i).picture for i in range(low, high)]))
        for i in range(max(first, low), past):
            frame = self._at(i)
            frame.cut, frame.gradual = odds[i - low].tolist()

    def _calm_point(self) -> int:
        """The last frame before which everything can be decided: nothing goes on around it."""
        for at in range(self._judged - _CALM, self._decided, -1):
            around = (self._at(i) for i in range(at - _CALM, at + _CALM) if i >= self._first)
            if all(f.suspect is None and f.gradual < self._threshold and not f.signature.blank for f in around):
                return at
        return self._judged - _CALM if self._judged - self._decided > _LONGEST_OPEN else self._decided

    def _decide(self, end: int) -> list[Transition]:
        """The transitions of the frames from the last decision to `end`."""
        begin = self._decided
        if end <= begin:
            return []
        cuts = [i for i in range(max(1, begin), end) if self._is_cut(i)]
        window = [self._at(i).signature for i in range(begin, end)]
        found = [self._transition("cut", i, i) for i in cuts]
        edges = [begin, *cuts, end]
        taken: list[tuple[int, int]] = []
        explained: list[tuple[int, int]] = []
        for start, stop in pairwise(edges):
            if any(s.blank for s in window[start - begin : stop - begin]):
                taken += [(start + a, start + b) for a, b in fades(window[start - begin : stop - begin])]
            for a, b in self._gradual(start, stop):
                blank = any(s.blank for s in window[a - begin : b - begin])
                if not blank and (self._leads_back(a, b) or self._moves(a, b)):
                    explained.append((a, b))
                    continue
                for c, d in _without(a, b, taken):
                    found.append(self._transition("fade" if blank else "dissolve", c, d))
        found += [self._transition("fade", a, b) for a, b in taken]
        found += self._quick(begin, end, found)
        self._decided = end
        self._note_doubts(begin, end, explained + [(t.start_frame, t.end_frame) for t in found])
        last = self._frames[-1].signature
        self._settled_until = self._at(end).signature.time if end <= last.index else last.time + 1
        keep = end - REACH * self._stride - _BLOCK
        while self._first < keep:
            self._frames.popleft()
            self._first += 1
        self._suspicions = [s for s in self._suspicions if s[1] + _NEAR >= self._judged]
        return sorted(found, key=lambda t: (t.start_frame, t.end_frame))

    def _note_doubts(self, begin: int, end: int, explained: list[tuple[int, int]]) -> None:
        """Keep what the network thought of the frames that are neither in nor beside one of the stretches."""
        beside = _CALM * self._stride
        for i in range(begin, end):
            frame = self._at(i)
            odds = max(frame.cut, frame.gradual)
            if odds > _NO_DOUBT and not any(a - beside <= i <= b + beside for a, b in explained):
                self._doubts.append((frame.signature.time, odds))

    def _leads_back(self, first: int, past: int) -> bool:
        """Whether the picture after a long stretch is the one before it: the light changed, or something passed."""
        if past - first < _LONG * self._stride:
            return False
        before = range(max(self._first, first - _SIDE), max(self._first + 1, first - 1))
        last = self._first + len(self._frames) - 1
        after = range(min(last, past + 1), min(last, past + _SIDE) + 1)
        luma = without_bars(np.stack([self._at(i).signature.luma for i in (*before, *after)]))
        sides = luma[: len(before)], luma[len(before) :]
        return max(likeness(a, b) for a in sides[0] for b in sides[1]) > _SAME

    def _moves(self, first: int, past: int) -> bool:
        """Whether what is seen a little before a short stretch can be followed to a little after it."""
        if past - first > _QUICK_MOVE * self._stride:
            return False
        beside = _BESIDE * self._stride
        low, high = max(self._first, first - beside), min(self._first + len(self._frames), past + beside)
        return is_motion([self._at(i).grey for i in range(low, high, self._stride)])

    def _transition(self, kind: Kind, first: int, last: int) -> Transition:
        last = min(last, self._first + len(self._frames) - 1)
        return Transition(kind, self._at(first).signature.time, self._at(last).signature.time, first, last)

    def _is_cut(self, index: int) -> bool:
        """Whether a shot begins at this frame: a suspect that passes the tests, unless the network is sure that it is
        none; or what the network is sure of."""
        frame = self._at(index)
        if frame.suspect is None and frame.cut < _SURE_CUT:
            return False
        end = self._first + len(self._frames)
        near = [self._at(i) for i in range(max(self._first, index - _NEIGHBOURS), min(end, index + _NEIGHBOURS + 1))]
        at = index - max(self._first, index - _NEIGHBOURS)
        odds = [f.cut for f in near[max(0, at - 2) : at + 3]]
        if frame.cut >= _SURE_CUT:
            # of faster footage the network sees one frame for several, and the largest step says which it is
            tied = [f for f in near if f.cut == frame.cut]
            first = max(tied, key=lambda f: (f.suspect is not None, f.step)) is frame
            return first and frame.cut == max(odds) and not any(f.suspect for f in near[:at] if f.cut >= _SURE_CUT)
        if max(odds) < _NO_CUT:
            return False
        beside = [f for f in near if f is not frame and f.signature.index > 0]
        by_content = frame.content / (float(np.mean([f.content for f in beside] or [0.0])) + 1e-3)
        by_step = frame.step / (float(np.mean([f.step for f in beside] or [0.0])) + 1)
        if not frame.suspect and by_step < _STEP:
            return False
        signatures = [f.signature for f in near]
        return is_cut(signatures[:at], signatures[at:], frame.content, max(by_content, by_step))

    def _quick(self, begin: int, end: int, found: list[Transition]) -> list[Transition]:
        """Transitions of a few frames: where the network comes nearest to one, though it takes it neither for a cut nor
        for gradual, and the pictures beside it say so."""
        odds = np.array([(f.cut, f.gradual) for f in map(self._at, range(begin, end))])
        highest, beside = odds.max(axis=1), _CALM * self._stride
        peak, around, reach = _PEAK * self._stride, _AROUND * self._stride, QUICK * self._stride
        out: list[Transition] = []
        for i in np.flatnonzero(highest > _QUICK_RULES[-1][0]).tolist():
            at, cut = begin + i, odds[max(0, i - around) : i + around + 1, 0].max()
            rule = next((bounds for least, *bounds in _QUICK_RULES if cut > least), None)
            if rule is None or highest[i] < highest[max(0, i - peak) : i + peak + 1].max():
                continue
            if any(t.start_frame - beside <= at <= t.end_frame + beside for t in (*found, *out)):
                continue
            low, high = max(self._first, at - reach), min(self._first + len(self._frames), at + reach + 1)
            low += (at - low) % self._stride
            near = [self._at(j).signature for j in range(low, high, self._stride)]
            if is_quick(near, (at - low) // self._stride, *rule):
                out.append(self._extent(max(low + 1, at - around), min(high, at + around + 1)))
        return out

    def _extent(self, low: int, high: int) -> Transition:
        """The transition among some frames: from the first to the last step of at least half the largest."""
        steps = np.array([self._at(i).step for i in range(low, high)])
        large = np.flatnonzero(steps >= steps.max() / 2)
        first, last = low + int(large[0]), low + int(large[-1])
        blank = any(self._at(i).signature.blank for i in range(first, last))
        return self._transition("cut" if first == last else "fade" if blank else "dissolve", first, last)

    def _gradual(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Stretches between two cuts that the network takes for gradual transitions."""
        odds = np.array([self._at(i).gradual for i in range(start, stop)])
        edges = np.flatnonzero(np.diff(odds > self._threshold, prepend=False, append=False)).reshape(-1, 2).tolist()
        runs: list[list[int]] = []
        for a, b in edges:
            if runs and a - runs[-1][1] <= _GAP * self._stride:
                runs[-1][1] = b
            else:
                runs.append([a, b])
        runs = [run for run in runs if run[1] - run[0] >= _SHORTEST * self._stride]
        return [(start + a, start + b) for a, b in (_core(odds, a, b) for a, b in runs)]


def _core(odds: np.ndarray, first: int, past: int) -> tuple[int, int]:
    """A run of odds less its slopes: from the first to the last frame with half of the highest odds."""
    high = np.flatnonzero(odds[first:past] >= odds[first:past].max() / 2)
    return first + int(high[0]), first + int(high[-1]) + 1


def _without(first: int, last: int, taken: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is left of a stretch beside others, where it is more than their edge."""
    left = [(first, last)]
    for a, b in taken:
        left = [piece for c, d in left for piece in ((c, min(d, a)), (max(c, b), d)) if piece[1] > piece[0]]
    return [p for p in left if p == (first, last) or p[1] - p[0] >= _PIECE]
