"""How well an autoencoder reconstructs frames that it has not seen: PSNR beside a floor, and the model card."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.autoencoders.base import Autoencoder
from models.autoencoders.small import SmallAutoencoder
from training.autoencoder_run import Run
from training.footage import Footage, halved, to_pixels

Measured = dict[str, dict[str, float]]


@torch.no_grad()
def measure(
    network: Autoencoder, footage: Footage, names: Sequence[str], device: torch.device, per_video: int = 8
) -> Measured:
    """Mean PSNR in dB over `per_video` frames of each video: of the reconstruction ("psnr") and of the same frame made
    eight times smaller and larger again, bicubic ("floor"). Whole frames at their own size ("full") and at half."""
    found: dict[str, list[tuple[float, float]]] = {"full": [], "half": []}
    for name in names:
        frames = torch.from_numpy(footage[name]).permute(0, 3, 1, 2)
        frames = frames[torch.linspace(0, len(frames) - 1, min(per_video, len(frames))).round().long()].to(device)
        for size in found:
            x = to_pixels(frames if size == "full" else halved(frames))
            h, w = (n // network.factor * network.factor for n in x.shape[2:])
            x = x[..., :h, :w]
            y = network.decode(network.encode(x, at_once=8).mode(), at_once=8)
            found[size] += list(zip(psnr(y, x), psnr(small_and_large(x, network.factor), x), strict=True))
    return {
        size: {"psnr": sum(p for p, _ in both) / len(both), "floor": sum(f for _, f in both) / len(both)}
        for size, both in found.items()
    }


def small_and_large(x: Tensor, factor: int) -> Tensor:
    """`x` made `factor` times smaller, anti-aliased, and larger again, bicubic both times."""
    small = F.interpolate(x, scale_factor=1 / factor, mode="bicubic", antialias=True)
    return F.interpolate(small, size=x.shape[2:], mode="bicubic")


def psnr(y: Tensor, x: Tensor) -> list[float]:
    """Peak signal to noise in dB of each picture, `n c h w`, whose peak is 2 (pixels in [-1, 1]); at most 50, above
    which nobody sees a difference and flat pictures would decide a mean."""
    error = (y.clamp(-1, 1) - x).double().square().flatten(1).mean(1).clamp(min=4e-5)
    return (10 * torch.log10(4 / error)).tolist()


def card(run: Run, network: SmallAutoencoder, seen: list[str], unseen: list[str], result: dict[str, Any]) -> str:
    """The model card: what it was trained on, how, and how good it is."""
    rows = [
        f"| {part} | {size} | {values['psnr']:.2f} | {values['floor']:.2f} |"
        for part, sizes in result.items()
        for size, values in sizes.items()
    ]
    parameters = sum(p.numel() for p in network.parameters())
    return "\n".join(
        [
            "# The small autoencoder",
            "",
            f"{parameters / 1e6:.2f} M parameters, factor {network.factor}, {network.config.latent_channels} latent "
            f"channels; latents are (z {-network.shift_factor:+.4f}) * {network.scaling_factor:.4f}.",
            f"{run.step} steps of {run.settings.batch} crops.",
            "",
            "| videos | size | PSNR, dB | down and up x8, bicubic, dB |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Full is at most {run.settings.short} px on the short side, half is half of it.",
            "",
            f"Trained on: {', '.join(seen)}.",
            "",
            f"Held out: {', '.join(unseen)}.",
            "",
            "Settings: `" + json.dumps(asdict(run.settings)) + "`",
            "",
        ]
    )
