from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from models.backbones.unet import Level
from models.diffusion.guidance import downsampled
from models.diffusion.losses import denoiser
from models.systems import vdm
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

LABEL = torch.tensor([-0.3, 0.6], dtype=torch.float64)
TEXT = noise(2, 4, 12, seed=5)


@pytest.fixture(scope="module")
def network():
    return randomised(vdm.network(vdm.TINY))


def video(t=5, b=2, seed=1, size=8):
    return noise(b, 3, t, size, size, seed=seed)


def alone(network, x, **given):
    """Every frame as an image, which is a video of one frame."""
    return torch.cat([network(x[:, :, i : i + 1], LABEL[: len(x)], **given) for i in range(x.shape[2])], dim=2)


def test_a_convolution_sees_one_frame_and_temporal_attention_is_the_only_mixer(network):
    """With the attention over time closed, a frame's output is that of the image network, whatever the others are."""
    x = video()
    layers = [m for m in network.modules() if type(m).__name__.startswith("Temporal")]
    assert {type(layer).__name__ for layer in layers} == {"TemporalAttention"}
    assert all(conv.temporal is None for conv in network.modules() if hasattr(conv, "spatial"))
    closed = randomised(vdm.network(vdm.TINY))
    for name, parameter in closed.named_parameters():
        if ".temporal.out" in name:
            parameter.data.zero_()
    torch.testing.assert_close(closed(x, LABEL), alone(closed, x), rtol=0, atol=1e-12)
    other = x.clone()
    other[:, :, 3] += 1
    changed = (closed(other, LABEL) - closed(x, LABEL)).abs().amax((0, 1, 3, 4))
    assert changed[3] > 1e-3
    assert changed[[0, 1, 2, 4]].max() == 0
    assert (network(other, LABEL) - network(x, LABEL)).abs().amax((0, 1, 3, 4)).min() > 1e-6


def test_every_attention_over_space_is_followed_by_one_over_time(network):
    hosts = {name.rsplit(".kv", 1)[0] for name, _ in network.named_modules() if name.endswith(".kv")}
    assert len(hosts) == 4
    assert all(network.get_submodule(f"{host}.temporal") is not None for host in hosts)


def test_the_relative_bias_is_shift_invariant(network):
    """A clip later in time, seen by itself, is the clip."""
    x = video(3)
    two = torch.block_diag(torch.ones(3, 3), torch.ones(3, 3)).bool()
    out = network(torch.cat([x, x], dim=2), LABEL, frame_mask=two)
    torch.testing.assert_close(out[:, :, 3:], out[:, :, :3], rtol=0, atol=1e-12)
    torch.testing.assert_close(out[:, :, :3], network(x, LABEL), rtol=0, atol=1e-12)


def test_the_order_of_frames_counts(network):
    """By the bias alone."""
    x = video()
    assert (network(x.flip(2), LABEL).flip(2) - network(x, LABEL)).abs().max() > 1e-6
    without = deepcopy(network)
    for name, parameter in without.named_parameters():
        if name.endswith("bias.table"):
            parameter.data.zero_()
    torch.testing.assert_close(without(x.flip(2), LABEL).flip(2), without(x, LABEL), rtol=0, atol=1e-11)


def test_a_frame_mask_of_identity_is_exact_image_mode(network):
    x = video()
    out = network(x, LABEL, text=TEXT, frame_mask=torch.eye(5, dtype=torch.bool))
    torch.testing.assert_close(out, alone(network, x, text=TEXT), rtol=0, atol=1e-12)
    assert (network(x, LABEL, text=TEXT) - out).abs().max() > 1e-3


def test_video_and_images_train_jointly_and_do_not_meet(network):
    clip, images = video(4), noise(2, 3, 3, 8, 8, seed=2)
    x, mask = vdm.joint(clip, images)
    out = network(x, LABEL, frame_mask=mask)
    torch.testing.assert_close(out[:, :, :4], network(clip, LABEL), rtol=0, atol=1e-12)
    for i in range(3):
        torch.testing.assert_close(out[:, :, 4 + i], network(images[:, i, :, None], LABEL)[:, :, 0], rtol=0, atol=1e-12)
    loss = vdm.LOSS(network, x, torch.Generator().manual_seed(0), frame_mask=mask)
    assert loss.shape == (2,)
    loss.sum().backward()
    assert all(p.grad is not None for n, p in network.named_parameters() if "temporal" in n)
    network.zero_grad()


def test_the_log_snr_is_an_input(network):
    """c_noise is -1/8 of it."""
    x, t = video(), torch.tensor([0.2, 0.7], dtype=torch.float64)
    alpha, sigma = vdm.LOSS.schedule.alpha_sigma(t)
    seen = vdm.LOSS.parameterization.coefficients(alpha, sigma).noise
    torch.testing.assert_close(seen, (alpha**2 / sigma**2).log() / -8)
    assert (network(x, seen) - network(x, seen + 0.1)).abs().max() > 1e-3


def test_the_temporal_branch_wakes_up():
    net = randomised(vdm.network(vdm.TINY))
    for name, parameter in net.named_parameters():
        if ".temporal." in name and (".out." in name or ".bias." in name):
            parameter.data.zero_()  # as new
    (stage,) = vdm.STAGES
    given = {"text": TEXT, "fps": LABEL.exp(), "motion": LABEL.exp()}
    wakes_up(net, stage.prepare(net), lambda x: net(x, LABEL, **given), video())


def test_guidance_by_text_moves_away_from_what_is_without(network):
    start = video(3, b=1)
    drawn = [vdm.sample(network, start, 3, TEXT[:1], scale=s) for s in (1.0, 2.0)]
    plain = vdm.sample(network, start, 3)
    assert min((drawn[0] - drawn[1]).abs().max(), (drawn[0] - plain).abs().max()) > 1e-4
    with pytest.raises(ValueError, match="needs a text"):
        vdm.sample(network, start, 3, scale=2.0)


def test_a_video_is_extended_and_its_own_frames_stay(network):
    clip = video(4, b=1)
    longer = vdm.extend(network, clip, video(5, b=1, seed=3), known=2, steps=3)
    assert longer.shape == (1, 3, 7, 8, 8)
    assert torch.equal(longer[:, :, :4], clip)
    other = clip.clone()
    other[:, :, 3] += 1
    again = vdm.extend(network, other, video(5, b=1, seed=3), known=2, steps=3)
    assert (again - longer)[:, :, 4:].abs().max() > 1e-3  # what comes next depends on what was
    other[:, :, 3] -= 1
    other[:, :, 0] += 1  # too far back to be known
    again = vdm.extend(network, other, video(5, b=1, seed=3), known=2, steps=3)
    torch.testing.assert_close(again[:, :, 4:], longer[:, :, 4:], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("known", "frames"), [(0, 3), (3, 3), (5, 6)])
def test_a_block_without_known_or_new_frames_is_refused(network, known, frames):
    with pytest.raises(ValueError, match="cannot extend"):
        vdm.extend(network, video(4, b=1), video(frames, b=1), known, steps=1)


def test_what_does_not_fit_the_noise_is_refused(network):
    """A small video of one frame, or one text, would be that of all."""
    with pytest.raises(ValueError, match="as observed"):
        vdm.super_resolve(network, video(1, size=4), video(2), 1)
    for scale in (1.0, 3.0):
        with pytest.raises(ValueError, match="a batch of 2 needs 2 rows of text"):
            vdm.sample(network, video(2), 1, TEXT[:1], scale=scale)


def test_guidance_pulls_the_sample_towards_the_small_video():
    """Over five seeds, of the error of what is known, as without guidance."""
    net = randomised(vdm.network(vdm.TINY), scale=0.05)
    errors = []
    for seed in range(5):
        small = downsampled(video(2, b=1, seed=seed), 4, 4)
        start = video(2, b=1, seed=100 + seed)
        drawn = [vdm.super_resolve(net, small, start, 4, weight) for weight in (0.0, 2.0)]
        errors.append([(downsampled(x, 4, 4) - small).square().mean() for x in drawn])
    without, guided = torch.tensor(errors).mean(0)
    assert guided < 0.8 * without


def test_the_network_compiles():
    x, mask = vdm.joint(video(3), noise(2, 1, 3, 8, 8))
    compiles(randomised(vdm.network(replace(vdm.TINY, attention_levels=()))), x, LABEL, text=TEXT, frame_mask=mask)


def test_the_network_runs_in_bf16(network):
    runs_in_bf16(network, video(3), LABEL, text=TEXT)


def test_checkpointing_changes_nothing(network):
    same_when_checkpointed(network, Level, video(3), LABEL, text=TEXT)


def test_the_loss_falls_where_a_video_is_learned():
    torch.manual_seed(0)
    net = vdm.tiny()["network"].double()
    optimizer = torch.optim.Adam(vdm.STAGES[0].prepare(net), lr=5e-3)
    x, losses = video(3, b=1).tanh(), []
    for step in range(16):
        loss = vdm.LOSS(net, x, torch.Generator().manual_seed(step % 2)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-2:]) < 0.8 * sum(losses[:2])
    interact(lambda z: denoiser(vdm.LOSS, net)(z, torch.tensor(0.5)), x)


def test_the_paper_size_is_counted_without_memory():
    with torch.device("meta"):
        networks = vdm.SYSTEM.paper_size()
    assert 1.1e9 < count(networks) < 1.5e9
    assert not vdm.SYSTEM.published
    assert vdm.SYSTEM.unpublished


def test_the_page_runs_and_its_tests_exist():
    drawn = page_holds("vdm", vdm.SYSTEM)
    assert drawn["longer"].shape == (1, 3, 6, 16, 16)
