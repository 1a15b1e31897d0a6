import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.diffusion.schedules import CosineSchedule, KarrasSchedule, expand_to


@given(st.floats(0, 1))
def test_cosine_preserves_variance(t):
    alpha, sigma = CosineSchedule().alpha_sigma(torch.tensor(t, dtype=torch.float64))
    assert abs(alpha**2 + sigma**2 - 1) < 1e-14


def test_cosine_ends_are_exact():
    alpha, sigma = CosineSchedule().alpha_sigma(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert alpha.tolist() == [1.0, 0.0]
    assert sigma.tolist() == [0.0, 1.0]


@given(st.floats(0.01, 0.99))
def test_cosine_log_snr_is_the_published_closed_form(t):
    alpha, sigma = CosineSchedule().alpha_sigma(torch.tensor(t, dtype=torch.float64))
    # Salimans and Ho 2022: lambda_t = -2 log tan(pi t / 2)
    assert torch.log(alpha**2 / sigma**2).item() == pytest.approx(-2 * math.log(math.tan(math.pi * t / 2)), abs=1e-9)


@pytest.mark.parametrize("schedule", [CosineSchedule(), KarrasSchedule()])
def test_derivatives_are_those_of_autograd(schedule):
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64, requires_grad=True)
    for level, derivative in zip(schedule.alpha_sigma(t), schedule.derivatives(t), strict=True):
        expected = torch.autograd.grad(level.sum(), t, allow_unused=True)[0] if level.requires_grad else None
        expected = torch.zeros_like(t) if expected is None else expected
        torch.testing.assert_close(derivative, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", [CosineSchedule(), KarrasSchedule()])
@given(ratio=st.floats(1e-3, 1e2))
def test_time_inverts_the_noise_to_signal_ratio(schedule, ratio):
    alpha, sigma = schedule.alpha_sigma(schedule.time(torch.tensor(ratio, dtype=torch.float64)))
    assert (sigma / alpha).item() == pytest.approx(ratio, rel=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 18])
@pytest.mark.parametrize("schedule", [CosineSchedule(), KarrasSchedule()])
def test_times_fall_to_the_clean_end(schedule, steps):
    times = schedule.times(steps)
    assert len(times) == steps + 1
    assert (times.diff() < 0).all()
    assert schedule.alpha_sigma(times[-1])[1] == 0


def test_karras_times_equal_diffusers():
    from diffusers import EDMEulerScheduler

    peer = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=7.0)
    peer.set_timesteps(18)
    torch.testing.assert_close(KarrasSchedule().times(18).float(), peer.sigmas, rtol=2e-5, atol=0)


def test_no_steps_is_an_error():
    with pytest.raises(ValueError, match="at least 1"):
        CosineSchedule().times(0)


def test_expand_to_gives_levels_the_trailing_axes():
    x = torch.zeros(2, 3, 4, 5)
    assert expand_to(torch.tensor([1.0, 2.0], dtype=torch.float64), x).shape == (2, 1, 1, 1)
    assert expand_to(torch.tensor(2.0), x).shape == ()
    assert expand_to(torch.tensor([1.0, 2.0], dtype=torch.float64), x).dtype == x.dtype
