"""Stable Video Diffusion's spatio-temporal U-Net (Blattmann et al. 2023), with the published weights' parameter names.

Stable Diffusion 2.1's U-Net with a temporal layer after every residual block and every transformer block, mixed in by
a learned share (Blattmann et al. 2023, Video LDM, section 3.1). `pretrained.load(SVDUNet, folder)` reads the weights.

Inside, video is `(b t) c h w`. Spatial norms are per frame. The group norms of the temporal residual blocks are over
all frames of a video, as in the published networks: per frame, the weights would compute something else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from models.layers.latent_diffusion import (
    Attention,
    FeedForward,
    ResBlock,
    TimestepEmbedding,
    TransformerBlock,
    sinusoids,
    to_picture,
    to_tokens,
)
from models.layers.u_shape import MidBlock, check_levels, each_level, go_down, go_up, way_down, way_up
from models.pretrained import check_parts, settings

DOWN = {"CrossAttnDownBlockSpatioTemporal": True, "DownBlockSpatioTemporal": False}  # whether it has attention
UP = {"CrossAttnUpBlockSpatioTemporal": True, "UpBlockSpatioTemporal": False}
GROUPS = 32


@dataclass(frozen=True)
class SVDUNetConfig:
    """Sizes, by the format's names and with its defaults, which are the published image-to-video network's.

    `in_channels` are out_channels and the conditioning picture's. `projection_class_embeddings_input_dim` is
    `addition_time_embed_dim` for each number the network is told (`numbers`). `num_frames` it was trained on.
    """

    in_channels: int = 8
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    down_block_types: tuple[str, ...] = (*("CrossAttnDownBlockSpatioTemporal",) * 3, "DownBlockSpatioTemporal")
    up_block_types: tuple[str, ...] = ("UpBlockSpatioTemporal", *("CrossAttnUpBlockSpatioTemporal",) * 3)
    layers_per_block: int = 2
    num_attention_heads: int | tuple[int, ...] = (5, 10, 20, 20)
    cross_attention_dim: int = 1024
    addition_time_embed_dim: int = 256
    projection_class_embeddings_input_dim: int = 768
    num_frames: int = 25

    def __post_init__(self) -> None:
        check_levels(self.block_out_channels, self.heads, self.down_block_types, DOWN)
        check_levels(self.block_out_channels, self.heads, self.up_block_types, UP)
        check_parts("num_attention_heads", "heads", self.block_out_channels, self.heads)
        check_parts("block_out_channels", "groups", self.block_out_channels, (GROUPS,) * len(self.heads))
        if self.projection_class_embeddings_input_dim % self.addition_time_embed_dim:
            raise ValueError(
                f"projection_class_embeddings_input_dim = {self.projection_class_embeddings_input_dim} is no multiple "
                f"of addition_time_embed_dim = {self.addition_time_embed_dim}"
            )

    @property
    def heads(self) -> tuple[int, ...]:
        """The number of heads at each level."""
        return each_level(self.num_attention_heads, self.block_out_channels)

    @property
    def embed(self) -> int:
        """Channels of the noise's embedding."""
        return 4 * self.block_out_channels[0]

    @property
    def numbers(self) -> int:
        """How many numbers the network is told beside the noise."""
        return self.projection_class_embeddings_input_dim // self.addition_time_embed_dim


FIXED = {"transformer_layers_per_block": (1, (1,) * 4), "dropout": 0}
IGNORED = {"sample_size"}  # any size will do


class TimeMixer(nn.Module):
    """sigmoid(mix_factor) of the spatial layer's output and the rest of the temporal one's.

    `layers.temporal.Mix(kept="sigmoid")` under the parameter's published name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([0.5]))

    def forward(self, image: Tensor, video: Tensor) -> Tensor:
        alpha = self.mix_factor.sigmoid().to(image)  # a float32 factor would promote the sum under autocast
        return alpha * image + (1 - alpha) * video


class TemporalResBlock(nn.Module):
    """The spatial residual block with convolutions over time, (3, 1, 1), on `b c t h w`."""

    def __init__(self, channels: int, embed: int, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels, eps)
        self.conv1 = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
        self.time_emb_proj = nn.Linear(embed, channels)
        self.norm2 = nn.GroupNorm(GROUPS, channels, eps)
        self.conv2 = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        shift = self.time_emb_proj(F.silu(embedding))[:, :, None, None, None]
        h = self.conv1(F.silu(self.norm1(x))) + shift
        return x + self.conv2(F.silu(self.norm2(h)))


class SpatioTemporalResBlock(nn.Module):
    """A residual block on each frame, then one over time, mixed. `(b t) c h w`, with `embedding` (b, embed)."""

    def __init__(self, inp: int, out: int, embed: int, eps: float) -> None:
        super().__init__()
        self.spatial_res_block = ResBlock(inp, out, embed, GROUPS, eps)
        self.temporal_res_block = TemporalResBlock(out, embed, eps)
        self.time_mixer = TimeMixer()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        image = rearrange(self.spatial_res_block(x, embedding), "(b t) c h w -> b c t h w", b=len(embedding))
        video = self.temporal_res_block(image, embedding)
        return rearrange(self.time_mixer(image, video), "b c t h w -> (b t) c h w")


class TemporalTransformerBlock(nn.Module):
    """A feed-forward, then the spatial block's layers, over each pixel's frames: `(b t) n c`."""

    def __init__(self, channels: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm_in, self.ff_in = nn.LayerNorm(channels), FeedForward(channels)
        self.norm1, self.attn1 = nn.LayerNorm(channels), Attention(channels, heads)
        self.norm2, self.attn2 = nn.LayerNorm(channels), Attention(channels, heads, context)
        self.norm3, self.ff = nn.LayerNorm(channels), FeedForward(channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        y = rearrange(x, "(b t) n c -> (b n) t c", b=len(context))
        y = y + self.ff_in(self.norm_in(y))
        y = y + self.attn1(self.norm1(y))
        y = y + self.attn2(self.norm2(y), context)
        y = y + self.ff(self.norm3(y))
        return rearrange(y, "(b n) t c -> (b t) n c", b=len(context))


class SpatioTemporalTransformer(nn.Module):
    """x + a transformer block over each frame's pixels and one over each pixel's frames, mixed. `(b t) c h w`.

    Frames know their place by an embedding of their number, added before the temporal block. `context` (b, n, dim).
    """

    def __init__(self, channels: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm, self.proj_in = nn.GroupNorm(GROUPS, channels, eps=1e-6), nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, heads, context)])
        self.temporal_transformer_blocks = nn.ModuleList([TemporalTransformerBlock(channels, heads, context)])
        self.time_pos_embed = TimestepEmbedding(channels, 4 * channels, channels)
        self.time_mixer, self.proj_out = TimeMixer(), nn.Linear(channels, channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        frames = len(x) // len(context)
        places = self.time_pos_embed(sinusoids(torch.arange(frames, device=x.device), x.shape[1]))
        y = self.proj_in(to_tokens(self.norm(x)))
        for spatial, temporal in zip(self.transformer_blocks, self.temporal_transformer_blocks, strict=True):
            y = spatial(y, context)
            placed = y + repeat(places, "t c -> (b t) 1 c", b=len(context))
            y = self.time_mixer(y, temporal(placed, context))
        return x + to_picture(self.proj_out(y), x)


class SVDUNet(nn.Module):
    """F(z, noise label, context, numbers, latents) for video `b c t h w` of any length and size."""

    def __init__(self, config: SVDUNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SVDUNetConfig()
        widths, layers = config.block_out_channels, config.layers_per_block
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(widths[0], config.embed)
        self.add_embedding = TimestepEmbedding(config.projection_class_embeddings_input_dim, config.embed)
        attends = [DOWN[kind] for kind in config.down_block_types]
        attends_up = [UP[kind] for kind in reversed(config.up_block_types)]

        def attention(level: int) -> SpatioTemporalTransformer:
            return SpatioTemporalTransformer(widths[level], config.heads[level], config.cross_attention_dim)

        # the published networks' epsilons: 1e-5 in the middle and on the way down where nothing attends, else 1e-6
        self.down_blocks = way_down(
            widths,
            layers,
            attends,
            lambda level, inp, out: SpatioTemporalResBlock(inp, out, config.embed, 1e-6 if attends[level] else 1e-5),
            attention,
        )
        first, second = (SpatioTemporalResBlock(widths[-1], widths[-1], config.embed, 1e-5) for _ in range(2))
        self.mid_block = MidBlock(first, attention(len(widths) - 1), second)
        self.up_blocks = way_up(
            widths,
            layers,
            attends_up,
            lambda level, inp, out: SpatioTemporalResBlock(inp, out, config.embed, 1e-6),
            attention,
        )
        self.conv_norm_out = nn.GroupNorm(GROUPS, widths[0], eps=1e-5)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A network of `config.json`'s settings. Raises PretrainedError for those that are not supported."""
        return cls(settings(config, SVDUNetConfig, "UNetSpatioTemporalConditionModel", FIXED, IGNORED))

    def forward(
        self, z: Tensor, noise: Tensor, context: Tensor, numbers: Tensor, latents: Tensor | None = None
    ) -> Tensor:
        """The network's output F, of z's shape and precision; inside, the weights' own is used.

        `z` (b, out_channels, t, h, w); `noise` (b,), 0.25 ln sigma; `context` (b, n, cross_attention_dim), of the
        conditioning picture or of a text; `numbers` (b, k), the added time ids: fps, motion bucket and noise
        augmentation where k is 3; `latents` (b, in_channels - out_channels, t or 1, h, w), of the conditioning
        picture. Raises ValueError where numbers or channels are not the network's, or contexts not as many as videos.
        """
        b, _, frames, _, _ = z.shape
        if numbers.shape != (b, self.config.numbers):
            raise ValueError(f"numbers {tuple(numbers.shape)}: the network takes ({b}, {self.config.numbers})")
        if len(context) != b:
            raise ValueError(f"{len(context)} contexts for a batch of {b}")
        x = z if latents is None else torch.cat([z, latents.expand(-1, -1, frames, -1, -1)], dim=1)
        if x.shape[1] != self.config.in_channels:
            raise ValueError(f"{x.shape[1]} channels with the latents: the network takes {self.config.in_channels}")
        kind = self.conv_in.weight.dtype
        told = (self._embedding(noise, numbers),), (context.to(kind),)
        skips = go_down(self.down_blocks, self.conv_in(rearrange(x, "b c t h w -> (b t) c h w").to(kind)), *told)
        y = self.mid_block(skips[-1], *told)
        y = go_up(self.up_blocks, y, skips, *told)
        y = self.conv_out(F.silu(self.conv_norm_out(y)))
        return rearrange(y, "(b t) c h w -> b c t h w", b=b).to(z)

    def temporal_parameters(self) -> dict[str, nn.Parameter]:
        """By name, what Stable Diffusion does not have: temporal layers, mixing, and the added numbers' embedding."""
        added = ("temporal_", "time_mixer", "time_pos_embed", "add_embedding")
        return {name: p for name, p in self.named_parameters() if any(part in name for part in added)}

    def _embedding(self, noise: Tensor, numbers: Tensor) -> Tensor:
        told = sinusoids(numbers.flatten(), self.config.addition_time_embed_dim)
        told = rearrange(told, "(b k) d -> b (k d)", b=len(numbers))
        embedding = self.time_embedding(sinusoids(noise, self.config.block_out_channels[0]))
        return embedding + self.add_embedding(told)
