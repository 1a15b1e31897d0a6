"""ControlNet (Zhang et al. 2023): a copy of the U-Net's encoder that sees a control picture and adds to the U-Net.

`pretrained.load(ControlNet, folder)` reads published weights, whose parameter names it carries. Where its last
convolutions are zero, as in a new one, it changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.sd_unet import FIXED, IGNORED, Encoder, EncoderConfig, SDUNet
from models.layers.basics import zeroed
from models.layers.latent_diffusion import Attend
from models.layers.u_shape import skip_widths
from models.pretrained import settings


@dataclass(frozen=True)
class ControlNetConfig(EncoderConfig):
    """The encoder's sizes and those of the layers that take the control picture, which halve it but for the first."""

    conditioning_channels: int = 3
    conditioning_embedding_out_channels: tuple[int, ...] = (16, 32, 96, 256)
    controlnet_conditioning_channel_order: Literal["rgb", "bgr"] = "rgb"

    def __post_init__(self) -> None:
        super().__post_init__()
        if (order := self.controlnet_conditioning_channel_order) not in {"rgb", "bgr"}:
            raise ValueError(f"controlnet_conditioning_channel_order = {order!r} (supported: 'rgb', 'bgr')")


class Residuals(NamedTuple):
    """What the U-Net adds to its skips, one each, and to its middle."""

    down: list[Tensor]
    mid: Tensor


class PictureEmbedding(nn.Module):
    """Convolutions that bring the control picture to the latents' size; nothing when new."""

    def __init__(self, inp: int, widths: Sequence[int], out: int) -> None:
        super().__init__()
        self.conv_in, self.blocks = nn.Conv2d(inp, widths[0], 3, padding=1), nn.ModuleList()
        for narrow, wide in pairwise(widths):
            self.blocks.append(nn.Conv2d(narrow, narrow, 3, padding=1))
            self.blocks.append(nn.Conv2d(narrow, wide, 3, stride=2, padding=1))
        self.conv_out = zeroed(nn.Conv2d(widths[-1], out, 3, padding=1))

    def forward(self, picture: Tensor) -> Tensor:
        x = F.silu(self.conv_in(picture))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out(x)


class ControlNet(Encoder):
    """(z, timestep, context, picture) to what the U-Net adds; see `SDUNet` for the first three."""

    def __init__(self, config: ControlNetConfig) -> None:
        super().__init__(config)
        self.config, widths = config, config.block_out_channels
        self.controlnet_cond_embedding = PictureEmbedding(
            config.conditioning_channels, config.conditioning_embedding_out_channels, widths[0]
        )
        self.controlnet_down_blocks = nn.ModuleList(
            zeroed(nn.Conv2d(width, width, 1)) for width in skip_widths(widths, config.layers_per_block)
        )
        self.controlnet_mid_block = zeroed(nn.Conv2d(widths[-1], widths[-1], 1))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A network of `config.json`'s settings. Raises PretrainedError for those that are not supported."""
        fixed = FIXED | {"global_pool_conditions": False}
        return cls(settings(config, ControlNetConfig, "ControlNetModel", fixed, IGNORED))

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        picture: Tensor,
        scale: float = 1.0,
        attend: Attend | None = None,
    ) -> Residuals:
        """`picture` (b, conditioning_channels, 8 h, 8 w), in [0, 1], with 8 for the published networks; all residuals
        are multiplied by `scale`. Raises ValueError for a picture of another size."""
        control = picture.flip(1) if self.config.controlnet_conditioning_channel_order == "bgr" else picture
        control = self.controlnet_cond_embedding(control.to(self.conv_in.weight.dtype))
        if control.shape[2:] != x.shape[2:]:
            factor = 2 ** (len(self.config.conditioning_embedding_out_channels) - 1)
            sizes = f"a picture {tuple(picture.shape[2:])} for latents {tuple(x.shape[2:])}"
            raise ValueError(f"{sizes}: it must be {factor} times their size")
        first = self.conv_in(x.to(self.conv_in.weight.dtype)) + control
        skips, y = self.encode(first, self.told(timestep, context, attend))
        down = [conv(skip) * scale for conv, skip in zip(self.controlnet_down_blocks, skips, strict=True)]
        return Residuals(down, self.controlnet_mid_block(y) * scale)


def controlnet_of(unet: SDUNet, seed: int = 0, **sizes: Any) -> ControlNet:
    """A new ControlNet for `unet`: its encoder copied, and zero convolutions after it, so that it changes nothing yet.

    `sizes` are those of `ControlNetConfig` that an encoder has not; what is new and not zero is drawn from `seed`.
    """
    shared: dict[str, Any] = {field.name: getattr(unet.config, field.name) for field in fields(EncoderConfig)}
    like = next(unet.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = ControlNet(ControlNetConfig(**shared, **sizes)).to(device=like.device, dtype=like.dtype)
    weights, new = unet.state_dict(), made.state_dict()
    made.load_state_dict({name: new[name] if name.startswith("controlnet_") else weights[name] for name in new})
    return made
