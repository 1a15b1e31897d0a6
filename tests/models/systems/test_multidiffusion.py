import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.systems.multidiffusion import MultiDiffusion, triangle, windows
from tests.models.systems.checks import noise

T = torch.tensor(0.5)


@given(st.integers(1, 60), st.integers(1, 20), st.data())
def test_every_frame_is_covered(frames, length, data):
    stride = data.draw(st.integers(1, length))
    covering = windows(frames, length, stride)
    assert sorted({i for w in covering for i in range(w.start, w.stop)}) == list(range(frames))
    assert all(w.stop - w.start == min(length, frames) for w in covering)
    starts = [w.start for w in covering]
    assert starts == sorted(set(starts))


def test_the_last_frame_of_nine_is_not_left_out():
    assert windows(9, 4, 2) == [slice(0, 4), slice(2, 6), slice(4, 8), slice(5, 9)]


def test_windows_with_frames_between_them_are_refused():
    with pytest.raises(ValueError, match="leave frames out"):
        windows(9, 4, 5)


@pytest.mark.parametrize("weights", [None, triangle(4)])
@pytest.mark.parametrize("frames", [3, 4, 9, 10])
def test_windowed_is_whole_for_a_frame_local_denoiser(frames, weights):
    z = noise(2, 3, frames, 4, 5)

    def local(z, t, window):
        return z.tanh() * t

    whole = local(z, T, slice(0, frames))
    torch.testing.assert_close(MultiDiffusion(local, 4, 2, weights)(z, T), whole, rtol=0, atol=1e-12)


def test_overlaps_are_weighted_means():
    """Against a loop over frames and the windows that they are in."""
    z, weights = noise(1, 2, 7, 3, 3), triangle(4)

    def denoise(z, t, window):  # depends on the whole window
        return z + z.mean(2, keepdim=True) * (1 + window.start)

    expected = torch.zeros_like(z)
    for i in range(7):
        total = 0.0
        for start in (0, 3):
            if start <= i < start + 4:
                share = weights[i - start]
                part = denoise(z[:, :, start : start + 4], T, slice(start, start + 4))
                expected[:, :, i] += share * part[:, :, i - start]
                total += share
        expected[:, :, i] /= total
    torch.testing.assert_close(MultiDiffusion(denoise, 4, 3, weights)(z, T), expected, rtol=0, atol=1e-12)
    plain = MultiDiffusion(denoise, 4, 3)(z, T)
    assert (plain - expected)[:, :, 3].abs().max() == 0  # both windows count 1 there
    one, two = (denoise(z[:, :, s], T, s) for s in (slice(0, 4), slice(3, 7)))
    torch.testing.assert_close(plain[:, :, 3], (one[:, :, 3] + two[:, :, 0]) / 2, rtol=0, atol=1e-12)


def test_the_weights_are_largest_in_the_middle():
    assert triangle(5).tolist() == [1, 2, 3, 2, 1]
    assert triangle(4).tolist() == [1, 2, 2, 1]
