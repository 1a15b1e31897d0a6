import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.autoencoders.discriminator import (
    PatchDiscriminator,
    TemporalPatchDiscriminator,
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
)


def draws(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def randomise(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        scale = 1.5 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.3
        parameter.data = scale * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return network.double()


@pytest.fixture(scope="module")
def temporal():
    return randomise(TemporalPatchDiscriminator(width=4, levels=2))


def test_a_picture_of_256_pixels_gets_a_grid_of_30():
    with torch.device("meta"):
        assert PatchDiscriminator()(torch.zeros(2, 3, 256, 256)).shape == (2, 1, 30, 30)


def test_each_logit_sees_a_patch_of_70_pixels():
    network = PatchDiscriminator(width=2).double()
    for i, layer in enumerate(network.layers):
        if isinstance(layer, nn.GroupNorm):  # statistics reach further
            network.layers[i] = nn.Identity()
        if isinstance(layer, nn.Conv2d):
            nn.init.ones_(layer.weight)  # so that nothing cancels
    x = torch.ones(1, 3, 160, 160, dtype=torch.float64, requires_grad=True)
    network(x)[0, 0, 9, 9].backward()
    seen = x.grad[0, 0] != 0
    assert seen.any(0).sum().item() == seen.any(1).sum().item() == 70


def test_video_is_so_many_pictures():
    network, x = randomise(PatchDiscriminator(width=4, levels=2)), draws(2, 3, 3, 32, 32)
    expected = torch.stack([network(x[:, :, i]) for i in range(3)], dim=1).flatten(0, 1)
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-10)


def test_pictures_of_a_batch_do_not_touch():
    network, x = randomise(PatchDiscriminator(width=4, levels=2)), draws(3, 3, 32, 32)
    torch.testing.assert_close(network(x)[:1], network(x[:1]), rtol=0, atol=1e-10)


def test_the_temporal_answer_is_a_grid_over_space_and_time(temporal):
    out = temporal(draws(2, 3, 5, 48, 32))
    assert out.shape == (2, 1, 5, 10, 6)
    assert out.flatten(1).std(1).min() > 1e-3  # the patches are judged apart


def test_the_temporal_discriminator_reacts_to_the_order_of_frames(temporal):
    x, order = draws(1, 3, 5, 32, 32), [3, 1, 4, 0, 2]
    out, shuffled = temporal(x), temporal(x[:, :, order])
    assert (shuffled - out[:, :, order]).abs().max() > 1e-2  # a judge of frames alone would give the same, shuffled
    assert (shuffled.mean() - out.mean()).abs() > 1e-4


def test_every_layer_of_the_temporal_discriminator_mixes_neighbours_and_no_more(temporal):
    x = draws(1, 3, 12, 24, 24).requires_grad_()
    (gradient,) = torch.autograd.grad(temporal(x)[:, :, 6].sum(), x)
    reached = [i for i in range(12) if gradient[:, :, i].abs().max() > 0]
    assert reached == list(range(2, 11))  # four layers, one frame more on either side each


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=20), st.lists(st.floats(-3, 3), min_size=1, max_size=20))
def test_hinge_losses(real, fake):
    r, f = torch.tensor(real, dtype=torch.float64), torch.tensor(fake, dtype=torch.float64)
    expected = (sum(max(0, 1 - v) for v in real) / len(real) + sum(max(0, 1 + v) for v in fake) / len(fake)) / 2
    assert hinge_discriminator_loss(r, f).item() == pytest.approx(expected, abs=1e-12)
    assert hinge_generator_loss(f).item() == pytest.approx(-sum(fake) / len(fake), abs=1e-12)


def test_what_is_told_apart_beyond_the_margin_no_longer_counts():
    real, fake = torch.tensor([1.5], requires_grad=True), torch.tensor([-2.0], requires_grad=True)
    hinge_discriminator_loss(real, fake).backward()
    assert real.grad.item() == fake.grad.item() == 0


def test_adaptive_weight_is_the_ratio_of_gradient_norms_at_the_last_layer():
    w, x = draws(3, 4).requires_grad_(), draws(4, 5, seed=1)
    y = w @ x
    first, second = (y**2).sum(), (y * draws(3, 5, seed=2)).sum()
    weight = adaptive_weight(first, second, w, delta=1e-6)
    of_first, of_second = 2 * y.detach() @ x.T, draws(3, 5, seed=2) @ x.T
    assert weight.item() == pytest.approx((of_first.norm() / (of_second.norm() + 1e-6)).item(), rel=1e-12)
    assert not weight.requires_grad
    assert w.grad is None  # nothing is left behind


def test_adaptive_weight_has_a_limit():
    w = torch.ones(2, requires_grad=True)
    assert adaptive_weight(w.sum(), 0 * w.sum(), w).item() == 1e4


def test_it_learns_to_tell_clips_that_jump_from_clips_that_move():
    """The same frames, in order and not: only time tells them apart."""
    torch.manual_seed(0)
    network = TemporalPatchDiscriminator(width=8, levels=1)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(0)

    def clips():
        base = torch.randn(4, 3, 16, 24, generator=generator)
        moving = torch.stack([base[..., i : i + 16] for i in range(6)], dim=2)
        return moving, moving[:, :, torch.tensor([3, 0, 5, 1, 4, 2])]

    losses = []
    for _ in range(60):
        moving, jumping = clips()
        losses.append(hinge_discriminator_loss(network(moving), network(jumping)))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    moving, jumping = clips()
    assert network(moving).mean() > network(jumping).mean() + 0.5
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize("kind", ["picture", "clip"])
def test_compiles_whole_and_runs_in_bf16(kind):
    network = PatchDiscriminator(width=4, levels=1) if kind == "picture" else TemporalPatchDiscriminator(3, 4, 1)
    x = torch.randn(1, 3, 16, 16) if kind == "picture" else torch.randn(1, 3, 3, 16, 16)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), network(x))
    assert network.bfloat16()(x.bfloat16()).isfinite().all()
