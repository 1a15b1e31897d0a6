"""Tune-A-Video: ST-attention, what one-shot tuning trains, inversion and editing, on our U-Net and on SD's."""

from functools import partial

import pytest
import torch

from models.backbones.sd_unet import SDUNet
from models.backbones.unet import Level, UNet
from models.diffusion.parameterization import Denoiser, EpsPrediction
from models.layers.temporal import TemporalAttention
from models.systems import tune_a_video as tav
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
from tests.models.systems.image_networks import KINDS, LABEL, OURS, SD, TEXT, one_level

STAGE = tav.SYSTEM.stage("one-shot")


@pytest.fixture(scope="module", params=KINDS)
def image(request):
    return randomised(UNet(OURS) if request.param == "ours" else SDUNet(SD))


def told(image, b=2):
    return {"text" if isinstance(image, UNet) else "context": TEXT[:b]}


def video(image, t=4, b=2, seed=1):
    return noise(b, 3 if isinstance(image, UNet) else 4, t, 8, 8, seed=seed)


def per_image(image, x, label=LABEL):
    """Every frame by the image network itself, told its own kind of noise label."""
    if isinstance(image, UNet):
        return torch.stack([image(x[:, :, i], label, **told(image, len(x))) for i in range(x.shape[2])], dim=2)
    t = tav.SCHEDULE.time((4 * label).exp())
    return torch.stack([image(x[:, :, i], t, **told(image, len(x))) for i in range(x.shape[2])], dim=2)


def asleep(network):
    """Without the attention over time, by its last layer at zero."""
    for layer in network.modules():
        if isinstance(layer, TemporalAttention):
            layer.out.weight.data.zero_()
            layer.out.bias.data.zero_()
    return network


def test_keys_and_values_are_of_the_first_and_the_previous_frame(image):
    """Each self-attention is softmax(Q_i [K_1, K_(i-1)]' / sqrt(d)) [V_1, V_(i-1)], with einsum; frame 1 has itself
    twice."""
    network, x, calls = tav.network(image), video(image), []

    def by_hand(q, k, v):
        q, k, v = (part.unflatten(0, (2, 4)) for part in (q, k, v))
        out = torch.empty_like(q)
        for i in range(4):
            keys, values = (torch.cat([part[:, 0], part[:, max(0, i - 1)]], dim=2) for part in (k, v))
            weights = (torch.einsum("bhnd,bhmd->bhnm", q[:, i], keys) / q.shape[-1] ** 0.5).softmax(-1)
            out[:, i] = torch.einsum("bhnm,bhmd->bhnd", weights, values)
        calls.append(q.shape)
        return out.flatten(0, 1)

    expected = network.network(x, LABEL, attend=by_hand, **told(image))
    assert len(calls) >= 3
    torch.testing.assert_close(network(x, LABEL, **told(image)), expected, rtol=1e-10, atol=1e-10)


def test_a_frame_depends_on_the_first_and_those_before_it(image):
    """Of a new network, whose attention over time is silent."""
    network, x = tav.network(image), video(image)
    out = network(x, LABEL, **told(image))
    for j, reached in ((0, [0, 1, 2, 3]), (1, [1, 2, 3]), (2, [2, 3]), (3, [3])):
        other = x.clone()
        other[:, :, j] += noise(*x[:, :, 0].shape, seed=8)
        changed = (network(other, LABEL, **told(image)) - out).abs().amax((0, 1, 3, 4)) > 1e-9
        assert changed.nonzero().flatten().tolist() == reached


def test_one_frame_equals_the_image_model(image):
    x = video(image, t=1)
    torch.testing.assert_close(tav.network(image)(x, LABEL, **told(image)), per_image(image, x), rtol=0, atol=1e-9)


def test_equal_frames_equal_the_image_model_and_distinct_ones_do_not(image):
    network, x = tav.network(image), video(image)
    still = x[:, :, :1].expand_as(x)
    torch.testing.assert_close(network(still, LABEL, **told(image)), per_image(image, still), rtol=0, atol=1e-9)
    assert (network(x, LABEL, **told(image)) - per_image(image, x)).abs().max() > 1e-4
    torch.testing.assert_close(
        network(x, LABEL, **told(image))[:, :, 0], per_image(image, x)[:, :, 0], rtol=0, atol=1e-9
    )


def test_exactly_queries_and_attention_over_time_are_tuned(image):
    """By module, not by name: every q of self- and cross-attention, every parameter of a temporal attention."""
    network, expected = tav.network(image), set()
    for layer in network.modules():
        kind = type(layer).__name__
        if isinstance(layer, TemporalAttention):
            expected |= {id(p) for p in layer.parameters()}
        elif kind == "Attention":
            queries = (layer.q, layer.text_q) if isinstance(image, UNet) else (layer.to_q,)
            expected |= {id(query.weight) for query in queries}
    trained = STAGE.prepare(network)
    assert {id(p) for p in trained} == expected
    assert {id(p) for p in network.parameters() if p.requires_grad} == expected
    assert 0 < len(expected) < len(list(network.parameters()))


def test_tuning_changes_these_and_no_other(image):
    """By the stage's own loss, with AdamW on its parameters alone: the rest is bitwise what it was."""
    network = tav.network(image)
    trained = STAGE.prepare(network)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.AdamW(trained, lr=3e-3)
    x, generator = video(image, b=1), torch.Generator().manual_seed(0)
    for _ in range(3):
        optimizer.zero_grad()
        STAGE.loss(network, x, generator, **told(image, 1)).mean().backward()
        optimizer.step()
    assert len(optimizer.state) == len(trained)
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in network.named_parameters() if p.requires_grad}


def test_attention_over_time_wakes_up(image):
    network = tav.network(image)
    wakes_up(network, STAGE.prepare(network), lambda x: network(x, LABEL, **told(image)), video(image))


def test_attention_over_time_sees_what_comes_after(image):
    interact(lambda x: randomised(tav.network(image))(x, LABEL, **told(image)), video(image))


def test_tuning_fits_the_video():
    """Stage's loss falls on the one video, whose frames differ."""
    network, x = tav.network(randomised(UNet(OURS))), noise(1, 3, 4, 8, 8)
    optimizer = torch.optim.AdamW(STAGE.prepare(network), lr=1e-2)

    def loss():
        return STAGE.loss(network, x.expand(4, -1, -1, -1, -1), torch.Generator().manual_seed(0)).mean()

    first = loss().item()
    for _ in range(12):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.98 * first


def denoiser(network, image, text=TEXT):
    return partial(Denoiser(network, EpsPrediction(), tav.SCHEDULE), **dict.fromkeys(told(image), text[:1]))


def test_the_reconstruction_error_falls_with_steps(image):
    """DDIM inversion, then DDIM with the same text."""
    network, x = tav.network(image), video(image, b=1)
    for parameter in network.parameters():
        parameter.requires_grad_(False).mul_(0.7)  # eps that changes slowly along the path
    same, errors = denoiser(network, image), []
    for steps in (5, 20, 60):
        errors.append((tav.edit(same, same, x, steps=steps) - x).square().mean().sqrt().item())
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2], errors


def test_another_text_makes_another_video(image):
    network, x = randomised(tav.network(image), scale=0.1), video(image, b=1)
    same, other = denoiser(network, image), denoiser(network, image, 2 * TEXT.flip(0))
    noisy = tav.invert(same, x, steps=10)
    assert noisy.shape == x.shape
    assert (tav.edit(same, other, x, steps=10) - tav.edit(same, same, x, steps=10)).abs().max() > 1e-3


def test_compiled():
    compiles(randomised(tav.network(one_level("ours"))), noise(2, 3, 3, 4, 4), LABEL, text=TEXT)


def test_in_bf16_and_checkpointed():
    network, x = randomised(tav.tiny())["unet"], noise(2, 3, 3, 8, 8)
    runs_in_bf16(network, x, LABEL, text=TEXT)
    same_when_checkpointed(network, Level, x, LABEL, text=TEXT)


def test_paper_size():
    """Stable Diffusion's 859.52 M, of whose 16 blocks' widths the attention over time and both queries follow."""
    with torch.device("meta"):
        network = tav.SYSTEM.paper_size()["unet"]
    widths = [320] * 5 + [640] * 5 + [1280] * 6
    temporal = sum(4 * w * w + 3 * w for w in widths)
    assert count(network) == 859_520_964 + temporal == 909_120_004
    assert sum(p.numel() for p in STAGE.parameters(network)) == temporal + sum(2 * w * w for w in widths)


def test_page():
    names = page_holds("tune_a_video", tav.SYSTEM)
    assert names["edited"].shape == names["video"].shape
