"""What the terminal shows: bars where somebody watches, plain lines where a log is written."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from curation.progress import Progress, in_words, phase_of

if TYPE_CHECKING:
    from rich.console import Console

_NO_WIDTH = 10_000  # of a log or a pipe: nothing is broken to fit a guess


@contextlib.contextmanager
def progress(stream: TextIO | None = None) -> Iterator[Progress]:
    """A `Progress` on stderr: one bar a phase on a terminal, else a line when a phase starts, ends or goes on long."""
    out: TextIO = sys.stderr if stream is None else stream
    if not out.isatty():
        yield PlainProgress(out)
    elif stream is None:
        # a descriptor of its own: the bars go on while a library's own words are kept from the shared one
        with os.fdopen(os.dup(out.fileno()), "w", encoding=out.encoding, errors="replace") as own, _bars(own) as show:
            yield show
    else:
        with _bars(out) as show:
            yield show


class PlainProgress:
    """Progress as lines: the first and last of a phase, and one in between every `every_s` seconds."""

    def __init__(self, out: TextIO, every_s: float = 15.0) -> None:
        self.out = out
        self.every_s = every_s
        self._phase = ""
        self._told = float("-inf")
        self._line = ""

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Tell where `what` stands."""
        now = time.monotonic()
        phase = phase_of(what)
        if phase == self._phase and done != total and now - self._told < self.every_s:
            return
        line = in_words(what, done, total)
        if line != self._line:
            print(line, file=self.out, flush=True)
        self._phase, self._told, self._line = phase, now, line


@contextlib.contextmanager
def _bars(out: TextIO) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}", markup=False),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(file=out)) as bars:
        tasks: dict[str, Any] = {}
        uncounted: list[Any] = []  # phases without a total that are going on

        def end_uncounted() -> None:
            while uncounted:
                bars.update(uncounted.pop(), completed=1, total=1)

        def show(what: str, done: int, total: int | None) -> None:
            phase = phase_of(what)
            if phase not in tasks:
                end_uncounted()  # the next phase begins
                tasks[phase] = bars.add_task(what, total=total, count="")
                uncounted.extend([tasks[phase]] * (total is None))
            count = in_words("", done, total).removeprefix(": ")
            bars.update(tasks[phase], completed=done, total=total, count=count, description=what)

        try:
            yield show
        finally:
            end_uncounted()


def table(title: str, rows: Sequence[Sequence[Any]], header: Sequence[str] = ()) -> None:
    """Print a table on stdout. Cells are text, never markup."""
    columns = header or [""] * max((len(r) for r in rows), default=0)
    numeric = [i > 0 for i in range(len(columns))]
    _print(title, rows, columns, numeric, [0] * len(columns))


def records(title: str, rows: Sequence[Sequence[str]], header: Sequence[str], numeric: Sequence[bool]) -> None:
    """Print what a query found: a table where it fits without breaking a word, such as an id or a path, else every
    value on a line of its own."""
    least = [max(map(_longest_word, column)) for column in zip(header, *rows, strict=True)]
    if sum(least) + 3 * len(least) < _console().width:
        _print(title, rows, header, numeric, least)
        return
    print(f"\n{title}")
    name_width = max(map(len, header))
    for at, row in enumerate(rows):
        print(f"\nrow {at + 1}")
        for name, value in zip(header, row, strict=True):
            print(f"  {name:<{name_width}}  {value}")


def _print(
    title: str,
    rows: Sequence[Sequence[Any]],
    columns: Sequence[str],
    numeric: Sequence[bool],
    least: Sequence[int],
) -> None:
    """A table whose columns are no narrower than `least`."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, show_header=any(columns))
    for name, number, width in zip(columns, numeric, least, strict=True):
        made.add_column(Text(name), justify="right" if number else "left", min_width=width, overflow="fold")
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))
    console = _console()
    console.print(Text(f"\n{title}", style="bold"), soft_wrap=True)
    console.print(made)


def _longest_word(text: str) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, text.split()), default=0)


def _console() -> "Console":
    from rich.console import Console

    console = Console(file=sys.stdout)
    if not sys.stdout.isatty():
        console.width = _NO_WIDTH
    return console
