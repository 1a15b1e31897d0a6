"""Video LDM: layers over time mixed into a frozen image model, prediction, two interpolations, enlargement. The
decoder's fine-tuning is tested with the autoencoders."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from models.autoencoders.discriminator import TemporalPatchDiscriminator
from models.backbones.sd_unet import SDUNet
from models.backbones.unet import Level, UNet
from models.diffusion.parameterization import Denoiser, EpsPrediction
from models.layers.temporal import Mix
from models.systems import cascade
from models.systems import video_ldm as ldm
from models.systems.recipe import count
from tests.models.systems.checks import (
    compiles,
    interact,
    noise,
    page_holds,
    randomised,
    runs_in_bf16,
    same_when_checkpointed,
    wakes_up,
)
from tests.models.systems.image_networks import KINDS, LABEL, SD, TEXT

STAGE = ldm.SYSTEM.stage("keyframes")


@pytest.fixture(scope="module", params=KINDS)
def image(request):
    return randomised(UNet(ldm.TINY) if request.param == "ours" else SDUNet(SD))


def told(image, b=2):
    return {"text" if isinstance(image, UNet) else "context": TEXT[:b]}


def per_image(image, x):
    label = LABEL if isinstance(image, UNet) else ldm.SCHEDULE.time((4 * LABEL).exp())
    return torch.stack([image(x[:, :, i], label, **told(image)) for i in range(x.shape[2])], dim=2)


def video(t=4, b=2, seed=1):
    return noise(b, 4, t, 8, 8, seed=seed)


def temporal_randomised(network, seed=7):
    """As after training: random layers over time, alphas as they are."""
    for i, (name, parameter) in enumerate(network.named_parameters()):
        if "temporal" in name and not name.endswith("factor"):
            parameter.data = 0.3 * noise(*parameter.shape, seed=seed + i)
    return network


@pytest.fixture(scope="module")
def interpolation():
    """A denoiser of an interpolation model all of whose weights are random, its alphas inside [0, 1]."""
    net = randomised(ldm.network(randomised(UNet(ldm.TINY)), given=5))
    ldm.set_alpha(net, 0.4)
    return Denoiser(net, EpsPrediction(), ldm.SCHEDULE)


def test_alpha_of_one_is_the_image_model_with_random_temporal_weights(image):
    network, x = temporal_randomised(ldm.network(image)), video()
    expected = per_image(image, x)
    assert (network(x, LABEL, **told(image)) - expected).abs().max() > 1e-2
    ldm.set_alpha(network, 1.0)
    torch.testing.assert_close(network(x, LABEL, **told(image)), expected, rtol=0, atol=1e-9)


def test_alpha_is_the_share_of_the_image_layer():
    layer, x = ldm.Aligned(8, alpha=0.7).block(16).double(), noise(6, 16, 4, 4)
    torch.testing.assert_close(layer(x, 3), 0.7 * x + 0.3 * layer.layer(x, 3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("alpha", [None, 1.0], ids=["new", "one"])
def test_every_layer_s_alpha_is_learned_and_has_a_gradient_at_once(image, alpha):
    network = ldm.network(image)
    if alpha:
        ldm.set_alpha(network, alpha)
    mixes = [m for m in network.modules() if isinstance(m, Mix)]
    hosts = [m for m in network.modules() if isinstance(m, ldm.Mixed)]
    assert len(mixes) == len(hosts) == len({id(m.factor) for m in mixes}) > 6
    network(video(), LABEL, **told(image)).square().mean().backward()
    assert all(mix.factor.grad is not None and mix.factor.grad.abs() > 0 for mix in mixes)


def test_every_block_and_every_attention_has_its_layer(image):
    kinds = [type(m.layer).__name__ for m in ldm.network(image).modules() if isinstance(m, ldm.Mixed)]
    blocks = sum(type(m).__name__ == "ResBlock" for m in image.modules())
    attentions = sum(type(m).__name__ in ("TransformerBlock", "Attention") for m in image.modules())
    if not isinstance(image, UNet):  # of which each transformer block has two, for space and text
        attentions //= 3
    assert (kinds.count("TemporalResBlock"), kinds.count("TemporalTransformer")) == (blocks, attentions)


def test_every_spatial_weight_is_unchanged_after_training(image):
    """By the stage's own loss; the layers over time have all changed, and frames interact."""
    network = ldm.network(image)
    trained = STAGE.prepare(network)
    assert {id(p) for p in trained} == {id(p) for n, p in network.named_parameters() if "temporal" in n}
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    for step in range(2):
        optimizer.zero_grad()
        STAGE.loss(network, video(), torch.Generator().manual_seed(step), **told(image)).mean().backward()
        optimizer.step()
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if "temporal" in name}
    source = image.state_dict()
    assert sum(any(torch.equal(p, value) for value in source.values()) for p in network.state_dict().values()) >= len(
        source
    )


def test_layers_over_time_wake_up(image):
    network = ldm.network(image)
    wakes_up(network, STAGE.prepare(network), lambda x: network(x, LABEL, **told(image)), video())


def test_frames_interact(image):
    network = temporal_randomised(ldm.network(image))
    interact(lambda x: network(x, LABEL, **told(image)), video())


@pytest.mark.parametrize("kernel", [(3, 1, 1), (3, 3, 3)])
def test_the_residual_block_is_of_3d_convolutions_and_norms_of_frames(kernel):
    """Against conv3d on `b c t h w`; its norms are those of each frame."""
    block, x = ldm.TemporalResBlock(16, kernel).double(), noise(6, 16, 4, 5)
    as_video = lambda y: y.unflatten(0, (2, 3)).transpose(1, 2)  # noqa: E731
    h = torch.stack([F.silu(block.norm1(frame[None]))[0] for frame in x])
    h = F.conv3d(as_video(h), block.conv1.weight, block.conv1.bias, padding=[k // 2 for k in kernel])
    frames = h.transpose(1, 2).flatten(0, 1)
    h = torch.stack([F.silu(block.norm2(frame[None]))[0] for frame in frames])
    h = F.conv3d(as_video(h), block.conv2.weight, block.conv2.bias, padding=[k // 2 for k in kernel])
    torch.testing.assert_close(block(x, 3), x + h.transpose(1, 2).flatten(0, 1), rtol=0, atol=1e-12)


def test_context_is_what_is_known_and_the_mask():
    latents, known = video(), torch.tensor([True, False, False, True])
    given = ldm.context(latents, known)
    assert given.shape == (2, 5, 4, 8, 8)
    assert torch.equal(given[:, :4, [0, 3]], latents[:, :, [0, 3]])
    assert given[:, :4, 1:3].abs().max() == 0
    assert torch.equal(given[:, 4, :, 0, 0], known.expand(2, -1).double())
    each = torch.stack([known, ~known])
    assert torch.equal(ldm.context(latents, each)[1, 4, :, 3, 3], (~known).double())


@pytest.mark.parametrize("kind", KINDS)
def test_new_input_channels_count_for_nothing_and_learn(kind):
    image = randomised(UNet(ldm.TINY) if kind == "ours" else SDUNet(SD))
    network, x = ldm.network(image, given=5), video()
    ldm.set_alpha(network, 1.0)
    given = ldm.context(video(seed=3), torch.tensor([True, False, False, True]))
    torch.testing.assert_close(network(x, LABEL, extra=given, **told(image)), per_image(image, x), rtol=0, atol=1e-9)
    network(x, LABEL, extra=given, **told(image)).square().mean().backward()
    new = network.extra.weight.grad if kind == "ours" else network.network.network.conv_in.weight.grad[:, 4:]
    assert new.abs().max() > 0


def test_the_mask_keeps_given_latents(interpolation):
    latents, known = video(5, 1), torch.tensor([True, False, False, False, True])
    denoise = partial(interpolation, extra=ldm.context(latents, known))
    made = ldm.sample(denoise, noise(1, 4, 5, 8, 8, seed=2), known, latents, steps=4)
    assert torch.equal(made[:, :, known], latents[:, :, known])
    free = ldm.sample(denoise, noise(1, 4, 5, 8, 8, seed=2), steps=4)
    assert torch.equal(made[:, :, ~known], free[:, :, ~known])
    other = ldm.sample(
        partial(interpolation, extra=ldm.context(-latents, known)), noise(1, 4, 5, 8, 8, seed=2), steps=4
    )
    assert (other - free)[:, :, ~known].abs().max() > 1e-3


@pytest.mark.parametrize(("frames", "once", "twice"), [(2, 5, 17), (3, 9, 33), (8, 29, 113), (1, 1, 1)])
def test_length_after_two_interpolations(frames, once, twice):
    """8 key frames make the 113 frames that the authors show."""
    assert ldm.interpolated_length(frames, 1) == once
    assert ldm.interpolated_length(once, 1) == ldm.interpolated_length(frames) == twice


def test_two_interpolations_keep_the_keys_in_their_places(interpolation):
    keys, generator = video(3), torch.Generator().manual_seed(0)
    once = ldm.interpolate(interpolation, keys, generator, {"text": TEXT}, steps=2)
    assert once.shape == (2, 4, ldm.interpolated_length(3, 1), 8, 8)
    assert torch.equal(once[:, :, ::4], keys)
    twice = ldm.interpolate(interpolation, once, generator, {"text": TEXT}, steps=2)
    assert twice.shape[2] == ldm.interpolated_length(3)
    assert torch.equal(twice[:, :, ::16], keys)
    with pytest.raises(ValueError, match="fewer than two"):
        ldm.interpolate(interpolation, keys[:, :, :1], generator, {})


def test_frames_between_depend_on_both_their_keys_and_on_no_other(interpolation):
    def made(keys):
        return ldm.interpolate(interpolation, keys, torch.Generator().manual_seed(0), {"text": TEXT[:1]}, steps=2)

    keys = video(4, 1)
    out = made(keys)
    for key, reached in ((0, range(4)), (1, range(1, 8)), (3, range(9, 13))):
        other = keys.clone()
        other[:, :, key] += 1
        changed = (made(other) - out).abs().amax((0, 1, 3, 4)) > 1e-9
        assert changed.nonzero().flatten().tolist() == list(reached)


def test_each_video_s_frames_are_told_its_own_text(interpolation):
    keys, both = video(3), ldm.interpolate(interpolation, video(3), torch.Generator(), {"text": TEXT}, steps=2)
    other = ldm.interpolate(
        interpolation, keys, torch.Generator(), {"text": TEXT * torch.tensor([1, 2])[:, None, None]}, steps=2
    )
    assert torch.equal(both[0], other[0])
    assert (both[1] - other[1]).abs().max() > 1e-6


def test_a_video_is_extended_clip_by_clip(interpolation):
    first = video(4, 1)

    def longer(start, frames):
        return ldm.extend(
            interpolation, start, frames, 2, torch.Generator().manual_seed(1), {"text": TEXT[:1]}, steps=2
        )

    out = longer(first, 7)
    assert out.shape[2] == 8
    assert torch.equal(out[:, :, :4], first)
    assert torch.equal(longer(first, 5), out[:, :, :6])
    other = first.clone()
    other[:, :, 3] += 1
    assert (longer(other, 6)[:, :, 4:] - out[:, :, 4:6]).abs().max() > 1e-6
    assert torch.equal(longer(first, 4), first)
    with pytest.raises(ValueError, match="do not advance"):
        ldm.extend(interpolation, first, 9, 4, torch.Generator(), {})


def test_the_upsampler_sees_the_small_video_and_how_noisy_it_is():
    net = randomised(ldm.tiny()["upsampler"])
    ldm.set_alpha(net, 0.4)
    denoise = Denoiser(cascade.labelled(net), EpsPrediction(), ldm.SCHEDULE)

    def large(small, snr=30.0):
        return ldm.enlarge(denoise, small, torch.Generator().manual_seed(0), snr, {"text": TEXT[:1]}, steps=2)

    small = noise(1, 3, 3, 8, 8, seed=4)
    out = large(small)
    assert out.shape == (1, 4, 3, 8, 8)
    assert (large(-small) - out).abs().max() > 1e-4
    assert (large(small, 2.0) - out).abs().max() > 1e-4


def test_the_decoder_s_stage_trains_its_layers_over_time_alone():
    """What that training does is tested with the autoencoders; its judge sees clips."""
    stage, decoder = ldm.SYSTEM.stage("decoder"), ldm.tiny()["decoder"]
    chosen = {id(p) for p in stage.parameters(decoder)}
    assert chosen == {id(p) for p in decoder.fine_tune()}
    assert not chosen & {id(p) for p in decoder.encoder.parameters()}
    decoder, clip = decoder.double(), noise(2, 3, 3, 8, 8)
    loss = stage.loss(decoder, clip, torch.Generator().manual_seed(0))
    assert loss.shape == (2,)
    with torch.no_grad():
        y = decoder.decode(decoder.encode(clip).sample(torch.Generator().manual_seed(0)))
    torch.testing.assert_close(loss, (y - clip).abs().mean((1, 2, 3, 4)), rtol=1e-12, atol=1e-12)
    stage.prepare(decoder)
    loss = stage.loss(decoder, clip, torch.Generator().manual_seed(0)).mean()
    loss.backward()
    assert {id(p) for p in decoder.parameters() if p.grad is not None} == chosen
    judge = TemporalPatchDiscriminator().double()
    assert judge(clip.repeat_interleave(4, 3).repeat_interleave(4, 4)).ndim == 5


def test_compiled():
    """One of one level."""
    small = randomised(ldm.network(UNet(replace(ldm.TINY, multipliers=(1,), attention_levels=()))))
    compiles(small, noise(2, 4, 3, 4, 4), LABEL, text=TEXT)


def test_in_bf16_and_checkpointed():
    nets = ldm.tiny()
    for name in ("keyframes", "interpolation"):
        network = randomised(nets[name])
        ldm.set_alpha(network, 0.6)
        given = {} if name == "keyframes" else {"extra": noise(2, 5, 3, 8, 8, seed=3)}
        runs_in_bf16(network, video(3), LABEL, text=TEXT, **given)
    same_when_checkpointed(network, Level, video(3), LABEL, text=TEXT, **given)


def test_paper_size():
    """Within 15 % of the authors' total; Stable Diffusion's share is exact."""
    with torch.device("meta"):
        nets = ldm.SYSTEM.paper_size()
    spatial = sum(p.numel() for name, p in nets["keyframes"].named_parameters() if "temporal" not in name)
    assert spatial == 865_910_724
    total = sum(count(net) for net in nets.values())
    assert abs(total / 4.1e9 - 1) < 0.15
    assert round(total / 1e9, 2) == 3.57


def test_page():
    assert page_holds("video_ldm", ldm.SYSTEM)["video"].shape == (1, 4, 33, 8, 8)


def test_what_is_known_is_told_of_every_frame():
    """An entry for one frame would be that of all."""
    latents = video()
    for known in (torch.ones(1, dtype=torch.bool), torch.ones(5, dtype=torch.bool), torch.ones(1, 4), torch.ones(2, 1)):
        with pytest.raises(ValueError, match="for 2 videos of 4 frames"):
            ldm.context(latents, known)


def test_what_is_known_is_given_with_its_latents():
    known, latents = torch.tensor([True, False, False, True]), video()

    def made(known, latents):
        return ldm.sample(lambda z, t: 0.5 * z, video(seed=2), known, latents, steps=2)

    for one in ((known, None), (None, latents)):
        with pytest.raises(ValueError, match="both are given or neither"):
            made(*one)
    with pytest.raises(ValueError, match=r"known of shape \(1,\) for 4 frames"):
        made(known[:1], latents)
    with pytest.raises(ValueError, match=r"latents of shape \(2, 4, 1, 8, 8\) for noise"):
        made(known, latents[:, :, :1])
