import pytest
import torch
from torch import nn

from training.ema import EMA, RAMP


def test_half_of_the_old_is_left_after_a_half_life():
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    ema = EMA(network, half_life=1000)
    nn.init.zeros_(network.weight)
    late = 10**9  # the ramp is over
    for _ in range(10):
        ema.update(network, late, 100)
    assert ema.weights["weight"].item() == pytest.approx(0.5, rel=1e-5)


def test_early_on_the_half_life_is_a_share_of_the_samples():
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    ema = EMA(network, half_life=1e9)
    nn.init.zeros_(network.weight)
    ema.update(network, samples=400, batch=20)
    assert ema.weights["weight"].item() == pytest.approx(0.5 ** (20 / (RAMP * 400)), rel=1e-6)


def test_it_is_a_copy_and_integers_are_copied():
    network = nn.BatchNorm1d(2)
    ema = EMA(network, 10)
    network(torch.randn(4, 2))
    assert ema.weights["num_batches_tracked"] == 0
    ema.update(network, 1000, 4)
    assert ema.weights["num_batches_tracked"] == 1
    assert set(ema.weights) == set(network.state_dict())
