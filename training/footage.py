"""Frames for training an autoencoder: from a folder of videos, or packed beforehand for a machine that cannot decode.

Footage is a mapping of names to frames, RGB uint8 (n, h, w, 3), whatever their size.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.checkpoint import write_atomic
from training.errors import TrainingError

Footage = dict[str, np.ndarray]
PACKED = {".npy", ".npz"}
VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv", ".ts"}


def read_footage(source: str | Path, short: int = 256, frames: int = 64) -> tuple[Footage, list[str]]:
    """All footage of a file or of a folder (not of those in it), and why some of its files are not in it.

    Videos are scaled to `short` pixels on the short side, never up, and give at most `frames` frames, evenly spread.
    Packed files are taken as they are. Raises TrainingError where nothing can be read.
    """
    path = Path(source)
    if not path.exists():
        raise TrainingError(f"{path}: no such file or folder")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    footage: Footage = {}
    skipped: list[str] = []
    for file in files:
        try:
            if file.suffix in PACKED:
                footage |= _unpacked(file)
            elif file.suffix in VIDEOS:
                footage[file.name] = read_video(file, short, frames)
        except TrainingError as error:
            skipped.append(str(error))
    if not footage:
        raise TrainingError("; ".join(skipped) or f"{path}: neither videos nor .npy or .npz files")
    return footage, skipped


def only_packed(source: str | Path) -> bool:
    """Whether footage is all of packed files, which are taken as they are."""
    path = Path(source)
    return not any(file.suffix in VIDEOS for file in (path.iterdir() if path.is_dir() else [path]))


def read_video(path: Path, short: int, frames: int) -> np.ndarray:
    """At most `frames` upright frames spread over a video, `short` pixels on the short side: uint8 (n, h, w, 3).

    A video that breaks off gives what it has. Raises TrainingError where it has no frame.
    """
    from curation.errors import CurationError
    from curation.video.decoder import Decoder

    kept: list[np.ndarray] = []
    try:
        decoder = Decoder(str(path))
        step = (decoder.info.duration or frames / 4) / frames
        for frame in decoder:
            if frame.time < len(kept) * step - 1e-6:
                continue
            scale = min(1.0, short / min(frame.height, frame.width))
            kept.append(frame.rgb(round(max(frame.height, frame.width) * scale)))
            if len(kept) == frames:
                break
    except CurationError as error:
        raise TrainingError(str(error)) from error
    return np.stack(kept)


def pack(source: str | Path, out: Path, short: int = 256, frames: int = 64) -> tuple[Footage, list[str]]:
    """Write a folder's footage as one compressed .npz, an array for each video; returns it and what is not in it."""
    footage, skipped = read_footage(source, short, frames)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **footage)  # type: ignore[arg-type]

    write_atomic(out, write)
    return footage, skipped


def held_out(names: Mapping[str, object] | list[str], share: float) -> set[str]:
    """Which videos training does not see: about `share` of all, by a hash of their names' first word.

    Names that begin alike (`film_a.mp4`, `film_b.mp4`) are on the same side, and adding videos moves none. At least
    one is held out and one is not. Raises TrainingError where all names begin alike.
    """
    families: dict[str, set[str]] = {}
    for name in names:
        families.setdefault(re.split(r"[^a-z0-9]", name.lower())[0], set()).add(name)
    if len(families) < 2:
        raise TrainingError(f"all names begin with {next(iter(families))!r}: nothing can be held out")
    place = {f: int.from_bytes(hashlib.sha256(f.encode()).digest()[:8], "big") / 2**64 for f in families}
    order = sorted(families, key=lambda f: place[f])
    chosen = [f for f in order if place[f] < share][: len(order) - 1] or order[:1]
    return {name for family in chosen for name in families[family]}


class Level(NamedTuple):
    """One video's frames at one size: uint8 n 3 h w."""

    name: str
    frames: Tensor


class Crops:
    """Random crops of footage at its own and at halved sizes, as many of each video, whatever its length.

    Everything lies on `device`. A batch is a function of (seed, step).
    """

    def __init__(self, footage: Footage, crop: int, device: torch.device) -> None:
        self.crop = crop
        self.videos: list[list[Level]] = []
        for name, frames in sorted(footage.items()):
            level = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).contiguous()
            sizes = []
            while min(level.shape[2:]) >= crop:
                sizes.append(Level(name, level))
                level = halved(level)
            if sizes:
                self.videos.append(sizes)
        if not self.videos:
            raise TrainingError(f"--crop {crop}: no footage is that large")

    def batch(self, seed: int, step: int, size: int) -> Tensor:
        """`size` crops in [-1, 1], (size, 3, crop, crop): any video, any of its sizes, any frame and place, mirrored
        or not."""
        generator = chance(seed, step)
        draws = torch.rand(size, 6, generator=generator, dtype=torch.float64).tolist()
        crops = []
        for video, scale, frame, top, left, mirror in draws:
            sizes = self.videos[int(video * len(self.videos))]
            frames = sizes[int(scale * len(sizes))].frames
            n, _, h, w = frames.shape
            y, x = int(top * (h - self.crop + 1)), int(left * (w - self.crop + 1))
            crop = frames[int(frame * n), :, y : y + self.crop, x : x + self.crop]
            crops.append(crop.flip(-1) if mirror < 0.5 else crop)
        return to_pixels(torch.stack(crops))


def chance(*numbers: int) -> torch.Generator:
    """A generator that is a function of whole numbers, such as (seed, step), whose neighbours share nothing."""
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def halved(frames: Tensor) -> Tensor:
    """uint8 `n 3 h w` at half its height and width, the mean of each 2x2."""
    return torch.cat([F.avg_pool2d(part.float(), 2).round_().byte() for part in frames.split(16)])


def to_pixels(frames: Tensor) -> Tensor:
    """uint8 in 0 to 255 to floats in [-1, 1]."""
    return frames.float() / 127.5 - 1


def _unpacked(file: Path) -> Footage:
    try:
        loaded = np.load(file)
        arrays = dict(loaded) if file.suffix == ".npz" else {file.stem: loaded}
    except (OSError, ValueError) as error:
        raise TrainingError(f"{file}: cannot be read ({error})") from error
    for name, frames in arrays.items():
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise TrainingError(f"{file}: {name} is {frames.dtype} {frames.shape}, not uint8 (n, h, w, 3)")
    return arrays
