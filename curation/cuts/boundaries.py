"""Which of the suspected frames are boundaries: the network's log-odds weighed with the tests of `transitions`."""

from itertools import pairwise

import numpy as np

from curation.cuts.footage import OpenFootage, Seen
from curation.cuts.motion import is_motion
from curation.cuts.transitions import QUICK, Boundary, fades, is_cut, is_quick, likeness, without_bars

CALM = 8  # frames around a boundary that belong to it
_NEIGHBOURS = 6  # frames on each side of a hard-cut suspect that its isolation is measured against
_STEP = 4.0  # how many times its surroundings' a step of the signature must be, where the detector sees nothing
_GAP, _SHORTEST = 4, 4  # frames: breaks in a gradual transition that are bridged, and its least length
_SURE_CUT, _NO_CUT = 1.2, -4.0  # log-odds with which the network overrules the tests
_LONG, _SIDE, _SAME = 8, 4, 0.88  # frames, frames, likeness: see `_leads_back`; in a dissolve neighbours are alike too
_QUICK_MOVE, _BESIDE = 24, 6  # frames of a stretch, at most; frames from it: see `_moves`
_PIECE = 12  # frames that must be left of a gradual transition beside a fade
_PEAK, _AROUND = 6, 4  # frames: see `_quick`
# the least log-odds of a cut, likeness and isolation: the less the network says, the more the frames must
_QUICK_RULES = ((-3.0, 0.5, 1.4), (-8.0, 0.2, 2.5))


def boundaries(footage: OpenFootage, begin: int, end: int, threshold: float) -> tuple[list[Boundary], list[Boundary]]:
    """The boundaries that begin from position `begin` to `end`, and the stretches that the network takes for gradual
    transitions (log-odds above `threshold`) although they are none."""
    cuts = [i for i in range(max(1, begin), end) if _is_cut(footage, i)]
    found = [Boundary("cut", i, i) for i in cuts]
    taken: list[tuple[int, int]] = []
    explained: list[Boundary] = []
    for start, stop in pairwise([begin, *cuts, end]):
        window = [footage[i].signature for i in range(start, stop)]
        if any(s.blank for s in window):
            taken += [(start + a, start + b) for a, b in fades(window)]
        for a, b in _gradual(footage, start, stop, threshold):
            blank = any(s.blank for s in window[a - start : b - start])
            if not blank and (_leads_back(footage, a, b) or _moves(footage, a, b)):
                explained.append(Boundary("dissolve", a, b))
            else:
                found += [Boundary("fade" if blank else "dissolve", c, d) for c, d in _without(a, b, taken)]
    found += [Boundary("fade", a, b) for a, b in taken]
    found += _quick(footage, begin, end, found)
    return found, explained


def _is_cut(footage: OpenFootage, index: int) -> bool:
    """Whether a shot begins at this frame: a suspect that passes the tests, unless the network is sure that it is
    none; or what the network is sure of."""
    frame = footage[index]
    if frame.suspect is None and frame.cut < _SURE_CUT:
        return False
    near = list(footage.between(index - _NEIGHBOURS, index + _NEIGHBOURS + 1))
    at = index - max(footage.first, index - _NEIGHBOURS)
    odds = [f.cut for f in near[max(0, at - 2) : at + 3]]
    if frame.cut >= _SURE_CUT:
        return frame.cut == max(odds) and not any(f.suspect for f in near[:at] if f.cut >= _SURE_CUT)
    return max(odds) >= _NO_CUT and looks_cut(footage, index)


def looks_cut(footage: OpenFootage, index: int) -> bool:
    """Whether the frames around this one pass the test for hard cuts."""
    isolation, by_step = _isolation(footage, index)
    if not footage[index].suspect and by_step < _STEP:
        return False
    before = [f.signature for f in footage.between(index - _NEIGHBOURS, index)]
    after = [f.signature for f in footage.between(index, index + _NEIGHBOURS + 1)]
    return is_cut(before, after, footage[index].content, isolation)


def _isolation(footage: OpenFootage, index: int) -> tuple[float, float]:
    """How many times the change at a frame is that of the frames around it: the larger of the detector's change and
    the signature's, and the signature's."""
    frame = footage[index]
    low = max(1, index - _NEIGHBOURS)  # the very first frame has nothing to differ from
    beside = [f for f in footage.between(low, index + _NEIGHBOURS + 1) if f is not frame]
    by_content = frame.content / (float(np.mean([f.content for f in beside] or [0.0])) + 1e-3)
    by_step = frame.step / (float(np.mean([f.step for f in beside] or [0.0])) + 1)
    return max(by_content, by_step), by_step


def _leads_back(footage: OpenFootage, first: int, past: int) -> bool:
    """Whether the frame after a long stretch is like the one before it: the light changed, or something passed."""
    if past - first < _LONG:
        return False
    before = range(max(footage.first, first - _SIDE), max(footage.first + 1, first - 1))
    last = footage.end - 1
    after = range(min(last, past + 1), min(last, past + _SIDE) + 1)
    luma = without_bars(np.stack([footage[i].signature.luma for i in (*before, *after)]))
    sides = luma[: len(before)], luma[len(before) :]
    return max(likeness(a, b) for a in sides[0] for b in sides[1]) > _SAME


def _moves(footage: OpenFootage, first: int, past: int) -> bool:
    """Whether what is seen a little before a short stretch can be followed to a little after it."""
    if past - first > _QUICK_MOVE:
        return False
    return is_motion([f.grey for f in footage.between(first - _BESIDE, past + _BESIDE)])


def _quick(footage: OpenFootage, begin: int, end: int, found: list[Boundary]) -> list[Boundary]:
    """Transitions of a few frames: where the network comes nearest to one, though it takes it neither for a cut nor
    for gradual, and the frames beside it say so."""
    cuts = np.array([footage[i].cut for i in range(begin, end)])
    highest = np.array([footage[i].odds for i in range(begin, end)])
    out: list[Boundary] = []
    for i in np.flatnonzero(highest > _QUICK_RULES[-1][0]).tolist():
        at, cut = begin + i, cuts[max(0, i - _AROUND) : i + _AROUND + 1].max()
        rule = next((bounds for least, *bounds in _QUICK_RULES if cut > least), None)
        if rule is None or highest[i] < highest[max(0, i - _PEAK) : i + _PEAK + 1].max():
            continue
        if any(b.first - CALM <= at <= b.last + CALM for b in (*found, *out)):
            continue
        low = max(footage.first, at - QUICK)
        near = [f.signature for f in footage.between(low, at + QUICK + 1)]
        if is_quick(near, at - low, *rule):
            out.append(_extent(footage, max(low + 1, at - _AROUND), at + _AROUND + 1))
    return out


def _extent(footage: OpenFootage, low: int, high: int) -> Boundary:
    """The transition among some frames: from the first to the last step of at least half the largest."""
    frames: list[Seen] = list(footage.between(low, high))
    steps = np.array([f.step for f in frames])
    large = np.flatnonzero(steps >= steps.max() / 2)
    first, last = int(large[0]), int(large[-1])
    blank = any(f.signature.blank for f in frames[first:last])
    return Boundary("cut" if first == last else "fade" if blank else "dissolve", low + first, low + last)


def _gradual(footage: OpenFootage, start: int, stop: int, threshold: float) -> list[tuple[int, int]]:
    """Stretches between two cuts that the network takes for gradual transitions."""
    odds = np.array([footage[i].gradual for i in range(start, stop)])
    edges = np.flatnonzero(np.diff(odds > threshold, prepend=False, append=False)).reshape(-1, 2).tolist()
    runs: list[list[int]] = []
    for a, b in edges:
        if runs and a - runs[-1][1] <= _GAP:
            runs[-1][1] = b
        else:
            runs.append([a, b])
    runs = [run for run in runs if run[1] - run[0] >= _SHORTEST]
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
