"""The report of a manifest and its selection: one HTML file that needs nothing beside it.

Its size does not follow the manifest's: clips, errors and shots are shown as even samples, and a preview is read only
for a clip that is shown.
"""

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from markupsafe import Markup

from curation.duplicates import table as duplicates
from curation.errors import CurationError
from curation.inspect import clock, counts, lengths, note, numbers, open_table, printable, readable, score_fields
from curation.manifest import Manifest
from curation.pictures import contact_sheet, histogram_svg, number
from curation.policy import SelectionSummary, Threshold, read_summary
from curation.schema import definition_of
from curation.store import dataset, named, on_disk, place, read_schema, remote, writing

__all__ = ["contact_sheet", "histogram_svg", "render", "write_report"]

KEPT_SHOWN = 48
REJECTED_SHOWN = 18  # for each reason
ROWS_SHOWN = 100
_CARD = ("clip_id", "uri", "shot", "start", "end", "width", "height", "preview")
_CAPTIONS = ("caption_fused", "caption_image", "caption_video", "text")
_HEAD = 4096  # bytes of a report that hold its marks
_MARKS = (b'<meta name="generator" content="Rushes ', " · curation report</title>".encode())  # the title: of older ones
_MIME = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"RIFF": "image/webp"}


def write_report(manifest: str, selection: str | None, out: str) -> Path:
    """Write the report of a manifest and, if given, of a selection made from it.

    `out` is the file (*.html), or a folder that gets a report.html. The file appears whole or not at all, and replaces
    nothing but an earlier report.

    Raises:
        CurationError: manifest or selection cannot be read or do not belong together, or `out` cannot be written or
            holds something else.
    """
    path = on_disk(out)
    path = path if path.suffix in {".html", ".htm"} and not path.is_dir() else on_disk(path / "report.html")
    if os.path.lexists(path) and not _is_report(path):
        raise CurationError(f"out: {str(path)!r} exists and is no report; choose another file with --out")
    text = render(manifest, selection)
    with writing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _is_report(path: Path) -> bool:
    """Whether a file is a report of ours, or empty."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return not head or any(mark in head for mark in _MARKS)


def render(manifest: str, selection: str | None = None) -> str:
    """The report's HTML. Every text in it is escaped, and no lone surrogate or control character is left."""
    found, clips = Manifest.find(manifest), open_table(manifest, "clips")
    with readable(selection or manifest, "selection" if selection else "manifest"):
        chosen = _Selection.open(selection, found) if selection else None
        context = {
            "version": version("rushes"),
            "name": found.root.parent.name if found.root.name == "manifest" else found.root.name,
            "selection": chosen.summary if chosen else None,
            "stale": bool(chosen) and chosen.summary.manifest_hash != found.hash(),
            "summary": _summary(manifest, clips, chosen),
            "scores": _scores(clips, _groups(found), chosen),
            "sheets": _sheets(clips, chosen),
            "lineage": _lineage(found, clips, chosen),
            **_trouble(manifest),
        }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("curation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"num": number, "clock": clock, "instant": _instant, "file": _file_name}
    return environment.get_template("report.html.j2").render(context)


def _same(told: str, root: Path) -> bool:
    """Whether a selection tells of the manifest at `root`."""
    where = place(told)
    return named(where) == named(root) or (not remote(root) and not remote(where) and where.resolve() == root.resolve())


@dataclass(frozen=True, slots=True)
class _Selection:
    summary: SelectionSummary
    kept: ds.Dataset
    rejected: pa.Table  # clip_id, reasons, and duplicate_of where the policy looks for duplicates

    @classmethod
    def open(cls, folder: str, manifest: Manifest) -> "_Selection":
        """Read it. Raises CurationError if it was made from another manifest; that this one has grown is no fault."""
        summary, root = read_summary(folder), Path(folder)
        moved = not _same(summary.manifest, manifest.root)
        if moved and summary.manifest_hash != manifest.hash():
            raise CurationError(
                f"selection: {folder!r} was made from the manifest {summary.manifest!r}, not from "
                f"{named(manifest.root)!r}; name that manifest, or select from this one"
            )
        return cls(summary, ds.dataset(root / "clips.parquet"), pq.read_table(root / "rejected.parquet"))


def _summary(manifest: str, clips: ds.Dataset, chosen: _Selection | None) -> list[tuple[str, str, str]]:
    """(what, number, remark) for the head of the report."""
    videos, shots, errors = (open_table(manifest, t) for t in ("videos", "shots", "errors"))
    failed = videos.count_rows(filter=pc.field("status") == "failed")
    barren = shots.count_rows(filter=pc.field("reason").is_valid())
    figures = [
        ("videos", number(videos.count_rows()), f"{number(failed)} failed"),
        ("footage", clock(numbers(videos, "duration")[0].sum()), "read"),
        ("shots", number(shots.count_rows()), f"{number(barren)} without a clip"),
        ("clips", number(clips.count_rows()), f"{clock(lengths(clips).sum())} long"),
        ("errors", number(errors.count_rows()), "recorded"),
    ]
    if chosen:
        share = f"{chosen.summary.kept / chosen.summary.clips:.0%} of clips"
        kept = ("kept", number(chosen.summary.kept), f"{share}, {clock(lengths(chosen.kept).sum())}")
        figures.insert(4, kept)
    return figures


def _groups(found: Manifest) -> ds.Dataset:
    """The manifest's table of duplicates, without rows or columns if it has none."""
    path = duplicates.path_of(found)
    return dataset([path], read_schema(path)) if path.is_file() else ds.dataset(pa.table({}))


def _scores(clips: ds.Dataset, groups: ds.Dataset, chosen: _Selection | None) -> list[dict[str, Any]]:
    """One entry a score, those with a threshold first: its histogram, its definition in words, its counts."""
    bounds = {t.score: t for t in chosen.summary.thresholds} if chosen else {}
    sizes = [f for f in score_fields(groups.schema) if f.name in {"perceptual_size", "semantic_size"}]
    fields = {f.name: f for f in (*score_fields(clips.schema), *sizes)}
    fields |= {f.name: f for f in (*clips.schema, *groups.schema) if f.name in bounds}
    entries = []
    for name in sorted(fields, key=lambda n: n not in bounds):  # a stable sort keeps the manifest's order
        values, missing = numbers(clips if name in clips.schema.names else groups, name)
        kept = numbers(chosen.kept, name)[0] if chosen and name in chosen.kept.schema.names else None
        bound = bounds.get(name, Threshold(name, None, None, ""))
        measured = definition_of(fields[name]) or {}
        entries.append(
            {
                "name": name,
                "unit": note(fields[name], "unit"),
                "description": note(fields[name], "description"),
                "definition": ", ".join(f"{k} {v}" for k, v in measured.items()),
                "rule": bound.source,
                "measured": len(values),
                "missing": missing,
                "median": float(np.median(values)) if len(values) else None,
                "svg": Markup(histogram_svg(values, kept, low=bound.min, high=bound.max, title=name)),
            }
        )
    return entries


def _sheets(clips: ds.Dataset, chosen: _Selection | None) -> list[dict[str, Any]]:
    """The contact sheets: kept clips, then those that fell, under the first reason of each."""
    if chosen is None:
        rows = rows_at(clips, _evenly(clips.count_rows(), KEPT_SHOWN), _card_columns(clips.schema))
        return [_sheet("Clips", "clips", clips.count_rows(), rows, [])]
    leading = [t.score for t in chosen.summary.thresholds]
    columns = _card_columns(clips.schema)
    rows = rows_at(chosen.kept, _evenly(chosen.summary.kept, KEPT_SHOWN), columns)
    sheets = [_sheet("Kept", "kept", chosen.summary.kept, rows, leading)]
    first = pc.list_element(chosen.rejected["reasons"], 0)  # type: ignore[attr-defined]
    fallen = []  # (reason, clips, those shown); a reason that no clip has first has no sheet
    for reason in chosen.summary.rejected_by_reason:
        fell = chosen.rejected.filter(pc.equal(first, reason))  # type: ignore[attr-defined]
        if len(fell):
            fallen.append((reason, len(fell), fell.take(_evenly(len(fell), REJECTED_SHOWN)).to_pylist()))
    wanted = [i for *_, shown in fallen for r in shown for i in (r["clip_id"], r.get("duplicate_of")) if i]
    found = {r["clip_id"]: r for r in rows_at(clips, positions_of(clips, wanted), columns)}
    for reason, count, shown in fallen:
        rows = []
        for r in shown:
            original = found.get(r.get("duplicate_of") or "")
            repeats = f"repeats {_file_name(original['uri'])} at {_instant(original['start'])}" if original else ""
            if r["clip_id"] in found:  # a manifest that changed since may lack it
                rows.append({**found[r["clip_id"]], "reasons": r["reasons"], "repeats": repeats})
        sheets.append(_sheet(reason, "rejected", count, rows, leading))
    return sheets


def _sheet(title: str, kind: str, count: int, rows: list[dict[str, Any]], leading: Sequence[str]) -> dict[str, Any]:
    cards = []
    for row in rows:
        scores = {k: v for k, v in row.items() if isinstance(v, float | int) and k not in _CARD}
        captions = {k: row[k] for k in _CAPTIONS if row.get(k)}
        reasons = row.get("reasons", [])
        cards.append(
            {
                **{k: row[k] for k in _CARD if k != "preview"},
                "image": _data_uri(row["preview"]),
                "scores": scores,
                "leading": {k: scores.get(k) for k in leading or list(scores)[:4]},
                "failing": {k for k in leading if any(r.startswith(f"{k} ") for r in reasons)},
                "caption": next(iter(captions.values()), ""),
                "captions": captions,
                "reasons": reasons,
                "repeats": row.get("repeats", ""),
            }
        )
    return {"title": title, "kind": kind, "count": count, "cards": cards}


def _card_columns(schema: pa.Schema) -> list[str]:
    wanted = [*_CARD, *(f.name for f in score_fields(schema)), *_CAPTIONS]
    return [name for name in dict.fromkeys(wanted) if name in schema.names]


def _trouble(manifest: str) -> dict[str, Any]:
    """What could not be read or measured: videos, shots and errors, each as an even sample."""
    videos, shots, errors = (open_table(manifest, t) for t in ("videos", "shots", "errors"))
    lost = videos.to_table(columns=["uri", "status", "message"], filter=pc.field("status") != "ok")
    barren = shots.to_table(columns=["uri", "shot", "start", "end", "reason"], filter=pc.field("reason").is_valid())
    columns = ["uri", "clip_id", "step", "error", "message", "attempts"]
    return {
        "lost_videos": {"count": len(lost), "rows": lost.take(_evenly(len(lost), ROWS_SHOWN)).to_pylist()},
        "barren_shots": {
            "count": len(barren),
            "rows": barren.take(_evenly(len(barren), ROWS_SHOWN)).to_pylist(),
            "by_reason": counts(shots, "reason"),
        },
        "errors": {
            "count": errors.count_rows(),
            "rows": rows_at(errors, _evenly(errors.count_rows(), ROWS_SHOWN), columns),
            "by_step": counts(errors, "step", "error"),
        },
    }


def _lineage(found: Manifest, clips: ds.Dataset, chosen: _Selection | None) -> dict[str, Any]:
    facts = [("manifest", str(found.root)), ("manifest hash", found.hash())]
    documents = []
    for key, value in (clips.schema.metadata or {}).items():
        if key.startswith(b"rushes."):
            documents.append((key.decode("utf-8", "replace"), _pretty(value)))
    if chosen:
        s = chosen.summary
        facts += [("selected from", s.manifest_hash), ("policy hash", s.policy_hash)]
        facts += [("selection", s.out), ("selection hash", s.selection_hash)]
        documents.append(("policy", json.dumps(s.policy, indent=2, ensure_ascii=False)))
    return {"facts": facts, "documents": [(name, text.splitlines()) for name, text in documents]}


def positions_of(table: ds.Dataset, clip_ids: Sequence[str]) -> np.ndarray:
    """Row numbers, int64, of these clips in the table's order. Reads one column, batch by batch."""
    wanted, at, found = pa.array(clip_ids, pa.string()), 0, [np.zeros(0, np.int64)]
    for batch in table.to_batches(columns=["clip_id"]):
        found.append(at + np.flatnonzero(pc.is_in(batch["clip_id"], value_set=wanted)))  # type: ignore[attr-defined]
        at += len(batch)
    return np.concatenate(found)


def rows_at(table: ds.Dataset, positions: np.ndarray, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows with these numbers, ascending, of a Parquet dataset. Reads only the row groups that hold one."""
    rows: list[dict[str, Any]] = []
    if not len(positions):
        return rows
    at = 0
    for fragment in table.get_fragments():
        for group in fragment.split_by_row_group():
            size = sum(g.num_rows for g in group.row_groups)
            inside = positions[(positions >= at) & (positions < at + size)] - at
            if len(inside):
                rows += group.to_table(schema=table.schema, columns=list(columns)).take(inside).to_pylist()
            at += size
    return rows


def _evenly(count: int, most: int) -> np.ndarray:
    """At most `most` row numbers, int64, spread evenly from the first to the last of `count`."""
    if not count:
        return np.zeros(0, np.int64)
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _data_uri(preview: bytes | None) -> str:
    """A preview as a data URI; empty for none, and for bytes that are no picture a browser knows."""
    mime = next((m for magic, m in _MIME.items() if (preview or b"").startswith(magic)), "")
    return f"data:{mime};base64,{base64.b64encode(preview).decode()}" if preview and mime else ""


def _instant(seconds: float) -> str:
    """m:ss.s, as one reads it off a player."""
    minutes, rest = divmod(round(seconds * 10), 600)
    return f"{minutes}:{rest / 10:04.1f}"


def _file_name(uri: str | None, limit: int = 0) -> str:
    return printable(PurePosixPath(uri).name or uri, limit) if uri else "–"


def _pretty(raw: bytes) -> str:
    try:
        return json.dumps(json.loads(raw), indent=2, ensure_ascii=False)
    except ValueError:
        return raw.decode("utf-8", "replace")
