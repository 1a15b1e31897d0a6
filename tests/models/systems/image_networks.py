"""Image networks that systems without training are tested on: the U-Net of our own and a small one of SD's kind."""

from dataclasses import replace

import torch
from torch import nn

from models.backbones.control import ControlBranch
from models.backbones.controlnet import controlnet_of
from models.backbones.sd_unet import SDUNet, SDUNetConfig
from models.backbones.unet import UNet, UNetConfig
from models.systems.frames import PerFrame
from tests.models.systems.checks import noise, randomised

LABEL, TEXT = torch.tensor([-0.3, 0.6], dtype=torch.float64), noise(2, 4, 12, seed=5)
KINDS = ["ours", "sd"]
OURS = UNetConfig(width=16, multipliers=(1, 2), attention_levels=(1,), text_dim=12, head_dim=8)
SD = SDUNetConfig(
    block_out_channels=(16, 32),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    attention_head_dim=2,
    cross_attention_dim=12,
    norm_num_groups=8,
)


def image_network(kind: str) -> nn.Module:
    return randomised(UNet(OURS) if kind == "ours" else PerFrame(SDUNet(SD)))


def one_level(kind: str) -> nn.Module:
    """A smaller one, with attention in the middle alone, soon compiled."""
    if kind == "ours":
        return randomised(UNet(replace(OURS, multipliers=(1,), attention_levels=())))
    down, up = ("CrossAttnDownBlock2D",), ("CrossAttnUpBlock2D",)
    sizes = replace(SD, block_out_channels=(16,), down_block_types=down, up_block_types=up)
    return randomised(PerFrame(SDUNet(sizes)))


def new_control(image: nn.Module) -> nn.Module:
    """As made, with its last convolutions at zero."""
    if isinstance(image, PerFrame):
        return PerFrame(controlnet_of(image.network, conditioning_embedding_out_channels=(8, 8)))
    return ControlBranch(image)


def control_network(image: nn.Module) -> nn.Module:
    return randomised(new_control(image), seed=1)


def frames_for(network: nn.Module, t: int, b: int = 2, seed: int = 1) -> torch.Tensor:
    """Noisy frames, `b c t h w`, random and distinct."""
    return noise(b, 4 if isinstance(network.network, PerFrame) else 3, t, 8, 8, seed=seed)


def pictures_for(network: nn.Module, t: int, b: int = 2) -> torch.Tensor:
    """Control pictures, which for SD are larger than its latents."""
    size = 16 if isinstance(network.network, PerFrame) else 8
    return noise(b, 3, t, size, size, seed=4)


def told(network: nn.Module, b: int = 2) -> dict[str, torch.Tensor]:
    return {"context" if isinstance(network.network, PerFrame) else "text": TEXT[:b]}
