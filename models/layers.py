"""Layers that mix frames, and the features that feed conditioning numbers to a network.

Video inside a network is a batch of frames, `(b t) c h w`, with `frames` = t: spatial layers and norms then treat
each frame on its own by construction, and only the layers of this file mix frames.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fourier_features(x: Tensor, dim: int, low: float = 0.5, high: float = 64.0) -> Tensor:
    """Cosines and sines of `x` (b,) at dim/2 frequencies spaced geometrically in [low, high] rad: (b, dim).

    The random features of Tancik et al. 2020 with fixed frequencies. `x` should be of order 1 (noise labels,
    logarithms of rates).
    """
    ramp = torch.linspace(0, 1, dim // 2, dtype=torch.float64, device=x.device)
    angles = x.double()[:, None] * (low * (high / low) ** ramp)
    return torch.cat([angles.cos(), angles.sin()], dim=1).to(x.dtype)


def rotary(x: Tensor, base: float = 10_000.0) -> Tensor:
    """Rotary positions (Su et al. 2021, eq. 34) for `x` (..., n, d), d even: the i-th token turns by i * theta.

    The product of a rotated query and key depends on the difference of their positions only.
    """
    n, d = x.shape[-2:]
    theta = base ** (-torch.arange(0, d, 2, dtype=torch.float64, device=x.device) / d)
    angles = torch.arange(n, dtype=torch.float64, device=x.device)[:, None] * theta
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


class TemporalConv(nn.Module):
    """x + conv over time, `(b t) c h w`, kernel (k, 1, 1) with zero padding; the identity when new.

    The temporal half of a pseudo-3D convolution (Singer et al. 2022, section 3.2.1). Written as a residual: weight
    decay then pulls towards the image model. Its weight has a gradient from the first step on.
    """

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"an even kernel ({kernel}) would shift the frames")
        self.conv = nn.Conv2d(channels, channels, (kernel, 1), padding=(kernel // 2, 0))
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type] - bias=True

    def forward(self, x: Tensor, frames: int) -> Tensor:
        bt, c, h, w = x.shape
        video = x.reshape(bt // frames, frames, c, h * w).transpose(1, 2)  # b c t (h w)
        return x + self.conv(video).transpose(1, 2).reshape(bt, c, h, w)


class TemporalAttention(nn.Module):
    """x + attention of each pixel over its own frames, `(b t) c h w`, rotary positions; the identity when new.

    Both weight and bias of the output projection start at zero; it has a gradient at the first step, the queries,
    keys and values from the second on. Source: Ho et al. 2022 (Video Diffusion Models), section 3.
    """

    def __init__(self, channels: int, head_dim: int = 32) -> None:
        super().__init__()
        self.heads = max(1, channels // head_dim)
        if channels % self.heads or (channels // self.heads) % 2:
            raise ValueError(f"{channels} channels do not give {self.heads} heads of an even size")
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        bt, c, h, w = x.shape
        tokens = self.norm(x).reshape(bt // frames, frames, c, h * w).permute(0, 3, 1, 2)  # b (h w) t c
        q, k, v = split_heads(self.qkv(tokens.flatten(0, 1)), self.heads)  # (b h w) heads t d
        mixed = self.out(merge_heads(F.scaled_dot_product_attention(rotary(q), rotary(k), v)))
        return x + mixed.reshape(-1, h * w, frames, c).permute(0, 2, 3, 1).reshape(bt, c, h, w)


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, ...]:
    """`b n (3 heads d)` -> three of `b heads n d` (or as many as the last axis holds)."""
    b, n, width = qkv.shape
    return qkv.reshape(b, n, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4).unbind(0)


def merge_heads(x: Tensor) -> Tensor:
    """`b heads n d` -> `b n (heads d)`."""
    return x.transpose(1, 2).flatten(2)


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm of about 16 channels a group. On `(b t) c h w` its statistics are per frame."""
    groups = max(1, channels // 16)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)
