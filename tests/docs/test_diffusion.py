"""The page on diffusion: its example runs, it names every piece that there is, and the tests it points to exist."""

import re
from pathlib import Path

import pytest
import torch

from models import diffusion

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "diffusion.md").read_text()
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TESTS = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)
FILES = [p for p in Path(diffusion.__path__[0]).glob("*.py") if p.stem != "__init__"]
# steps and numbers behind the pieces, and what the pieces are typed with
BEHIND = {
    "Schedule", "Parameterization", "Sampler", "Loss", "Times", "Coefficients", "Denoiser", "denoiser", "sample",
    "prior", "expand_to", "shifted", "noise_label", "stratified_uniform", "rescaled", "downsampled", "two_step_target",
    "ddim_step", "angular_step", "ancestral_step", "inverse_step", "same_rows",
}  # fmt: skip


def test_three_lines_draw_a_sample():
    imports, lines = EXAMPLE.strip().split("\n\n")
    *before, last = lines.splitlines()
    assert len(before) + 1 == 3
    torch.manual_seed(0)
    names: dict = {}
    exec("\n".join([imports, *before]), names)
    assert eval(last, names).item() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_piece_is_on_the_page(path):
    defined = re.findall(r"^(?:class|def) ([A-Za-z]\w*)", path.read_text(), re.MULTILINE)
    missing = [name for name in defined if name not in BEHIND and f"`{name}" not in PAGE]
    assert defined
    assert not missing


def test_every_statement_has_tests_that_exist():
    assert len(TESTS) > 30
    for file, name in TESTS:
        assert f"\ndef {name}(" in (ROOT / "tests/models/diffusion" / file).read_text(), f"{file}::{name}"
    statements = PAGE.split("## Statements and their tests")[1].splitlines()
    rows = [line for line in statements if line.startswith("| ")][1:]
    assert all("::test_" in row for row in rows)
