import pytest
import torch
from torch import nn

from models.diffusion.losses import VLoss
from models.systems.recipe import Stage, System, count, everything, temporal_only


def network():
    return nn.ModuleDict({"spatial": nn.Linear(2, 3), "temporal": nn.Linear(3, 3, bias=False)})


def test_a_stage_says_which_parameters_it_trains():
    net, stage = network(), Stage("motion", "decoder", temporal_only, VLoss(), ("videos",), parent="images")
    assert [p.shape for p in stage.parameters(net)] == [(3, 3)]
    assert all(p.requires_grad for p in net.parameters())
    trained = stage.prepare(net)
    assert [name for name, p in net.named_parameters() if p.requires_grad] == ["temporal.weight"]
    assert trained[0] is net["temporal"].weight
    Stage("all", "decoder", everything, VLoss(), ("images",)).prepare(net)
    assert all(p.requires_grad for p in net.parameters())


def test_a_stage_that_trains_nothing_is_refused():
    with pytest.raises(ValueError, match="'motion' trains no parameter"):
        Stage("motion", "decoder", temporal_only, VLoss(), ("videos",)).prepare(nn.Linear(2, 2))


def test_a_system_is_looked_up_and_counted_where_nothing_is_stored():
    stage = Stage("motion", "decoder", temporal_only, VLoss(), ("videos",))
    system = System("s", "A et al.", "one line", ("text",), (stage,), network, network, {"decoder": 18})
    with torch.device("meta"):
        assert count(system.paper_size()) == 2 * 3 + 3 + 9
    assert system.stage("motion") is stage
    with pytest.raises(KeyError, match=r"s has no stage 'nothing'; it has \['motion'\]"):
        system.stage("nothing")
