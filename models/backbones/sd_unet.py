"""The U-Net of Stable Diffusion 1.5 and 2.1 (Rombach et al. 2022), with the published weights' parameter names.

`pretrained.load(SDUNet, folder)` reads them. Self-attention takes another rule where one is given, which is how an
image model makes video without a new weight (`layers.frame_attention`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.latent_diffusion import Attend, ResBlock, TimestepEmbedding, Transformer2D, sinusoids
from models.layers.u_shape import MidBlock, check_levels, each_level, go_down, go_up, way_down, way_up
from models.pretrained import check_parts, settings

Told = tuple[tuple, tuple]  # what residual blocks and attentions are told beside the picture

DOWN = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}  # whether it has attention
UP = {"CrossAttnUpBlock2D": True, "UpBlock2D": False}


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes, by the format's names and with its defaults; level i has block_out_channels[i] channels.

    `attention_head_dim` is the number of heads, of all levels or of each: the format's name for it is a known mistake.
    """

    in_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    down_block_types: tuple[str, ...] = (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D")
    layers_per_block: int = 2
    attention_head_dim: int | tuple[int, ...] = 8
    cross_attention_dim: int = 1280
    use_linear_projection: bool = False
    norm_num_groups: int = 32
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        widths = self.block_out_channels
        check_levels(widths, self.heads, self.down_block_types, DOWN)
        check_parts("attention_head_dim", "heads", widths, self.heads)
        check_parts("norm_num_groups", "groups", widths, (self.norm_num_groups,) * len(widths))

    @property
    def heads(self) -> tuple[int, ...]:
        """The number of heads at each level."""
        return each_level(self.attention_head_dim, self.block_out_channels)

    @property
    def embed(self) -> int:
        """Channels of the noise's embedding."""
        return 4 * self.block_out_channels[0]


@dataclass(frozen=True)
class SDUNetConfig(EncoderConfig):
    """The encoder's sizes and those of the way up, whose blocks are named from the lowest on."""

    out_channels: int = 4
    up_block_types: tuple[str, ...] = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_levels(self.block_out_channels, self.heads, self.up_block_types, UP)


SD15 = SDUNetConfig(cross_attention_dim=768)
"""Stable Diffusion 1.5's: 859.52 M parameters, 8 heads everywhere, contexts of CLIP ViT-L/14."""
SD21 = SDUNetConfig(cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True)
"""Stable Diffusion 2.1's: 865.91 M parameters, heads of 64 channels, contexts of OpenCLIP ViT-H/14."""

FIXED = {
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "only_cross_attention": (False, (False,) * 4),
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "dropout": 0,
    "act_fn": "silu",
    "transformer_layers_per_block": (1, (1,) * 4),
    "reverse_transformer_layers_per_block": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "num_attention_heads": None,
    "dual_cross_attention": False,
    "class_embed_type": None,
    "addition_embed_type": None,
    "num_class_embeds": None,
    "resnet_time_scale_shift": "default",
    "resnet_skip_time_act": False,
    "resnet_out_scale_factor": 1,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "time_cond_proj_dim": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "attention_type": "default",
    "class_embeddings_concat": False,
    "mid_block_only_cross_attention": (None, False),
    "cross_attention_norm": None,
}
"""Settings of the format that these networks have one value of."""
IGNORED = {
    "sample_size",  # any size will do
    "upcast_attention",  # scaled_dot_product_attention sums in float32 by itself
    # sizes of parts that FIXED leaves out
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
    "addition_embed_type_num_heads",
}


class Encoder(nn.Module):
    """The way down and the middle: what a U-Net and its ControlNet share."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        widths, lowest = config.block_out_channels, len(config.block_out_channels) - 1
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(widths[0], config.embed)
        resnet, attention = partial(_resnet, config), partial(_attention, config)
        attends = [DOWN[kind] for kind in config.down_block_types]
        self.down_blocks = way_down(widths, config.layers_per_block, attends, resnet, attention)
        first, second = (resnet(lowest, widths[-1], widths[-1]) for _ in range(2))
        self.mid_block = MidBlock(first, attention(lowest), second)

    def encode(self, x: Tensor, told: Told) -> tuple[list[Tensor], Tensor]:
        """`x` as `conv_in` made it and every layer's output on the way down, and what the middle makes of the last."""
        skips = go_down(self.down_blocks, x, *told)
        return skips, self.mid_block(skips[-1], *told)

    def told(self, timestep: Tensor, context: Tensor, attend: Attend | None) -> Told:
        """What residual blocks and attentions are told beside the picture."""
        embedding = self.time_embedding(sinusoids(timestep, self.conv_in.out_channels))
        return (embedding,), (context.to(self.conv_in.weight.dtype), attend)


class SDUNet(Encoder):
    """F(z, timestep, context) for pictures `b c h w` of any size.

    Several pictures in a row, such as a video's frames, may share a timestep and a context.
    """

    def __init__(self, config: SDUNetConfig = SD15) -> None:
        super().__init__(config)
        self.config, widths = config, config.block_out_channels
        attends = [UP[kind] for kind in reversed(config.up_block_types)]
        makers = partial(_resnet, config), partial(_attention, config)
        self.up_blocks = way_up(widths, config.layers_per_block, attends, *makers)
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[0], config.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A network of `config.json`'s settings. Raises PretrainedError for those that are not supported."""
        return cls(settings(config, SDUNetConfig, "UNet2DConditionModel", FIXED, IGNORED))

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        attend: Attend | None = None,
        down_residuals: Sequence[Tensor] | None = None,
        mid_residual: Tensor | None = None,
    ) -> Tensor:
        """The network's output F, (b, out_channels, h, w), of x's precision; inside, the weights' own is used.

        `x` (b, in_channels, h, w); `timestep` (b or fewer,), in 0 to 999 where it is a DDPM's; `context` (b or fewer,
        n, cross_attention_dim), with fewer dividing b. `attend` takes the place of every self-attention's rule.
        `down_residuals` and `mid_residual` are what a ControlNet adds to the skips and to the middle.
        Raises ValueError where the residuals are not one a skip.
        """
        told = self.told(timestep, context, attend)
        skips, y = self.encode(self.conv_in(x.to(self.conv_in.weight.dtype)), told)
        if down_residuals is not None:
            if len(down_residuals) != len(skips):
                raise ValueError(f"{len(down_residuals)} residuals for {len(skips)} skips")
            skips = [skip + residual.to(skip) for skip, residual in zip(skips, down_residuals, strict=True)]
        if mid_residual is not None:
            y = y + mid_residual.to(y)
        y = go_up(self.up_blocks, y, skips, *told)
        return self.conv_out(F.silu(self.conv_norm_out(y))).to(x)


def _resnet(config: EncoderConfig, _level: int, inp: int, out: int) -> ResBlock:
    return ResBlock(inp, out, config.embed, config.norm_num_groups, config.norm_eps)


def _attention(config: EncoderConfig, level: int) -> Transformer2D:
    sizes = config.block_out_channels[level], config.heads[level], config.cross_attention_dim, config.norm_num_groups
    return Transformer2D(*sizes, linear=config.use_linear_projection)
