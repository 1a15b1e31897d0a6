"""Events of a real `python -m training`, and its ways to fail."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.launch import launch, numbers, read_event, tell
from training.config import SampleConfig, TrainStageConfig
from training.errors import TrainingError


def test_bad_input_comes_back_as_the_trainers_own_words(tmp_path: Path):
    with pytest.raises(TrainingError) as caught:
        launch(TrainStageConfig.model_validate({"selection": str(tmp_path / "none"), "out": str(tmp_path / "out")}))
    assert str(tmp_path / "none") in str(caught.value)
    assert not str(caught.value).startswith("error: ")


def test_a_missing_checkpoint(tmp_path: Path):
    with pytest.raises(TrainingError, match="none"):
        launch(SampleConfig.model_validate({"checkpoint": str(tmp_path / "none"), "out": str(tmp_path / "out")}))


def test_steps_and_sampling_move_the_progress():
    step = {"event": "step", "stage": "image_pretrain", "samples": 16, "of": 64, "loss": 0.5}
    assert tell(step) == ("image-pretrain training", 16, 64)
    assert numbers(step) == "16 samples: loss 0.5"
    assert tell({"event": "sampling", "step": 3, "of": 18}) == ("sampling", 3, 18)
    assert tell({"event": "phase", "stage": "finetune", "phase": "reading clips"}) == (
        "finetune reading clips",
        0,
        None,
    )
    assert tell({"event": "checkpoint"}) is None


@given(st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4), max_size=3), st.text(max_size=6))
def test_an_event_survives_its_line(fields: dict, name: str):
    event = {**fields, "event": name}
    assert read_event(json.dumps(event)) == event


@pytest.mark.parametrize("line", ["", "text", "{", "{}", "[1]", '{"event": 3}', '{"x": 1}', "null"])
def test_other_lines_are_no_events(line: str):
    assert read_event(line) is None
