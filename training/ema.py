"""The exponential moving average of the weights, whose length is counted in samples."""

import torch
from torch import Tensor, nn

RAMP = 0.05  # the half-life is at most this share of the samples seen (EDM's `ema_rampup_ratio`)


class EMA:
    """Averaged copies of a network's parameters and buffers, by name."""

    def __init__(self, network: nn.Module, half_life: float) -> None:
        self.half_life = half_life
        self.weights: dict[str, Tensor] = {name: t.detach().clone() for name, t in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, samples: int, batch: int) -> None:
        """Move towards the network after a step on `batch` samples that brought the total to `samples`.

        decay = 0.5 ** (batch / min(half_life, RAMP * samples)) (Karras et al. 2022, appendix F.2).
        """
        decay = 0.5 ** (batch / max(min(self.half_life, RAMP * samples), 1e-8))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)
