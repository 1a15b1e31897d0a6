"""What the manifest's columns are: names, types, units and meanings, as they lie in the Parquet files."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

SCHEMA_VERSION = 1
TABLES = ("videos", "shots", "errors", "clips")


def _field(name: str, kind: pa.DataType, description: str, unit: str = "") -> pa.Field:
    metadata = {"description": description} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, metadata=metadata)


_SECONDS = "s"
VIDEOS = pa.schema(
    [
        _field("uri", pa.string(), "where the file was read"),
        _field("video_id", pa.string(), "hash of the content; null when it could not be read"),
        _field("size_bytes", pa.int64(), "size of the file", "byte"),
        _field("modified_ns", pa.int64(), "time of the last change since the epoch", "ns"),
        _field("status", pa.string(), "ok, failed, or duplicate (the same bytes as another file)"),
        _field("message", pa.string(), "why it failed, or what it duplicates"),
        _field("container", pa.string(), "container format"),
        _field("codec", pa.string(), "video codec"),
        _field("pix_fmt", pa.string(), "pixel format"),
        _field("width", pa.int32(), "display width: upright, square pixels", "px"),
        _field("height", pa.int32(), "display height: upright, square pixels", "px"),
        _field("coded_width", pa.int32(), "stored width", "px"),
        _field("coded_height", pa.int32(), "stored height", "px"),
        _field("rotation", pa.int32(), "counter-clockwise turn that makes it upright", "degree"),
        _field("fps", pa.float64(), "frames decoded over duration", "1/s"),
        _field("variable_rate", pa.bool_(), "whether the frame rate varies"),
        _field("duration", pa.float64(), "from the first frame to the end of the last", _SECONDS),
        _field("frames", pa.int64(), "frames decoded"),
        _field("shots", pa.int32(), "shots found"),
        _field("clips", pa.int32(), "clips made"),
    ]
)
SHOTS = pa.schema(
    [
        _field("video_id", pa.string(), "hash of the video's content"),
        _field("uri", pa.string(), "where the video was read"),
        _field("shot", pa.int32(), "number of the shot in its video, from 0"),
        _field("start", pa.float64(), "first clean frame, from the video's first frame", _SECONDS),
        _field("end", pa.float64(), "end of the last clean frame", _SECONDS),
        _field("begins_with", pa.string(), "start, cut, fade, dissolve or damage"),
        _field("ends_with", pa.string(), "end, cut, fade, dissolve or damage"),
        _field("clips", pa.int32(), "clips made of it"),
        _field("reason", pa.string(), "why it gave no clip; null if it gave one"),
    ]
)
ERRORS = pa.schema(
    [
        _field("uri", pa.string(), "the file concerned"),
        _field("video_id", pa.string(), "hash of its content; null when it could not be read"),
        _field("clip_id", pa.string(), "the clip concerned; null when it is the whole video"),
        _field("step", pa.string(), "what was being done: open, probe, decode, or a scorer's name"),
        _field("error", pa.string(), "kind of failure"),
        _field("message", pa.string(), "what went wrong, in words"),
        _field("attempts", pa.int32(), "how often it was tried"),
    ]
)
CLIP_IDENTITY = [
    _field("clip_id", pa.string(), "hash of the video's content, start and end"),
    _field("video_id", pa.string(), "hash of the video's content"),
    _field("uri", pa.string(), "where the video was read"),
    _field("shot", pa.int32(), "number of its shot in the video, from 0"),
    _field("start", pa.float64(), "first frame, from the video's first frame", _SECONDS),
    _field("end", pa.float64(), "end, exclusive", _SECONDS),
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
