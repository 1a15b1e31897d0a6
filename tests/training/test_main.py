import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from training import checkpoint as checkpoints
from training.__main__ import main, read_config
from training.config import SampleConfig, TrainStageConfig, TrainStagedConfig
from training.stages import run_stage

ROOT = Path(__file__).resolve().parents[2]


def write(path, fields):
    path.write_text(yaml.safe_dump(fields))
    return str(path)


def dump(config):
    return config.model_dump(mode="json")


def start(path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "training", path], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment
    )


def wait_for(process, wanted):
    """Read events until one is wanted; all of them."""
    events = []
    assert process.stdout is not None
    for line in process.stdout:
        events.append(json.loads(line))
        if wanted(events[-1]):
            return events
    raise AssertionError(f"ended with {process.wait()} after {events[-3:]}")


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"stage": "image_pretrain"}, TrainStageConfig),
        ({"prompts": ["a dog"]}, SampleConfig),
        ({"checkpoint": "x"}, SampleConfig),
        ({"out": "runs/t"}, TrainStagedConfig),
    ],
)
def test_the_keys_say_what_to_run(tmp_path, fields, kind):
    assert isinstance(read_config(write(tmp_path / "c.yaml", fields)), kind)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("stage: image_pretrain\nsede: 1", "c.yaml: sede: Extra inputs are not permitted"),
        ("stage: [", "c.yaml: not YAML"),
        ("- a", "c.yaml: must hold fields"),
        ("stage: image_pretrain\ndata: {height: tall}", "c.yaml: data.height: "),
        ("stage: image_pretrain\nselection: nowhere\nout: OUT", "selection: nowhere/clips.parquet does not exist"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, content, message):
    (tmp_path / "c.yaml").write_text(content.replace("OUT", str(tmp_path / "out")))
    assert main([str(tmp_path / "c.yaml")]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


def test_a_missing_file_and_help(tmp_path, capsys):
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: cannot be read" in capsys.readouterr().err
    assert main([]) == 2
    assert main(["--help"]) == 0


def test_trains_tells_and_samples(tiny, tmp_path, capsys):
    config = tiny()
    path = write(tmp_path / "stage.yaml", dump(config))
    assert main([path]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"phase", "step", "checkpoint", "result"} == {e["event"] for e in events}
    step = next(e for e in events if e["event"] == "step")
    assert {"samples", "of", "loss", "samples_per_s", "stage"} <= set(step)

    assert main([path]) == 0
    again = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["event"] for e in again] == ["phase", "result"]
    assert again[1]["reused"] is True

    sample = {"checkpoint": config.out, "out": str(tmp_path / "s"), "steps": 2, "device": "cpu"}
    assert main([write(tmp_path / "sample.yaml", sample)]) == 0
    assert (tmp_path / "s.mp4").stat().st_size > 0


def test_terminated_then_killed_then_resumed_is_as_if_nothing_had_happened(tiny, tmp_path):
    config = tiny(optim={"samples": 4000, "checkpoint_every": 8}, out=str(tmp_path / "hurt"))
    path = write(tmp_path / "hurt.yaml", dump(config))

    process = start(path)
    wait_for(process, lambda e: e["event"] == "step" and e["samples"] >= 12)
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=300)
    last = json.loads(rest.splitlines()[-1])
    assert process.returncode == 143
    assert last["event"] == "stopped"
    stopped_at = checkpoints.read_lineage(config.out).samples
    assert f"after {stopped_at} samples" in last["message"]

    process = start(path)
    events = wait_for(process, lambda e: e["event"] == "step" and e["samples"] >= stopped_at + 20)
    assert {"event": "phase", "stage": "image_pretrain", "phase": "resuming", "samples": stopped_at} in events
    time.sleep(0.05)
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    hurt = checkpoints.load(config.out)
    assert hurt.lineage.samples >= stopped_at + 8

    # an uninterrupted run of the same configuration, stopped where the killed one was saved
    torch.set_num_threads(1)
    whole = config.model_copy(update={"out": str(tmp_path / "whole")})
    from training.stages import Stopped

    steps = []
    with pytest.raises(Stopped):
        run_stage(whole, stop=lambda: steps.append(1) or 4 * len(steps) > hurt.lineage.samples)
    expected = checkpoints.load(whole.out)
    assert expected.lineage.samples == hurt.lineage.samples
    assert all(torch.equal(hurt.weights[k], v) for k, v in expected.weights.items())
    assert all(torch.equal(hurt.ema[k], v) for k, v in expected.ema.items())
    for name, state in expected.optimizer.items():
        assert all(torch.equal(hurt.optimizer[name][k], v) for k, v in state.items())
