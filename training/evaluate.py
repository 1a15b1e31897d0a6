"""The held-out denoising error: how well a network removes fixed noise from clips it has not seen."""

from collections.abc import Sequence

import torch

from models.diffusion.losses import Loss, denoiser
from models.diffusion.parameterization import Network
from models.diffusion.schedules import expand_to
from training.conditioning import Conditioner
from training.data import Example, collate

LEVELS = (0.2, 0.5, 1.0, 2.0, 5.0)  # sigma / alpha


@torch.no_grad()
def denoising_error(
    loss: Loss, network: Network, examples: Sequence[Example], conditioner: Conditioner, batch: int = 16
) -> dict[str, float]:
    """Mean squared error of the denoised pixels, in [-1, 1] units, at each noise level and on average ("mean").

    The noise is a function of the example's position and the level alone, so any two networks (and formulations)
    face the same task. Raises ValueError without examples.
    """
    if not examples:
        raise ValueError("no examples to evaluate on")
    denoise = denoiser(loss, network)
    errors: dict[str, float] = {}
    for i, level in enumerate(LEVELS):
        total = 0.0
        t = loss.schedule.time(torch.tensor(level, dtype=torch.float64, device=conditioner.device))
        for first in range(0, len(examples), batch):
            data = collate(examples[first : first + batch])
            noise = [
                torch.randn(data.pixels.shape[1:], generator=torch.Generator().manual_seed(1000 * n + i))
                for n in range(first, first + len(data.pixels))
            ]
            x, eps = data.pixels.to(conditioner.device), torch.stack(noise).to(conditioner.device)
            alpha, sigma = loss.schedule.alpha_sigma(t)
            x_hat = denoise(expand_to(alpha, x) * x + expand_to(sigma, x) * eps, t, **conditioner(data))
            total += float((x_hat - x).square().flatten(1).mean(1).sum())
        errors[f"{level:g}"] = total / len(examples)
    errors["mean"] = sum(errors.values()) / len(LEVELS)
    return errors
