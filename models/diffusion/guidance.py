"""Classifier-free guidance (Ho and Salimans 2022)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Guided:
    """x = x_uncond + scale (x_cond - x_uncond), both halves in one network call; made for a sampler.

    Guiding x is guiding eps or v: at one noise level each is affine in the others, and the weights sum to 1. `scale`
    is a number, or a tensor that broadcasts against z, e.g. (t, 1, 1) for a scale that grows along the frames. At
    scale 1 the unconditional half is left out. `cond` and `uncond` hold the same keys, tensors with batch first.
    """

    denoise: Callable[..., Tensor]
    cond: Mapping[str, Any]
    uncond: Mapping[str, Any]
    scale: float | Tensor = 1.0

    def __call__(self, z: Tensor, t: Tensor) -> Tensor:
        """Guided estimate of x, of z's shape, at the scalar time `t`."""
        if not isinstance(self.scale, Tensor) and self.scale == 1:
            return self.denoise(z, t, **self.cond)
        if self.cond.keys() != self.uncond.keys():
            raise ValueError(f"guidance needs the same keys twice, not {[*self.cond]} and {[*self.uncond]}")
        both = {key: torch.cat([self.cond[key], self.uncond[key]]) for key in self.cond}
        x_cond, x_uncond = self.denoise(torch.cat([z, z]), t, **both).chunk(2)
        scale = self.scale.to(z) if isinstance(self.scale, Tensor) else self.scale
        return x_uncond + scale * (x_cond - x_uncond)
