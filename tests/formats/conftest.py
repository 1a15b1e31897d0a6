"""The files of the table, made once, and what the readers say of them."""

from pathlib import Path

import pytest

from tests.formats.oracle import Shown, show
from tests.formats.row import Row


class Bench:
    """Makes each row's file when it is first asked for, and remembers what the independent reader shows of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._by_name: dict[str, Shown] = {}

    def file(self, row: Row) -> Path:
        """The row's file. Skips the test where the file is one of ../shared/faults and they are absent."""
        path = row.file(self.folder)
        if not path.is_file():
            pytest.skip(f"{path} is not there")
        return path

    def shown(self, row: Row) -> Shown:
        """What the independent reader shows of the row's file."""
        if row.name not in self._by_name:
            made = show(self.file(row), row.sizes[0], row.stream, hdr=row.hdr, deinterlace=row.interlaced)
            self._by_name[row.name] = made
        return self._by_name[row.name]


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("formats"))
