"""What commands print of curation and training, and that it leads on."""

import shlex

import pytest

from curation.plan import CurationSummary
from flows import cli, commands
from flows.options import parse
from training.config import SampleConfig, TrainStagedConfig


def stage(name: str = "finetune", split: str = "by video", **fields: object) -> dict:
    """A stage's result, as the trainer tells it."""
    ends = {"loss_first": 0.5, "loss_last": 0.25, "error_untrained": {"mean": 0.4}, "error_trained": {"mean": 0.2}}
    rest = {"samples": 8, "seconds": 1.0, "reused": False, "out": f"my runs/{name}", "system": "svd"}
    return {"event": "result", "stage": name, "split": split, **ends, **rest, **fields}


def test_the_summary_ends_with_the_checkpoint_and_a_line_that_samples(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(commands, "_launch", lambda config, progress: [stage("video_pretrain"), stage()])
    assert commands.train(TrainStagedConfig()) == 0
    *_, checkpoint, line = capsys.readouterr().out.splitlines()
    assert checkpoint == "The checkpoint: my runs/finetune"
    rushes, name, *args = shlex.split(line.partition(": ")[2])
    assert (rushes, name) == ("rushes", "sample")
    positional = cli.COMMANDS["sample"].positional
    config = parse(SampleConfig, args, prog="p", about="a", example="e", positional=positional).config
    assert (config.checkpoint, config.out) == ("my runs/finetune", "my runs/finetune/sample")


@pytest.mark.parametrize(
    ("name", "system", "given"),
    [
        ("finetune", "gen1", True),
        ("image_pretrain", "gen1", False),
        ("finetune", "svd", False),
        ("finetune", "", False),
    ],
)
def test_a_system_that_edits_is_given_a_video(name: str, system: str, given: bool, capsys: pytest.CaptureFixture[str]):
    commands.show_next(stage(name, system=system))
    assert ("--source VIDEO" in capsys.readouterr().out) == given


def test_errors_are_called_what_they_are(capsys: pytest.CaptureFixture[str]):
    commands.show_stages([stage(), stage("video_pretrain", "by clip")])
    assert "held-out error, untrained -> trained" in capsys.readouterr().out
    commands.show_stages([stage(split="none")])
    out = capsys.readouterr().out
    assert "training error, untrained -> trained" in out
    assert "held-out" not in out
    commands.show_stages([stage(), stage("video_pretrain", "none")])
    out = capsys.readouterr().out
    assert "0.2000 (held-out)" in out
    assert "0.2000 (training)" in out


def test_a_loss_of_one_window_is_no_course(capsys: pytest.CaptureFixture[str]):
    commands.show_stages([stage(loss_first=None, loss_last=None)])
    assert "->" not in capsys.readouterr().out.splitlines()[-2].partition("0.4000")[0]
    commands.show_stages([stage()])
    assert "0.5000 -> 0.2500" in capsys.readouterr().out


def test_a_curation_says_what_its_search_skipped(capsys: pytest.CaptureFixture[str]):
    summary = CurationSummary("out", "out/manifest", videos=1, skipped={"broken link": 2, "not a regular file": 1})
    summary.messages = ["skipped 2: broken link; for example '/a.mp4', '/b.mp4'"]
    commands.show_curation(summary)
    out = capsys.readouterr().out
    assert "files and folders skipped" in out
    assert "3" in next(line for line in out.splitlines() if "skipped" in line)
    assert "'/b.mp4'" in out
