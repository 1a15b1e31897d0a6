"""A selection as training sees it: its clips, which of them are held out, which are drawn."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from training.errors import TrainingError

CAPTIONS = ("image", "video", "fused")
REQUIRED = ("clip_id", "video_id", "uri", "start", "end", "fps", "width", "height")
SIDES = ("train", "validation")  # what a selection's column `split` may say


@dataclass(frozen=True, slots=True)
class Clip:
    """A row of the selection. Times in seconds since the video's first frame; `motion` NaN where not measured.

    `start_pts` is the stamp of its start in the video's stream, None where frames cannot be found by their stamps.
    `split` (one of SIDES) and `weight` (how often it is to be drawn, 0 or more) are None where the policy says neither.
    """

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
    start_pts: int | None = None
    split: str | None = None
    weight: float | None = None

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

    Raises TrainingError where the file, a column or every row is missing, or a split or weight makes no sense.
    """
    path = Path(folder)
    path = path / "clips.parquet" if path.suffix != ".parquet" else path
    try:
        schema = pq.read_schema(path)
        optional = ("motion", *(f"caption_{c}" for c in CAPTIONS), "split", "weight")
        wanted = [c for c in optional if c in schema.names]
        if missing := [c for c in (*REQUIRED, *([rank_by] if rank_by else [])) if c not in schema.names]:
            raise TrainingError(f"{path}: no column {missing[0]}; it has {', '.join(schema.names)}")
        located = [c for c in ("start_pts",) if c in schema.names]  # where a clip lies does not change what it is
        columns = list(dict.fromkeys([*REQUIRED, *wanted, *located, *([rank_by] if rank_by else [])]))
        table = pq.read_table(path, columns=columns, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise TrainingError(f"selection: {path} does not exist; run `rushes select` first") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise TrainingError(f"selection: {path} cannot be read ({error})") from error
    if not len(table):
        raise TrainingError(f"selection: {path} keeps no clip; loosen the policy and select again")
    rows = sorted(table.to_pylist(), key=lambda row: row["clip_id"])
    _check_policy(path, rows)
    seen = [{name: row[name] for name in (*REQUIRED, *wanted)} for row in rows]
    digest = hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()
    clips = [
        Clip(
            **{name: row[name] for name in REQUIRED},
            motion=_number(row.get("motion")),
            captions=tuple(row.get(f"caption_{c}") or "" for c in CAPTIONS),  # type: ignore[arg-type]
            rank=_number(row[rank_by]) if rank_by else math.nan,
            start_pts=row.get("start_pts"),
            split=row.get("split"),
            weight=row.get("weight"),
        )
        for row in rows
    ]
    return Selection(clips, digest, _made_from(path.with_name("selection.json")), _definition(schema, "motion"))


def _check_policy(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Raises TrainingError for a split that is none, or puts a video on both sides, and for a weight that is none."""
    sides: dict[str, str] = {}
    for row in rows:
        side, weight = row.get("split", SIDES[0]), row.get("weight", 1.0)
        if side not in SIDES:
            raise TrainingError(f"{path}: split of clip {row['clip_id']} is {side!r}, neither {' nor '.join(SIDES)}")
        if sides.setdefault(row["video_id"], side) != side:
            raise TrainingError(f"{path}: split puts video {row['video_id']} on both sides; select again")
        if not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise TrainingError(f"{path}: weight of clip {row['clip_id']} is {weight!r}, not a number of 0 or more")


def drawn(clips: Sequence[Clip]) -> list[Clip]:
    """The clips that training draws: all but those of weight 0. Raises TrainingError where none is left."""
    if left := [clip for clip in clips if clip.weight != 0]:
        return left
    raise TrainingError("selection: every clip for training has weight 0; change the policy's weight and select again")


def best(clips: Sequence[Clip], fraction: float) -> list[Clip]:
    """The given share of clips with the highest rank, at least one; clips without a rank come last."""
    keep = max(1, round(fraction * len(clips)))
    order = sorted(range(len(clips)), key=lambda i: (-clips[i].rank if clips[i].rank == clips[i].rank else math.inf, i))
    return [clips[i] for i in sorted(order[:keep])]


def split_holdout(clips: Sequence[Clip], share: float) -> tuple[list[Clip], list[Clip], str]:
    """(training clips, held-out clips, how): no source video gives clips to both.

    Where the selection splits, its validation clips are held out, whatever `share` is: `how` says "by policy", or
    "none" where there are none of them. Else videos are taken in the order of a hash of their id, so the split is the
    same in every stage, as long as they do not take the held-out part above `share` of the clips (or one video's
    worth): "by video". One video alone is split by clip ("by clip"), and one clip alone is not split ("none").
    Raises TrainingError where the selection leaves no clip to train on.
    """
    if clips[0].split is not None:
        training, aside = ([c for c in clips if c.split == side] for side in SIDES)
        if not training:
            raise TrainingError("selection: its split leaves no clip for training; change the policy and select again")
        return training, aside, "by policy" if aside else "none"
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
