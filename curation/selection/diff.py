"""How two selections differ: what they were made from, and which clips are in one of them alone."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.errors import CurationError
from curation.selection.folder import SelectionSummary, read_summary
from curation.store import on_disk, read_table, write_table

ABSENT = "not in its manifest"
EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class OnlyIn:
    """Clips that one selection has alone, for one reason of the other's: how many, and some of their ids."""

    side: str
    reason: str
    clips: int
    examples: list[str]


@dataclass(slots=True)
class Difference:
    """`facts` are (what, of A, of B), those alone that differ for the policies; `only` has a clip under each of its
    reasons. `moved` counts clips that are for training in one and for validation in the other."""

    a: SelectionSummary
    b: SelectionSummary
    facts: list[tuple[str, str, str]]
    both: int
    only_a: int
    only_b: int
    moved: int = 0
    only: list[OnlyIn] = field(default_factory=list)


def compare(a: str, b: str, out: str = "") -> Difference:
    """Compare two folders of selections; `out`, if given, becomes a Parquet file of clip_id, only_in (A or B), reasons
    and duplicate_of, which the other selection gives.

    Raises CurationError where a folder is no selection, or `out` cannot be written or holds something else.
    """
    path = on_disk(out) if out else None
    if path and os.path.lexists(path) and not _is_list(path):
        raise CurationError(f"out: {str(path)!r} exists and is no list of differences; choose another file with --out")
    first, second = read_summary(a), read_summary(b)
    kept = [_kept(folder) for folder in (a, b)]
    alone = [_alone(kept[0], kept[1], b), _alone(kept[1], kept[0], a)]
    if path:
        sides = [t.add_column(1, "only_in", pa.array(["AB"[i]] * len(t), pa.string())) for i, t in enumerate(alone)]
        write_table(pa.concat_tables(sides), path)
    return Difference(
        first,
        second,
        [*_origin(first, second), *_policies(first.policy, second.policy)],
        both=len(kept[0]) - len(alone[0]),
        only_a=len(alone[0]),
        only_b=len(alone[1]),
        moved=_moved(*kept),
        only=[only for side, table in zip("AB", alone, strict=True) for only in _by_reason(side, table)],
    )


def _is_list(path: Path) -> bool:
    """Whether a file is what `compare` writes, or empty."""
    try:
        return not path.stat().st_size or pq.read_schema(path).names[:2] == ["clip_id", "only_in"]
    except (OSError, pa.ArrowException):
        return False


def _kept(folder: str) -> pa.Table:
    path = Path(folder) / "clips.parquet"
    columns = ["clip_id", "split"]
    try:
        return read_table(path, [c for c in columns if c in pq.read_schema(path).names])
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _alone(kept: pa.Table, other: pa.Table, folder: str) -> pa.Table:
    """Clips that `other` lacks, with the reasons that its folder gives; none where it does not know them."""
    missing = kept.select(["clip_id"]).filter(pc.invert(pc.is_in(kept["clip_id"], other["clip_id"])))  # type: ignore[attr-defined]
    columns = ["clip_id", "reasons", "duplicate_of"]
    path = Path(folder) / "rejected.parquet"
    try:
        fallen = read_table(path, columns)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    at = pc.index_in(missing["clip_id"], fallen["clip_id"])  # type: ignore[attr-defined]
    for name in columns[1:]:
        missing = missing.append_column(name, fallen[name].take(at))
    return missing


def _unreadable(path: Path, error: Exception) -> CurationError:
    return CurationError(
        f"selection: {path.name} of {str(path.parent)!r} cannot be read: {str(error).splitlines()[0]}; make the "
        "selection again with `rushes select`"
    )


def _by_reason(side: str, table: pa.Table) -> list[OnlyIn]:
    """One line a reason, the most frequent first."""
    known = table.filter(table["reasons"].is_valid())
    lists = known["reasons"].combine_chunks()
    rows = pc.list_parent_indices(lists)  # type: ignore[attr-defined]
    flat = pa.table({"reason": pc.list_flatten(lists), "clip_id": known["clip_id"].take(rows)})  # type: ignore[attr-defined]
    unknown = table.filter(table["reasons"].is_null())["clip_id"]
    lines = [
        OnlyIn(side, reason, clips, flat.filter(pc.equal(flat["reason"], reason))["clip_id"][:EXAMPLES].to_pylist())  # type: ignore[attr-defined]
        for reason, clips in (tuple(r.values()) for r in flat["reason"].value_counts().to_pylist())
    ]
    lines += [OnlyIn(side, ABSENT, len(unknown), unknown[:EXAMPLES].to_pylist())] if len(unknown) else []
    return sorted(lines, key=lambda line: (-line.clips, line.reason))


def _moved(a: pa.Table, b: pa.Table) -> int:
    if "split" not in a.column_names or "split" not in b.column_names:
        return 0
    theirs = b["split"].take(pc.index_in(a["clip_id"], b["clip_id"]))  # type: ignore[attr-defined]
    return pc.sum(pc.not_equal(a["split"], theirs)).as_py() or 0  # type: ignore[attr-defined]


def _origin(a: SelectionSummary, b: SelectionSummary) -> list[tuple[str, str, str]]:
    same = "as A" if a.manifest_hash == b.manifest_hash else b.manifest_hash
    return [
        ("selection", a.out, b.out),
        ("manifest", a.manifest, b.manifest),
        ("manifest hash", a.manifest_hash, same),
        ("policy hash", a.policy_hash, "as A" if a.policy_hash == b.policy_hash else b.policy_hash),
        ("clips in the manifest", str(a.clips), str(b.clips)),
        ("clips that stay", str(a.kept), str(b.kept)),
    ]


def _policies(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rules that are in one alone, those over one score beside each other, then the other keys that differ."""
    ours, theirs = ([_meant(rule) for rule in policy.get("rules", [])] for policy in (a, b))
    left = [rule for rule in ours if rule not in theirs]
    right = [rule for rule in theirs if rule not in ours]
    lines = []
    for rule in left:
        match = next((r for r in right if r.get("score") and r.get("score") == rule.get("score")), None)
        if match is not None:
            right.remove(match)
        lines.append(("rule", _words(rule), _words(match)))
    lines += [("rule", _words(None), _words(rule)) for rule in right]
    keys = dict.fromkeys(k for k in (*a, *b) if k != "rules")
    return lines + [(k, _value(a.get(k)), _value(b.get(k))) for k in keys if a.get(k) != b.get(k)]


def _meant(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule without what it leaves open."""
    return {k: v for k, v in rule.items() if v not in (None, "", []) and (k, v) != ("missing", "reject")}


def _words(rule: dict[str, Any] | None) -> str:
    return ", ".join(f"{k}: {_value(v)}" for k, v in rule.items()) if rule else "–"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " and ".join(map(str, value))
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
