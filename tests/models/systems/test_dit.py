"""The Sora-style system: its loss over packed sizes, its sampler, its sizes. The network: test_dit.py of backbones."""

import pytest
import torch

from models.backbones.dit import DiT, DiTConfig
from models.diffusion.losses import DenoisingLoss, MinSNR, UniformTimes
from models.diffusion.parameterization import VPrediction
from models.diffusion.schedules import CosineSchedule
from models.systems import dit
from models.systems.recipe import count

TOLD = {"text": torch.randn(2, 3, 16, dtype=torch.float64), "fps": torch.tensor([24.0, float("nan")]).double()}


def network():
    net, generator = dit.tiny().double()["dit"], torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return net


def draw(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "loss", [dit.LOSS, DenoisingLoss(CosineSchedule(), VPrediction(), UniformTimes(0.1, 0.9), MinSNR())]
)
@pytest.mark.parametrize("length", [None, 40])
def test_the_packed_loss_is_the_loss_of_a_batch(loss, length):
    """Of two videos of one size: noise for a batch is what its parts would draw in turn."""
    x, net = draw(2, 4, 2, 4, 6), network()

    batch = loss(net, x, torch.Generator().manual_seed(3), **TOLD)
    packed = dit.PackedLoss(loss)(net, list(x), torch.Generator().manual_seed(3), length, **TOLD)
    assert batch.shape == packed.shape == (2,)
    torch.testing.assert_close(packed, batch, rtol=1e-10, atol=1e-10)


def test_images_and_video_of_several_sizes_train_together():
    net = network()
    videos = [draw(4, 4, 4, 6), draw(4, 1, 8, 4, seed=2)]
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = dit.PackedLoss()(net, videos, torch.Generator().manual_seed(0), **TOLD).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("shape", [(1, 4, 4, 6), (1, 4, 3, 4, 6), (1, 4, 1, 8, 8)])
def test_samples_of_any_size_follow_from_their_seed(shape):
    net, one = network(), torch.Generator
    told = {"text": TOLD["text"][:1]}
    first, again, other = (dit.sample(net, shape, one().manual_seed(s), steps=3, **told) for s in (0, 0, 1))
    assert first.shape == shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_guidance_is_away_from_no_text():
    net, told, shape = network(), {"text": TOLD["text"][:1]}, (1, 4, 2, 4, 4)
    at = [dit.sample(net, shape, torch.Generator().manual_seed(0), 1, s, **told) for s in (1.0, 0.0, 3.0)]
    bare = dit.sample(net, shape, torch.Generator().manual_seed(0), 1)
    torch.testing.assert_close(at[1], bare, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(at[2], at[1] + 3 * (at[0] - at[1]), rtol=1e-9, atol=1e-9)


def test_the_paper_size_is_dit_xl():
    """675 M (Peebles and Xie, table 1), beside what is told here and not there: text, frame rate and motion."""
    with torch.device("meta"):
        net = dit.paper_size()["dit"]
    width, depth, text = 1152, 28, 4096
    reading = depth * (5 * width**2 + 2 * text * width)  # queries, output and a third modulation; keys and values
    assert count(net) - reading - count(net.text) - count(net.fps) - count(net.motion) == pytest.approx(675e6, rel=2e-3)


def test_its_stages_train_everything():
    net = dit.tiny()["dit"]
    for stage in dit.SYSTEM.stages:
        assert stage.parameters(net) == list(net.parameters())
    assert dit.SYSTEM.stage("finetune").parent == "pretrain"
    assert isinstance(net, DiT)
    assert net.config == DiTConfig(width=48, depth=2, head_dim=12, text_dim=16)


@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_guidance_needs_a_text(scale):
    with pytest.raises(ValueError, match=f"guidance of {scale:g} needs a text"):
        dit.sample(network(), (1, 4, 4, 6), torch.Generator(), 1, scale)


@pytest.mark.parametrize("name", [*TOLD])
def test_what_is_told_has_a_row_for_each_sample(name):
    net, told = network(), {**TOLD, name: TOLD[name][:1]}
    with pytest.raises(ValueError, match=f"a batch of 2 needs 2 rows of {name}"):
        dit.PackedLoss()(net, [draw(4, 1, 4, 4), draw(4, 2, 4, 4)], torch.Generator(), **told)
    for scale in (1.0, 3.0):
        with pytest.raises(ValueError, match=f"a batch of 2 needs 2 rows of {name}"):
            dit.sample(net, (2, 4, 4, 4), torch.Generator(), 1, scale, **told)


def test_the_packed_loss_in_bfloat16_embeds_exact_labels():
    net, seen = network().bfloat16(), []
    packed, net.packed = net.packed, lambda tokens, noise, **told: seen.append(noise) or packed(tokens, noise, **told)
    loss = dit.PackedLoss()(net, [draw(4, 2, 4, 6).bfloat16()], torch.Generator().manual_seed(0))
    assert loss.isfinite().all()
    assert seen[0].dtype is torch.float32
