"""What the terminal shows: bars where somebody watches, plain lines where a log is written."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from curation.progress import Progress


@contextlib.contextmanager
def progress(stream: TextIO | None = None) -> Iterator[Progress]:
    """A `Progress` on stderr: one bar a phase on a terminal, else a line when a phase starts, ends or goes on long."""
    out: TextIO = sys.stderr if stream is None else stream
    if out.isatty():
        with _bars(out) as show:
            yield show
    else:
        yield PlainProgress(out)


class PlainProgress:
    """Progress as lines: the first and last of a phase, and one in between every `every_s` seconds."""

    def __init__(self, out: TextIO, every_s: float = 15.0) -> None:
        self.out = out
        self.every_s = every_s
        self._what = ""
        self._told = float("-inf")
        self._line = ""

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Tell where `what` stands."""
        now = time.monotonic()
        if what == self._what and done != total and now - self._told < self.every_s:
            return
        line = f"{what}: {done}" + ("" if total is None else f"/{total}")
        if line != self._line:
            print(line, file=self.out, flush=True)
        self._what, self._told, self._line = what, now, line


@contextlib.contextmanager
def _bars(out: TextIO) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(file=out)) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show


def table(title: str, rows: Sequence[Sequence[Any]], header: Sequence[str] = ()) -> None:
    """Print a table on stdout. Cells are text, never markup."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, show_header=bool(header))
    for i, name in enumerate(header or [""] * max((len(r) for r in rows), default=0)):
        made.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))
    console = Console(file=sys.stdout)
    if not sys.stdout.isatty():
        console.width = 120  # a log has no width; paths should not be broken to fit a guess
    console.print(Text(f"\n{title}", style="bold"), soft_wrap=True)
    console.print(made)
