"""Training losses: noise a batch at drawn times, denoise it, weigh the error.

A loss is a schedule, a parameterization, a rule for times and a weighting; `DenoisingLoss` takes any four, `VLoss` and
`EDMLoss` are two published choices.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from models.diffusion.parameterization import (
    Denoiser,
    EDMPrediction,
    Network,
    Parameterization,
    VPrediction,
    label_like,
)
from models.diffusion.schedules import CosineSchedule, KarrasSchedule, Schedule, expand_to, shifted


class Loss(Protocol):
    """A formulation: the schedule and parameterization it trains, and its loss."""

    @property
    def schedule(self) -> Schedule: ...

    @property
    def parameterization(self) -> Parameterization: ...

    def __call__(self, network: Network, x: Tensor, generator: torch.Generator, **conditioning: Any) -> Tensor:
        """Loss per sample, (b,), of clean data `x` (b, c, [t,] h, w). All randomness comes from `generator`."""
        ...


def denoiser(loss: Loss, network: Network) -> Denoiser:
    """The denoiser that `loss` trains `network` to be."""
    return Denoiser(network, loss.parameterization, loss.schedule)


def stratified_uniform(count: int, generator: torch.Generator) -> Tensor:
    """(count,) numbers, each uniform on [0, 1), together one in each of `count` equal bins, float64.

    Every batch sees the whole range of noise, which lowers the loss's variance (Kingma et al. 2021, appendix I.1).
    """
    offset = torch.rand((), dtype=torch.float64, generator=generator, device=generator.device)
    bins = torch.arange(count, dtype=torch.float64, device=generator.device)
    return (offset + bins / count) % 1


class Times(Protocol):
    """Which times training sees."""

    def __call__(self, count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
        """(count,) times of `schedule`, float64, stratified."""
        ...


@dataclass(frozen=True)
class UniformTimes:
    """Uniform between `first` and `last`, by default all of [0, 1] (Ho et al. 2020; Kingma et al. 2021)."""

    first: float = 0.0
    last: float = 1.0

    def __call__(self, count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
        return self.first + (self.last - self.first) * stratified_uniform(count, generator)


@dataclass(frozen=True)
class LogNormalTimes:
    """ln(sigma / alpha) ~ N(mean, std^2) (Karras et al. 2022, table 1)."""

    mean: float = -1.2
    std: float = 1.2

    def __call__(self, count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
        return schedule.time((self.mean + self.std * _stratified_normal(count, generator)).exp())


@dataclass(frozen=True)
class LogitNormalTimes:
    """ln(t / (1 - t)) ~ N(mean, std^2), then shifted, for flow matching (Esser et al. 2024, eqs. 19 and 23)."""

    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0

    def __call__(self, count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
        t = torch.sigmoid(self.mean + self.std * _stratified_normal(count, generator))
        return shifted(t, self.shift)


Weighting = Callable[[Tensor, Tensor], Tensor]  # (alpha, sigma) -> weight of ||x_hat - x||^2, each (b,)


@dataclass(frozen=True)
class MinSNR:
    """min(SNR, gamma) on the error of x: steps of high SNR do not drown the others (Hang et al. 2023).

    On eps that is min(SNR, gamma) / SNR, on v min(SNR, gamma) / (SNR + 1).
    """

    gamma: float = 5.0

    def __call__(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (alpha**2 / sigma**2).clamp(max=self.gamma)


@dataclass(frozen=True)
class TruncatedSNR:
    """max(SNR, 1) on the error of x, so that pure noise counts too (Salimans and Ho 2022, section 4)."""

    def __call__(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (alpha**2 / sigma**2).clamp(min=1)


@dataclass(frozen=True)
class DenoisingLoss:
    """weight(t) ||x_hat - x||^2 at drawn times; without `weighting` the plain error of F, ||F - target||^2."""

    schedule: Schedule
    parameterization: Parameterization
    times: Times = field(default_factory=UniformTimes)
    weighting: Weighting | None = None

    def __call__(self, network: Network, x: Tensor, generator: torch.Generator, **conditioning: Any) -> Tensor:
        t = self.times(len(x), self.schedule, generator).to(x.device)
        eps = torch.randn(x.shape, dtype=x.dtype, generator=generator, device=generator.device).to(x.device)
        alpha, sigma = self.schedule.alpha_sigma(t)
        z = expand_to(alpha, x) * x + expand_to(sigma, x) * eps
        c = self.parameterization.coefficients(alpha, sigma)
        output = network(expand_to(c.inp, z) * z, label_like(c.noise, z), **conditioning)
        error = (output - self.parameterization.target(x, eps, alpha, sigma)).square().flatten(1).mean(1)
        # x_hat - x is c_out times F's error
        return error if self.weighting is None else (self.weighting(alpha, sigma) * c.out**2).to(error) * error


@dataclass(frozen=True)
class VLoss:
    """||F - v||^2 at uniform times of the cosine schedule (Salimans and Ho 2022): SNR + 1 weighting in x."""

    schedule: CosineSchedule = field(default_factory=CosineSchedule)
    parameterization: VPrediction = field(default_factory=VPrediction)

    def __call__(self, network: Network, x: Tensor, generator: torch.Generator, **conditioning: Any) -> Tensor:
        return DenoisingLoss(self.schedule, self.parameterization)(network, x, generator, **conditioning)


@dataclass(frozen=True)
class EDMLoss:
    """lambda(sigma) ||D - x||^2 with ln sigma ~ N(p_mean, p_std^2) (Karras et al. 2022, table 1 and eq. 8).

    lambda = 1/c_out^2, so the loss is the plain error of F against a target of unit variance, and that is computed.
    """

    p_mean: float = -1.2
    p_std: float = 1.2
    sigma_data: float = 0.5
    schedule: KarrasSchedule = field(default_factory=KarrasSchedule)

    @property
    def parameterization(self) -> EDMPrediction:
        return EDMPrediction(self.sigma_data)

    def __call__(self, network: Network, x: Tensor, generator: torch.Generator, **conditioning: Any) -> Tensor:
        loss = DenoisingLoss(self.schedule, self.parameterization, LogNormalTimes(self.p_mean, self.p_std))
        return loss(network, x, generator, **conditioning)


def _stratified_normal(count: int, generator: torch.Generator) -> Tensor:
    # the open interval keeps the normal finite
    return torch.special.ndtri(stratified_uniform(count, generator).clamp(1e-6, 1 - 1e-6))
