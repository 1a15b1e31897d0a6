import pytest
import torch
import torch.nn.functional as F
from hypothesis import given as drawn
from hypothesis import strategies as st

from models.diffusion.guidance import downsampled
from models.diffusion.schedules import CosineSchedule
from models.systems.cascade import at_snr, enlarged, given, labelled, unit
from tests.models.systems.checks import noise


def test_pictures_are_enlarged_bilinearly_frame_by_frame():
    video = noise(2, 3, 4, 5, 6)
    large = enlarged(video, 10, 18)
    for i in range(4):
        expected = F.interpolate(video[:, :, i], (10, 18), mode="bilinear", align_corners=False)
        torch.testing.assert_close(large[:, :, i], expected, rtol=0, atol=1e-12)
    ramp = torch.arange(4.0)[None, None, None].expand(1, 1, 2, 4)
    torch.testing.assert_close(enlarged(ramp, 2, 8)[0, 0, 0, 1:-1], torch.arange(0.25, 3, 0.5))


def test_a_picture_is_given_as_noisy_as_the_label_says():
    picture = noise(400, 1, 8, 8)
    t = torch.linspace(0, 1, 400, dtype=torch.float64)
    told = given(picture, t, torch.Generator().manual_seed(0))
    assert torch.equal(told["extra"][0], picture[0])
    assert (told["extra"][-1] - picture[-1]).abs().max() > 1  # pure noise
    label = told["level"]
    alpha, sigma = CosineSchedule().alpha_sigma(t[1:-1])
    torch.testing.assert_close(label[1:-1], (sigma / alpha).log() / 4, rtol=0, atol=1e-12)
    assert (label.diff() >= 0).all()


def test_the_signal_to_noise_ratio_of_sampling():
    alpha, sigma = CosineSchedule().alpha_sigma(at_snr(3.0, 2))
    assert (alpha**2 / sigma**2).tolist() == pytest.approx([3.0, 3.0])


def test_noise_is_the_generators_and_of_the_kind_asked_for():
    like = torch.zeros(1, dtype=torch.float64)
    one, again = (unit((2, 3), torch.Generator().manual_seed(4), like) for _ in range(2))
    assert one.dtype == torch.float64
    assert torch.equal(one, again)


def test_the_level_reaches_the_network_as_its_label():
    told = labelled(lambda z, noise, **told: told)(0, 0, level=3, extra=4)
    assert told == {"labels": {"augmentation": 3}, "extra": 4}


@drawn(
    st.integers(2, 24), st.integers(2, 24), st.integers(1, 24), st.integers(2, 24)
)  # torch's antialiasing fails at a width of 1
def test_resizing_does_not_move_a_frame(height, width, to_height, to_width):
    """A mirrored frame gives the mirrored result, so no size moves a frame to one side."""
    frame = noise(1, 1, 2, height, width)
    for resized in (enlarged, downsampled):
        for axis in (-1, -2):
            mirrored = resized(frame.flip(axis), to_height, to_width).flip(axis)
            torch.testing.assert_close(mirrored, resized(frame, to_height, to_width), rtol=0, atol=1e-12)
