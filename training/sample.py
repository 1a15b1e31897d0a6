"""From a checkpoint and prompts to videos: MP4 and GIF, and a strip of frames as PNG."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.video.stream import VideoStream
from PIL import Image

from training import checkpoint as checkpoints
from training.choice import check, makes_video, tell_of
from training.conditioning import Conditioner
from training.config import SampleConfig, TrainStageConfig
from training.draw import Scene, draw_of
from training.errors import TrainingError
from training.networks import is_grown, rebuilt, taken_apart
from training.source import read_source
from training.stages import Stopped, make_loss, pick_device
from training.trainer import OnEvent, mix

_SUFFIXES = (".mp4", ".gif", ".png")


@dataclass(frozen=True)
class SampleResult:
    """One sampled video's files. `strip` shows its frames side by side."""

    prompt: str
    mp4: str
    gif: str
    strip: str
    frames: int
    seconds: float


def run_sample(
    config: SampleConfig, on_event: OnEvent = lambda event: None, stop: Callable[[], bool] = lambda: False
) -> list[SampleResult]:
    """Sample every prompt and write its files.

    Raises TrainingError for what the user can mend; that a system cannot sample from the checkpoint, that a video
    cannot be read and that `out` cannot be written is said before the first step."""
    asked, checkpoint = config.checkpoint, checkpoints.last_finished(config.checkpoint)
    config = config.model_copy(update={"checkpoint": checkpoint})
    lineage = checkpoints.read_lineage(config.checkpoint)
    system, sizes = taken_apart(lineage.network)
    check(config, system, sizes)
    device = pick_device(config.device, config.cpu_threads)
    stage = TrainStageConfig.model_validate(lineage.config)
    stems = stems_of(config)
    for stem in stems:
        _check_writable(stem)
    video = makes_video(config, system, sizes)
    height, width, frames = stage.data.height, stage.data.width, (config.frames or stage.data.frames) if video else 1
    given = [
        read_source(field, path, frames, config.fps, height, width)
        for field, path in (("source", config.source), ("control", config.control))
        if path
    ]

    if asked != checkpoint:
        on_event({"event": "phase", "phase": f"taking the last finished stage, {checkpoint}"})
    loaded = checkpoints.load(checkpoint)
    network = rebuilt(system, sizes)
    network.load_state_dict(loaded.ema)
    network.to(device).eval().requires_grad_(False)
    loss, conditioner, tell = make_loss(stage), Conditioner(device), tell_of(config, system, sizes)
    draw = draw_of(config.system, system, is_grown(system, sizes))
    shape = (1, 3, frames, height, width) if video else (1, 3, height, width)
    pixels = (given[0] if given else torch.zeros(shape)).to(device)

    results = []
    for i, (prompt, stem) in enumerate(zip(config.prompts, stems, strict=True)):
        began = time.monotonic()
        on_event({"event": "phase", "phase": "sampling", "prompt": prompt, "of": len(config.prompts), "index": i})
        fps = torch.tensor([config.fps if sizes.temporal else math.nan])
        motion = torch.tensor([math.nan if config.motion is None else config.motion])
        both = tell(conditioner.of([prompt, ""], fps.expand(2), motion.expand(2)), pixels.expand(2, *shape[1:]))
        told, empty = ({k: v[j : j + 1] for k, v in both.items()} for j in (0, 1))
        generator = torch.Generator().manual_seed(mix(config.seed, i))
        noise = torch.randn(1, 3, frames, height, width, generator=generator).reshape(shape).to(device)

        def step(done: int, steps: int) -> None:
            on_event({"event": "sampling", "step": done, "of": steps})
            if stop():
                raise Stopped("sampling stopped")

        scale = config.guidance if prompt else 1.0
        x = draw(Scene(config, network, loss, told, empty, scale, noise, pixels, generator, step))[0]
        x = x if x.ndim == 4 else x[:, None]
        rgb = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().movedim(0, -1).cpu().numpy()
        try:
            paths = write_video(rgb, stem, config.fps, config.enlarge)
        except OSError as error:
            raise TrainingError(f"out: {stem} cannot be written ({error.strerror or error})") from error
        result = SampleResult(prompt, *(str(p) for p in paths), frames=len(rgb), seconds=time.monotonic() - began)
        on_event({"event": "result", **asdict(result)})
        results.append(result)
    return results


def stems_of(config: SampleConfig) -> list[Path]:
    """Each prompt's files without their suffix: `out` itself, or out-1, out-2, ... where there are several prompts."""
    out = Path(config.out).expanduser()
    out = out.with_suffix("") if out.suffix in _SUFFIXES else out
    if len(config.prompts) == 1:
        return [out]
    return [out.with_name(f"{out.name}-{i + 1}") for i in range(len(config.prompts))]


def _files(stem: Path) -> tuple[Path, Path, Path]:
    """MP4, GIF and PNG beside each other."""
    mp4, gif, png = (stem.with_name(stem.name + suffix) for suffix in _SUFFIXES)
    return mp4, gif, png


def _check_writable(stem: Path) -> None:
    """Raises TrainingError if the files of a stem cannot be written; an empty one is, and is taken away again."""
    for path in _files(stem):
        if path.is_dir():
            raise TrainingError(f"out: {path} is a folder; choose another name with out")
    try:
        probe = stem.with_name(f".{stem.name}.probe")
        checkpoints.write_atomic(probe, lambda temporary: temporary.write_bytes(b""))
        probe.unlink()
    except OSError as error:
        raise TrainingError(f"out: {stem} cannot be written ({error.strerror or error})") from error


def write_video(frames: np.ndarray, stem: Path, fps: float, enlarge: int = 1) -> tuple[Path, Path, Path]:
    """Write uint8 RGB frames (t, h, w, 3) as stem.mp4 (H.264), stem.gif and stem.png (all frames in a row).

    Every pixel becomes `enlarge` x `enlarge`; sides must then be even for the MP4, so odd ones lose their last line.
    """
    large = frames.repeat(enlarge, 1).repeat(enlarge, 2)
    mp4, gif, png = _files(stem)
    checkpoints.write_atomic(mp4, lambda temporary: _encode(large, temporary, fps))
    pictures = [Image.fromarray(frame) for frame in large]
    checkpoints.write_atomic(
        gif,
        lambda temporary: pictures[0].save(
            temporary, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0
        ),
    )
    strip = Image.fromarray(np.concatenate(list(large), axis=1))
    checkpoints.write_atomic(png, lambda temporary: strip.save(temporary, "PNG"))
    return mp4, gif, png


def _encode(frames: np.ndarray, path: Path, fps: float) -> None:
    height, width = (side - side % 2 for side in frames.shape[1:3])
    with av.open(path, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "15", "threads": "1", "x264-params": "mbtree=0"}  # the same bytes every time
        for pixels in frames[:, :height, :width]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode())
