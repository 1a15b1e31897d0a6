"""Technical quality: closed forms for its parts, and the order in which blur and darkness must fall."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from curation.scores.aesthetics import TechnicalQuality, colourfulness, contrast, exposure, quality, sharpness


@pytest.mark.parametrize("name", ["chelsea", "coffee", "astronaut", "motorcycle_left"])
def test_falls_as_a_photograph_is_blurred(picture, name):
    frame = picture(name)
    blurred = [frame] + [cv2.GaussianBlur(frame, (0, 0), sigma) for sigma in (1, 2, 4, 8)]
    rows = [quality(f) for f in blurred]
    for score in ("sharpness", "technical_quality"):
        values = [r[score] for r in rows]
        assert values == sorted(values, reverse=True)
        assert values[0] - values[-1] > 0.2


@pytest.mark.parametrize("name", ["chelsea", "coffee", "astronaut", "motorcycle_left"])
def test_falls_as_a_photograph_is_darkened(picture, name):
    frame = picture(name)
    values = [quality((frame * gain).astype(np.uint8))["technical_quality"] for gain in (0.9, 0.5, 0.25, 0.1, 0.0)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(0, abs=1e-3)  # black


def test_colourfulness_of_two_colours_is_the_closed_form():
    frame = np.zeros((8, 8, 3), np.uint8)
    frame[:, :4, 0], frame[:, 4:, 2] = 200, 100  # half red 200, half blue 100
    # rg is 200 and 0: mean 100, deviation 100. yb is 100 and -100: mean 0, deviation 100.
    assert colourfulness(frame) == 1  # 171 of 109
    # All halved:
    assert colourfulness(frame // 2) == pytest.approx((np.sqrt(2) * 50 + 0.3 * 50) / 109)


def test_grey_has_no_colour_and_flat_has_no_contrast_or_sharpness(picture):
    grey = cv2.cvtColor(picture("coffee"), cv2.COLOR_RGB2GRAY)
    assert colourfulness(np.repeat(grey[..., None], 3, 2)) == 0
    flat = np.full((32, 32), 90, np.uint8)
    assert contrast(flat) == sharpness(flat) == 0
    assert exposure(flat) == pytest.approx(np.exp(-((90 / 255 - 0.5) ** 2) / 0.08))


def test_contrast_and_clipping_of_a_chessboard():
    board = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((4, 4))).astype(np.uint8)
    assert contrast(100 + board * 64) == pytest.approx(0.5)  # deviation 32 of 64
    assert exposure(board * 255) == 0  # every pixel is clipped


@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))))
@settings(max_examples=50, deadline=None)
def test_every_component_stays_within_bounds_on_any_picture(frame):
    assert all(0 <= v <= 1 for v in quality(frame).values())


def test_a_clip_scores_the_mean_of_its_frames(picture, clip_of):
    frames = picture("coffee"), picture("chelsea"), np.zeros((40, 40, 3), np.uint8)
    row = TechnicalQuality().score_one(clip_of(*frames))
    for name in row:
        assert row[name] == pytest.approx(np.mean([quality(f)[name] for f in frames]))
    assert set(row) == {c.name for c in TechnicalQuality().columns}
