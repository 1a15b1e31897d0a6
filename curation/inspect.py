"""Looking into a manifest: what is in it, what its numbers mean, and SQL over its tables.

Nothing here changes a manifest, and nothing loads more than one column of it at a time, previews least of all.
"""

import contextlib
import io
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from curation.duplicates import table as duplicates
from curation.errors import CurationError
from curation.manifest import Manifest
from curation.remarks import text_check
from curation.schema import TABLES, definition_of
from curation.store import named, place, read_schema, read_table, remote

if TYPE_CHECKING:  # imported where a query runs: see `selection.expressions`
    from duckdb import DuckDBPyConnection

_TEXT_WIDTH = 90  # of messages and reasons


def open_table(manifest: str, name: str) -> ds.Dataset:
    """One table of a manifest (videos, shots, clips or errors) without reading its rows.

    Raises:
        CurationError: there is no manifest, or a fragment is no Parquet file.
    """
    found = Manifest.find(manifest)
    with readable(manifest):
        return found.dataset(name)


@contextlib.contextmanager
def readable(folder: str, kind: str = "manifest") -> Iterator[None]:
    """Where a Parquet file turns out to be none, a CurationError that names its folder; `kind` is what that is."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        which = _damaged_file(folder)
        raise CurationError(
            f"{kind}: {folder!r} cannot be read: {f'{which}: ' * bool(which)}{printable(_line(error), 300)}"
        ) from error


def _damaged_file(folder: str) -> str | None:
    """The first file of a selection or manifest that cannot be read, below its folder."""
    kept = [path for name in ("clips.parquet", "rejected.parquet") if (path := place(folder) / name).is_file()]
    for path in kept:
        try:
            read_table(path)
        except (OSError, pa.ArrowException):
            return path.name
    if kept:
        return None
    try:
        return Manifest.find(folder).damaged()
    except CurationError:
        return None


def score_fields(schema: pa.Schema) -> list[pa.Field]:
    """The numeric scalar columns that are measurements. A 64-bit hash is a bit pattern, not an amount."""
    return [
        f
        for f in schema
        if definition_of(f)
        and (pa.types.is_floating(f.type) or (pa.types.is_integer(f.type) and not pa.types.is_uint64(f.type)))
    ]


def note(field: pa.Field, key: str) -> str:
    """A text of a column's metadata ("description" or "unit"), empty if there is none."""
    return (field.metadata or {}).get(key.encode(), b"").decode("utf-8", "replace")


def numbers(table: ds.Dataset, column: str) -> tuple[np.ndarray, int]:
    """A column's finite values, float64 (n,), and how many rows have none (null, NaN or infinite)."""
    values = table.to_table(columns=[column])[column].drop_null()
    array = pc.cast(values, pa.float64()).to_numpy()  # type: ignore[union-attr]
    array = array[np.isfinite(array)]
    return array, table.count_rows() - len(array)


def lengths(table: ds.Dataset) -> np.ndarray:
    """Seconds from start to end of each clip or shot, float64 (n,)."""
    times = table.to_table(columns=["start", "end"])
    return times["end"].to_numpy() - times["start"].to_numpy()


def printable(text: object, limit: int = 0) -> str:
    """Text that can be shown anywhere, on one line, cut in its middle to `limit` characters.

    Control characters, lone surrogates and marks that turn the direction of writing become escapes: a file's name
    can be any bytes, and must neither drive a terminal nor pass for another name.
    """
    shown = "".join(c if _harmless(c) else c.encode("unicode_escape").decode("ascii") for c in str(text))
    if limit and len(shown) > limit:
        head = limit // 2
        shown = f"{shown[:head]}…{shown[len(shown) + head + 1 - limit :]}"
    return shown


def _harmless(character: str) -> bool:
    joiner = character in "\u200c\u200d"  # Persian and emoji need them
    return joiner or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss below an hour."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


def sql(manifest: str, query: str) -> pa.Table:
    """Run one SELECT over the views videos, shots, clips and errors, and duplicates where they were looked for.

    It runs in a DuckDB that can reach nothing but the manifest's folder: no other file, no network, no Python variable.

    Raises:
        CurationError: it is no single SELECT, or DuckDB finds fault with it.
    """
    import duckdb

    found = Manifest.find(manifest)
    with duckdb.connect() as connection:
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET enable_progress_bar = false")  # it would write on stdout
        if remote(found.root):
            connection.register_filesystem(cast(Any, found.root).fs)
        connection.execute("SET allowed_directories = [$folder]", {"folder": f"{named(found.root)}/"})
        connection.execute("SET enable_external_access = false")
        for name in TABLES:
            if paths := [named(p) for p in found.fragments(name)]:
                connection.read_parquet(paths, union_by_name=True).create_view(name)
            else:
                connection.register(name, found.schema(name).empty_table())
        _join_duplicates(connection, found)
        connection.execute("SET lock_configuration = true")
        try:
            query.encode()  # DuckDB calls text that is no UTF-8 a wrong argument type
            parsed = connection.extract_statements(query)
            if len(parsed) != 1 or parsed[0].type != duckdb.StatementType.SELECT:
                raise CurationError("sql: give one SELECT over videos, shots, clips, errors or duplicates")
            return connection.sql(query).to_arrow_table()
        except (duckdb.Error, pa.ArrowInvalid, UnicodeError) as error:
            raise CurationError(f"sql: {_line(error)}") from error


def _join_duplicates(connection: "DuckDBPyConnection", manifest: Manifest) -> None:
    """The view `duplicates`, and its columns in `clips` too; null for clips that are newer than it."""
    table = duplicates.whole(manifest)
    if table is None or not manifest.shards():
        return
    connection.read_parquet(named(table)).create_view("duplicates")
    connection.execute("ALTER VIEW clips RENAME TO measured_clips")
    connection.execute("CREATE VIEW clips AS SELECT * FROM measured_clips LEFT JOIN duplicates USING (clip_id)")


def definitions(manifest: str) -> str:
    """What each score says, its unit, and what its numbers depend on; one paragraph a column."""
    paragraphs, found = [], Manifest.find(manifest)
    table = duplicates.whole(found)
    of_groups = read_schema(table) if table else ()
    for field in (*open_table(manifest, "clips").schema, *of_groups):
        measured = definition_of(field)
        if measured is None:
            continue
        unit = note(field, "unit")
        lines = [f"{field.name}{f' [{unit}]' if unit else ''}  {field.type}"]
        if note(field, "description"):
            lines.append(f"    {note(field, 'description')}")
        lines.append("    " + ", ".join(f"{k} = {v}" for k, v in measured.items()))
        paragraphs.append("\n".join(map(printable, lines)))
    return "\n\n".join(paragraphs) or "This manifest defines no scores."


def summarise(manifest: str) -> str:
    """What a manifest holds, as plain-text tables: videos, shots, clips, scores, and all that went wrong."""
    with readable(manifest):
        return _summary(manifest)


def _summary(manifest: str) -> str:
    videos, shots, errors, clips = (open_table(manifest, name) for name in TABLES)
    failed = videos.to_table(columns=["uri", "message"], filter=pc.field("status") == "failed").to_pylist()
    longest = sql(manifest, 'SELECT "end" - start AS s, start, "end", uri FROM clips ORDER BY s DESC, clip_id LIMIT 5')
    lost = counts(shots, "reason")
    blocks = [
        _table(
            "Manifest",
            ("", ">count", "time"),
            [
                ("videos", videos.count_rows(), clock(numbers(videos, "duration")[0].sum())),
                ("videos that failed", len(failed), ""),
                ("shots", shots.count_rows(), ""),
                ("shots without a clip", sum(n for _, n in lost), ""),
                ("clips", clips.count_rows(), clock(lengths(clips).sum())),
                ("errors", errors.count_rows(), ""),
            ],
        ),
        _table(
            "Length of the clips",
            (*_QUANTILES, "unit"),
            [(*_spread(lengths(clips)), "s")] if clips.count_rows() else [],
        ),
        _scores(clips, errors),
        text_check(Manifest.find(manifest)) or "",
        _table("Duplicates", ("", ">groups", ">clips in them", ">repeats"), _repeats(manifest)),
        _table(
            "Longest clips",
            (">seconds", ">from", ">to", "video"),
            [(*(_short(row[c]) for c in ("s", "start", "end")), row["uri"]) for row in longest.to_pylist()],
        ),
        _table("Shots without a clip", (">shots", "~reason"), [(n, reason) for reason, n in lost]),
        _table("Errors by step", (">errors", "step", "error"), [(n, *k) for k, n in counts(errors, "step", "error")]),
        _table(
            "Videos that failed (the first 20)",
            ("video", "~why"),
            [(v["uri"], v["message"] or "") for v in failed[:20]],
        ),
    ]
    return "\n\n".join(b for b in blocks if b) + "\n"


def _repeats(manifest: str) -> list[tuple[str, int, int, int]]:
    """(kind, groups of several clips, their clips, those that are not the representative), where there are any."""
    path, rows = duplicates.whole(Manifest.find(manifest)), []
    if path is None:
        return []
    for kind in duplicates.KINDS:
        columns = [f"{kind}_{what}" for what in ("group", "size", "representative")]
        table = read_table(path, columns)
        table = table.filter(pc.greater(table[columns[1]], 1))  # type: ignore[attr-defined]
        repeats = pc.sum(pc.equal(table[columns[2]], 0)).as_py() or 0  # type: ignore[attr-defined]
        rows.append((kind, pc.count_distinct(table[columns[0]]).as_py(), len(table), repeats))  # type: ignore[attr-defined]
    return [row for row in rows if row[2]]


def counts(table: ds.Dataset, *columns: str) -> list[tuple[Any, int]]:
    """How often each value, or tuple of values, occurs; nulls are left out; the most frequent first."""
    rows = table.to_table(columns=list(columns), filter=pc.field(columns[0]).is_valid())
    grouped = rows.group_by(list(columns)).aggregate([([], "count_all")]).to_pylist()
    ordered = sorted(grouped, key=lambda r: (-r["count_all"], *(str(r[c]) for c in columns)))
    return [(r[columns[0]] if len(columns) == 1 else tuple(r[c] for c in columns), r["count_all"]) for r in ordered]


def _scores(clips: ds.Dataset, errors: ds.Dataset) -> str:
    """Each score: on how many clips it was measured, on how many it failed (with an error row), and where it lies. The
    rest of the nulls say that there was nothing to measure."""
    failed = dict(counts(errors.filter(pc.field("clip_id").is_valid()), "step"))
    rows: list[Sequence[Any]] = []
    for field in score_fields(clips.schema):
        values, nulls = numbers(clips, field.name)
        why = failed.get(_scorer(field), 0)
        rows.append((field.name, len(values), why, nulls - why, *_spread(values), note(field, "unit")))
    for field in clips.schema:
        if definition_of(field) and pa.types.is_string(field.type):
            nulls = clips.count_rows(filter=pc.field(field.name).is_null())
            why = failed.get(_scorer(field), 0)
            rows.append((field.name, clips.count_rows() - nulls, why, nulls - why, *[""] * len(_QUANTILES), "text"))
    return _table("Scores", ("score", ">measured", ">failed", ">none", *_QUANTILES, "unit"), rows)


def _scorer(field: pa.Field) -> str:
    return (definition_of(field) or {}).get("scorer", "")


_QUANTILES = {">min": 0.0, ">25 %": 0.25, ">median": 0.5, ">75 %": 0.75, ">max": 1.0}


def _spread(values: np.ndarray) -> list[str]:
    """The quantiles in words; empty where nothing was measured."""
    return (
        [_short(q) for q in np.quantile(values, list(_QUANTILES.values()))] if len(values) else [""] * len(_QUANTILES)
    )


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Plain text, as wide as it needs to be. A column named ">x" stands to the right; the texts of one named "~x" go
    on below where they are long. No rows, no table."""
    if not rows:
        return ""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        side, wraps = "right" if name[:1] == ">" else "left", name[:1] == "~"
        width = _TEXT_WIDTH if wraps else None
        table.add_column(Text(name.lstrip(">~")), justify=side, max_width=width, no_wrap=not wraps, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    out = io.StringIO()
    Console(file=out, width=10_000, color_system=None, highlight=False).print(table)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return "\n".join([title, "", *lines]).rstrip()


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _line(error: Exception) -> str:
    """The first paragraph of an error, without DuckDB's drawing of the place, as one line."""
    return " ".join(str(error).split("\n\nLINE ")[0].split()) or type(error).__name__
