"""Every system is trained by its name: what its recipe trains changes, and nothing else does."""

import pytest
import torch

from models import registry
from training import checkpoint as checkpoints
from training.config import TrainStageConfig
from training.errors import TrainingError
from training.names import Stage, SystemName, Trainable
from training.networks import rebuilt, taken_apart
from training.recipes import RECIPES, rule
from training.stages import Stopped, run_stage
from training.start import networks

VIDEO = [s for s in SystemName if s != SystemName.control_video]
TEMPORAL = {SystemName.make_a_video, SystemName.lumiere, SystemName.video_ldm}  # alone, says their papers


def begun_with(folder):
    """The network that a stage began with, and its checkpoint."""
    done = checkpoints.load(folder)
    config = TrainStageConfig.model_validate(done.lineage.config)
    parent = checkpoints.load(config.parent)
    sizes = taken_apart(parent.lineage.network)[1]
    return networks(config, SystemName(config.model.system), sizes, parent)[1].state_dict(), done


@pytest.mark.parametrize("system", SystemName)
def test_a_stage_changes_what_the_recipe_trains_and_nothing_else(trained, system):
    stage = Stage.image_pretrain if system == SystemName.control_video else Stage.video_pretrain
    before, done = begun_with(trained(system)[stage])
    assert before.keys() == done.weights.keys()
    changed = {name for name, value in before.items() if not torch.equal(value, done.weights[name])}
    assert {name for name in changed if not rule(system, stage)(name)} == set()
    untold = {name for name in before if system == SystemName.gen1 and name.startswith(("unet.fps", "unet.motion"))}
    assert set(done.optimizer) == {name for name in before if rule(system, stage)(name)} - untold
    new = {name for name in before if "temporal" in name or name.startswith("control.")}
    assert changed & new or system == SystemName.dit
    if system in TEMPORAL:
        assert changed <= new
    elif system == SystemName.tune_a_video:
        queries = changed - new
        assert queries
        assert all(name.endswith(("attention.q.weight", "attention.text_q.weight")) for name in queries)
    elif system != SystemName.control_video:
        assert len(changed - new) > 0.5 * len(before.keys() - new)
    assert done.lineage.network["system"] == system
    network = rebuilt(*taken_apart(done.lineage.network))
    network.load_state_dict(done.weights)


def test_rules_are_those_of_the_published_recipes():
    for system in VIDEO:
        published = registry.system(system).stage(RECIPES[system].video_pretrain)
        assert rule(system, Stage.video_pretrain) is published.trainable
        assert rule(system, Stage.image_pretrain)("middle.block.conv1.spatial.weight")
        assert not rule(system, Stage.image_pretrain)("middle.block.conv1.temporal.conv.weight")
    assert rule(SystemName.video_ldm, Stage.finetune)("stem.spatial.weight")
    assert not rule(SystemName.tune_a_video, Stage.finetune)("stem.spatial.weight")


@pytest.mark.parametrize("system", VIDEO)
def test_videos_have_captions_where_the_published_data_have(system):
    """Gen-1's data have none: its content, an image's embedding, is the caption here."""
    data = registry.system(system).stage(RECIPES[system].video_pretrain).data
    assert RECIPES[system].captions == ("text-videos" in data or system == SystemName.gen1)


@pytest.mark.parametrize("stage", [Stage.video_pretrain, Stage.finetune])
@pytest.mark.parametrize("system", [SystemName.make_a_video, SystemName.svd])
def test_other_captions_change_the_video_stages_of_systems_with_captions_alone(trained, footage, tiny, system, stage):
    """Make-A-Video sees no text-video pair in any of its stages on video."""
    rows = [{**row, "caption_image": "a whale", "caption_video": "two whales dive"} for row in footage.rows]
    parent = trained(system)[Stage.image_pretrain if stage == Stage.video_pretrain else Stage.video_pretrain]
    fields = {"stage": stage, "parent": parent, "model": {"system": system}, "optim": {"samples": 8}}
    one = run_stage(tiny(footage.folder / f"{system}-{stage}-own", **fields))
    other_rows = footage.write("whales", rows)
    other = run_stage(tiny(footage.folder / f"{system}-{stage}-other", selection=other_rows, **fields))
    weights = [checkpoints.load(result.checkpoint).weights for result in (one, other)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items()) == (
        system == SystemName.make_a_video
    )
    assert (one.error_trained == other.error_trained) == (system == SystemName.make_a_video)


def test_one_shot_tuning_takes_one_clip_and_the_lineage_says_which(trained, footage, tiny):
    video = trained(SystemName.tune_a_video)[Stage.video_pretrain]
    clips = {row["clip_id"] for row in footage.rows}
    assert checkpoints.read_lineage(video).selection["clip"] in clips
    assert "clip" not in checkpoints.read_lineage(trained(SystemName.svd)[Stage.video_pretrain]).selection
    rows = [{**row, "end": row["start"] + 0.09} if row["clip_id"] != "2-0" else row for row in footage.rows]
    image = trained(SystemName.tune_a_video)[Stage.image_pretrain]
    fields = {"stage": "video_pretrain", "parent": image, "model": {"system": "tune_a_video"}}
    result = run_stage(tiny(selection=footage.write("short", rows), **fields, optim={"samples": 4}))
    assert result.clips == 1
    assert checkpoints.read_lineage(result.checkpoint).selection["clip"] == "2-0"  # the others are too short


def test_gen1_s_structure_is_named_for_what_it_is(trained):
    lineage = checkpoints.read_lineage(trained(SystemName.gen1)[Stage.video_pretrain])
    assert lineage.config["model"]["structure"] == "blurred_brightness"


@pytest.mark.parametrize("system", [SystemName.dit, SystemName.gen1, SystemName.svd, SystemName.tune_a_video])
def test_a_resumed_stage_is_bit_identical(trained, system, tiny, tmp_path):
    def config(name):
        image, optim = trained(system)[Stage.image_pretrain], {"samples": 12, "checkpoint_every": 4}
        return tiny(tmp_path / name, stage="video_pretrain", parent=image, model={"system": system}, optim=optim)

    whole, parts, calls = run_stage(config("whole")), config("parts"), []
    with pytest.raises(Stopped):
        run_stage(parts, stop=lambda: calls.append(1) or len(calls) > 1)
    a, b = checkpoints.load(whole.out), checkpoints.load(run_stage(parts).out)
    assert all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)
    assert all(torch.equal(a.ema[name], b.ema[name]) for name in a.ema)


@pytest.mark.parametrize("system", [SystemName.dit, SystemName.gen1, SystemName.tune_a_video])
def test_the_last_stage_goes_on_without_being_told_the_system(trained, system, tiny):
    video = trained(system)[Stage.video_pretrain]
    result = run_stage(tiny(stage="finetune", parent=video, optim={"samples": 4, "trainable": Trainable.auto}))
    assert checkpoints.read_lineage(result.checkpoint).network["system"] == system


@pytest.mark.parametrize(
    ("system", "parent", "fields", "message"),
    [
        ("make_a_video", "dit", {}, "model.system: make_a_video cannot go on from .* dit has an image network"),
        ("gen1", "svd", {}, "model.system: gen1 cannot go on from .* gen1 has an image network of its own"),
        ("dit", "dit", {"optim": {"trainable": "temporal"}}, "optim.trainable: dit's network has no temporal layers"),
        ("vdm", "control_video", {}, "parent: .* is a control branch"),
        ("svd", "svd", {"stage": "finetune"}, "parent: .* is an image stage; take --stage video_pretrain"),
        ("svd", "svd", {"formulation": "v"}, "formulation: v cannot go on from .* by edm; take --formulation edm"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_line(trained, tiny, system, parent, fields, message):
    image = trained(SystemName(parent))[Stage.image_pretrain]
    with pytest.raises(TrainingError, match=message) as error:
        run_stage(tiny(**{"stage": "video_pretrain", "parent": image, "model": {"system": system}, **fields}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("system", [SystemName.gen1, SystemName.svd])
def test_images_train_no_network_of_video(trained, tiny, system):
    video = trained(system)[Stage.video_pretrain]
    with pytest.raises(TrainingError, match="is a network of video, .* take --stage finetune to go on"):
        run_stage(tiny(parent=video))


def test_a_network_of_video_keeps_its_system_and_the_checkpoint_names_it(trained, tiny):
    fields = {"stage": "finetune", "parent": trained(SystemName.svd)[Stage.video_pretrain], "optim": {"samples": 4}}
    with pytest.raises(TrainingError, match=r"model\.system: lumiere cannot go on from .* of video of svd's"):
        run_stage(tiny(**fields, model={"system": "lumiere"}))
    lineage = checkpoints.read_lineage(run_stage(tiny(**fields)).checkpoint)
    assert lineage.config["model"]["system"] == lineage.network["system"] == "svd"
    assert run_stage(tiny(**fields)).reused


def test_a_control_branch_wants_an_image_network(trained, tiny):
    with pytest.raises(TrainingError, match="control_video takes an image stage"):
        run_stage(tiny(parent=trained(SystemName.svd)[Stage.video_pretrain], model={"system": "control_video"}))
