"""Spacetime patches: videos and images of any size as tokens, several of them in one sequence.

Source: Brooks et al. 2024 (Sora), "turning visual data into patches"; packing as in Dehghani et al. 2023 (NaViT).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from models.layers.basics import rotary

Patch = tuple[int, int, int]  # frames, rows and columns of one
Grid = tuple[int, int, int]  # patches over time, height and width


def grid_of(shape: Sequence[int], patch: Patch) -> Grid:
    """How many patches a video (.., t, h, w) has along each axis. Raises ValueError where they do not fit."""
    if any(size % p for size, p in zip(shape[-3:], patch, strict=True)):
        raise ValueError(f"a video of {tuple(shape[-3:])} (t, h, w) has no whole patches of {patch}")
    t, h, w = (size // p for size, p in zip(shape[-3:], patch, strict=True))
    return t, h, w


def patchify(video: Tensor, patch: Patch) -> Tensor:
    """`b c (t pt) (h ph) (w pw)` -> `b (t h w) (c pt ph pw)`; an image is a video of one frame.

    Raises ValueError where patches do not fit.
    """
    (t, h, w), (pt, ph, pw) = grid_of(video.shape, patch), patch
    apart = "b c (t pt) (h ph) (w pw) -> b (t h w) (c pt ph pw)"
    return rearrange(video, apart, t=t, h=h, w=w, pt=pt, ph=ph, pw=pw)


def unpatchify(tokens: Tensor, grid: Grid, patch: Patch) -> Tensor:
    """The inverse of `patchify`: `b (t h w) (c pt ph pw)` -> `b c (t pt) (h ph) (w pw)`."""
    (t, h, w), (pt, ph, pw) = grid, patch
    together = "b (t h w) (c pt ph pw) -> b c (t pt) (h ph) (w pw)"
    return rearrange(tokens, together, t=t, h=h, w=w, pt=pt, ph=ph, pw=pw)


def positions(grid: Grid, device: torch.device | str | None = None) -> Tensor:
    """Where each token of a grid lies, (t h w, 3): its place in time, height and width, in patches."""
    axes = [torch.arange(size, device=device) for size in grid]
    return rearrange(list(torch.meshgrid(*axes, indexing="ij")), "three t h w -> (t h w) three")


def rotary_3d(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """Rotary positions in three axes for `x` (..., n, d) at `positions` (n, 3): a part of d for each axis, time having
    what is left over. The product of a query and a key depends on (dt, dh, dw) only. Raises ValueError for d < 6."""
    d = x.shape[-1]
    side = d // 6 * 2
    if side < 2 or d % 2:
        raise ValueError(f"{d} channels of a head: three axes need an even number of 6 and more")
    parts = x.split([d - 2 * side, side, side], dim=-1)
    return torch.cat([rotary(part, positions[:, i], base) for i, part in enumerate(parts)], dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | BlockMask | None) -> Tensor:
    """Attention, `b heads n d` each, among the tokens of which the mask says that they see each other."""
    if isinstance(mask, BlockMask):
        fused = flex_attention if torch.compiler.is_compiling() or not q.is_cuda else _fused()
        return fused(q, k, v, block_mask=mask)  # type: ignore[return-value]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@cache
def _fused() -> Callable[..., Tensor]:
    """Flex attention as one kernel; asked for when it is needed, since the compiler takes long to import."""
    return torch.compile(flex_attention)  # type: ignore[return-value]


@dataclass(frozen=True)
class Packed:
    """Several samples' tokens in one sequence.

    `tokens` (1, n, c); `sample` (n,), the number of each token's sample, -1 for padding; `positions` (n, 3), each in
    its own sample; `grids`, one a sample.
    """

    tokens: Tensor
    sample: Tensor
    positions: Tensor
    grids: tuple[Grid, ...]

    @property
    def mask(self) -> Tensor:
        """(n, n), bool: whether two tokens are of one sample. (Padding sees padding: a row must see something.)"""
        return self.sample[:, None] == self.sample[None]

    @property
    def block_mask(self) -> BlockMask:
        """The same for flex attention, which leaves out the blocks of tokens of which no two are of one sample."""
        n = len(self.sample)
        return create_block_mask(
            lambda b, head, q, k: self.sample[q] == self.sample[k], None, None, n, n, device=self.sample.device
        )

    def each(self, per_sample: Tensor) -> Tensor:
        """(samples, ...) -> (1, n, ...): what belongs to a sample, such as its modulation, for each of its tokens."""
        return per_sample[self.sample.clamp(min=0)][None]

    def unpack(self, tokens: Tensor, patch: Patch) -> list[Tensor]:
        """(1, n, c pt ph pw), such as a network's output, as the samples' videos (c, t, h, w)."""
        lengths = [t * h * w for t, h, w in self.grids]
        parts = tokens[0, : sum(lengths)].split(lengths)
        return [unpatchify(x[None], grid, patch)[0] for x, grid in zip(parts, self.grids, strict=True)]


def pack(videos: Sequence[Tensor], patch: Patch, length: int | None = None) -> Packed:
    """Videos and images (c, t, h, w) of any sizes in one sequence, padded with zeros to `length` tokens where given.

    Raises ValueError where patches do not fit, or the tokens do not fit `length`.
    """
    grids = tuple(grid_of(video.shape, patch) for video in videos)
    tokens = torch.cat([patchify(video[None], patch)[0] for video in videos])
    device = tokens.device
    lengths = torch.tensor([t * h * w for t, h, w in grids], device=device)
    sample = torch.arange(len(videos), device=device).repeat_interleave(lengths)
    places = torch.cat([positions(grid, device) for grid in grids])
    spare = 0 if length is None else length - len(tokens)
    if spare < 0:
        raise ValueError(f"{len(tokens)} tokens do not fit a sequence of {length}")
    return Packed(
        F.pad(tokens, (0, 0, 0, spare))[None],
        F.pad(sample, (0, spare), value=-1),
        F.pad(places, (0, 0, 0, spare)),
        grids,
    )
