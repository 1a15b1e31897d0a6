"""What can be followed and what cannot, on pictures whose motion is known by construction."""

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.cuts.motion import SIZE, is_motion, reduced
from tests.curation.conftest import texture

WIDE, OTHER = texture(1, 216, 900), texture(2, 216, 900)


def panned(wide: np.ndarray, speed: int, frames: int = 18) -> list[np.ndarray]:
    return [wide[:, speed * i : speed * i + 384] for i in range(frames)]


def zoomed(wide: np.ndarray, rate: float, frames: int = 18) -> list[np.ndarray]:
    out = []
    for i in range(frames):
        h, w = round(216 / rate**i), round(384 / rate**i)
        y, x = (216 - h) // 2, (384 - w) // 2
        out.append(cv2.resize(wide[y : y + h, x : x + w], (384, 216)))
    return out


def seen(pictures) -> list[np.ndarray]:
    return [reduced(np.ascontiguousarray(p)) for p in pictures]


def mixed(old: list[np.ndarray], new: list[np.ndarray], first: int, frames: int) -> list[np.ndarray]:
    weights = np.clip((np.arange(len(old)) - first + 1) / (frames + 1), 0, 1)
    return [(a * (1 - w) + b * w).astype(np.uint8) for a, b, w in zip(old, new, weights, strict=True)]


@given(speed=st.integers(2, 12))
def test_a_camera_that_pans_is_motion_and_a_dissolve_under_it_is_none(speed):
    assert is_motion(seen(panned(WIDE, speed)))
    assert not is_motion(seen(mixed(panned(WIDE, speed), panned(OTHER, speed), 6, 6)))


@given(rate=st.sampled_from([0.99, 0.985, 1.01, 1.02, 1.03]))
def test_a_zoom_is_motion_in_both_directions(rate):
    zoom = zoomed(WIDE, max(rate, 1 / rate))
    assert is_motion(seen(zoom if rate > 1 else zoom[::-1]))


@given(speed=st.integers(0, 8), at=st.integers(4, 13))
def test_a_cut_and_a_quick_dissolve_are_none(speed, at):
    for frames in (0, 2, 4):
        assert not is_motion(seen(mixed(panned(WIDE, speed), panned(OTHER, speed), at - frames // 2, frames)))


def test_what_does_not_move_says_nothing():
    """A caption, a logo and the edges of a letterbox stay where they are through every cut."""
    pictures = [p.copy() for p in (*panned(WIDE, 3, 9), *panned(OTHER, 3, 9))]
    for p in pictures:
        p[:30] = p[-30:] = 0
        cv2.putText(p, "RUSHES 1906", (60, 140), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (255, 255, 255), 3)
    assert not is_motion(seen(pictures))
    assert not is_motion(seen([WIDE[:, :384]] * 12))


def test_a_blank_picture_has_nothing_to_follow():
    black = np.zeros((216, 384, 3), np.uint8)
    assert not is_motion(seen([black] * 12))
    assert not is_motion(seen([WIDE[:, :384]] * 6 + [black] * 6))
    assert reduced(black).shape == SIZE[::-1]
