import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.diffusion.losses import VLoss
from training.config import OptimSettings
from training.data import Example, collate
from training.ema import EMA
from training.errors import TrainingError
from training.trainer import TrainState, mix, train


class Pixels:
    """Examples that are a function of their number."""

    def batch(self, first, size):
        pixels = [np.random.default_rng(n).integers(0, 256, (4, 4, 3), np.uint8) for n in range(first, first + size)]
        return collate([Example(p, "", 8.0, 1.0) for p in pixels])


class NoText:
    device = torch.device("cpu")

    def __call__(self, batch):
        return {}


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, z, noise):
        return self.conv(z)


SETTINGS = OptimSettings(samples=40, batch=4, warmup=16, checkpoint_every=12, lr=1e-2)


def state():
    network = Small()
    return TrainState(network, EMA(network, 100), torch.optim.AdamW(network.parameters()))


def run(current, settings=SETTINGS, seed=0, **more):
    events, saves = [], []
    finished = train(
        current, VLoss(), Pixels(), NoText(), settings, seed,
        save=more.pop("save", lambda: saves.append(current.samples)), on_event=events.append, log_seconds=1e-9, **more,
    )  # fmt: skip
    return finished, events, saves


def test_counts_samples_logs_and_saves():
    current = state()
    finished, events, saves = run(current)
    assert finished
    assert current.samples == 40
    assert [e["samples"] for e in events] == list(range(4, 44, 4))
    assert saves == [12, 24, 36, 40]
    assert [e["lr"] for e in events][:5] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])


def test_loss_falls():
    current = state()
    _, events, _ = run(current, SETTINGS.model_copy(update={"samples": 400}))
    assert np.mean([e["loss"] for e in events[-20:]]) < 0.8 * np.mean([e["loss"] for e in events[:5]])


def test_stopped_and_resumed_is_bit_identical():
    whole = state()
    run(whole)
    part, steps = state(), []
    finished, _, saves = run(part, stop=lambda: steps.append(1) or len(steps) > 5)
    assert not finished
    assert saves[-1] == part.samples == 20
    resumed = state()
    resumed.network.load_state_dict(copy.deepcopy(part.network.state_dict()))
    resumed.optimizer.load_state_dict(copy.deepcopy(part.optimizer.state_dict()))
    resumed.ema.weights, resumed.samples = copy.deepcopy(part.ema.weights), part.samples
    torch.rand(7)  # the global generator plays no part
    run(resumed)
    for key, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[key], value)
        assert torch.equal(resumed.ema.weights[key], whole.ema.weights[key])


def test_the_ends_are_the_first_and_last_quarter_whatever_is_logged():
    current = state()
    _, events, _ = run(current, SETTINGS.model_copy(update={"samples": 32}))
    losses = [e["loss"] for e in events]
    assert current.ends() == (pytest.approx(np.mean(losses[:2])), pytest.approx(np.mean(losses[-2:])))
    assert [steps for _, steps in current.quarters] == [2, 2, 2, 2]
    short = state()
    run(short, SETTINGS.model_copy(update={"samples": 3}))
    assert short.ends() is None


def test_the_seed_matters():
    one, other = state(), state()
    run(one, seed=0)
    run(other, seed=1)
    assert not torch.equal(one.network.conv.weight, other.network.conv.weight)


def test_a_loss_that_is_no_number_stops_before_it_spoils_the_weights():
    current = state()
    current.network.conv.bias.data[0] = float("inf")
    weight = current.network.conv.weight.clone()
    with pytest.raises(TrainingError, match=r"optim\.lr"):
        run(current)
    assert torch.equal(current.network.conv.weight, weight)


@given(st.integers(0, 2**62), st.integers(0, 10**9), st.integers(1, 1000))
def test_neighbouring_seeds_share_nothing(seed, samples, step):
    one, other = mix(seed, samples), mix(seed, samples + step)
    assert 0 <= one < 2**63
    assert one != other
    assert bin(one ^ other).count("1") > 5
