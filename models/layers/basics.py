"""Features of numbers, positions, heads and norms: what every network here is made of."""

from typing import TypeVar

import torch
from einops import rearrange
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 if it is: what a number needs before its features are computed."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def fourier_features(x: Tensor, dim: int, low: float = 0.5, high: float = 64.0) -> Tensor:
    """Cosines and sines of `x` (b,) at dim/2 frequencies spaced geometrically in [low, high] rad: (b, dim), in float32
    at least.

    The random features of Tancik et al. 2020 with fixed frequencies. `x` should be of order 1 (noise labels,
    logarithms of rates).
    """
    ramp = torch.linspace(0, 1, dim // 2, dtype=torch.float64, device=x.device)
    angles = x.double()[:, None] * (low * (high / low) ** ramp)
    return torch.cat([angles.cos(), angles.sin()], dim=1).to(torch.promote_types(x.dtype, torch.float32))


def rotary(x: Tensor, positions: Tensor | None = None, base: float = 10_000.0) -> Tensor:
    """Rotary positions (Su et al. 2021, eq. 34) for `x` (..., n, d), d even: a token at position p turns by p * theta.

    `positions` (n,) are 0 to n - 1 unless given, and need not be whole. The product of a rotated query and key depends
    on the difference of their positions only.
    """
    n, d = x.shape[-2:]
    theta = base ** (-torch.arange(0, d, 2, dtype=torch.float64, device=x.device) / d)
    if positions is None:
        positions = torch.arange(n, device=x.device)
    angles = positions.double()[:, None] * theta
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, ...]:
    """`b n (3 heads d)` -> three of `b heads n d`."""
    return rearrange(qkv, "b n (three heads d) -> three b heads n d", three=3, heads=heads).unbind(0)


def heads_apart(x: Tensor, heads: int) -> Tensor:
    """`b n (heads d)` -> `b heads n d`."""
    return rearrange(x, "b n (heads d) -> b heads n d", heads=heads)


def merge_heads(x: Tensor) -> Tensor:
    """`b heads n d` -> `b n (heads d)`."""
    return rearrange(x, "b heads n d -> b n (heads d)")


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm of about 16 channels a group. On `(b t) c h w` its statistics are per frame."""
    groups = max(1, channels // 16)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


def zeroed(layer: Layer) -> Layer:
    """The layer with its weight and bias at zero: a branch that starts as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
