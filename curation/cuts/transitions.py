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


def is_cut(before: Signature, after: Sequence[Signature], content: float, isolation: float) -> bool:
    """Whether the step from `before` to `after[0]` is a hard cut; `after` are the next frames, the more the surer.

    `content` is the detectors' HSV difference, `isolation` its ratio to the frames around.
    """
    step = float(np.abs(after[0].colour - before.colour).mean())
    returned = max(likeness(before.luma, s.luma) for s in after[:7:2])
    if returned < 0.65 and step >= 8:
        return max(content, step) >= 25 or isolation >= 8
    return isolation >= 15 and step >= 20  # the same layout in other colours


def gradual_kind(window: Sequence[Signature]) -> Literal["fade", "dissolve"] | None:
    """What happens between the two ends of a window in which a slow detector saw a change: None is mere motion."""
    if len(window) < 3:
        return None
    contrast = np.array([s.luma.std() for s in window])
    brightness = np.array([s.luma.mean() for s in window])
    blankest = contrast.argmin()
    if contrast[blankest] < 6 and np.ptp(contrast) > 4 and not 40 < brightness[blankest] < 215:
        return "fade"  # through black or white; a blank in between is sky or a wall
    if contrast.max() < 6 and np.ptp(brightness) > 30:
        return "fade"
    first, last = window[0].luma, window[-1].luma
    if likeness(first, last) < 0.6 and _mixture_residual(window) < 0.12:
        return "dissolve"
    return None


def _mixture_residual(window: Sequence[Signature]) -> float:
    """Mean share of the inner frames' variance that is no linear mixture of the two end frames, 0 to 1."""
    ends = np.stack([window[0].luma.ravel(), window[-1].luma.ravel()], axis=1)
    inner = np.stack([s.luma.ravel() for s in window[1:-1]], axis=1)
    ends, inner = ends - ends.mean(axis=0), inner - inner.mean(axis=0)
    weights, *_ = np.linalg.lstsq(ends, inner, rcond=None)
    unexplained = ((inner - ends @ weights) ** 2).sum(axis=0)
    return float((unexplained / ((inner**2).sum(axis=0) + 4 * len(inner))).mean())
