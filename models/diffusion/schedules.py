"""Noise schedules: how much signal and how much noise there is at a time, z_t = alpha(t) x + sigma(t) eps."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

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


SVD_SCHEDULE = KarrasSchedule(sigma_min=0.002, sigma_max=700.0)
"""The one that SVD samples with (Blattmann et al. 2023): with v-prediction its network is told 0.25 ln sigma."""


@dataclass(frozen=True)
class FlowSchedule:
    """Flow matching, the straight path: alpha = 1 - t, sigma = t, t in [0, 1] (Lipman et al. 2023, eq. 20).

    `shift` moves the `times` towards noise, for high resolutions (Esser et al. 2024, eq. 23).
    """

    shift: float = 1.0

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)

    def time(self, noise_to_signal: Tensor) -> Tensor:
        return 1 / (1 + 1 / noise_to_signal)  # finite at an infinite ratio

    def times(self, steps: int, device: torch.device | str | None = None) -> Tensor:
        t = torch.linspace(1, 0, _positive(steps) + 1, dtype=torch.float64, device=device)
        return shifted(t, self.shift)


def shifted(t: Tensor, shift: float) -> Tensor:
    """s t / (1 + (s - 1) t): sigma / alpha of the straight path times `shift` (Esser et al. 2024, eq. 23)."""
    return shift * t / (1 + (shift - 1) * t)


@dataclass(frozen=True)
class DDPMSchedule:
    """Variance preserving, from `count` betas: alpha_t^2 = prod_{i <= t} (1 - beta_i) at t = 0, ..., count - 1.

    Source: Ho et al. 2020, section 4, "linear"; Rombach et al. 2022, "scaled_linear" (sqrt(beta) is linear); Nichol and
    Dhariwal 2021, eq. 17, "squared_cosine", which takes no `start` and `end`. Time -1 is the clean end. Between
    integers sigma / alpha is linear in t, as Euler samplers take it (or alpha / sigma, where it ends at pure noise).
    `zero_terminal_snr` rescales the levels so that the last is pure noise (Lin et al. 2023, algorithm 1).

    `spacing` says which times a sampler visits (Lin et al. 2023, table 2): "leading" multiples of count // steps plus
    `offset`, "trailing" from the last one down, "linspace" from the last one to 0, which are no integers.
    """

    betas: Literal["linear", "scaled_linear", "squared_cosine"] = "linear"
    start: float = 1e-4
    end: float = 0.02
    count: int = 1000
    zero_terminal_snr: bool = False
    spacing: Literal["leading", "trailing", "linspace"] = "trailing"
    offset: int = 0

    @cached_property
    def alphas(self) -> Tensor:
        """alpha at the integer times, (count,), float64, on the CPU whatever the default device is: it is cached."""
        if self.betas == "squared_cosine":
            edges = torch.linspace(0, 1, self.count + 1, dtype=torch.float64, device="cpu")
            level = torch.cos((edges + 0.008) / 1.008 * (math.pi / 2)) ** 2
            betas = (1 - level[1:] / level[:-1]).clamp(max=0.999)
        elif self.betas == "scaled_linear":
            betas = torch.linspace(self.start**0.5, self.end**0.5, self.count, dtype=torch.float64, device="cpu") ** 2
        else:
            betas = torch.linspace(self.start, self.end, self.count, dtype=torch.float64, device="cpu")
        alphas = (1 - betas).cumprod(0).sqrt()
        if self.zero_terminal_snr:
            alphas = (alphas - alphas[-1]) * alphas[0] / (alphas[0] - alphas[-1])
        return alphas

    @cached_property
    def _ratios(self) -> Tensor:
        """sigma / alpha at times -1, 0, ..., count - 1."""
        return torch.cat([torch.zeros(1, dtype=torch.float64, device="cpu"), (1 - self.alphas**2).sqrt() / self.alphas])

    def _interval(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """sigma / alpha at both integers about `t`, and how far it is between them, in (0, 1]."""
        ratios, t = self._ratios.to(t.device), t.to(torch.float64)
        low = (t.ceil() - 1).clamp(-1, self.count - 2)
        return ratios[low.long() + 1], ratios[low.long() + 2], t - low

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        low, high, w = self._interval(t)
        finite = high.isfinite()
        # levels before they are scaled to alpha^2 + sigma^2 = 1
        alpha, sigma = torch.where(finite, 1.0, 1 - w), torch.where(finite, low + w * (high - low), low)
        root = torch.hypot(alpha, sigma)
        return alpha / root, sigma / root

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        low, high, _ = self._interval(t)
        alpha, sigma = self.alpha_sigma(t)
        # alpha^2 times the slope of sigma / alpha, from the left at integers
        slope = torch.where(high.isfinite(), alpha**2 * (high - low), sigma**2 / low)
        return -sigma * slope, alpha * slope

    def time(self, noise_to_signal: Tensor) -> Tensor:
        ratio = noise_to_signal.to(torch.float64)
        ratios = self._ratios.to(ratio.device)
        i = (torch.searchsorted(ratios, ratio.contiguous()) - 1).clamp(0, self.count - 1)
        low, high = ratios[i], ratios[i + 1]
        return i - 1 + torch.where(high.isfinite(), (ratio - low) / (high - low), 1 - low / ratio)

    def times(self, steps: int, device: torch.device | str | None = None) -> Tensor:
        if _positive(steps) > self.count:
            raise ValueError(f"steps must be at most {self.count}, not {steps}")
        if self.spacing == "leading":
            t = torch.arange(steps - 1, -1, -1, dtype=torch.float64) * (self.count // steps) + self.offset
        elif self.spacing == "trailing":
            t = (self.count - torch.arange(steps, dtype=torch.float64) * (self.count / steps)).round() - 1
        else:
            t = torch.linspace(self.count - 1, 0, steps, dtype=torch.float64)
        return torch.cat([t, -torch.ones(1, dtype=torch.float64)]).to(device)


def expand_to(level: Tensor, like: Tensor) -> Tensor:
    """Give per-sample numbers `(b,)` (or a scalar) the trailing axes and dtype of `like` `(b, ...)`."""
    return level.to(like).reshape(level.shape + (1,) * (like.ndim - level.ndim)) if level.ndim else level.to(like)


def _positive(steps: int) -> int:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    return steps
