"""The page on all systems is what its script makes of the registry and of the other pages; its tests exist; each
page's example runs."""

import re
from pathlib import Path

import pytest

from docs import systems_page
from models.registry import NAMES

ROOT = Path(__file__).parents[2]
PAGE = systems_page.PAGE.read_text()
TESTS = re.findall(r"`([\w/]+\.py)::(test_\w+)`", PAGE)


def test_the_page_is_what_its_script_makes():
    assert systems_page.page() == PAGE, "python -m docs.systems_page --write"


def test_every_statement_has_tests_and_they_exist():
    rows = re.findall(r"^\| \[(\w+)\]\([^)]*\) \| .* \| (.*) \|$", PAGE.split("## Every statement")[1], re.MULTILINE)
    assert {name for name, _ in rows} == {*NAMES, "autoencoders", "diffusion"}
    assert len(TESTS) > 200
    assert [name for name, tests in rows if "::test_" not in tests] == []
    sources = {file: (ROOT / "tests" / file).read_text() for file, _ in TESTS}
    assert [f"{file}::{name}" for file, name in TESTS if f"def {name}(" not in sources[file]] == []


@pytest.mark.parametrize("name", ["README", *NAMES, "autoencoders", "comparison"])
def test_links_lead_somewhere(name):
    text = (systems_page.FOLDER / f"{name}.md").read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (systems_page.FOLDER / link).exists()] == []


def test_the_example_on_the_transformer_runs():
    """Those of the other pages are run by their systems' own tests."""
    (example,) = re.findall(r"```python\n(.*?)```", (systems_page.FOLDER / "dit.md").read_text(), re.DOTALL)
    exec(example, {})


def test_rows_are_read_whatever_the_page_s_way_of_writing():
    text = "| statement | test |\n|---|---|\n| a \\| b | `test_x`, `models/y.py::test_z` |\n\n| other | `test_w` |\n"
    assert systems_page.statements(text, "f.py") == [("a \\| b", "`f.py::test_x`, `models/y.py::test_z`")]
