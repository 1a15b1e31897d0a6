"""The table of duplicates beside a manifest's fragments: MANIFEST/duplicates.parquet, one row a clip.

Groups are a property of all clips together, so they are found after the clips are measured and written as a whole; the
fragments stay as they are. A table says what it was made of. One that was made of other clips or with other settings
does not hold any more and is made again: for good by `rushes curate`, in memory by a selection.
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.config import DuplicateSettings
from curation.duplicates.groups import Grouping, preference
from curation.duplicates.perceptual import group_perceptual
from curation.duplicates.semantic import group_semantic
from curation.duplicates.sequences import Sequences
from curation.errors import CurationError
from curation.manifest import Manifest
from curation.progress import Progress, silent
from curation.schema import definition_of, score_field
from curation.store import named, read_schema, read_table, write_table

KINDS = ("exact", "perceptual", "semantic")
VERSION = 2
_MADE_OF = b"rushes.duplicates"
_RANKING = ["clip_id", "width", "height", "start", "end"]
_RANKING_SCORES = ["technical_quality", "live_area"]  # each may be missing
_IDENTITY = [*_RANKING, "video_id", "shot"]
_SCORES = [*_RANKING_SCORES, "phash", "look", "embedding"]


@dataclass(frozen=True, slots=True)
class Clips:
    """The clips of one or several manifests, in order, with what duplicates are found by. All arrays are (n,)."""

    ids: np.ndarray  # str
    videos: np.ndarray  # int64, one number a content
    shots: np.ndarray  # int64, one number a shot of a manifest
    start: np.ndarray  # seconds
    end: np.ndarray
    rank: np.ndarray  # preference
    known: np.ndarray  # bool: of an existing manifest
    hashes: Sequences
    looks: np.ndarray  # uint8 (n, 219), 0 where there are none; (n, 0) where nothing has them
    embeddings: np.ndarray  # float16 (n, dim), 0 where there is none


def path_of(manifest: Manifest) -> Path:
    """Where a manifest's table of duplicates lies, if it has one."""
    return manifest.root / "duplicates.parquet"


def whole(manifest: Manifest) -> Path | None:
    """The same; None where there is none, or one that is damaged: whoever selects next makes it anew."""
    return path_of(manifest) if made_of(manifest) else None


def others(settings: DuplicateSettings) -> list[Manifest]:
    """The existing manifests to compare with. Raises CurationError for one that is not there."""
    found = []
    for folder in settings.against:
        try:
            found.append(Manifest.find(folder))
        except CurationError as error:
            raise CurationError(f"against: {folder!r} holds no manifest; name another, or leave it away") from error
    return found


def update(manifest: Manifest, settings: DuplicateSettings, progress: Progress = silent) -> None:
    """Write the table unless the one on disk holds. Raises CurationError as `groups_of` does."""
    if not holds(manifest, settings):
        write_table(groups_of(manifest, settings, progress=progress), path_of(manifest))


def groups_of(
    manifest: Manifest,
    settings: DuplicateSettings,
    kinds: Sequence[str] = KINDS,
    columns: Sequence[str] | None = None,
    progress: Progress = silent,
) -> pa.Table:
    """The table of duplicates, or some of its columns, rows in the order of the clips: the one on disk if it holds,
    else made here and now.

    Raises CurationError if a manifest cannot be read, or was hashed or embedded in another way than this one.
    """
    if holds(manifest, settings, kinds):
        with contextlib.suppress(pa.ArrowInvalid, OSError):  # a damaged table is none
            return read_table(path_of(manifest), columns)
    progress("looking for duplicates", 0, None)
    clips, own = _read(manifest, settings), manifest.read("clips", ["clip_id"]).num_rows
    found = {"exact": _exact(clips)}
    if "perceptual" in kinds:
        found["perceptual"] = group_perceptual(
            clips.hashes,
            clips.shots,
            clips.start,
            clips.rank,
            settings.bits,
            with_mirrored=settings.mirrored,
            known=clips.known,
            looks=clips.looks if clips.looks.shape[1] else None,
        )
    if "semantic" in kinds:
        found["semantic"] = group_semantic(clips.embeddings, clips.rank, settings.similarity)
    arrays = [pa.array(clips.ids[:own], pa.string())]
    arrays += [column for grouping in found.values() for column in _columns(clips, grouping, own)]
    noted = {_MADE_OF: json.dumps(_made_of(manifest, settings))}
    table = pa.table(arrays, schema=schema(settings, list(found)).with_metadata(noted))
    return table.select(list(columns)) if columns is not None else table


def schema(settings: DuplicateSettings, kinds: Sequence[str] = KINDS) -> pa.Schema:
    """The table's columns, each with its definition."""
    name = pa.field("clip_id", pa.string())
    return pa.schema([name, *(field for kind in KINDS if kind in kinds for field in _fields(kind, settings))])


def holds(manifest: Manifest, settings: DuplicateSettings, kinds: Sequence[str] = KINDS) -> bool:
    """Whether the table on disk is of these very clips, settings and existing manifests."""
    made, wanted = made_of(manifest), _made_of(manifest, settings)
    if made and "semantic" not in kinds:
        made, wanted = ({k: v for k, v in m.items() if k != "similarity"} for m in (made, wanted))
    return made == wanted


def made_of(manifest: Manifest) -> dict[str, Any] | None:
    """What the table on disk was made of; None if there is no table."""
    try:
        raw = (read_schema(path_of(manifest)).metadata or {}).get(_MADE_OF)
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    return json.loads(raw) if raw else None


def _made_of(manifest: Manifest, settings: DuplicateSettings) -> dict[str, Any]:
    against = {named(m.root): m.hash() for m in others(settings)}
    return {**settings.model_dump(), "against": against, "manifest": manifest.hash(), "version": VERSION}


def _read(manifest: Manifest, settings: DuplicateSettings) -> Clips:
    """This manifest's clips, then those of the existing ones."""
    manifests = [manifest, *(m for m in others(settings) if named(m.root) != named(manifest.root))]
    tables = [_table(m, manifest) for m in manifests]
    whole = pa.concat_tables(tables)
    origin = np.repeat(np.arange(len(tables)), [t.num_rows for t in tables])
    videos, shot = _codes(whole["video_id"]), _numbers(whole["shot"], -1).astype(np.int64)
    of_manifest = (origin * (videos.max(initial=0) + 1) + videos) * (shot.max(initial=0) + 2) + shot + 1
    shots = np.unique(of_manifest, return_inverse=True)[1].astype(np.int64)
    return Clips(
        ids=whole["clip_id"].to_numpy().astype(str),
        videos=videos,
        shots=shots,
        start=_numbers(whole["start"], 0),
        end=_numbers(whole["end"], 0),
        rank=rank_of(whole, origin > 0),
        known=origin > 0,
        hashes=_flat(whole["phash"], pa.uint64()),
        looks=_matrix(whole["look"], pa.uint8()),
        embeddings=_matrix(whole["embedding"], pa.float16()),
    )


def ranking_columns(schema: pa.Schema) -> list[str]:
    """The columns of clips that `rank_of` looks at, as far as they are there."""
    return [c for c in (*_RANKING, *_RANKING_SCORES) if c in schema.names]


def rank_of(clips: pa.Table, known: np.ndarray | None = None) -> np.ndarray:
    """The `preference` among clips: a table with the `ranking_columns`; `known`, bool (n,), tells existing ones."""
    width, height, start, end = (_numbers(clips[c], 0) for c in _RANKING[1:])
    quality, live = (
        _numbers(clips[c], missing) if c in clips.column_names else np.full(len(clips), missing)
        for c, missing in zip(_RANKING_SCORES, (np.nan, 1.0), strict=True)
    )
    # bars are no resolution; they are measured to a line or two, and a copy within bars is not to win by that
    pixels = width * height * np.where(live < 1, 0.95 * live, 1)
    known = np.zeros(len(clips), bool) if known is None else known
    return preference(pixels, end - start, quality, clips["clip_id"], known)


def _table(manifest: Manifest, ours: Manifest) -> pa.Table:
    """The columns that matter; null where a manifest has not measured one."""
    schema, expected = manifest.schema("clips"), ours.schema("clips")
    here = [c for c in _SCORES if c in schema.names]
    for column in ("phash", "look", "embedding"):
        definitions = [definition_of(s.field(column)) for s in (schema, expected) if column in s.names]
        if len(definitions) == 2 and definitions[0] != definitions[1]:
            raise CurationError(
                f"against: {str(manifest.root)!r} was measured in another way ({column}); measure one of them again"
            )
    table = manifest.read("clips", [*_IDENTITY, *here])
    types = {"phash": pa.list_(pa.uint64()), "look": pa.list_(pa.uint8()), "embedding": pa.list_(pa.float16())}
    for column in _SCORES:
        kind = types.get(column, pa.float32())
        values = table[column].cast(kind) if column in here else pa.nulls(table.num_rows, kind)
        at = table.schema.get_field_index(column)
        table = table.set_column(at, column, values) if column in here else table.append_column(column, values)
    return table.select([*_IDENTITY, *_SCORES]).replace_schema_metadata(None)


def _codes(values: pa.ChunkedArray) -> np.ndarray:
    """One number, int64, for each different text."""
    return np.unique(values.fill_null("").to_numpy().astype(str), return_inverse=True)[1].astype(np.int64)


def _numbers(values: pa.ChunkedArray, missing: float) -> np.ndarray:
    out = values.to_numpy().astype(np.float64)
    return np.where(np.isnan(out), missing, out)


def _flat(lists: pa.ChunkedArray, kind: pa.DataType) -> Sequences:
    """A column of lists as one array; a null is an empty list."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy().astype(np.int64)  # type: ignore[attr-defined]
    chunks = [c.flatten().to_numpy(zero_copy_only=False) for c in lists.chunks]
    flat = np.concatenate(chunks) if chunks else np.empty(0)
    return Sequences(flat.astype(kind.to_pandas_dtype(), copy=False), np.cumsum(lengths) - lengths, lengths)


def _matrix(lists: pa.ChunkedArray, kind: pa.DataType) -> np.ndarray:
    """A column of lists of one length as rows (n, dim), zeros for a null; dim 0 where nothing was measured."""
    parts = _flat(lists, kind)
    dim = int(parts.lengths.max(initial=0))
    out = np.zeros((len(parts), dim), kind.to_pandas_dtype())
    if dim:
        rows = np.flatnonzero(parts.lengths == dim)
        out[rows] = parts.padded(rows, dim)
    return out


def _exact(clips: Clips) -> Grouping:
    """Clips of the same bytes over about the same time. Within a manifest there are none: copies of a file are told in
    `videos` and not measured again."""
    leader, distance = np.arange(len(clips.ids)), np.zeros(len(clips.ids), np.float32)
    known = np.flatnonzero(clips.known)
    known = known[np.argsort(clips.videos[known], kind="stable")]
    videos = clips.videos[known]
    for i in np.flatnonzero(~clips.known & np.isin(clips.videos, videos)):
        same = known[slice(*np.searchsorted(videos, [clips.videos[i], clips.videos[i] + 1]))]
        shared = np.minimum(clips.end[same], clips.end[i]) - np.maximum(clips.start[same], clips.start[i])
        longer = np.maximum(clips.end[same] - clips.start[same], clips.end[i] - clips.start[i])
        best = int(np.argmax(shared / longer))
        if shared[best] >= 0.6 * longer[best]:
            leader[i], distance[i] = same[best], longer[best] - shared[best]
    return Grouping(leader, distance, np.ones(len(clips.ids), bool))


def _columns(clips: Clips, grouping: Grouping, own: int) -> list[pa.Array]:
    """Group, whether it is the representative, size and distance, for this manifest's own clips."""
    leader, unmeasured = grouping.leader[:own], ~grouping.measured[:own]
    sizes = np.bincount(grouping.leader, minlength=len(clips.ids))
    return [
        pa.array(clips.ids[leader], pa.string(), mask=unmeasured),
        pa.array((leader == np.arange(own)).astype(np.int8), pa.int8(), mask=unmeasured),
        pa.array(sizes[leader].astype(np.int32), pa.int32(), mask=unmeasured),
        pa.array(grouping.distance[:own], pa.float32(), mask=unmeasured),
    ]


_SAYS = {
    "exact": ("have the same bytes and time", "distance", "seconds that it does not share with it", "s"),
    "perceptual": ("look the same", "bits", "bits of 64 that differ from it on average", "bit"),
    "semantic": ("mean the same", "similarity", "cosine with it", "-1..1"),
}


def _fields(kind: str, settings: DuplicateSettings) -> list[pa.Field]:
    alike, name, what, unit = _SAYS[kind]
    depends = {"perceptual": {"bits", "mirrored"}, "semantic": {"similarity"}}.get(kind, set())
    definition = {"scorer": f"{kind}_duplicates", "version": VERSION, **settings.model_dump(include=depends)}
    return [
        score_field(f"{kind}_group", pa.string(), f"clips that {alike}: their representative's id", "", definition),
        score_field(f"{kind}_representative", pa.int8(), "1 for its group's representative, else 0", "", definition),
        score_field(f"{kind}_size", pa.int32(), f"how many clips {alike}, itself included", "", definition),
        score_field(f"{kind}_{name}", pa.float32(), f"to the representative: {what}", unit, definition),
    ]
