import math

import pytest
import torch

from models.diffusion.losses import EDMLoss, VLoss, denoiser, stratified_uniform
from models.diffusion.schedules import expand_to


def test_stratified_numbers_fill_every_bin_once():
    numbers = stratified_uniform(64, torch.Generator().manual_seed(3))
    assert sorted((numbers * 64).long().tolist()) == list(range(64))


def test_stratified_numbers_are_uniform_over_draws():
    first = torch.stack([stratified_uniform(4, torch.Generator().manual_seed(s))[0] for s in range(2000)])
    assert first.mean().item() == pytest.approx(0.5, abs=0.02)
    assert first.var().item() == pytest.approx(1 / 12, abs=0.005)


@pytest.mark.parametrize("loss", [VLoss(), EDMLoss()], ids=["v", "edm"])
def test_loss_is_zero_for_the_network_that_knows_the_data(loss):
    x = torch.randn(6, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def oracle(z_in, noise):
        ratio = (4 * noise).exp()  # sigma / alpha, from the label
        t = loss.schedule.time(ratio)
        alpha, sigma = loss.schedule.alpha_sigma(t)
        z = z_in / expand_to(loss.parameterization.coefficients(alpha, sigma).inp, x)
        eps = (z - expand_to(alpha, x) * x) / expand_to(sigma, x)
        return loss.parameterization.target(x, eps, alpha, sigma)

    assert loss(oracle, x, torch.Generator().manual_seed(1)).abs().max() < 1e-16


def test_edm_loss_is_the_weighted_denoising_error():
    """lambda(sigma) ||D - x||^2 with lambda = (sigma^2 + sd^2) / (sigma sd)^2, sigma and noise read from the inputs."""
    loss, x = EDMLoss(), torch.randn(5, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 2
    seen = {}

    def network(z, noise):
        seen.update(z=z, noise=noise)
        return 0.1 * z

    value = loss(network, x, torch.Generator().manual_seed(1))
    sigma = (4 * seen["noise"]).exp()
    weight = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
    z = seen["z"] * expand_to((sigma**2 + 0.25).sqrt(), x)
    x_hat = denoiser(loss, network)(z, sigma)
    torch.testing.assert_close(value, weight * (x_hat - x).square().flatten(1).mean(1), rtol=1e-9, atol=1e-12)


def test_edm_noise_levels_are_log_normal():
    levels = []
    loss = EDMLoss(p_mean=0.7, p_std=1.6)
    loss(lambda z, noise: levels.append(4 * noise) or z, torch.zeros(20_000, 1, 1, 1), torch.Generator().manual_seed(0))
    assert levels[0].mean().item() == pytest.approx(0.7, abs=0.01)
    assert levels[0].std().item() == pytest.approx(1.6, abs=0.01)


def test_v_loss_sees_uniform_times():
    labels = []
    VLoss()(lambda z, noise: labels.append(noise) or z, torch.zeros(5000, 1, 1, 1), torch.Generator().manual_seed(0))
    times = torch.atan((4 * labels[0].double()).exp()) * 2 / math.pi
    torch.testing.assert_close(
        times.sort().values, (torch.arange(5000) + 0.5) / 5000, rtol=0, atol=2e-4, check_dtype=False
    )


@pytest.mark.parametrize("loss", [VLoss(), EDMLoss()], ids=["v", "edm"])
def test_loss_is_a_function_of_the_generator(loss):
    x = torch.randn(4, 3, 2, 4, 4)
    first, again, other = (loss(lambda z, noise: z, x, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert first.shape == (4,)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
