"""Noise schedules: how much signal and how much noise there is at a time, z_t = alpha(t) x + sigma(t) eps."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Schedule(Protocol):
    """A path from noise to data. Times are float tensors of any shape and fall while sampling."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise level at `t`, each of `t`'s shape."""
        ...

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d alpha/dt and d sigma/dt at `t`: with them, dz/dt = alpha' x + sigma' eps is the probability flow."""
        ...

    def time(self, noise_to_signal: Tensor) -> Tensor:
        """The time at which sigma / alpha has the given value."""
        ...

    def times(self, steps: int, device: torch.device | str | None = None) -> Tensor:
        """`steps` + 1 falling times, float64, from the noisiest to the clean end, where sigma is 0."""
        ...


@dataclass(frozen=True)
class CosineSchedule:
    """Variance preserving: alpha = cos(pi t / 2), sigma = sin(pi t / 2), t in [0, 1].

    Source: Nichol and Dhariwal 2021, eq. 17 without its offset, as in Salimans and Ho 2022. The ends are exact: pure
    data at t = 0 and pure noise at t = 1 (zero terminal SNR).
    """

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        # sin(pi (1 - t) / 2) instead of the cosine: exactly 0, not 6e-17, at t = 1
        return torch.sin((1 - t) * (math.pi / 2)), torch.sin(t * (math.pi / 2))

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.alpha_sigma(t)
        return -sigma * (math.pi / 2), alpha * (math.pi / 2)

    def time(self, noise_to_signal: Tensor) -> Tensor:
        return torch.atan(noise_to_signal) * (2 / math.pi)

    def times(self, steps: int, device: torch.device | str | None = None) -> Tensor:
        return torch.linspace(1, 0, _positive(steps) + 1, dtype=torch.float64, device=device)


@dataclass(frozen=True)
class KarrasSchedule:
    """Variance exploding: alpha = 1 and time is sigma itself (Karras et al. 2022, "EDM").

    `times` are eq. 5: equal steps of sigma^(1/rho) between `sigma_max` and `sigma_min`, then 0.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), t

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), torch.ones_like(t)

    def time(self, noise_to_signal: Tensor) -> Tensor:
        return noise_to_signal

    def times(self, steps: int, device: torch.device | str | None = None) -> Tensor:
        ramp = torch.linspace(0, 1, _positive(steps), dtype=torch.float64, device=device)
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        sigmas = (high + ramp * (low - high)) ** self.rho
        return torch.cat([sigmas, sigmas.new_zeros(1)])


def expand_to(level: Tensor, like: Tensor) -> Tensor:
    """Give per-sample numbers `(b,)` (or a scalar) the trailing axes and dtype of `like` `(b, ...)`."""
    return level.to(like).reshape(level.shape + (1,) * (like.ndim - level.ndim)) if level.ndim else level.to(like)


def _positive(steps: int) -> int:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    return steps
