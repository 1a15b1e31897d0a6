"""From clips to batches: which frames of them, which caption."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.config import CaptionWeights, DataSettings
from training.errors import TrainingError
from training.frames import TOLERANCE_S, FrameReader
from training.selection import CAPTIONS, Clip

Warn = Callable[[str], None]


class Example(NamedTuple):
    """One training sample: pixels uint8 (h, w, 3) or (t, h, w, 3), its caption, and NaN for what is unknown."""

    pixels: np.ndarray
    caption: str
    fps: float
    motion: float


class Batch(NamedTuple):
    """`pixels` float32 in [-1, 1], (b, 3, h, w) or (b, 3, t, h, w); `fps` and `motion` (b,), NaN where unknown."""

    pixels: Tensor
    captions: list[str]
    fps: Tensor
    motion: Tensor


def collate(examples: Sequence[Example]) -> Batch:
    """Stack examples of one size."""
    pixels = torch.from_numpy(np.stack([e.pixels for e in examples])).movedim(-1, 1)
    return Batch(
        pixels.contiguous().float() / 127.5 - 1,
        [e.caption for e in examples],
        torch.tensor([e.fps for e in examples], dtype=torch.float32),
        torch.tensor([e.motion for e in examples], dtype=torch.float32),
    )


@dataclass
class ClipData:
    """Examples of clips. Example n is a function of (seed, n) alone, so a resumed run sees what it would have seen.

    Clips with weights are drawn in proportion, each draw on its own; without, every epoch shows each clip once.
    `frames` is None for single images. Small sets are decoded once, at their size, into `cache`; larger ones are read
    as they are needed. Clips that cannot be read or are too short are named through `warn` and left out; raises
    TrainingError where that leaves nothing.
    """

    clips: list[Clip]
    settings: DataSettings
    frames: int | None
    cache: Path
    seed: int = 0
    warn: Warn = print
    reader: FrameReader = field(init=False)
    cached: bool = field(init=False)
    _left: list[Clip] = field(init=False, default_factory=list)
    _until: np.ndarray | None = field(init=False, default=None)  # running sum of the weights, (clips,)

    def __post_init__(self) -> None:
        s = self.settings
        self.reader = FrameReader(s.height, s.width)
        size = sum((c.end - c.start) * c.fps for c in self.clips) * s.height * s.width * 3
        self.cached = size <= s.cache_gb * 1e9
        if self.cached:
            self.cache.mkdir(parents=True, exist_ok=True)
        for clip in self.clips:
            if self.frames and not fits(clip, self.frames, s.fps):
                self.warn(f"{clip.uri} at {clip.start:.2f} s: fewer than {self.frames} frames, left out")
                continue
            try:
                if self.cached:
                    self._cached(clip)
            except TrainingError as error:
                self.warn(f"{error}: left out")
                continue
            self._left.append(clip)
        if not self._left:
            need = f"readable and {self.frames} frames long" if self.frames else "readable"
            raise TrainingError(f"selection: none of its {len(self.clips)} clips is {need}; nothing to train on")
        weights = [clip.weight for clip in self._left if clip.weight is not None]
        self._until = np.cumsum(weights, dtype=np.float64) if weights else None

    def __len__(self) -> int:
        return len(self._left)

    def batch(self, first: int, size: int) -> Batch:
        """Examples first ... first + size - 1."""
        return collate([self.example(n) for n in range(first, first + size)])

    def example(self, n: int) -> Example:
        """The n-th example of an endless walk over the clips. Raises TrainingError if none can be read."""
        for attempt in range(len(self)):
            clip = self._left[self._at(n, attempt)]
            try:
                return self._draw(clip, np.random.default_rng([self.seed, 2, n]))
            except TrainingError as error:
                self.warn(f"{error}: the next clip stands in")
        raise TrainingError("selection: none of its clips can be read any more; are the videos still there?")

    def _at(self, n: int, attempt: int) -> int:
        """Which clip the n-th example is of; further attempts give the clips after it."""
        if self._until is None:
            epoch, position = divmod(n, len(self))
            order = np.random.default_rng([self.seed, 1, epoch]).permutation(len(self))
            return order[(position + attempt) % len(self)]
        share = np.random.default_rng([self.seed, 3, n]).random() * self._until[-1]
        first = min(int(np.searchsorted(self._until, share, "right")), len(self) - 1)
        return (first + attempt) % len(self)

    def fixed(self, limit: int = 64) -> list[Example]:
        """One example a clip without chance, for evaluation: the middle of the clip, its likeliest caption."""
        out = []
        for clip in self._left[:limit]:
            rate = _rates(clip, self.frames, self.settings.fps)[0] if self.frames else math.nan
            length = (self.frames - 1) / rate if self.frames else 0.0
            caption = max(_captions(clip, self.settings.captions), key=lambda c: c[1], default=("", 0.0))[0]
            out.append(self._example(clip, rate, (clip.span - length) / 2, caption))
        return out

    def _draw(self, clip: Clip, rng: np.random.Generator) -> Example:
        s = self.settings
        rates = _rates(clip, self.frames, s.fps) if self.frames else [math.nan]
        rate = rates[rng.integers(len(rates))]
        length = (self.frames - 1) / rate if self.frames else 0.0
        offset = rng.uniform(0, max(0.0, clip.span - length))
        captions = _captions(clip, s.captions)
        drop = rng.random() < s.text_drop
        weights = np.array([w for _, w in captions])
        caption = "" if drop or not captions else captions[rng.choice(len(captions), p=weights / weights.sum())][0]
        return self._example(clip, rate, offset, caption)

    def _example(self, clip: Clip, rate: float, offset: float, caption: str) -> Example:
        steps = np.arange(self.frames) / rate if self.frames else np.zeros(1)
        times = clip.start + offset + steps
        if self.cached:
            frames, starts = self._cached(clip)
            shown = np.searchsorted(starts, times + TOLERANCE_S, "right") - 1
            pixels = np.asarray(frames[np.maximum(shown, 0)])
        else:
            pixels = self.reader.at(clip.uri, times, clip.width / clip.height, (clip.start, clip.start_pts))
        return Example(pixels, caption, rate, clip.motion) if self.frames else Example(pixels[0], caption, rate, rate)

    def _cached(self, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
        """The clip's frames, memory-mapped, and their times; decoded if they are not there yet."""
        s = self.settings
        what = [clip.uri, clip.video_id, clip.start, clip.end, clip.width, clip.height, s.height, s.width, 2]
        key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]
        frames, times = self.cache / f"{key}.frames.npy", self.cache / f"{key}.times.npy"
        if not times.exists():
            pixels, starts = self.reader.span(
                clip.uri, clip.start, clip.end, clip.width / clip.height, (clip.start, clip.start_pts)
            )
            _save(frames, pixels)
            _save(times, starts)  # last: where it is, the frames are whole
        return np.load(frames, mmap_mode="r"), np.load(times)


def longest(clip: Clip) -> int:
    """The most different frames that the clip has."""
    return 1 + math.floor(clip.span * clip.fps * 1.001)


def fits(clip: Clip, frames: int, wanted: Sequence[float]) -> bool:
    """Whether the clip has so many different frames."""
    return bool(_rates(clip, frames, wanted))


def _rates(clip: Clip, frames: int, wanted: Sequence[float]) -> list[float]:
    """Rates at which `frames` different frames fit into the clip; empty where it has fewer."""
    needed = (frames - 1) / clip.span if clip.span > 0 else (math.inf if frames > 1 else 0.0)
    if needed > clip.fps * 1.001:
        return []
    return [r for r in wanted if needed <= r <= clip.fps * 1.001] or [max(needed, min(clip.fps, *wanted))]


def _captions(clip: Clip, weights: CaptionWeights) -> list[tuple[str, float]]:
    shares = (getattr(weights, name) for name in CAPTIONS)
    return [(text, share) for text, share in zip(clip.captions, shares, strict=True) if text and share > 0]


def _save(path: Path, array: np.ndarray) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.save(file, array)
    temporary.replace(path)
