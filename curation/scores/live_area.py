"""Where the picture is, inside what was put around it: bars, coloured frames, a blurred copy of itself.

A border is told by its straight edge: footage has flat skies and dark corners too, but they do not end on one line over
the picture's whole width. Solid borders are taken off again and again (bars inside a frame), a blurred one between.
What is found depends on the picture alone, not on its neighbours in time.
"""

import cv2
import numpy as np

MIN_AREA = 0.25  # a vertical film between bars on a wide screen keeps 0.32
MAX_SIDE = 0.45  # of the width or height that one border may take
_MIN_PX = 16
_FLAT = 8.0  # grey levels between the 5th and 95th percentile of a border's line
_SAME = 3.0  # grey levels by which a border's lines may differ
_EDGE = 6.0  # grey levels by which the picture differs from its border, on average along the edge
_BLACK = 24.0  # video black is 16; black bars end where black ends, edge or not
_SHARP = 0.35  # detail in a blurred border over that of the picture
_BEGINS = 0.5  # the same, close to the edge
_NEAR = 8  # columns that are close
_VERY_SHARP = 0.1  # ... so that a lower edge will do
_STEP = 4.0  # how many times the usual step between neighbouring columns a blurred border's edge is
_ROUNDS = 4

Box = tuple[int, int, int, int]  # top, bottom, left, right; half-open


def live_area(gray: np.ndarray) -> Box:
    """The box (top, bottom, left, right) of the picture in a uint8 grey frame (h, w); the whole frame if it has no
    border, or if less than a quarter would be left."""
    picture = gray.astype(np.float32)
    box = (0, gray.shape[0], 0, gray.shape[1])
    for _ in range(_ROUNDS):
        inner = _without_solid(picture, _without_blurred(picture, box))
        if inner == box or not _is_enough(inner, gray.shape):
            break
        box = inner
    return box


def _is_enough(box: Box, shape: tuple[int, ...]) -> bool:
    height, width = box[1] - box[0], box[3] - box[2]
    return min(height, width) >= min(_MIN_PX, *shape) and height * width >= MIN_AREA * shape[0] * shape[1]


def _without_solid(picture: np.ndarray, box: Box) -> Box:
    """Take one solid border off each side, rows first."""
    top, bottom, left, right = box
    rows = picture[top:bottom, left:right]
    first, last = _solid(rows), _solid(rows[::-1])
    if first + last < bottom - top:
        top, bottom = top + first, bottom - last
    columns = picture[top:bottom, left:right].T
    first, last = _solid(columns), _solid(columns[::-1])
    if first + last < right - left:
        left, right = left + first, right - last
    return top, bottom, left, right


def _solid(lines: np.ndarray) -> int:
    """How many of the first lines (n, length) are a border of one colour; 0 if none."""
    most = int(len(lines) * MAX_SIDE)
    if most < 1 or _spread(lines[:1])[0] > _FLAT:
        return 0  # nearly every picture without a border ends here
    colour = np.median(lines[0])
    head = lines[:most]
    flat = (_spread(head) <= _FLAT) & (np.abs(np.median(head, axis=1) - colour) <= _SAME)
    count = int(flat.argmin()) if not flat.all() else most
    if colour <= _BLACK:
        return count
    # One line may be half border, half picture: the line after it tells whether this is an edge.
    after = lines[min(count + 1, len(lines) - 1)]
    if np.abs(after - colour).mean() < _EDGE or np.mean(np.abs(after - colour) > _SAME) < 0.5:
        return 0
    return count


def _spread(lines: np.ndarray) -> np.ndarray:
    """Grey levels between the 5th and 95th percentile of each line."""
    ordered, cut = np.sort(lines, axis=1), lines.shape[1] // 20
    return ordered[:, -1 - cut] - ordered[:, cut]


def _without_blurred(picture: np.ndarray, box: Box) -> Box:
    """Take a blurred border off the left and right, or the top and bottom: it lies on both sides alike."""
    top, bottom, left, right = box
    area = picture[top:bottom, left:right]
    if min(area.shape) < 2 * _MIN_PX:
        return box
    if sides := _blurred(area):
        return top, bottom, left + sides[0], right - sides[1]
    if sides := _blurred(area.T):
        return top + sides[0], bottom - sides[1], left, right
    return box


def _blurred(area: np.ndarray) -> tuple[int, int] | None:
    """Columns of blurred border on the left and on the right, about as many; None if there is no such border."""
    width = area.shape[1]
    step = np.abs(np.diff(area, axis=1)).mean(axis=0)  # between column x and x + 1
    widest = np.maximum(step, np.maximum(np.append(step[1:], 0), np.append(0, step[:-1])))
    both = np.minimum(widest, widest[::-1])
    low, high = max(_NEAR + 2, width // 20), int(width * MAX_SIDE) - _NEAR - 2
    if high - low < 1 or both[low:high].max() < _EDGE:
        return None
    sharp = np.abs(area - cv2.GaussianBlur(area, (0, 0), 1.0)).mean(axis=0)
    begins = _begins(sharp)
    at = low + int((both * begins)[low:high].argmax())
    if not begins[at]:
        return None
    inside, outside = slice(at + 2, width - at - 2), np.r_[0 : at - 1, width - at + 1 : width]
    ratio = sharp[outside].mean() / max(np.median(sharp[inside]), 1e-3)
    usual = _STEP * step[outside[:-1]].mean(), (_STEP if ratio > _VERY_SHARP else 1.5) * np.median(step[inside])
    if ratio > _SHARP or both[at] < max(*usual, _EDGE):
        return None
    first = at - 1 + int(step[at - 1 : at + 2].argmax())
    last = width - 3 - at + int(step[width - 3 - at : width - at].argmax())
    return first + 1, width - 1 - last


def _begins(sharp: np.ndarray) -> np.ndarray:
    """Whether detail begins between column x and x + 1 from the left, and x columns from the right, bool (w - 1,)."""
    near = np.convolve(sharp, np.full(_NEAR, 1 / _NEAR), "valid")  # near[x] is the mean of sharp[x : x + _NEAR]
    at = np.arange(_NEAR + 1, len(sharp) - _NEAR - 3)
    left, right = np.zeros(len(sharp) - 1, bool), np.zeros(len(sharp) - 1, bool)
    left[at] = near[at - _NEAR - 1] <= _BEGINS * near[at + 3]
    near = near[::-1]
    right[at] = near[at - _NEAR - 1] <= _BEGINS * near[at + 3]
    return left & right
