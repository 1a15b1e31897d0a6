"""The frames that are not decided yet: at most about 40 a second, and where the frames between them changed."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from curation.cuts.transitions import Boundary, Signature, Transition

_FPS = 30  # faster footage is thinned to about this rate, for which all windows in frames are made
_EARLY = 0.9  # share of the thinned interval after which a frame with an irregular time stamp is kept
_DENSEST_S = 0.5 / _FPS  # seconds between frames that are kept of footage whose average rate is low
_LARGE = 0.6  # share of the largest step that the other steps of a short transition have
_ELSEWHERE = 2.0  # how many times larger a step one frame away must be for a cut to lie there
UNSEEN = -20.0  # log-odds of frames that nobody suspects


@dataclass(frozen=True, slots=True)
class Step:
    """A decoded frame: its index, its time (seconds) and how much it differs (0-255) from the frame before."""

    index: int
    time: float
    size: float


@dataclass(slots=True)
class Seen:
    """A kept frame. `steps` are the decoded frames after the last kept one, up to and including this one."""

    signature: Signature
    content: float  # HSV change to the kept frame before
    step: float  # change of signature to the kept frame before
    suspect: bool | None  # None: no hard cut; False: our own cue suspects one; True: the detector does
    grey: np.ndarray  # for `motion`
    thumbnail: np.ndarray  # for `opinion`
    steps: tuple[Step, ...]
    cut: float = UNSEEN  # the network's log-odds
    gradual: float = UNSEEN

    @property
    def odds(self) -> float:
        """The network's log-odds of a transition of either kind."""
        return max(self.cut, self.gradual)


class Pace:
    """Decides which frames of fast footage are kept."""

    def __init__(self, fps: float) -> None:
        stride = max(1, round(fps / _FPS))
        self.fps = fps / stride  # of the kept frames
        self._interval = _EARLY * stride / fps if stride > 1 else _DENSEST_S
        self._last = -np.inf

    def keeps(self, time: float) -> bool:
        """Whether the frame at this time (seconds) is kept. Ask once for each frame, in order."""
        if time - self._last < self._interval - 1e-6:
            return False
        self._last = time
        return True


class OpenFootage:
    """Kept frames by position, counted from 0; those that no decision needs any more are dropped from the front."""

    def __init__(self) -> None:
        self._frames: deque[Seen] = deque()
        self.first = 0

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, position: int) -> Seen:
        return self._frames[position - self.first]

    @property
    def end(self) -> int:
        """The position after the last frame."""
        return self.first + len(self._frames)

    def append(self, frame: Seen) -> None:
        self._frames.append(frame)

    def between(self, low: int, high: int) -> Iterator[Seen]:
        """The frames from `low` up to `high`, less those that are dropped or not there yet."""
        return (self[i] for i in range(max(self.first, low), min(self.end, high)))

    def drop_before(self, position: int) -> None:
        while self._frames and self.first < position:
            self._frames.popleft()
            self.first += 1

    def located(self, boundary: Boundary) -> Transition:
        """The boundary in decoded frames. A hard cut lies at the largest step near it; where frames were left out,
        neighbours of that step that are nearly as large belong to a transition of a few frames."""
        if boundary.kind == "cut":
            return self._located_cut(boundary.first)
        start = self[boundary.first].steps[0]
        last = self[min(boundary.last, self.end - 1)].steps[-1]
        return Transition(boundary.kind, start.time, last.time, start.index, last.index)

    def _located_cut(self, position: int) -> Transition:
        steps = [
            (p, step)
            for p in (position - 1, position, position + 1)
            for f in self.between(p, p + 1)
            for step in f.steps
        ]
        sizes = [step.size / (1 if p == position else _ELSEWHERE) for p, step in steps]
        first = last = int(np.argmax(sizes))
        if len(steps) > 3:  # frames were left out
            first, last = _neighbours_as_large([step.size for _, step in steps], first)
        start, end = steps[first][1], steps[last][1]
        return Transition("cut" if first == last else "dissolve", start.time, end.time, start.index, end.index)


def _neighbours_as_large(sizes: list[float], at: int) -> tuple[int, int]:
    """The first and last of the consecutive steps around one that are nearly as large."""
    least, first, last = _LARGE * sizes[at], at, at
    while first > 0 and sizes[first - 1] >= least:
        first -= 1
    while last + 1 < len(sizes) and sizes[last + 1] >= least:
        last += 1
    return first, last
