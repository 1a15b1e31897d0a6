"""Stable Diffusion's U-Net against diffusers' own: names, outputs and gradients with every weight random."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel

from models.backbones.sd_unet import FIXED, SD15, SD21, SDUNet, SDUNetConfig
from models.layers.checkpointing import checkpointed
from models.layers.frame_attention import frame_attention
from models.layers.latent_diffusion import ResBlock, Transformer2D
from models.layers.u_shape import DownBlock
from models.pretrained import PretrainedError, load, tuples

TINY = SDUNetConfig(
    block_out_channels=(8, 16, 16),
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=2,
    attention_head_dim=(2, 4, 2),
    cross_attention_dim=12,
    norm_num_groups=4,
)
ODD = replace(  # attention elsewhere, one number of heads, one layer, other groups and epsilon
    TINY,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    attention_head_dim=4,
    norm_num_groups=8,
    norm_eps=1e-3,
    in_channels=5,
    out_channels=3,
)
CONFIGS = [TINY, replace(TINY, use_linear_projection=True), ODD]


def peer_of(config):
    return UNet2DConditionModel(**vars(config))


def random_state(network, seed=0):
    """Every number random, so that nothing that starts at zero, one or a half hides anything."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.2 * torch.randn(tensor.shape, dtype=torch.float64, generator=generator)
        for name, tensor in network.state_dict().items()
    }


def network(config=TINY):
    made = SDUNet(config).double()
    made.load_state_dict(random_state(made))
    return made


def inputs(config=TINY, b=2, h=12, w=16, seed=1):
    """Pictures, timesteps and contexts, all distinct."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(b, config.in_channels, h, w, dtype=torch.float64, generator=generator)
    context = torch.randn(b, 5, config.cross_attention_dim, dtype=torch.float64, generator=generator)
    return x, torch.linspace(999, 7, b).round(), context


@pytest.mark.parametrize("config", CONFIGS, ids=["conv", "linear", "odd"])
@pytest.mark.parametrize("size", [(12, 16), (5, 7)])  # what the levels halve evenly, and what they do not
def test_output_and_gradients_equal_diffusers(config, size):
    ours, peer = network(config), peer_of(config).double()
    peer.load_state_dict(ours.state_dict())
    x, t, context = inputs(config, h=size[0], w=size[1])
    given = [x.requires_grad_(), context.requires_grad_()]
    out, expected = ours(x, t, context), peer(x, t, context).sample
    assert out.std() > 0.1
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
    weight = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    own = torch.autograd.grad((out * weight).sum(), [*ours.parameters(), *given])
    theirs = torch.autograd.grad((expected * weight).sum(), [*dict(ours_to(peer, ours)).values(), *given])
    for mine, other in zip(own, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-9)
    assert all(gradient.abs().max() > 0 for gradient in own)


def ours_to(peer, ours):
    """The peer's parameters in the order of ours."""
    parameters = dict(peer.named_parameters())
    return [(name, parameters[name]) for name, _ in ours.named_parameters()]


@pytest.mark.parametrize(("config", "million"), [(SD15, 859.52), (SD21, 865.91)], ids=["1.5", "2.1"])
def test_names_and_shapes_of_the_published_sizes_equal_diffusers(config, million):
    with torch.device("meta"):
        ours, peer = SDUNet(config), peer_of(config)
    shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in peer.state_dict().items()}
    assert round(sum(p.numel() for p in peer.parameters()) / 1e6, 2) == million


def test_a_network_of_diffusers_format_loads_and_computes_the_same(tmp_path):
    peer = peer_of(CONFIGS[1])
    peer.load_state_dict({name: tensor.float() for name, tensor in random_state(peer).items()})
    peer.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*-of-*.safetensors"))) > 2
    ours = load(SDUNet, tmp_path)
    assert ours.config == CONFIGS[1]
    x, t, context = (tensor.float() for tensor in inputs())
    torch.testing.assert_close(ours(x, t, context), peer(x, t, context).sample, rtol=0, atol=1e-5)


def test_the_fp16_variant_loads(tmp_path):
    peer = peer_of(TINY).half()
    peer.save_pretrained(tmp_path, variant="fp16")
    ours = load(SDUNet, tmp_path, variant="fp16", dtype=torch.float32)
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    x, t, context = (tensor.float() for tensor in inputs())
    torch.testing.assert_close(ours(x, t, context), peer.float()(x, t, context).sample, rtol=0, atol=1e-5)


def test_a_configuration_of_an_early_release_is_1_5():
    """What the format said when 1.5 was published: later settings are not in it."""
    early = {
        "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu", "attention_head_dim": 8,
        "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": False, "cross_attention_dim": 768,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "downsample_padding": 1,
        "flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1,
        "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    }  # fmt: skip
    with torch.device("meta"):
        assert SDUNet.from_config(early).config == SD15


def test_settings_not_said_are_the_formats_defaults():
    with torch.device("meta"):
        ours, peer = SDUNet.from_config({}), UNet2DConditionModel()
    assert {**vars(ours.config)} == {name: tuples(peer.config[name]) for name in vars(ours.config)}
    assert all(tuples(peer.config[name]) in (value, *(value if isinstance(value, tuple) else ()))
               for name, value in FIXED.items())  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("class_embed_type", "timestep"),  # 2.1's unCLIP
        ("addition_embed_type", "text_time"),  # XL
        ("transformer_layers_per_block", [1, 2, 10]),
        ("mid_block_type", None),
        ("only_cross_attention", [True, True, False, False]),
        ("time_cond_proj_dim", 256),  # latent consistency models
        ("act_fn", "gelu"),
    ],
)
def test_settings_of_other_networks_are_refused_by_name(setting, value):
    with pytest.raises(PretrainedError, match=f"not supported here: {setting} ="):
        SDUNet.from_config({setting: value})


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"down_block_types": ["SimpleCrossAttnDownBlock2D"] * 4}, "SimpleCrossAttnDownBlock2D"),
        ({"up_block_types": ["AttnUpBlock2D", *["UpBlock2D"] * 3]}, "AttnUpBlock2D"),
        ({"block_out_channels": [320, 640]}, "2 levels do not fit 4 blocks"),
        ({"attention_head_dim": [8, 8]}, "4 levels do not fit 4 blocks and 2 numbers"),
        ({"attention_head_dim": 7}, "attention_head_dim: 320 channels do not give 7 heads"),
        ({"attention_head_dim": 0}, "attention_head_dim = 0"),
        ({"norm_num_groups": 33}, "norm_num_groups: 320 channels do not give 33 groups"),
        ({"layers_per_block": [2, 2, 2, 2]}, "layers_per_block ="),
        ({"cross_attention_dim": [768] * 4}, "cross_attention_dim ="),
        ({"block_out_channels": None}, "block_out_channels ="),
        ({"in_channels": "4"}, "in_channels = '4'"),
        ({"in_channels": -4}, "in_channels = -4"),
        ({"norm_eps": "x"}, "norm_eps = 'x'"),
    ],
)
def test_levels_that_do_not_fit_are_refused(settings, match):
    with pytest.raises(PretrainedError, match=match):
        SDUNet.from_config(settings)


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="8 channels do not give 3 heads"):
        SDUNet(replace(TINY, attention_head_dim=3))


def test_frames_may_share_a_timestep_and_a_context():
    net, (x, t, context) = network(), inputs(b=6)
    few = net(x, t[::3], context[::3])  # two videos of three frames
    torch.testing.assert_close(few, net(x, t[::3].repeat_interleave(3), context[::3].repeat_interleave(3, 0)))


def test_attend_takes_the_place_of_every_self_attention_and_of_nothing_else():
    net, given = network(), inputs()
    seen = []

    def attend(q, k, v):
        seen.append((q.shape, k.shape))
        return F.scaled_dot_product_attention(q, k, v)

    assert torch.equal(net(*given, attend=attend), net(*given))
    selves = sum(isinstance(module, Transformer2D) for module in net.modules())
    assert len(seen) == selves == 2 * 2 + 1 + 2 * 3
    assert all(q == k for q, k in seen)  # cross-attention's keys are the context's
    assert seen[0][0] == (2, 2, 12 * 16, 4)  # b heads n d
    assert (net(*given, attend=lambda q, k, v: v) - net(*given)).abs().max() > 1e-3


def test_attend_over_frames_makes_them_interact():
    net, (x, t, context) = network(), inputs(b=3)
    x.requires_grad_()

    def seen_by(reach):
        """Which frames each frame's output depends on."""
        out = net(x, t[:1], context[:1], attend=lambda q, k, v: frame_attention(q, k, v, 3, reach))
        slopes = [torch.autograd.grad(frame.square().sum(), x, retain_graph=True)[0] for frame in out]
        return torch.stack([slope.abs().amax((1, 2, 3)) > 1e-9 for slope in slopes])

    assert torch.equal(seen_by("own"), torch.eye(3, dtype=torch.bool))
    assert torch.equal(seen_by("first"), torch.eye(3, dtype=torch.bool) | torch.tensor([True, False, False]))
    assert seen_by("all").all()


def test_residuals_of_a_controlnet_are_added_as_diffusers_adds_them():
    ours, given = network(), inputs()
    peer = peer_of(TINY).double()
    peer.load_state_dict(ours.state_dict())
    skips, y = ours.encode(ours.conv_in(given[0]), ours.told(given[1], given[2], None))
    down, mid = [0.3 * torch.randn_like(skip) for skip in skips], 0.3 * torch.randn_like(y)
    out = ours(*given, down_residuals=down, mid_residual=mid)
    expected = peer(*given, down_block_additional_residuals=tuple(down), mid_block_additional_residual=mid).sample
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
    assert (out - ours(*given)).abs().max() > 1e-2
    with pytest.raises(ValueError, match="8 residuals for 9 skips"):
        ours(*given, down_residuals=down[:-1])


def test_it_compiles_whole():
    def attend(q, k, v):
        return frame_attention(q, k, v, 2, "all")

    small = replace(TINY, block_out_channels=(8, 8), attention_head_dim=2, layers_per_block=1,
                    down_block_types=TINY.down_block_types[1:], up_block_types=TINY.up_block_types[:2])  # fmt: skip
    net, given = network(small), inputs(h=4, w=4)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*given, attend=attend), net(*given, attend=attend))


def test_it_runs_in_bfloat16():
    net, (x, t, context) = network(), inputs()
    out = net(x, t, context)
    low = net.bfloat16()(x.bfloat16(), t, context.bfloat16())
    assert low.dtype is torch.bfloat16
    assert (low - out).abs().mean() < 0.1 * out.abs().mean()
    assert torch.equal(net(x, t, context), low.double())  # a sampler's state keeps its digits


@pytest.mark.parametrize("kinds", [(DownBlock,), (ResBlock, Transformer2D)])
def test_checkpointing_changes_neither_output_nor_gradients(kinds):
    net, saving = network(), checkpointed(network(), *kinds)
    assert saving.state_dict().keys() == net.state_dict().keys()
    for made in (net, saving):
        made(*inputs()).square().sum().backward()
    for plain, saved in zip(net.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(plain.grad, saved.grad)
