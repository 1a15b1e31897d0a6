"""Command lines of the benchmarks: what is at fault is said in one line, with status 2, before any work."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from benchmarks.arguments import at_least_one, known_file, known_folder, new_file, parser_of

SCRIPTS = ["motion", "text", "cuts", "duplicates", "transitions", "curation_throughput"]


def fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], script: str, *args: str | Path) -> str:
    """What the script complains about; nothing else may come of it."""
    module = importlib.import_module(f"benchmarks.{script}")
    monkeypatch.setattr(sys, "argv", [script, *map(str, args)])
    with pytest.raises(SystemExit) as left:
        module.main()
    out, err = capsys.readouterr()
    assert (left.value.code, out) == (2, "")
    return err.splitlines()[-1]


@pytest.mark.parametrize("script", SCRIPTS)
def test_footage_that_is_not_there(script, monkeypatch, capsys, tmp_path):
    option = {"motion": [], "text": [], "curation_throughput": []}.get(script, ["--videos"])
    assert "nowhere is no f" in fault(monkeypatch, capsys, script, *option, tmp_path / "nowhere")


@pytest.mark.parametrize("script", ["motion", "text", "duplicates"])
def test_a_folder_without_videos(script, monkeypatch, capsys, tmp_path):
    option = ["--videos"] if script == "duplicates" else []
    assert f"no video in {tmp_path}" in fault(monkeypatch, capsys, script, *option, tmp_path)


@pytest.mark.parametrize("script", ["cuts", "transitions"])
def test_labels_that_are_none_or_of_other_videos(script, monkeypatch, capsys, tmp_path):
    there = ["--videos", tmp_path]
    assert "holds no labels" in fault(monkeypatch, capsys, script, *there)
    (tmp_path / "truth.json").write_text("{")
    assert "holds no labels" in fault(monkeypatch, capsys, script, *there)
    (tmp_path / "truth.json").write_text(json.dumps({"a.mp4": {}, "odd/b.mp4": {}}))
    assert fault(monkeypatch, capsys, script, *there).endswith("lacks a.mp4")


def test_predictions_that_could_not_be_written_are_refused_first(monkeypatch, capsys, tmp_path):
    path = tmp_path / "nowhere" / "p.json"
    assert "p.json cannot be written" in fault(monkeypatch, capsys, "cuts", "--predictions", path)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--rows", "bare,bear"], "there is no bear; there are bare"),
        (["--make", "film.mp4"], "--make and --from belong together"),
        (["--repeat", "0"], "0 is below 1"),
        ([__file__], "is no video that can be read"),
        (["--hours", "-1"], "must be above 0"),
    ],
)
def test_throughput(args, words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert words in fault(monkeypatch, capsys, "curation_throughput", *args)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_option_has_a_help(script, monkeypatch, capsys):
    """An option without one is followed by the next option, or by nothing."""
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit):
        importlib.import_module(f"benchmarks.{script}").main()
    options = capsys.readouterr().out.partition("options:")[2].splitlines()
    lines = [line for line in options if line.strip()]
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("  -"):
            assert "  " in line.strip() or not after.startswith("  -"), line


def test_types(tmp_path):
    (tmp_path / "f").write_text("x")
    parser = parser_of("About.\n\n  as it stands")
    for name, kind in (("folder", known_folder), ("file", known_file), ("new", new_file), ("count", at_least_one)):
        parser.add_argument(f"--{name}", type=kind)
    given = ["--folder", str(tmp_path), "--file", str(tmp_path / "f"), "--new", str(tmp_path / "n"), "--count", "3"]
    args = parser.parse_args(given)
    assert (args.folder, args.file, args.new, args.count) == (tmp_path, tmp_path / "f", tmp_path / "n", 3)
    assert not (tmp_path / "n").exists()
    assert "  as it stands" in parser.format_help()
    for name, value in (("folder", "f"), ("file", ""), ("new", "")):
        with pytest.raises(SystemExit):
            parser.parse_args([f"--{name}", str(tmp_path / value)])
