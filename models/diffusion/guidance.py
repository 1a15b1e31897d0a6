"""Guidance: classifier-free (Ho and Salimans 2022), and by the reconstruction of what is known (Ho et al. 2022)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.diffusion.schedules import Schedule


def same_rows(rows: int, told: Mapping[str, Any]) -> None:
    """Raises ValueError where a tensor of `told` has not a row for each of `rows` samples: one row for several would
    silently be all of theirs, and several rows for one a batch of their own."""
    for name, value in told.items():
        if isinstance(value, Tensor) and value.shape[:1] != (rows,):
            raise ValueError(f"a batch of {rows} needs {rows} rows of {name}, not shape {tuple(value.shape)}")


@dataclass(frozen=True)
class Guided:
    """x = x_uncond + scale (x_cond - x_uncond), both halves in one network call; made for a sampler.

    Guiding x is guiding eps or v: at one noise level each is affine in the others, and the weights sum to 1. `scale`
    is a number, or a tensor that broadcasts against z, e.g. (t, 1, 1) for a scale that grows along the frames
    (`frame_scale`). At scale 1 the unconditional half is left out. `cond` and `uncond` hold the same keys, tensors with
    batch first.

    `interval` limits guidance to low < sigma / alpha <= high of `schedule`; the rest is at scale 1 (Kynkäänniemi et al.
    2024). `rescale` pulls the guided x's standard deviation back to the conditional one's by that share: none at
    0, the paper takes 0.7 (Lin et al. 2023, section 3.4; here on x).
    """

    denoise: Callable[..., Tensor]
    cond: Mapping[str, Any]
    uncond: Mapping[str, Any]
    scale: float | Tensor = 1.0
    interval: tuple[float, float] | None = None
    schedule: Schedule | None = None
    rescale: float = 0.0

    def __call__(self, z: Tensor, t: Tensor) -> Tensor:
        """Guided estimate of x, of z's shape, at the scalar time `t`. Raises ValueError where what is told has not a
        row for each of z's, or `cond` and `uncond` not the same keys."""
        same_rows(len(z), self.cond)
        if (not isinstance(self.scale, Tensor) and self.scale == 1) or not self._within(t):
            return self.denoise(z, t, **self.cond)
        if self.cond.keys() != self.uncond.keys():
            raise ValueError(f"guidance needs the same keys twice, not {[*self.cond]} and {[*self.uncond]}")
        same_rows(len(z), self.uncond)
        both = {key: torch.cat([self.cond[key], self.uncond[key]]) for key in self.cond}
        x_cond, x_uncond = self.denoise(torch.cat([z, z]), t, **both).chunk(2)
        scale = self.scale.to(z) if isinstance(self.scale, Tensor) else self.scale
        return rescaled(x_uncond + scale * (x_cond - x_uncond), x_cond, self.rescale)

    def _within(self, t: Tensor) -> bool:
        if self.interval is None:
            return True
        if self.schedule is None:
            raise ValueError("a guidance interval is in sigma / alpha: it needs the schedule")
        alpha, sigma = self.schedule.alpha_sigma(t)
        low, high = self.interval
        return bool(low < sigma / alpha <= high)


def rescaled(guided: Tensor, cond: Tensor, share: float) -> Tensor:
    """`guided` (b, ...) with its standard deviation moved by `share` to `cond`'s (Lin et al. 2023, section 3.4)."""
    if share == 0:
        return guided
    axes = tuple(range(1, guided.ndim))
    ratio = cond.std(axes, keepdim=True) / guided.std(axes, keepdim=True)
    return (share * ratio + 1 - share) * guided


def frame_scale(frames: int, first: float, last: float) -> Tensor:
    """(t, 1, 1): a guidance scale for each frame, from `first` to `last` in equal steps (Blattmann et al. 2023)."""
    return torch.linspace(first, last, frames)[:, None, None]


@dataclass(frozen=True)
class Reconstruction:
    """Draws x given a part or a picture of it, with a model that was trained without: reconstruction guidance.

        x~ = x_hat(z) - (weight alpha / 2) grad_z ||measure(x_hat(z)) - observed||^2     (Ho et al. 2022, eq. 7)

    which stands for E[x | z, observed] where q(observed | z) is Gaussian about measure(x_hat) with variance
    sigma^2 / alpha^2 and weight = 1. `observed` is what `measure` makes of x, any shape with batch first. `known`, a
    boolean tensor that broadcasts against z, marks what is given as it is: there `values`, of z's shape, take the
    estimate's place, so that any sampler moves those elements of z as noise on the given ones (the replacement method).

    `given_frames` extends a video or fills frames in between; `given_downsampled` is spatial super-resolution.
    """

    denoise: Callable[[Tensor, Tensor], Tensor]
    schedule: Schedule
    measure: Callable[[Tensor], Tensor]
    observed: Tensor
    weight: float = 1.0
    known: Tensor | None = None
    values: Tensor | None = None

    def __call__(self, z: Tensor, t: Tensor) -> Tensor:
        """Guided estimate of x, of z's shape, at the scalar time `t`. Differentiates the network, also in no_grad.

        Raises ValueError where what is measured of x has not the shape of `observed`, RuntimeError in inference_mode,
        which forbids that."""
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                "reconstruction guidance differentiates the network: sample in no_grad, not inference_mode"
            )
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            x_hat = self.denoise(z, t)
            measured = self.measure(x_hat)
            if measured.shape != self.observed.shape:
                raise ValueError(
                    f"a measure of shape {tuple(measured.shape)} cannot be {tuple(self.observed.shape)}, as observed"
                )
            error = (measured - self.observed.to(z)).square().sum()
            slope = torch.autograd.grad(error, z)[0]
        guided = x_hat.detach() - self.weight / 2 * self.schedule.alpha_sigma(t)[0].to(z) * slope
        if self.known is None or self.values is None:
            return guided
        return torch.where(self.known.to(z.device), self.values.to(z), guided)


def given_frames(
    denoise: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, x: Tensor, given: Tensor, weight: float = 1.0
) -> Reconstruction:
    """Guidance by the frames of `x` (b, c, t, h, w) that the boolean `given` (t,) marks; the others' pixels are unread.

    The first ones given is extension in time, every n-th one interpolation (Ho et al. 2022, section 3.1).
    Raises ValueError where `given` has not an entry for each frame.
    """
    if given.shape != x.shape[2:3]:
        raise ValueError(f"{tuple(given.shape)} entries say which of {x.shape[2]} frames are given")
    known = given[:, None, None]
    return Reconstruction(
        denoise, schedule, lambda y: y[:, :, given.to(y.device)], x[:, :, given], weight, known, x.where(known, 0)
    )


def given_downsampled(
    denoise: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, small: Tensor, weight: float = 1.0
) -> Reconstruction:
    """Guidance by a smaller version (b, c, [t,] h, w) of what is drawn: spatial super-resolution.

    The measure is bilinear interpolation with antialiasing, frame by frame (Ho et al. 2022, section 3.1). It raises
    ValueError where `small` is the larger one.
    """

    def measure(x: Tensor) -> Tensor:
        if x.shape[-2] < small.shape[-2] or x.shape[-1] < small.shape[-1]:
            raise ValueError(f"pictures of {tuple(x.shape[-2:])} have no smaller version of {tuple(small.shape[-2:])}")
        return downsampled(x, small.shape[-2], small.shape[-1])

    return Reconstruction(denoise, schedule, measure, small, weight)


def downsampled(x: Tensor, height: int, width: int) -> Tensor:
    """(b, c, [t,] h, w) to (b, c, [t,] height, width), bilinear with antialiasing; differentiable.

    Half precision goes by way of float32: on the CPU torch has no antialiasing in bfloat16."""
    frames = x.reshape(-1, 1, *x.shape[-2:])
    frames = frames if x.dtype == torch.float64 else frames.float()
    small = F.interpolate(frames, (height, width), mode="bilinear", antialias=True)
    return small.reshape(*x.shape[:-2], height, width).to(x.dtype)
