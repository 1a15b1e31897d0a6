import copy
from itertools import pairwise

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder as Peer
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

from models import pretrained
from models.autoencoders.kl import AutoencoderKL, KLConfig
from models.autoencoders.temporal import (
    TEMPORAL,
    SpatioTemporalResBlock,
    TemporalAutoencoder,
    TemporalConfig,
    inflate,
    windows,
)

WIDTHS = (32, 32)
TINY = TemporalConfig(block_out_channels=(8, 8), norm_num_groups=4, latent_channels=3)
IMAGE = KLConfig(block_out_channels=(8, 8), norm_num_groups=4, latent_channels=3)


def randomise(network, seed=0):
    """Every weight random, so that nothing at zero hides a difference."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        scale = 2 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.5
        parameter.data = scale * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return network.double()


def latents(b=2, t=4, h=4, w=6, z=3, seed=1):
    """Random, distinct frames."""
    return torch.randn(b, z, t, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def pair():
    peer = randomise(Peer(block_out_channels=WIDTHS, down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=2))
    ours = TemporalAutoencoder(TemporalConfig(block_out_channels=WIDTHS)).double()
    ours.load_state_dict(peer.state_dict())
    return ours, peer


@pytest.fixture(scope="module")
def image():
    return randomise(AutoencoderKL(IMAGE))


@pytest.fixture
def video(image):
    return inflate(image)


def test_pictures_and_gradients_are_those_of_diffusers(pair):
    ours, peer = pair
    found = []
    for network in pair:
        z = latents(z=4).requires_grad_()
        if network is peer:
            y = peer.decode(z.transpose(1, 2).flatten(0, 1), num_frames=4).sample.unflatten(0, (2, 4)).transpose(1, 2)
        else:
            y = ours.decode(z)
        network.zero_grad()
        (y - y.detach().roll(1, 2)).square().mean().backward()
        found.append((y, z.grad, {n: p.grad for n, p in network.decoder.named_parameters()}))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=1e-10)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0, atol=1e-10)
    for name, gradient in found[0][2].items():
        torch.testing.assert_close(gradient, found[1][2][name], rtol=0, atol=1e-9)
        assert name.endswith("to_k.bias") or gradient.abs().max() > 0


def test_the_encoder_is_that_of_diffusers(pair):
    ours, peer = pair
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours.encode(x).mean, peer.encode(x).latent_dist.mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.encode(x).std, peer.encode(x).latent_dist.std, rtol=0, atol=1e-12)


def test_an_image_is_a_clip_of_one_frame(pair):
    ours, peer = pair
    z = latents(z=4)[:, :, 0]
    torch.testing.assert_close(ours.decode(z), peer.decode(z, num_frames=1).sample, rtol=0, atol=1e-10)
    torch.testing.assert_close(ours.decode(z[:, :, None])[:, :, 0], ours.decode(z), rtol=0, atol=1e-10)
    torch.testing.assert_close(ours.decode(z, at_once=1), ours.decode(z), rtol=0, atol=1e-10)


def test_svds_size_has_the_keys_and_shapes_of_diffusers():
    with torch.device("meta"):
        ours = TemporalAutoencoder()
        peer = Peer(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 4
        )
    assert {n: p.shape for n, p in ours.state_dict().items()} == {n: p.shape for n, p in peer.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in peer.parameters())
    assert (ours.factor, ours.scaling_factor) == (8, peer.config.scaling_factor)


def test_a_folder_of_diffusers_loads(pair, tmp_path):
    ours, peer = pair
    peer.save_pretrained(tmp_path)
    loaded = pretrained.load(TemporalAutoencoder, tmp_path)
    assert torch.equal(loaded.decode(latents(z=4)), ours.decode(latents(z=4)))


def test_inflated_it_is_the_image_decoder_exactly(image, video):
    z = latents()
    expected = torch.stack([image.decode(z[:, :, i]) for i in range(4)], dim=2)
    assert (expected[:, :, 0] - expected[:, :, 1]).abs().max() > 0.1  # the frames do differ
    torch.testing.assert_close(video.decode(z), expected, rtol=0, atol=1e-12)
    frames = video.pictures(z.transpose(1, 2).flatten(0, 1), 4)
    assert torch.equal(frames, image.pictures(z.transpose(1, 2).flatten(0, 1)))  # bit by bit in the same batch


def test_inflation_keeps_every_weight_and_adds_temporal_ones_only(image, video):
    assert torch.equal(video.encode(latents()).mean, image.encode(latents()).mean)
    ours = {n.replace(".spatial_res_block", ""): p for n, p in video.named_parameters()}
    theirs = dict(image.named_parameters())
    assert all(torch.equal(ours[name], p) for name, p in theirs.items())
    assert all(any(part in name for part in TEMPORAL) for name in set(ours) - set(theirs))
    assert len(set(ours) - set(theirs)) > 50


def test_inflation_is_a_function_of_the_image_network_alone(image):
    state = torch.random.get_rng_state()
    first, second = inflate(image).state_dict(), inflate(image).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("spatial", [False, True])
def test_fine_tuning_leaves_the_encoder_alone_and_makes_frames_interact(video, spatial):
    parameters, before = video.fine_tune(spatial), copy.deepcopy(video.state_dict())
    optimizer = torch.optim.AdamW(parameters, 1e-2)
    z = latents()
    goal = video.decode(z).detach().roll(1, 2)
    reached = set()
    for _ in range(3):
        optimizer.zero_grad()
        (video.decode(z) - goal).square().mean().backward()
        reached |= {n for n, p in video.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        optimizer.step()
    changed = {n for n, value in video.state_dict().items() if not torch.equal(value, before[n])}
    expected = {
        n for n, _ in video.decoder.named_parameters(prefix="decoder") if spatial or any(t in n for t in TEMPORAL)
    }
    assert {id(p) for p in parameters} == {id(p) for n, p in video.named_parameters() if n in expected}
    assert {n for n, p in video.named_parameters() if p.requires_grad} == expected
    silent = {n for n in expected if n.endswith("to_k.bias")}  # it moves all logits alike
    assert expected - silent <= reached
    assert changed - silent == expected - silent
    z.requires_grad_()
    y = video.decode(z)
    for i, j in ((0, 3), (3, 0), (1, 2)):
        (gradient,) = torch.autograd.grad(y[:, :, i].square().sum(), z, retain_graph=True)
        assert gradient[:, :, j].abs().max() > 1e-6


def test_at_the_very_first_step_the_new_layers_have_gradients(video):
    video.fine_tune()
    (video.decode(latents()) - 1).square().mean().backward()
    last = [p for n, p in video.named_parameters() if n.endswith(("temporal_res_block.conv2.weight",))]
    assert len(last) == 8  # two in the middle, three a level
    assert all(p.grad.abs().max() > 0 for p in [*last, video.last_layer])


@given(st.integers(1, 40), st.integers(1, 12), st.data())
def test_windows_cover_every_frame_and_their_weights_are_means(frames, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    weights = torch.zeros(frames, dtype=torch.float64)
    firsts = []
    for first, weight in windows(frames, size, overlap):
        assert len(weight) == min(size, frames)
        assert all(w > 0 for w in weight)
        weights[first : first + len(weight)] += torch.tensor(weight, dtype=torch.float64)
        firsts.append(first)
    torch.testing.assert_close(weights, torch.ones(frames, dtype=torch.float64))
    assert firsts[0] == 0
    assert firsts[-1] + min(size, frames) == frames
    assert all(0 < b - a <= size - overlap for a, b in pairwise(firsts))


def test_windows_of_nine_frames_by_four_and_two():
    assert [(first, len(w)) for first, w in windows(9, 4, 2)] == [(0, 4), (2, 4), (4, 4), (5, 4)]
    assert next(iter(windows(9, 4, 2)))[1] == pytest.approx([1, 1, 2 / 3, 1 / 3])


def test_windows_that_do_not_advance_are_refused(video):
    with pytest.raises(ValueError, match="do not advance"):
        video.decode(latents(), at_once=2, overlap=2)


def test_clips_are_decoded_in_windows(pair):
    ours, _ = pair
    z, seen = latents(t=6, z=4), []
    handle = ours.decoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0]) // 2))
    y = ours.decode(z, at_once=2)
    handle.remove()
    assert seen == [2, 2, 2]
    expected = torch.cat([ours.decode(z[:, :, i : i + 2]) for i in (0, 2, 4)], dim=2)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
    assert torch.equal(ours.decode(z, at_once=6), ours.decode(z))
    # three frames at a time, one of them shared: it fades from the one window into the other
    first, second, last = (ours.decode(z[:, :, i : i + 3]) for i in (0, 2, 3))
    faded = ours.decode(z, at_once=3, overlap=1)
    torch.testing.assert_close(faded[:, :, :2], first[:, :, :2], rtol=0, atol=1e-10)
    torch.testing.assert_close(faded[:, :, 2], (first[:, :, 2] + second[:, :, 0]) / 2, rtol=0, atol=1e-10)
    torch.testing.assert_close(faded[:, :, 5], last[:, :, 2], rtol=0, atol=1e-10)


def test_in_windows_an_inflated_decoder_is_still_the_image_decoder(video):
    z = latents(t=7)
    torch.testing.assert_close(video.decode(z, at_once=3, overlap=1), video.decode(z), rtol=0, atol=1e-12)


def test_clips_of_a_batch_do_not_touch(pair):
    ours, _ = pair
    z = latents(z=4)
    torch.testing.assert_close(ours.decode(z)[:1], ours.decode(z[:1]), rtol=0, atol=1e-10)


def test_what_cannot_be_inflated_is_refused():
    for change in ({"mid_block_add_attention": False}, {"shift_factor": 0.1}, {"use_quant_conv": False}):
        with pytest.raises(ValueError, match="temporal decoder needs"):
            inflate(AutoencoderKL(KLConfig(**{**IMAGE.__dict__, **change})))
    with pytest.raises(ValueError, match="layers_per_block"):
        TemporalConfig(layers_per_block=1)


def test_activation_checkpointing_changes_nothing(pair):
    ours, z = pair[0], latents(z=4)

    def gradients(network):
        network.zero_grad()
        y = network.decode(z)
        y.square().mean().backward()
        return y, [p.grad for p in network.decoder.parameters()]

    wrapped = copy.deepcopy(ours)
    apply_activation_checkpointing(wrapped, check_fn=lambda m: isinstance(m, SpatioTemporalResBlock))
    (y, plain), (again, checkpointed) = gradients(ours), gradients(wrapped)
    assert torch.equal(y, again)
    assert all(torch.equal(a, b) for a, b in zip(plain, checkpointed, strict=True))


def test_compiles_whole():
    network, z = TemporalAutoencoder(TINY).double(), latents(1, 2)
    compiled = torch.compile(network.decode, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(z), network.decode(z), rtol=0, atol=1e-10)


def test_bf16(video):
    low, z = copy.deepcopy(video).bfloat16(), latents()
    y = low.decode(z.bfloat16())
    assert y.dtype == torch.bfloat16
    assert (y - video.decode(z)).std() < 0.1 * video.decode(z).std()


@pytest.mark.parametrize("shape", [(3, 4, 6), (1, 2, 2, 4, 6), (1, 4, 4, 6)])
def test_latents_of_another_shape_are_refused(shape, image):
    with pytest.raises(ValueError, match=r"must be \(b, 3, h, w\) or \(b, 3, t, h, w\)"):
        inflate(image).decode(torch.zeros(shape, dtype=torch.float64))
