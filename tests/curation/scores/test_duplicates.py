"""Difference hashes on re-encoded, bordered and mirrored pictures."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.scores.duplicates import CELLS, PerceptualHash, difference_hash, hash_distance, informative, mirrored

PICTURES = ["chelsea", "coffee", "astronaut", "motorcycle_left", "rocket", "camera", "horse", "coins", "page"]


def grey(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def test_the_hash_is_the_definition_on_the_cells_themselves():
    cells = np.random.default_rng(0).integers(0, 255, (8, 9), np.uint8)
    expected = 0
    for row in cells.astype(int):
        for x, (left, right) in enumerate(pairwise(row)):
            expected = expected << 1 | int((right - left if x < 4 else left - right) > 1)
    assert int(difference_hash(cells)) == expected
    assert int(difference_hash(np.kron(cells, np.ones((7, 5), np.uint8)))) == expected


@pytest.mark.parametrize("name", PICTURES)
def test_the_hash_survives_scaling_and_compression(picture, name):
    frame = picture(name)
    original = difference_hash(grey(frame))
    small = cv2.resize(frame, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_LINEAR)
    for other in (jpeg(frame, 40), small, jpeg(small, 60), cv2.convertScaleAbs(frame, alpha=0.9, beta=8)):
        assert hash_distance(original, difference_hash(grey(other))) <= 4


@pytest.mark.parametrize("name", ["chelsea", "coffee", "astronaut", "motorcycle_left", "camera"])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (30, 140, 60)])
def test_the_hash_survives_borders(picture, name, colour):
    frame = picture(name)
    h, w = frame.shape[:2]
    for t, s in ((h // 6, 0), (0, w // 5), (h // 10, w // 10)):
        bordered = cv2.copyMakeBorder(frame, t, t, s, s, cv2.BORDER_CONSTANT, value=colour)
        assert hash_distance(difference_hash(grey(frame)), difference_hash(grey(bordered))) <= 4


def test_different_pictures_are_far_apart(picture):
    hashes = np.array([difference_hash(grey(picture(n))) for n in PICTURES])
    distances = hash_distance(hashes[:, None], hashes[None])
    assert distances[~np.eye(len(PICTURES), dtype=bool)].min() > 12


@pytest.mark.parametrize("name", PICTURES)
def test_the_hash_of_the_mirrored_picture_is_the_mirrored_hash(picture, name):
    gray = grey(picture(name))[:, : 9 * (picture(name).shape[1] // 9)]  # whole cells: the same pixels on both ways
    assert hash_distance(mirrored(np.array(difference_hash(gray))), difference_hash(gray[:, ::-1])) <= 1


@given(st.lists(st.integers(0, 2**64 - 1), max_size=9))
def test_mirroring_twice_changes_nothing_and_once_moves_bits_within_their_rows(values):
    hashes = np.array(values, np.uint64)
    assert mirrored(mirrored(hashes)).tolist() == values
    for before, after in zip(values, mirrored(hashes).tolist(), strict=True):
        rows = [f"{before:064b}"[8 * i : 8 * i + 8] for i in range(8)]
        assert f"{after:064b}" == "".join(row[::-1] for row in rows)


def test_noise_on_a_flat_frame_codes_nothing():
    noisy = np.random.default_rng(0).normal(120, 3, (144, 256)).clip(0, 255).astype(np.uint8)
    assert difference_hash(noisy) == 0


def test_flat_frames_gradients_and_vignettes_say_nothing(picture):
    y, x = np.mgrid[:144, :256]
    plain = [np.full((144, 256), 90), x * 0.6 + 40, 200 - x * 0.6, 220 - np.hypot(x - 127.5, y - 71.5), y + 20]
    assert not informative(np.array([difference_hash(p.astype(np.uint8)) for p in plain])).any()
    photographs = [n for n in PICTURES if n != "page"]  # a sheet of paper, brighter in the middle
    assert informative(np.array([difference_hash(grey(picture(n))) for n in photographs])).all()


@pytest.mark.parametrize("shape", [(31, 17), (1, 1), (3, 200), (8, 8)])
def test_tiny_pictures_have_a_hash(shape):
    assert difference_hash(np.random.default_rng(0).integers(0, 255, shape, np.uint8)).dtype == np.uint64


@pytest.mark.parametrize("shape", [(4, 4, 3), (0, 5), (9,)])
def test_what_is_no_grey_picture_is_refused(shape):
    with pytest.raises(ValueError, match="grey picture"):
        difference_hash(np.zeros(shape, np.uint8))


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_the_distance_counts_bits(a, b):
    assert int(hash_distance(np.uint64(a), np.uint64(b))) == bin(a ^ b).count("1")


def test_the_scorer_hands_on_the_hashes_and_refuses_none(clip_of, picture):
    frame = picture("coffee")
    h = len(frame)
    barred = cv2.copyMakeBorder(frame, h // 4, h // 4, 0, 0, cv2.BORDER_CONSTANT)
    row = PerceptualHash().score_one(clip_of(frame, hashes=[1, 2**63]))
    assert (row["phash"], row["live_area"]) == ([1, 2**63], 1.0)
    assert PerceptualHash().score_one(clip_of(barred, hashes=[1]))["live_area"] == pytest.approx(2 / 3, abs=0.02)
    with pytest.raises(ValueError, match="no sample"):
        PerceptualHash().score_one(clip_of())


def cells(clip) -> np.ndarray:
    return np.array(PerceptualHash().score_one(clip)["look"][:-3]).reshape(CELLS)


def test_a_look_ends_with_the_mean_colour(clip_of, picture):
    frame = picture("coffee")
    look = PerceptualHash().score_one(clip_of(frame, frame, frame, hashes=[1]))["look"]
    assert look[-3:] == pytest.approx(frame.mean(axis=(0, 1)), abs=1)


def test_the_cells_are_the_means_of_the_grey_picture(clip_of):
    levels = np.random.default_rng(0).integers(0, 256, (8, 9), np.uint8)
    frame = np.repeat(np.kron(levels, np.ones((18, 18), np.uint8))[..., None], 3, axis=2)
    assert np.array_equal(cells(clip_of(frame, frame, frame, hashes=[1])), np.stack([levels] * 3))


def test_the_cells_are_of_one_live_area_within_borders(clip_of, picture):
    """In the middle frame nothing can be told, and nothing is: the borders are those of the others."""
    frame = picture("coffee")
    barred = cv2.copyMakeBorder(frame, len(frame) // 6, len(frame) // 6, 0, 0, cv2.BORDER_CONSTANT)
    first, middle, last = cells(clip_of(barred, np.zeros_like(barred), barred, hashes=[1]))
    assert np.abs(first - cells(clip_of(frame, frame, frame, hashes=[1]))[0]).max() <= 6
    assert np.array_equal(first, last)
    assert not middle.any()


def test_frames_of_several_sizes_have_a_look(clip_of, picture):
    frame = picture("coffee")
    half = cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    first, middle, last = cells(clip_of(frame, half, frame, hashes=[1])).astype(int)
    assert np.abs(first - middle).max() <= 2
    assert np.array_equal(first, last)
