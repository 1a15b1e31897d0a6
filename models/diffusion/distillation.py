"""Progressive distillation: a student that does in one DDIM step what its teacher does in two, and that again."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from models.diffusion.losses import TruncatedSNR, Weighting
from models.diffusion.parameterization import Denoiser, Network, Parameterization
from models.diffusion.samplers import ddim_step
from models.diffusion.schedules import Schedule, expand_to

Fit = Callable[[nn.Module, "DistillationLoss"], None]


def two_step_target(
    teacher: Callable[..., Tensor],
    z: Tensor,
    schedule: Schedule,
    t: Tensor,
    mid: Tensor,
    s: Tensor,
    **conditioning: Any,
) -> Tensor:
    """The x~ with which one DDIM step from `t` to `s` lands where the teacher's two, by way of `mid`, do.

        x~ = (z'' - (sigma''/sigma) z) / (alpha'' - (sigma''/sigma) alpha)

    `z` (b, ...) at times `t`, scalar or (b,), t > mid > s; `teacher(z, t)` estimates x. Source: Salimans and Ho 2022,
    algorithm 2.
    """
    with torch.no_grad():
        half = ddim_step(z, teacher(z, t, **conditioning), schedule, t, mid)
        landed = ddim_step(half, teacher(half, mid, **conditioning), schedule, mid, s)
    alpha_t, sigma_t = (expand_to(level, z) for level in schedule.alpha_sigma(t))
    alpha_s, sigma_s = (expand_to(level, z) for level in schedule.alpha_sigma(s))
    ratio = sigma_s / sigma_t
    return (landed - ratio * z) / (alpha_s - ratio * alpha_t)


@dataclass(frozen=True)
class DistillationLoss:
    """weight(t) ||x~ - x_hat||^2 at the student's own times, with truncated SNR weights (Salimans and Ho 2022, alg. 2).

    `times` are the teacher's path, 2 N + 1 falling times; the student's, N + 1, are every other one. `teacher(z, t)`
    estimates x, guided or not; the rest describes the student, `label` as in `Denoiser`.
    """

    teacher: Callable[..., Tensor]
    parameterization: Parameterization
    schedule: Schedule
    times: Tensor
    weighting: Weighting = field(default_factory=TruncatedSNR)
    label: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if len(self.times) < 3 or len(self.times) % 2 == 0:
            raise ValueError(f"two of the teacher's steps make one: {len(self.times) - 1} steps cannot be halved")

    def __call__(self, network: Network, x: Tensor, generator: torch.Generator, **conditioning: Any) -> Tensor:
        """Loss per sample, (b,), of clean data `x` (b, c, [t,] h, w). All randomness comes from `generator`."""
        device = generator.device
        i = 2 * torch.randint(len(self.times) // 2, (len(x),), generator=generator, device=device).to(self.times.device)
        eps = torch.randn(x.shape, dtype=x.dtype, generator=generator, device=device).to(x.device)
        t, mid, s = (self.times[i + k].to(x.device) for k in range(3))
        alpha, sigma = self.schedule.alpha_sigma(t)
        z = expand_to(alpha, x) * x + expand_to(sigma, x) * eps
        target = two_step_target(self.teacher, z, self.schedule, t, mid, s, **conditioning)
        x_hat = Denoiser(network, self.parameterization, self.schedule, self.label)(z, t, **conditioning)
        return self.weighting(alpha, sigma).to(z) * (x_hat - target).square().flatten(1).mean(1)


def distill(teacher: Denoiser, times: Tensor, halvings: int, fit: Fit) -> Iterator[tuple[Denoiser, Tensor]]:
    """Halve the teacher's path `times`, a multiple of 2**halvings steps, again and again (Salimans and Ho, alg. 2).

    Each student starts from its teacher's weights; `fit(student, loss)` trains it in place, and it teaches the next.
    Yields each student's denoiser and times. The teacher's network, a module, is left as it is. x must follow from the
    prediction at every time of the path: eps does not do at alpha = 0.
    """
    if (len(times) - 1) % 2**halvings:
        raise ValueError(f"{len(times) - 1} steps cannot be halved {halvings} times")
    for _ in range(halvings):
        assert isinstance(teacher.network, nn.Module)
        student = copy.deepcopy(teacher.network)
        loss = DistillationLoss(teacher, teacher.parameterization, teacher.schedule, times, label=teacher.label)
        fit(student, loss)
        times = times[::2]
        teacher = Denoiser(student, teacher.parameterization, teacher.schedule, teacher.label)
        yield teacher, times
