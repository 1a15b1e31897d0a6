"""What the terminal shows, on a log and on a terminal."""

import io
import re

import pytest

from curation.progress import detailed
from flows import display


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_at_the_start_and_the_end_of_a_phase():
    out = io.StringIO()
    with display.progress(out) as show:
        for done in range(101):
            show("measuring", done, 100)
        show("writing", 0, None)
    assert out.getvalue().splitlines() == ["measuring: 0/100", "measuring: 100/100", "writing"]


def test_a_long_phase_is_heard_of(monkeypatch: pytest.MonkeyPatch):
    out, clock = io.StringIO(), iter(range(0, 1000, 4))
    monkeypatch.setattr(display.time, "monotonic", lambda: next(clock))
    show = display.PlainProgress(out, every_s=15)
    for done in range(9):
        show("measuring", done, 100)
    assert out.getvalue().splitlines() == ["measuring: 0/100", "measuring: 4/100", "measuring: 8/100"]


def test_a_detail_that_changes_begins_no_phase():
    lines, terminal = io.StringIO(), Terminal()
    for out in (lines, terminal):
        with display.progress(out) as show:
            for done in range(4):
                show(detailed("hashing", f"{100 * done} MB/s"), done, 3)
    assert lines.getvalue().splitlines() == ["hashing · 0 MB/s: 0/3", "hashing · 300 MB/s: 3/3"]
    assert terminal.getvalue().rpartition("hashing · 300 MB/s")[0].count("300 MB/s") == 0


def test_a_terminal_gets_one_bar_a_phase_and_no_markup():
    out = Terminal()
    with display.progress(out) as show:
        show("reading [bold]x[/bold]", 0, None)
        show("measuring", 1, 2)
        show("measuring", 2, 2)
    last = out.getvalue().rpartition("reading")[2]
    assert "[bold]x[/bold]" in last
    assert last.count("measuring") == 1
    assert "2/2" in last
    assert "0/?" not in out.getvalue()


def test_cells_of_a_table_are_text(capsys: pytest.CaptureFixture[str]):
    display.table("a [red]title[/red]", [("[bold]x[/bold]", 1), ("y" * 100, 22)], ("name", "count"))
    out = capsys.readouterr().out
    assert "a [red]title[/red]" in out
    assert "[bold]x[/bold]" in out
    assert "y" * 100 in out


IDS = [f"{i:024x}" for i in (2**95, 2**94, 2**93)]
URI = "/films/" + "x" * 30 + ".mp4"
TEXT = f"{URI}: not a video that can be read (damaged, truncated before its index, or not a video at all)"


@pytest.mark.parametrize("width", [20, 60, 80, 100, 120, 160, 400])
def test_no_id_or_path_of_a_query_is_broken_at_any_width(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(display.sys.stdout, "isatty", lambda: True, raising=False)
    display.records("1 rows", [[*IDS, URI, TEXT, "two words"]], [*"abc", "uri", "message", "note"], [False] * 6)
    out = capsys.readouterr().out
    for whole in (*IDS, *TEXT.split()):
        assert whole in out
    lines = re.sub(r"\x1b\[\d*m", "", out).splitlines()
    assert all(len(line) <= width for line in lines) or any(line.startswith("row 1") for line in lines)


def test_a_pipe_gets_one_line_a_row(capsys: pytest.CaptureFixture[str]):
    display.records("2 rows", [[TEXT * 5, IDS[0]], ["", IDS[1]]], ["message", "id"], [False, False])
    lines = capsys.readouterr().out.splitlines()
    assert any(TEXT * 5 in line and IDS[0] in line for line in lines)


def test_a_query_without_rows_shows_its_columns(capsys: pytest.CaptureFixture[str]):
    display.records("0 rows", [], ["message", "id"], [False, True])
    assert "message" in capsys.readouterr().out
