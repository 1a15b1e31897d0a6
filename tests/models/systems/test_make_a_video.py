from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.backbones.unet import Level, UNet, inflate
from models.layers.temporal import TemporalAttention, TemporalConv
from models.systems import make_a_video as mav
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
EMBEDDING = noise(2, 12, seed=5)
FPS = torch.tensor([4.0, 8.0], dtype=torch.float64)
SIZES = mav.TINY_SIZES


@pytest.fixture(scope="module")
def image_decoder():
    return randomised(UNet(mav.TINY.decoder))


@pytest.fixture(scope="module")
def networks():
    return nn.ModuleDict({name: randomised(net) for name, net in mav.tiny().items()})


def clip(t=4, b=2, size=8, seed=1):
    return noise(b, 3, t, size, size, seed=seed)


def test_inflation_is_exact_at_step_0_on_distinct_frames(image_decoder):
    x, told = clip(), {"text": EMBEDDING[:, None], "fps": FPS}
    frames = [image_decoder(x[:, :, i], LABEL, **told) for i in range(4)]
    assert (frames[0] - frames[1]).abs().max() > 0.1
    video = inflate(image_decoder)(x, LABEL, **told)
    torch.testing.assert_close(video, torch.stack(frames, dim=2), rtol=0, atol=1e-12)


def test_a_new_temporal_convolution_is_one_with_a_dirac_kernel():
    """x + conv(x) with a kernel of zeros is the convolution of x with a one in the middle; any weights, any frames."""
    layer, x = TemporalConv(6).double(), noise(8, 6, 3, 5)
    kernel = nn.init.dirac_(torch.empty(6, 6, 3, dtype=torch.float64))

    def oracle(weight, bias):
        rows = x.reshape(2, 4, 6, 15).permute(0, 3, 2, 1).flatten(0, 1)  # (b h w) c t
        out = F.conv1d(rows, weight, bias, padding=1).unflatten(0, (2, 15))
        return out.permute(0, 3, 2, 1).reshape(x.shape)

    torch.testing.assert_close(layer(x, 4), oracle(kernel, None), rtol=0, atol=0)
    randomised(layer)
    weight = kernel + layer.conv.weight.detach()[..., 0]
    torch.testing.assert_close(layer(x, 4), oracle(weight, layer.conv.bias), rtol=0, atol=1e-12)


def test_new_temporal_attention_is_zero_in_weight_and_bias():
    network = mav.tiny()["decoder"]
    attentions = [m for m in network.modules() if isinstance(m, TemporalAttention)]
    assert len(attentions) == 4
    assert all(p.abs().max() == 0 for layer in attentions for p in layer.out.parameters())


def test_every_convolution_and_attention_over_space_has_its_layer_in_time():
    network = mav.tiny()["sr_low"]
    names = [name for name, _ in network.named_modules()]
    hosts = {n.rsplit(".", 1)[0] for n in names if n.endswith((".spatial", ".kv"))}
    hosts = {h for h in hosts if ".temporal" not in h}
    assert len(hosts) > 15
    assert all(isinstance(network.get_submodule(f"{h}.temporal"), TemporalConv | TemporalAttention) for h in hosts)


def test_stage_one_sees_no_text_video_pair_and_new_layers_learn_from_unlabeled_video():
    data = {stage.name: stage.data for stage in mav.STAGES}
    assert not any("text-videos" in kinds for kinds in data.values())
    assert {name for name, kinds in data.items() if "text-images" in kinds} == {"prior-images"}
    first = {s.name for s in mav.STAGES if s.parent is None}
    assert first == {"prior-images", "decoder-images", "sr_low-images", "sr_high-images"}
    assert all(data[name] in {("images",), ("text-images",)} for name in first)
    assert {s.name: s.parent for s in mav.STAGES if s.parent} == {
        "decoder-video": "decoder-images",
        "sr_low-video": "sr_low-images",
        "interpolation-video": "decoder-video",
    }
    assert all(s.data == ("videos",) for s in mav.STAGES if s.parent)
    networks = mav.tiny()
    for name in ("decoder-video", "sr_low-video"):
        stage = mav.SYSTEM.stage(name)
        network = networks[stage.network]
        assert isinstance(network, UNet)
        assert {id(p) for p in stage.parameters(network)} == {id(p) for p in network.temporal_parameters()}


@pytest.mark.parametrize("name", ["decoder", "sr_low"])
def test_the_temporal_branch_wakes_up(name):
    config = getattr(mav.TINY, name)
    network = inflate(randomised(UNet(config)))
    told = {"text": EMBEDDING[:, None], "fps": FPS}
    if config.extra_channels:
        told["extra"] = clip(seed=7)
    trained = mav.SYSTEM.stage(f"{name}-video").prepare(network)
    wakes_up(network, trained, lambda x: network(x, LABEL, **told), clip())


def test_interpolation_starts_as_the_decoder(networks):
    decoder = networks["decoder"]
    network, x = mav.interpolator(decoder), clip()
    assert next(network.parameters()).dtype == torch.float64
    told = {"text": EMBEDDING[:, None], "fps": FPS}
    out = network(x, LABEL, extra=noise(2, 4, 4, 8, 8), **told)
    torch.testing.assert_close(out, decoder(x, LABEL, **told), rtol=0, atol=1e-12)
    own = dict(decoder.named_parameters())
    assert {n for n, _ in network.named_parameters() if n not in own} == {"extra.weight", "extra.bias"}


def test_interpolation_passes_given_frames_through_and_fills_the_others(networks):
    x = clip(3)
    out = mav.interpolate(networks["interpolation"], x, EMBEDDING, 2, torch.Generator().manual_seed(0), 3, FPS)
    assert out.shape == (2, 3, 5, 8, 8)
    torch.testing.assert_close(out[:, :, ::2], x, rtol=0, atol=1e-12)
    other = x.clone()
    other[:, :, 1] += 1
    again = mav.interpolate(networks["interpolation"], other, EMBEDDING, 2, torch.Generator().manual_seed(0), 3, FPS)
    assert (again - out)[:, :, 1::2].abs().amax((0, 1, 3, 4)).min() > 1e-5  # both in-betweens see it


def test_interpolation_is_told_the_given_frames_and_the_rate(networks):
    x, seen = clip(3), []
    network = networks["interpolation"]
    handle = network.register_forward_pre_hook(lambda _, args, told: seen.append(told), with_kwargs=True)
    mav.interpolate(network, x, EMBEDDING, 2, torch.Generator().manual_seed(0), 2, FPS)
    handle.remove()
    assert len(seen) == 2
    for told in seen:
        assert torch.equal(told["extra"][:, :3, ::2], x)
        assert told["extra"][:, 3, :, 0, 0].tolist() == [[0, 1, 0, 1, 0]] * 2
        assert torch.equal(told["fps"], FPS)


def test_masked_frames_are_zeros_under_a_mask_of_one():
    x, known = clip(3), torch.tensor([True, False, True])
    given = mav.masked(x, known)
    assert torch.equal(given[:, :3, ::2], x[:, :, ::2])
    assert given[:, :3, 1].abs().max() == 0
    assert given[:, 3].amax((0, 2, 3)).tolist() == [0, 1, 0]


def test_the_paper_s_sixteen_frames_become_76():
    sizes = mav.Sizes()
    assert (sizes.frames - 1) * sizes.skip + 1 == 76
    assert (sizes.small, sizes.middle, sizes.large) == (64, 256, 768)


def test_the_last_enlargement_sees_one_frame_and_the_same_noise_for_all(networks):
    x, network = clip(3, size=16), networks["sr_high"]
    out = mav.enlarge_frames(network, x, 32, torch.Generator().manual_seed(0), 2)
    other = x.clone()
    other[:, :, 1] += 1
    again = mav.enlarge_frames(network, other, 32, torch.Generator().manual_seed(0), 2)
    changed = (again - out).abs().amax((0, 1, 3, 4))
    assert changed[1] > 1e-3
    assert changed[[0, 2]].max() < 1e-12
    still = mav.enlarge_frames(network, x[:, :, :1].expand(-1, -1, 3, -1, -1), 32, torch.Generator().manual_seed(0), 2)
    torch.testing.assert_close(still, still[:, :, :1].expand_as(still), rtol=0, atol=1e-12)
    low = mav.enlarge(networks["sr_low"], clip(3), 16, torch.Generator().manual_seed(0), 2)
    moved = mav.enlarge(
        networks["sr_low"], clip(3).index_fill(2, torch.tensor(0), 0.0), 16, torch.Generator().manual_seed(0), 2
    )
    assert (moved - low)[:, :, 2].abs().max() > 1e-6  # the enlargement before it sees all frames


def test_the_order_is_prior_decoder_interpolation_and_two_enlargements(networks):
    """SR_h . SR_l^t . up_F . D^t . P, and each network's pixels."""
    calls = []
    handles = [
        network.register_forward_pre_hook(lambda _, args, name=name: calls.append((name, tuple(args[0].shape))))
        for name, network in networks.items()
    ]
    tokens = torch.tensor([[1, 2, 3]])
    out = mav.sample(networks, tokens, EMBEDDING[:1], SIZES, torch.Generator().manual_seed(0), steps=1, scale=2.0)
    for handle in handles:
        handle.remove()
    assert calls == [
        ("prior", (1, 12)),
        ("decoder", (2, 3, 3, 8, 8)),  # with and without the embedding
        ("interpolation", (1, 3, 5, 8, 8)),
        ("sr_low", (1, 3, 5, 16, 16)),
        ("sr_high", (5, 3, 32, 32)),
    ]
    assert out.shape == (1, 3, 5, 32, 32)


def test_the_text_reaches_the_video(networks):
    def drawn(tokens, text):
        return mav.sample(networks, tokens, text, SIZES, torch.Generator().manual_seed(0), steps=2)

    tokens = torch.tensor([[1, 2, 3]])
    video = drawn(tokens, EMBEDDING[:1])
    assert (drawn(tokens + 1, EMBEDDING[:1]) - video).abs().max() > 1e-8
    assert (drawn(tokens, EMBEDDING[1:]) - video).abs().max() > 1e-6


def test_each_part_s_loss_can_be_trained():
    networks, video, told = mav.tiny(), clip(3, size=16).float(), {}
    small = mav.small_of(video, 8)
    assert small.shape == video.shape
    for stage in mav.STAGES:
        x = video if stage.data == ("videos",) else video[:, :, 0]
        told = {
            "prior": {"tokens": torch.tensor([[1, 2], [3, 4]]), "text": EMBEDDING.float()},
            "decoder": {"text": EMBEDDING.float()[:, None]},
            "sr_low": {"extra": small if x.ndim == 5 else small[:, :, 0]},
            "sr_high": {"extra": small[:, :, 0]},
            "interpolation": {"extra": mav.masked(video, torch.tensor([True, False, True]))},
        }[stage.network]
        x = EMBEDDING.float() if stage.network == "prior" else x
        trained = stage.prepare(networks[stage.network])
        loss = stage.loss(networks[stage.network], x, torch.Generator().manual_seed(0), **told)
        assert loss.shape == (2,)
        loss.mean().backward()
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in trained)


def test_the_networks_compile():
    shallow = UNet(replace(mav.TINY.sr_low, attention_levels=(), multipliers=(1,)))
    compiles(randomised(inflate(shallow)), clip(3), LABEL, extra=clip(3), fps=FPS)


def test_the_networks_run_in_bf16(networks):
    extra = mav.masked(clip(3), torch.tensor([True, False, True]))
    runs_in_bf16(networks["interpolation"], clip(3), LABEL, extra=extra, text=EMBEDDING[:, None])
    runs_in_bf16(networks["sr_high"], clip()[:, :, 0], LABEL, extra=clip()[:, :, 1])


def test_checkpointing_changes_nothing(networks):
    same_when_checkpointed(networks["decoder"], Level, clip(3), LABEL, text=EMBEDDING[:, None])


def test_the_paper_size_is_counted_without_memory():
    with torch.device("meta"):
        assert count(mav.paper()) > 7e9
    assert not mav.SYSTEM.published
    assert mav.SYSTEM.unpublished


def test_the_page_runs_and_its_tests_exist():
    assert page_holds("make_a_video", mav.SYSTEM)["video"].shape == (1, 3, 5, 32, 32)


@pytest.mark.parametrize("skip", [0, -2])
def test_a_skip_below_one_is_refused(networks, skip):
    with pytest.raises(ValueError, match=f"a skip of {skip}"):
        mav.interpolate(networks["interpolation"], clip(2), EMBEDDING, skip, torch.Generator(), 1, FPS)


def test_rates_are_exact_in_bfloat16(networks):
    rates = []
    low = {name: deepcopy(network).bfloat16() for name, network in networks.items()}
    for name in ("decoder", "interpolation"):
        low[name].register_forward_pre_hook(lambda _, args, told: rates.append(told["fps"]), with_kwargs=True)
    tokens, text = torch.tensor([[3, 7, 1]]), EMBEDDING[:1].bfloat16()
    mav.sample(low, tokens, text, SIZES, torch.Generator().manual_seed(0), steps=1, fps=23.976, scale=1.0)
    assert [rate.tolist() for rate in rates] == [[pytest.approx(23.976)], [pytest.approx(23.976 * SIZES.skip)]]
