"""What a transition is, and the tests that a detector's suspicion must pass to become one.

The tests look at signatures: luma and colour reduced to 32 x 18. A detector says that two frames differ; a signature
says *how*: a cut changes the layout and stays changed, a flash comes back, a keyframe pop changes nothing, a dissolve
is a mixture of its two ends, a fade passes through a blank frame, and a moving camera is none of these.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

_SIGNATURE = (32, 18)
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
class Signature:
    """A frame as the tests see it: luma (18, 32) and colour (18, 32, 3) as float32 of 0 to 255."""

    index: int
    time: float
    luma: np.ndarray
    colour: np.ndarray

    @classmethod
    def of(cls, index: int, time: float, bgr: np.ndarray) -> "Signature":
        colour = cv2.resize(bgr, _SIGNATURE, interpolation=cv2.INTER_AREA).astype(np.float32)
        return cls(index, time, colour @ _BGR_TO_LUMA, colour)


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Normalised cross-correlation of two luma signatures; a blank one is like nothing (0)."""
    a, b = a - a.mean(), b - b.mean()
    # one grey level of noise a pixel keeps near-blank frames from correlating by chance
    return float((a * b).sum() / (np.sqrt((a * a).sum() * (b * b).sum()) + a.size))


def is_cut(before: Sequence[Signature], after: Sequence[Signature], content: float, isolation: float) -> bool:
    """Whether the step from `before[-1]` to `after[0]` is a hard cut. Up to 5 frames before it and 7 after are
    compared, so that neither side of a flash is one.

    `content` is the detectors' HSV difference, `isolation` its ratio to the frames around.
    """
    old, new = before[-1:-6:-2], after[:7:2]
    step = float(np.abs(after[0].colour - before[-1].colour).mean())
    if step >= 8 and max(likeness(a.luma, b.luma) for a in old for b in new) < 0.65:
        return max(content, step) >= 25 or isolation >= 8
    recoloured = min(float(np.abs(b.colour - a.colour).mean()) for a in old for b in new)
    return isolation >= 15 and recoloured >= 20  # the same layout in other colours


def gradual_kind(window: Sequence[Signature]) -> Literal["fade", "dissolve"] | None:
    """What happens between the two ends of a window in which a slow detector saw a change: None is mere motion."""
    if len(window) < 3:
        return None
    contrast = np.array([s.luma.std() for s in window])
    brightness = np.array([s.luma.mean() for s in window])
    blank = np.flatnonzero(contrast < 6)
    if len(blank) and np.ptp(contrast) > 4 and not 40 < brightness[contrast.argmin()] < 215:
        return None if _is_flash(window, blank) else "fade"  # a blank of another shade is sky or a wall
    if contrast.max() < 6 and np.ptp(brightness) > 30:
        return "fade"
    if not len(blank) and likeness(window[0].luma, window[-1].luma) < 0.6 and _mixture_residual(window) < 0.35:
        return "dissolve"
    return None


def _is_flash(window: Sequence[Signature], blank: np.ndarray) -> bool:
    """Whether a few blank frames lead back to the picture that was there before."""
    first, last = int(blank[0]), int(blank[-1])
    return (
        last - first < 5
        and first > 0
        and last + 1 < len(window)
        and likeness(window[first - 1].luma, window[last + 1].luma) > 0.6
    )


def _mixture_residual(window: Sequence[Signature]) -> float:
    """How far the inner frames are from being mixtures (1 - w) first + w last: the squared rest over w (1 - w) times
    the squared distance of the ends, median over the frames. 0 is a pure dissolve; a frame that is as far from both
    ends as they are from one another, as in a pan, gives 1 and more.
    """
    first = window[0].luma
    step = window[-1].luma - first
    distance = float((step**2).sum())
    if distance < 36 * step.size:
        return np.inf  # the ends differ by noise
    rests = []
    for inner in window[1:-1]:
        weight = float(((inner.luma - first) * step).sum()) / distance
        rest = inner.luma - first - weight * step
        # the constants keep frames near either end, where w (1 - w) vanishes, from dividing by nothing
        scale = (max(0.0, weight * (1 - weight)) + 0.02) * distance + 4 * step.size
        rests.append(float((rest**2).sum()) / scale)
    return float(np.median(rests))
