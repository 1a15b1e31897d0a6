"""Lumiere (Bar-Tal et al. 2024): all frames of a video at once, by a U-Net that makes a video shorter on its way down.

A pretrained text-to-image U-Net, frozen, gets four kinds of layers in time: a factorised space-time convolution after
each residual block, attention over time at the coarsest level alone, and half as many frames wherever the picture
becomes half as large, twice as many on the way up. So there is no network that fills in frames. An enlarging network,
inflated without the change of length, works on short overlapping windows that MultiDiffusion makes agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.unet import UNet, UNetConfig, inflate
from models.diffusion.losses import VLoss, denoiser
from models.diffusion.samplers import DDIM
from models.diffusion.samplers import sample as draw
from models.layers.basics import group_norm, zeroed
from models.layers.temporal import Inflation, TemporalAttention, TemporalConv, TemporalDown, TemporalUp
from models.systems.cascade import LABEL, at_snr, enlarged, given, labelled, unit
from models.systems.multidiffusion import MultiDiffusion, triangle
from models.systems.recipe import Stage, System, everything, temporal_only
from models.systems.text_guidance import guided_by_text

LOSS = VLoss()


class SpaceTimeConv(nn.Module):
    """x + projection of (convolution over time of (convolution over space of x)), `(b t) c h w`: the paper's
    convolution-based inflation block. The projection is zero when new."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.space, self.time = nn.Conv2d(channels, channels, 3, padding=1), TemporalConv(channels)
        self.projection = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        return x + self.projection(self.time(F.silu(self.space(self.norm(x))), frames))


class TimeAttentions(nn.Module):
    """Several attentions over time, one after the other: cheap where the video is smallest (section 3.1)."""

    def __init__(self, channels: int, head_dim: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TemporalAttention(channels, head_dim) for _ in range(depth))

    def forward(self, x: Tensor, frames: int, mask: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, frames, mask)
        return x


class SpaceTime(Inflation):
    """The space-time U-Net's layers (section 3.1); `shorter`: also fewer frames level by level."""

    def __init__(self, config: UNetConfig, depth: int = 2, shorter: bool = True) -> None:
        self.head_dim, self.depth, self.shorter = config.head_dim, depth, shorter
        self.coarsest = len(config.multipliers) - 1

    def block(self, channels: int) -> nn.Module:
        return SpaceTimeConv(channels)

    def attention(self, channels: int, level: int) -> nn.Module | None:
        return TimeAttentions(channels, self.head_dim, self.depth) if level == self.coarsest else None

    def down(self, channels: int, level: int) -> nn.Module | None:
        return TemporalDown(channels) if self.shorter else None

    def up(self, channels: int, level: int) -> nn.Module | None:
        return TemporalUp(channels) if self.shorter else None


def space_time(image: UNet, shorter: bool = True, seed: int = 0) -> UNet:
    """The text-to-image network `image` inflated. All new layers are the identity when new but the change of length,
    which keeps what does not move."""
    return inflate(image, seed, SpaceTime(image.config, shorter=shorter))


@dataclass(frozen=True)
class Sizes:
    """80 frames are 5 seconds at 16 a second. `window` and `stride`, in frames, are the enlarging network's."""

    frames: int = 80
    fps: float = 16.0
    small: int = 128
    large: int = 1024
    window: int = 16
    stride: int = 12


def enlarge(
    network: UNet,
    video: Tensor,
    sizes: Sizes,
    generator: torch.Generator,
    steps: int,
    text: Tensor | None = None,
    seen: Tensor | None = None,
    scale: float = 1.0,
    snr: float = 5.0,
) -> Tensor:
    """The video (b, 3, t, h, w) at `sizes.large`: windows of frames, each denoised given its own frames of the small
    video made noisy to `snr` (alpha^2 / sigma^2), and their weighted means at every step (section 3.2)."""
    large = enlarged(video, sizes.large, sizes.large)
    told = given(large, at_snr(snr, len(video)), generator)

    def denoise(z: Tensor, t: Tensor, window: slice) -> Tensor:
        own = {"extra": told["extra"][:, :, window], "level": told["level"]}
        return guided_by_text(denoiser(LOSS, labelled(network)), text, seen, scale, **own)(z, t)

    together = MultiDiffusion(denoise, sizes.window, sizes.stride, triangle(sizes.window))
    return draw(together, unit(large.shape, generator, video), LOSS.schedule, steps, DDIM())


def sample(
    networks: Mapping[str, Any],
    text: Tensor,
    sizes: Sizes,
    generator: torch.Generator,
    steps: int = 50,
    scale: float = 7.5,
    seen: Tensor | None = None,
) -> Tensor:
    """Video (b, 3, t, large, large) of text states (b, n, d): all small frames in one pass, then enlarged."""
    shape = (len(text), 3, sizes.frames, sizes.small, sizes.small)
    denoise = guided_by_text(denoiser(LOSS, networks["base"]), text, seen, scale)
    video = draw(denoise, unit(shape, generator, text), LOSS.schedule, steps, DDIM())
    return enlarge(networks["ssr"], video, sizes, generator, steps, text, seen, scale)


STAGES = (
    Stage("base-images", "base", everything, LOSS, ("text-images",)),
    Stage("ssr-images", "ssr", everything, LOSS, ("text-images",)),
    Stage("base-video", "base", temporal_only, LOSS, ("text-videos",), parent="base-images"),
    Stage("ssr-video", "ssr", temporal_only, LOSS, ("text-videos",), parent="ssr-images"),
)
"""The image stages are the pretrained text-to-image cascade (Imagen's in the paper); on video only what was added is
trained."""


@dataclass(frozen=True)
class Networks:
    """The configurations of the image networks, before inflation."""

    base: UNetConfig
    ssr: UNetConfig


def build(config: Networks) -> nn.ModuleDict:
    """Both, new and inflated; the enlarging one keeps the number of frames, which its windows make short enough."""
    return nn.ModuleDict({"base": space_time(UNet(config.base)), "ssr": space_time(UNet(config.ssr), shorter=False)})


_SMALL = UNetConfig(width=16, multipliers=(1, 1, 2), attention_levels=(2,), patch=1, text_dim=12, head_dim=8)
TINY_SIZES = Sizes(frames=6, small=8, large=16, window=4, stride=3)
TINY = Networks(_SMALL, replace(_SMALL, multipliers=(1, 2), attention_levels=(), extra_channels=3, labels=(LABEL,)))
PAPER = Networks(
    UNetConfig(
        width=512, multipliers=(1, 2, 3, 4), blocks=3, attention_levels=(1, 2, 3), patch=1, text_dim=4096, head_dim=64
    ),
    UNetConfig(
        width=128, multipliers=(1, 2, 4, 8), blocks=2, attention_levels=(), patch=1, text_dim=4096, head_dim=64,
        extra_channels=3, labels=(LABEL,),
    ),
)  # fmt: skip
"""From the paper: 80 frames at 16 a second, 128 and 1024 pixels, Imagen's text states. Every width is a choice, and so
are the windows."""


def tiny() -> nn.ModuleDict:
    return build(TINY)


def paper() -> nn.ModuleDict:
    return build(PAPER)


SYSTEM = System(
    name="lumiere",
    paper="Bar-Tal et al. 2024, Lumiere: A Space-Time Diffusion Model for Video Generation",
    description="All frames at once by a U-Net that also shortens the video; enlarged in windows that agree.",
    inputs=("text",),
    stages=STAGES,
    tiny=tiny,
    paper_size=paper,
    unpublished="the paper inflates Imagen and gives no number of parameters; ours are of a chosen size",
)
