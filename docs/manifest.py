"""Fills the tables of docs/manifest.md from the schema and the scorers.

python -m docs.manifest            prints the page as it should be
python -m docs.manifest --write    writes it
"""

import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from curation.config import CurateConfig, DuplicateSettings, Profile, WeightSettings
from curation.duplicates import table as duplicates
from curation.schema import CLIP_IDENTITY, ERRORS, SHOTS, VIDEOS
from curation.scores import scorers_for
from curation.scores.base import Column, columns_of
from curation.weights import svd_models

PAGE = Path(__file__).with_suffix(".md")
Defined = list[tuple[Column, dict[str, str | int | float | bool]]]
"""Columns, each with its definition."""

_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_TYPES = {"halffloat": "float16", "float": "float32", "double": "float64"}


def page() -> str:
    """The page with its tables as they should be. Raises KeyError for a table that nobody makes."""
    made = tables()
    return _BLOCK.sub(lambda block: f"{block[1]}\n{made[block[2]]}\n\n{block[3]}", PAGE.read_text())


def tables() -> dict[str, str]:
    """Every table of the page, by name, as markdown."""
    fixed = {"videos": VIDEOS, "shots": SHOTS, "errors": ERRORS, "clips": CLIP_IDENTITY}
    said = {name: _columns(fields) for name, fields in fixed.items()}
    said["duplicates"] = _columns(duplicates.schema(DuplicateSettings()))
    embedded, svd = columns_of(scorers_for(CurateConfig(videos="unused"))), svd_columns()
    both = {column.name for column, definition in svd if (column, definition) in embedded}
    groups = {
        "both": [c for c in embedded if c[0].name in both],
        "embedded": [c for c in embedded if c[0].name not in both],
        "svd": [c for c in svd if c[0].name not in both],
    }
    said |= {f"scores_{name}": _scores(columns) for name, columns in groups.items()}
    return said | {f"definitions_{name}": _definitions(columns) for name, columns in groups.items()}


def svd_columns() -> Defined:
    """The svd profile's columns. One byte stands in for each file of its models: of a definition only the keys are
    shown, and the page is to be the same where there are no weights."""
    with tempfile.TemporaryDirectory() as folder:
        for model in svd_models(WeightSettings()).values():
            place = Path(folder) / model.name.rsplit("/", 1)[-1]
            place.mkdir()
            for alternatives in model.files:
                (place / alternatives.split("|")[0]).write_bytes(b"-")
        weights = WeightSettings(folder=folder)
        return columns_of(scorers_for(CurateConfig(videos="unused", profile=Profile.svd, weights=weights)))


def _columns(fields: Iterable[pa.Field]) -> str:
    rows = []
    for field in fields:
        said = {key.decode(): text.decode() for key, text in (field.metadata or {}).items()}
        meaning = said.get("description", "the clip")
        rows.append((f"`{field.name}`", _kind(field.type), said.get("unit", ""), meaning))
    return _markdown(("column", "type", "unit", "meaning"), rows)


def _scores(columns: Defined) -> str:
    rows = [(f"`{c.name}`", _kind(c.type), c.unit, c.description, f"`{d['scorer']}`") for c, d in columns]
    return _markdown(("column", "type", "unit", "meaning", "scorer"), rows)


def _definitions(columns: Defined) -> str:
    scorers = {str(definition["scorer"]): definition for _, definition in columns}
    rows = [
        (f"`{name}`", str(d["version"]), ", ".join(f"`{k}`" for k in d if k not in ("scorer", "version")))
        for name, d in scorers.items()
    ]
    return _markdown(("scorer", "version", "and what else is in the definition of its columns"), rows)


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list of {_kind(kind.value_type)}"
    return _TYPES.get(str(kind), str(kind))


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page())
    else:
        sys.stdout.write(page())
