"""Discriminators of patches, for pictures and for clips, the hinge loss, and VQGAN's weight of the generator's.

A patch discriminator answers with a grid of logits, one for each patch that it sees (Isola et al. 2017, section 3.2.2).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.basics import group_norm

SLOPE = 0.2  # of the leaky ReLUs


class FrameNorm(nn.Module):
    """GroupNorm of each frame of `b c t h w` on its own: frames meet in convolutions over time and nowhere else."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        frames = self.norm(x.transpose(1, 2).reshape(b * t, c, h, w))
        return frames.reshape(b, t, c, h, w).transpose(1, 2)


class PatchDiscriminator(nn.Module):
    """Images `b 3 h w` to logits `b 1 h' w'`; with three levels each sees a patch of 70x70 pixels.

    Source: Isola et al. 2017 (pix2pix), section 3.2.2 and appendix 6.1.2; norms are group norms, as statistics of a
    batch would tie its pictures together and a resumed run to its neighbours.
    """

    def __init__(self, channels: int = 3, width: int = 64, levels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(SLOPE)]
        inp = width
        for i in range(1, levels + 1):
            out = width * min(2**i, 8)
            stride = 1 if i == levels else 2
            layers += [nn.Conv2d(inp, out, 4, stride, 1), group_norm(out), nn.LeakyReLU(SLOPE)]
            inp = out
        self.layers = nn.Sequential(*layers, nn.Conv2d(inp, 1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`b 3 h w` -> `b 1 h' w'`; of video `b 3 t h w` the frames are so many images, `(b t) 1 h' w'`."""
        return self.layers(x.transpose(1, 2).flatten(0, 1) if x.ndim == 5 else x)


class TemporalPatchDiscriminator(nn.Module):
    """Clips `b 3 t h w` to logits `b 1 t h' w'`: 3-D convolutions that see patches of space and time.

    The discriminator that Video LDM fine-tunes its decoder with (Blattmann et al. 2023, section 3.1.1: patch-wise, of
    3D convolutions). Time keeps its length; each of the `levels` + 2 layers sees one frame more on either side.
    """

    def __init__(self, channels: int = 3, width: int = 64, levels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv3d(channels, width, 2), nn.LeakyReLU(SLOPE)]
        inp = width
        for i in range(1, levels + 1):
            out = width * min(2**i, 8)
            layers += [_conv3d(inp, out, 1 if i == levels else 2), FrameNorm(out), nn.LeakyReLU(SLOPE)]
            inp = out
        self.layers = nn.Sequential(*layers, _conv3d(inp, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """(E max(0, 1 - D(x)) + E max(0, 1 + D(x_hat))) / 2, a scalar, from logits of any shape (Lim and Ye 2017)."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """-E D(x_hat), a scalar."""
    return -fake.mean()


def adaptive_weight(
    reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor, delta: float = 1e-6, largest: float = 1e4
) -> Tensor:
    """lambda = |grad of the reconstruction loss| / (|grad of the adversarial loss| + delta), both of the decoder's last
    layer; a constant to what is trained (Esser et al. 2021, VQGAN, eq. 7). At most `largest`."""
    (of_first,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (of_second,) = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    return (of_first.norm() / (of_second.norm() + delta)).clamp(max=largest).detach()


def _conv3d(inp: int, out: int, stride: int) -> nn.Conv3d:
    return nn.Conv3d(inp, out, (3, 4, 4), (1, stride, stride), 1)
