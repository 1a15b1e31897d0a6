"""Networks by the name of a system."""

import json

import pytest
import torch

from models.backbones.unet import UNet, UNetConfig
from training.config import ModelSettings, SystemName
from training.networks import described, inflated, rebuilt, taken_apart

TINY = UNetConfig(width=16, multipliers=(1, 2), attention_levels=(1,), text_dim=12, head_dim=8)


@pytest.mark.parametrize("system", SystemName)
def test_a_checkpoint_s_description_makes_the_same_network_again(system):
    video = inflated(UNet(TINY), system, seed=3)
    description = json.loads(json.dumps(described(video, system)))
    again = rebuilt(description)
    again.load_state_dict(video.state_dict())
    x, noise = torch.randn(1, 3, 4, 8, 8), torch.zeros(1)
    assert torch.equal(again(x, noise), video(x, noise))
    assert taken_apart(description) == (system, video.config)


def test_systems_differ_in_their_temporal_layers_alone():
    image = UNet(TINY)
    names = [frozenset(inflated(image, system, 0).state_dict()) for system in SystemName]
    assert len(set(names)) == len(names)
    assert all({name for name in each if "temporal" not in name} == set(image.state_dict()) for each in names)


def test_weights_are_drawn_from_the_seed_and_leave_chance_alone():
    state = torch.random.get_rng_state()
    one, same, other = (rebuilt(ModelSettings().model_dump(), seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_description_without_a_system_is_make_a_video_s():
    assert taken_apart({"width": 16, "temporal": True})[0] == SystemName.make_a_video
