"""Networks by the system that a configuration names: an image network, and what the system makes of it.

Most systems take the U-Net of the settings' sizes and add temporal layers to it. dit has a transformer in its place,
gen1 a U-Net that knows its content by cross-attention alone.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.control import ControlBranch
from models.backbones.dit import DiT, DiTConfig
from models.backbones.unet import UNet, UNetConfig, inflate
from models.layers.basics import zeroed
from models.layers.latent_diffusion import FeedForward
from models.layers.temporal import Inflation, Mix, Pseudo3D
from models.systems import gen1, imagen_video, tune_a_video
from models.systems.lumiere import SpaceTime
from models.systems.vdm import TimeAttention
from models.systems.video_ldm import Aligned, Mixed, TemporalResBlock, TemporalTransformer
from training.names import SystemName

Grow = Callable[[Any, int], nn.Module]
"""(image network, seed) to the system's network with the same weights; new ones are drawn from the seed."""


class Blended(Inflation):
    """SVD's temporal layers, of the kinds that Video LDM has, for any width: mixed in by sigmoid(factor), factor 0.5
    when new, and adding nothing yet, as `svd.video_of` makes them.

    SVD's own U-Net differs in its group norms, of 32 groups and over all frames, which want its published widths.
    """

    def __init__(self, head_dim: int) -> None:
        self.head_dim = head_dim

    def block(self, channels: int) -> nn.Module:
        layer = TemporalResBlock(channels)
        zeroed(layer.conv2)
        return _blended(layer)

    def attention(self, channels: int, level: int) -> nn.Module:
        layer = TemporalTransformer(channels, self.head_dim)
        zeroed(layer.attention.out)
        for feed in layer.modules():
            if isinstance(feed, FeedForward):
                zeroed(feed.net[-1])
        return _blended(layer)


def _blended(layer: nn.Module) -> Mixed:
    mixed = Mixed(layer, 0.5)
    mixed.mix = Mix(1 / (1 + math.exp(-0.5)), "sigmoid")
    return mixed


class Controlled(nn.Module):
    """An image network and a control branch beside it, which is told a `picture` of one channel. Images only; of video
    `control_video` makes use of both parts."""

    def __init__(self, image: UNet) -> None:
        super().__init__()
        self.image, self.control = image, ControlBranch(image, channels=1)

    def forward(self, z: Tensor, noise: Tensor, picture: Tensor, **told: Any) -> Tensor:
        """`z` (b, c, h, w), `picture` (b, 1, h, w)."""
        down, mid = self.control(z, noise, picture=picture, **told)
        return self.image(z, noise, down_residuals=down, mid_residual=mid, **told)


def transformer(sizes: UNetConfig) -> DiT:
    """A transformer in place of a U-Net of these sizes: as wide as its embedding, as deep as it has residual blocks,
    its patches the pixels of the finest level that attends. Images are videos of one frame."""
    levels = len(sizes.multipliers)
    side = sizes.patch * 2 ** min(sizes.attention_levels, default=levels - 1)
    depth = levels * (2 * sizes.blocks + 1) + 1
    return DiT(DiTConfig(4 * sizes.width, depth, sizes.head_dim, (1, side, side), sizes.channels, sizes.text_dim))


def content_unet(sizes: UNetConfig) -> UNet:
    """Gen-1's image network: the text's mean joins nothing, so content is seen through cross-attention alone."""
    return UNet(replace(sizes, pooled_text=False))


@dataclass(frozen=True)
class Part:
    """A system's networks: the one that image stages train, and what it becomes."""

    grow: Grow
    image: Callable[[UNetConfig], nn.Module] = UNet


def _inflating(inflation: Callable[[UNetConfig], Inflation]) -> Grow:
    return lambda image, seed: inflate(image, seed, inflation(image.config))


def _controlled(image: UNet, seed: int) -> Controlled:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Controlled(image)


def _base_model(sizes: UNetConfig) -> Inflation:
    return imagen_video.TimeLayers(imagen_video.Model("base", "base", 0, 0, 0, 0, sizes))  # any frames and pixels


PARTS: Mapping[SystemName, Part] = {
    SystemName.vdm: Part(_inflating(lambda sizes: TimeAttention(sizes.head_dim))),
    SystemName.imagen_video: Part(_inflating(_base_model)),
    SystemName.dit: Part(lambda image, seed: image, transformer),
    SystemName.make_a_video: Part(_inflating(lambda sizes: Pseudo3D(sizes.head_dim))),
    SystemName.tune_a_video: Part(tune_a_video.network),
    SystemName.gen1: Part(lambda image, seed: gen1.network(image, seed=seed), content_unet),
    SystemName.video_ldm: Part(_inflating(lambda sizes: Aligned(sizes.head_dim))),
    SystemName.svd: Part(_inflating(lambda sizes: Blended(sizes.head_dim))),
    SystemName.lumiere: Part(_inflating(SpaceTime)),
    SystemName.control_video: Part(_controlled),
}


def described(system: SystemName, sizes: UNetConfig) -> dict[str, Any]:
    """What a checkpoint says of its network, from which `rebuilt` makes it again."""
    return {"system": system.value, **asdict(sizes)}


def taken_apart(description: Mapping[str, Any]) -> tuple[SystemName, UNetConfig]:
    """The system and the sizes of a description, or of a configuration's model; Make-A-Video's where none is named.

    `temporal` says that the network is the one of video."""
    sizes = {name: value for name, value in description.items() if name not in ("system", "structure")}
    return SystemName(description.get("system", SystemName.make_a_video)), UNetConfig.of(sizes)


def is_grown(system: SystemName, sizes: UNetConfig) -> bool:
    """Whether the network is the system's own, and no longer the image network that it is made of."""
    return sizes.temporal or system == SystemName.control_video


def rebuilt(system: SystemName, sizes: UNetConfig, seed: int | None = None) -> nn.Module:
    """The network of a description, its weights drawn from `seed` where there is one."""
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        image = PARTS[system].image(replace(sizes, temporal=False))
    return PARTS[system].grow(image, seed or 0) if is_grown(system, sizes) else image
