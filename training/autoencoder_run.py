"""The state of an autoencoder's training: what a step does to it, and how it is written and read back."""

import json
import math
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.autoencoders.discriminator import PatchDiscriminator
from models.autoencoders.losses import Adversary, AutoencoderLoss
from models.autoencoders.small import SmallAutoencoder, SmallConfig
from training.checkpoint import write_atomic
from training.ema import EMA
from training.errors import TrainingError
from training.footage import chance
from training.perceptual import efficientnet_distance

KEY = "rushes.autoencoder_run"  # of step and settings in a checkpoint's metadata


@dataclass(frozen=True)
class Settings:
    """All that decides the result of a training, beside the footage."""

    steps: int = 20_000
    batch: int = 32
    crop: int = 128
    lr: float = 4e-4
    warmup: int = 200
    kl: float = 1e-6
    perceptual: float = 0.0
    trunk: str = ""
    adversarial_from: int = -1
    adversarial: float = 0.5
    discriminator_width: int = 64
    ema: int = 1000
    share: float = 0.2
    short: int = 256
    frames: int = 64
    seed: int = 0
    bf16: bool = False
    network: SmallConfig = field(default_factory=SmallConfig)

    def __post_init__(self) -> None:
        """Raises TrainingError for a value that no training has."""
        for owner in (self, self.network):
            for name, least in LEAST.items():
                value = getattr(owner, name, least)
                for one in value if isinstance(value, tuple) else (value,):
                    if not (math.isfinite(one) and one >= least):
                        raise TrainingError(f"--{name.replace('_', '-')} {one}: must be a number, at least {least}")
        if self.lr == 0:
            raise TrainingError("--lr 0: must be more")
        if self.share >= 1:
            raise TrainingError(f"--share {self.share}: must be less than 1, or nothing is left to train on")
        if self.perceptual and not self.trunk:
            raise TrainingError("--perceptual: needs --trunk, the weights that its features are of")


LEAST: dict[str, int] = {
    **dict.fromkeys(("steps", "batch", "crop", "discriminator_width", "ema", "short", "frames", "latent_channels"), 1),
    **dict.fromkeys(("encoder_widths", "decoder_widths"), 1),
    **dict.fromkeys(("encoder_blocks", "decoder_blocks", "warmup"), 0),
    **dict.fromkeys(("lr", "kl", "perceptual", "adversarial", "share"), 0),
    "adversarial_from": -1,
}
"""The least value of the settings of a training and of its network."""


class Run:
    """All that changes while training: two networks, their optimizers, the average, and the step."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        self.settings, self.device, self.step = settings, device, 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.network = SmallAutoencoder(settings.network).to(device)
            self.discriminator = PatchDiscriminator(width=settings.discriminator_width).to(device)
        if device.type == "cuda":  # what its convolutions are quickest with
            self.network.to(memory_format=torch.channels_last)
            self.discriminator.to(memory_format=torch.channels_last)
        self.ema = EMA(self.network, settings.ema * settings.batch)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), settings.lr, betas=(0.9, 0.99), weight_decay=0)
        self.judge = torch.optim.AdamW(self.discriminator.parameters(), settings.lr, betas=(0.5, 0.9), weight_decay=0)
        distance = efficientnet_distance(settings.trunk).to(device) if settings.perceptual else None
        self.alone = AutoencoderLoss(settings.kl, settings.perceptual, distance)
        self.adversary = Adversary(self.discriminator, settings.adversarial)
        self.watched = replace(self.alone, adversaries=(self.adversary,))

    def train_step(self, x: Tensor) -> dict[str, Tensor]:
        """One step on pixels `b 3 h w`; the terms of the loss. All chance is a function of (seed, step)."""
        s = self.settings
        watched = 0 <= s.adversarial_from <= self.step
        generator = chance(s.seed + 1, self.step)
        rate = s.lr * schedule(self.step, s.steps, s.warmup)
        for optimizer in (self.optimizer, self.judge):
            for group in optimizer.param_groups:
                group["lr"] = rate
        with self._autocast():
            posterior = self.network.encode(x)
            y = self.network.decode(posterior.sample(generator))
            loss = self.watched if watched else self.alone
            total, terms = loss(y.float(), x, posterior, self.network.last_layer)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        terms["grad_norm"] = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        if watched:
            with self._autocast():
                terms["discriminator"] = self.adversary.judge(y.float(), x)
            self.judge.zero_grad(set_to_none=True)
            terms["discriminator"].backward()
            self.judge.step()
        self.step += 1
        self.ema.update(self.network, self.step * s.batch, s.batch)
        return terms

    def averaged(self) -> SmallAutoencoder:
        """The network with averaged weights."""
        network = SmallAutoencoder(self.settings.network).to(self.device)
        network.load_state_dict(self.ema.weights)
        return network.eval().requires_grad_(False)

    def save(self, path: Path) -> None:
        """Write all that changes, whole or not at all."""
        tensors = {f"model.{k}": t for k, t in self.network.state_dict().items()}
        tensors |= {f"ema.{k}": t for k, t in self.ema.weights.items()}
        tensors |= {f"discriminator.{k}": t for k, t in self.discriminator.state_dict().items()}
        for name, optimizer in (("optimizer", self.optimizer), ("judge", self.judge)):
            for i, state in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}.{i}.{key}": value for key, value in state.items()}
        tensors = {k: t.detach().cpu().contiguous() for k, t in tensors.items()}
        about = {KEY: json.dumps({"step": self.step, "settings": asdict(self.settings)})}
        write_atomic(path, lambda temporary: save_file(tensors, temporary, about))

    def restore(self, path: Path, ignored: Collection[str] = ()) -> None:
        """Go on from what `save` wrote. Raises TrainingError where it was another run's, naming the settings that
        differ; `ignored` are those that may."""
        with safe_open(path, "pt") as file:  # on the CPU, where AdamW keeps its step counter
            about = json.loads((file.metadata() or {}).get(KEY, "{}"))
            there, here = about.get("settings", {}), json.loads(json.dumps(asdict(self.settings)))
            there, here = ({**all_of.pop("network", {}), **all_of} for all_of in (there, here))
            differ = [name for name in here if name not in ignored and there.get(name) != here[name]]
            if differ:
                said = ", ".join(f"--{n.replace('_', '-')} {there.get(n)} there, {here[n]} here" for n in differ)
                raise TrainingError(f"{path}: of a run with other settings ({said}); give those or another folder")
            groups: dict[str, dict[str, Tensor]] = {}
            for key in file.keys():  # noqa: SIM118 - not a mapping
                group, name = key.split(".", 1)
                groups.setdefault(group, {})[name] = file.get_tensor(key)
        self.step = about["step"]
        self.network.load_state_dict(groups["model"])
        self.discriminator.load_state_dict(groups["discriminator"])
        self.ema.weights = {name: t.to(self.device) for name, t in groups["ema"].items()}
        for name, optimizer in (("optimizer", self.optimizer), ("judge", self.judge)):
            states: dict[int, dict[str, Tensor]] = {}
            for key, value in groups.get(name, {}).items():
                i, part = key.split(".", 1)
                states.setdefault(int(i), {})[part] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": states})

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.settings.bf16 else nullcontext()


def schedule(step: int, steps: int, warmup: int) -> float:
    """The learning rate's share: up in `warmup` steps, then down a half cosine to a twentieth."""
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rise * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))
