"""The second opinion by grey cells: copies, other clips of a scene, plain grounds, neighbours against all pairs."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.duplicates.looks import NEIGHBOURS, SHARE, Looks, directions, look_alike, look_different, neighbours
from curation.scores.duplicates import CELLS


def of(*clips: np.ndarray) -> Looks:
    """From grey clips of three frames, (3, 8, 9) each."""
    return Looks(np.stack([look(c) for c in clips]))


def look(clip: np.ndarray, colour: tuple[int, int, int] | None = None) -> np.ndarray:
    cells = np.clip(np.round(clip), 0, 255)
    return np.append(cells, colour or [cells.mean()] * 3).round().astype(np.uint8)


def verdict(x: np.ndarray, y: np.ndarray, still: bool = False, bits: float = 8.0) -> tuple[bool, float]:
    same, distance = look_alike(of(x), of(y), np.array([[0, 0]]), bits, np.array([still]))
    return bool(same[0]), float(distance[0])


def scene(rng: np.random.Generator, moving: float) -> np.ndarray:
    """A background, and what moves before it."""
    return rng.uniform(60, 180, CELLS[1:]) + rng.normal(0, moving, CELLS)


def title(text: str, at: tuple[int, int] = (60, 80)) -> np.ndarray:
    """A held title on a plain ground, real letters, in cells."""
    card = np.full((144, 256), 30, np.uint8)
    cv2.putText(card, text, at, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 230, 2, cv2.LINE_AA)
    return np.stack([cv2.resize(card, CELLS[:0:-1], interpolation=cv2.INTER_AREA)] * 3).astype(float)


@given(st.integers(0, 2**32 - 1), st.floats(-2, 2))
def test_a_copy_is_alike_and_a_shuffled_one_is_not(seed, brighter):
    rng = np.random.default_rng(seed)
    clip = scene(rng, 12)
    copy = 0.95 * (clip - 120) + 120 + brighter + rng.normal(0, 1, CELLS)
    assert verdict(clip, copy)[0]
    assert not verdict(clip, copy[[1, 2, 0]])[0]


@given(st.integers(0, 2**32 - 1))
def test_another_clip_before_the_same_background_is_not_alike(seed):
    rng = np.random.default_rng(seed)
    background = scene(rng, 0)
    first, second = (background + rng.normal(0, 4, CELLS) for _ in range(2))
    same, distance = verdict(first, second)
    assert distance <= SHARE * 8  # near, as talking heads are
    assert not same


def test_titles_are_told_apart_where_nothing_moves():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, CELLS)
    assert verdict(title("the first"), title("the first") + noise, still=True)[0]
    assert not verdict(title("the first"), title("the first") + noise)[0]  # of a scene with hashes, that is no proof
    for other in (title("the last one"), title("the first", (40, 110)), title("The Worst"), 255 - title("the first")):
        assert not verdict(title("the first"), other, still=True)[0]
    assert not verdict(title("the first"), title("the first") + 20, still=True)[0]


def test_many_pairs_at_once_are_judged_as_one_by_one(monkeypatch):
    monkeypatch.setattr("curation.duplicates.looks._CHUNK", 3)
    rng = np.random.default_rng(0)
    scenes = [scene(rng, 12) for _ in range(4)]
    all_looks = [look(s, (90, 100, red)) for s in scenes for red in (60, 63, 120)]
    clips = Looks(np.stack([*all_looks, *(look(scenes[0][::-1], (90, 100, 60)),) * 2]))
    pairs = rng.integers(0, len(clips), (50, 2))
    still = rng.random(50) < 0.5
    same, distance = look_alike(clips, clips, pairs, 8.0, still)
    each = [look_alike(clips, clips, pairs[i : i + 1], 8.0, still[i : i + 1]) for i in range(50)]
    np.testing.assert_array_equal(same, [s[0] for s, _ in each])
    np.testing.assert_allclose(distance, [d[0] for _, d in each], atol=1e-3)
    far = np.abs(clips.colour[pairs[:, 0]].astype(int) - clips.colour[pairs[:, 1]]).max(axis=1) > 4
    assert same.any()
    assert far.any()
    assert np.isinf(distance[far]).all()
    assert not same[far].any()


def test_cards_of_another_colour_are_others():
    """One mark in the corner of cards that are equally bright."""
    card = np.full(CELLS, 110.0)
    card[:, 6:, 6:] = 130
    looks = Looks(np.stack([look(card, (60, 140, 90)), look(card, (61, 138, 91)), look(card, (140, 100, 90))]))
    pairs = np.array([[0, 1], [0, 2]])
    assert look_alike(looks, looks, pairs, 8.0, np.ones(2, bool))[0].tolist() == [True, False]


def test_plain_grounds_gradients_and_vignettes_match_nothing():
    y, x = np.mgrid[-1:1:8j, -1:1:9j]
    for plain in (np.zeros_like(x), 100 + 30 * x, 90 - 20 * y + 9 * x, 150 - 60 * (x * x + y * y)):
        clip = np.stack([plain] * 3)
        assert verdict(clip, clip, still=True) == (False, np.inf)


def test_the_distance_is_the_angle_of_what_a_quadratic_surface_leaves():
    rng = np.random.default_rng(0)
    clips = [scene(rng, 20), scene(rng, 20)]
    y, x = np.mgrid[:8, :9]
    terms = np.stack([x**i * y**j for i in range(3) for j in range(3 - i)], -1).reshape(72, 6)
    left = []
    for clip in clips:
        flat = np.round(clip).reshape(3, 72).T
        left.append((flat - terms @ np.linalg.lstsq(terms.astype(float), flat, rcond=None)[0]).ravel())
    cosine = left[0] @ left[1] / np.linalg.norm(left[0]) / np.linalg.norm(left[1])
    assert verdict(*clips)[1] == pytest.approx(np.degrees(np.arccos(cosine)) / 180 * 64, abs=0.01)


def test_mirrored_looks_are_those_of_the_mirrored_frames():
    clip = scene(np.random.default_rng(0), 12)
    looks, turned = of(clip).mirrored(), of(clip[..., ::-1])
    assert np.array_equal(looks.detail(np.array([0])), turned.detail(np.array([0])))
    assert np.array_equal(looks.mirrored().detail(np.array([0])), of(clip).detail(np.array([0])))


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=20)
def test_neighbours_are_all_the_near_pairs(seed, with_mirrored):
    rng = np.random.default_rng(seed)
    families = [scene(rng, 10) for _ in range(6)] + [np.full(CELLS, 50.0)]
    clips = [families[i] + rng.normal(0, rng.uniform(0, 6), CELLS) for i in rng.integers(0, 7, 40)]
    clips += [clip[..., ::-1] for clip in clips[:5]]
    looks, some = of(*clips), np.sort(rng.choice(len(clips), 30, replace=False))
    pairs = np.array([(a, b) for i, a in enumerate(some) for b in some[i + 1 :]])
    apart = look_alike(looks, looks, pairs, 8.0, np.ones(len(pairs), bool))[1]
    if with_mirrored:
        apart = np.minimum(apart, look_alike(looks, looks.mirrored(), pairs, 8.0, np.ones(len(pairs), bool))[1])
    near = {tuple(map(int, pair)) for pair, bits in zip(pairs, apart, strict=True) if bits <= SHARE * 8 - 0.01}
    found = {tuple(map(int, pair)) for pair in neighbours(looks, some, 8.0, with_mirrored=with_mirrored)}
    assert near <= found
    assert all(a < b for a, b in found)


def test_a_crowd_is_compared_with_its_nearest_only():
    looks = of(*[title("one")] * 200)
    assert len(neighbours(looks, np.arange(200), 8.0)) <= 200 * NEIGHBOURS
    assert len(neighbours(looks, np.arange(1), 8.0)) == 0


@given(st.integers(0, 2**32 - 1))
def test_scenes_without_anything_in_common_look_different_and_copies_do_not(seed):
    rng = np.random.default_rng(seed)
    clip, other = scene(rng, 8), scene(rng, 8)
    trimmed = np.stack([clip[:2].mean(axis=0), clip[1], clip[1:].mean(axis=0)]) + rng.normal(0, 2, CELLS)
    looks, pairs = of(clip, other, trimmed, np.full(CELLS, 90.0)), np.array([[0, 1], [0, 2], [0, 3], [3, 3]])
    assert look_different(directions(looks), pairs).tolist() == [True, False, False, False]
