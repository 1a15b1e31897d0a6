"""Sampling once, and the flows' faces. Whole runs are in tests/end_to_end."""

import json
from pathlib import Path

import pytest

from flows import train
from flows.config import FlowName
from flows.serve import FLOWS, config_model, load_flow
from flows.train import sample_once
from training.config import SampleConfig, TrainStagedConfig
from training.errors import TrainingError


class Sampler:
    """Writes the files that sampling would, and counts."""

    def __init__(self, out: Path) -> None:
        self.out, self.calls = out, 0

    def __call__(self) -> list[dict]:
        self.calls += 1
        self.out.with_suffix(".mp4").write_bytes(b"video")
        return [{"event": "result", "mp4": str(self.out.with_suffix(".mp4")), "number": self.calls}]


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    folder = tmp_path / "finetune"
    folder.mkdir()
    (folder / "result.json").write_text('{"checkpoint_hash": "one"}')
    return folder


def config(stage: Path, tmp_path: Path, **more: object) -> SampleConfig:
    return SampleConfig.model_validate({"checkpoint": str(stage), "out": str(tmp_path / "sample"), **more})


def test_the_same_is_sampled_once(stage: Path, tmp_path: Path):
    run = Sampler(tmp_path / "sample")
    first = sample_once(config(stage, tmp_path), run)
    assert sample_once(config(stage, tmp_path), run) == first
    assert run.calls == 1


@pytest.mark.parametrize("change", ["seed", "checkpoint", "file", "record"])
def test_whatever_changes_it_is_sampled_again(change: str, stage: Path, tmp_path: Path):
    run = Sampler(tmp_path / "sample")
    sample_once(config(stage, tmp_path), run)
    match change:
        case "checkpoint":
            (stage / "result.json").write_text('{"checkpoint_hash": "two"}')
        case "file":
            (tmp_path / "sample.mp4").unlink()
        case "record":
            (tmp_path / "sample.json").write_text('{"identity"')
    again = sample_once(config(stage, tmp_path, **({"seed": 1} if change == "seed" else {})), run)
    assert run.calls == 2
    assert json.loads((tmp_path / "sample.json").read_text())["results"] == again


def test_another_video_of_the_same_name_is_sampled_again(stage: Path, tmp_path: Path):
    source, run = tmp_path / "source.mp4", Sampler(tmp_path / "sample")
    for content in (b"one", b"one", b"two"):
        source.write_bytes(content)
        sample_once(config(stage, tmp_path, source=str(source)), run)
    assert run.calls == 2


def test_a_failed_sampling_leaves_no_record(stage: Path, tmp_path: Path):
    def fails() -> list[dict]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        sample_once(config(stage, tmp_path), fails)
    assert not (tmp_path / "sample.json").exists()


@pytest.mark.parametrize(("split", "kind"), [("by video", "held-out"), ("none", "training")])
def test_a_stage_s_errors_are_called_what_they_are(split: str, kind: str, monkeypatch: pytest.MonkeyPatch):
    said = []
    monkeypatch.setattr(train, "publish", lambda key, markdown, description: said.append(markdown))
    numbers = dict.fromkeys(("samples", "seconds", "parameters", "trained_parameters", "clips", "held_out_clips"), 1)
    errors = {key: {"mean": 0.5} for key in ("error_untrained", "error_start", "error_trained")}
    hashes = dict.fromkeys(("checkpoint_hash", "selection_hash", "parent_hash"), "x")
    ends = {"loss_first": None, "loss_last": None}
    train.show_stage({"stage": "finetune", "out": "o", "split": split, **numbers, **errors, **hashes, **ends})
    assert f"## Denoising error on {kind} clips" in said[0]


def test_three_stages_are_checked_before_the_first_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train, "train_one", lambda stage: pytest.fail("it began"))
    with pytest.raises(TrainingError, match="none/clips.parquet does not exist"):
        train.train_staged.fn(TrainStagedConfig(selection=str(tmp_path / "none")))


@pytest.mark.parametrize("name", list(FlowName))
def test_each_flow_takes_one_model_and_teaches(name: FlowName):
    flow = load_flow(name)
    assert flow.name == name.value
    assert list(flow.parameters.properties) == ["config"]
    assert "**Give**" in (flow.description or "")
    assert "**Get**" in (flow.description or "")
    assert config_model(name).model_json_schema()["additionalProperties"] is False
    assert set(FLOWS) == set(FlowName)
