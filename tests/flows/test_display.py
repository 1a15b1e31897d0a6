"""What the terminal shows, on a log and on a terminal."""

import io

import pytest

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
    assert out.getvalue().splitlines() == ["measuring: 0/100", "measuring: 100/100", "writing: 0"]


def test_a_long_phase_is_heard_of(monkeypatch: pytest.MonkeyPatch):
    out, clock = io.StringIO(), iter(range(0, 1000, 4))
    monkeypatch.setattr(display.time, "monotonic", lambda: next(clock))
    show = display.PlainProgress(out, every_s=15)
    for done in range(9):
        show("measuring", done, 100)
    assert out.getvalue().splitlines() == ["measuring: 0/100", "measuring: 4/100", "measuring: 8/100"]


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


def test_cells_of_a_table_are_text(capsys: pytest.CaptureFixture[str]):
    display.table("a [red]title[/red]", [("[bold]x[/bold]", 1), ("y" * 100, 22)], ("name", "count"))
    out = capsys.readouterr().out
    assert "a [red]title[/red]" in out
    assert "[bold]x[/bold]" in out
    assert "y" * 100 in out
