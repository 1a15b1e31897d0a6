"""Networks by the system that a configuration names: its temporal layers between those of an image network."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch

from models.backbones.unet import UNet, UNetConfig, inflate
from models.layers.temporal import Inflation, Pseudo3D
from models.systems.lumiere import SpaceTime
from models.systems.vdm import TimeAttention
from models.systems.video_ldm import Aligned
from training.config import SystemName

_INFLATIONS: Mapping[SystemName, Callable[[UNetConfig], Inflation]] = {
    SystemName.make_a_video: lambda sizes: Pseudo3D(sizes.head_dim),
    SystemName.vdm: lambda sizes: TimeAttention(sizes.head_dim),
    SystemName.lumiere: SpaceTime,
    SystemName.video_ldm: lambda sizes: Aligned(sizes.head_dim),
}


def described(network: UNet, system: SystemName) -> dict[str, Any]:
    """What a checkpoint says of its network, from which `rebuilt` makes it again."""
    return {"system": system.value, **asdict(network.config)}


def taken_apart(description: Mapping[str, Any]) -> tuple[SystemName, UNetConfig]:
    """The system and the sizes of a description; Make-A-Video's where it names none."""
    sizes = dict(description)
    return SystemName(sizes.pop("system", SystemName.make_a_video)), UNetConfig.of(sizes)


def rebuilt(description: Mapping[str, Any], seed: int | None = None) -> UNet:
    """A network of a description, its weights drawn from `seed` where there is one."""
    system, sizes = taken_apart(description)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        return UNet(sizes, _INFLATIONS[system](sizes) if sizes.temporal else None)


def inflated(image: UNet, system: SystemName, seed: int) -> UNet:
    """The system's video network with the weights of `image`."""
    return inflate(image, seed, _INFLATIONS[system](image.config))
