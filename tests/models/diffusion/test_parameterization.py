import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.diffusion.parameterization import Denoiser, EDMPrediction, EpsPrediction, VPrediction, XPrediction
from models.diffusion.schedules import CosineSchedule, KarrasSchedule, expand_to

ALL = [EpsPrediction(), XPrediction(), VPrediction(), EDMPrediction(0.5), EDMPrediction(1.0)]


def _noised(seed, alpha, sigma):
    generator = torch.Generator().manual_seed(seed)
    x, eps = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64, generator=generator).unbind(0)
    return x, eps, expand_to(alpha, x) * x + expand_to(sigma, x) * eps


@pytest.mark.parametrize("parameterization", ALL, ids=str)
@given(t=st.floats(0.02, 0.98), seed=st.integers(0, 99))
def test_the_target_denoises_to_the_data(parameterization, t, seed):
    alpha, sigma = CosineSchedule().alpha_sigma(torch.full((2,), t, dtype=torch.float64))
    x, eps, z = _noised(seed, alpha, sigma)
    c = parameterization.coefficients(alpha, sigma)
    target = parameterization.target(x, eps, alpha, sigma)
    torch.testing.assert_close(expand_to(c.skip, x) * z + expand_to(c.out, x) * target, x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("parameterization", [XPrediction(), VPrediction(), EDMPrediction()], ids=str)
def test_both_ends_are_finite(parameterization):
    alpha, sigma = CosineSchedule().alpha_sigma(torch.tensor([0.0, 1.0], dtype=torch.float64))
    x, eps, _ = _noised(0, alpha, sigma)
    assert all(torch.isfinite(c).all() for c in parameterization.coefficients(alpha, sigma))
    assert torch.isfinite(parameterization.target(x, eps, alpha, sigma)).all()


def test_edm_equals_diffusers():
    from diffusers import EDMEulerScheduler

    peer = EDMEulerScheduler(sigma_data=0.5)
    sigma = torch.logspace(-3, 2, 12, dtype=torch.float64)
    z, output = torch.randn(2, 12, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind(0)
    c = EDMPrediction(0.5).coefficients(torch.ones_like(sigma), sigma)
    for i, s in enumerate(sigma):
        expected = peer.precondition_outputs(z[i], output[i], s)
        torch.testing.assert_close(c.skip[i] * z[i] + c.out[i] * output[i], expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(c.inp[i] * z[i], peer.precondition_inputs(z[i], s), rtol=1e-7, atol=1e-7)
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
