"""The clips that an export writes: read from a selection or a manifest, and what is said of each in JSON."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from curation import store
from curation.errors import CurationError
from curation.inspect import readable
from curation.manifest import Manifest
from curation.schema import CLIP_IDENTITY
from curation.selection.folder import read_summary

CAPTIONS = ("caption_fused", "caption_video", "caption_image")  # the first that is there becomes the .txt
CUT = ("start", "end", "frames", "fps", "width", "height", "starts_on_keyframe")  # what cutting needs to know
STAMPS = ("start_pts", "end_pts")  # what it uses where a table has them
_SOURCE = [f.name for f in CLIP_IDENTITY if f.name not in {"clip_id", "preview"}]


def clips_of(folder: str) -> tuple[pa.Table, str]:
    """The clips of a selection, else of a manifest, by id and without pictures; and a hash of their content."""
    root = store.place(folder)
    kept = root / "clips.parquet"
    with readable(folder, "selection" if kept.is_file() else "manifest"):
        if kept.is_file():
            if (root / "selection.json").is_file():
                read_summary(root)  # a damaged selection is none to anybody
            with kept.open("rb") as file:
                content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
            table = store.dataset([kept], store.read_schema(kept))
        else:
            try:
                found = Manifest.find(root)
            except CurationError as error:
                raise CurationError(
                    f"selection: {folder!r} holds no selection; make one with `rushes select MANIFEST --out DIR`"
                ) from error
            content = found.hash()
            table = found.dataset("clips")
        needed = ("clip_id", "video_id", "uri", *CUT)
        if not table.count_rows():
            raise CurationError(f"selection: {folder!r} holds no clip")
        if missing := [c for c in needed if c not in table.schema.names]:
            raise CurationError(f"selection: {folder!r} has no column {missing[0]}")
        columns = [f.name for f in table.schema if _readable(f.type)]
        return table.to_table(columns=columns).sort_by("clip_id"), content


def describe(clip: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
    """What the JSON beside a clip says of it: source and times, captions, scores and words; null where not measured.

    The preview, hashes and embeddings are left to the manifest.
    """
    values = {f.name: _plain(clip[f.name], f.type) for f in schema if _readable(f.type)}
    return {
        "clip_id": values.pop("clip_id"),
        "source": {k: values.pop(k) for k in _SOURCE if k in values},
        "captions": {k: values.pop(k) for k in CAPTIONS if k in values},
        "scores": values,
    }


def _readable(kind: pa.DataType) -> bool:
    """Whether a column says something in JSON: no bytes, no list of hashes or grey levels, no embedding."""
    if pa.types.is_list(kind):
        return not (pa.types.is_unsigned_integer(kind.value_type) or pa.types.is_float16(kind.value_type))
    return not (pa.types.is_binary(kind) or pa.types.is_nested(kind))


def _plain(value: Any, kind: pa.DataType) -> Any:
    """A value as JSON has it: no NaN, and a float32 with no more digits than it has."""
    if isinstance(value, list):
        return [_plain(v, kind.value_type) for v in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(str(np.float32(value))) if pa.types.is_float32(kind) else value
    return value
