import pytest
import torch
from torch import nn

from models.autoencoders.base import DiagonalGaussian
from models.autoencoders.discriminator import PatchDiscriminator, TemporalPatchDiscriminator, hinge_discriminator_loss
from models.autoencoders.losses import Adversary, AutoencoderLoss, PerceptualDistance, absolute_error, kl_per_value


def draws(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Trunk(nn.Module):
    """Two maps, with what a trunk may have that must not change in training: batch norm and dropout."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 5, 3, padding=1)
        self.second = nn.Sequential(nn.ReLU(), nn.Conv2d(5, 7, 3, stride=2), nn.BatchNorm2d(7), nn.Dropout(0.5))

    def forward(self, x):
        a = self.first(x)
        return [a, self.second(a)]


@pytest.fixture
def trunk():
    torch.manual_seed(0)
    return Trunk().double()


def by_hand(trunk, y, x, heads=None, mean=0.5, std=0.5):
    """Zhang et al. 2018, eq. 1, position by position."""
    total = 0.0
    with torch.no_grad():
        maps = [trunk.eval()(((p + 1) / 2 - mean) / std) for p in (y, x)]
    for layer, (fy, fx) in enumerate(zip(*maps, strict=True)):
        _, c, h, w = fy.shape
        for i in range(h):
            for j in range(w):
                a, b = fy[0, :, i, j], fx[0, :, i, j]
                a, b = a / a.norm(), b / b.norm()
                weights = heads[layer] if heads else torch.ones(c)
                total += sum(weights[k] * (a[k] - b[k]) ** 2 for k in range(c)).item() / (h * w)
    return total


@pytest.mark.parametrize("with_heads", [False, True])
def test_perceptual_distance_is_its_equation(trunk, with_heads):
    heads = [draws(5).abs(), draws(7).abs()] if with_heads else None
    distance = PerceptualDistance(trunk, heads, mean=(0.4,) * 3, std=(0.3,) * 3).double()
    y, x = draws(2, 3, 7, 6), draws(2, 3, 7, 6, seed=1)
    expected = [by_hand(trunk, y[i : i + 1], x[i : i + 1], heads, 0.4, 0.3) for i in range(2)]
    assert distance(y, x).tolist() == pytest.approx(expected, rel=1e-6)


def test_perceptual_distance_of_video_is_the_mean_over_its_frames(trunk):
    distance = PerceptualDistance(trunk).double()
    y, x = draws(2, 3, 4, 7, 6), draws(2, 3, 4, 7, 6, seed=1)
    expected = torch.stack([distance(y[:, :, i], x[:, :, i]) for i in range(4)]).mean(0)
    torch.testing.assert_close(distance(y, x), expected)


def test_perceptual_distance_stays_as_it_came(trunk):
    distance = PerceptualDistance(trunk, [torch.ones(5), torch.ones(7)]).double().train()
    before = {n: b.clone() for n, b in distance.named_buffers()}
    y = draws(2, 3, 7, 6).requires_grad_()
    value = distance(y, draws(2, 3, 7, 6, seed=1))
    value.sum().backward()
    assert torch.equal(value, distance(y, draws(2, 3, 7, 6, seed=1)))  # no dropout
    assert all(torch.equal(b, before[n]) for n, b in distance.named_buffers())
    assert not any(p.requires_grad for p in distance.parameters())
    assert y.grad.abs().max() > 0


def test_flat_features_give_no_nan(trunk):
    for parameter in trunk.parameters():
        nn.init.zeros_(parameter)
    y = draws(1, 3, 7, 6).requires_grad_()
    PerceptualDistance(trunk).double()(y, draws(1, 3, 7, 6, seed=1)).sum().backward()
    assert y.grad.isfinite().all()


def test_kl_is_weighed_like_a_sum_of_both_over_a_sample():
    posterior, x = DiagonalGaussian(draws(2, 8, 3, 3)), draws(2, 3, 24, 24)
    y = draws(2, 3, 24, 24, seed=1)
    as_sums = ((y - x).abs().flatten(1).sum(1) + 1e-3 * posterior.kl()).mean() / (3 * 24 * 24)
    torch.testing.assert_close(absolute_error(y, x) + 1e-3 * kl_per_value(posterior, x), as_sums)


class Generator(nn.Module):
    """A decoder of one layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1).double()

    def forward(self, x):
        frames = x.transpose(1, 2).flatten(0, 1) if x.ndim == 5 else x
        y = self.layer(frames)
        return y.unflatten(0, (len(x), -1)).transpose(1, 2) if x.ndim == 5 else y


@pytest.fixture
def adversaries():
    torch.manual_seed(0)
    return [
        Adversary(PatchDiscriminator(width=4, levels=1).double(), 0.5),
        Adversary(TemporalPatchDiscriminator(width=4, levels=1).double(), 0.25),
    ]


def test_the_loss_is_the_sum_of_its_terms(trunk, adversaries):
    generator, x = Generator(), draws(2, 3, 3, 16, 16)
    posterior, last = DiagonalGaussian(draws(2, 8, 3, 2, 2)), generator.layer.weight
    distance = PerceptualDistance(trunk).double()
    y = generator(x)
    total, terms = AutoencoderLoss(0.1, 0.3, distance, adversaries)(y, x, posterior, last)
    assert set(terms) == {"reconstruction", "perceptual", "kl", "adversarial0", "adversarial1"}
    expected = terms["reconstruction"] + 0.3 * terms["perceptual"] + 0.1 * terms["kl"]
    torch.testing.assert_close(total.detach(), expected + terms["adversarial0"] + terms["adversarial1"])
    torch.testing.assert_close(terms["reconstruction"], (y - x).abs().mean().detach())
    torch.testing.assert_close(terms["perceptual"], distance(y, x).mean().detach())
    assert not any(term.requires_grad for term in terms.values())


def test_terms_of_no_weight_are_left_out(trunk):
    x, y = draws(1, 3, 8, 8), draws(1, 3, 8, 8, seed=1)
    total, terms = AutoencoderLoss(perceptual=0, distance=PerceptualDistance(trunk).double())(y, x)
    assert list(terms) == ["reconstruction"]
    torch.testing.assert_close(total, (y - x).abs().mean())


def test_an_adversary_pulls_as_hard_as_its_weight_of_the_reconstruction(adversaries):
    generator, x = Generator(), draws(1, 3, 3, 16, 16)
    last = generator.layer.weight

    def pull(loss):
        total, _ = loss(generator(x), x, None, last)
        return torch.autograd.grad(total, last)[0]

    alone = pull(AutoencoderLoss())
    for adversary in adversaries:
        both = pull(AutoencoderLoss(adversaries=[adversary]))
        assert ((both - alone).norm() / alone.norm()).item() == pytest.approx(adversary.weight, rel=1e-3)


def test_the_adversarys_own_loss_reaches_its_weights_and_not_what_it_judges(adversaries):
    generator, x = Generator(), draws(1, 3, 3, 16, 16)
    y = generator(x)
    for adversary in adversaries:
        loss = adversary.judge(y, x)
        torch.testing.assert_close(
            loss, hinge_discriminator_loss(adversary.discriminator(x), adversary.discriminator(y))
        )
        loss.backward()
        assert all(p.grad.abs().max() > 0 for n, p in adversary.discriminator.named_parameters())
    assert generator.layer.weight.grad is None


def test_adversaries_without_a_last_layer_are_refused(adversaries):
    with pytest.raises(ValueError, match="last layer"):
        AutoencoderLoss(adversaries=adversaries)(draws(1, 3, 3, 16, 16), draws(1, 3, 3, 16, 16))


def test_a_temporal_decoder_is_fine_tuned_with_both_adversaries():
    """Video LDM's second stage, at tiny size: the decoder's temporal layers learn, the encoder never does."""
    from models.autoencoders.kl import AutoencoderKL, KLConfig
    from models.autoencoders.temporal import inflate

    torch.manual_seed(0)
    network = inflate(AutoencoderKL(KLConfig(block_out_channels=(8, 8), norm_num_groups=4)).double())
    encoder = {n: p.clone() for n, p in network.encoder.named_parameters()}
    adversary = Adversary(TemporalPatchDiscriminator(width=4, levels=1).double(), 0.5)
    optimizer = torch.optim.Adam(network.fine_tune(), 1e-2)
    judge = torch.optim.Adam(adversary.discriminator.parameters(), 1e-3)
    loss, x, losses = AutoencoderLoss(adversaries=[adversary]), draws(1, 3, 4, 16, 16), []
    for _ in range(8):
        with torch.no_grad():
            z = network.encode(x).mode()
        y = network.decode(z)
        total, terms = loss(y, x, None, network.last_layer)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        judge.zero_grad()
        adversary.judge(y, x).backward()
        judge.step()
        losses.append(terms["reconstruction"].item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(p, encoder[n]) and p.grad is None for n, p in network.encoder.named_parameters())
