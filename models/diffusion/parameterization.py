"""What the network predicts. Every choice is one affine map from its output F to the denoised x:

    x_hat = c_skip z + c_out F(c_in z, c_noise)          (Karras et al. 2022, eq. 7)

so eps-, x- and v-prediction, EDM and flow matching differ in four coefficients and in nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from models.diffusion.schedules import Schedule, expand_to

Network = Callable[..., Tensor]
"""(z, c_noise, **conditioning) -> F, of z's shape and dtype; c_noise (b,) is float32 at least (`label_like`)."""

MAX_LOG_RATIO = 10.0  # |ln(sigma/alpha)| shown to the network, so that pure noise and pure data have finite labels


class Coefficients(NamedTuple):
    """c_skip, c_out, c_in and c_noise, each of the noise level's shape."""

    skip: Tensor
    out: Tensor
    inp: Tensor
    noise: Tensor


class Parameterization(Protocol):
    """One way to read the network's output."""

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        """The affine map at a noise level."""
        ...

    def target(self, x: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What F should be for data `x` and noise `eps`, both (b, ...); levels (b,) or scalar."""
        ...


def noise_label(alpha: Tensor, sigma: Tensor) -> Tensor:
    """ln(sigma/alpha) / 4, EDM's c_noise, with the ratio's logarithm kept within +-10."""
    return (sigma.log() - alpha.log()).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO) / 4


def label_like(label: Tensor, like: Tensor) -> Tensor:
    """`label` on the device of `like`, in float32, or in float64 if `like` is.

    A network embeds its labels at high frequencies. bfloat16 rounds c_noise so far that half of DDPM's 1000 steps are
    taken for a neighbour."""
    return label.to(like.device, torch.promote_types(like.dtype, torch.float32))


@dataclass(frozen=True)
class EpsPrediction:
    """F is the noise (Ho et al. 2020). At alpha = 0 the noise says nothing about x: the map is infinite there.

    Here and below, c_in gives data of unit variance unit variance, whatever the schedule: 1 for variance preserving.
    """

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        return Coefficients(1 / alpha, -sigma / alpha, 1 / torch.hypot(alpha, sigma), noise_label(alpha, sigma))

    def target(self, x: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps


@dataclass(frozen=True)
class XPrediction:
    """F is the data itself."""

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        zero, one = torch.zeros_like(sigma), torch.ones_like(sigma)
        return Coefficients(zero, one, 1 / torch.hypot(alpha, sigma), noise_label(alpha, sigma))

    def target(self, x: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return x


@dataclass(frozen=True)
class VPrediction:
    """F is v = alpha eps - sigma x (Salimans and Ho 2022, section 4); finite at both ends.

    Levels that do not preserve variance are first scaled to alpha^2 + sigma^2 = 1; with alpha = 1 that is the
    continuous v-prediction of SVD (Blattmann et al. 2023).
    """

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        root = torch.hypot(alpha, sigma)
        return Coefficients(alpha / root**2, -sigma / root, 1 / root, noise_label(alpha, sigma))

    def target(self, x: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        v = expand_to(alpha, x) * eps - expand_to(sigma, x) * x
        return v / expand_to(torch.hypot(alpha, sigma), x)


@dataclass(frozen=True)
class FlowPrediction:
    """F is the velocity eps - x of the straight path from data to noise (Lipman et al. 2023, eq. 23; Liu et al. 2023).

    Levels off that path are first scaled to alpha + sigma = 1.
    """

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        total = alpha + sigma
        return Coefficients(1 / total, -sigma / total, 1 / total, noise_label(alpha, sigma))

    def target(self, x: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps - x


@dataclass(frozen=True)
class EDMPrediction:
    """Unit-variance input and target at every noise level (Karras et al. 2022, table 1, last column).

    Written for any alpha by the change of variables z/alpha, sigma/alpha; alpha = 1 is the paper. `sigma_data` is the
    data's standard deviation: about 0.5 for pixels in [-1, 1].
    """

    sigma_data: float = 0.5

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        variance = (alpha * self.sigma_data) ** 2 + sigma**2  # of z
        root = variance.sqrt()
        return Coefficients(
            alpha * self.sigma_data**2 / variance,
            sigma * self.sigma_data / root,
            1 / root,
            noise_label(alpha, sigma),
        )

    def target(self, x: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        # (x - c_skip z) / c_out with sigma cancelled, so that sigma = 0 is finite
        alpha, sigma = expand_to(alpha, x), expand_to(sigma, x)
        root = ((alpha * self.sigma_data) ** 2 + sigma**2).sqrt()
        return (sigma * x / self.sigma_data - alpha * self.sigma_data * eps) / root


@dataclass(frozen=True)
class Denoiser:
    """A network, a parameterization and a schedule together: D(z, t) estimates x. This is what samplers call.

    `label` says what the network is told of the time, (b,) -> (b,), where that is not the parameterization's c_noise:
    the time itself for networks of DDPM.
    """

    network: Network
    parameterization: Parameterization
    schedule: Schedule
    label: Callable[[Tensor], Tensor] | None = None

    def __call__(self, z: Tensor, t: Tensor, **conditioning: Any) -> Tensor:
        """Denoise `z` (b, c, [t,] h, w) at time `t`, (b,) or a scalar; the result has z's shape and dtype."""
        levels = t.to(torch.float64).expand(z.shape[0]) if t.ndim == 0 else t.to(torch.float64)
        c = self.parameterization.coefficients(*self.schedule.alpha_sigma(levels))
        noise = self.label(levels) if self.label else c.noise
        output = self.network(expand_to(c.inp, z) * z, label_like(noise, z), **conditioning)
        return expand_to(c.skip, z) * z + expand_to(c.out, z) * output
