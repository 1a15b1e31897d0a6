"""Image networks as networks of video: frames in the batch, attention across them, control, the timestep."""

import pytest
import torch
from torch import nn

from models.backbones.sd_unet import SDUNet
from models.diffusion.parameterization import Denoiser, EpsPrediction
from models.layers.frame_attention import frame_attention
from models.systems.frames import STABLE_DIFFUSION, CrossFrame, PerFrame, Timestep
from tests.models.systems.checks import noise, randomised
from tests.models.systems.image_networks import SD, TEXT, control_network, image_network

TIMES = torch.tensor([3.0, 700.0], dtype=torch.float64)


@pytest.fixture(scope="module")
def sd():
    return randomised(SDUNet(SD))


def test_per_frame_is_each_frame_by_itself(sd):
    x = noise(2, 4, 3, 8, 8)
    alone = torch.stack([sd(x[:, :, i], TIMES, TEXT) for i in range(3)], dim=2)
    torch.testing.assert_close(PerFrame(sd)(x, TIMES, context=TEXT), alone, rtol=0, atol=1e-11)


def test_extra_channels_and_pictures_go_with_their_frames():
    class Recorded(nn.Module):
        def forward(self, z, t, picture):
            self.seen = z, picture
            return z[:, :4]

    network = Recorded()
    x, extra, picture = noise(2, 4, 3, 8, 8), noise(2, 5, 3, 8, 8, seed=2), noise(2, 3, 3, 16, 16, seed=3)
    assert torch.equal(PerFrame(network)(x, TIMES, picture=picture, extra=extra), x)
    z, pictures = network.seen
    for b in range(2):
        for t in range(3):
            assert torch.equal(z[3 * b + t], torch.cat([x[b, :, t], extra[b, :, t]]))
            assert torch.equal(pictures[3 * b + t], picture[b, :, t])


@pytest.mark.parametrize("reach", ["own", "first", "first and previous", "all"])
def test_the_reach_is_that_of_frame_attention(reach):
    image, x = image_network("ours"), noise(2, 3, 3, 8, 8)
    expected = image(x, TIMES, attend=lambda q, k, v: frame_attention(q, k, v, 3, reach), text=TEXT)
    assert torch.equal(CrossFrame(image, reach)(x, TIMES, text=TEXT), expected)


def test_an_attend_that_is_given_takes_its_place():
    image, x = image_network("ours"), noise(2, 3, 3, 8, 8)
    own = CrossFrame(image, "own")(x, TIMES, text=TEXT)
    other = CrossFrame(image, "all")
    attend = nn.functional.scaled_dot_product_attention
    torch.testing.assert_close(other(x, TIMES, text=TEXT, attend=attend), own, rtol=0, atol=1e-12)
    assert (other(x, TIMES, text=TEXT) - own).abs().max() > 1e-4


def test_a_shorter_video_takes_the_first_pictures():
    image, x = image_network("ours"), noise(2, 3, 3, 8, 8)
    network, pictures = CrossFrame(image, "first", control_network(image)), noise(2, 3, 5, 8, 8, seed=4)
    cut = network(x, TIMES, picture=pictures[:, :, :3], text=TEXT)
    assert torch.equal(network(x, TIMES, picture=pictures, text=TEXT), cut)
    with pytest.raises(ValueError, match="no control branch"):
        CrossFrame(image, "first")(x, TIMES, picture=pictures)
    with pytest.raises(ValueError, match="2 control pictures are too few for 3 frames"):
        network(x, TIMES, picture=pictures[:, :, :2], text=TEXT)
    with pytest.raises(ValueError, match="2 rows of picture, not shape \\(1, 3, 5, 8, 8\\)"):
        network(x, TIMES, picture=pictures[:1], text=TEXT)


def test_the_timestep_is_the_label_s_time():
    """Of every kind of time that samplers visit, within what the sinusoids can tell."""
    seen, times = [], torch.arange(0, 1000, 37).double()

    def network(z, t):
        seen.append(t)
        return z

    alpha, sigma = STABLE_DIFFUSION.alpha_sigma(times)
    Timestep(network, STABLE_DIFFUSION)(noise(len(times), 4, 1, 4, 4), (sigma / alpha).log() / 4)
    torch.testing.assert_close(seen[0], times, rtol=0, atol=1e-8)


def test_the_timestep_s_way_is_that_of_a_denoiser_s_label(sd):
    x, t = noise(1, 4, 3, 8, 8), torch.tensor(481.0)
    told = {"context": TEXT[:1]}
    by_label = Denoiser(PerFrame(sd), EpsPrediction(), STABLE_DIFFUSION, lambda t: t)(x, t, **told)
    wrapped = Denoiser(Timestep(PerFrame(sd), STABLE_DIFFUSION), EpsPrediction(), STABLE_DIFFUSION)(x, t, **told)
    torch.testing.assert_close(wrapped, by_label, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("label", [None, lambda t: t], ids=["c_noise", "the time itself"])
def test_every_step_is_named_in_every_precision(dtype, label):
    seen, times = [], torch.arange(1000.0)

    def network(z, t):
        seen.append(t)
        return z

    told = network if label else Timestep(network, STABLE_DIFFUSION)
    x_hat = Denoiser(told, EpsPrediction(), STABLE_DIFFUSION, label)(torch.zeros(1000, 1, 1, 1, dtype=dtype), times)
    assert x_hat.dtype == dtype
    assert (seen[0].double() - times).abs().max() < 0.01
