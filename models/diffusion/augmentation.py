"""Noise-conditioning augmentation: a network that is given pictures is given them noisy, and told how noisy."""

import torch
from torch import Tensor

from models.diffusion.parameterization import label_like, noise_label
from models.diffusion.schedules import Schedule, expand_to


def augment(condition: Tensor, t: Tensor, schedule: Schedule, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Corrupt `condition` (b, ...) to times `t` (b,): z_t = alpha c + sigma eps, and the label (b,) to hand on with it.

    Training draws t (losses.UniformTimes), so that the network does not trust what a lower stage got wrong; sampling
    chooses one. The label is EDM's c_noise, ln(sigma / alpha) / 4 within +-2.5. SVD's noise augmentation is this on
    `KarrasSchedule`, where the picture keeps its scale.

    Source: Ho et al. 2021 (cascaded diffusion models), section 4; Ho et al. 2022 (Imagen Video), section 2.5.
    """
    if t.shape != condition.shape[:1]:
        raise ValueError(f"a time for each of the batch: t has shape {tuple(t.shape)}, not ({len(condition)},)")
    eps = torch.randn(condition.shape, dtype=condition.dtype, generator=generator, device=generator.device)
    alpha, sigma = schedule.alpha_sigma(t.to(condition.device, torch.float64))
    noisy = expand_to(alpha, condition) * condition + expand_to(sigma, condition) * eps.to(condition.device)
    return noisy, label_like(noise_label(alpha, sigma), condition)
