"""The files of the table, made once, and what the readers say of them."""

from pathlib import Path

import pytest

from tests.formats.oracle import Shown, show
from tests.formats.row import Row
from tests.formats.table import ROWS


class Bench:
    """Makes each row's file when it is first asked for, and remembers what the independent reader shows of the last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last: tuple[str, Shown] | None = None

    def file(self, row: Row) -> Path:
        """The row's file. Skips the test where the file is one of ../shared/faults and they are absent."""
        path = row.file(self.folder)
        if not path.is_file():
            pytest.skip(f"{path} is not there")
        return path

    def shown(self, row: Row) -> Shown:
        """What the independent reader shows of the row's file."""
        if self._last is None or self._last[0] != row.name:
            made = show(self.file(row), row.sizes[0], row.stream, hdr=row.hdr, deinterlace=row.interlaced)
            self._last = row.name, made
        return self._last[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests of one row after each other, so that its file is made and read once and then forgotten."""
    order = {row.name: n for n, row in enumerate(ROWS)}
    places = [i for i, item in enumerate(items) if item.path.parent == Path(__file__).parent and "[" in item.name]
    by_row = sorted((items[i] for i in places), key=lambda item: order[item.name.partition("[")[2].rstrip("]")])
    for place, item in zip(places, by_row, strict=True):
        items[place] = item


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("formats"))
