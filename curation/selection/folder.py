"""The folder of a selection: clips.parquet, rejected.parquet and selection.json, there as a whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from curation.errors import CurationError
from curation.manifest import Manifest, make_folder, writing
from curation.selection.rules import FunnelStep, Verdict
from curation.selection.steps import Threshold

_BATCH_ROWS = 16_384
_GROUP_BYTES = 64 << 20  # of a row group, in memory
_SAYS = {
    "split": "train or validation; all clips of a source video are on one side",
    "weight": "how often the clip is to be drawn, relative to the others",
}


@dataclass(slots=True)
class SelectionSummary:
    """What a selection kept and why the rest fell. `rejected_by_reason` counts a clip under each of its reasons;
    `split` counts the clips on each side, where the policy splits."""

    out: str
    clips: int
    kept: int
    policy: dict
    thresholds: list[Threshold]
    funnel: list[FunnelStep]
    rejected_by_reason: dict[str, int]
    manifest: str
    manifest_hash: str
    policy_hash: str
    selection_hash: str
    split: dict[str, int] = field(default_factory=dict)
    already_done: bool = field(default=False)


def read_summary(selection: str | Path) -> SelectionSummary:
    """What selection.json says. Raises CurationError if the folder is no selection."""
    record = Path(selection) / "selection.json"
    try:
        raw = json.loads(record.read_text())
        thresholds = [Threshold(**t) for t in raw.pop("thresholds")]
        funnel = [FunnelStep(**f) for f in raw.pop("funnel")]
        return SelectionSummary(**raw | {"thresholds": thresholds, "funnel": funnel, "already_done": True})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CurationError(f"selection: {str(selection)!r} is no selection; make one with `rushes select`") from error


def finished(out: Path, selection_hash: str) -> SelectionSummary | None:
    """The summary of a selection that is already there; refuses a folder that is something else."""
    record = out / "selection.json"
    if out.exists() and not record.is_file():
        if not out.is_dir() or any(out.iterdir()):
            raise CurationError(f"out: {str(out)!r} exists and is no selection; choose another folder with --out")
        return None
    if not record.is_file():
        return None
    done = read_summary(out)
    return done if done.selection_hash == selection_hash else None


def write(out: Path, manifest: Manifest, verdict: Verdict, summary: SelectionSummary, ids: pa.ChunkedArray) -> None:
    """Write into a hidden folder beside `out` and swap it in."""
    make_folder(out.parent)
    fresh, old = (out.with_name(f".{out.name}.{os.getpid()}.{kind}") for kind in ("new", "old"))
    try:
        make_folder(fresh)
        with ThreadPoolExecutor(1) as beside:  # each of the two keeps one core busy
            rejected = beside.submit(_write_rejected, fresh / "rejected.parquet", verdict, ids)
            _write_kept(fresh / "clips.parquet", manifest, verdict)
            rejected.result()
        record = asdict(summary)
        record.pop("already_done")
        with writing(fresh / "selection.json") as path:
            path.write_text(json.dumps(record, indent=2) + "\n")
        if out.exists():
            out.rename(old)
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if not out.exists() and old.exists():
            old.rename(out)
        shutil.rmtree(old, ignore_errors=True)


def rows_at(manifest: Manifest, positions: np.ndarray, columns: list[str]) -> list[dict[str, Any]]:
    """The clips with these row numbers, int64 ascending. Reads only the row groups that hold one."""
    rows: list[dict[str, Any]] = []
    schema, at = manifest.schema("clips"), 0
    for path in manifest.fragments("clips"):
        if at > positions.max(initial=-1):
            break
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                inside = positions[(positions >= at) & (positions < at + size)] - at
                if len(inside):
                    rows += file.read_row_group(group, columns).cast(_part(schema, columns)).take(inside).to_pylist()
                at += size
    return rows


def _part(schema: pa.Schema, columns: list[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in columns])


def _write_rejected(path: Path, verdict: Verdict, ids: pa.ChunkedArray) -> None:
    with writing(path) as temporary:
        pq.write_table(_rejected(verdict, ids), temporary, compression="zstd")


def _write_kept(path: Path, manifest: Manifest, verdict: Verdict) -> None:
    schema = manifest.schema("clips")
    if taken := [name for name in verdict.added if name in schema.names]:
        raise CurationError(f"policy: the manifest has a column {taken[0]!r} already, and the selection would have two")
    for name, values in verdict.added.items():
        schema = schema.append(pa.field(name, values.type, metadata={"description": _SAYS[name]}))
    with writing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        group: list[pa.RecordBatch] = []
        size = 0
        for batch in _kept(manifest, verdict, schema):
            group.append(batch)
            size += batch.nbytes
            if size >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(group, schema))
                group, size = [], 0
        writer.write_table(pa.Table.from_batches(group, schema))


def _kept(manifest: Manifest, verdict: Verdict, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The clips that stay, in order, with the columns that the policy adds."""
    clips, at = ds.dataset(manifest.fragments("clips"), schema=manifest.schema("clips")), 0
    for batch in clips.to_batches(batch_size=_BATCH_ROWS):
        mask = verdict.keep[at : at + batch.num_rows]
        if mask.any():
            columns = [*batch.columns, *(values.slice(at, batch.num_rows) for values in verdict.added.values())]
            yield pa.RecordBatch.from_arrays(columns, schema=schema).filter(pa.array(mask))
        at += batch.num_rows


def _rejected(verdict: Verdict, ids: pa.ChunkedArray) -> pa.Table:
    rows = np.flatnonzero(~verdict.keep)
    encoded = pc.dictionary_encode(pa.array(verdict.bits[rows]))  # type: ignore[attr-defined]
    known = list(verdict.reasons)
    texts = [[r for i, r in enumerate(known) if bits >> i & 1] for bits in encoded.dictionary.to_pylist()]
    return pa.table(
        {
            "clip_id": ids.take(pa.array(rows)),
            "reasons": pa.array(texts, pa.list_(pa.string())).take(encoded.indices),
            "duplicate_of": verdict.duplicate_of(rows),
        }
    )
