"""The page on the manifest: its tables are the schema's, its examples run, and the readers it names read every type."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.config import CurateConfig
from curation.manifest import Manifest, Shard
from curation.schema import CLIP_IDENTITY, SCHEMA_VERSION, VERSION_KEY, score_field
from curation.scores import scorers_for
from curation.scores.base import columns_of
from docs.manifest import PAGE, page, svd_columns

EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
SIZES = [3, 0, 5, 0]  # rows of the fragments


def fields() -> list[pa.Field]:
    """A clip's identity and every score of both profiles; where both have a column, svd's under another name."""
    embedded = columns_of(scorers_for(CurateConfig(videos="unused")))
    taken = {column.name for column, _ in embedded}
    svd = [(f"svd_{c.name}" if c.name in taken else c.name, c, d) for c, d in svd_columns()]
    scores = {name: (name, c, d) for name, c, d in [*((c.name, c, d) for c, d in embedded), *svd]}
    return [*CLIP_IDENTITY, *(score_field(n, c.type, c.description, c.unit, d) for n, c, d in scores.values())]


def value(field: pa.Field, row: int) -> Any:
    """One that its type can hold exactly, or null in every fourth row; large where the type is."""
    kind, at = field.type, sum(field.name.encode())
    if field.name == "clip_id":
        return f"clip {row:02}"
    if (row + at) % 4 == 0:
        return None
    if pa.types.is_list(kind):
        return [
            value(pa.field("", kind.value_type), row + 4 * i + 1 - (row + 4 * i) % 4) for i in range((row + at) % 3)
        ]
    if pa.types.is_boolean(kind):
        return row % 2 == 0
    if pa.types.is_binary(kind):
        return bytes([0, 255, row]) * 3
    if pa.types.is_string(kind):
        return f"Zoë's “{row}”\n\x1f 👁"
    if pa.types.is_integer(kind):  # of an int64 with nulls pandas makes floats, which hold 53 bits
        return 2 ** min(kind.bit_width - 1, 53) - 1 - row if "u" not in str(kind) else 2**kind.bit_width - 1 - row
    return -0.5 - row / 16


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, list[dict[str, Any]]]:
    """A manifest of several fragments, some without a row, and its clips as they were given to it."""
    root = tmp_path_factory.mktemp("films") / "manifest"
    schema, rows = pa.schema(fields(), {VERSION_KEY: str(SCHEMA_VERSION)}), []
    for shard, size in enumerate(SIZES):
        clips = [{f.name: value(f, len(rows) + i) for f in schema} for i in range(size)]
        errors = [{"uri": "f.mp4", "clip_id": c["clip_id"], "step": "motion", "error": "ValueError"} for c in clips]
        Manifest(root).commit(Shard(f"s{shard}", [], [], errors, clips), schema)
        rows += clips
    return root, rows


def test_the_fixture_has_every_type_and_nulls(written):
    _, rows = written
    kinds = [f.type for f in fields()]
    assert {"binary", "string", "bool", "int32", "int64", "float", "double"} <= {str(kind) for kind in kinds}
    listed = {str(kind.value_type) for kind in kinds if pa.types.is_list(kind)}
    assert listed == {"halffloat", "float", "uint64", "uint8", "string"}
    for field in fields():
        values = [row[field.name] for row in rows]
        assert field.name == "clip_id" or None in values
        assert any(v is not None for v in values)


def pandas_rows(root: Path) -> list[dict[str, Any]]:
    return pd.read_parquet(root / "clips").to_dict("records")


def duckdb_rows(root: Path) -> list[dict[str, Any]]:
    return duckdb.sql(f"SELECT * FROM '{root}/clips/*.parquet'").to_arrow_table().to_pylist()


def polars_rows(root: Path) -> list[dict[str, Any]]:
    return pl.read_parquet(root / "clips" / "*.parquet").to_dicts()


def datasets_rows(root: Path) -> list[dict[str, Any]]:
    files = str(root / "clips" / "*.parquet")
    cache = str(root.parent / "cache")
    return list(datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache))


def streamed_rows(root: Path) -> list[dict[str, Any]]:
    files = str(root / "clips" / "*.parquet")
    return list(datasets.load_dataset("parquet", data_files=files, split="train", streaming=True))


def plain(got: Any) -> Any:
    """A reader's value as Python's own: lists for arrays, None for the NaN that stands for a null in pandas."""
    if isinstance(got, np.ndarray | list):
        return [plain(v) for v in got]
    got = got.item() if isinstance(got, np.generic) else got
    return None if isinstance(got, float) and np.isnan(got) else got


@pytest.mark.parametrize("reader", [pandas_rows, duckdb_rows, polars_rows, datasets_rows, streamed_rows])
def test_every_type_is_read_as_it_was_written(written, reader: Callable[[Path], list[dict[str, Any]]]):
    root, rows = written
    got = sorted(reader(root), key=lambda row: row["clip_id"])
    assert len(got) == len(rows) == sum(SIZES)
    for ours, theirs in zip(rows, got, strict=True):
        assert list(theirs) == list(ours)
        for name, wanted in ours.items():
            assert plain(theirs[name]) == wanted, name


@pytest.mark.parametrize("table", ["videos", "shots", "errors"])
def test_the_other_tables_are_read_too(written, table):
    root, rows = written
    wanted = len(rows) if table == "errors" else 0
    assert len(pd.read_parquet(root / table)) == wanted
    assert len(pl.read_parquet(root / table / "*.parquet")) == wanted
    assert duckdb.sql(f"SELECT count(*) FROM '{root}/{table}/*.parquet'").fetchall() == [(wanted,)]


@pytest.mark.parametrize("first", ["old", "new"])
def test_files_of_two_versions_are_read_as_the_page_says(tmp_path, first):
    """By DuckDB and Polars, whichever file comes first."""
    today = pa.schema(CLIP_IDENTITY)
    old = pa.schema([f for f in CLIP_IDENTITY if f.name not in ("start_pts", "begins_with")])
    names = {"old": "a", "new": "b"} if first == "old" else {"old": "b", "new": "a"}
    pq.write_table(pa.Table.from_pylist([{"clip_id": "1"}], old), tmp_path / f"{names['old']}.parquet")
    rows = [{"clip_id": "2", "start_pts": 7, "begins_with": "cut"}]
    pq.write_table(pa.Table.from_pylist(rows, today), tmp_path / f"{names['new']}.parquet")
    sql = f"SELECT clip_id, start_pts FROM read_parquet('{tmp_path}/*.parquet', union_by_name = true) ORDER BY clip_id"
    assert duckdb.sql(sql).fetchall() == [("1", None), ("2", 7)]
    scan = pl.scan_parquet(tmp_path / "*.parquet", schema=today_in_polars(), missing_columns="insert")
    assert scan.select("clip_id", "start_pts").sort("clip_id").collect().rows() == [("1", None), ("2", 7)]


def today_in_polars() -> pl.Schema:
    return pl.from_arrow(pa.schema(CLIP_IDENTITY).empty_table()).schema


def test_the_committed_page_is_what_the_schema_makes_of_it():
    assert page() == PAGE.read_text(), "run python -m docs.manifest --write"


def test_every_column_of_both_profiles_is_on_the_page():
    text, names = PAGE.read_text(), {f.name.removeprefix("svd_") for f in fields()}
    assert {"clip_id", "motion", "conse_fused", "clip_fused", "aesthetic"} <= names
    assert all(f"\n| `{name}` | " in text for name in names)


@pytest.mark.parametrize("library", ["curation.manifest import read", "pandas", "duckdb", "polars", "datasets", "json"])
def test_the_examples_run(written, monkeypatch, library):
    root, rows = written
    monkeypatch.chdir(root.parent)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", root.parent / "cache")
    (root.parent / "runs" / "films").mkdir(parents=True, exist_ok=True)
    if not (link := root.parent / "runs" / "films" / "manifest").exists():
        link.symlink_to(root)
    (code,) = [e for e in EXAMPLES if e.startswith((f"import {library}", f"from {library}"))]
    said: dict[str, Any] = {}
    exec(code, said)
    if "clips" in said:
        assert len(said["clips"]) == len(rows)
    if library == "duckdb":
        assert said["failures"] == [("motion", "ValueError", len(rows))]
    if library == "polars":
        assert said["per_video"]["len"].sum() == len(rows)
    if library == "json":
        assert said["definition"]["scorer"] == "motion"


def test_every_example_is_run():
    assert len(EXAMPLES) == 6
