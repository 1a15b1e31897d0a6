"""The training loop: one readable function whose state is counted in samples."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from models.diffusion.losses import Loss
from training.conditioning import Conditioner
from training.config import OptimSettings
from training.data import ClipData
from training.ema import EMA
from training.errors import TrainingError

OnEvent = Callable[[dict[str, Any]], None]


@dataclass
class TrainState:
    """All that changes while training. `samples` counts what was trained on since the stage began.

    `quarters` holds the sum and the number of the steps' losses in each quarter of the stage's samples; none where a
    checkpoint from before there were any was resumed.
    """

    network: nn.Module
    ema: EMA
    optimizer: torch.optim.AdamW
    samples: int = 0
    quarters: list[list[float]] = field(default_factory=lambda: [[0.0, 0] for _ in range(4)])

    def ends(self) -> tuple[float, float] | None:
        """Mean loss of the first and of the last quarter; None where there is no more than one."""
        means = [total / steps for total, steps in self.quarters if steps]
        return (means[0], means[-1]) if len(means) > 1 else None


def train(
    state: TrainState,
    loss: Loss,
    data: ClipData,
    conditioner: Conditioner,
    settings: OptimSettings,
    seed: int,
    *,
    save: Callable[[], None],
    on_event: OnEvent,
    stop: Callable[[], bool] = lambda: False,
    log_seconds: float = 1.0,
) -> bool:
    """Train until `settings.samples` samples are seen. False if `stop` said so first.

    All chance is a function of (seed, samples seen): a run resumed from a checkpoint is bit-identical on the CPU to
    one that was never interrupted. `save` is called every `checkpoint_every` samples and at the end.
    Raises TrainingError when the loss is no longer a number.
    """
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    since, losses, logged = time.monotonic(), [], state.samples
    while state.samples < settings.samples:
        if stop():
            save()
            return False
        batch = data.batch(state.samples, settings.batch)
        generator = torch.Generator().manual_seed(mix(seed, state.samples))
        x = batch.pixels.to(conditioner.device)
        value = loss(state.network, x, generator, **conditioner(batch)).mean()
        state.optimizer.zero_grad(set_to_none=True)
        value.backward()
        norm = nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        if not math.isfinite(value.item()) or not math.isfinite(norm.item()):
            raise TrainingError(f"optim.lr: loss {value.item()} after {state.samples} samples; lower it and run again")
        before, state.samples = state.samples, state.samples + settings.batch
        for group in state.optimizer.param_groups:
            group["lr"] = settings.lr * min(1.0, state.samples / settings.warmup) if settings.warmup else settings.lr
        state.optimizer.step()
        state.ema.update(state.network, state.samples, settings.batch)
        losses.append(value.item())
        if state.quarters:
            quarter = state.quarters[4 * before // settings.samples]
            quarter[0], quarter[1] = quarter[0] + losses[-1], quarter[1] + 1

        done, now = state.samples >= settings.samples, time.monotonic()
        if done or now - since >= log_seconds:
            on_event(
                {
                    "event": "step",
                    "samples": state.samples,
                    "of": settings.samples,
                    "loss": sum(losses) / len(losses),
                    "grad_norm": norm.item(),
                    "lr": state.optimizer.param_groups[0]["lr"],
                    "samples_per_s": (state.samples - logged) / max(now - since, 1e-9),
                }
            )
            since, losses, logged = now, [], state.samples
        if done or before // settings.checkpoint_every != state.samples // settings.checkpoint_every:
            save()
    return True


def mix(seed: int, samples: int) -> int:
    """One 63-bit seed from two numbers, such that neighbours share nothing (SplitMix64's finalizer)."""
    z = (seed * 0x9E3779B97F4A7C15 + samples * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return (z ^ (z >> 31)) >> 1
