"""Fills the tables of docs/systems/README.md from the registry and from the pages on the systems.

python -m docs.systems_page            prints the page as it should be
python -m docs.systems_page --write    writes it
"""

import re
import sys
from pathlib import Path

from models import registry
from training import systems

FOLDER = Path(__file__).parent / "systems"
PAGE = FOLDER / "README.md"
_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_TEST = re.compile(r"`(?:([\w/]+\.py)::)?(test_\w+)`")


def page() -> str:
    """The page with its tables as they should be."""
    made = {"systems": _systems(), "statements": _statements()}
    return _BLOCK.sub(lambda block: f"{block[1]}\n{made[block[2]]}\n\n{block[3]}", PAGE.read_text())


def statements(text: str, file: str, folder: str = "") -> list[tuple[str, str]]:
    """The rows of a page's table of statements: (statement, its tests as `file::test`, one after the other).

    Tests are in `file` where the page does not say; files are below `folder` of tests.
    """
    rows, inside = [], False
    for line in text.splitlines():
        if line.startswith("| statement | test"):
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("|--"):
            *said, tests = re.split(r"(?<!\\)\|", line.strip("|"))
            found = [f"`{folder}{where or file}::{name}`" for where, name in _TEST.findall(tests)]
            rows.append(("|".join(said).strip(), ", ".join(found)))
    return rows


def _systems() -> str:
    head = ("system", "parameters", "inputs", "stages")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, size, inputs, stages, _ in systems.table():
        lines.append(f"| [{name}]({name}.md) | {size} | {inputs} | {stages} |")
    return "\n".join(lines)


def _statements() -> str:
    pages = [(f"{name}.md", f"systems/test_{name}.py", "models/") for name in registry.NAMES]
    pages += [("autoencoders.md", "", ""), ("../diffusion.md", "", "models/diffusion/")]
    lines = ["| of | statement | tests |", "|---|---|---|"]
    for name, file, folder in pages:
        title = Path(name).stem
        for said, tests in statements((FOLDER / name).read_text(), file, folder):
            lines.append(f"| [{title}]({name}) | {said} | {tests} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page())
    else:
        print(page(), end="")
