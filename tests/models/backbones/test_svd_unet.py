"""Stable Video Diffusion's U-Net against diffusers' own: names, outputs and gradients with every weight random."""

from dataclasses import replace

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel

from models.backbones.svd_unet import (
    SpatioTemporalResBlock,
    SpatioTemporalTransformer,
    SVDUNet,
    SVDUNetConfig,
    TimeMixer,
)
from models.layers.checkpointing import checkpointed
from models.layers.temporal import Mix
from models.pretrained import PretrainedError, load, tuples
from tests.models.systems.checks import stays_in_bf16

TINY = SVDUNetConfig(
    block_out_channels=(32, 64, 32),
    down_block_types=(*("CrossAttnDownBlockSpatioTemporal",) * 2, "DownBlockSpatioTemporal"),
    up_block_types=("UpBlockSpatioTemporal", *("CrossAttnUpBlockSpatioTemporal",) * 2),
    layers_per_block=1,
    num_attention_heads=(2, 4, 8),
    cross_attention_dim=12,
    addition_time_embed_dim=8,
    projection_class_embeddings_input_dim=24,
    num_frames=4,
)
SMALL = replace(  # attention elsewhere, two layers, no picture, two numbers
    TINY,
    block_out_channels=(32, 32),
    down_block_types=("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"),
    up_block_types=("CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
    num_attention_heads=2,
    layers_per_block=2,
    in_channels=4,
    projection_class_embeddings_input_dim=16,
)


def random_state(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.2 * torch.randn(tensor.shape, dtype=torch.float64, generator=generator)
        for name, tensor in network.state_dict().items()
    }


def network(config=TINY):
    made = SVDUNet(config).double()
    made.load_state_dict(random_state(made))
    return made


def inputs(config=TINY, b=2, t=3, h=4, w=8, seed=1):
    """Random, distinct frames; noise labels from the cleanest to the noisiest."""
    generator = torch.Generator().manual_seed(seed)
    extra = config.in_channels - config.out_channels
    given = {
        "z": torch.randn(b, config.out_channels, t, h, w, dtype=torch.float64, generator=generator),
        "noise": torch.linspace(-1.55, 1.64, b, dtype=torch.float64),
        "context": torch.randn(b, 2, config.cross_attention_dim, dtype=torch.float64, generator=generator),
        "numbers": torch.tensor([[6.0, 127.0, 0.02], [23.0, 3.0, 0.3]], dtype=torch.float64)[:b, : config.numbers],
    }
    latents = torch.randn(b, extra, 1, h, w, dtype=torch.float64, generator=generator)
    return given | ({"latents": latents} if extra else {})


def peer_call(peer, z, noise, context, numbers, latents=None):
    x = z if latents is None else torch.cat([z, latents.expand(-1, -1, z.shape[2], -1, -1)], dim=1)
    return peer(x.transpose(1, 2), noise, context, numbers).sample.transpose(1, 2)


@pytest.mark.parametrize("config", [TINY, SMALL], ids=["tiny", "small"])
@pytest.mark.parametrize("size", [(4, 8), (5, 3)])  # what the levels halve evenly, and what they do not
def test_output_and_gradients_equal_diffusers(config, size):
    ours, peer = network(config), UNetSpatioTemporalConditionModel(**vars(config)).double()
    peer.load_state_dict(ours.state_dict())
    given = {name: value.requires_grad_(name not in {"noise", "numbers"})
             for name, value in inputs(config, h=size[0], w=size[1]).items()}  # fmt: skip
    out, expected = ours(**given), peer_call(peer, **given)
    assert out.std() > 0.1
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
    weight = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    parameters, tensors = dict(peer.named_parameters()), [value for value in given.values() if value.requires_grad]
    own = torch.autograd.grad((out * weight).sum(), [*ours.parameters(), *tensors])
    theirs = torch.autograd.grad(
        (expected * weight).sum(), [*(parameters[name] for name, _ in ours.named_parameters()), *tensors]
    )
    for mine, other in zip(own, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-7, atol=1e-8)
    assert all(gradient.abs().max() > 0 for gradient in own)


def test_names_and_shapes_of_the_published_size_equal_diffusers():
    with torch.device("meta"):
        ours = SVDUNet()
        peer = UNetSpatioTemporalConditionModel(**vars(SVDUNetConfig()))
    shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in peer.state_dict().items()}
    assert round(sum(p.numel() for p in peer.parameters()) / 1e6, 1) == 1524.6


def test_a_network_of_diffusers_format_loads_and_computes_the_same(tmp_path):
    peer = UNetSpatioTemporalConditionModel(**vars(TINY))
    peer.load_state_dict({name: tensor.float() for name, tensor in random_state(peer).items()})
    peer.save_pretrained(tmp_path, variant="fp16", max_shard_size="500KB")
    assert len(list(tmp_path.glob("*fp16-0*-of-*.safetensors"))) > 1
    ours, given = load(SVDUNet, tmp_path, variant="fp16"), {k: v.float() for k, v in inputs().items()}
    assert ours.config == TINY
    torch.testing.assert_close(ours(**given), peer_call(peer, **given), rtol=0, atol=1e-5)


def test_the_published_configuration_is_read():
    """Said in full, and not at all."""
    published = {
        "_class_name": "UNetSpatioTemporalConditionModel", "_diffusers_version": "0.24.0.dev0",
        "addition_time_embed_dim": 256, "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 1024,
        "down_block_types": ["CrossAttnDownBlockSpatioTemporal"] * 3 + ["DownBlockSpatioTemporal"], "in_channels": 8,
        "layers_per_block": 2, "num_attention_heads": [5, 10, 20, 20], "num_frames": 25, "out_channels": 4,
        "projection_class_embeddings_input_dim": 768, "sample_size": 96, "transformer_layers_per_block": 1,
        "up_block_types": ["UpBlockSpatioTemporal"] + ["CrossAttnUpBlockSpatioTemporal"] * 3,
    }  # fmt: skip
    with torch.device("meta"):
        assert SVDUNet.from_config(published).config == SVDUNetConfig()
        peer = UNetSpatioTemporalConditionModel()
    assert vars(SVDUNetConfig()) == {name: tuples(peer.config[name]) for name in vars(SVDUNetConfig())}


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"transformer_layers_per_block": 2}, "transformer_layers_per_block = 2"),
        ({"rope": True}, r"rope \(unknown\)"),
        ({"down_block_types": ["DownBlockMotion"] * 4}, "DownBlockMotion"),
        ({"num_attention_heads": [5, 10]}, "4 levels do not fit 4 blocks and 2 numbers"),
        ({"projection_class_embeddings_input_dim": 700}, "700 is no multiple of addition_time_embed_dim = 256"),
        ({"_class_name": "UNetMotionModel"}, "that of a UNetMotionModel"),
    ],
)
def test_settings_that_are_not_supported_are_refused_by_name(settings, match):
    with pytest.raises(PretrainedError, match=match):
        SVDUNet.from_config(settings)


def test_the_mix_is_that_of_the_other_networks():
    """`Mix` has another name for the share, and the same sum."""
    published, ours = TimeMixer().double(), Mix(0.3, "sigmoid").double()
    published.load_state_dict({"mix_factor": ours.factor.detach()})
    image, video = torch.randn(2, 4, 3, 2, 2).double()
    torch.testing.assert_close(published(image, video), ours(image, video))
    assert TimeMixer().mix_factor.tolist() == [0.5]


def test_frames_interact_and_videos_of_a_batch_do_not():
    net, given = network(), inputs(t=4)
    given["z"].requires_grad_()
    out = net(**given)
    for frame in range(4):
        (slope,) = torch.autograd.grad(out[0, :, frame].square().sum(), given["z"], retain_graph=True)
        assert (slope[0].abs().amax((0, 2, 3)) > 1e-9).all()
        assert slope[1].abs().max() == 0
    alone = net(**{name: value[:1] for name, value in given.items()})
    torch.testing.assert_close(out[:1], alone, rtol=0, atol=1e-10)


def test_with_the_mix_at_one_frames_are_images():
    """Random temporal weights, and none of them counts."""
    net, given = network(), inputs(t=4)
    for module in net.modules():
        if isinstance(module, TimeMixer):
            torch.nn.init.constant_(module.mix_factor, 100.0)
    each = [net(**(given | {"z": given["z"][:, :, i : i + 1]})) for i in range(4)]
    torch.testing.assert_close(net(**given), torch.cat(each, dim=2), rtol=0, atol=1e-10)


def test_latents_are_given_once_or_for_each_frame():
    net, given = network(), inputs()
    each = given | {"latents": given["latents"].expand(-1, -1, 3, -1, -1)}
    assert torch.equal(net(**each), net(**given))


def test_what_does_not_fit_is_refused():
    net, given = network(), inputs()
    with pytest.raises(ValueError, match=r"numbers \(2, 2\): the network takes \(2, 3\)"):
        net(**(given | {"numbers": given["numbers"][:, :2]}))
    with pytest.raises(ValueError, match="4 channels with the latents: the network takes 8"):
        net(**(given | {"latents": None}))


def test_temporal_parameters_are_what_stable_diffusion_has_not():
    from models.backbones.sd_unet import SD21, SDUNet

    with torch.device("meta"):
        video, image = SVDUNet(replace(SVDUNetConfig(), in_channels=4)), SDUNet(SD21)
    added = video.temporal_parameters()
    kept = {name.replace("spatial_res_block.", "") for name, _ in video.named_parameters() if name not in added}
    assert kept == {name for name, _ in image.named_parameters()}


def test_it_compiles_whole():
    config = replace(SMALL, layers_per_block=1)
    net, given = network(config), inputs(config, t=2, h=2, w=2)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**given), net(**given))


def test_it_runs_in_bfloat16():
    net, given = network(), inputs()
    out = net(**given)
    low = net.bfloat16()(
        **{name: value if name in {"noise", "numbers"} else value.bfloat16() for name, value in given.items()}
    )
    assert low.dtype is torch.bfloat16
    assert (low - out).abs().mean() < 0.1 * out.abs().mean()
    mixed = net(**given)  # a sampler's state keeps its digits
    assert mixed.dtype is torch.float64
    assert torch.equal(mixed, low.double())


def test_checkpointing_changes_neither_output_nor_gradients():
    kinds = SpatioTemporalResBlock, SpatioTemporalTransformer
    plain, saving, given = network(), checkpointed(network(), *kinds), inputs()
    for net in (plain, saving):
        net(**given).square().sum().backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_layers_stay_in_bfloat16_under_autocast():
    network = SVDUNet(TINY)
    given = {"context": torch.randn(2, 3, 12), "numbers": torch.ones(2, 3), "latents": torch.randn(2, 4, 1, 8, 8)}
    kinds = (SpatioTemporalResBlock, SpatioTemporalTransformer, TimeMixer)
    stays_in_bf16(network, kinds, torch.randn(2, 4, 3, 8, 8), torch.zeros(2), **given)
