"""The layers of latent diffusion's U-Nets (Rombach et al. 2022), with the parameter names of the published weights.

Pictures are `b c h w`. The noise's embedding and the context may have fewer rows than the pictures: each is then that
of several in a row, such as the frames of a video, `(b t) c h w`.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from models.layers.basics import heads_apart, merge_heads

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""q, k and v, each `b heads n d`, to what q finds: the place of self-attention's rule (`frame_attention`)."""


def sinusoids(x: Tensor, dim: int) -> Tensor:
    """Cosines, then sines of `x` (b,) at dim/2 frequencies falling from 1 to 1/10,000 (exclusive): (b, dim), float32.

    Source: Vaswani et al. 2017, section 3.5, as Ho et al. 2020 use it. Always in float32, digit by digit as the
    published weights were trained: at t = 999 its rounding is seen.
    """
    half = dim // 2
    exponent = -math.log(10_000) * torch.arange(half, dtype=torch.float32, device=x.device) / half
    angles = x.float()[:, None] * exponent.exp()[None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimestepEmbedding(nn.Module):
    """Linear, SiLU, linear: features of numbers (b, inp) to an embedding (b, out)."""

    def __init__(self, inp: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(inp, hidden), nn.Linear(hidden, out or hidden)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(features.to(self.linear_1.weight.dtype))))


class Attention(nn.Module):
    """Multi-head attention of tokens (b, n, channels) to themselves, or to a context (b or fewer, m, context)."""

    def __init__(self, channels: int, heads: int, context: int | None = None) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels do not give {heads} heads")
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context or channels, channels, bias=False)
        self.to_v = nn.Linear(context or channels, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor | None = None, attend: Attend | None = None) -> Tensor:
        seen = x if context is None else context
        tokens = x.reshape(len(seen), -1, x.shape[2])  # rows of one context are queries to the same keys
        q, k, v = (
            heads_apart(layer(y), self.heads)
            for layer, y in ((self.to_q, tokens), (self.to_k, seen), (self.to_v, seen))
        )
        return self.to_out(merge_heads((attend or F.scaled_dot_product_attention)(q, k, v))).reshape(x.shape)


class GEGLU(nn.Module):
    """a * gelu(b) of a linear layer's two halves (Shazeer 2020)."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inp, 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Four times as wide in between. (The identity stands where published networks have dropout.)"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to the context and a feed-forward, each of the normalised tokens and added."""

    def __init__(self, channels: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm1, self.attn1 = nn.LayerNorm(channels), Attention(channels, heads)
        self.norm2, self.attn2 = nn.LayerNorm(channels), Attention(channels, heads, context)
        self.norm3, self.ff = nn.LayerNorm(channels), FeedForward(channels)

    def forward(self, x: Tensor, context: Tensor, attend: Attend | None = None) -> Tensor:
        x = x + self.attn1(self.norm1(x), attend=attend)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer2D(nn.Module):
    """x + a transformer block over the pixels of each picture, between two 1x1 maps: convolutions, or linear layers."""

    def __init__(self, channels: int, heads: int, context: int, groups: int, linear: bool) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, heads, context)])
        self.proj_out = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)
        self.linear = linear

    def forward(self, x: Tensor, context: Tensor, attend: Attend | None = None) -> Tensor:
        y = self.norm(x)
        y = self.proj_in(to_tokens(y)) if self.linear else to_tokens(self.proj_in(y))
        for block in self.transformer_blocks:
            y = block(y, context, attend)
        return x + (to_picture(self.proj_out(y), x) if self.linear else self.proj_out(to_picture(y, x)))


class ResBlock(nn.Module):
    """norm, SiLU, conv, plus the embedding, norm, SiLU, conv; all of it added to the input."""

    def __init__(self, inp: int, out: int, embed: int, groups: int, eps: float) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, inp, eps), nn.Conv2d(inp, out, 3, padding=1)
        self.time_emb_proj = nn.Linear(embed, out)
        self.norm2, self.conv2 = nn.GroupNorm(groups, out, eps), nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inp, out, 1) if inp != out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        shift = self.time_emb_proj(F.silu(embedding))
        shift = shift.repeat_interleave(len(x) // len(shift), 0)[:, :, None, None]
        h = self.conv1(F.silu(self.norm1(x))) + shift
        return self.conv_shortcut(x) + self.conv2(F.silu(self.norm2(h)))


def to_tokens(x: Tensor) -> Tensor:
    """Pixels in a row, as tokens."""
    return rearrange(x, "b c h w -> b (h w) c")


def to_picture(tokens: Tensor, like: Tensor) -> Tensor:
    """The inverse, of the height and width of `like`."""
    h, w = like.shape[2:]
    return rearrange(tokens, "b (h w) c -> b c h w", h=h, w=w)
