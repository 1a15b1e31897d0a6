"""MultiDiffusion along time (Bar-Tal et al. 2023 and 2024): a network of short clips denoises a long video.

At every step each of a set of overlapping windows is denoised by itself, and where windows overlap the estimates are
averaged, which is the least-squares agreement between them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def windows(frames: int, length: int, stride: int) -> list[slice]:
    """Windows of `length`, `stride` apart, that cover every one of `frames` frames: the last ends with the video. Of a
    video no longer than a window there is one. Raises ValueError where frames between windows would be left out."""
    if not 0 < stride <= length:
        raise ValueError(f"windows of {length} frames that start {stride} apart leave frames out")
    last = max(frames - length, 0)
    starts = [*range(0, last, stride), last]
    return [slice(start, min(start + length, frames)) for start in starts]


def triangle(length: int) -> Tensor:
    """(length,) weights that are largest in the middle, where a window's frames see the most, and never 0."""
    at = torch.arange(1, length + 1, dtype=torch.float64)
    return torch.minimum(at, length + 1 - at)


@dataclass(frozen=True)
class MultiDiffusion:
    """`denoise(z, t, window)` estimates x of the frames in `window`, a slice, from their z; this, that of all frames.

    `weights` (length,), positive, say how much each frame of a window counts, all the same without. z's estimates are
    averaged, and with them every sampler's step, which is affine in x at a given z.
    """

    denoise: Callable[[Tensor, Tensor, slice], Tensor]
    length: int
    stride: int
    weights: Tensor | None = None

    def __call__(self, z: Tensor, t: Tensor) -> Tensor:
        """Estimate of x, of z's shape (b, c, t, h, w), at the scalar time `t`."""
        total, weight = torch.zeros_like(z), z.new_zeros(z.shape[2], 1, 1)
        weights = torch.ones(self.length) if self.weights is None else self.weights
        for window in windows(z.shape[2], self.length, self.stride):
            share = weights.to(z)[: window.stop - window.start, None, None]
            total[:, :, window] += share * self.denoise(z[:, :, window], t, window)
            weight[window] += share
        return total / weight
