"""Samplers: one call from noise to data. `denoise(z, t)` estimates x at time t of the given schedule."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from models.diffusion.schedules import Schedule

Denoise = Callable[[Tensor, Tensor], Tensor]
OnStep = Callable[[int, int], None]  # (steps done, steps in all)


class Sampler(Protocol):
    """Integrates the probability flow from `times[0]` to `times[-1]`."""

    def __call__(
        self, denoise: Denoise, z: Tensor, schedule: Schedule, times: Tensor, on_step: OnStep | None = None
    ) -> Tensor:
        """From `z` (b, ...), drawn at `times[0]`, to the last time, which may be the clean end; z's shape."""
        ...


def prior(noise: Tensor, schedule: Schedule, times: Tensor) -> Tensor:
    """Scale unit `noise` to the start of a path, times[0], whose signal is negligible."""
    return noise * schedule.alpha_sigma(times[0])[1].to(noise)


def ddim_step(z: Tensor, x_hat: Tensor, schedule: Schedule, t: Tensor, s: Tensor) -> Tensor:
    """From time `t` to time `s` along the estimate `x_hat`: alpha_s x + sigma_s eps (Song et al. 2021, eq. 12).

    `sigma(t)` must not be 0. In EDM's coordinates (alpha = 1) this is the Euler step.
    """
    alpha_t, sigma_t = (level.to(z) for level in schedule.alpha_sigma(t))
    alpha_s, sigma_s = (level.to(z) for level in schedule.alpha_sigma(s))
    return alpha_s * x_hat + (sigma_s / sigma_t) * (z - alpha_t * x_hat)


@dataclass(frozen=True)
class DDIM:
    """First order, deterministic: one network call a step (Song et al. 2021, eta = 0)."""

    def __call__(
        self, denoise: Denoise, z: Tensor, schedule: Schedule, times: Tensor, on_step: OnStep | None = None
    ) -> Tensor:
        steps = len(times) - 1
        for i, (t, s) in enumerate(pairwise(times)):
            z = ddim_step(z, denoise(z, t), schedule, t, s)
            if on_step:
                on_step(i + 1, steps)
        return z


@dataclass(frozen=True)
class Heun:
    """Second order, deterministic: two network calls a step, one for the last (Karras et al. 2022, algorithm 1).

    The slope is dz/dt = alpha' x + sigma' eps of whatever schedule is given; for EDM's that is (z - x) / sigma.
    """

    def __call__(
        self, denoise: Denoise, z: Tensor, schedule: Schedule, times: Tensor, on_step: OnStep | None = None
    ) -> Tensor:
        steps = len(times) - 1
        for i, (t, s) in enumerate(pairwise(times)):
            x_hat = denoise(z, t)
            if schedule.alpha_sigma(s)[1] == 0:  # no slope at the clean end: the first-order step lands on x_hat
                z = ddim_step(z, x_hat, schedule, t, s)
            else:
                h = (s - t).to(z)
                slope = _slope(z, x_hat, schedule, t)
                ahead = z + h * slope
                z = z + h * (slope + _slope(ahead, denoise(ahead, s), schedule, s)) / 2
            if on_step:
                on_step(i + 1, steps)
        return z


def _slope(z: Tensor, x_hat: Tensor, schedule: Schedule, t: Tensor) -> Tensor:
    alpha, sigma = (level.to(z) for level in schedule.alpha_sigma(t))
    d_alpha, d_sigma = (level.to(z) for level in schedule.derivatives(t))
    return d_alpha * x_hat + d_sigma * (z - alpha * x_hat) / sigma


@torch.no_grad()
def sample(
    denoise: Denoise, noise: Tensor, schedule: Schedule, steps: int, sampler: Sampler, on_step: OnStep | None = None
) -> Tensor:
    """Turn unit `noise` (b, c, [t,] h, w) into data in `steps` steps."""
    times = schedule.times(steps, noise.device)
    return sampler(denoise, prior(noise, schedule, times), schedule, times, on_step)
