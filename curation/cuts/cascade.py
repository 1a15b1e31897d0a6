"""Where shots end: cheap detectors suspect, a small network and tests on reduced frames decide.

`suspects` says what may be a transition. Footage that nothing suspects is passed over; the rest is shown to the
network of `network`, and `boundaries` weighs its answer with the tests of `transitions`. `review` asks a second network
about what is doubtful. All of them see about 30 frames a second of faster footage; `footage` finds the exact frame.
"""

import math
from collections import deque

import numpy as np

from curation.config import CutSettings
from curation.cuts.boundaries import CALM, boundaries
from curation.cuts.footage import UNSEEN, OpenFootage, Pace, Seen, Step
from curation.cuts.motion import reduced
from curation.cuts.network import REACH, fitted
from curation.cuts.opinion import thumbnail
from curation.cuts.review import merged, reviewed
from curation.cuts.suspects import Suspects
from curation.cuts.transitions import Boundary, Signature, Transition, difference, reduced_colour

RULES = 5  # count up when the same footage and settings give other transitions, or the second network is another one
_BLOCK = 200  # frames that the network judges at a time
_NEAR = 24  # frames around a suspicion that are judged with it
_LONGEST_OPEN = 720  # frames after which what lies before is decided in any case
_HEAD, _STILL = (
    12,
    20,
)  # first frames of the footage, and how many repetitions of the very first precede them: see `_show`
_NO_DOUBT = -4.0  # log-odds that are not worth remembering


class Cascade:
    """Finds transitions online. Feed every frame in order with `push`; each transition comes out once, in order,
    a few seconds of footage after it happened, and `flush` gives the rest."""

    def __init__(self, settings: CutSettings, fps: float) -> None:
        self._pace = Pace(float(fps))
        self._suspects = Suspects(settings, self._pace.fps)
        self._threshold = settings.gradual_threshold
        self._footage = OpenFootage()
        self._steps: list[Step] = []  # of decoded frames since the last kept one
        self._left_out: tuple[float, np.ndarray] | None = None  # time and pixels of the last frame, if it was not kept
        self._colour: np.ndarray | None = None  # of the last decoded frame
        self._judged = 0  # frames before this position have the network's log-odds
        self._decided = 0  # frames before this position have given their transitions
        self._settled_until = 0.0
        self._doubts: deque[tuple[float, float]] = deque()  # time and log-odds of frames that were let pass

    def push(self, index: int, time: float, bgr: np.ndarray) -> list[Transition]:
        """Look at the next frame, BGR uint8 (h, w, 3). Returns the transitions that are now certain, in order."""
        colour, before = reduced_colour(bgr), self._colour
        self._colour = colour
        self._steps.append(Step(index, time, 0.0 if before is None else difference(before, colour)))
        if not self._pace.keeps(time):
            self._left_out = time, bgr
            return []
        self._left_out = None
        self._keep(time, bgr)
        if self._footage.end < self._judged + _BLOCK + REACH:
            return []
        self._judge(self._judged + _BLOCK)
        return self._decide(self._calm_point())

    def flush(self) -> list[Transition]:
        """The transitions that were still uncertain when the footage ended."""
        if self._left_out:
            self._keep(*self._left_out)
        end = self._footage.end
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
        odds = max((o for t, o in self._doubts if t < end - 1e-6), default=UNSEEN)
        return 1 / (1 + math.exp(-odds))

    def _keep(self, time: float, bgr: np.ndarray) -> None:
        """Add a frame to the open footage and let the detectors look at it."""
        position = self._footage.end
        hits = self._suspects.detect(position, time, bgr)
        signature = Signature.of(time, bgr)
        last = self._footage[position - 1] if position else None
        step = difference(signature.colour, last.signature.colour) if last else 0.0
        # in noise every frame differs from the next; only the reduced frame steps where there is a cut
        stepped = last is not None and step >= 8 and step >= 2 * last.step
        steps, self._steps = tuple(self._steps), []
        suspect, content = False if stepped else None, self._suspects.content
        self._footage.append(Seen(signature, content, step, suspect, reduced(bgr), thumbnail(bgr), steps))
        for hit in hits:
            if hit >= self._footage.first:
                self._footage[hit].suspect = True
        self._suspects.look_back(self._footage)

    def _judge(self, end: int) -> None:
        """Show the network what is suspected of the frames before `end` that it has not judged."""
        begin, self._judged = self._judged, end
        for first, past in self._suspected(begin, end):
            self._show(first, past)

    def _suspected(self, begin: int, end: int) -> list[list[int]]:
        """The stretches near suspicions; those that the network would see together anyway are one."""
        spans: list[list[int]] = []
        for a, b in sorted(self._suspects.spans):
            first, past = max(begin, a - _NEAR), min(end, b + _NEAR + 1)
            if first >= past:
                continue
            if spans and first - spans[-1][1] <= 2 * REACH:
                spans[-1][1] = max(past, spans[-1][1])
            else:
                spans.append([first, past])
        return spans

    def _show(self, first: int, past: int) -> None:
        low, high = max(self._footage.first, first - REACH), min(self._footage.end, past + REACH)
        shown = np.stack([f.signature.colour for f in self._footage.between(low, high)])
        odds = fitted()(shown)
        if first < _HEAD:  # the network overlooks a cut with nothing before it: let the first frame stand still
            still = np.repeat(shown[:1], _STILL, axis=0)
            odds[:_HEAD, 0] = fitted()(np.concatenate([still, shown[: _HEAD + REACH]]))[_STILL : _STILL + _HEAD, 0]
        for i in range(first, past):
            frame = self._footage[i]
            frame.cut, frame.gradual = odds[i - low].tolist()

    def _calm_point(self) -> int:
        """The last position before which everything can be decided: nothing goes on around it."""
        for at in range(self._judged - CALM, self._decided, -1):
            around = self._footage.between(at - CALM, at + CALM)
            if all(f.suspect is None and f.gradual < self._threshold and not f.signature.blank for f in around):
                return at
        return self._judged - CALM if self._judged - self._decided > _LONGEST_OPEN else self._decided

    def _decide(self, end: int) -> list[Transition]:
        """The transitions of the frames from the last decision to `end`."""
        begin, footage = self._decided, self._footage
        if end <= begin:
            return []
        found, explained = boundaries(footage, begin, end, self._threshold)
        found = reviewed(footage, merged(footage, found))
        self._decided = end
        self._note_doubts(begin, end, explained + found)
        found = [b for b in found if b.odds >= 0]
        last = footage[footage.end - 1].signature
        self._settled_until = footage[end].steps[0].time if end < footage.end else last.time + 1
        out = [footage.located(b) for b in found]
        footage.drop_before(end - REACH - _BLOCK)
        self._suspects.forget_before(self._judged - _NEAR)
        return out

    def _note_doubts(self, begin: int, end: int, explained: list[Boundary]) -> None:
        """Keep what the network thought of the frames that are neither in nor beside one of the stretches, and what
        both networks think of a boundary that is none."""
        for i in range(begin, end):
            frame = self._footage[i]
            near = [b for b in explained if b.first - CALM <= i <= b.last + CALM]
            odds = (
                frame.odds if not near else max((b.odds for b in near if b.first == i and b.odds < 0), default=UNSEEN)
            )
            if odds > _NO_DOUBT:
                self._doubts.append((frame.signature.time, odds))
