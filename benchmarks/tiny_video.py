"""A tiny task of real footage for `systems.py`: 8 frames of 48 x 48 pixels at 8 a second, with captions; and what
trains and measures a network on it."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.diffusion.losses import denoiser
from models.diffusion.schedules import expand_to
from models.systems.recipe import everything

FRAMES, SIZE, FPS = 8, 48, 8.0
PER_VIDEO = 48  # clips, at most
HELD_OUT = ("chaplin", "city_mpeg2", "frog", "nasa_launch", "sintel")  # beginnings of names
NOISE_TO_SIGNAL = (0.3, 1.0, 3.0)


@dataclass
class Batch:
    """Clips in [-1, 1] (b, 3, t, h, w) with their captions' states (b, n, d) and mask (b, n)."""

    x: Tensor
    text: Tensor
    seen: Tensor

    def told(self) -> dict[str, Tensor]:
        """As most networks take it."""
        return self.as_pictures() | {"fps": self.x.new_full((len(self.x),), FPS)}

    def as_pictures(self) -> dict[str, Tensor]:
        """As a network of images takes it: a picture has no rate."""
        return {"text": self.text, "text_mask": self.seen}


class Clips:
    """The packed clips on a device."""

    def __init__(self, path: Path, device: torch.device, held_out: bool) -> None:
        packed = np.load(path)
        names = [str(n) for n in packed["names"]]
        mine = [i for i, v in enumerate(packed["video"]) if names[v].startswith(HELD_OUT) == held_out]
        self.clips = torch.from_numpy(packed["clips"][mine]).to(device)
        self.video = torch.from_numpy(packed["video"][mine]).long().to(device)
        self.states = torch.from_numpy(packed["states"]).float().to(device)
        self.mask = torch.from_numpy(packed["mask"]).to(device)

    def __len__(self) -> int:
        return len(self.clips)

    def take(self, index: Tensor, mirror: Tensor | None = None, without: Tensor | None = None) -> Batch:
        """Clips by number, some mirrored, some without their caption."""
        x = self.clips[index].permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        if mirror is not None:
            x = torch.where(mirror[:, None, None, None, None], x.flip(-1), x)
        seen = self.mask[self.video[index]]
        return Batch(x, self.states[self.video[index]], seen if without is None else seen & ~without[:, None])

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """Random clips; one in ten has no caption."""
        index, mirror, without = (torch.rand(size, generator=generator) for _ in range(3))
        device = self.clips.device
        return self.take((index * len(self)).long().to(device), (mirror < 0.5).to(device), (without < 0.1).to(device))


Given = Callable[[Batch], dict[str, Any]]


@dataclass(frozen=True)
class Training:
    """What of a network is trained by which loss, and what the network is told."""

    loss: Any
    given: Given = Batch.told
    trained: Callable[[str], bool] = everything


class Trainer:
    """Trains on the packed clips, in bfloat16 on a GPU."""

    def __init__(self, path: Path, device: torch.device, batch: int) -> None:
        self.device, self.size = device, batch
        self.clips, self.held = Clips(path, device, held_out=False), Clips(path, device, held_out=True)
        order = torch.linspace(0, len(self.held) - 1, min(32, len(self.held)), device=device).long()
        self.examples = self.held.take(order)

    def precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def fit(
        self, network: nn.Module, task: Training, steps: int, batches: Callable[[torch.Generator], Batch] | None = None
    ) -> int:
        """Train what the task trains; how many parameters that is."""
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(task.trained(name))
        trained = [p for p in network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, 5e-4, betas=(0.9, 0.99))
        generator = torch.Generator().manual_seed(0)
        batches = batches or (lambda generator: self.clips.batch(self.size, generator))
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = 5e-4 * min(1, (step + 1) / 50) * (1 - 0.9 * step / steps)
            batch = batches(generator)
            with self.precision():
                loss = task.loss(network, batch.x, generator, **task.given(batch)).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            if step % 100 == 0:
                print(f"    step {step}: {loss.item():.4f}", file=sys.stderr, flush=True)
        return sum(p.numel() for p in trained)

    @torch.no_grad()
    def error(self, network: nn.Module, task: Training, batch: Batch) -> float:
        """The denoising error."""
        loss, errors = task.loss, []
        denoise = denoiser(loss, network)
        for i, ratio in enumerate(NOISE_TO_SIGNAL):
            eps = torch.randn(batch.x.shape, generator=torch.Generator().manual_seed(i)).to(self.device)
            t = loss.schedule.time(torch.tensor(ratio, dtype=torch.float64)).to(self.device).expand(len(batch.x))
            alpha, sigma = loss.schedule.alpha_sigma(t)
            z = expand_to(alpha, batch.x) * batch.x + expand_to(sigma, batch.x) * eps
            with self.precision():
                errors.append((denoise(z, t, **task.given(batch)) - batch.x).square().mean().item())
        return float(np.mean(errors)) / batch.x.var().item()

    def frames(self, generator: torch.Generator) -> Batch:
        """Single frames (b, 3, h, w), four times as many as clips."""
        batch = self.clips.batch(4 * self.size, generator)
        return replace(batch, x=batch.x[:, :, int(torch.randint(FRAMES, (), generator=generator))])


def pack(folder: Path, out: Path, captions: dict[str, str]) -> int:
    """Write the clips of a folder's videos, those of which there is a caption, and the captions' states; how many."""
    from curation.engine import open_clips
    from models.text.minilm import MiniLM

    clips: list[np.ndarray] = []
    videos: list[int] = []
    names = sorted(captions)
    for number, name in enumerate(names):
        try:
            spans = [(c.start, c.end) for c in open_clips(str(folder / name))]
        except ValueError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        found = _windows(folder / name, spans)
        chosen = np.linspace(0, len(found) - 1, min(PER_VIDEO, len(found))).round().astype(int)
        clips += [found[i] for i in chosen]
        videos += [number] * len(chosen)
    text = MiniLM()([captions[name] for name in names])
    arrays: dict[str, Any] = {
        "clips": np.stack(clips),
        "video": np.array(videos),
        "names": np.array(names),
        "states": text.states.numpy().astype(np.float16),
        "mask": text.mask.numpy(),
    }
    with out.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return len(clips)


def _windows(path: Path, spans: Sequence[tuple[float, float]]) -> list[np.ndarray]:
    """Runs of FRAMES frames inside a span, one every half run: uint8 (t, h, w, 3), the centre of the picture."""
    import av

    grid: list[tuple[float, np.ndarray]] = []
    with av.open(str(path), metadata_errors="ignore") as container:
        for frame in container.decode(video=0):
            if (frame.time or 0.0) + 1e-6 < len(grid) / FPS:
                continue
            scale = SIZE / min(frame.width, frame.height)
            size = round(frame.height * scale), round(frame.width * scale)
            rgb = frame.to_ndarray(format="rgb24", height=size[0], width=size[1], interpolation="AREA")
            top, left = (size[0] - SIZE) // 2, (size[1] - SIZE) // 2
            grid.append((frame.time or 0.0, rgb[top : top + SIZE, left : left + SIZE].copy()))
    runs = []
    for start, end in spans:
        inside = [picture for at, picture in grid if start <= at < end]
        runs += [np.stack(inside[i : i + FRAMES]) for i in range(0, len(inside) - FRAMES + 1, FRAMES // 2)]
    return runs
