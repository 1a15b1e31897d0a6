"""From a selection to batches: which clips, which frames of them, which caption."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from training.config import CaptionWeights, DataSettings
from training.errors import TrainingError
from training.frames import TOLERANCE_S, FrameReader

CAPTIONS = ("image", "video", "fused")
REQUIRED = ("clip_id", "video_id", "uri", "start", "end", "fps", "width", "height")
Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Clip:
    """A row of the selection. Times in seconds since the video's first frame; `motion` NaN where not measured."""

    clip_id: str
    video_id: str
    uri: str
    start: float
    end: float
    fps: float
    width: int
    height: int
    motion: float
    captions: tuple[str, str, str]  # image, video, fused; empty where missing
    rank: float = math.nan

    @property
    def span(self) -> float:
        """Seconds from the start of its first to the start of its last frame."""
        return max(0.0, self.end - self.start - 1 / self.fps)


@dataclass(frozen=True)
class Selection:
    """Clips in the order of their ids, where they come from, and what the motion score means.

    `content_hash` is of the rows themselves, ranks excepted, so that it is one for all stages. `made_from` holds the
    hashes of manifest, policy and selection that curation recorded; empty for a table made by other means.
    """

    clips: list[Clip]
    content_hash: str
    made_from: dict[str, str]
    motion_definition: dict[str, Any] | None

    @property
    def hash(self) -> str:
        """What curation calls this selection, or else the hash of its content."""
        return self.made_from.get("selection_hash", self.content_hash)


def read_selection(folder: str, rank_by: str = "") -> Selection:
    """Read FOLDER/clips.parquet (or that file itself), with the column `rank_by` as each clip's rank.

    Raises TrainingError where the file, a column or every row is missing.
    """
    path = Path(folder)
    path = path / "clips.parquet" if path.suffix != ".parquet" else path
    try:
        schema = pq.read_schema(path)
        wanted = [c for c in ("motion", *(f"caption_{c}" for c in CAPTIONS)) if c in schema.names]
        if missing := [c for c in (*REQUIRED, *([rank_by] if rank_by else [])) if c not in schema.names]:
            raise TrainingError(f"{path}: no column {missing[0]}; it has {', '.join(schema.names)}")
        table = pq.read_table(path, columns=list(dict.fromkeys([*REQUIRED, *wanted, *([rank_by] if rank_by else [])])))
    except FileNotFoundError as error:
        raise TrainingError(f"selection: {path} does not exist; run `rushes select` first") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise TrainingError(f"selection: {path} cannot be read ({error})") from error
    if not len(table):
        raise TrainingError(f"selection: {path} keeps no clip; loosen the policy and select again")
    rows = sorted(table.to_pylist(), key=lambda row: row["clip_id"])
    seen = [{name: row[name] for name in (*REQUIRED, *wanted)} for row in rows]
    digest = hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()
    clips = [
        Clip(
            **{name: row[name] for name in REQUIRED},
            motion=_number(row.get("motion")),
            captions=tuple(row.get(f"caption_{c}") or "" for c in CAPTIONS),  # type: ignore[arg-type]
            rank=_number(row[rank_by]) if rank_by else math.nan,
        )
        for row in rows
    ]
    return Selection(clips, digest, _made_from(path.with_name("selection.json")), _definition(schema, "motion"))


def best(clips: Sequence[Clip], fraction: float) -> list[Clip]:
    """The given share of clips with the highest rank, at least one; clips without a rank come last."""
    keep = max(1, round(fraction * len(clips)))
    order = sorted(range(len(clips)), key=lambda i: (-clips[i].rank if clips[i].rank == clips[i].rank else math.inf, i))
    return [clips[i] for i in sorted(order[:keep])]


def split_holdout(clips: Sequence[Clip], share: float) -> tuple[list[Clip], list[Clip], str]:
    """(training clips, held-out clips, how): no source video gives clips to both.

    Videos are taken in the order of a hash of their id, so the split is the same in every stage, as long as they do
    not take the held-out part above `share` of the clips (or one video's worth). One video alone is split by clip,
    and one clip alone is not split: `how` says "by video", "by clip" or "none".
    """
    videos: dict[str, list[Clip]] = {}
    for clip in clips:
        videos.setdefault(clip.video_id, []).append(clip)
    if share == 0 or len(clips) == 1:
        return list(clips), [], "none"
    groups, how = (videos, "by video") if len(videos) > 1 else ({c.clip_id: [c] for c in clips}, "by clip")
    limit = max(share * len(clips), min(map(len, groups.values())))
    held: set[str] = set()
    count = 0
    for key in sorted(groups, key=lambda k: hashlib.sha256(k.encode()).digest()):
        if count + len(groups[key]) <= limit and len(held) + 1 < len(groups):
            held.add(key)
            count += len(groups[key])
    name = (lambda c: c.video_id) if how == "by video" else (lambda c: c.clip_id)
    return [c for c in clips if name(c) not in held], [c for c in clips if name(c) in held], how


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

    `frames` is None for single images. Small sets are decoded once, at their size, into `cache`; larger ones are
    read as they are needed. Clips that cannot be read or are too short are named through `warn` and left out; raises
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

    def __post_init__(self) -> None:
        s = self.settings
        self.reader = FrameReader(s.height, s.width)
        size = sum((c.end - c.start) * c.fps for c in self.clips) * s.height * s.width * 3
        self.cached = size <= s.cache_gb * 1e9
        if self.cached:
            self.cache.mkdir(parents=True, exist_ok=True)
        for clip in self.clips:
            if self.frames and not _rates(clip, self.frames, s.fps):
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

    def __len__(self) -> int:
        return len(self._left)

    def batch(self, first: int, size: int) -> Batch:
        """Examples first ... first + size - 1."""
        return collate([self.example(n) for n in range(first, first + size)])

    def example(self, n: int) -> Example:
        """The n-th example of an endless shuffled walk over the clips. Raises TrainingError if none can be read."""
        for attempt in range(len(self)):
            epoch, position = divmod(n, len(self))
            order = np.random.default_rng([self.seed, 1, epoch]).permutation(len(self))
            clip = self._left[order[(position + attempt) % len(self)]]
            try:
                return self._draw(clip, np.random.default_rng([self.seed, 2, n]))
            except TrainingError as error:
                self.warn(f"{error}: the next clip stands in")
        raise TrainingError("selection: none of its clips can be read any more; are the videos still there?")

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
            pixels = self.reader.at(clip.uri, times, clip.width / clip.height)
        return Example(pixels, caption, rate, clip.motion) if self.frames else Example(pixels[0], caption, rate, rate)

    def _cached(self, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
        """The clip's frames, memory-mapped, and their times; decoded if they are not there yet."""
        s = self.settings
        what = [clip.uri, clip.video_id, clip.start, clip.end, clip.width, clip.height, s.height, s.width, 1]
        key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]
        frames, times = self.cache / f"{key}.frames.npy", self.cache / f"{key}.times.npy"
        if not times.exists():
            pixels, starts = self.reader.span(clip.uri, clip.start, clip.end, clip.width / clip.height)
            _save(frames, pixels)
            _save(times, starts)  # last: where it is, the frames are whole
        return np.load(frames, mmap_mode="r"), np.load(times)


def _rates(clip: Clip, frames: int, wanted: Sequence[float]) -> list[float]:
    """Rates at which `frames` different frames fit into the clip; empty where it has fewer."""
    needed = (frames - 1) / clip.span if clip.span > 0 else (math.inf if frames > 1 else 0.0)
    if needed > clip.fps * 1.001:
        return []
    return [r for r in wanted if needed <= r <= clip.fps * 1.001] or [max(needed, min(clip.fps, *wanted))]


def _captions(clip: Clip, weights: CaptionWeights) -> list[tuple[str, float]]:
    shares = (getattr(weights, name) for name in CAPTIONS)
    return [(text, share) for text, share in zip(clip.captions, shares, strict=True) if text and share > 0]


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _definition(schema: pa.Schema, column: str) -> dict[str, Any] | None:
    if column not in schema.names:
        return None
    raw = (schema.field(column).metadata or {}).get(b"definition")
    return json.loads(raw) if raw else None


def _made_from(record: Path) -> dict[str, str]:
    try:
        fields = json.loads(record.read_text())
        return {name: fields[name] for name in ("manifest_hash", "policy_hash", "selection_hash")}
    except (OSError, ValueError, KeyError, TypeError):  # not made by `rushes select`
        return {}


def _save(path: Path, array: np.ndarray) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.save(file, array)
    temporary.replace(path)
