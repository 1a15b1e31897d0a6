import json

import pytest
import torch
from diffusers import AutoencoderKL as Peer
from safetensors.torch import save_file
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

from models import pretrained
from models.autoencoders.kl import AutoencoderKL, KLConfig, ResBlock, present_name

SIZES = {"block_out_channels": (8, 16, 16), "layers_per_block": 1, "latent_channels": 3, "norm_num_groups": 4}
STABLE_DIFFUSION = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}


def peer_of(**sizes):
    levels = len(sizes["block_out_channels"])
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels}
    return Peer(**{**blocks, **sizes}).double()


def randomise(network, seed=0):
    """Every weight random, so that nothing at zero hides a difference."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        scale = 2 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.5
        parameter.data = scale * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return network


def images(b=2, h=16, w=24, seed=1):
    return torch.randn(b, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=[{}, {"mid_block_add_attention": False, "use_post_quant_conv": False}])
def pair(request):
    sizes = {**SIZES, **request.param}
    peer = randomise(peer_of(**sizes))
    ours = AutoencoderKL(KLConfig(**sizes)).double()
    ours.load_state_dict(peer.state_dict())
    return ours, peer


@pytest.fixture
def network(pair):
    return pair[0]


def test_moments_pictures_and_gradients_are_those_of_diffusers(pair):
    ours, peer = pair
    grads = []
    for network, encoded in ((ours, ours.encode), (peer, lambda x: peer.encode(x).latent_dist)):
        x = images().requires_grad_()
        posterior = encoded(x)
        z = posterior.sample(torch.Generator().manual_seed(3))
        y = network.decode(z)
        y = y if torch.is_tensor(y) else y.sample
        network.zero_grad()
        ((y - x.roll(1, -1)).square().mean() + 0.1 * posterior.kl().mean()).backward()
        grads.append((posterior.mean, posterior.std, y, x.grad, {n: p.grad for n, p in network.named_parameters()}))
    for a, b in zip(grads[0][:4], grads[1][:4], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    assert set(grads[0][4]) == set(grads[1][4])
    for name, gradient in grads[0][4].items():
        torch.testing.assert_close(gradient, grads[1][4][name], rtol=0, atol=1e-10)
        assert name.endswith("to_k.bias") or gradient.abs().max() > 0  # a key's bias moves all logits alike


def test_stable_diffusions_size_has_the_keys_shapes_and_number_of_parameters_of_diffusers():
    with torch.device("meta"):
        ours, peer = AutoencoderKL(), Peer(**STABLE_DIFFUSION)
    assert {n: p.shape for n, p in ours.state_dict().items()} == {n: p.shape for n, p in peer.state_dict().items()}
    assert round(sum(p.numel() for p in ours.parameters()) / 1e6, 2) == 83.65
    assert ours.factor == 8
    assert ours.scaling_factor == peer.config.scaling_factor == 0.18215


def test_a_folder_of_diffusers_loads(pair, tmp_path):
    ours, peer = pair
    peer.save_pretrained(tmp_path)
    loaded = pretrained.load(AutoencoderKL, tmp_path)
    assert loaded.config == ours.config
    assert torch.equal(loaded.encode(images()).mean, ours.encode(images()).mean)


def test_a_file_of_the_first_releases_loads(pair, tmp_path):
    ours, peer = pair
    peer.save_pretrained(tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for key, value in peer.state_dict().items():
        for new, name in old.items():
            key = key.replace(f".{new}.", f".{name}.")  # noqa: PLW2901
        state[key] = value.contiguous()
    save_file(state, tmp_path / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    loaded = pretrained.load(AutoencoderKL, tmp_path, rename=present_name)
    assert torch.equal(loaded.encode(images()).mean, ours.encode(images()).mean)


def test_settings_that_it_does_not_have_are_refused(tmp_path):
    peer_of(**SIZES).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    wrong = {"act_fn": "relu", "down_block_types": ["AttnDownEncoderBlock2D"] * 3, "novel": 1, "norm_num_groups": 3}
    for name, value in (wrong | {"block_out_channels": None, "layers_per_block": [2, 2, 2]}).items():
        with pytest.raises(pretrained.PretrainedError, match=name):
            AutoencoderKL.from_config({**config, name: value})


def test_scaled_latents_are_those_of_the_pipelines(pair):
    ours, peer = pair
    x = images()
    expected = peer.encode(x).latent_dist.mean * peer.config.scaling_factor
    torch.testing.assert_close(ours.latents(x), expected, rtol=0, atol=1e-12)
    decoded = peer.decode(expected / peer.config.scaling_factor).sample
    torch.testing.assert_close(ours.pixels(expected), decoded, rtol=0, atol=1e-12)


def test_shifted_latents(network):
    shifted = AutoencoderKL(KLConfig(**SIZES, scaling_factor=1.5, shift_factor=0.06)).double()
    z = shifted.latents(images())
    torch.testing.assert_close(z, (shifted.encode(images()).mean - 0.06) * 1.5)
    torch.testing.assert_close(shifted.pixels(z), shifted.decode(shifted.encode(images()).mean))


@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
def test_video_in_chunks_is_video_whole_and_frame_by_frame(network, at_once):
    x = images(6).unflatten(0, (2, 3)).transpose(1, 2)
    seen = []
    handle = network.decoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    z, whole = network.latents(x, at_once=at_once), network.latents(x)
    y = network.pixels(z, at_once)
    handle.remove()
    assert max(seen) == min(at_once, 6)
    torch.testing.assert_close(z, whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(y, network.pixels(whole), rtol=0, atol=1e-12)
    for i in range(3):
        torch.testing.assert_close(y[:, :, i], network.pixels(z[:, :, i]), rtol=0, atol=1e-12)
    assert (y[:, :, 0] - y[:, :, 1]).abs().max() > 0.01


def test_activation_checkpointing_changes_nothing(network):
    def gradients(net):
        net.zero_grad()
        y = net.decode(net.encode(images()).mode())
        y.square().mean().backward()
        return y, [p.grad for p in net.parameters() if p.grad is not None]

    y, plain = gradients(network)
    wrapped = AutoencoderKL(network.config).double()
    wrapped.load_state_dict(network.state_dict())
    apply_activation_checkpointing(wrapped, check_fn=lambda m: isinstance(m, ResBlock))
    again, checkpointed = gradients(wrapped)
    assert torch.equal(y, again)
    assert all(torch.equal(a, b) for a, b in zip(plain, checkpointed, strict=True))


def test_compiles_whole():
    network, x = AutoencoderKL(KLConfig(**{**SIZES, "block_out_channels": (4, 4)})).double(), images(1)
    compiled = torch.compile(lambda x: network.decode(network.encode(x).mode()), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), network.decode(network.encode(x).mode()), rtol=0, atol=1e-10)


def test_bf16(network):
    low = AutoencoderKL(network.config).bfloat16()
    low.load_state_dict(network.state_dict())
    y, exact = low.pixels(low.latents(images().bfloat16())), network.pixels(network.latents(images()))
    assert y.dtype == torch.bfloat16
    assert (y - exact).std() < 0.1 * exact.std()
