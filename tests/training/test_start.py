"""Where a stage starts, and what it trains of its network."""

from dataclasses import replace

import pytest
import torch

from training import checkpoint as checkpoints
from training.errors import TrainingError
from training.names import Stage, SystemName
from training.start import networks, shape_of, sizes_after, trainable


@pytest.fixture
def begun(trained, tiny):
    """(network that a stage of a system begins with, its parent's averaged weights, the configuration)."""

    def make(system: SystemName, stage: Stage = Stage.video_pretrain, **fields):
        parent = trained(system)[Stage.image_pretrain if stage == Stage.video_pretrain else Stage.video_pretrain]
        config = tiny(stage=stage, parent=parent, model={"system": system}, **fields)
        start = checkpoints.load(parent)
        system, sizes = shape_of(config, start.lineage)
        return networks(config, system, sizes, start)[1], start.ema, config

    return make


@pytest.mark.parametrize("system", [s for s in SystemName if s != SystemName.control_video])
def test_a_stage_starts_from_its_parent_s_weights(begun, system):
    """Under whatever names the system has them."""
    network, weights, _ = begun(system)
    state = network.state_dict()
    within = {SystemName.tune_a_video: "network.", SystemName.gen1: "unet."}.get(system, "")
    assert all(torch.equal(state[within + name], value) for name, value in weights.items())
    again, weights, _ = begun(system, Stage.finetune)
    assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())


def test_the_user_s_word_on_what_is_trained_goes_before_the_recipe_s(begun):
    network, _, config = begun(SystemName.svd)
    count = {}
    for wanted in ("auto", "all", "temporal"):
        optim = config.optim.model_copy(update={"trainable": wanted})
        count[wanted] = sum(
            p.numel() for p in trainable(config.model_copy(update={"optim": optim}), SystemName.svd, network)
        )
    assert count["auto"] == count["all"] > count["temporal"] > 0


def test_only_video_stages_make_a_network_of_video(trained, tiny):
    _, sizes = shape_of(tiny(), None)
    assert sizes_after(Stage.image_pretrain, sizes) == sizes
    assert sizes_after(Stage.finetune, sizes) == replace(sizes, temporal=True)


def test_pictures_must_fit_the_network_whatever_it_is(trained, tiny):
    config = tiny(stage="video_pretrain", parent=trained(SystemName.dit)[Stage.image_pretrain], model={"system": "dit"})
    config.data.width = 18
    with pytest.raises(TrainingError, match="12x18, must be multiples of 4"):
        shape_of(config, checkpoints.read_lineage(config.parent))


def test_sizes_that_no_network_has_are_said_in_one_line(tiny):
    config = tiny(model={"system": "dit", "width": 40, "head_dim": 12})
    with pytest.raises(TrainingError, match=r"model: 160 channels do not give heads of 12; choose another width"):
        networks(config, *shape_of(config, None), None)
