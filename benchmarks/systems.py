"""All systems on one tiny task, in one run: 8 frames of 48 x 48 pixels and a caption, from real footage.

    python benchmarks/systems.py --pack FOLDER CLIPS.npz
    python benchmarks/systems.py CLIPS.npz --out OUT [--steps 300] [--width 48] [--patch 2] [--systems vdm,dit,...]

The first cuts clips from a folder of videos (by the single pass, so that no clip has a cut); captions are the
`description`s of its truth.json. The second trains each system's video network for --steps steps from where its recipe
begins: from nothing, or from an image network that is trained first on the same footage, and then by that one's loss
(v, cosine). Systems that train nothing sample with the image network. In OUT are systems.md, for each system
parameters, of which trained, FLOPs of one call, the denoising error on videos that were not trained on, before and
after, and the seconds of a sample; NAME.pt, the trained network, which a later run of the same settings takes up; and
NAME.jpg, three clips and below each what was drawn of its caption (of two videos that were trained on and one that was
not), or for the two that edit, of the clip itself. A GPU is used where there is one; torch, numpy and Pillow are enough
for this half.

What stands in for what is not there: pixels, or patches of them, for latents; for SVD one motion bucket; for Gen-1
brightness for depth and a projection of a tiny picture for CLIP's embedding; of Imagen Video the base model alone.

The error is ||x_hat - x||^2 in units of the clips' variance, the mean over sigma / alpha = 0.3, 1 and 3, with the same
noise for all.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.arguments import at_least_one, known_folder, parser_of
from benchmarks.tiny_video import FPS, FRAMES, SIZE, Batch, Clips, Trainer, Training, pack
from models.backbones.dit import DiT, DiTConfig
from models.backbones.sd_unet import SDUNet, SDUNetConfig
from models.backbones.unet import UNet, UNetConfig, inflate
from models.diffusion.losses import VLoss, denoiser
from models.diffusion.samplers import DDIM
from models.diffusion.samplers import sample as draw
from models.systems import (
    control_video,
    dit,
    gen1,
    imagen_video,
    lumiere,
    svd,
    text2video_zero,
    tune_a_video,
    vdm,
    video_ldm,
)
from models.systems.recipe import count, temporal_only
from models.systems.text_guidance import guided_by_text

TEXT_DIM = 384
IMAGE_LOSS = VLoss()
PICTURES = Training(IMAGE_LOSS, Batch.as_pictures)
GUIDANCE = 2.0
SHOWN = 3  # clips on a contact sheet


@dataclass(frozen=True)
class Task:
    """A system's part: its video network, and how it is trained, if it is, and samples.

    `make` is given the image network, with what it may train before; `sample` a batch whose captions it takes.
    """

    make: Callable[[Trainer, UNet, int], nn.Module]
    sample: Callable[[nn.Module, Batch, torch.Generator], Tensor]
    training: Training = field(default_factory=lambda: Training(IMAGE_LOSS))
    trains: bool = True
    one_clip: bool = False  # one-shot tuning: trained on one held-out clip, measured on the others of its video
    edits: bool = False  # makes new clips of clips


def unit(batch: Batch, generator: torch.Generator, frames: int = FRAMES) -> Tensor:
    """Noise (b, 3, frames, h, w)."""
    return torch.randn(len(batch.x), 3, frames, SIZE, SIZE, generator=generator).to(batch.x.device)


def by_text(network: nn.Module, batch: Batch, generator: torch.Generator, loss: Any = IMAGE_LOSS) -> Tensor:
    """DDIM in 30 steps, guided by the text."""
    denoise = guided_by_text(denoiser(loss, network), batch.text, batch.seen, GUIDANCE, fps=batch.told()["fps"])
    return draw(denoise, unit(batch, generator), loss.schedule, 30, DDIM())


@dataclass(frozen=True)
class Joint:
    """VDM's loss on videos with two frames of other videos behind each as independent images."""

    schedule: Any = vdm.LOSS.schedule
    parameterization: Any = vdm.LOSS.parameterization

    def __call__(self, network: nn.Module, x: Tensor, generator: torch.Generator, **told: Any) -> Tensor:
        both, mask = vdm.joint(x, x.roll(1, 0)[:, :, :2].transpose(1, 2))
        return vdm.LOSS(network, both, generator, **told, frame_mask=mask)


class Folded(nn.Module):
    """A network of latents on pixels: patches of them are its channels."""

    def __init__(self, network: nn.Module, patch: int) -> None:
        super().__init__()
        self.network, self.patch = network, patch

    def forward(self, z: Tensor, noise: Tensor, **told: Any) -> Tensor:
        if z.ndim == 4:
            return F.pixel_shuffle(self.network(F.pixel_unshuffle(z, self.patch), noise, **told), self.patch)
        folded = F.pixel_unshuffle(z.transpose(1, 2), self.patch).transpose(1, 2)
        return F.pixel_shuffle(self.network(folded, noise, **told).transpose(1, 2), self.patch).transpose(1, 2)


def svd_network(trainer: Trainer, image: UNet, steps: int) -> nn.Module:
    """SVD has image networks of its own kind: its image stage for as many steps as the video one, then inflated."""
    width, patch = image.config.width, image.config.patch
    pixels = 3 * patch**2
    sizes = SDUNetConfig(
        in_channels=pixels,
        out_channels=pixels,
        block_out_channels=(32 * max(1, width // 32), 64 * max(1, width // 32)),
        layers_per_block=1,
        cross_attention_dim=TEXT_DIM,
        attention_head_dim=(1, 2),
        use_linear_projection=True,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    unet = SDUNet(sizes)
    network = Folded(unet, patch).to(trainer.device)
    first = svd.SYSTEM.stage("image_pretrain")
    trainer.fit(network, Training(first.loss, lambda b: {"context": svd_told(b)["context"]}), steps, trainer.frames)
    return Folded(svd.video_of(unet, number_dim=32, frames=FRAMES), patch)


def svd_told(batch: Batch) -> dict[str, Any]:
    """Text, frame rate, and the middle of the motion buckets: the clips have no motion score."""
    fps = batch.told()["fps"]
    return {"context": batch.text * batch.seen[..., None], "numbers": svd.numbers(fps, torch.full_like(fps, 127))}


def svd_sample(network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
    """Euler's steps of EDM on Karras's sigmas, guided by the text."""
    told = svd_told(batch)
    return svd.sample(network, unit(batch, generator), told, 30, (GUIDANCE, GUIDANCE))


def gen1_network(trainer: Trainer, image: UNet, steps: int) -> nn.Module:
    """Gen-1's image network knows content by cross-attention alone: as many steps on images, then inflated."""
    network = UNet(replace(image.config, pooled_text=False)).to(trainer.device)
    trainer.fit(network, Training(IMAGE_LOSS, lambda b: {"text": content(b.x)[:, None]}), steps, trainer.frames)
    return gen1.network(network)


def content(x: Tensor) -> Tensor:
    """(b, d): in place of CLIP's embedding, a fixed projection of a very small picture of one frame."""
    frame = x if x.ndim == 4 else x[:, :, FRAMES // 2]
    small = F.adaptive_avg_pool2d(frame, 6).flatten(1)
    return small @ torch.randn(small.shape[1], TEXT_DIM, generator=torch.Generator().manual_seed(0)).to(x) / 6


def gen1_told(batch: Batch) -> dict[str, Any]:
    """Content, and in place of depth the brightness, blurred twice."""
    levels = torch.full((len(batch.x),), 2.0, device=batch.x.device)
    return {
        "content": content(batch.x),
        "structure": gen1.blurred(batch.x.mean(1, keepdim=True), levels),
        "blur": levels,
    }


def gen1_sample(network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
    """Each clip's structure with the content of another one."""
    told = gen1_told(batch)
    told["content"] = told["content"].roll(1, 0)
    return gen1.sample(network, unit(batch, generator), **told, scale=GUIDANCE, schedule=IMAGE_LOSS.schedule, steps=30)


def moved(network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
    """Text2Video-Zero, with a pixel of motion a frame."""
    denoise = guided_by_text(denoiser(IMAGE_LOSS, network), batch.text, batch.seen, GUIDANCE)
    motion, noise = text2video_zero.Motion(strength=1.0), unit(batch, generator, 1)
    return text2video_zero.sample(denoise, noise, IMAGE_LOSS.schedule, 50, FRAMES, generator, motion)


def together(network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
    """ControlVideo, without a picture to control by."""
    denoise = guided_by_text(denoiser(IMAGE_LOSS, network), batch.text, batch.seen, GUIDANCE)
    return control_video.sample(denoise, unit(batch, generator, 1), FRAMES, IMAGE_LOSS.schedule, 50)


def again(network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
    """Tune-A-Video: one clip inverted after its own caption, the first, and made anew after each."""
    denoise = denoiser(IMAGE_LOSS, network)
    source = guided_by_text(denoise, batch.text[:1].expand_as(batch.text), batch.seen[:1].expand_as(batch.seen))
    edited = guided_by_text(denoise, batch.text, batch.seen, GUIDANCE)
    return tune_a_video.edit(source, edited, batch.x, IMAGE_LOSS.schedule, 30)


def vdm_network(trainer: Trainer, image: UNet, steps: int) -> nn.Module:
    """VDM of the image network's sizes."""
    return vdm.network(replace(image.config, temporal=True))


def base_network(trainer: Trainer, image: UNet, steps: int) -> nn.Module:
    """Imagen Video's base model of the image network's sizes."""
    sizes = replace(image.config, temporal=True)
    return imagen_video.network(imagen_video.Model("base", "base", FRAMES, SIZE, SIZE, int(FPS), sizes))


def dit_sample(network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
    """Euler's steps along the straight path, guided by the text."""
    told: dict[str, Any] = dict(batch.told())
    assert isinstance(network, DiT)
    return dit.sample(network, batch.x.shape, generator, 30, GUIDANCE, 1.0, **told)


def dit_network(trainer: Trainer, image: UNet, steps: int) -> nn.Module:
    """A transformer of four times the image network's width, and twice its patches."""
    patch = 2 * image.config.patch
    return DiT(DiTConfig(width=4 * image.config.width, depth=8, head_dim=24, patch=(1, patch, patch), channels=3))


TASKS: Mapping[str, Task] = {
    "vdm": Task(vdm_network, partial(by_text, loss=vdm.LOSS), Training(Joint())),
    "dit": Task(
        dit_network,
        dit_sample,
        Training(dit.LOSS),
    ),
    "imagen_video": Task(base_network, by_text, Training(imagen_video.LOSS)),
    "make_a_video": Task(lambda trainer, image, steps: inflate(image), by_text),
    "tune_a_video": Task(
        lambda trainer, image, steps: tune_a_video.network(image),
        again,
        Training(IMAGE_LOSS, Batch.as_pictures, tune_a_video.tuned),
        one_clip=True,
    ),
    "gen1": Task(gen1_network, gen1_sample, Training(IMAGE_LOSS, gen1_told), edits=True),
    "video_ldm": Task(
        lambda trainer, image, steps: video_ldm.network(image), by_text, Training(IMAGE_LOSS, trained=temporal_only)
    ),
    "svd": Task(svd_network, svd_sample, Training(svd.SYSTEM.stage("video_pretrain").loss, svd_told)),
    "lumiere": Task(
        lambda trainer, image, steps: lumiere.space_time(image), by_text, Training(IMAGE_LOSS, trained=temporal_only)
    ),
    "text2video_zero": Task(
        lambda trainer, image, steps: text2video_zero.network(image), moved, PICTURES, trains=False
    ),
    "control_video": Task(
        lambda trainer, image, steps: control_video.ControlVideo(image), together, PICTURES, trains=False
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """What is told of a system."""

    name: str
    parameters: int
    trained: int
    flops: int
    before: float
    after: float
    seconds: float


class Folder:
    """Where results go. What was trained there by the same `settings` is not trained again."""

    def __init__(self, path: Path, settings: dict[str, int]) -> None:
        self.path, self.settings = path, settings
        path.mkdir(parents=True, exist_ok=True)

    def kept(self, name: str, device: torch.device) -> dict[str, Any] | None:
        """What `keep` has written of that name, if it has under these settings."""
        file = self.path / f"{name}.pt"
        found = torch.load(file, device) if file.is_file() else {}
        return found if found.get("settings") == self.settings else None

    def keep(self, name: str, network: nn.Module, **told: float) -> None:
        """Weights and what is told of their training."""
        part = self.path / f".{name}.part"
        torch.save({"settings": self.settings, "weights": network.state_dict(), **told}, part)
        part.replace(self.path / f"{name}.pt")


def measure(name: str, task: Task, trainer: Trainer, image: UNet, steps: int, out: Folder) -> Line:
    """Train, measure, sample, draw."""
    torch.manual_seed(1)
    kept = out.kept(name, trainer.device)
    network = task.make(trainer, image, 0 if kept else steps).to(trainer.device)
    network.requires_grad_(False)
    examples, trained = trainer.examples, 0
    number = torch.zeros(4, dtype=torch.long, device=trainer.device)
    one = trainer.held.take(number)
    if task.one_clip:
        examples = trainer.held.take(torch.arange(1, 9, device=trainer.device))
    before = after = trainer.error(network, task.training, examples)
    if kept:
        network.load_state_dict(kept["weights"])
        before, trained = kept["before"], int(kept["trained"])
    elif task.trains:
        trained = trainer.fit(network, task.training, steps, (lambda generator: one) if task.one_clip else None)
        out.keep(name, network, before=before, trained=trained)
    if task.trains:
        after = trainer.error(network, task.training, examples)
    shown, single = to_show(task, trainer), trainer.held.take(number[:1])
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(single.x, single.x.new_zeros(1), **task.training.given(single))
    began = time.perf_counter()
    with torch.no_grad(), trainer.precision():
        drawn = task.sample(network, shown, torch.Generator().manual_seed(0)).float().cpu()
    seconds = (time.perf_counter() - began) / SHOWN
    sheet(shown.x.cpu(), drawn).save(out.path / f"{name}.jpg", quality=88)
    return Line(name, count(network), trained, counter.get_total_flops(), before, after, seconds)


def to_show(task: Task, trainer: Trainer) -> Batch:
    """The clips of a sheet: held-out ones for who edits, of one clip with its own caption and two that were trained on,
    else two clips that were trained on and one that was not."""
    trained, held = trainer.clips.take(spread(trainer.clips)), trainer.held.take(spread(trainer.held))
    if task.edits:
        return held
    first, rest = (held, trained) if task.one_clip else (trained, held)
    after = 1 if task.one_clip else SHOWN - 1
    x, text, seen = (
        torch.cat([getattr(first, name)[:after], getattr(rest, name)[after:]]) for name in ("x", "text", "seen")
    )
    return Batch(held.x[:1].expand_as(x) if task.one_clip else x, text, seen)


def spread(clips: Clips) -> Tensor:
    """SHOWN numbers of clips, of as many videos."""
    videos = clips.video.unique()
    chosen = videos[torch.linspace(0, len(videos) - 1, SHOWN, device=videos.device).round().long()]
    return torch.stack([(clips.video == video).nonzero()[:, 0].median() for video in chosen])


def sheet(clips: Tensor, drawn: Tensor, scale: int = 2) -> Image.Image:
    """Rows of frames: each clip, and below it what was drawn."""
    rows = torch.stack([clips, drawn], dim=1).flatten(0, 1)  # (clip, drawn, clip, ...) c t h w
    grid = rows.permute(0, 3, 2, 4, 1).flatten(0, 1).flatten(1, 2)  # (rows h) (t w) c
    pixels = ((grid.clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
    return Image.fromarray(pixels.repeat(scale, 0).repeat(scale, 1))


def table(lines: list[Line], what: str) -> str:
    """The lines as Markdown."""
    head = "| system | parameters | trained | GFLOPs a call | error before | after | seconds a sample |"
    rows = [
        f"| {x.name} | {x.parameters / 1e6:.2f} M | {x.trained / 1e6:.2f} M | {x.flops / 1e9:.1f} | {x.before:.3f} | "
        f"{x.after:.3f} | {x.seconds:.2f} |"
        for x in lines
    ]
    return "\n".join([what, "", head, "|---|---|---|---|---|---|---|", *rows, ""])


def main() -> None:
    """Pack, or train and measure."""
    parser = parser_of(__doc__)
    parser.add_argument("clips", type=Path, help="the packed clips, to read, or with --pack to write")
    parser.add_argument("--pack", type=known_folder, metavar="FOLDER", help="of videos and their truth.json")
    parser.add_argument("--out", type=Path, default=Path("systems"), help="folder of the table and the sheets")
    parser.add_argument("--steps", type=at_least_one, default=300, help="of each system")
    parser.add_argument("--image-steps", type=at_least_one, default=1500, help="of the image network")
    parser.add_argument("--batch", type=at_least_one, default=16, help="clips a step; images are four times as many")
    parser.add_argument("--width", type=at_least_one, default=48, help="channels of the image network's finest level")
    parser.add_argument("--patch", type=at_least_one, default=2, help="pixels (side) in one of its channels")
    parser.add_argument("--systems", default=",".join(TASKS), help="default: %(default)s")
    args = parser.parse_args()
    if args.pack:
        truth = json.loads((args.pack / "truth.json").read_text())
        captions = {name: label["description"] for name, label in truth.items() if not name.startswith("odd/")}
        print(f"{args.clips}: {pack(args.pack, args.clips, captions)} clips")
        return
    if unknown := [name for name in args.systems.split(",") if name not in TASKS]:
        parser.error(f"argument --systems: there is no {', '.join(unknown)}; there are {', '.join(TASKS)}")
    if not args.clips.is_file():
        parser.error(f"{args.clips} is no file; make it with --pack")
    names = ("steps", "image_steps", "batch", "width", "patch")
    out = Folder(args.out, {name: getattr(args, name) for name in names})
    trainer = Trainer(args.clips, torch.device("cuda" if torch.cuda.is_available() else "cpu"), args.batch)
    torch.manual_seed(0)
    sizes = UNetConfig(args.width, (1, 2, 3), attention_levels=(1, 2), patch=args.patch, text_dim=TEXT_DIM, head_dim=24)
    image = UNet(sizes).to(trainer.device)
    if kept := out.kept("image", trainer.device):
        image.load_state_dict(kept["weights"])
        seconds = kept["seconds"]
    else:
        began = time.perf_counter()
        trainer.fit(image, PICTURES, args.image_steps, trainer.frames)
        seconds = time.perf_counter() - began
        out.keep("image", image, seconds=seconds)
    error = trainer.error(image, PICTURES, trainer.examples)
    what = (
        f"{len(trainer.clips)} clips trained on, {len(trainer.held)} held out; {args.steps} steps of {args.batch} "
        f"clips. The image network: {args.image_steps} steps of {4 * args.batch} frames in {seconds:.0f} s, its error "
        f"frame by frame {error:.3f}."
    )
    print(what, flush=True)
    lines: list[Line] = []
    for name in args.systems.split(","):
        began = time.perf_counter()
        lines.append(measure(name, TASKS[name], trainer, image, args.steps, out))
        print(table(lines[-1:], "").splitlines()[-1], f"({time.perf_counter() - began:.0f} s)", flush=True)
    (out.path / "systems.md").write_text(table(lines, what))


if __name__ == "__main__":
    main()
