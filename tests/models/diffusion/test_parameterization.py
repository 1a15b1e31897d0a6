import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.diffusion.parameterization import (
    Denoiser,
    EDMPrediction,
    EpsPrediction,
    FlowPrediction,
    VPrediction,
    XPrediction,
)
from models.diffusion.schedules import CosineSchedule, FlowSchedule, KarrasSchedule, expand_to

ALL = [EpsPrediction(), XPrediction(), VPrediction(), EDMPrediction(0.5), EDMPrediction(1.0), FlowPrediction()]


def _noised(seed, alpha, sigma):
    generator = torch.Generator().manual_seed(seed)
    x, eps = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64, generator=generator).unbind(0)
    return x, eps, expand_to(alpha, x) * x + expand_to(sigma, x) * eps


@pytest.mark.parametrize("schedule", [CosineSchedule(), FlowSchedule(), KarrasSchedule()], ids=str)
@pytest.mark.parametrize("parameterization", ALL, ids=str)
@given(t=st.floats(0.02, 0.98), seed=st.integers(0, 99))
def test_the_target_denoises_to_the_data(parameterization, schedule, t, seed):
    alpha, sigma = schedule.alpha_sigma(torch.full((2,), t, dtype=torch.float64))
    x, eps, z = _noised(seed, alpha, sigma)
    c = parameterization.coefficients(alpha, sigma)
    target = parameterization.target(x, eps, alpha, sigma)
    torch.testing.assert_close(expand_to(c.skip, x) * z + expand_to(c.out, x) * target, x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("a", ALL, ids=str)
@pytest.mark.parametrize("b", ALL, ids=str)
@given(t=st.floats(0.05, 0.95), seed=st.integers(0, 99))
def test_from_one_prediction_to_another_and_back(a, b, t, seed):
    """F_a -> x -> F_b -> x -> F_a, for any output: each is an affine map of the other at a noise level."""
    alpha, sigma = CosineSchedule().alpha_sigma(torch.full((2,), t, dtype=torch.float64))
    output, _, z = _noised(seed, alpha, sigma)
    ca, cb = ([expand_to(c, z) for c in p.coefficients(alpha, sigma)] for p in (a, b))
    x = ca[0] * z + ca[1] * output
    x = cb[0] * z + cb[1] * ((x - cb[0] * z) / cb[1])
    torch.testing.assert_close((x - ca[0] * z) / ca[1], output, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", [CosineSchedule(), FlowSchedule()], ids=str)
@pytest.mark.parametrize("parameterization", ALL[1:], ids=str)
def test_both_ends_are_finite(parameterization, schedule):
    """sigma = 0 and alpha = 0, where the perfect network's estimate is x again."""
    alpha, sigma = schedule.alpha_sigma(torch.tensor([0.0, 1.0], dtype=torch.float64))
    x, eps, z = _noised(0, alpha, sigma)
    c = parameterization.coefficients(alpha, sigma)
    target = parameterization.target(x, eps, alpha, sigma)
    assert all(torch.isfinite(one).all() for one in (*c, target))
    torch.testing.assert_close(expand_to(c.skip, x) * z + expand_to(c.out, x) * target, x, rtol=0, atol=1e-12)


@given(t=st.floats(1e-9, 1e-3))
def test_eps_is_finite_but_at_pure_noise(t):
    """Its map grows as 1 / alpha, and so do the errors: that is why zero terminal SNR needs v (Lin et al. 2023)."""
    schedule = CosineSchedule()
    near, at = (
        EpsPrediction().coefficients(*schedule.alpha_sigma(torch.tensor(time, dtype=torch.float64)))
        for time in (1 - t, 0.0)
    )
    assert torch.isfinite(near.skip)
    assert near.skip.item() == pytest.approx(1 / math.sin(math.pi * t / 2), rel=1e-6)
    assert (at.skip.item(), at.out.item()) == (1, 0)
    assert EpsPrediction().coefficients(*schedule.alpha_sigma(torch.tensor(1.0))).skip.isinf()


def test_v_is_alpha_eps_less_sigma_x():
    alpha, sigma = CosineSchedule().alpha_sigma(torch.tensor([0.2, 0.7], dtype=torch.float64))
    x, eps, _ = _noised(3, alpha, sigma)
    expected = expand_to(alpha, x) * eps - expand_to(sigma, x) * x
    torch.testing.assert_close(VPrediction().target(x, eps, alpha, sigma), expected, rtol=0, atol=1e-15)


def test_v_at_unit_alpha_is_the_one_of_svd():
    """c_skip = 1 / (sigma^2 + 1), c_out = -sigma / sqrt(sigma^2 + 1), c_in = 1 / sqrt(sigma^2 + 1), 0.25 ln sigma."""
    sigma = torch.logspace(-2.7, 2.8, 12, dtype=torch.float64)
    c = VPrediction().coefficients(torch.ones_like(sigma), sigma)
    root = (sigma**2 + 1).sqrt()
    for ours, expected in zip(c, (1 / root**2, -sigma / root, 1 / root, sigma.log() / 4), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-14, atol=0)


def test_flow_velocity_is_the_paths_slope():
    """On the straight path z changes by eps - x per unit of time, and the network's input is z itself."""
    schedule, t = FlowSchedule(), torch.tensor([0.2, 0.7], dtype=torch.float64, requires_grad=True)
    alpha, sigma = schedule.alpha_sigma(t)
    x, eps, z = _noised(4, alpha, sigma)
    slope = torch.autograd.grad(z.sum(), t)[0]
    velocity = FlowPrediction().target(x, eps, alpha, sigma)
    torch.testing.assert_close(velocity.flatten(1).sum(1), slope, rtol=1e-12, atol=1e-12)
    c = FlowPrediction().coefficients(alpha, sigma)
    torch.testing.assert_close(torch.stack([c.inp, c.skip, -c.out]), torch.stack([alpha / alpha, c.skip**0, t]))


def test_edm_equals_diffusers():
    from diffusers import EDMEulerScheduler

    peer = EDMEulerScheduler(sigma_data=0.5)
    sigma = torch.logspace(-3, 2, 12, dtype=torch.float64)
    z, output = torch.randn(2, 12, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind(0)
    c = EDMPrediction(0.5).coefficients(torch.ones_like(sigma), sigma)
    for i, s in enumerate(sigma):
        expected = peer.precondition_outputs(z[i], output[i], s)
        torch.testing.assert_close(c.skip[i] * z[i] + c.out[i] * output[i], expected, rtol=0, atol=0)
        torch.testing.assert_close(c.inp[i] * z[i], peer.precondition_inputs(z[i], s), rtol=0, atol=1.5e-8)
        assert c.noise[i].item() == pytest.approx(math.log(s) / 4, rel=1e-12)


def test_edm_with_unit_data_is_v_prediction_with_the_sign_turned():
    t = torch.linspace(0.05, 0.95, 9, dtype=torch.float64)
    alpha, sigma = CosineSchedule().alpha_sigma(t)
    edm, v = EDMPrediction(1.0).coefficients(alpha, sigma), VPrediction().coefficients(alpha, sigma)
    torch.testing.assert_close(edm.skip, v.skip)
    torch.testing.assert_close(edm.out, -v.out)
    torch.testing.assert_close(edm.inp, v.inp)
    x, eps, _ = _noised(1, alpha[:2], sigma[:2])
    torch.testing.assert_close(
        EDMPrediction(1.0).target(x, eps, alpha[:2], sigma[:2]), -VPrediction().target(x, eps, alpha[:2], sigma[:2])
    )


def test_edm_input_and_target_have_unit_variance():
    generator = torch.Generator().manual_seed(0)
    x = 0.5 * torch.randn(400_000, dtype=torch.float64, generator=generator)
    eps = torch.randn(400_000, dtype=torch.float64, generator=generator)
    for level in (0.01, 0.5, 20.0):
        one, sigma = torch.ones(1, dtype=torch.float64), torch.tensor([level], dtype=torch.float64)
        c = EDMPrediction(0.5).coefficients(one, sigma)
        assert (c.inp * (x + sigma * eps)).var().item() == pytest.approx(1, abs=0.02)
        assert EDMPrediction(0.5).target(x[None], eps[None], one, sigma).var().item() == pytest.approx(1, abs=0.02)


def test_the_denoiser_of_a_perfect_network_returns_the_data():
    x, eps, _ = _noised(2, torch.ones(2), torch.ones(2))
    schedule, parameterization = KarrasSchedule(), EDMPrediction()
    sigma = torch.tensor([0.3, 4.0], dtype=torch.float64)
    seen = {}

    def network(z, noise, **conditioning):
        seen.update(conditioning, z=z, noise=noise)
        return parameterization.target(x, eps, torch.ones_like(sigma), sigma)

    z = x + expand_to(sigma, x) * eps
    denoised = Denoiser(network, parameterization, schedule)(z, sigma, fps=torch.tensor([8.0, 8.0]))
    torch.testing.assert_close(denoised, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(seen["noise"], sigma.log() / 4)
    assert seen["fps"].tolist() == [8.0, 8.0]


def test_a_scalar_time_is_one_for_every_sample():
    z = torch.randn(3, 2, 4, 4)
    denoise = Denoiser(lambda z, noise: z * noise[:, None, None, None], VPrediction(), CosineSchedule())
    torch.testing.assert_close(denoise(z, torch.tensor(0.3)), denoise(z, torch.full((3,), 0.3)))


def test_a_label_of_ones_own():
    z, seen = torch.randn(3, 2, 4, 4), []
    denoise = Denoiser(lambda z, noise: seen.append(noise) or z, VPrediction(), CosineSchedule(), lambda t: 1000 * t)
    denoise(z, torch.tensor(0.25))
    assert seen[0].tolist() == [250.0] * 3
    assert seen[0].dtype == z.dtype
