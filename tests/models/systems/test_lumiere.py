from dataclasses import replace

import pytest
import torch
from torch import nn

from models.backbones.unet import Level, UNet
from models.layers.temporal import TemporalAttention, TemporalDown, TemporalUp
from models.systems import lumiere
from models.systems.recipe import count
from tests.models.systems.checks import (
    compiles,
    noise,
    page_holds,
    randomised,
    runs_in_bf16,
    same_when_checkpointed,
    wakes_up,
)

LABEL = torch.tensor([-0.3, 0.6], dtype=torch.float64)
TEXT = noise(2, 4, 12, seed=5)


@pytest.fixture(scope="module")
def image():
    return randomised(UNet(lumiere.TINY.base))


@pytest.fixture(scope="module")
def networks():
    return nn.ModuleDict({name: randomised(net, scale=0.1) for name, net in lumiere.tiny().items()})


def clip(t=8, b=2, size=8, seed=1):
    return noise(b, 3, t, size, size, seed=seed)


def per_frame(network, x, **told):
    return torch.stack([network(x[:, :, i], LABEL, **told) for i in range(x.shape[2])], dim=2)


@pytest.mark.parametrize("frames", [1, 2, 5, 8])
def test_down_then_up_in_time_keeps_a_constant_clip_constant_ends_included(frames):
    down, up = TemporalDown(6).double(), TemporalUp(6).double()
    still = noise(2, 1, 6, 3, 4).expand(-1, frames, -1, -1, -1).flatten(0, 1)
    torch.testing.assert_close(up(down(still, frames), frames), still, rtol=0, atol=1e-12)


def test_a_constant_clip_stays_what_the_image_network_makes_of_it(image):
    network, still = lumiere.space_time(image), clip(1).expand(-1, -1, 7, -1, -1)
    torch.testing.assert_close(network(still, LABEL, text=TEXT), per_frame(image, still, text=TEXT), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("frames", "lengths"), [(8, [8, 4, 2]), (7, [7, 4, 2])])
def test_the_bottleneck_has_the_frames_halved_at_every_level(image, frames, lengths):
    """T / 2^k, rounded up."""
    network, seen = lumiere.space_time(image), []
    parts = [*(level[0] for level in network.down), network.middle]
    for part in parts:
        part.register_forward_pre_hook(lambda _, args: seen.append((args[1].frames, len(args[0]))))
    out = network(clip(frames), LABEL)
    assert seen == [(n, 2 * n) for n in [*lengths, lengths[-1]]]
    assert out.shape == clip(frames).shape


def test_both_inflation_blocks_are_exact_at_step_0(image):
    x = noise(8, 16, 5, 6)
    conv = randomised(lumiere.SpaceTimeConv(16))
    attention = randomised(lumiere.TimeAttentions(16, 8, 2))
    for layer in (conv.projection, *(part.out for part in attention.layers)):
        for parameter in layer.parameters():
            parameter.data.zero_()
    assert torch.equal(conv(x, 4), x)
    assert torch.equal(attention(x, 4), x)
    randomised(conv)
    randomised(conv.time, scale=0.0)
    assert torch.equal(conv(x, 4), conv(x, 1))  # but for the convolution over time every frame is for itself
    new = lumiere.tiny()["base"]
    outputs = [m.projection for m in new.modules() if isinstance(m, lumiere.SpaceTimeConv)]
    outputs += [m.out for m in new.modules() if isinstance(m, TemporalAttention)]
    assert len(outputs) > 10
    assert all(p.abs().max() == 0 for layer in outputs for p in layer.parameters())
    # and with every other layer in place, on distinct frames
    network, frames = lumiere.space_time(image, shorter=False), clip()
    expected = per_frame(image, frames, text=TEXT)
    assert (expected[:, :, 0] - expected[:, :, 1]).abs().max() > 0.1
    torch.testing.assert_close(network(frames, LABEL, text=TEXT), expected, rtol=0, atol=1e-11)


def test_attention_over_time_is_at_the_coarsest_level_only_and_convolutions_everywhere():
    network = lumiere.space_time(UNet(replace(lumiere.TINY.base, attention_levels=(0, 1, 2))))
    with_time = {name for name, m in network.named_modules() if isinstance(m, lumiere.TimeAttentions)}
    assert with_time == {"down.2.0.attention.temporal", "middle.attention.temporal"} | {
        f"up.0.{i}.attention.temporal" for i in range(2)
    }
    blocks = [m for m in network.modules() if isinstance(m, Level)]
    assert all(isinstance(level.block.temporal, lumiere.SpaceTimeConv) for level in blocks)


def test_the_text_to_image_layers_are_frozen_and_the_temporal_branch_wakes_up(image):
    """The pretrained parameters stay bit for bit; every new one moves."""
    network = lumiere.space_time(image)
    own = dict(image.named_parameters())
    trained = lumiere.SYSTEM.stage("base-video").prepare(network)
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == set(own)
    assert all(torch.equal(network.get_parameter(name), p) for name, p in own.items())
    wakes_up(network, trained, lambda x: network(x, LABEL, text=TEXT), clip(5))


def test_the_new_layers_of_the_enlarging_network_wake_up():
    image = randomised(UNet(lumiere.TINY.ssr))
    network = lumiere.space_time(image, shorter=False)
    told = {"extra": clip(4, seed=7), "labels": {"augmentation": LABEL}}
    trained = lumiere.SYSTEM.stage("ssr-video").prepare(network)
    wakes_up(network, trained, lambda x: network(x, LABEL, **told), clip(4))


def test_every_stage_on_video_starts_from_its_image_stage():
    stages = {s.name: s for s in lumiere.STAGES}
    assert {s.parent for s in stages.values() if s.data == ("text-videos",)} == {"base-images", "ssr-images"}
    assert all(stages[s.parent].network == s.network for s in stages.values() if s.parent)


def test_the_windows_of_the_enlarging_network_make_one_video(networks):
    """Six frames by windows of four: of one window's frames alone the other's are no copy, and all of them are made."""
    sizes, video = lumiere.TINY_SIZES, clip(6)
    calls = []
    handle = networks["ssr"].register_forward_pre_hook(lambda _, args: calls.append(args[0].shape[2]))
    out = lumiere.enlarge(networks["ssr"], video, sizes, torch.Generator().manual_seed(0), 2, TEXT, scale=2.0)
    handle.remove()
    assert out.shape == (2, 3, 6, 16, 16)
    assert calls == [4, 4] * 2
    other = video.clone()
    other[:, :, 5] += 1  # seen by the second window alone, frames 2 to 5
    again = lumiere.enlarge(networks["ssr"], other, sizes, torch.Generator().manual_seed(0), 2, TEXT, scale=2.0)
    changed = (again - out).abs().amax((0, 1, 3, 4))
    assert changed[2:].min() > 1e-9


def test_a_sample_is_drawn_whole_then_enlarged(networks):
    drawn = [
        lumiere.sample(networks, text, lumiere.TINY_SIZES, torch.Generator().manual_seed(0), steps=2)
        for text in (TEXT, -TEXT)
    ]
    assert drawn[0].shape == (2, 3, 6, 16, 16)
    assert drawn[0].isfinite().all()
    assert (drawn[0] - drawn[1]).abs().max() > 1e-6


def test_the_paper_s_video_is_80_frames_for_five_seconds():
    sizes = lumiere.Sizes()
    assert sizes.frames / sizes.fps == 5
    assert (sizes.small, sizes.large) == (128, 1024)


def test_the_networks_compile():
    small = replace(lumiere.TINY.base, multipliers=(1, 1), attention_levels=())
    compiles(randomised(lumiere.space_time(UNet(small))), clip(3), LABEL, text=TEXT)


def test_the_networks_run_in_bf16(networks):
    runs_in_bf16(networks["base"], clip(5), LABEL, text=TEXT)
    runs_in_bf16(networks["ssr"], clip(4), LABEL, extra=clip(4, seed=3), labels={"augmentation": LABEL})


def test_checkpointing_changes_nothing(networks):
    same_when_checkpointed(networks["base"], Level, clip(5), LABEL, text=TEXT)


def test_the_paper_size_is_counted_without_memory():
    with torch.device("meta"):
        assert 3e9 < count(lumiere.paper()) < 4e9
    assert not lumiere.SYSTEM.published
    assert lumiere.SYSTEM.unpublished


def test_the_page_runs_and_its_tests_exist():
    assert page_holds("lumiere", lumiere.SYSTEM)["video"].shape == (1, 3, 6, 16, 16)
