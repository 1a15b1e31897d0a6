import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from models.autoencoders.base import Autoencoder, DiagonalGaussian, by_frames


def draws(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Counting(Autoencoder):
    """Factor 2; remembers how many images each call was given."""

    factor = 2
    channels = latent_channels = 3

    def __init__(self):
        super().__init__()
        self.calls = []

    def moments(self, x):
        self.calls.append(len(x))
        mean = torch.nn.functional.avg_pool2d(x, 2)
        return torch.cat([mean, mean.square().log()], dim=1)

    def pictures(self, z):
        self.calls.append(len(z))
        return z.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_kl_is_that_of_torchs_distributions():
    posterior = DiagonalGaussian(draws(3, 8, 2, 4, 4))
    expected = kl_divergence(Normal(posterior.mean, posterior.std), Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(posterior.kl(), expected)


def test_kl_of_the_standard_normal_is_nothing():
    assert DiagonalGaussian(torch.zeros(2, 8, 4, 4)).kl().tolist() == [0, 0]


def test_it_is_the_one_of_diffusers():
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    moments = 20 * draws(2, 8, 4, 4)  # some beyond the limits of the log variance
    ours, peer = DiagonalGaussian(moments), DiagonalGaussianDistribution(moments)
    assert torch.equal(ours.mode(), peer.mode())
    torch.testing.assert_close(ours.std, peer.std, rtol=1e-14, atol=0)
    torch.testing.assert_close(ours.kl(), peer.kl(), rtol=1e-14, atol=0)
    sampled = ours.sample(torch.Generator().manual_seed(3))
    torch.testing.assert_close(sampled, peer.sample(torch.Generator().manual_seed(3)), rtol=1e-14, atol=0)


def test_samples_have_its_mean_and_deviation():
    posterior = DiagonalGaussian(torch.tensor([1.5, 2 * torch.tensor(0.3).log()])[None, :, None].expand(1, 2, 40_000))
    z = posterior.sample(torch.Generator().manual_seed(0))
    assert z.mean().item() == pytest.approx(1.5, abs=0.01)
    assert z.std().item() == pytest.approx(0.3, abs=0.01)


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 20))
def test_chunks_of_video_are_bounded_and_change_nothing(b, t, at_once):
    network, x = Counting(), draws(b, 3, t, 4, 6)
    whole = network.encode(x)
    part = network.encode(x, at_once)
    y = network.decode(whole.mean, at_once)
    assert torch.equal(part.mean, whole.mean)
    assert torch.equal(part.logvar, whole.logvar)
    assert torch.equal(y, network.decode(whole.mean))
    assert max(network.calls[1:-1]) == min(at_once, b * t)
    for i in range(t):
        assert torch.equal(y[:, :, i], network.decode(whole.mean[:, :, i]))


def test_latents_are_scaled_and_shifted_and_pixels_undo_it():
    network, x = Counting(), draws(2, 3, 4, 6)
    network.scaling_factor, network.shift_factor = 0.18, 0.3
    z = network.latents(x)
    torch.testing.assert_close(z, (network.encode(x).mean - 0.3) * 0.18)
    torch.testing.assert_close(network.pixels(z), network.decode(network.encode(x).mean))
    sampled = network.latents(x, torch.Generator().manual_seed(0))
    expected = (network.encode(x).sample(torch.Generator().manual_seed(0)) - 0.3) * 0.18
    assert torch.equal(sampled, expected)
    assert not torch.equal(sampled, z)


@pytest.mark.parametrize("shape", [(3, 4, 4), (4, 4), (1, 1, 3, 2, 4, 4), (1, 4, 4, 4), (1, 2, 3, 4, 4)])
def test_what_is_neither_images_nor_video_is_refused(shape):
    for method in ("encode", "latents", "decode", "pixels"):
        with pytest.raises(ValueError, match=r"must be \(b, 3, h, w\) or \(b, 3, t, h, w\)"):
            getattr(Counting(), method)(draws(*shape))


def test_sizes_that_do_not_fit_and_chunks_of_nothing_are_refused():
    with pytest.raises(ValueError, match="multiples of 2"):
        Counting().encode(draws(1, 3, 5, 4))
    with pytest.raises(ValueError, match="at_once"):
        by_frames(lambda x: x, draws(1, 3, 4, 4), 0)
