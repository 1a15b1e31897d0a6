"""Networks by the name of a system."""

import json
from dataclasses import replace

import pytest
import torch

from models.backbones.dit import Block
from models.backbones.unet import Level, UNet, UNetConfig
from models.layers.temporal import Mix
from models.systems import svd
from tests.models.systems.checks import stays_in_bf16
from training.config import ModelSettings
from training.names import SystemName
from training.networks import PARTS, Blended, described, is_grown, rebuilt, taken_apart, transformer
from training.structure import blurred_brightness

TINY = UNetConfig(width=16, multipliers=(1, 2), attention_levels=(1,), text_dim=12, head_dim=8)
VIDEO = [s for s in SystemName if s != SystemName.control_video]
INFLATED = [s for s in VIDEO if s not in (SystemName.dit, SystemName.gen1, SystemName.tune_a_video)]


@pytest.mark.parametrize("system", SystemName)
def test_a_checkpoint_s_description_makes_the_same_network_again(system):
    video = PARTS[system].grow(PARTS[system].image(TINY), 3)
    sizes = replace(TINY, temporal=system != SystemName.control_video)
    description = json.loads(json.dumps(described(system, sizes)))
    assert taken_apart(description) == (system, sizes)
    assert is_grown(system, sizes)
    again = rebuilt(*taken_apart(description))
    again.load_state_dict(video.state_dict())
    x, told = torch.randn(1, 3, 4, 8, 8), {}
    if system == SystemName.control_video:
        x = x[:, :, 0]
        told["picture"] = blurred_brightness(x)
    assert torch.equal(again(x, torch.zeros(1), **told), video(x, torch.zeros(1), **told))


@pytest.mark.parametrize("temporal", [False, True])
@pytest.mark.parametrize("system", SystemName)
def test_every_network_can_be_made_on_the_meta_device_and_has_no_0_dim_parameter(system, temporal):
    sizes = replace(TINY, temporal=temporal)
    with torch.device("meta"):
        made = rebuilt(system, sizes, 0)
    assert all(t.is_meta and t.ndim for t in [*made.parameters(), *made.buffers()])
    state = rebuilt(system, sizes, 0).state_dict()
    assert {name: t.shape for name, t in made.state_dict().items()} == {name: t.shape for name, t in state.items()}
    made.load_state_dict(state, assign=True)
    assert not any(t.is_meta for t in [*made.parameters(), *made.buffers()])


@pytest.mark.parametrize("system", [SystemName.video_ldm, SystemName.svd])
def test_weights_with_a_0_dim_factor_still_load(system):
    sizes = replace(TINY, temporal=True)
    made, other = rebuilt(system, sizes, 0), rebuilt(system, sizes, 1)
    for module in made.modules():
        if isinstance(module, Mix):
            torch.nn.init.constant_(module.factor, 0.25)
    old = {name: t.reshape(()) if name.endswith("mix.factor") else t for name, t in made.state_dict().items()}
    other.load_state_dict(old)
    assert all(torch.equal(other.state_dict()[name], t) for name, t in made.state_dict().items())


@pytest.mark.parametrize("system", VIDEO)
def test_layers_stay_in_bfloat16_under_autocast(system):
    network, told = rebuilt(system, replace(TINY, temporal=True), 0), {"text": torch.randn(2, 3, 12)}
    if system == SystemName.gen1:
        told = {"content": torch.randn(2, 12), "structure": torch.randn(2, 1, 4, 8, 8), "blur": torch.ones(2)}
    stays_in_bf16(network, (Level, Block, Mix), torch.randn(2, 3, 4, 8, 8), torch.zeros(2), **told)


@pytest.mark.parametrize("system", [SystemName.vdm, SystemName.imagen_video, SystemName.make_a_video, SystemName.svd])
def test_a_new_video_network_computes_what_the_image_network_does(system):
    torch.manual_seed(0)
    image = UNet(TINY).double()
    for parameter in image.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x = torch.randn(1, 3, 4, 8, 8, dtype=torch.float64)
    each = image(x[0].transpose(0, 1), torch.zeros(4, dtype=torch.float64)).transpose(0, 1)[None]
    video = PARTS[system].grow(image, 0)(x, torch.zeros(1, dtype=torch.float64))
    assert (video - each).abs().max() < 1e-12


def test_systems_differ_in_their_temporal_layers_alone():
    image = UNet(TINY)
    names = {system: frozenset(PARTS[system].grow(image, 0).state_dict()) for system in INFLATED}
    assert all({name for name in each if "temporal" not in name} == set(image.state_dict()) for each in names.values())
    assert names[SystemName.vdm] == names[SystemName.imagen_video]  # whose base model has VDM's layers
    assert names[SystemName.video_ldm] == names[SystemName.svd]  # of the same kinds, which start otherwise
    assert len(set(names.values())) == len(names) - 2


def test_svd_s_layers_are_mixed_in_as_its_own():
    video = PARTS[SystemName.svd].grow(UNet(TINY), 0)
    shares = [module.alpha.item() for module in video.modules() if isinstance(module, Mix)]
    own = svd.tiny()["video"].state_dict()
    (share,) = {round(value.sigmoid().item(), 6) for name, value in own.items() if name.endswith("mix_factor")}
    assert shares == pytest.approx([share] * len(shares))
    layers = [layer for layer in video.modules() if "temporal" in dict(layer.named_children())]
    assert len(shares) == sum(layer.temporal is not None for layer in layers)
    x, frames = torch.randn(4, 16, 8, 8), 4
    for layer in (Blended(8).block(16), Blended(8).attention(16, 0)):
        assert torch.allclose(layer(x, frames), x, atol=1e-6)
        layer(x, frames).square().sum().backward()
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in layer.parameters())


def test_a_transformer_is_as_large_as_the_u_net_in_its_place():
    config = transformer(UNetConfig(width=24, multipliers=(1, 2, 3), attention_levels=(1, 2), head_dim=24)).config
    assert (config.width, config.depth, config.head_dim, config.patch) == (96, 10, 24, (1, 4, 4))
    assert transformer(replace(TINY, attention_levels=())).config.patch == (1, 4, 4)


def test_new_weights_are_drawn_from_the_seed_and_leave_chance_alone():
    state = torch.random.get_rng_state()
    for system in (SystemName.svd, SystemName.control_video, SystemName.gen1, SystemName.dit):
        sizes = replace(taken_apart(ModelSettings(width=16, head_dim=16).model_dump())[1], temporal=True)
        one, same, other = (rebuilt(system, sizes, seed).state_dict() for seed in (0, 0, 1))
        assert all(torch.equal(one[k], same[k]) for k in one)
        assert any(not torch.equal(one[k], other[k]) for k in one)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_description_without_a_system_is_make_a_video_s():
    assert taken_apart({"width": 16, "temporal": True})[0] == SystemName.make_a_video
