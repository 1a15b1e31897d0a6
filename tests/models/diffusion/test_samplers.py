import math
from itertools import pairwise

import pytest
import torch

from models.diffusion.parameterization import VPrediction
from models.diffusion.samplers import DDIM, Heun, ddim_step, prior, sample
from models.diffusion.schedules import CosineSchedule, KarrasSchedule

SCALE = 0.7  # standard deviation of the Gaussian data


def gaussian_denoiser(schedule):
    """E[x | z] for x ~ N(0, SCALE^2), in closed form."""

    def denoise(z, t):
        alpha, sigma = schedule.alpha_sigma(t)
        return alpha * SCALE**2 * z / (alpha**2 * SCALE**2 + sigma**2)

    return denoise


def flow_end(z, schedule, t):
    """Where the probability flow of Gaussian data ends: z shrinks as its standard deviation does."""
    alpha, sigma = schedule.alpha_sigma(t)
    return z * SCALE / (alpha**2 * SCALE**2 + sigma**2).sqrt()


@pytest.mark.parametrize("schedule", [CosineSchedule(), KarrasSchedule(sigma_max=10.0)], ids=["cosine", "karras"])
@pytest.mark.parametrize(("sampler", "order"), [(DDIM(), 1), (Heun(), 2)])
def test_error_against_the_exact_flow_falls_with_the_samplers_order(schedule, sampler, order):
    noise = torch.tensor([1.3], dtype=torch.float64)
    errors = []
    for steps in (64, 128):
        times = schedule.times(steps)[:-1]  # up to the last step, which both samplers take at first order
        alpha, sigma = schedule.alpha_sigma(times[-1])
        end = sampler(gaussian_denoiser(schedule), prior(noise, schedule, times), schedule, times)
        start = prior(noise, schedule, times)
        exact = flow_end(start, schedule, times[0]) * (alpha**2 * SCALE**2 + sigma**2).sqrt() / SCALE
        errors.append((end - exact).abs().item())
    measured = math.log2(errors[0] / errors[1])
    assert measured == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("schedule", [CosineSchedule(), KarrasSchedule()], ids=["cosine", "karras"])
@pytest.mark.parametrize("sampler", [DDIM(), Heun()])
def test_samples_of_gaussian_data_have_its_spread(schedule, sampler):
    noise = torch.randn(50_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = sample(gaussian_denoiser(schedule), noise, schedule, 128, sampler)
    assert x.std().item() == pytest.approx(SCALE, rel=0.03)


def test_ddim_is_the_angular_update():
    """z cos(d) + v sin(d) rotated by the angle d between the times (Salimans and Ho 2022, appendix D)."""
    schedule = CosineSchedule()
    generator = torch.Generator().manual_seed(0)
    z, v = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator).unbind(0)
    t, s = torch.tensor(0.8, dtype=torch.float64), torch.tensor(0.65, dtype=torch.float64)
    c = VPrediction().coefficients(*schedule.alpha_sigma(t))
    delta = (t - s) * math.pi / 2
    expected = delta.cos() * z - delta.sin() * v
    torch.testing.assert_close(ddim_step(z, c.skip * z + c.out * v, schedule, t, s), expected, rtol=0, atol=1e-12)


def test_ddim_equals_diffusers_on_its_schedule():
    from diffusers import DDIMScheduler

    peer = DDIMScheduler(
        prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=True, beta_schedule="squaredcos_cap_v2"
    )
    peer.alphas_cumprod = peer.alphas_cumprod.double()
    peer.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    peer.set_timesteps(10)
    levels = torch.cat([peer.alphas_cumprod[peer.timesteps], peer.final_alpha_cumprod[None]])

    class Discrete(CosineSchedule):
        def alpha_sigma(self, t):
            return levels[t.long()].sqrt(), (1 - levels[t.long()]).sqrt()

    def v(z, i):
        return torch.sin(3 * z) * (i + 1) / 10  # any function of z and time will do

    schedule = Discrete()
    z = expected = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for i, timestep in enumerate(peer.timesteps):
        expected = peer.step(v(expected, i), int(timestep), expected).prev_sample

    def denoise(z, t):
        c = VPrediction().coefficients(*schedule.alpha_sigma(t))
        return c.skip * z + c.out * v(z, int(t))

    ours = DDIM()(denoise, z, schedule, torch.arange(11))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


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


@pytest.mark.parametrize(("sampler", "calls"), [(DDIM(), 5), (Heun(), 9)])
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
