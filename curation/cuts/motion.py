"""Does what looks like a quick dissolve move? Points that can be followed through it say that nothing was cut."""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

from curation.cuts.transitions import likeness

SIZE = 128, 72  # pixels of the pictures
_POINTS, _APART = 150, 4  # at most so many, so many pixels apart
_WINDOW, _PATCH = 9, 4  # pixels across; pixels on each side
_RETURNS, _MOVED = 1.0, 2.0  # pixels by which a point may miss where it came from; that it must have gone
_ALIKE, _KEPT = 0.7, 0.16  # correlation of patches; share of the points


def reduced(bgr: np.ndarray) -> np.ndarray:
    """A frame (h, w, 3) as `is_motion` sees it: grey uint8 (72, 128)."""
    return cv2.resize(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), SIZE, interpolation=cv2.INTER_AREA)


def is_motion(pictures: Sequence[np.ndarray]) -> bool:
    """Whether enough of what is in the first of consecutive `reduced` pictures is found in the last one, or the other
    way round, so that camera or things move and there is no transition between them.

    Points are followed from picture to picture (Lucas and Kanade 1981, in pyramids). One counts if at every step it
    comes back when followed backwards, if the patches around its two ends are alike, and if it has moved: a caption
    stays where it is through every transition.
    """
    return max(_followed(pictures), _followed(pictures[::-1])) >= _KEPT


def _followed(pictures: Sequence[np.ndarray]) -> float:
    """The share of the first picture's corners that are in the last one, somewhere else."""
    corners = cv2.goodFeaturesToTrack(pictures[0], _POINTS, qualityLevel=0.01, minDistance=_APART)
    if corners is None:
        return 0.0
    begun, at = corners, corners
    for before, after in pairwise(pictures):
        to, found = _step(before, after, at)
        back, returned = _step(after, before, to)
        held = found & returned & (np.abs(back - at).max(axis=(1, 2)) < _RETURNS)
        begun, at = begun[held], to[held]
        if not len(at):
            return 0.0
    pairs = zip(begun[:, 0], at[:, 0], strict=True)
    kept = sum(np.abs(a - b).max() >= _MOVED and _alike(pictures[0], a, pictures[-1], b) for a, b in pairs)
    return kept / max(20, len(corners))  # of a few points one or two are found by chance


def _step(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where points (n, 1, 2) are in the next picture, and whether they were found, bool (n,)."""
    to, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, points.copy(), winSize=(_WINDOW,) * 2, maxLevel=4)
    return to, found[:, 0] > 0


def _alike(first: np.ndarray, a: np.ndarray, last: np.ndarray, b: np.ndarray) -> bool:
    """Whether the patches around two points (x, y) correlate; False where one reaches over its picture's edge."""
    if not all(np.all(p >= _PATCH) and np.all(p < np.array(SIZE) - _PATCH) for p in (a, b)):
        return False
    size = 2 * _PATCH + 1
    one, other = (
        cv2.getRectSubPix(picture, (size, size), (float(p[0]), float(p[1]))).astype(np.float32)
        for picture, p in ((first, a), (last, b))
    )
    return likeness(one, other) > _ALIKE
