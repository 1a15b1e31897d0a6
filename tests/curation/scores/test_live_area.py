"""Borders put around real photographs, and what must not be taken for a border."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.scores.live_area import live_area

PICTURES = ["chelsea", "coffee", "astronaut", "motorcycle_left"]


def grey(frame: np.ndarray, short: int = 144) -> np.ndarray:
    """As the decode hands frames on: luma, short side 144."""
    factor = short / min(frame.shape[:2])
    luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return cv2.resize(luma, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def framed(frame: np.ndarray, top: float, side: float, colour=(0, 0, 0)) -> np.ndarray:
    h, w = frame.shape[:2]
    t, s = round(top * h), round(side * w)
    return cv2.copyMakeBorder(frame, t, t, s, s, cv2.BORDER_CONSTANT, value=colour)


def on_blur(frame: np.ndarray) -> np.ndarray:
    """The picture over a stretched and blurred copy of itself, half as wide again."""
    h, w = frame.shape[:2]
    wide = cv2.GaussianBlur(cv2.resize(frame, (w * 3 // 2, h)), (0, 0), h / 20)
    left = (wide.shape[1] - w) // 2
    wide[:, left : left + w] = frame
    return wide


def jpeg(frame: np.ndarray, quality: int = 40) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def expected(shape: tuple[int, ...], top: float, side: float) -> tuple[float, ...]:
    """The box inside borders of these shares of the picture's height and width."""
    h, w = shape
    t, s = h * top / (1 + 2 * top), w * side / (1 + 2 * side)
    return t, h - t, s, w - s


@pytest.mark.parametrize("name", PICTURES)
def test_a_photograph_has_no_border(picture, name):
    gray = grey(picture(name))
    assert live_area(gray) == (0, gray.shape[0], 0, gray.shape[1])


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize(
    ("top", "side", "colour"),
    [
        (0.17, 0, (0, 0, 0)),
        (0, 0.3, (0, 0, 0)),
        (0.1, 0.1, (0, 0, 0)),
        (0.1, 0.1, (250, 250, 250)),
        (0.1, 0, (9, 9, 90)),
    ],
)
def test_solid_borders_are_taken_off_to_a_line_or_two(picture, name, top, side, colour):
    gray = grey(jpeg(framed(picture(name), top, side, colour)))
    assert live_area(gray) == pytest.approx(expected(gray.shape, top, side), abs=2.5)


@pytest.mark.parametrize("name", PICTURES)
def test_bars_inside_a_coloured_frame_are_taken_off_too(picture, name):
    inner = framed(picture(name), 0.15, 0)
    outer = framed(inner, 0.08, 0.08, (200, 60, 60))
    gray = grey(outer)
    top, bottom, left, right = live_area(gray)
    assert (bottom - top) / gray.shape[0] == pytest.approx(1 / (1.3 * 1.16), abs=0.03)
    assert (right - left) / gray.shape[1] == pytest.approx(1 / 1.16, abs=0.03)


@pytest.mark.parametrize("name", ["chelsea", "coffee", "astronaut"])
def test_a_blurred_border_is_taken_off_on_both_sides(picture, name):
    gray = grey(jpeg(on_blur(picture(name)), 70))
    assert live_area(gray) == pytest.approx(expected(gray.shape, 0, 0.25), abs=2.5)


def test_blurred_borders_above_and_below_too(picture):
    upright = on_blur(picture("coffee")).transpose(1, 0, 2)
    gray = grey(upright)
    assert live_area(gray) == pytest.approx(expected(gray.shape, 0.25, 0), abs=3.5)


@pytest.mark.parametrize("level", [0, 16, 128, 255])
def test_a_flat_frame_is_all_there_is(level):
    assert live_area(np.full((144, 256), level, np.uint8)) == (0, 144, 0, 256)


def test_a_title_on_black_is_not_cut_to_its_letters():
    frame = np.full((144, 256), 16, np.uint8)
    cv2.putText(frame, "THE END", (80, 75), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 235, 2)
    assert live_area(frame) == (0, 144, 0, 256)


def test_a_flat_sky_that_ends_in_a_skyline_is_no_border():
    rng = np.random.default_rng(0)
    frame = np.full((144, 256), 200, np.float32)
    heights = np.repeat(rng.integers(40, 100, 16), 16)
    for x, height in enumerate(heights):
        frame[height:, x] = 60 + 30 * rng.random(144 - height)
    top, *_ = live_area(frame.astype(np.uint8))
    assert top == 0


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 60), width=st.integers(1, 60))
@settings(deadline=None)
def test_the_box_lies_inside_and_keeps_a_quarter(seed, height, width):
    rng = np.random.default_rng(seed)
    gray = cv2.GaussianBlur(rng.integers(0, 255, (height, width), np.uint8), (0, 0), rng.uniform(0.3, 8))
    top, bottom, left, right = live_area(gray)
    assert 0 <= top < bottom <= height
    assert 0 <= left < right <= width
    assert 4 * (bottom - top) * (right - left) >= height * width
