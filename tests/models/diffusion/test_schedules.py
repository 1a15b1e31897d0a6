import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.diffusion.parameterization import VPrediction
from models.diffusion.schedules import (
    SVD_SCHEDULE,
    CosineSchedule,
    DDPMSchedule,
    FlowSchedule,
    KarrasSchedule,
    expand_to,
    shifted,
)

BETAS = {"linear": {}, "scaled_linear": {"start": 0.00085, "end": 0.012}, "squared_cosine": {}}


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


CONTINUOUS = [CosineSchedule(), KarrasSchedule(), FlowSchedule()]
DISCRETE = [DDPMSchedule("scaled_linear"), DDPMSchedule(zero_terminal_snr=True)]


@pytest.mark.parametrize("schedule", CONTINUOUS)
def test_derivatives_are_those_of_autograd(schedule):
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64, requires_grad=True)
    for level, derivative in zip(schedule.alpha_sigma(t), schedule.derivatives(t), strict=True):
        expected = torch.autograd.grad(level.sum(), t, allow_unused=True)[0] if level.requires_grad else None
        expected = torch.zeros_like(t) if expected is None else expected
        torch.testing.assert_close(derivative, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", CONTINUOUS + DISCRETE)
@given(ratio=st.floats(1e-3, 10))
def test_time_inverts_the_noise_to_signal_ratio(schedule, ratio):
    alpha, sigma = schedule.alpha_sigma(schedule.time(torch.tensor(ratio, dtype=torch.float64)))
    assert (sigma / alpha).item() == pytest.approx(ratio, rel=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 18])
@pytest.mark.parametrize("schedule", [*CONTINUOUS, *DISCRETE, FlowSchedule(3.0), SVD_SCHEDULE])
def test_times_fall_to_the_clean_end(schedule, steps):
    times = schedule.times(steps)
    assert len(times) == steps + 1
    assert (times.diff() < 0).all()
    assert schedule.alpha_sigma(times[-1])[1] == 0


def test_karras_times_equal_diffusers():
    from diffusers import EDMEulerScheduler

    peer = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=7.0)
    peer.set_timesteps(18)
    torch.testing.assert_close(KarrasSchedule().times(18).float(), peer.sigmas, rtol=1e-6, atol=0)


def test_svd_schedule_equals_diffusers():
    """Sigmas of 0.002..700 by Karras's rule, and the network is told 0.25 ln sigma; the peer's are float32."""
    from diffusers import EulerDiscreteScheduler

    peer = EulerDiscreteScheduler(
        prediction_type="v_prediction", timestep_type="continuous", use_karras_sigmas=True, sigma_min=0.002,
        sigma_max=700.0, beta_schedule="scaled_linear", timestep_spacing="leading",
    )  # fmt: skip
    peer.set_timesteps(25)
    sigmas = SVD_SCHEDULE.times(25)
    assert sigmas[0].item() == pytest.approx(700, rel=1e-12)
    assert sigmas[-2].item() == pytest.approx(0.002, rel=1e-12)
    torch.testing.assert_close(sigmas.float(), peer.sigmas, rtol=2e-6, atol=0)
    labels = VPrediction().coefficients(*SVD_SCHEDULE.alpha_sigma(sigmas[:-1])).noise
    torch.testing.assert_close(labels.float(), peer.timesteps, rtol=0, atol=2e-6)


@given(st.floats(0, 1))
def test_flow_shift_of_three(t):
    time = torch.tensor(t, dtype=torch.float64)
    assert shifted(time, 3.0).item() == pytest.approx(3 * t / (1 + 2 * t), abs=1e-15)
    assert 1 - shifted(1 - time, 3.0).item() == pytest.approx(shifted(time, 1 / 3).item(), abs=1e-14)


def test_flow_times_equal_diffusers():
    from diffusers import FlowMatchEulerDiscreteScheduler

    peer = FlowMatchEulerDiscreteScheduler(shift=3.0)
    peer.set_timesteps(sigmas=torch.linspace(1, 0, 11)[:-1].tolist())
    torch.testing.assert_close(FlowSchedule(3.0).times(10).float(), peer.sigmas, rtol=0, atol=1e-7)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("betas", BETAS)
def test_ddpm_levels_equal_diffusers(betas, zero):
    from diffusers import DDIMScheduler

    sizes = {f"beta_{k}": v for k, v in BETAS[betas].items()}
    name = {"squared_cosine": "squaredcos_cap_v2"}.get(betas, betas)
    peer = DDIMScheduler(beta_schedule=name, rescale_betas_zero_snr=zero, **sizes)
    schedule = DDPMSchedule(betas, **BETAS[betas], zero_terminal_snr=zero)
    torch.testing.assert_close((schedule.alphas**2).float(), peer.alphas_cumprod, rtol=0, atol=2e-6)


@pytest.mark.parametrize("schedule", DISCRETE)
def test_ddpm_levels_are_the_products_of_its_betas(schedule):
    """At the integers, and with zero terminal SNR by Lin et al.'s algorithm 1, written out in numbers."""
    if schedule.betas == "linear":
        betas = [schedule.start + i / 999 * (schedule.end - schedule.start) for i in range(1000)]
    else:
        low, high = schedule.start**0.5, schedule.end**0.5
        betas = [(low + i / 999 * (high - low)) ** 2 for i in range(1000)]
    alphas, product = [], 1.0
    for beta in betas:
        product *= 1 - beta
        alphas.append(math.sqrt(product))
    if schedule.zero_terminal_snr:
        first, last = alphas[0], alphas[-1]
        alphas = [(a - last) * first / (first - last) for a in alphas]
    alpha, sigma = schedule.alpha_sigma(torch.arange(1000))
    torch.testing.assert_close(alpha, torch.tensor(alphas, dtype=torch.float64), rtol=0, atol=1e-13)
    torch.testing.assert_close(sigma, (1 - torch.tensor(alphas, dtype=torch.float64) ** 2).sqrt(), rtol=0, atol=1e-12)


def test_zero_terminal_snr_is_exact_and_keeps_the_first_level():
    schedule, plain = DDPMSchedule("scaled_linear", zero_terminal_snr=True), DDPMSchedule("scaled_linear")
    alpha, sigma = schedule.alpha_sigma(torch.tensor([999.0, 0.0, -1.0], dtype=torch.float64))
    assert [alpha[0].item(), sigma[0].item(), alpha[2].item(), sigma[2].item()] == [0.0, 1.0, 1.0, 0.0]
    assert alpha[1].item() == pytest.approx(plain.alphas[0].item(), abs=1e-15)
    assert schedule.time(torch.tensor(math.inf)).item() == 999


@pytest.mark.parametrize("schedule", DISCRETE)
@given(t=st.floats(-1, 999))
def test_ddpm_between_the_integers(schedule, t):
    """Variance is preserved everywhere, sigma / alpha is linear, and alpha / sigma where that is infinite."""
    t = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = schedule.alpha_sigma(t)
    assert abs(alpha**2 + sigma**2 - 1) < 1e-14
    low = t.floor().clamp(max=998)
    (a0, s0), (a1, s1) = schedule.alpha_sigma(low), schedule.alpha_sigma(low + 1)
    w = t - low
    if a1 == 0:
        assert (alpha / sigma).item() == pytest.approx(((1 - w) * a0 / s0).item(), rel=1e-9, abs=1e-15)
    else:
        assert (sigma / alpha).item() == pytest.approx(((1 - w) * s0 / a0 + w * s1 / a1).item(), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("schedule", [*DISCRETE, DDPMSchedule("linear", 0.1, 0.5, 5, zero_terminal_snr=True)])
def test_ddpm_derivatives_are_difference_quotients(schedule):
    last, h = schedule.count - 1, 1e-5
    t = torch.tensor([-0.5, 1.25, last / 2 + 0.2, last - 1.3, last - 0.5], dtype=torch.float64)
    for i in (0, 1):
        slope = (schedule.alpha_sigma(t + h)[i] - schedule.alpha_sigma(t - h)[i]) / (2 * h)
        torch.testing.assert_close(schedule.derivatives(t)[i], slope, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("steps", [7, 10, 50])
@pytest.mark.parametrize(("spacing", "offset"), [("leading", 1), ("trailing", 0)])
def test_ddpm_times_equal_diffusers(spacing, offset, steps):
    from diffusers import DDIMScheduler

    peer = DDIMScheduler(timestep_spacing=spacing, steps_offset=offset)
    peer.set_timesteps(steps)
    times = DDPMSchedule(spacing=spacing, offset=offset).times(steps)
    assert times.tolist() == [*peer.timesteps.tolist(), -1]


def test_ddpm_continuous_times_and_levels_equal_diffusers():
    from diffusers import EulerDiscreteScheduler

    peer = EulerDiscreteScheduler(beta_schedule="scaled_linear")
    peer.set_timesteps(7)
    schedule = DDPMSchedule("scaled_linear", spacing="linspace")
    times = schedule.times(7)
    alpha, sigma = schedule.alpha_sigma(times)
    torch.testing.assert_close(times[:-1].float(), peer.timesteps, rtol=1e-6, atol=0)
    torch.testing.assert_close((sigma / alpha).float(), peer.sigmas, rtol=1e-5, atol=2e-6)  # float32 betas


def test_more_steps_than_levels_is_an_error():
    with pytest.raises(ValueError, match="at most 1000"):
        DDPMSchedule().times(1001)


def test_no_steps_is_an_error():
    with pytest.raises(ValueError, match="at least 1"):
        CosineSchedule().times(0)


def test_expand_to_gives_levels_the_trailing_axes():
    x = torch.zeros(2, 3, 4, 5)
    assert expand_to(torch.tensor([1.0, 2.0], dtype=torch.float64), x).shape == (2, 1, 1, 1)
    assert expand_to(torch.tensor(2.0), x).shape == ()
    assert expand_to(torch.tensor([1.0, 2.0], dtype=torch.float64), x).dtype == x.dtype


@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squared_cosine"])
def test_a_first_use_under_another_default_device_does_not_stay(betas):
    schedule, t = DDPMSchedule(betas), torch.tensor([3.0, 700.0])
    with torch.device("meta"):
        assert schedule.alpha_sigma(torch.zeros(2))[0].is_meta
    for first, second in zip(schedule.alpha_sigma(t), DDPMSchedule(betas).alpha_sigma(t), strict=True):
        assert torch.equal(first, second)
