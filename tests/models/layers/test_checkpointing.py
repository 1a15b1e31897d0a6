"""Checkpointed parts compute again on the way back, and nothing else changes."""

import copy

import pytest
import torch
from torch import nn

from models.layers.checkpointing import checkpointed


class Counted(nn.Module):
    """A layer that counts how often it is computed."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(4, 4), 0

    def forward(self, x):
        self.calls += 1
        return torch.tanh(self.layer(x))


def test_parts_are_computed_twice_with_the_same_gradients():
    torch.manual_seed(0)
    plain = nn.Sequential(Counted(), nn.Linear(4, 4), Counted())
    saving = checkpointed(copy.deepcopy(plain), Counted)
    x = torch.randn(3, 4)
    for network in (plain, saving):
        network(x).square().sum().backward()
    assert [part.calls for part in plain if isinstance(part, Counted)] == [1, 1]
    assert [part.calls for part in saving if isinstance(part, Counted)] == [2, 2]
    assert saving.state_dict().keys() == plain.state_dict().keys()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_without_gradients_nothing_is_computed_twice():
    network = checkpointed(nn.Sequential(Counted()), Counted)
    with torch.no_grad():
        network(torch.zeros(1, 4))
    assert network[0].calls == 1


def test_a_copy_computes_with_its_own_weights():
    network = checkpointed(nn.Sequential(Counted()), Counted)
    other = copy.deepcopy(network)
    nn.init.zeros_(other[0].layer.weight)
    nn.init.zeros_(other[0].layer.bias)
    assert other(torch.ones(1, 4)).abs().max() == 0
    assert network(torch.ones(1, 4)).abs().max() > 0


def test_a_network_without_such_parts_is_refused():
    with pytest.raises(ValueError, match="has no Counted or Tanh"):
        checkpointed(nn.Linear(2, 2), Counted, nn.Tanh)
