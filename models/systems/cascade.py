"""What cascades share: the pictures of a lower stage, made as large as the next one's, noisy, and told how noisy."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.diffusion.augmentation import augment
from models.diffusion.parameterization import Network
from models.diffusion.schedules import CosineSchedule

SCHEDULE = CosineSchedule()
LABEL = "augmentation"
"""The network's label for how noisy the pictures are that it is given."""


def enlarged(video: Tensor, height: int, width: int) -> Tensor:
    """(b, c, [t,] h, w) to (b, c, [t,] height, width), bilinear, frame by frame."""
    frames = F.interpolate(video.reshape(-1, 1, *video.shape[-2:]), (height, width), mode="bilinear")
    return frames.reshape(*video.shape[:-2], height, width)


def given(picture: Tensor, t: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """What a `labelled` network is told of a lower stage's `picture` (b, c, [t,] h, w) of its own size: it, noised to
    times `t` (b,) of the cosine schedule, as `extra` channels, and how noisy it is, `level` (b,).

    Source: Ho et al. 2022 (Imagen Video), section 2.5.
    """
    extra, level = augment(picture, t, SCHEDULE, generator)
    return {"extra": extra, "level": level}


def labelled(network: Network) -> Network:
    """The network, told its label as an argument `level` (b,): guidance doubles tensors, not labels by name."""
    return lambda z, noise, *, level, **told: network(z, noise, labels={LABEL: level}, **told)


def at_snr(snr: float, count: int) -> Tensor:
    """(count,) times at which alpha^2 / sigma^2 is `snr`."""
    return SCHEDULE.time(torch.full((count,), snr, dtype=torch.float64).rsqrt())


def unit(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Noise of `shape`, of the kind and place of `like`."""
    return torch.randn(*shape, dtype=like.dtype, generator=generator, device=generator.device).to(like.device)
