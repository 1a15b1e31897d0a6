"""The tests of a suspicion, on pictures whose truth is known by construction."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.cuts.transitions import Signature, gradual_kind, is_cut, likeness
from tests.curation.conftest import texture


def signature(picture: np.ndarray, index: int = 0) -> Signature:
    return Signature.of(index, index / 25, picture)


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


@given(frames=st.integers(8, 60))
def test_a_mixture_of_two_pictures_is_a_dissolve(frames):
    weights = np.linspace(0, 1, frames)
    assert gradual_kind(run([A * (1 - w) + B * w for w in weights])) == "dissolve"


@given(frames=st.integers(8, 60), through=st.sampled_from([0.0, 255.0]))
def test_through_black_or_white_is_a_fade(frames, through):
    down = [A * (1 - w) + through * w for w in np.linspace(0, 1, frames)]
    up = [B * w + through * (1 - w) for w in np.linspace(0, 1, frames)]
    assert gradual_kind(run(down + up)) == "fade"


@given(speed=st.integers(2, 8), frames=st.integers(12, 30))
def test_a_pan_is_neither(speed, frames):
    wide = np.concatenate([texture(s) for s in range(4)], axis=1)
    pan = [wide[:, speed * i : speed * i + 160] for i in range(frames)]
    assert gradual_kind(run(pan)) is None


def test_a_still_picture_is_neither():
    assert gradual_kind(run([A] * 20)) is None
