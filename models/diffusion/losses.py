"""Training losses, one class a formulation: noise a batch, denoise it, weigh the error."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from models.diffusion.parameterization import Denoiser, EDMPrediction, Network, Parameterization, VPrediction
from models.diffusion.schedules import CosineSchedule, KarrasSchedule, Schedule, expand_to


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


@dataclass(frozen=True)
class VLoss:
    """||F - v||^2 at uniform times of the cosine schedule (Salimans and Ho 2022): SNR + 1 weighting in x."""

    schedule: CosineSchedule = field(default_factory=CosineSchedule)
    parameterization: VPrediction = field(default_factory=VPrediction)

    def __call__(self, network: Network, x: Tensor, generator: torch.Generator, **conditioning: Any) -> Tensor:
        t = stratified_uniform(len(x), generator)
        return _prediction_error(self, network, x, t, generator, conditioning)


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
        # the open interval keeps ln sigma finite
        normal = torch.special.ndtri(stratified_uniform(len(x), generator).clamp(1e-6, 1 - 1e-6))
        sigma = (self.p_mean + self.p_std * normal).exp()
        return _prediction_error(self, network, x, sigma, generator, conditioning)


def _prediction_error(
    loss: Loss, network: Network, x: Tensor, t: Tensor, generator: torch.Generator, conditioning: dict[str, Any]
) -> Tensor:
    t = t.to(x.device)
    eps = torch.randn(x.shape, dtype=x.dtype, generator=generator, device=generator.device).to(x.device)
    alpha, sigma = loss.schedule.alpha_sigma(t)
    z = expand_to(alpha, x) * x + expand_to(sigma, x) * eps
    c = loss.parameterization.coefficients(alpha, sigma)
    output = network(expand_to(c.inp, z) * z, c.noise.to(z), **conditioning)
    return (output - loss.parameterization.target(x, eps, alpha, sigma)).square().flatten(1).mean(1)
