"""The KL autoencoder of Stable Diffusion: images to latents of an eighth of their size, and back.

Source: Rombach et al. 2022 (Latent Diffusion Models), section 3.1 and appendix G. Parameter names, shapes and results
are those of `diffusers`' `AutoencoderKL`, so that its state dicts load as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch.nn.functional as F
from torch import Tensor, nn

from models.autoencoders.base import Autoencoder
from models.pretrained import check_parts, settings

EPS = 1e-6  # of all norms here


@dataclass(frozen=True)
class KLConfig:
    """Sizes, by their names in `config.json`; the defaults are Stable Diffusion's, 83.65 M parameters."""

    in_channels: int = 3
    out_channels: int = 3
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    norm_num_groups: int = 32
    mid_block_add_attention: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    scaling_factor: float = 0.18215
    shift_factor: float | None = None

    def __post_init__(self) -> None:
        widths = self.block_out_channels
        check_parts("norm_num_groups", "groups", widths, (self.norm_num_groups,) * len(widths))


class ResBlock(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))), with a 1x1 convolution on x where the channels change. `n c h w`."""

    def __init__(self, inp: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inp, EPS)
        self.conv1 = nn.Conv2d(inp, out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out, EPS)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inp, out, 1) if inp != out else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + h


class Attention(nn.Module):
    """x + attention of one head over the pixels of an image. `n c h w`."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, EPS)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)[:, None]  # n 1 (h w) c
        mixed = F.scaled_dot_product_attention(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens))
        return x + self.to_out[0](mixed[:, 0]).transpose(1, 2).reshape(x.shape)


class Middle(nn.Module):
    """A residual block, attention, a residual block."""

    def __init__(self, channels: int, groups: int, attend: bool) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([Attention(channels, groups)] if attend else [])
        self.resnets = nn.ModuleList(ResBlock(channels, channels, groups) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


class Downsample(nn.Module):
    """Half the height and width; the padding is at the right and the bottom alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Every pixel four times, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0))


class Down(nn.Module):
    """Residual blocks at one size, then half of it."""

    def __init__(self, inp: int, out: int, layers: int, groups: int, shrink: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResBlock(out if i else inp, out, groups) for i in range(layers))
        self.downsamplers = nn.ModuleList([Downsample(out)] if shrink else [])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.downsamplers):
            x = layer(x)
        return x


class Up(nn.Module):
    """Residual blocks at one size, then twice of it."""

    def __init__(self, inp: int, out: int, layers: int, groups: int, grow: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResBlock(out if i else inp, out, groups) for i in range(layers))
        self.upsamplers = nn.ModuleList([Upsample(out)] if grow else [])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x)
        return x


class Encoder(nn.Module):
    """Images `n 3 h w` to mean and log variance before the quant convolution, `n (2 z) h/f w/f`."""

    def __init__(self, widths: tuple[int, ...], layers: int, groups: int, inp: int, out: int, attend: bool) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(inp, widths[0], 3, padding=1)
        before = (widths[0], *widths)
        self.down_blocks = nn.ModuleList(
            Down(before[i], width, layers, groups, shrink=i + 1 < len(widths)) for i, width in enumerate(widths)
        )
        self.mid_block = Middle(widths[-1], groups, attend)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Latents `n z h w` to images `n 3 (f h) (f w)`."""

    def __init__(self, widths: tuple[int, ...], layers: int, groups: int, inp: int, out: int, attend: bool) -> None:
        super().__init__()
        rising = widths[::-1]
        self.conv_in = nn.Conv2d(inp, rising[0], 3, padding=1)
        self.mid_block = Middle(rising[0], groups, attend)
        before = (rising[0], *rising)
        self.up_blocks = nn.ModuleList(
            Up(before[i], width, layers + 1, groups, grow=i + 1 < len(rising)) for i, width in enumerate(rising)
        )
        self.conv_norm_out = nn.GroupNorm(groups, rising[-1], EPS)
        self.conv_out = nn.Conv2d(rising[-1], out, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class AutoencoderKL(Autoencoder):
    """Pixels in [-1, 1], `b 3 h w` or `b 3 t h w`, to latents and back, frame by frame."""

    def __init__(self, config: KLConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or KLConfig()
        self.factor = 2 ** (len(c.block_out_channels) - 1)
        self.scaling_factor, self.shift_factor = c.scaling_factor, c.shift_factor or 0.0
        sizes = (c.block_out_channels, c.layers_per_block, c.norm_num_groups)
        self.channels, self.latent_channels = c.in_channels, c.latent_channels
        z = c.latent_channels
        self.encoder = Encoder(*sizes, c.in_channels, 2 * z, c.mid_block_add_attention)
        self.decoder = Decoder(*sizes, z, c.out_channels, c.mid_block_add_attention)
        self.quant_conv = nn.Conv2d(2 * z, 2 * z, 1) if c.use_quant_conv else None
        self.post_quant_conv = nn.Conv2d(z, z, 1) if c.use_post_quant_conv else None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Of diffusers' `config.json`. Raises PretrainedError for settings that it does not know."""
        return cls(settings(config, KLConfig, "AutoencoderKL", FIXED, IGNORED))

    def moments(self, x: Tensor) -> Tensor:
        h = self.encoder(x)
        return h if self.quant_conv is None else self.quant_conv(h)

    def pictures(self, z: Tensor) -> Tensor:
        return self.decoder(z if self.post_quant_conv is None else self.post_quant_conv(z))

    @property
    def last_layer(self) -> Tensor:
        return self.decoder.conv_out.weight


def present_name(key: str) -> str:
    """The present name of a parameter in a file of the first releases, whose attention was called otherwise (for
    `pretrained.load(rename=...)`)."""
    for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
        key = key.replace(f".attentions.0.{old}.", f".attentions.0.{new}.")
    return key


FIXED: dict[str, Any] = {
    "act_fn": "silu",
    "down_block_types": tuple(("DownEncoderBlock2D",) * n for n in range(1, 9)),
    "up_block_types": tuple(("UpDecoderBlock2D",) * n for n in range(1, 9)),
    "latents_mean": None,
    "latents_std": None,
}
IGNORED = ("sample_size", "force_upcast")
