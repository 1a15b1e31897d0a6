"""Display matrices against a map of every pixel by the definition, and sizes against arithmetic."""

import itertools
import math
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from curation.errors import UnreadableVideo
from curation.video.geometry import Geometry, Orientation, geometry_of

ONE = 1 << 16


def frame_with(a: float, b: float, c: float, d: float) -> SimpleNamespace:
    """A frame of 4x3 with this display matrix: (x, y) is shown at (a x + c y, b x + d y)."""
    numbers = [round(n * ONE) for n in (a, b, 0, c, d, 0, 0, 0)]
    return SimpleNamespace(width=4, height=3, side_data={"DISPLAYMATRIX": struct.pack("=9i", *numbers, 1 << 30)})


def shown(pixels: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """Move every pixel to where the matrix puts it."""
    points = {(a * x + c * y, b * x + d * y): v for (y, x), v in np.ndenumerate(pixels)}
    left, top = min(x for x, _ in points), min(y for _, y in points)
    size = 1 + max(y for _, y in points) - top, 1 + max(x for x, _ in points) - left
    out = np.zeros(size, pixels.dtype)
    for (x, y), v in points.items():
        out[y - top, x - left] = v
    return out


EIGHT = [(a, 0, 0, d) for a, d in itertools.product((1, -1), repeat=2)] + [
    (0, b, c, 0) for b, c in itertools.product((1, -1), repeat=2)
]


@pytest.mark.parametrize("matrix", EIGHT)
def test_every_turn_and_mirror_is_that_of_the_matrix(matrix: tuple[int, int, int, int]):
    pixels = np.arange(12).reshape(3, 4)
    geometry = geometry_of(frame_with(*matrix), None, "a.mp4")
    assert np.array_equal(geometry.orientation.upright(pixels), shown(pixels, *matrix))
    assert (geometry.height, geometry.width) == shown(pixels, *matrix).shape


@pytest.mark.parametrize("degrees", [0.5, 90.8, -89.3, 179.4])
def test_an_angle_within_a_degree_is_rounded(degrees: float):
    turn = math.radians(degrees)
    matrix = math.cos(turn), math.sin(turn), -math.sin(turn), math.cos(turn)
    rounded = geometry_of(frame_with(*(round(n) for n in matrix)), None, "a.mp4").orientation
    assert geometry_of(frame_with(*matrix), None, "a.mp4").orientation == rounded


@pytest.mark.parametrize("degrees", [45, 30, -135, 2])
def test_other_angles_are_refused(degrees: float):
    turn = math.radians(degrees)
    matrix = math.cos(turn), math.sin(turn), -math.sin(turn), math.cos(turn)
    with pytest.raises(UnreadableVideo, match=rf"a\.mp4: its display matrix turns frames by {degrees} degrees"):
        geometry_of(frame_with(*matrix), None, "a.mp4")


def test_a_matrix_that_scales_or_is_empty():
    assert geometry_of(frame_with(2, 0, 0, -2), None, "a.mp4").orientation == Orientation(180, mirrored=True)
    with pytest.raises(UnreadableVideo, match="display matrix"):
        geometry_of(frame_with(0, 0, 0, 0), None, "a.mp4")


@pytest.mark.parametrize(
    ("aspect", "rotation", "size"),
    [
        (None, 0, (720, 576)),
        (0.0, 0, (720, 576)),
        (64 / 45, 0, (1024, 576)),
        (64 / 45, 90, (576, 1024)),
        (0.5, 0, (360, 576)),
    ],
)
def test_display_sizes(aspect: float | None, rotation: int, size: tuple[int, int]):
    frame = SimpleNamespace(width=720, height=576, side_data={})
    known = geometry_of(frame, aspect, "a.mp4")
    geometry = Geometry(known.coded_width, known.coded_height, known.aspect, Orientation(rotation))
    assert (geometry.width, geometry.height) == size


@pytest.mark.parametrize("aspect", [100, 1 / 100])
def test_pixels_of_an_absurd_shape_are_refused(aspect: float):
    with pytest.raises(UnreadableVideo, match="sample aspect ratio"):
        geometry_of(SimpleNamespace(width=720, height=576, side_data={}), aspect, "a.mp4")
