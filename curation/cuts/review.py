"""A second look at what was found: boundaries that are one, and the second network's opinion on doubtful ones."""

import math
from dataclasses import replace

from curation.cuts.boundaries import looks_cut
from curation.cuts.footage import OpenFootage
from curation.cuts.opinion import second_opinion
from curation.cuts.transitions import Boundary

_SHORTEST_SHOT_S = 0.15  # boundaries that are closer than this are one
_LONGEST_BLANK_S = 1.0  # so long at most are frames dark between an iris that closes and one that opens
_BLANK = 0.1  # share of the light before and after that such a frame has at most
_SHORT = 12  # frames of a short dissolve, which may be the same as a cut next to it
_WINDOW = 15  # frames on each side of a boundary that the second network sees
_NEAR = 3  # frames around a boundary where its answer counts
_SURE_CUT, _SURE_GRADUAL = 6.0, 6.0  # our network's log-odds from which nobody else is asked
_MOST_CUT = 3.5  # log-odds of ours that count at most beside the other network's
_GRADUAL = 0.75  # weight of our log-odds of a gradual transition: it has seen more of them than the other one
_LEAST_CUT, _LEAST_GRADUAL = 2.0, -1.2  # sums of both networks' log-odds from which a boundary is kept
_LEAST_LOOKING = -0.3  # log-odds of the second network that are enough where the frames look like a cut
_END = 6  # frames from an end of the footage within which a network sees little of a shot


def merged(footage: OpenFootage, found: list[Boundary]) -> list[Boundary]:
    """The boundaries in order. Of two cuts too close for a shot between them the stronger one stays; a short dissolve
    takes in a cut that is that close to it; two dissolves to and from a dark frame are one fade."""
    out: list[Boundary] = []
    for boundary in sorted(found, key=lambda b: (b.first, b.last)):
        one = _joined(footage, out[-1], boundary) if out else None
        if one:
            out[-1] = one
        else:
            out.append(boundary)
    return out


def _joined(footage: OpenFootage, a: Boundary, b: Boundary) -> Boundary | None:
    """The boundary that two consecutive ones are together, or None."""
    gap = footage[b.first].signature.time - footage[min(a.last, footage.end - 1)].signature.time
    both = min(a.first, b.first), max(a.last, b.last)
    if a.kind == b.kind == "dissolve" and gap < _LONGEST_BLANK_S:
        light = [float(f.signature.luma.mean()) for f in footage.between(both[0] - 1, both[1] + 1)]
        if min(light) < _BLANK * min(light[0], light[-1]):
            return Boundary("fade", *both)
    if gap >= _SHORTEST_SHOT_S or any(c.kind == "fade" or c.last - c.first > _SHORT for c in (a, b)):
        return None
    if a.kind == b.kind == "cut":
        return max(a, b, key=lambda c: (footage[c.first].cut, footage[c.first].step))
    return Boundary("dissolve", *both)


def reviewed(footage: OpenFootage, found: list[Boundary]) -> list[Boundary]:
    """The boundaries with `odds`, the log-odds of both networks together: below 0 it is none."""
    return [replace(boundary, odds=_odds(footage, boundary)) for boundary in found]


def _odds(footage: OpenFootage, boundary: Boundary) -> float:
    if boundary.kind == "fade":  # blank frames have been seen
        return math.inf
    near = list(footage.between(boundary.first - _NEAR, boundary.last + _NEAR))
    if boundary.kind == "cut":
        ours = max(f.cut for f in near)
        return ours if ours >= _SURE_CUT else _theirs(footage, boundary)[0] - _least(footage, boundary.first, ours)
    ours = max(f.odds for f in near)
    return ours if ours >= _SURE_GRADUAL else _GRADUAL * ours + _theirs(footage, boundary)[1] - _LEAST_GRADUAL


def _least(footage: OpenFootage, at: int, ours: float) -> float:
    """The log-odds that the second network must give a cut, from those of ours. Where the frames themselves look like
    one, and at the ends of the footage, where ours sees little of a shot, it need not be sure."""
    at_end = at < _END or at > footage.end - _END
    doubtful = at_end or (at > 0 and looks_cut(footage, at))
    least = _LEAST_CUT - min(ours, _MOST_CUT)
    return min(least, _LEAST_LOOKING) if doubtful else least


def _theirs(footage: OpenFootage, boundary: Boundary) -> tuple[float, float]:
    """The second network's highest log-odds near a boundary: of a transition's one frame, and of a frame inside one.
    The first and the last frame of the footage stand still before and after it."""
    low, high = boundary.first - _WINDOW, boundary.last + _WINDOW
    shown = [f.thumbnail for f in footage.between(low, high)]
    before, after = max(0, footage.first - low), max(0, high - footage.end)
    odds = second_opinion()([shown[0]] * before + shown + [shown[-1]] * after)
    one, many = odds[_WINDOW - _NEAR : len(odds) - _WINDOW + _NEAR].max(axis=0).tolist()
    return one, many
