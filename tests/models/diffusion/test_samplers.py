import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.diffusion.parameterization import (
    Denoiser,
    EDMPrediction,
    EpsPrediction,
    FlowPrediction,
    VPrediction,
    XPrediction,
)
from models.diffusion.samplers import (
    DDIM,
    DDPM,
    AngularDDIM,
    DDIMInversion,
    DPMSolver2M,
    Euler,
    Heun,
    ancestral_step,
    angular_step,
    ddim_step,
    prior,
    sample,
)
from models.diffusion.schedules import CosineSchedule, DDPMSchedule, FlowSchedule, KarrasSchedule, expand_to

SCALE = 0.7  # standard deviation of the Gaussian data
SCHEDULES = {
    "cosine": CosineSchedule(),
    "karras": KarrasSchedule(sigma_max=10.0),
    "flow": FlowSchedule(3.0),
    "ddpm": DDPMSchedule("scaled_linear", zero_terminal_snr=True),
}
PARAMETERIZATIONS = [
    EpsPrediction(), XPrediction(), VPrediction(), EDMPrediction(0.5), EDMPrediction(1.0), FlowPrediction()
]  # fmt: skip


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian_denoiser(schedule):
    """E[x | z] for x ~ N(0, SCALE^2), in closed form."""

    def denoise(z, t):
        alpha, sigma = schedule.alpha_sigma(t)
        return alpha * SCALE**2 * z / (alpha**2 * SCALE**2 + sigma**2)

    return denoise


def gaussian_network(schedule, parameterization):
    """The network that makes `parameterization` the exact denoiser of that data."""

    def network(z_in, time):
        alpha, sigma = (expand_to(level, z_in) for level in schedule.alpha_sigma(time))
        c = parameterization.coefficients(alpha, sigma)
        z = z_in / c.inp
        return (alpha * SCALE**2 * z / (alpha**2 * SCALE**2 + sigma**2) - c.skip * z) / c.out

    return network


def flow_end(z, schedule, t, s):
    """Where the probability flow of Gaussian data from time t is at time s: z grows as its standard deviation does."""
    (a, b), (c, d) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
    return z * ((c**2 * SCALE**2 + d**2) / (a**2 * SCALE**2 + b**2)).sqrt()


@pytest.mark.parametrize("schedule", ["cosine", "karras", "flow"])
@pytest.mark.parametrize(
    ("sampler", "order"), [(DDIM(), 1), (AngularDDIM(), 1), (Euler(), 1), (Heun(), 2), (DPMSolver2M(), 2)], ids=str
)
def test_error_against_the_exact_flow_falls_with_the_samplers_order(schedule, sampler, order):
    schedule, noise = SCHEDULES[schedule], torch.tensor([1.3], dtype=torch.float64)
    errors = []
    for steps in (64, 128):
        if isinstance(sampler, DPMSolver2M):  # whose steps are counted in ln(sigma / alpha)
            times = schedule.time(torch.logspace(0.7, -1, steps + 1, dtype=torch.float64))
        else:
            times = schedule.times(steps)
            times = times[times >= times[0] / 100]  # the last step is of first order in every sampler
        start = prior(noise, schedule, times)
        end = sampler(gaussian_denoiser(schedule), start, schedule, times)
        errors.append((end - flow_end(start, schedule, times[0], times[-1])).abs().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "sampler", [DDIM(), AngularDDIM(), DDPM(seeded(3)), Euler(), Heun(), DPMSolver2M()], ids=lambda s: type(s).__name__
)
def test_samples_of_gaussian_data_have_its_spread(schedule, sampler):
    noise = torch.randn(20_000, dtype=torch.float64, generator=seeded())
    steps = 500 if isinstance(sampler, DDPM) else 128  # the lower variance is exact where x has none
    x = sample(gaussian_denoiser(SCHEDULES[schedule]), noise, SCHEDULES[schedule], steps, sampler)
    assert x.std().item() == pytest.approx(SCALE, rel=0.03)


@pytest.mark.parametrize("sampler", [DDIM, AngularDDIM, DDPM, Euler, Heun, DPMSolver2M])
@pytest.mark.parametrize("schedule", SCHEDULES)
@settings(max_examples=5)
@given(steps=st.integers(1, 12), seed=st.integers(0, 99))
def test_any_sampler_runs_any_parameterization_on_any_schedule(schedule, sampler, steps, seed):
    """Networks that are all the same denoiser, read in different ways, make the same samples."""
    schedule = SCHEDULES[schedule]
    times = schedule.times(steps + 1)
    times = times[1:] if schedule.alpha_sigma(times[0])[0] == 0 else times  # eps says nothing about x there
    z = prior(torch.randn(2, 1, 3, dtype=torch.float64, generator=seeded(seed)), schedule, times)

    def run(denoise):
        return (sampler(seeded(1)) if sampler is DDPM else sampler())(denoise, z, schedule, times)

    expected = run(gaussian_denoiser(schedule))
    for parameterization in PARAMETERIZATIONS:
        denoise = Denoiser(gaussian_network(schedule, parameterization), parameterization, schedule, lambda t: t)
        torch.testing.assert_close(run(denoise), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(t=st.floats(0.05, 0.95), part=st.floats(0, 0.99), seed=st.integers(0, 99))
def test_ddim_is_the_angular_update(schedule, t, part, seed):
    schedule = SCHEDULES[schedule]
    times = schedule.times(2)
    first, last = times[0], times[-1]
    t = last + t * (first - last)
    s = last + part * (t - last)
    z, x_hat = torch.randn(2, 3, 4, dtype=torch.float64, generator=seeded(seed)).unbind(0)
    expected = ddim_step(z, x_hat, schedule, t, s)
    torch.testing.assert_close(angular_step(z, x_hat, schedule, t, s), expected, rtol=1e-12, atol=1e-12)


def test_ddim_turns_z_towards_v():
    """z cos(d) + v sin(d) (Salimans and Ho 2022, appendix D), with the angles of the cosine schedule."""
    schedule = CosineSchedule()
    z, v = torch.randn(2, 3, 4, dtype=torch.float64, generator=seeded()).unbind(0)
    t, s = torch.tensor(0.8, dtype=torch.float64), torch.tensor(0.65, dtype=torch.float64)
    c = VPrediction().coefficients(*schedule.alpha_sigma(t))
    delta = (s - t) * math.pi / 2
    expected = delta.cos() * z + delta.sin() * v
    for step in (ddim_step, angular_step):
        torch.testing.assert_close(step(z, c.skip * z + c.out * v, schedule, t, s), expected, rtol=0, atol=1e-12)


@given(t=st.floats(0.05, 1), part=st.floats(0.01, 0.99))
def test_ancestral_step_keeps_the_marginal(t, part):
    """From z_t ~ N(alpha_t x, sigma_t^2) to z_s ~ N(alpha_s x, sigma_s^2), read off the step's three coefficients."""
    schedule = CosineSchedule()
    t, s = torch.tensor(t, dtype=torch.float64), torch.tensor(t * part, dtype=torch.float64)
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    of_z, of_x, of_noise = (
        ancestral_step(*inputs, schedule, t, s) for inputs in ((one, zero, zero), (zero, one, zero), (zero, zero, one))
    )
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
    assert abs(of_z * alpha_t + of_x - alpha_s) < 1e-12
    assert abs((of_z * sigma_t) ** 2 + of_noise**2 - sigma_s**2) < 1e-12


# ---- equality with diffusers, step by step: z at every network call, and the end


def wavy(z, t):
    """A network: any function of z and time will do."""
    return torch.sin(3 * z) * (expand_to(t, z) + 1) / 1000


def schedule_like(peer, **more):
    """Our schedule with the peer's levels, which it computes in float32, cast to double."""
    schedule = DDPMSchedule(**more)
    schedule.__dict__["alphas"] = peer.alphas_cumprod.double().sqrt()
    return schedule


def run_peer(peer, z, **arguments):
    peer.alphas_cumprod = peer.alphas_cumprod.double()
    peer.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    peer.one = torch.tensor(1.0, dtype=torch.float64)
    states = [z]
    for t in peer.timesteps:
        states.append(peer.step(wavy(states[-1], t), int(t), states[-1], **arguments).prev_sample)
    return states


def run_ours(sampler, schedule, parameterization, times, z):
    states, denoise = [], Denoiser(wavy, parameterization, schedule, lambda t: t)

    def record(z, t):
        states.append(z)
        return denoise(z, t)

    end = sampler(record, z, schedule, times)
    return [*states, end]


def starting_noise():
    return torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=seeded())


KINDS = [
    ("v_prediction", VPrediction()), ("epsilon", EpsPrediction()), ("sample", XPrediction())
]  # fmt: skip


@pytest.mark.parametrize("sampler", [DDIM(), AngularDDIM()], ids=str)
@pytest.mark.parametrize(("kind", "parameterization"), KINDS)
def test_ddim_equals_diffusers(kind, parameterization, sampler):
    from diffusers import DDIMScheduler

    peer = DDIMScheduler(
        prediction_type=kind, clip_sample=False, set_alpha_to_one=True, beta_schedule="squaredcos_cap_v2"
    )
    peer.set_timesteps(10)
    schedule = schedule_like(peer, betas="squared_cosine", spacing="leading")
    ours = run_ours(sampler, schedule, parameterization, schedule.times(10), starting_noise())
    for a, b in zip(ours, run_peer(peer, starting_noise()), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kind", "parameterization"), KINDS)
def test_clipped_ddim_equals_diffusers(kind, parameterization):
    from diffusers import DDIMScheduler

    peer = DDIMScheduler(prediction_type=kind, clip_sample=True, clip_sample_range=0.5)
    peer.set_timesteps(10)
    schedule = schedule_like(peer, spacing="leading")
    ours = run_ours(DDIM(clip=0.5), schedule, parameterization, schedule.times(10), starting_noise())
    for a, b in zip(ours, run_peer(peer, starting_noise()), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert ours[-1].abs().max() <= 0.5


@pytest.mark.parametrize(("kind", "parameterization"), KINDS)
def test_ddpm_equals_diffusers_given_the_same_noise(kind, parameterization):
    from diffusers import DDPMScheduler

    peer = DDPMScheduler(prediction_type=kind, clip_sample=False, timestep_spacing="trailing")
    peer.set_timesteps(8)
    schedule = schedule_like(peer)
    *ours, end = run_ours(DDPM(seeded(5)), schedule, parameterization, schedule.times(8), starting_noise())
    *theirs, their_end = run_peer(peer, starting_noise(), generator=seeded(5))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(end, their_end, rtol=0, atol=1e-9)  # to which the peer adds noise of variance 1e-20


@pytest.mark.parametrize(("kind", "parameterization"), KINDS)
def test_dpm_solver_equals_diffusers(kind, parameterization, monkeypatch):
    from diffusers import DPMSolverMultistepScheduler

    peer = DPMSolverMultistepScheduler(prediction_type=kind, timestep_spacing="trailing", final_sigmas_type="zero")
    peer.set_timesteps(20)
    schedule = schedule_like(peer)
    alpha, sigma = schedule.alpha_sigma(schedule.times(20))
    peer.sigmas = sigma / alpha
    monkeypatch.setattr(torch, "float32", torch.float64)  # its steps are float32 by name
    theirs = run_peer(peer, starting_noise())
    monkeypatch.undo()
    ours = run_ours(DPMSolver2M(), schedule, parameterization, schedule.times(20), starting_noise())
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_flow_euler_equals_diffusers():
    from diffusers import FlowMatchEulerDiscreteScheduler

    peer, schedule = FlowMatchEulerDiscreteScheduler(shift=3.0), FlowSchedule(3.0)
    peer.set_timesteps(sigmas=torch.linspace(1, 0, 11)[:-1].tolist())
    z, states = starting_noise().float(), [starting_noise().float()]
    for t in peer.timesteps:
        states.append(peer.step(wavy(states[-1], t), t, states[-1]).prev_sample)
    denoise = Denoiser(wavy, FlowPrediction(), schedule, lambda t: 1000 * t)
    for i, (t, s) in enumerate(pairwise(schedule.times(10))):
        z = Euler()(denoise, z, schedule, torch.stack([t, s]))
        torch.testing.assert_close(z, states[i + 1], rtol=0, atol=2e-6)


@pytest.mark.parametrize(("kind", "sign"), [("epsilon", 1), ("v_prediction", -1)])
def test_edm_euler_equals_diffusers(kind, sign):
    from diffusers import EDMEulerScheduler

    peer, schedule = EDMEulerScheduler(sigma_data=0.5, prediction_type=kind), KarrasSchedule()
    peer.set_timesteps(10)
    peer.sigmas = schedule.times(10)  # its own are float32
    z = expected = starting_noise() * 80
    for t, (now, after) in zip(peer.timesteps, pairwise(schedule.times(10)), strict=True):
        output = torch.sin(peer.scale_model_input(expected, t))
        expected = peer.step(output, t, expected).prev_sample
        denoise = Denoiser(lambda z, noise: sign * torch.sin(z), EDMPrediction(0.5), schedule)
        z = Euler()(denoise, z, schedule, torch.stack([now, after]))
        torch.testing.assert_close(z, expected, rtol=1e-6, atol=1e-6)  # the peer's steps are float32


# ---- the golden sums of diffusers' own scheduler tests


def golden_sample():
    return (torch.arange(768, dtype=torch.float64).reshape(3, 8, 8, 4) / 768).permute(3, 0, 1, 2)


def golden_network(z, t):
    t = expand_to(t, z)
    return z * t / (t + 1)


@pytest.mark.parametrize(("parameterization", "total"), [(EpsPrediction(), 172.0067), (VPrediction(), 52.5302)])
def test_golden_sum_of_ddim(parameterization, total):
    schedule = DDPMSchedule(spacing="leading")
    denoise = Denoiser(golden_network, parameterization, schedule, lambda t: t)
    x = DDIM(clip=1.0)(denoise, golden_sample(), schedule, schedule.times(10))
    assert x.abs().sum().item() == pytest.approx(total, abs=1e-3)


def test_golden_sum_of_euler():
    """diffusers' test hands the *scaled* sample on as the state, and so does this one."""
    schedule = DDPMSchedule(count=1100, spacing="linspace")
    times = schedule.times(10)
    alpha, sigma = schedule.alpha_sigma(times)
    sigmas = sigma / alpha
    z = golden_sample() * sigmas[0]
    for i, t in enumerate(times[:-1]):
        z = z / torch.hypot(sigmas[i], torch.tensor(1.0))
        eps = golden_network(z, t)
        z = Euler()(lambda z, sigma, eps=eps: z - sigma * eps, z, KarrasSchedule(), sigmas[i : i + 2])
    assert z.abs().sum().item() == pytest.approx(10.0807, abs=1e-3)


def test_golden_sum_of_edm_euler():
    schedule = KarrasSchedule()
    denoise = Denoiser(golden_network, EDMPrediction(0.5), schedule)
    x = Euler()(denoise, golden_sample() * math.hypot(80, 1), schedule, schedule.times(10))
    assert x.abs().sum().item() == pytest.approx(34.1855, abs=1e-3)


# ---- inversion


def reconstruction_error(schedule, steps, dtype):
    """Of data inverted and sampled again, where the network says the same noise at every level."""
    x, eps = torch.randn(2, 2, 3, 8, 8, generator=seeded()).to(dtype).unbind(0)

    def denoise(z, t):
        alpha, sigma = (level.to(z) for level in schedule.alpha_sigma(t))
        return (z - sigma * eps) / alpha

    times = schedule.times(steps)
    times = times[schedule.alpha_sigma(times)[0] > 0]
    noise = DDIMInversion()(denoise, x, schedule, times.flip(0))
    assert noise.dtype == dtype
    assert (noise - x).abs().max() > 1
    return (DDIM()(denoise, noise, schedule, times) - x).abs().max().item()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_inversion_undoes_ddim_where_eps_is_constant(schedule):
    assert reconstruction_error(SCHEDULES[schedule], 50, torch.float64) < 1e-12


@pytest.mark.parametrize("betas", ["scaled_linear", "squared_cosine"])
def test_inversion_undoes_ddim_in_float32(betas):
    assert reconstruction_error(DDPMSchedule(betas, spacing="leading"), 10, torch.float32) < 5e-6


def test_inversion_equals_diffusers():
    from diffusers import DDIMInverseScheduler

    peer = DDIMInverseScheduler(clip_sample=False)
    peer.set_timesteps(10)
    schedule = schedule_like(peer, spacing="leading")
    peer.initial_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    ours = run_ours(DDIMInversion(), schedule, EpsPrediction(), schedule.times(10).flip(0), starting_noise())
    theirs = run_peer(peer, starting_noise())
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_reconstruction_by_inversion_gets_better_with_steps():
    schedule, x = DDPMSchedule("scaled_linear"), starting_noise() * SCALE
    errors = []
    for steps in (10, 40, 160):
        times, denoise = schedule.times(steps), gaussian_denoiser(schedule)
        noise = DDIMInversion()(denoise, x, schedule, times.flip(0))
        errors.append((DDIM()(denoise, noise, schedule, times) - x).abs().max().item())
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0


def test_heun_equals_the_published_algorithm():
    """Algorithm 1 of Karras et al. 2022, written out on its own."""
    schedule = KarrasSchedule()
    sigmas = schedule.times(7)
    noise = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def denoise(x, sigma):
        return torch.tanh(x / (1 + sigma))

    x = noise * sigmas[0]
    for now, after in pairwise(sigmas):
        d = (x - denoise(x, now)) / now
        euler = x + (after - now) * d
        x = euler if after == 0 else x + (after - now) * (d + (euler - denoise(euler, after)) / after) / 2
    torch.testing.assert_close(sample(denoise, noise, schedule, 7, Heun()), x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("sampler", "calls"), [(DDIM(), 5), (Euler(), 5), (DPMSolver2M(), 5), (DDPM(seeded()), 5), (Heun(), 9)]
)
def test_network_calls_and_progress(sampler, calls):
    count, steps = [], []
    schedule = KarrasSchedule()
    sample(
        lambda z, t: count.append(t) or z / 2, torch.ones(2), schedule, 5, sampler, lambda i, n: steps.append((i, n))
    )
    assert len(count) == calls
    assert steps == [(i, 5) for i in range(1, 6)]


def test_pure_noise_at_zero_terminal_snr_is_a_fine_start():
    schedule = CosineSchedule()
    x = sample(gaussian_denoiser(schedule), torch.randn(3), schedule, 4, Heun())
    assert torch.isfinite(x).all()
