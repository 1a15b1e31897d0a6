"""The tests of a suspicion, on pictures whose truth is known by construction."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.cuts.transitions import QUICK, Signature, fades, is_cut, is_quick, likeness, without_bars
from tests.curation.conftest import texture


def signature(picture: np.ndarray, index: int = 0) -> Signature:
    return Signature.of(index / 25, picture)


LENIENT = 0.5, 1.4  # the cascade's, where the network says much
A, B = texture(1).astype(float), texture(2).astype(float)


def run(pictures) -> list[Signature]:
    return [signature(np.clip(p, 0, 255).astype(np.uint8), i) for i, p in enumerate(pictures)]


def test_likeness_is_one_for_itself_and_blind_to_brightness():
    luma = signature(A.astype(np.uint8)).luma
    assert likeness(luma, luma) > 0.99
    assert likeness(luma, luma * 0.5 + 40) > 0.99
    assert abs(likeness(luma, np.full_like(luma, 128))) < 1e-6


def test_a_cut_is_a_cut_a_flash_is_none_and_a_pop_is_none():
    assert is_cut(run([A] * 6), run([B] * 7), content=60, isolation=20)
    white = np.full_like(A, 250)
    assert not is_cut(run([A] * 6), run([white] * 2 + [A] * 5), content=60, isolation=20)
    assert not is_cut(run([A] * 4 + [white] * 2), run([A] * 7), content=60, isolation=20)
    assert not is_cut(run([A] * 6), run([A + 3] * 7), content=12, isolation=20)


def test_a_change_of_colour_alone_can_be_a_cut():
    flat_red, flat_blue = np.zeros((60, 80, 3)), np.zeros((60, 80, 3))
    flat_red[..., 2], flat_blue[..., 0] = 200, 200
    assert is_cut(run([flat_red] * 6), run([flat_blue] * 7), content=60, isolation=100)


def test_bars_are_taken_off_and_a_dark_picture_is_left_whole():
    luma = np.full((3, 18, 32), 100.0)
    luma[:, :4] = luma[:, -4:] = 16
    assert without_bars(luma).shape == (3, 10, 32)
    assert without_bars(luma * 0.1).shape == (3, 18, 32)


def test_letterboxed_pictures_are_as_unlike_as_without_the_bars():
    boxed = [np.pad(p[25:-25], ((25, 25), (0, 0), (0, 0))) for p in (A, B)]
    assert is_cut(run([boxed[0]] * 6), run([boxed[1]] * 7), content=40, isolation=10)


@given(frames=st.integers(2, 5), at=st.integers(8, 40))
def test_another_picture_within_a_few_frames_is_quick_and_one_that_comes_back_is_not(frames, at):
    mix = [A * (1 - w) + B * w for w in np.linspace(0, 1, frames + 2)[1:-1]]
    middle = at + frames // 2
    assert is_quick(run([A] * at + mix + [B] * 40), middle, *LENIENT)
    assert not is_quick(run([A] * at + mix + [A] * 40), middle, *LENIENT)
    assert not is_quick(run([A + 12 * i / (at + frames + 40) for i in range(at + frames + 40)]), middle, *LENIENT)


@given(speed=st.integers(1, 6), at=st.integers(QUICK, 60))
def test_a_camera_that_goes_on_turning_is_not_quick(speed, at):
    wide = texture(3, 120, 160 + 6 * 100)
    assert not is_quick(run([wide[:, speed * i : speed * i + 160] for i in range(100)]), at, *LENIENT)


def test_at_the_end_of_the_footage_there_is_nothing_to_compare():
    assert not is_quick(run([A] * 10), 9, *LENIENT)
    assert not is_quick(run([A]), 0, *LENIENT)


@given(frames=st.integers(8, 30), hold=st.integers(1, 40), through=st.sampled_from([0.0, 255.0]))
def test_through_black_or_white_is_one_fade_over_the_blank(frames, hold, through):
    down = [A * (1 - w) + through * w for w in np.linspace(0, 1, frames)]
    up = [B * w + through * (1 - w) for w in np.linspace(0, 1, frames)]
    ((first, last),) = fades(run([A] * 5 + down + [np.full_like(A, through)] * hold + up + [B] * 5))
    assert 5 <= first < 5 + frames < 5 + frames + hold <= last < 5 + 2 * frames + hold


def test_a_cut_to_black_and_a_flash_are_no_fade():
    black, white = np.zeros_like(A), np.full_like(A, 255)
    assert fades(run([A] * 20 + [black] * 20 + [B] * 20)) == []
    assert fades(run([A] * 20 + [white, A * 0.3 + 178, A * 0.6 + 102, A * 0.9 + 25] + [A] * 20)) == []


def test_a_fade_in_alone_is_one():
    ((first, last),) = fades(run([A * 0] * 10 + [A * w for w in np.linspace(0, 1, 20)] + [A] * 10))
    assert first < 11
    assert 22 <= last <= 31


@given(contrast=st.floats(3.3, 6), cut=st.booleans())
def test_a_dark_picture_is_not_blank(contrast, cut):
    """At night a picture may deviate by a few grey levels only; what leads to it is no fade."""
    night = 24 + contrast / signature(texture(2)).luma.std() * (B - B.mean())
    ramp = [] if cut else [A * (1 - w) + night * w for w in np.linspace(0, 1, 12)]
    pictures = run([A] * 30 + ramp + [night] * 60)
    assert not any(s.blank for s in pictures[-60:])
    assert fades(pictures) == []


@given(stars=st.integers(30, 300), level=st.integers(60, 255), seed=st.integers(0, 99))
def test_stars_on_black_are_a_picture_and_grain_is_none(stars, level, seed):
    rng = np.random.default_rng(seed)
    grain = np.abs(rng.normal(0, 3, (72, 128, 1))).repeat(3, axis=2)
    night = grain.copy()
    night.reshape(-1, 3)[rng.choice(72 * 128, stars, replace=False)] = level
    black, sky = (Signature.of(0.0, p.astype(np.uint8)) for p in (grain, night))
    assert black.blank
    assert not black.spotted
    assert not sky.blank
    shot = run([A] * 20 + [A * w for w in np.linspace(1, 0, 12)])
    shot += [Signature.of((32 + i) / 25, night.astype(np.uint8)) for i in range(60)] + run([B] * 20)
    assert all(last - first < 14 for first, last in fades(shot))  # the ramp at most, not the night
