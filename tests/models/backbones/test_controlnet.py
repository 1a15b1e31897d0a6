"""ControlNet against diffusers' own, and that one whose last convolutions are zero is none."""

from dataclasses import replace

import pytest
import torch
from diffusers import ControlNetModel

from models.backbones.controlnet import ControlNet, ControlNetConfig, controlnet_of
from models.backbones.sd_unet import SD15, SD21, SDUNet, SDUNetConfig
from models.layers.checkpointing import checkpointed
from models.layers.frame_attention import frame_attention
from models.layers.latent_diffusion import ResBlock, Transformer2D
from models.pretrained import PretrainedError, load

TINY = ControlNetConfig(
    block_out_channels=(8, 16, 16),
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    layers_per_block=2,
    attention_head_dim=(2, 4, 2),
    cross_attention_dim=12,
    norm_num_groups=4,
    conditioning_embedding_out_channels=(6, 4, 8),
)
UNET = SDUNetConfig(
    **{name: value for name, value in vars(TINY).items() if not name.startswith(("condit", "control"))},
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
)


def random_state(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.2 * torch.randn(tensor.shape, dtype=torch.float64, generator=generator)
        for name, tensor in network.state_dict().items()
    }


def network(made):
    """In float64, and every number random."""
    made = made.double()
    made.load_state_dict(random_state(made))
    return made


def inputs(b=2, h=8, w=12, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(b, 4, h, w, dtype=torch.float64, generator=generator)
    context = torch.randn(b, 5, 12, dtype=torch.float64, generator=generator)
    picture = torch.rand(b, 3, 4 * h, 4 * w, dtype=torch.float64, generator=generator)
    return x, torch.linspace(999, 7, b).round(), context, picture


@pytest.mark.parametrize("config", [
    TINY,
    replace(TINY, use_linear_projection=True, layers_per_block=1, controlnet_conditioning_channel_order="bgr"),
], ids=["conv", "linear"])  # fmt: skip
def test_residuals_and_gradients_equal_diffusers(config):
    ours, peer = network(ControlNet(config)), ControlNetModel(**vars(config)).double()
    peer.load_state_dict(ours.state_dict())
    x, t, context, picture = inputs()
    given = [x.requires_grad_(), context.requires_grad_(), picture.requires_grad_()]
    out = ours(x, t, context, picture, scale=0.7)
    expected = peer(x, t, context, picture, conditioning_scale=0.7)
    pairs = list(zip([*out.down, out.mid], [*expected.down_block_res_samples, expected.mid_block_res_sample],
                     strict=True))  # fmt: skip
    for mine, other in pairs:
        assert mine.std() > 0.01
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)
    parameters = dict(peer.named_parameters())
    own = torch.autograd.grad(sum(mine.square().sum() for mine, _ in pairs), [*ours.parameters(), *given])
    theirs = torch.autograd.grad(
        sum(other.square().sum() for _, other in pairs),
        [*(parameters[name] for name, _ in ours.named_parameters()), *given],
    )
    for mine, other in zip(own, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-9)
    assert all(gradient.abs().max() > 0 for gradient in own)


@pytest.mark.parametrize(("unet", "million"), [(SD15, 361.28), (SD21, 364.23)], ids=["1.5", "2.1"])
def test_names_and_shapes_of_the_published_sizes_equal_diffusers(unet, million):
    with torch.device("meta"):
        ours = controlnet_of(SDUNet(unet))
        peer = ControlNetModel(**vars(ours.config))
    shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in peer.state_dict().items()}
    assert round(sum(p.numel() for p in peer.parameters()) / 1e6, 2) == million


def test_a_network_of_diffusers_format_loads_and_computes_the_same(tmp_path):
    peer = ControlNetModel(**vars(TINY))
    peer.load_state_dict({name: tensor.float() for name, tensor in random_state(peer).items()})
    peer.save_pretrained(tmp_path)
    ours, given = load(ControlNet, tmp_path), [tensor.float() for tensor in inputs()]
    assert ours.config == TINY
    torch.testing.assert_close(ours(*given).mid, peer(*given).mid_block_res_sample, rtol=0, atol=1e-5)


def test_a_zero_controlnet_is_none():
    unet, (x, t, context, picture) = network(SDUNet(UNET)), inputs()
    control = network(ControlNet(TINY))
    for conv in (*control.controlnet_down_blocks, control.controlnet_mid_block):
        torch.nn.init.zeros_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
    added = control(x, t, context, picture)
    assert torch.equal(unet(x, t, context, down_residuals=added.down, mid_residual=added.mid), unet(x, t, context))


def test_one_made_from_a_unet_is_its_encoder_and_changes_nothing_until_trained():
    unet, (x, t, context, picture) = network(SDUNet(UNET)), inputs()
    control = controlnet_of(unet, conditioning_embedding_out_channels=(6, 4, 8))
    assert control.config == TINY
    weights = unet.state_dict()
    copied = {name: tensor for name, tensor in control.state_dict().items() if not name.startswith("controlnet_")}
    assert copied.keys() == {
        name for name in weights if not name.startswith(("up_blocks", "conv_norm_out", "conv_out"))
    }
    assert all(torch.equal(tensor, weights[name]) for name, tensor in copied.items())
    added = control(x, t, context, picture)
    assert all(residual.abs().max() == 0 for residual in (*added.down, added.mid))

    optimizer = torch.optim.AdamW(control.parameters(), lr=1e-2)
    plain = unet(x, t, context).detach()
    for _ in range(2):  # the zero convolutions first, then what is before them
        optimizer.zero_grad()
        added = control(x, t, context, picture)
        out = unet(x, t, context, down_residuals=added.down, mid_residual=added.mid)
        (out - plain - 1).square().mean().backward()
        optimizer.step()
    assert control.controlnet_cond_embedding.conv_out.weight.abs().max() > 0
    assert (out - plain).abs().max() > 1e-3
    other = control(x, t, context, picture.flip(3))
    assert (other.mid - control(x, t, context, picture).mid).abs().max() > 0
    assert all(torch.equal(tensor, weights[name]) for name, tensor in unet.state_dict().items())


def test_one_made_from_a_unet_is_a_function_of_its_seed_and_leaves_chance_alone():
    state = torch.random.get_rng_state()
    unet = SDUNet(UNET)
    made = [controlnet_of(unet, seed).controlnet_cond_embedding.conv_in.weight for seed in (1, 1, 2)]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    torch.random.set_rng_state(state)
    SDUNet(UNET)
    expected = torch.rand(1)
    torch.random.set_rng_state(state)
    controlnet_of(SDUNet(UNET))
    assert torch.equal(torch.rand(1), expected)


def test_attend_reaches_every_self_attention():
    control, given, seen = network(ControlNet(TINY)), inputs(), []

    def attend(q, k, v):
        seen.append(q.shape)
        return frame_attention(q, k, v, 2, "first")

    assert (control(*given, attend=attend).mid - control(*given).mid).abs().max() > 1e-6
    assert len(seen) == sum(isinstance(module, Transformer2D) for module in control.modules())


@pytest.mark.parametrize("size", [(16, 24), (32, 44)])
def test_a_picture_of_another_size_is_refused(size):
    x, t, context, _ = inputs()
    with pytest.raises(ValueError, match=r"for latents \(8, 12\): it must be 4 times their size"):
        network(ControlNet(TINY))(x, t, context, torch.zeros(2, 3, *size).double())


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("controlnet_conditioning_channel_order", "gbr"),
        ("global_pool_conditions", True),
        ("class_embed_type", "timestep"),
    ],
)
def test_settings_that_are_not_supported_are_refused_by_name(setting, value):
    with pytest.raises(PretrainedError, match=f"{setting} = {value!r}"):
        ControlNet.from_config({setting: value})


def test_a_unets_folder_is_refused():
    with pytest.raises(PretrainedError, match="UNet2DConditionModel, not of a ControlNetModel"):
        ControlNet.from_config({"_class_name": "UNet2DConditionModel"})


def test_it_compiles_whole_and_runs_in_bfloat16():
    small = replace(TINY, block_out_channels=(8, 8), attention_head_dim=2, layers_per_block=1,
                    down_block_types=TINY.down_block_types[1:])  # fmt: skip
    control, given = network(ControlNet(small)), inputs(h=4, w=4)
    compiled = torch.compile(control, fullgraph=True, backend="eager")
    out = control(*given)
    torch.testing.assert_close(compiled(*given).mid, out.mid)
    x, t, context, picture = given
    low = control.bfloat16()(x.bfloat16(), t, context.bfloat16(), picture.bfloat16())
    assert low.mid.dtype is torch.bfloat16
    assert (low.mid - out.mid).abs().mean() < 0.1 * out.mid.abs().mean()
    assert torch.equal(control(*given).mid, low.mid)


def test_its_residuals_fit_a_unet_of_another_precision():
    control, unet, (x, t, context, picture) = network(ControlNet(TINY)), network(SDUNet(UNET)), inputs()
    added = control(x, t, context, picture)
    low = unet.bfloat16()(x, t, context, down_residuals=added.down, mid_residual=added.mid)
    assert low.dtype is torch.float64


def test_checkpointing_changes_neither_residuals_nor_gradients():
    plain, saving = network(ControlNet(TINY)), checkpointed(network(ControlNet(TINY)), ResBlock, Transformer2D)
    for control in (plain, saving):
        control(*inputs()).mid.square().sum().backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or torch.equal(one.grad, other.grad)
