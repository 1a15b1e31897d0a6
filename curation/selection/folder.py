"""The folder of a selection: clips.parquet, rejected.parquet and selection.json, there as a whole or not at all."""

import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from curation.errors import CurationError
from curation.manifest import Manifest
from curation.selection.rules import FunnelStep, Verdict
from curation.selection.steps import Threshold
from curation.store import make_folder, on_disk, parquet_options, place, verified, writing

_RECORD, _TABLES = "selection.json", ("clips.parquet", "rejected.parquet")
_BATCH_ROWS = 16_384
_GROUP_BYTES = 64 << 20  # of a row group, in memory
_OF_A_VIDEO = ("video_id", "uri")  # texts that clips share
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
    """What selection.json says. Raises CurationError if the folder is no selection, or its record is damaged."""
    record = place(selection) / _RECORD
    try:
        raw = json.loads(record.read_text())
        thresholds = [Threshold(**t) for t in raw.pop("thresholds")]
        funnel = [FunnelStep(**f) for f in raw.pop("funnel")]
        told = {"out": str(record.parent), "thresholds": thresholds, "funnel": funnel, "already_done": True}
        return SelectionSummary(**raw | told)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        if _spoiled(record.parent):
            raise CurationError(
                f"selection: {str(selection)!r} is damaged: its selection.json cannot be read; make it again with "
                f"`rushes select MANIFEST --out {shlex.quote(str(selection))}`"
            ) from error
        raise CurationError(f"selection: {str(selection)!r} is no selection; make one with `rushes select`") from error


def _spoiled(folder: Path) -> bool:
    """Whether a folder whose record says nothing is a selection all the same: its files, and nothing that is not."""
    names = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    return _RECORD in names and len(names) > 1 and names <= {_RECORD, *_TABLES}


def finished(out: Path, selection_hash: str) -> SelectionSummary | None:
    """The summary of a selection that is already there and whole; refuses a folder that is something else."""
    on_disk(out)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        done = read_summary(out)
    except CurationError as error:
        if _spoiled(out):
            return None
        raise CurationError(
            f"out: {str(out)!r} exists and is no selection; choose another folder with --out"
        ) from error
    return done if done.selection_hash == selection_hash and _whole(out, done) else None


def _whole(out: Path, done: SelectionSummary) -> bool:
    """Whether the tables hold as many clips as the record says."""
    try:
        kept, fell = (pq.read_metadata(out / name).num_rows for name in _TABLES)
    except (OSError, pa.ArrowException):
        return False
    return (kept, fell) == (done.kept, done.clips - done.kept)


def write(out: Path, manifest: Manifest, verdict: Verdict, summary: SelectionSummary, scores: pa.Table) -> None:
    """Write into a hidden folder beside `out` and swap it in. `scores` are the columns that the policy looked at, one
    row a clip: what is in memory is not read again."""
    make_folder(out.parent)
    _clear(out)
    fresh, old = (out.with_name(f".{out.name}.{os.getpid()}.{kind}") for kind in ("new", "old"))
    try:
        make_folder(fresh)
        with _held(fresh), ThreadPoolExecutor(2) as beside:
            rejected = beside.submit(_write_rejected, fresh / "rejected.parquet", verdict, scores["clip_id"])
            _write_kept(fresh / "clips.parquet", manifest, verdict, scores, beside)
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


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder as long as this process lives. Raises BlockingIOError where another one does."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)


def _clear(out: Path) -> None:
    """Take back the selection that a killed run had put aside, if it put none in its place, and delete what else such
    runs left beside it."""
    ours = re.compile(rf"\.{re.escape(out.name)}\.\d+\.(new|old)")
    for left in sorted(p for p in out.parent.iterdir() if ours.fullmatch(p.name)):
        fresh = left.with_suffix(".new")
        try:
            with _held(fresh) if fresh.exists() else contextlib.nullcontext():
                if left != fresh and not out.exists() and (left / _RECORD).is_file():
                    left.rename(out)
                shutil.rmtree(left, ignore_errors=True)
        except OSError:
            continue  # a run that lives still writes it, or has just ended


def rows_at(manifest: Manifest, positions: np.ndarray, columns: list[str]) -> list[dict[str, Any]]:
    """The clips with these row numbers, int64 ascending. Reads only the row groups that hold one."""
    rows: list[dict[str, Any]] = []
    schema, at = manifest.schema("clips"), 0
    for path in manifest.fragments("clips"):
        if at > positions.max(initial=-1):
            break
        with path.open("rb") as opened, pq.ParquetFile(opened) as file:
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
    table = _rejected(verdict, ids)
    with writing(path) as temporary:
        # of an array of codes Parquet makes texts, but for the note of Arrow's own types
        pq.write_table(table, temporary, store_schema=False, **parquet_options(table.schema))


def _write_kept(path: Path, manifest: Manifest, verdict: Verdict, scores: pa.Table, beside: Executor) -> None:
    """All columns of the clips that stay: those in memory, those that the policy adds, and the others, read."""
    schema, mask = manifest.schema("clips"), pa.array(verdict.keep)
    in_memory = scores.select([name for name in scores.column_names if name in schema.names])
    filtered = beside.submit(in_memory.filter, mask)
    at, added = 0, {name: values.filter(mask) for name, values in verdict.added.items()}
    whole = schema
    for name, values in added.items():
        whole = whole.append(pa.field(name, values.type, metadata={"description": _SAYS[name]}))
    with writing(path) as temporary, pq.ParquetWriter(temporary, whole, **parquet_options(whole)) as writer:
        for group in _groups(manifest, verdict.keep, in_memory.column_names):
            known = filtered.result().slice(at, group.num_rows)
            columns = [
                known[n] if n in known.column_names else group[n].cast(schema.field(n).type) for n in schema.names
            ]
            columns += [values.slice(at, group.num_rows) for values in added.values()]
            writer.write_table(pa.table(columns, schema=whole))
            at += group.num_rows


def _groups(manifest: Manifest, keep: np.ndarray, known: Sequence[str]) -> Iterator[pa.Table]:
    """The clips that stay, in order, a row group at a time: the columns that are not `known`, at least one."""
    schema = manifest.schema("clips")
    unknown = [name for name in schema.names if name not in known] or schema.names[:1]
    repeat = verified([name for name in _OF_A_VIDEO if name in unknown])
    coded = pa.schema([pa.field(f.name, _coded(f.type)) if f.name in _OF_A_VIDEO else f for f in schema])
    files: Any = manifest.dataset("clips")
    clips, at = ds.dataset(files.files, schema=coded, filesystem=files.filesystem, format=repeat), 0
    group: list[pa.RecordBatch] = []
    size = 0
    for batch in clips.to_batches(columns=unknown, batch_size=_BATCH_ROWS):
        mask = keep[at : at + batch.num_rows]
        at += batch.num_rows
        if mask.any():
            group.append(batch.filter(pa.array(mask)))
            size += sum(c.nbytes for c in group[-1].columns if not pa.types.is_dictionary(c.type))
        if size >= _GROUP_BYTES:
            yield pa.Table.from_batches(group)
            group, size = [], 0
    if group:
        yield pa.Table.from_batches(group)


def _coded(kind: pa.DataType) -> pa.DataType:
    """Read as a number of a text, which the clips of a video share: much less to copy than the texts."""
    return pa.dictionary(pa.int32(), kind)


def _rejected(verdict: Verdict, ids: pa.ChunkedArray) -> pa.Table:
    fell = ~verdict.keep
    rows = np.flatnonzero(fell)
    encoded = pc.dictionary_encode(pa.array(verdict.bits[rows]))  # type: ignore[attr-defined]
    known = list(verdict.reasons)
    texts = [[r for i, r in enumerate(known) if bits >> i & 1] for bits in encoded.dictionary.to_pylist()]
    return pa.table(
        {
            "clip_id": ids.filter(pa.array(fell)),
            "reasons": pa.array(texts, pa.list_(pa.dictionary(pa.int8(), pa.string()))).take(encoded.indices),
            "duplicate_of": verdict.duplicate_of(rows),
        }
    )
