"""The command line as a user meets it: what it prints, its exit status, and what it leaves alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from curation.demo_footage import encode
from flows import cli

HEAVY = ("torch", "ray", "prefect", "cv2", "av", "pyarrow", "duckdb", "transformers", "pydantic", "matplotlib", "rich")


def rushes(*args: str, cwd: Path | None = None, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def complaint(capsys: pytest.CaptureFixture[str], *args: str, status: int = 2) -> str:
    assert cli.main(args) == status
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert err.startswith("error: ")
    return err


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Commands write under runs/ of the current folder and set the environment: keep both here."""
    monkeypatch.chdir(tmp_path)
    for name in (*cli.environment.DEFAULTS, "PREFECT_HOME"):
        monkeypatch.setenv(name, os.environ.get(name, cli.environment.DEFAULTS.get(name, str(tmp_path / "home"))))


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from flows import cli; status = cli.main(['--help']);"
        f"print([m for m in {HEAVY!r} if m in sys.modules], status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"
    for name in cli.COMMANDS:
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_explains_itself_with_an_example(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        cli.main([name, "--help"])
    out = capsys.readouterr().out
    assert left.value.code == 0
    assert f"usage: rushes {name}" in out
    assert f"Example:\n  rushes {name}" in out
    assert "--config FILE.yaml" in out


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_example_is_accepted_by_its_own_options(name: str, tmp_path: Path):
    import shlex

    from flows.options import parse

    command = cli.COMMANDS[name]
    for line in command.example.splitlines():
        args = shlex.split(line)
        assert args[:2] == ["rushes", name]
        if "--config" in args:
            continue  # its file is the user's
        model, args = cli._model(command, args[2:])
        parse(model, args, prog="p", about="a", example="e", positional=command.positional)


def test_help_of_one_stage_is_that_of_the_stage(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        cli.main(["train", "--stage", "finetune", "--help"])
    out = capsys.readouterr().out
    assert "--parent" in out
    assert "--image-pretrain.samples" not in out


def test_help_of_sample_says_what_is_written_and_how_to_ask_for_several(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        cli.main(["sample", "--help"])
    out = capsys.readouterr().out
    for words in ("MP4", "GIF", "PNG", '--prompts "a dog" --prompts "a cat"'):
        assert words in " ".join(out.split())


def spellings(option: str, value: str) -> list[list[str]]:
    return [[option, value], [f"{option}={value}"]]


@pytest.mark.parametrize("config", spellings("--config", "stage.yaml"))
def test_stage_in_a_file_makes_it_one_stage(config: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "stage.yaml").write_text("stage: finetune\nselection: s\n")
    (tmp_path / "three.yaml").write_text("selection: s\n")
    assert "finetune needs the checkpoint" in complaint(capsys, "train", *config)
    assert "finetune needs the checkpoint" in complaint(capsys, "train", "--config", "three.yaml", *config)
    assert "finetune needs the checkpoint" not in complaint(capsys, "train", *config, "--config=three.yaml")


@pytest.mark.parametrize("stage", [*spellings("--stage", "video-pretrain"), *spellings("--stage", "video_pretrain")])
def test_a_stage_has_dashes_or_underscores(stage: list[str], capsys: pytest.CaptureFixture[str]):
    assert "video_pretrain needs the checkpoint" in complaint(capsys, "train", "s", *stage)


@pytest.mark.parametrize("name", list(cli.COMMANDS))
@pytest.mark.parametrize("config", spellings("--config", "~/job.yaml"))
def test_every_command_reads_its_file_in_every_spelling(
    name: str, config: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """The shell leaves the ~ of `--config=~/job.yaml` to the program."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "job.yaml").write_text("no_such_field: 1\n")
    assert "~/job.yaml: unknown field no_such_field" in complaint(capsys, name, *config)


def test_a_config_without_its_file_is_refused(capsys: pytest.CaptureFixture[str]):
    for args in (["--config"], ["--config", "--debug"]):
        assert "--config: expected one argument" in complaint(capsys, "train", "s", *args)
    assert "Is a directory" in complaint(capsys, "train", "s", "--config=")


def test_an_unknown_command_names_the_closest(capsys: pytest.CaptureFixture[str]):
    assert "no command 'currate'; did you mean curate?" in complaint(capsys, "currate")


def test_no_command_shows_the_help_and_fails(capsys: pytest.CaptureFixture[str]):
    assert cli.main([]) == 2
    assert "usage: rushes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["curate", "no/such/folder"], ["no/such/folder"]),
        (["curate"], ["videos is missing", "VIDEOS"]),
        (["curate", "v", "--motion.fps", "0"], ["motion.fps", "greater than 0"]),
        (["curate", "v", "--config", "nope.yaml"], ["nope.yaml", "no such file"]),
        (["select", "nowhere"], ["nowhere", "no manifest"]),
        (["inspect", "nowhere"], ["nowhere"]),
        (["report", "nowhere"], ["nowhere"]),
        (["select", "m", "--sweep", "motion=a"], ["sweep", "motion=a"]),
        (["diff", "nowhere", "elsewhere"], ["nowhere", "no selection"]),
        (["train", "s", "--model.system", "lumire"], ["model.system", "did you mean lumiere?"]),
        (
            ["train", "s", "--model.system", "text2video_zero"],
            ["needs no training", "rushes sample CHECKPOINT --system"],
        ),
        (["sample", "c", "--prompts", "a", "b"], ["unknown argument b", "--prompts A --prompts B"]),
        (["models", "lumire"], ["system", "Did you mean lumiere?"]),
        (["export", "nowhere"], ["nowhere", "no selection"]),
        (["export", "s", "--format", "zip"], ["format", "webdataset"]),
        (["select", "m", "--out", "s3://b/x"], ["out", "written to disk; name a folder", "s3://b/x"]),
        (["export", "s", "--out", "s3://b/x"], ["out", "written to disk; name a folder", "s3://b/x"]),
        (["report", "m", "--out", "s3://b/x.html"], ["out", "written to disk; name a folder", "s3://b/x.html"]),
        (["diff", "a", "b", "--out", "s3://b/x.parquet"], ["out", "written to disk; name a folder"]),
        (["report", "m", "--out", ""], ["out", "at least 1 character"]),
        (["train", "nowhere", "--stage", "finetune"], ["parent"]),
        (["serve", "--port", "80"], ["port", "1024"]),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    args: list[str], words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    message = complaint(capsys, *args)
    assert message.count("\n") == 1
    for word in words:
        assert word in message
    assert list(tmp_path.iterdir()) == []


def test_models_lists_the_systems_and_tells_of_one(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["models"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("vdm", "imagen_video", "rushes train SELECTION", "--model.system lumiere"))
    assert max(map(len, said.splitlines())) <= 100
    assert "gen1: depth of a video, image or text. Stages: content, temporal, structure, blur, prior." in " ".join(
        said.split()
    )
    assert cli.main(["models", "video-ldm"]) == 0
    said = capsys.readouterr().out
    assert "keyframes" in said
    assert "image-pretrain" in said


def test_an_export_that_loses_a_clip_says_so_and_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import pyarrow as pa

    from curation.manifest import Manifest, Shard
    from curation.schema import CLIP_IDENTITY

    row = {"clip_id": "c0", "video_id": "v", "uri": "/gone/film\x1b[31m.mp4", "start": 0.0, "end": 1.0, "frames": 25}
    Manifest(tmp_path / "films").commit(Shard("a", [], [], [], [row]), pa.schema(CLIP_IDENTITY))
    for words in ("out, in ", "Nothing to do: 0 of 1 clips"):
        assert cli.main(["export", str(tmp_path / "films"), "--out", str(tmp_path / "out")]) == 1
        out = capsys.readouterr().out
        assert "1 of 1 clips failed" in out
        assert "No such file" in out
        assert "--retry-failed" in out
        assert "\x1b" not in out
        assert words in out


def test_a_query_shows_ids_and_messages_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import pyarrow as pa

    from curation.config import DuplicateSettings
    from curation.duplicates import table as duplicates
    from curation.manifest import Manifest, Shard
    from curation.schema import CLIP_IDENTITY

    manifest, name, message = Manifest(tmp_path / "films"), "0123456789abcdef01234567", "why " * 40 + "\x1b[31m"
    row = {"clip_id": name, "video_id": "v", "uri": "film.mp4", "shot": 0, "start": 0.0, "end": 1.0}
    manifest.commit(
        Shard("a", [], [], [{"uri": "film.mp4", "step": "open", "message": message}], [row]), pa.schema(CLIP_IDENTITY)
    )
    duplicates.update(manifest, DuplicateSettings())
    assert cli.main(["inspect", str(tmp_path / "films"), "--sql", "SELECT * FROM duplicates"]) == 0
    assert capsys.readouterr().out.count(name) == 2  # its id, and that of its group
    assert cli.main(["inspect", str(tmp_path / "films"), "--sql", "SELECT message FROM errors"]) == 0
    assert "why " * 40 + "\\x1b[31m" in capsys.readouterr().out


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["select", "nowhere", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_preflight_of_the_embedded_profile_is_ready(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["preflight"]) == 0
    assert "Ready." in capsys.readouterr().out


def test_preflight_of_the_svd_profile_names_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    assert cli.main(["preflight", "--profile", "svd"]) == 1
    out = capsys.readouterr().out
    assert "MISSING" in out
    assert "Not ready" in out


def test_an_interrupt_leaves_130_and_a_hint(tmp_path: Path):
    # A named pipe as the configuration blocks the command until somebody writes into it.
    pipe = tmp_path / "config.yaml"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "flows.cli", "curate", "v", "--config", str(pipe)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(3.0)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "run the same command again" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_ray_works_says_so_and_nothing_else(tmp_path: Path, number: signal.Signals):
    ramp = np.linspace(0, 255, 160).astype(np.uint8)
    encode(tmp_path / "footage.mp4", (np.tile(np.roll(ramp, i)[None, :, None], (120, 1, 3)) for i in range(100)))
    # started by a shell in the background, a process ignores Ctrl-C
    script = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from flows import cli; "
    script += (
        f"raise SystemExit(cli.main(['curate', {str(tmp_path / 'footage.mp4')!r}, '--out', {str(tmp_path / 'out')!r}]))"
    )
    said = tmp_path / "said"
    with said.open("w") as file, subprocess.Popen([sys.executable, "-c", script], stderr=file, stdout=file) as process:
        deadline = time.monotonic() + 120
        while "measuring" not in said.read_text() and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(number)
        assert process.wait(timeout=60) == 130
    words = said.read_text()
    assert "interrupted. Finished shards are kept; run the same command again" in words
    assert not any(noise in words for noise in ("***", "WARNING", "Traceback", "PC: @"))


def test_a_reader_that_leaves_is_no_traceback():
    script = f"{sys.executable} -m flows.cli preflight | true"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]):
    from importlib.metadata import version

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"rushes {version('rushes')}\n"


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A manifest of ten clips of a film with a name that would drive a terminal, their motion from 0 to 9."""
    import pyarrow as pa

    from curation.manifest import Manifest, Shard
    from curation.schema import CLIP_IDENTITY, score_field

    rows = [
        {"clip_id": f"c{i}", "video_id": f"v{i % 3}", "uri": "/film\x1b[31m.mp4", "start": 1.5 * i, "motion": float(i)}
        for i in range(10)
    ]
    schema = pa.schema([*CLIP_IDENTITY, score_field("motion", pa.float32(), "flow", "px", {"scorer": "motion"})])
    Manifest(tmp_path / "films").commit(Shard("a", [], [], [], rows), schema)
    return tmp_path / "films"


def test_a_dry_run_shows_rules_and_clips_and_writes_nothing(films: Path, capsys: pytest.CaptureFixture[str]):
    policy = films.parent / "p.yaml"
    policy.write_text("rules: [{score: motion, min: 5}, {where: motion != 7}]\nvalidation: 0.3\n")
    there = sorted(films.parent.rglob("*"))
    args = ["select", str(films), "--policy", str(policy), "--out", str(films.parent / "s"), "--dry-run"]
    assert cli.main(args) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert ["motion", ">=", "5", "10", "5", "-5", "+5"] in lines
    assert ["motion", "!=", "7", "5", "4", "-1", "+1"] in lines
    assert ["motion", ">=", "5", "c0", r"/film\x1b[31m.mp4", "0.00", "motion", "0"] in lines
    assert ["motion", "!=", "7", "c7", r"/film\x1b[31m.mp4", "10.50", "motion", "7"] in lines
    assert "Nothing was written" in out
    assert "\x1b" not in out
    policy.write_text("rules: [{score: motion, min: 1000}]\n")
    assert cli.main(args) == 2
    assert "no clip would stay" in capsys.readouterr().err
    assert sorted(films.parent.rglob("*")) == there


def test_levels_of_a_sweep_are_compared(films: Path, capsys: pytest.CaptureFixture[str]):
    swept = films.parent / "swept"
    args = ["select", str(films), "--sweep", "motion=25,50", "--out", str(swept)]
    assert cli.main(args) == 0
    assert [line.split()[1:] for line in capsys.readouterr().out.splitlines() if str(swept) in line] == [
        ["7", "10", "70.0%"], ["5", "10", "50.0%"]
    ]  # fmt: skip
    assert cli.main(args) == 0
    assert capsys.readouterr().out.count("made before") == 2
    found = str(films.parent / "diff.parquet")
    assert cli.main(["diff", str(swept / "motion-25"), str(swept / "motion-50"), "--out", found]) == 0
    out = capsys.readouterr().out
    assert ["only", "in", "A", "2", "B:", "motion", "below", "4.5", "c3,", "c4"] in [
        x.split() for x in out.splitlines()
    ]
    assert "min_percentile: 50" in out
    assert Path(found).is_file()
