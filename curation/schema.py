"""What the manifest's columns are: names, types, units and meanings, as they lie in the Parquet files.

Every file says which version of this schema it was written with; one that says nothing is of version 1. A new version
only adds columns: none is ever renamed, given another type or another meaning, or taken away. So a file of an older
version is read as it lies, with nulls for what it lacks (`current`), and files of several versions are one table.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from curation.errors import CurationError

SCHEMA_VERSION = 3
VERSION_KEY = "rushes.schema_version"
TABLES = ("videos", "shots", "errors", "clips")


def _field(name: str, kind: pa.DataType, description: str, unit: str = "") -> pa.Field:
    metadata = {"description": description} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, metadata=metadata)


def _table(*fields: pa.Field) -> pa.Schema:
    return pa.schema(fields, {VERSION_KEY: str(SCHEMA_VERSION)})


_SECONDS = "s"
_KINDS = "cut, fade, dissolve, damage or format (frame size, orientation or HDR changes)"
VIDEOS = _table(
    _field("uri", pa.string(), "where the file was read"),
    _field("video_id", pa.string(), "hash of every byte; null when it could not be read, or changed meanwhile"),
    _field("size_bytes", pa.int64(), "size of the file", "byte"),
    _field("modified_ns", pa.int64(), "time of the last change since the epoch", "ns"),
    _field("revision", pa.string(), "changes with every write: ctime in ns on disk, ETag or version on a store"),
    _field("status", pa.string(), "ok, failed, or duplicate (the same bytes as another file)"),
    _field("message", pa.string(), "why it failed, or what it duplicates"),
    _field("container", pa.string(), "container format"),
    _field("codec", pa.string(), "video codec"),
    _field("pix_fmt", pa.string(), "pixel format"),
    _field("width", pa.int32(), "display width of the first frame: upright, square pixels", "px"),
    _field("height", pa.int32(), "display height of the first frame: upright, square pixels", "px"),
    _field("coded_width", pa.int32(), "stored width of the first frame", "px"),
    _field("coded_height", pa.int32(), "stored height of the first frame", "px"),
    _field("rotation", pa.int32(), "counter-clockwise turn that makes it upright", "degree"),
    _field("mirrored", pa.bool_(), "whether left and right change places after the turn"),
    _field("interlaced", pa.bool_(), "whether any frame is interlaced; training and re-encoding deinterlace it"),
    _field("color_primaries", pa.string(), "color primaries (ffprobe's name), as tagged or assumed; see docs/color.md"),
    _field("color_transfer", pa.string(), "transfer function; smpte2084 (PQ) and arib-std-b67 (HLG) are tone mapped"),
    _field("color_matrix", pa.string(), "matrix from YCbCr to RGB"),
    _field("color_range", pa.string(), "limited or full"),
    _field("fps", pa.float64(), "frames decoded over duration", "1/s"),
    _field("variable_rate", pa.bool_(), "whether the frame rate varies"),
    _field("duration", pa.float64(), "from the first frame to the end of the last", _SECONDS),
    _field("frames", pa.int64(), "frames decoded"),
    _field("first_pts", pa.int64(), "time stamp of the first frame; null if stamps find no frames", "time base"),
    _field("time_base_num", pa.int32(), "numerator of the time base of the stream's time stamps", _SECONDS),
    _field("time_base_den", pa.int32(), "denominator of it"),
    _field("shots", pa.int32(), "shots found"),
    _field("clips", pa.int32(), "clips made"),
)
SHOTS = _table(
    _field("video_id", pa.string(), "hash of the video's content"),
    _field("uri", pa.string(), "where the video was read"),
    _field("shot", pa.int32(), "number of the shot in its video, from 0"),
    _field("start", pa.float64(), "first clean frame, from the video's first frame", _SECONDS),
    _field("end", pa.float64(), "end of the last clean frame", _SECONDS),
    _field("begins_with", pa.string(), f"start, {_KINDS}"),
    _field("ends_with", pa.string(), f"end, {_KINDS}"),
    _field("clips", pa.int32(), "clips made of it"),
    _field("reason", pa.string(), "why it gave no clip; null if it gave one"),
)
ERRORS = _table(
    _field("uri", pa.string(), "the file concerned"),
    _field("video_id", pa.string(), "hash of its content; null when it could not be read"),
    _field("clip_id", pa.string(), "the clip concerned; null when it is the whole video"),
    _field("step", pa.string(), "what was being done: open, probe, decode, or a scorer's name"),
    _field("error", pa.string(), "kind of failure"),
    _field("message", pa.string(), "what went wrong, in words"),
    _field("attempts", pa.int32(), "how often it was tried"),
)
CLIP_IDENTITY = [
    _field("clip_id", pa.string(), "hash of the video's content, start and end"),
    _field("video_id", pa.string(), "hash of the video's content"),
    _field("uri", pa.string(), "where the video was read"),
    _field("shot", pa.int32(), "number of its shot in the video, from 0"),
    _field("start", pa.float64(), "first frame, from the video's first frame", _SECONDS),
    _field("end", pa.float64(), "end, exclusive", _SECONDS),
    _field("start_pts", pa.int64(), "its frames' time stamps in the stream are this and above", "time base"),
    _field("end_pts", pa.int64(), "and below this", "time base"),
    _field("begins_with", pa.string(), f"what lies before it: start, {_KINDS}; shot where the shot goes on"),
    _field("ends_with", pa.string(), f"what lies after it: end, {_KINDS}; shot where the shot goes on"),
    _field("start_frame", pa.int64(), "number of the first frame in presentation order, from 0"),
    _field("frames", pa.int32(), "frames in the clip"),
    _field("fps", pa.float64(), "frames over length", "1/s"),
    _field("width", pa.int32(), "display width: upright, square pixels", "px"),
    _field("height", pa.int32(), "display height: upright, square pixels", "px"),
    _field("starts_on_keyframe", pa.bool_(), "whether it can be cut out without re-encoding"),
    _field("preview", pa.binary(), "its middle frame as a small JPEG"),
]


def score_field(
    name: str, kind: pa.DataType, description: str, unit: str, definition: Mapping[str, str | int | float | bool]
) -> pa.Field:
    """A score's column; its definition lies in the column metadata as JSON."""
    field = _field(name, kind, description, unit)
    return field.with_metadata({**field.metadata, b"definition": json.dumps(definition, sort_keys=True).encode()})


def definition_of(field: pa.Field) -> dict[str, Any] | None:
    """How a column was measured; None for columns that are no score."""
    raw = (field.metadata or {}).get(b"definition")
    return json.loads(raw) if raw else None


def version_of(physical: pa.Schema) -> int:
    """The schema version that a file was written with. Raises CurationError where it is no number."""
    raw = (physical.metadata or {}).get(VERSION_KEY.encode(), b"1")
    if not raw.isdigit() or not int(raw):
        raise CurationError(f"manifest: {raw!r} is no schema version; restore its files, or choose another manifest")
    return int(raw)


def current(table: str, physical: pa.Schema) -> pa.Schema:
    """The schema to read a table (videos, shots, errors, clips) under, for a file's own schema of any known version.

    Raises CurationError for a version that is newer than this code.
    """
    version = version_of(physical)
    if version > SCHEMA_VERSION:
        raise CurationError(
            f"manifest: its {table} have schema version {version}, and this version of rushes knows {SCHEMA_VERSION}; "
            "install a newer one, or choose another manifest"
        )
    for known in range(version, SCHEMA_VERSION):
        physical = UPGRADES[known](table, physical)
    return physical.with_metadata({**(physical.metadata or {}), VERSION_KEY.encode(): str(SCHEMA_VERSION).encode()})


def _adds(**columns: str) -> Callable[[str, pa.Schema], pa.Schema]:
    """A step that adds the named columns of each table, where they stand in this version."""

    def step(table: str, schema: pa.Schema) -> pa.Schema:
        today = {"videos": VIDEOS, "clips": CLIP_IDENTITY}.get(table, [])
        new = set(columns.get(table, "").split()) - set(schema.names)
        at = 0  # behind the columns that precede a new one, some of which may only come with later steps
        for field in today:
            if field.name in new:
                schema = schema.insert(at, field)
            at += field.name in schema.names
        return schema

    return step


UPGRADES: dict[int, Callable[[str, pa.Schema], pa.Schema]] = {
    1: _adds(videos="first_pts time_base_num time_base_den", clips="start_pts end_pts begins_with ends_with"),
    2: _adds(videos="revision mirrored interlaced color_primaries color_transfer color_matrix color_range"),
}
"""By version: what makes its schema that of the next one."""
