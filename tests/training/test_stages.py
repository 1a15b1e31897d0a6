import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from training import checkpoint as checkpoints
from training import stages
from training.checkpoint import RESULT
from training.config import Device, Stage, SystemName, TrainStagedConfig
from training.errors import TrainingError
from training.resume import LOCK, METRICS, alone
from training.stages import Stopped, run_stage, run_staged


@pytest.fixture(scope="module")
def staged(footage, tmp_path_factory):
    """The three stages, trained once."""
    out, events = tmp_path_factory.mktemp("staged"), []
    optim = {"batch": 4, "warmup": 8, "lr": 3e-3, "checkpoint_every": 1000}
    config = TrainStagedConfig.model_validate(
        {
            "selection": footage.selection,
            "out": str(out),
            "device": "cpu",
            "log_seconds": 1e-6,
            "model": {"width": 8, "multipliers": [1, 2], "attention_levels": [1], "head_dim": 8},
            "data": {"height": 12, "width": 16, "frames": 3, "fps": [6.0], "holdout_share": 0.3},
            "image_pretrain": {**optim, "samples": 480},
            "video_pretrain": {**optim, "samples": 48},
            "finetune": {**optim, "samples": 48, "best_fraction": 0.5},
        }
    )
    return config, run_staged(config, events.append), events


def interrupt_after(steps):
    calls = []
    return lambda: calls.append(1) or len(calls) > steps


def weights(out):
    return checkpoints.load(out)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class TestStaged:
    def test_each_stage_starts_from_the_checkpoint_before(self, staged):
        _, results, _ = staged
        assert [r.stage for r in results] == list(Stage)
        assert [r.parent_hash for r in results] == ["", results[0].checkpoint_hash, results[1].checkpoint_hash]
        lineage = checkpoints.read_lineage(results[2].checkpoint)
        assert [a["hash"] for a in lineage.ancestors] == [r.checkpoint_hash for r in results[:2]]
        assert lineage.selection["content_hash"] == results[0].selection_hash
        assert lineage.samples == 48

    def test_training_beats_the_untrained_network_on_held_out_clips(self, staged):
        for result in staged[1]:
            assert result.split == "by video"
            assert result.held_out_clips == 2
            assert result.error_trained["mean"] < 0.8 * result.error_untrained["mean"]
        assert staged[1][0].loss_last < staged[1][0].loss_first

    def test_a_stage_begins_where_its_parent_ended(self, staged):
        """Inflation is exact, and single frames of a video are what the image stage learned."""
        image, video, finetune = staged[1]
        assert video.error_start["mean"] < 0.8 * video.error_untrained["mean"]
        assert finetune.error_start == pytest.approx(video.error_trained)
        assert image.error_start == image.error_untrained

    def test_the_video_stage_trains_the_temporal_layers_alone(self, staged):
        image, video, finetune = (weights(r.out) for r in staged[1])
        spatial = {k: v for k, v in video.weights.items() if ".temporal." not in k}
        assert same(spatial, image.ema)
        temporal = [v for k, v in video.weights.items() if k.endswith(("temporal.out.weight", "temporal.conv.weight"))]
        assert all(t.abs().max() > 0 for t in temporal)
        assert staged[1][1].trained_parameters < staged[1][1].parameters == staged[1][2].trained_parameters
        assert not any(torch.equal(finetune.weights[k], v) for k, v in video.ema.items() if k.endswith("weight"))

    @pytest.mark.parametrize("system", [SystemName.vdm, SystemName.tune_a_video, SystemName.video_ldm, SystemName.svd])
    def test_any_system_can_be_named_and_its_checkpoint_keeps_the_name(self, staged, system, tmp_path):
        """Of the same image network; a stage after it need not be told. (`test_recipes` has all of them.)"""
        config, results, _ = staged
        _, video, finetune = config.stages()
        video = video.model_copy(
            update={
                "parent": results[0].out,
                "out": str(tmp_path / "video"),
                "model": config.model.model_copy(update={"system": system}),
                "optim": config.video_pretrain.model_copy(update={"samples": 8}),
            }
        )
        finetune = finetune.model_copy(update={"parent": video.out, "out": str(tmp_path / "finetune")})
        first, then = run_stage(video), run_stage(finetune)
        assert [checkpoints.read_lineage(r.checkpoint).network["system"] for r in (first, then)] == [system] * 2
        assert first.error_start["mean"] < 0.9 * first.error_untrained["mean"]

    def test_finetuning_takes_the_best(self, staged):
        assert [r.clips for r in staged[1]] == [4, 4, 2]

    def test_files(self, staged):
        for result in staged[1]:
            out = Path(result.out)
            assert json.loads((out / RESULT).read_text())["checkpoint_hash"] == result.checkpoint_hash
            lines = [json.loads(line) for line in (out / METRICS).read_text().splitlines()]
            assert lines[-1]["samples"] == result.samples
            Image.open(out / "loss.png").verify()

    def test_a_second_run_repeats_nothing(self, staged):
        config, results, _ = staged
        before = {p: p.stat().st_mtime_ns for p in Path(config.out).rglob("*") if p.is_file()}
        events = []
        again = run_staged(config, events.append)
        assert all(r.reused for r in again)
        assert [r.checkpoint_hash for r in again] == [r.checkpoint_hash for r in results]
        assert [e.get("phase", e["event"]) for e in events] == ["finished before", "result"] * 3
        assert {p: p.stat().st_mtime_ns for p in Path(config.out).rglob("*") if p.is_file()} == before

    def test_events_tell_the_whole_story(self, staged):
        kinds = [e["event"] for e in staged[2]]
        assert kinds.count("result") == 3
        assert kinds.count("checkpoint") == 3
        assert kinds.count("step") == 120 + 12 + 12
        assert all("stage" in e for e in staged[2])


def test_resumed_is_bit_identical_to_uninterrupted(tiny, tmp_path):
    whole = run_stage(tiny(out=str(tmp_path / "whole")))
    config = tiny(out=str(tmp_path / "parts"))
    for _ in range(2):
        with pytest.raises(Stopped, match="run it again to resume"):
            run_stage(config, stop=interrupt_after(2))
    (tmp_path / "parts" / ".checkpoint.safetensors.123.tmp").write_bytes(b"half")  # as a killed process leaves it
    events = []
    parts = run_stage(config, events.append)
    assert not list((tmp_path / "parts").glob(".*"))
    assert "resuming" in [e.get("phase") for e in events]
    a, b = weights(whole.out), weights(parts.out)
    assert same(a.weights, b.weights)
    assert same(a.ema, b.ema)
    samples = [json.loads(line)["samples"] for line in (tmp_path / "parts" / METRICS).read_text().splitlines()]
    assert samples == [4, 8, 12, 16, 20, 24]
    assert parts.error_trained == whole.error_trained


def files(folder):
    """What is in a folder, but for the lock."""
    return {p: p.read_bytes() for p in Path(folder).rglob("*") if p.is_file() and p.name != LOCK}


def test_another_run_is_left_alone_and_what_differs_is_said(tiny):
    first = run_stage(tiny())
    before = files(first.out)
    with pytest.raises(TrainingError, match=r"another run of image_pretrain, after 24 .*optim\.lr, seed\)") as error:
        run_stage(tiny(optim={"lr": 1e-3}, seed=4))
    assert all(way in str(error.value) for way in ("--out", "--replace"))
    assert "\n" not in str(error.value)
    assert files(first.out) == before


def test_a_run_that_was_interrupted_is_left_alone_too(tiny):
    with pytest.raises(Stopped):
        run_stage(tiny(), stop=lambda: True)  # nothing is lost with it
    with pytest.raises(Stopped):
        run_stage(tiny(seed=1), stop=interrupt_after(2))
    with pytest.raises(TrainingError, match=r"after 8 samples \(it differs in seed\)"):
        run_stage(tiny())
    with pytest.raises(TrainingError, match="holds an unfinished stage image_pretrain"):
        run_stage(tiny(stage="video_pretrain", parent=tiny().out, seed=1))
    assert run_stage(tiny(seed=1)).samples == 24


def test_the_parent_is_never_replaced(tiny):
    parent = run_stage(tiny())
    for field in (parent.out, parent.checkpoint):
        with pytest.raises(TrainingError, match="holds the parent"):
            run_stage(tiny(parent=field, replace=True))


def test_three_stages_leave_another_run_alone_before_any_work(staged, tmp_path):
    config, _, _ = staged
    shutil.copytree(config.out, tmp_path / "copy")
    mine, last = tmp_path / "copy", config.finetune.model_copy(update={"samples": 52})
    config = config.model_copy(update={"out": str(mine), "finetune": last})
    before, events = files(mine), []
    with pytest.raises(TrainingError, match=r"another run of finetune, .*in optim\.samples"):
        run_staged(config, events.append)
    shutil.rmtree(mine / "image_pretrain")  # then the others are not of what is trained in its place
    with pytest.raises(TrainingError, match=r"another run of video_pretrain, .*in parent\)"):
        run_staged(config, events.append)
    assert events == []
    assert files(mine).items() < before.items()


def test_replacing_begins_with_the_first_stage_that_differs(staged, tmp_path):
    shutil.copytree(staged[0].out, tmp_path / "copy")
    last = staged[0].finetune.model_copy(update={"samples": 8})
    config = staged[0].model_copy(update={"out": str(tmp_path / "copy"), "finetune": last, "replace": True})
    assert [r.reused for r in run_staged(config)] == [True, True, False]


def test_one_training_at_a_time(tiny, tmp_path):
    config = tiny(optim={"samples": 4000})
    file = tmp_path / "stage.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    command = [sys.executable, "-m", "training", str(file)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as other:
        assert any('"step"' in line for line in other.stdout)
        with pytest.raises(TrainingError, match=f"out: .* is in use by process {other.pid};"):
            run_stage(config)
        other.kill()
    with pytest.raises(Stopped):  # the dead hold nothing
        run_stage(config, stop=lambda: True)


def test_three_stages_keep_their_folder_to_themselves(staged, tmp_path):
    config = staged[0].model_copy(update={"out": str(tmp_path)})
    with alone(tmp_path), pytest.raises(TrainingError, match="is in use by process"):
        run_staged(config)
    assert files(tmp_path) == {}


def test_clips_that_are_too_short_are_said_before_any_work(staged, tiny, tmp_path):
    config = staged[0].model_copy(update={"out": str(tmp_path / "three")})
    config.data = config.data.model_copy(update={"frames": 500})
    events = []
    with pytest.raises(TrainingError, match=r"data\.frames: none of the 4 .* 500 different .* longest has 12, take no"):
        run_staged(config, events.append)
    assert events == []
    assert list(tmp_path.iterdir()) == []


def test_losses_are_means_over_quarters_of_the_samples(tiny, tmp_path):
    whole = run_stage(tiny(tmp_path / "whole"))
    lines = [json.loads(line)["loss"] for line in (tmp_path / "whole" / METRICS).read_text().splitlines()]
    assert len(lines) == 6  # steps; the quarters are 2, 1, 2 and 1 of them
    assert (whole.loss_first, whole.loss_last) == (pytest.approx(sum(lines[:2]) / 2), lines[5])
    parts = tiny(tmp_path / "parts", log_seconds=60.0)
    with pytest.raises(Stopped):
        run_stage(parts, stop=interrupt_after(1))
    again = run_stage(parts)
    assert (again.loss_first, again.loss_last) == (whole.loss_first, whole.loss_last)
    one = run_stage(tiny(tmp_path / "one", optim={"samples": 4}))
    assert (one.loss_first, one.loss_last) == (None, None)


def test_other_settings_replace_where_that_is_asked_for_and_say_what_differs(tiny):
    first = run_stage(tiny())
    events = []
    second = run_stage(tiny(optim={"lr": 1e-3}, replace=True), events.append)
    anew = [e for e in events if "differs" in e]
    assert [e["differs"] for e in anew] == [["optim.lr"]]
    assert second.checkpoint_hash != first.checkpoint_hash
    assert not second.reused


def test_settings_that_change_nothing_do_not_train_again(tiny):
    run_stage(tiny())
    assert run_stage(tiny(log_seconds=5.0)).reused


def test_another_selection_trains_again(tiny, footage):
    first = run_stage(tiny())
    rows = [{**footage.rows[0], "end": 0.9}, *footage.rows[1:]]
    with pytest.raises(TrainingError, match="differs in selection"):
        run_stage(tiny(selection=footage.write("shorter", rows)))
    second = run_stage(tiny(selection=footage.write("shorter", rows), replace=True))
    assert second.selection_hash != first.selection_hash
    assert not second.reused


def test_a_checkpoint_that_was_tampered_with_is_not_reused(tiny):
    result = run_stage(tiny())
    Path(result.checkpoint).write_bytes(b"rubbish")
    with pytest.raises(TrainingError, match="not a readable checkpoint"):
        run_stage(tiny())


def test_v_prediction_trains_too(tiny):
    result = run_stage(tiny(formulation="v", optim={"samples": 240}))
    assert result.error_trained["mean"] < result.error_untrained["mean"]


@pytest.fixture
def policy_rows(footage):
    """The fixture's clips as a policy with a split and weights writes them: the second video is for validation."""
    return [
        {**row, "split": "validation" if row["video_id"] == "video1" else "train", "weight": float(1 + 3 * i)}
        for i, row in enumerate(footage.rows)
    ]


def test_what_the_policy_sets_aside_is_never_trained_on(tiny, footage, policy_rows, monkeypatch):
    made, drawn = [], []

    class Watched(stages.ClipData):
        def __post_init__(self):
            super().__post_init__()
            made.append([c.video_id for c in self.clips])

        def _draw(self, clip, rng):
            drawn.append(clip.video_id)
            return super()._draw(clip, rng)

    monkeypatch.setattr(stages, "ClipData", Watched)
    events = []
    result = run_stage(tiny(selection=footage.write("policy", policy_rows)), events.append)
    assert made == [["video0", "video0", "video2", "video2"], ["video1", "video1"]]
    assert set(drawn) == {"video0", "video2"}
    assert len(drawn) == 24
    assert (result.split, result.clips, result.held_out_clips) == ("by policy", 4, 2)
    assert any("policy's split" in e.get("phase", "") for e in events)


def test_a_clip_of_weight_0_is_not_among_the_best(tiny, footage, policy_rows):
    rows = [{**row, "weight": 0.0 if row["clip_id"] == "2-1" else 1.0} for row in policy_rows]
    best = tiny(selection=footage.write("zero", rows), optim={"best_fraction": 0.5})
    assert run_stage(best).clips == 2  # of three
    none = [{**row, "weight": 0.0} for row in policy_rows]
    with pytest.raises(TrainingError, match="every clip for training has weight 0"):
        run_stage(tiny(selection=footage.write("none", none)))


def test_resumed_with_weights_is_bit_identical_to_uninterrupted(tiny, footage, policy_rows, tmp_path):
    selection = footage.write("resumed", policy_rows)
    whole = run_stage(tiny(selection=selection, out=str(tmp_path / "whole")))
    config = tiny(selection=selection, out=str(tmp_path / "parts"))
    with pytest.raises(Stopped):
        run_stage(config, stop=interrupt_after(3))
    a, b = weights(whole.out), weights(run_stage(config).out)
    assert same(a.weights, b.weights)
    assert same(a.ema, b.ema)


def test_other_weights_train_again(tiny, footage, policy_rows):
    assert not run_stage(tiny(selection=footage.write("weights", policy_rows))).reused
    events, even = [], [{**row, "weight": 1.0} for row in policy_rows]
    assert not run_stage(tiny(selection=footage.write("weights", even), replace=True), events.append).reused
    assert [e["differs"] for e in events if "differs" in e] == [["selection"]]


def test_one_video_is_split_by_clip_and_said_so(tiny, footage):
    events = []
    result = run_stage(tiny(selection=footage.write("one", footage.rows[:2])), events.append)
    assert result.split == "by clip"
    assert any("one video" in e.get("phase", "") for e in events)


def test_one_clip_is_evaluated_on_itself_and_said_so(tiny, footage):
    result = run_stage(tiny(selection=footage.write("single", footage.rows[:1])))
    assert (result.split, result.held_out_clips, result.clips) == ("none", 0, 1)


def test_lineage_names_what_curation_recorded(tiny, footage):
    folder = Path(footage.write("recorded", footage.rows))
    hashes = {"manifest_hash": "m", "policy_hash": "p", "selection_hash": "s"}
    (folder / "selection.json").write_text(json.dumps({**hashes, "kept": 6}))
    result = run_stage(tiny(selection=str(folder)))
    assert result.selection_hash == "s"
    assert checkpoints.read_lineage(result.out).selection.items() >= hashes.items()


def test_other_ranks_choose_anew(tiny, footage):
    config = {"optim": {"best_fraction": 0.5}}
    assert not run_stage(tiny(**config)).reused
    rows = [{**row, "technical_quality": 1 - row["technical_quality"]} for row in footage.rows]
    with pytest.raises(TrainingError, match="differs in ranks of clips"):
        run_stage(tiny(**config, selection=footage.write("turned round", rows)))
    assert not run_stage(tiny(**config, selection=footage.write("turned round", rows), replace=True)).reused


def test_another_definition_of_motion_is_refused(tiny, footage, tmp_path):
    one = footage.write("flow2", footage.rows, definition='{"fps": 2}')
    other = footage.write("flow4", footage.rows, definition='{"fps": 4}')
    parent = run_stage(tiny(selection=one, out=str(tmp_path / "image")))
    with pytest.raises(TrainingError, match="motion score"):
        run_stage(tiny(stage="video_pretrain", selection=other, parent=parent.out))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stage": "finetune", "parent": "nowhere"}, "nowhere does not exist"),
        ({"selection": "nowhere"}, "clips.parquet does not exist"),
        ({"optim": {"best_fraction": 0.5, "best_by": "beauty"}}, "no column beauty"),
        ({"optim": {"trainable": "temporal"}}, r"optim\.trainable"),
    ],
)
def test_what_the_user_can_mend_is_named(tiny, fields, message):
    with pytest.raises(TrainingError, match=message):
        run_stage(tiny(**fields))


def test_sizes_must_fit_the_network(tiny):
    config = tiny()
    config.data.height = 13
    with pytest.raises(TrainingError, match="13x16, must be multiples of 4"):
        run_stage(config)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named_before_any_work(tiny, footage, tmp_path):
    with pytest.raises(TrainingError, match="device: cuda"):
        run_stage(tiny(device=Device.cuda))
    with pytest.raises(TrainingError, match="device: cuda"):
        run_staged(TrainStagedConfig(selection=footage.selection, out=str(tmp_path / "three"), device=Device.cuda))
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_named(tiny, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError, match=r"out: .*file/out cannot be written"):
        run_stage(tiny(out=str(tmp_path / "file" / "out")))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_finished_stage_is_not_replaced_by_another(tiny):
    done = run_stage(tiny())
    with pytest.raises(TrainingError, match="holds a finished stage image_pretrain"):
        run_stage(tiny(stage="video_pretrain", parent=done.out, replace=True))
    assert run_stage(tiny()).reused
