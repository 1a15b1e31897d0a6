"""The page on formats is what the table gives, and the table has every file of ../shared/faults."""

import re

import pytest

from docs import formats_page
from tests.formats.row import FAULTS
from tests.formats.table import ROWS

PAGE = formats_page.PAGE.read_text()
NO_VIDEOS = {"README.md", "list_with_bom.txt", "make_preallocated_pair.py"}


def test_the_tables_are_those_of_the_rows():
    assert formats_page.page() == PAGE, "run `python -m docs.formats_page --write`"


def test_every_suffix_of_the_table_is_on_the_page():
    suffixes = {row.name.rpartition(".")[2] for row in ROWS if not row.refused or row.kind == "codec"}
    assert {s for s in suffixes if f"`.{s}`" not in PAGE} == set()


def test_rows_have_names_of_their_own():
    names = [row.name for row in ROWS]
    assert sorted(set(names)) == sorted(names)


def test_every_fault_has_a_row():
    if not FAULTS.is_dir():
        pytest.skip(f"{FAULTS} is not there")
    assert {path.name for path in FAULTS.iterdir()} - NO_VIDEOS <= {row.name for row in ROWS}


def test_the_example_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    if not FAULTS.is_dir():
        pytest.skip(f"{FAULTS} is not there")
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(formats_page.PAGE.parents[1])
    exec(example, {})
    (said,) = re.findall(r"print\(.*# (.*)", example)
    assert capsys.readouterr().out.strip() == said
