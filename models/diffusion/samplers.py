"""Samplers: one call from noise to data. `denoise(z, t)` estimates x at time t of the given schedule."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from models.diffusion.schedules import Schedule, expand_to

Denoise = Callable[[Tensor, Tensor], Tensor]
OnStep = Callable[[int, int], None]  # (steps done, steps in all)


class Sampler(Protocol):
    """Goes from `times[0]` to `times[-1]`; where it is deterministic, along the probability flow."""

    def __call__(
        self, denoise: Denoise, z: Tensor, schedule: Schedule, times: Tensor, on_step: OnStep | None = None
    ) -> Tensor:
        """From `z` (b, ...), drawn at `times[0]`, to the last time, which may be the clean end; z's shape."""
        ...


def prior(noise: Tensor, schedule: Schedule, times: Tensor) -> Tensor:
    """Scale unit `noise` to the start of a path, times[0], whose signal is negligible."""
    return noise * schedule.alpha_sigma(times[0])[1].to(noise)


def ddim_step(z: Tensor, x_hat: Tensor, schedule: Schedule, t: Tensor, s: Tensor) -> Tensor:
    """From time `t` to time `s`, scalar or (b,), along the estimate `x_hat`: alpha_s x + sigma_s eps.

    `sigma(t)` must not be 0. In EDM's coordinates (alpha = 1) this is the Euler step. Source: Song et al. 2021, eq. 12.
    """
    alpha_t, sigma_t = _levels(schedule, t, z)
    alpha_s, sigma_s = _levels(schedule, s, z)
    return alpha_s * x_hat + (sigma_s / sigma_t) * (z - alpha_t * x_hat)


def angular_step(z: Tensor, x_hat: Tensor, schedule: Schedule, t: Tensor, s: Tensor) -> Tensor:
    """The DDIM step as a rotation, z cos(d) + v sin(d) with d = phi_s - phi_t and tan(phi) = sigma / alpha.

    Source: Salimans and Ho 2022, appendix D. Levels that do not preserve variance are scaled to alpha^2 + sigma^2 = 1
    and back. `sigma(t)` must not be 0.
    """
    alpha_t, sigma_t = _levels(schedule, t, z)
    alpha_s, sigma_s = _levels(schedule, s, z)
    root_t, root_s = torch.hypot(alpha_t, sigma_t), torch.hypot(alpha_s, sigma_s)
    v = (alpha_t * z / root_t - root_t * x_hat) / sigma_t
    delta = torch.atan2(sigma_s, alpha_s) - torch.atan2(sigma_t, alpha_t)
    return root_s * (delta.cos() * z / root_t + delta.sin() * v)


def ancestral_step(z: Tensor, x_hat: Tensor, noise: Tensor, schedule: Schedule, t: Tensor, s: Tensor) -> Tensor:
    """Draw from q(z_s | z_t, x_hat), s below t, with unit `noise`: the lower of DDPM's two variances.

    Source: Ho et al. 2020, eqs. 6 and 7; for any schedule Kingma et al. 2021, appendix A.
    """
    alpha_t, sigma_t = _levels(schedule, t, z)
    alpha_s, sigma_s = _levels(schedule, s, z)
    kept = alpha_t / alpha_s
    added = sigma_t**2 - (kept * sigma_s) ** 2  # variance of z_t given z_s
    mean = (kept * sigma_s**2 * z + alpha_s * added * x_hat) / sigma_t**2
    return mean + added.sqrt() * sigma_s / sigma_t * noise


def inverse_step(z: Tensor, x_hat: Tensor, schedule: Schedule, t: Tensor, s: Tensor) -> Tensor:
    """From time `t` up to the noisier `s` with `x_hat` estimated at (z, s): DDIM's step undone but for eps's change.

    eps is the one that `x_hat` implies at time s, so t may be the clean end; `alpha(t)` must not be 0.
    Source: Song et al. 2021, section 4.3.
    """
    alpha_t, sigma_t = _levels(schedule, t, z)
    alpha_s, sigma_s = _levels(schedule, s, z)
    eps = (z - alpha_s * x_hat) / sigma_s
    return alpha_s * (z - sigma_t * eps) / alpha_t + sigma_s * eps


@dataclass(frozen=True)
class DDIM:
    """First order, deterministic: one network call a step (Song et al. 2021, eta = 0).

    `clip` bounds the estimate of x to +-clip and leaves that of eps as it was (Ho et al. 2020's code).
    """

    clip: float | None = None

    def __call__(
        self, denoise: Denoise, z: Tensor, schedule: Schedule, times: Tensor, on_step: OnStep | None = None
    ) -> Tensor:
        for t, s in _steps(times, on_step):
            x_hat = denoise(z, t)
            z = ddim_step(z, x_hat, schedule, t, s)
            if self.clip is not None:
                z = z + _levels(schedule, s, z)[0] * (x_hat.clamp(-self.clip, self.clip) - x_hat)
        return z


@dataclass(frozen=True)
class AngularDDIM:
    """DDIM by the angular update (Salimans and Ho 2022, appendix D)."""

    def __call__(
        self, denoise: Denoise, z: Tensor, schedule: Schedule, times: Tensor, on_step: OnStep | None = None
    ) -> Tensor:
        for t, s in _steps(times, on_step):
            z = angular_step(z, denoise(z, t), schedule, t, s)
        return z


@dataclass(frozen=True)
class DDIMInversion:
    """From data to the noise that DDIM makes it of: `times` rise, the reverse of the sampler's (`inverse_step`)."""

    def __call__(
        self, denoise: Denoise, z: Tensor, schedule: Schedule, times: Tensor, on_step: OnStep | None = None
    ) -> Tensor:
        for t, s in _steps(times, on_step):
            z = inverse_step(z, denoise(z, s), schedule, t, s)
        return z


@dataclass(frozen=True)
class DDPM:
    """Ancestral sampling: one network call and fresh noise a step (Ho et al. 2020, algorithm 2)."""

    generator: torch.Generator

    def __call__(
        self, denoise: Denoise, z: Tensor, schedule: Schedule, times: Tensor, on_step: OnStep | None = None
    ) -> Tensor:
        for t, s in _steps(times, on_step):
            x_hat = denoise(z, t)
            if schedule.alpha_sigma(s)[1] == 0:
                z = ddim_step(z, x_hat, schedule, t, s)
                continue
            noise = torch.randn(z.shape, dtype=z.dtype, generator=self.generator, device=self.generator.device)
            z = ancestral_step(z, x_hat, noise.to(z.device), schedule, t, s)
        return z


@dataclass(frozen=True)
class Euler:
    """First order in the schedule's own time, deterministic: one network call a step.

    The slope is dz/dt = alpha' x + sigma' eps. Where both levels are linear in t (EDM, flow matching) it equals DDIM.
    """

    def __call__(
        self, denoise: Denoise, z: Tensor, schedule: Schedule, times: Tensor, on_step: OnStep | None = None
    ) -> Tensor:
        for t, s in _steps(times, on_step):
            z = z + (s - t).to(z) * _slope(z, denoise(z, t), schedule, t)
        return z


@dataclass(frozen=True)
class Heun:
    """Second order, deterministic: two network calls a step, one for the last (Karras et al. 2022, algorithm 1).

    The slope is dz/dt = alpha' x + sigma' eps of whatever schedule is given; for EDM's that is (z - x) / sigma.
    """

    def __call__(
        self, denoise: Denoise, z: Tensor, schedule: Schedule, times: Tensor, on_step: OnStep | None = None
    ) -> Tensor:
        for t, s in _steps(times, on_step):
            x_hat = denoise(z, t)
            if schedule.alpha_sigma(s)[1] == 0:  # no slope at the clean end: the first-order step lands on x_hat
                z = ddim_step(z, x_hat, schedule, t, s)
                continue
            h = (s - t).to(z)
            slope = _slope(z, x_hat, schedule, t)
            ahead = z + h * slope
            z = z + h * (slope + _slope(ahead, denoise(ahead, s), schedule, s)) / 2
        return z


@dataclass(frozen=True)
class DPMSolver2M:
    """DPM-Solver++ (2M): second order with one network call a step (Lu et al. 2022b, algorithm 2).

    DDIM's step with x extrapolated from this step's estimate and the last one's, in lambda = ln(alpha / sigma). The
    first step, and one that ends at sigma = 0 (lambda infinite), are of first order.
    """

    def __call__(
        self, denoise: Denoise, z: Tensor, schedule: Schedule, times: Tensor, on_step: OnStep | None = None
    ) -> Tensor:
        before: tuple[Tensor, Tensor] | None = None  # the last step's estimate and its width in lambda
        for t, s in _steps(times, on_step):
            x_hat = x = denoise(z, t)
            (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
            h = alpha_s.log() - sigma_s.log() - alpha_t.log() + sigma_t.log()
            if before and h.isfinite():
                x = x_hat + (h / (2 * before[1])).to(z) * (x_hat - before[0])
            z = ddim_step(z, x, schedule, t, s)
            before = x_hat, h
        return z


def _steps(times: Tensor, on_step: OnStep | None) -> Iterator[tuple[Tensor, Tensor]]:
    """The steps (t, s) of a path; each is reported when the next is asked for."""
    for i, pair in enumerate(pairwise(times)):
        yield pair
        if on_step:
            on_step(i + 1, len(times) - 1)


def _levels(schedule: Schedule, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    alpha, sigma = schedule.alpha_sigma(t)
    return expand_to(alpha, like), expand_to(sigma, like)


def _slope(z: Tensor, x_hat: Tensor, schedule: Schedule, t: Tensor) -> Tensor:
    alpha, sigma = _levels(schedule, t, z)
    d_alpha, d_sigma = (level.to(z) for level in schedule.derivatives(t))
    return d_alpha * x_hat + d_sigma * (z - alpha * x_hat) / sigma


@torch.no_grad()
def sample(
    denoise: Denoise, noise: Tensor, schedule: Schedule, steps: int, sampler: Sampler, on_step: OnStep | None = None
) -> Tensor:
    """Turn unit `noise` (b, c, [t,] h, w) into data in `steps` steps."""
    times = schedule.times(steps, noise.device)
    return sampler(denoise, prior(noise, schedule, times), schedule, times, on_step)
