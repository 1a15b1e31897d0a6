"""Gen-1: structure as extra channels, content through cross-attention, blur, guidance over frames, the prior."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st

from models.backbones.unet import Level, UNet
from models.diffusion.parameterization import Denoiser, VPrediction
from models.systems import gen1
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

LABEL, CONTENT = torch.tensor([-0.3, 0.6], dtype=torch.float64), noise(2, 12, seed=5)
BLUR = torch.tensor([2.0, 5.0], dtype=torch.float64)
TOKENS = torch.tensor([[3, 7, 1], [9, 2, 4]])


def video(t=4, b=2, seed=1):
    return noise(b, 4, t, 8, 8, seed=seed)


def depth(t=4, b=2, seed=9, size=8):
    return noise(b, 1, t, size, size, seed=seed)


@pytest.fixture(scope="module")
def image():
    return randomised(UNet(gen1.TINY))


@pytest.fixture(scope="module")
def network():
    """Every weight random."""
    return randomised(gen1.tiny()["unet"])


GIVEN = {"content": CONTENT, "structure": depth(), "blur": BLUR}


def test_a_new_network_is_the_image_model(image):
    """On distinct frames and on pictures, whatever the structure and its blur."""
    new, x = gen1.network(image), video()
    expected = torch.stack([image(x[:, :, i], LABEL, text=CONTENT[:, None]) for i in range(4)], dim=2)
    torch.testing.assert_close(new(x, LABEL, **GIVEN), expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(new(x, LABEL, **GIVEN, images=True), expected, rtol=0, atol=1e-11)
    picture = new(x[:, :, 1], LABEL, **{**GIVEN, "structure": depth()[:, :, 1]})
    torch.testing.assert_close(picture, expected[:, :, 1], rtol=0, atol=1e-11)


def test_structure_s_channels_are_zero_and_learn_at_once(image):
    new = gen1.network(image)
    extra = new.unet.extra
    assert all(p.abs().max() == 0 for p in extra.parameters())
    assert new.unet.labels["blur"].weight.abs().max() == 0
    new(video(), LABEL, **GIVEN).square().mean().backward()
    assert extra.weight.grad.abs().max() > 0
    assert new.unet.labels["blur"].weight.grad.abs().max() > 0


def test_structure_changes_the_layout(network):
    """Depth that moves to the side in one frame changes that frame's output where it was and is, most of all."""
    flat = torch.zeros(2, 1, 4, 8, 8, dtype=torch.float64)
    left, right = flat.clone(), flat.clone()
    left[:, :, 2, :, :4], right[:, :, 2, :, 4:] = 1, 1
    outs = [network(video(), LABEL, content=CONTENT, structure=s, blur=BLUR) for s in (flat, left, right)]
    assert all((out - outs[0]).abs().max() > 1e-3 for out in outs[1:])
    assert (outs[1] - outs[2]).abs().max() > 1e-3
    new = gen1.network(UNet(gen1.TINY)).double()
    new.unet.extra.weight.data.normal_(std=0.3)
    stem = new.unet.extra(left[:, :, 2])
    assert stem[..., 5:].abs().max() == 0  # a pixel of depth is seen where it is
    assert stem[..., :4].abs().max() > 0


def test_content_is_seen_through_cross_attention_alone(network):
    out = network(video(), LABEL, **GIVEN)
    other = network(video(), LABEL, **{**GIVEN, "content": -CONTENT})
    assert (out - other).abs().max() > 1e-4
    deaf = randomised(gen1.tiny()["unet"])
    layers = [p for name, p in deaf.named_parameters() if "text_out" in name]
    assert len(layers) == 2 * sum(name.endswith("text_kv") for name, _ in deaf.named_modules())
    for parameter in layers:
        parameter.data.zero_()
    plain = deaf(video(), LABEL, **GIVEN)
    assert torch.equal(deaf(video(), LABEL, **{**GIVEN, "content": -CONTENT}), plain)
    assert torch.equal(deaf(video(), LABEL, **{**GIVEN, "content": None}), plain)


def test_the_blur_level_is_an_input(network):
    out = network(video(), LABEL, **GIVEN)
    assert (network(video(), LABEL, **{**GIVEN, "blur": BLUR + 1}) - out).abs().max() > 1e-4


def test_blur_takes_structure_away_level_by_level():
    picture = noise(1, 1, 2, 128, 160).repeat(8, 1, 1, 1, 1)
    out = gen1.blurred(picture, torch.arange(8))
    assert torch.equal(out[0], picture[0])
    spread = out.var((1, 2, 3, 4))
    assert (spread[1:] < spread[:-1]).all()
    assert spread[5:].max() < 0.01 * spread[0]
    constant = torch.full((3, 1, 8, 12), 0.7, dtype=torch.float64)
    torch.testing.assert_close(gen1.blurred(constant, torch.tensor([0, 3, 7])), constant, rtol=0, atol=1e-14)


def test_blur_is_of_each_frame_and_each_sample():
    clip = depth(3)
    out = gen1.blurred(clip, torch.tensor([1, 4]))
    for i in range(3):
        assert torch.equal(out[:, :, i], gen1.blurred(clip[:, :, i], torch.tensor([1, 4])))
    assert torch.equal(out[1:], gen1.blurred(clip[1:], torch.tensor([4])))


@pytest.mark.parametrize("height", [96, 97, 100, 255])
@pytest.mark.parametrize("level", range(1, 5))
def test_blur_leaves_a_pixel_s_centre_of_mass_in_place(level, height):
    """For every phase of the pixel on the coarse grid, along the height and the width."""
    width, reach = 90, 2 ** (level + 1)
    for row in range(reach, reach + 2**level):
        pixel = torch.zeros(1, 1, height, width, dtype=torch.float64)
        pixel[..., row, width - 1 - row] = 1
        mass = gen1.blurred(pixel, torch.tensor([level]))[0, 0]
        mass = mass / mass.sum()
        at = (torch.arange(height) * mass.sum(1)).sum(), (torch.arange(width) * mass.sum(0)).sum()
        torch.testing.assert_close(torch.stack(at), torch.tensor([row, width - 1.0 - row]).double(), rtol=0, atol=1e-9)


@drawn(st.integers(1, 70), st.integers(1, 70), st.integers(0, gen1.LEVELS), st.integers(0, 1000))
def test_blur_keeps_a_symmetric_frame_symmetric_and_a_mirrored_frame_mirrored(height, width, level, seed):
    frame, levels = noise(1, 1, height, width, seed=seed), torch.tensor([level])
    out = gen1.blurred(frame, levels)
    for axis in (-1, -2):
        torch.testing.assert_close(gen1.blurred(frame.flip(axis), levels).flip(axis), out, rtol=0, atol=1e-12)
        symmetric = gen1.blurred(frame + frame.flip(axis), levels)
        torch.testing.assert_close(symmetric.flip(axis), symmetric, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width", "share"), [(64, 128, 1.0), (32, 56, 1.3), (33, 57, 1.8)])
def test_at_the_highest_level_no_corner_stands_for_a_small_frame(height, width, share):
    """A sixteenth of the frame counts for about a sixteenth; an odd side's edge counts for a little more."""
    frame = torch.zeros(1, 1, height, width, dtype=torch.float64)
    frame[..., : height // 4, : width // 4] = 1
    out = gen1.blurred(frame, torch.tensor([gen1.LEVELS]))
    assert out.std() < 1e-12
    assert 0.99 * frame.mean() < out.mean() < (share + 0.01) * frame.mean()


def test_one_blur_of_even_sides_is_the_binomial_filter_between_every_two_pixels():
    frame, rows = noise(1, 1, 6, 8), np.array([1, 3, 3, 1]) / 8
    padded = np.pad(frame[0, 0].numpy(), 1, mode="edge")
    half = np.array([[rows @ padded[y : y + 4, x : x + 4] @ rows for x in range(0, 8, 2)] for y in range(0, 6, 2)])
    expected = torch.nn.functional.interpolate(torch.from_numpy(half)[None, None], (6, 8), mode="bilinear")
    torch.testing.assert_close(gen1.blurred(frame, torch.tensor([1])), expected, rtol=0, atol=1e-12)


def test_one_blur_of_odd_sides_is_the_binomial_filter_at_every_second_pixel():
    frame, rows = noise(1, 1, 5, 7), np.array([1, 2, 1]) / 4
    padded = np.pad(frame[0, 0].numpy(), 1, mode="edge")
    half = [[rows @ padded[y : y + 3, x : x + 3] @ rows for x in range(0, 7, 2)] for y in range(0, 5, 2)]
    out = gen1.blurred(frame, torch.tensor([1]))[0, 0]
    torch.testing.assert_close(out[::2, ::2], torch.tensor(half), rtol=0, atol=1e-12)
    torch.testing.assert_close(out[1::2], (out[:-1:2] + out[2::2]) / 2, rtol=0, atol=1e-12)
    torch.testing.assert_close(out[:, 1::2], (out[:, :-1:2] + out[:, 2::2]) / 2, rtol=0, atol=1e-12)


def test_layers_over_time_wake_up(image):
    new = gen1.network(image)
    stage = gen1.SYSTEM.stage("temporal")
    trained = [p for name, p in new.named_parameters() if "temporal" in name]
    assert len(stage.parameters(new)) == len(list(new.parameters()))
    wakes_up(new, trained, lambda x: new(x, LABEL, **GIVEN), video())


def test_frames_interact(network):
    interact(lambda x: network(x, LABEL, **GIVEN), video())


def test_every_convolution_and_attention_has_its_layer_behind_it(network):
    hosts = {name.rsplit(".spatial", 1)[0] for name, _ in network.named_modules() if name.endswith(".spatial")}
    hosts |= {name.rsplit(".kv", 1)[0] for name, _ in network.named_modules() if name.endswith(".kv")}
    assert len(hosts) > 10
    assert all(network.get_submodule(f"{host}.temporal") is not None for host in hosts)


def test_images_and_video_train_together():
    """By the stages' losses: an image leaves the layers over time alone, a video does not."""
    new = randomised(gen1.tiny()["unet"])
    stage, generator = gen1.SYSTEM.stage("blur"), torch.Generator().manual_seed(0)
    for x, d, moved in ((video()[:, :, 0], depth()[:, :, 0], False), (video(), depth(), True)):
        new.zero_grad()
        loss = stage.loss(new, x, generator, depth=d, content=CONTENT)
        assert loss.shape == (2,)
        loss.mean().backward()
        reached = [p.grad is not None and p.grad.abs().max() > 0 for n, p in new.named_parameters() if ".temporal" in n]
        assert any(reached) == moved
        assert new.unet.extra.weight.grad.abs().max() > 0


def test_the_losses_levels_are_the_stages():
    seen = []

    def watched(z, label, **given):
        seen.append(given)
        return 0 * z

    for name in ("structure", "blur"):
        loss, generator = gen1.SYSTEM.stage(name).loss, torch.Generator().manual_seed(0)
        for _ in range(40):
            loss(watched, video(), generator, depth=depth(), content=CONTENT)
    first, second = (torch.cat([given["blur"] for given in part]) for part in (seen[:40], seen[40:]))
    assert first.unique().tolist() == [0]
    assert second.unique().tolist() == list(range(8))
    for given in seen[::9]:
        assert torch.equal(given["structure"], gen1.blurred(depth(), given["blur"]))


def test_depth_may_be_encoded_once_it_is_blurred():
    """Of pixels, twice the latents' size here; otherwise as it is."""
    seen, loss = [], replace(gen1.SYSTEM.stage("blur").loss, encode=lambda d: d[..., ::2, ::2])

    def watched(z, label, **given):
        seen.append(given)
        return 0 * z

    large = depth(size=16)
    loss(watched, video(), torch.Generator().manual_seed(3), depth=large, content=CONTENT)
    assert torch.equal(seen[0]["structure"], gen1.blurred(large, seen[0]["blur"])[..., ::2, ::2])


def test_guidance_over_frames_is_the_published_equation(network):
    denoise, z, t = Denoiser(network, VPrediction(), gen1.SCHEDULE), video(), torch.tensor(500.0)
    given = {"structure": GIVEN["structure"], "blur": BLUR}
    with torch.no_grad():
        images, free, full = (
            denoise(z, t, **given, images=True),
            denoise(z, t, **given),
            denoise(z, t, content=CONTENT, **given),
        )
        for scale, temporal in ((1.0, 1.0), (3.0, 1.0), (1.0, 1.5), (7.5, 0.5), (0.0, 0.0)):
            guided = gen1.Guided(denoise, CONTENT, **given, scale=scale, temporal=temporal)(z, t)
            expected = images + temporal * (free - images) + scale * (full - free)
            torch.testing.assert_close(guided, expected, rtol=0, atol=1e-11)
    assert min((a - b).abs().max() for a, b in ((images, free), (free, full))) > 1e-3


def test_in_the_image_model_frames_do_not_interact(network):
    x = video()
    out, other = network(x, LABEL, **GIVEN, images=True), x.clone()
    other[:, :, 2] += 1
    changed = (network(other, LABEL, **GIVEN, images=True) - out).abs().amax((0, 1, 3, 4)) > 1e-9
    assert changed.tolist() == [False, False, True, False]
    alone = network(x[:, :, 3], LABEL, **{**GIVEN, "structure": GIVEN["structure"][:, :, 3]})
    torch.testing.assert_close(out[:, :, 3], alone, rtol=0, atol=1e-12)


def test_the_prior_is_used_at_inference_only(network):
    """No stage of the U-Net has it, a text's embedding reaches samples through it, and sampling leaves no gradient."""
    prior = randomised(gen1.tiny()["prior"])
    assert not {id(p) for p in prior.parameters()} & {id(p) for p in network.parameters()}
    assert [stage.name for stage in gen1.SYSTEM.stages if stage.network == "prior"] == ["prior"]

    def made(text, tokens=TOKENS[:1]):
        content = gen1.content_of(prior, tokens, text, torch.Generator().manual_seed(0), steps=3)
        assert content.shape == (1, 12)
        shape = {"structure": depth()[:1], "blur": BLUR[:1]}
        return gen1.sample(network, noise(1, 4, 4, 8, 8), content, **shape, scale=2.0, temporal=1.2, steps=3)

    text = noise(1, 12, seed=6)
    assert torch.equal(made(text), made(text))
    assert (made(-text) - made(text)).abs().max() > 1e-6
    assert (made(text, TOKENS[1:]) - made(text)).abs().max() > 1e-6
    assert all(p.grad is None for p in prior.parameters())


def test_the_prior_s_stage_trains_it():
    prior, stage = randomised(gen1.tiny()["prior"]), gen1.SYSTEM.stage("prior")
    loss = stage.loss(prior, CONTENT, torch.Generator().manual_seed(0), tokens=TOKENS, text=noise(2, 12, seed=6))
    assert loss.shape == (2,)
    loss.mean().backward()
    used = {name for name, p in prior.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert {"head.weight", "words.weight", "text.weight", "image.weight"} <= used


def test_compiled():
    """One of one level."""
    small = UNet(replace(gen1.TINY, multipliers=(1,), attention_levels=()))
    compiles(randomised(gen1.network(small)), video(3), LABEL, content=CONTENT, structure=depth(3), blur=BLUR)


def test_in_bf16_and_checkpointed(network):
    given = {**GIVEN, "structure": depth(3)}
    runs_in_bf16(network, video(3), LABEL, **given)
    same_when_checkpointed(network, Level, video(3), LABEL, **given)


def test_paper_size():
    """Of Stable Diffusion's widths; the paper counts none."""
    with torch.device("meta"):
        nets = gen1.SYSTEM.paper_size()
    assert (count(nets["unet"]), count(nets["prior"])) == (876_079_540, 206_295_808)


def test_page():
    assert page_holds("gen1", gen1.SYSTEM)["edited"].shape == (1, 4, 4, 8, 8)


@pytest.mark.parametrize("level", [-1.0, 7.5, 8.0, 2.5, float("nan")])
def test_levels_of_blur_that_there_are_not_are_refused(network, level):
    with pytest.raises(ValueError, match="whole numbers from 0 to 7"):
        gen1.blurred(depth(), torch.tensor([2.0, level]))
    with pytest.raises(ValueError, match="whole numbers from 0 to 7"):
        gen1.sample(network, video(), CONTENT, depth(), torch.tensor([2.0, level]), steps=1)


def test_structure_has_the_video_s_frames_and_all_a_row_for_each(network):
    """Depth of one frame would be that of all."""
    loss = gen1.SYSTEM.stage("blur").loss
    with pytest.raises(ValueError, match=r"structure of \(1, 8, 8\) for latents of \(4, 8, 8\)"):
        loss(network, video(), torch.Generator(), depth=depth(1), content=CONTENT)
    with pytest.raises(ValueError, match=r"structure of \(1, 8, 8\) for latents of \(4, 8, 8\)"):
        gen1.sample(network, video(), CONTENT, depth(1), BLUR, steps=1)
    with pytest.raises(ValueError, match="rows of levels"):
        loss(network, video(), torch.Generator(), depth=depth(b=1), content=CONTENT)
    for name, value in GIVEN.items():
        with pytest.raises(ValueError, match=f"a batch of 2 needs 2 rows of {name}"):
            network(video(), LABEL, **{**GIVEN, name: value[:1]})


def test_guidance_needs_a_content(network):
    for scale in (0.0, 3.0):
        with pytest.raises(ValueError, match="needs a content"):
            gen1.sample(network, video(), None, depth(), BLUR, scale=scale, steps=1)
    assert gen1.sample(network, video(), None, depth(), BLUR, steps=1).shape == video().shape
