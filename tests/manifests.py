"""Two manifests side by side: what tests of disturbed runs hold against an undisturbed one."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from curation.manifest import Manifest
from curation.schema import TABLES

_UNLIKE = {"attempts"}  # of a video that lost its worker there was one more
_RELATIVE, _ABSOLUTE = 1e-3, 1e-5  # two runs may batch differently, which moves the last bits


def same(manifest: Manifest, calm: Manifest, but: Collection[str] = ()) -> None:
    """Fail unless both hold the same rows (columns of `but` aside), no clip twice, and no file that is not theirs."""
    ids = manifest.read("clips", ["clip_id"])["clip_id"].to_pylist()
    assert len(ids) == len(set(ids))
    for table in TABLES:
        _equal(table, *(_without(but, m.read(table).to_pylist()) for m in (manifest, calm)))
    assert others(manifest) == others(calm)
    for name in others(calm):
        if name.endswith(".parquet"):
            _equal(name, *(_without(but, pq.read_table(m.root / name).to_pylist()) for m in (manifest, calm)))


def part_of(manifest: Manifest, calm: Manifest) -> None:
    """Fail unless every row that is there is one of the undisturbed manifest."""
    for table in TABLES:
        whole = {_words(row): row for row in calm.read(table).to_pylist()}
        rows = manifest.read(table).to_pylist()
        assert whole.keys() >= {_words(row) for row in rows}, table
        _equal(table, rows, [whole[_words(row)] for row in rows])


def others(manifest: Manifest) -> list[str]:
    """Names of the files in its folder that are no fragments of its shards."""
    fragments = {str(path) for table in TABLES for path in manifest.fragments(table)}
    return sorted(str(p.relative_to(manifest.root)) for p in files(manifest.root) if str(p) not in fragments)


def files(folder: Path) -> list[Path]:
    """All files below a folder."""
    return sorted(p for p in folder.rglob("*") if p.is_file())


def _without(columns: Collection[str], rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in columns} for row in rows]


def _equal(name: str, rows: Iterable[dict], expected: Iterable[dict]) -> None:
    rows, expected = sorted(rows, key=_words), sorted(expected, key=_words)
    assert [_words(r) for r in rows] == [_words(r) for r in expected], name
    for row, other in zip(rows, expected, strict=True):
        np.testing.assert_allclose(_numbers(row), _numbers(other), _RELATIVE, _ABSOLUTE, err_msg=f"{name}: {row}")


def _words(row: dict[str, Any]) -> str:
    """What of a row has to be the same to the letter; for numbers, how many there are."""
    return str({k: len(_floats(v)) if _floats(v) else v for k, v in row.items() if k not in _UNLIKE})


def _numbers(row: dict[str, Any]) -> list[float]:
    return [number for value in row.values() for number in _floats(value)]


def _floats(value: Any) -> list[float]:
    values = value if isinstance(value, list) else [value]
    return [v for v in values if isinstance(v, float)]
