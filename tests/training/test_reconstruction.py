import numpy as np
import pytest
import torch

from models.autoencoders.base import Autoencoder
from training.reconstruction import measure, psnr, small_and_large


class Blurry(Autoencoder):
    """Reconstructs what a picture of an eighth of the size holds: the floor itself, as an autoencoder."""

    factor = 8
    channels = latent_channels = 3

    def moments(self, x):
        mean = torch.nn.functional.interpolate(x, scale_factor=1 / 8, mode="bicubic", antialias=True)
        return torch.cat([mean, mean], dim=1)

    def pictures(self, z):
        return torch.nn.functional.interpolate(z, scale_factor=8, mode="bicubic")


def photo():
    from skimage import data

    return data.astronaut()[:200, :144]


def test_psnr_is_that_of_scikit_image():
    from skimage.metrics import peak_signal_noise_ratio

    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    y = (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).clamp(-1, 1)
    expected = [peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=2) for a, b in zip(x, y, strict=True)]
    assert psnr(y, x) == pytest.approx(expected)


def test_what_is_out_of_range_is_seen_clipped_and_nothing_counts_for_more_than_fifty():
    x = torch.ones(1, 3, 8, 8)
    assert psnr(x * 7, x) == pytest.approx([50.0])


def test_the_floor_is_scored_like_an_autoencoder_that_is_it():
    found = measure(Blurry(), {"a": np.stack([photo()])}, ["a"], torch.device("cpu"))
    for size in ("full", "half"):
        assert found[size]["psnr"] == pytest.approx(found[size]["floor"])
        assert 15 < found[size]["floor"] < 35


def test_a_smooth_picture_survives_the_floor():
    ramp = torch.linspace(-1, 1, 64)[None, None, None].expand(1, 3, 64, 64)
    assert (small_and_large(ramp, 8) - ramp)[..., 16:-16].abs().max() < 0.02


class Watched(Blurry):
    """Remembers what it was shown."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def encode(self, x, at_once=None):
        self.shown.append([round((value + 1) * 127.5) for value in x[:, 0, 0, 0].tolist()])
        return super().encode(x, at_once)


def test_frames_are_taken_from_all_over_a_video():
    network, frames = Watched(), np.stack([np.full((16, 16, 3), value, np.uint8) for value in range(101)])
    measure(network, {"a": frames, "b": frames[:1]}, ["a", "b"], torch.device("cpu"), per_video=3)
    assert network.shown == [[0, 50, 100], [0, 50, 100], [0], [0]]
