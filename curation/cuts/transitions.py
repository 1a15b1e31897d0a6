"""What a transition is, and the tests that a detector's suspicion must pass to become one.

The tests look at signatures: luma and colour reduced to 32 x 18. A detector says that two frames differ; a signature
says *how*: a cut changes the layout and stays changed, a flash comes back, a keyframe pop changes nothing, a dissolve
is a mixture of its two ends, a fade passes through a blank frame, and a moving camera is none of these.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

_SIGNATURE = (32, 18)
_RAMP = 32  # frames that one side of a fade is followed
_SHORTEST_RAMP = 4  # frames; less is a cut, blurred by the codec
_FLASH = 8  # frames within which a flash is over
_PLAIN = 3  # grey levels that a blank frame's deviate by; a picture at night may do so by six
_SPOT, _SPOTS = 20, 1e-3  # grey levels by which a spot stands out; share of the frame from which spots are a picture
_BESIDE = (3, 5, 7)  # frames from the middle of a quick transition, at which the two sides are compared
_SPANS = (4, 6)  # frames from it, between which the picture must have become another
QUICK = 3 * max(_SPANS)  # frames on each side that the test of quick transitions looks at
_BGR_TO_LUMA = np.array([0.114, 0.587, 0.299], np.float32)

Kind = Literal["cut", "fade", "dissolve"]


@dataclass(frozen=True, slots=True)
class Transition:
    """From the last clean frame of one shot to the first of the next.

    A hard cut has no extent: `start == end`, the first frame of the new shot. A gradual transition covers
    `[start, end)`, which belongs to neither shot.
    """

    kind: Kind
    start: float
    end: float
    start_frame: int
    end_frame: int


@dataclass(frozen=True, slots=True)
class Boundary:
    """A transition in positions of the frames that the detectors see. `last` is the first clean frame of the new shot;
    a hard cut has `first == last`. `odds` are the log-odds that it is one."""

    kind: Kind
    first: int
    last: int
    odds: float = math.inf


@dataclass(frozen=True, slots=True)
class Signature:
    """A frame as the tests see it: luma (18, 32) and colour (18, 32, 3) as float32 of 0 to 255; `blank` is black or
    white all over, `spotted` all but for small things such as stars or a line of text."""

    time: float
    luma: np.ndarray
    colour: np.ndarray
    blank: bool
    spotted: bool

    @classmethod
    def of(cls, time: float, bgr: np.ndarray) -> "Signature":
        colour = reduced_colour(bgr)
        luma = colour @ _BGR_TO_LUMA
        plain = _blank(luma)
        spotted = plain and _spotted(bgr, float(luma.mean()))
        return cls(time, luma, colour, plain and not spotted, spotted)


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Normalised cross-correlation of two luma signatures; a blank one is like nothing (0)."""
    a, b = a - a.mean(), b - b.mean()
    # one grey level of noise a pixel keeps near-blank frames from correlating by chance
    return float((a * b).sum() / (np.sqrt((a * a).sum() * (b * b).sum()) + a.size))


def reduced_colour(bgr: np.ndarray) -> np.ndarray:
    """A frame's colour as signatures have it."""
    return cv2.resize(bgr, _SIGNATURE, interpolation=cv2.INTER_AREA).astype(np.float32)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of the colours of two signatures, 0..255."""
    return cv2.norm(a, b, cv2.NORM_L1) / a.size


def without_bars(luma: np.ndarray) -> np.ndarray:
    """(n, h, w) less the rows and columns that are black in every frame: a letterbox is alike in all films."""
    live = luma.max(axis=0) >= 28
    rows, columns = live.mean(axis=1) > 0.2, live.mean(axis=0) > 0.2
    if rows.sum() < 5 or columns.sum() < 8:
        return luma
    return luma[:, rows][:, :, columns]


def is_cut(before: Sequence[Signature], after: Sequence[Signature], content: float, isolation: float) -> bool:
    """Whether the step from `before[-1]` to `after[0]` is a hard cut. Up to 5 frames before it and 7 after are
    compared, so that neither side of a flash is one.

    `content` is the detectors' HSV difference, `isolation` its ratio, or that of the step between the signatures, to
    the frames around.
    """
    old, new = before[-1:-6:-2], after[:7:2]
    step = difference(before[-1].colour, after[0].colour)
    luma = without_bars(np.stack([s.luma for s in (*old, *new)]))
    if step >= 8 and max(likeness(a, b) for a in luma[: len(old)] for b in luma[len(old) :]) < 0.65:
        return max(content, step) >= 25 or isolation >= 8
    recoloured = min(difference(a.colour, b.colour) for a in old for b in new)
    return isolation >= 15 and recoloured >= 20  # the same layout in other colours


def is_quick(near: Sequence[Signature], at: int, alike: float, more: float) -> bool:
    """Whether the picture becomes another one within a few frames around `near[at]`, and stays it: the sides are less
    alike than `alike`, and twice as long beside it `more` times less happens. `near` holds up to `QUICK` frames on each
    side.

    A dissolve or a wipe of three to six frames has no single step for `is_cut`, and is too short for the network to
    call it gradual. A camera that is torn round goes on moving before or after.
    """
    old = [near[at - k] for k in _BESIDE if at >= k]
    new = [near[at + k] for k in _BESIDE if at + k < len(near)]
    if not old or not new or difference(old[0].colour, new[0].colour) < 15:
        return False
    # black bars are alike in all pictures; with them on, a letterboxed film has to say more
    if max(likeness(a.luma, b.luma) for a in old for b in new) >= alike:
        return False
    for span in _SPANS:
        first, past = near[max(0, at - span)], near[min(len(near) - 1, at + span)]
        far = near[max(0, at - 3 * span)], near[min(len(near) - 1, at + 3 * span)]
        beside = max(difference(far[0].colour, first.colour), difference(past.colour, far[1].colour))
        if difference(first.colour, past.colour) >= more * (beside + 1):
            return True
    return False


def fades(window: Sequence[Signature]) -> list[tuple[int, int]]:
    """The first and last position of each fade in the window: a run of frames that are black or white all over, with
    a ramp on at least one side of it. A cut to black has none; a flash leads back to the picture before.
    """
    luma = without_bars(np.stack([s.luma for s in window]))
    blank = [_blank(frame) and not s.spotted for frame, s in zip(luma, window, strict=True)]
    edges = np.flatnonzero(np.diff(blank, prepend=False, append=False))
    out: list[tuple[int, int]] = []
    for first, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        last = stop - 1
        shade = 0.0 if luma[first].mean() <= 40 else 255.0
        far = np.abs(luma - shade).mean(axis=(1, 2))
        rest = float(far[first:stop].min())
        start = first - _ramp(far[max(0, first - _RAMP) : stop - (last - first)][::-1], rest)
        end = last + _ramp(far[last : last + _RAMP + 1], rest)
        start = max(start, out[-1][1] + 1) if out else start
        if max(first - start, end - last) < _SHORTEST_RAMP:
            continue
        after = luma[last + 1 : last + 1 + _FLASH]
        if stop - first < 5 and start > 0 and any(likeness(luma[start - 1], a) > 0.6 for a in after):
            continue  # a flash: it leads back to the same picture
        out.append((start, end))
    return out


def _blank(luma: np.ndarray) -> bool:
    """Whether a frame (h, w) is black or white all over."""
    mean, deviation = cv2.meanStdDev(luma)
    return bool(deviation[0, 0] < _PLAIN and not 40 < mean[0, 0] < 215)


def _spotted(bgr: np.ndarray, ground: float) -> bool:
    """Whether small things stand out from a frame's ground that are lost where it is reduced."""
    apart = np.abs(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY) - ground)
    return bool(np.count_nonzero(apart > _SPOT) > _SPOTS * apart.size)


def _ramp(far: np.ndarray, rest: float) -> int:
    """How many frames it takes from a blank frame, `far[0]`, to nine tenths of the way to a picture; 0 if the way is
    short beside what is left of a picture in the blank (`rest`), or gone in one step."""
    peak = np.maximum.accumulate(far)
    back = np.flatnonzero((far < 0.8 * peak) & (peak > far[0] + 12))  # the picture itself went darker again
    far = far[: back[0]] if len(back) else far
    way = float(far.max() - far[0])
    if way < max(12.0, 3 * rest) or float(np.diff(far).max()) > way / 2:
        return 0
    return int(np.argmax(far >= far[0] + 0.9 * way))
