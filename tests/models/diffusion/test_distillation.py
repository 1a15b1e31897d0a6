import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.diffusion.distillation import DistillationLoss, distill, two_step_target
from models.diffusion.losses import TruncatedSNR
from models.diffusion.parameterization import Denoiser, EDMPrediction, FlowPrediction, VPrediction, XPrediction
from models.diffusion.samplers import DDIM, ddim_step, prior
from models.diffusion.schedules import CosineSchedule, DDPMSchedule, FlowSchedule, KarrasSchedule

SCHEDULES = {"cosine": CosineSchedule(), "karras": KarrasSchedule(), "flow": FlowSchedule(), "ddpm": DDPMSchedule()}
SCALE = 0.7  # standard deviation of the Gaussian data


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def wavy(z, t):
    return torch.tanh(z + t.reshape(t.shape + (1,) * (z.ndim - t.ndim)))


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(first=st.integers(0, 5), seed=st.integers(0, 99))
def test_one_step_with_the_target_equals_two_of_the_teacher(schedule, first, seed):
    schedule = SCHEDULES[schedule]
    t, mid, s = schedule.times(8)[first : first + 3]
    z = torch.randn(2, 3, 4, dtype=torch.float64, generator=seeded(seed))
    half = ddim_step(z, wavy(z, t), schedule, t, mid)
    expected = ddim_step(half, wavy(half, mid), schedule, mid, s)
    target = two_step_target(wavy, z, schedule, t, mid, s)
    torch.testing.assert_close(ddim_step(z, target, schedule, t, s), expected, rtol=0, atol=1e-12)


def test_the_target_of_a_batch_is_each_ones_own():
    schedule, z = CosineSchedule(), torch.randn(3, 2, 4, dtype=torch.float64, generator=seeded())
    t = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
    mid, s = t - 0.125, t - 0.25
    together = two_step_target(wavy, z, schedule, t, mid, s)
    for i in range(3):
        alone = two_step_target(wavy, z[i : i + 1], schedule, t[i], mid[i], s[i])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-14, atol=1e-14)


class Gain(nn.Module):
    """F(z, t) = g(t) z with a number for each time of a path: the exact network of Gaussian data, and learnable."""

    def __init__(self, schedule, parameterization, times):
        super().__init__()
        alpha, sigma = schedule.alpha_sigma(times)
        c = parameterization.coefficients(alpha, sigma)
        exact = alpha * SCALE**2 / (alpha**2 * SCALE**2 + sigma**2)
        self.times, self.gain = times, nn.Parameter((exact - c.skip) / c.out / c.inp)

    def forward(self, z, t):
        i = (self.times - t[:, None]).abs().argmin(1)
        return self.gain[i].reshape(-1, *[1] * (z.ndim - 1)) * z


def fit(student, loss):
    """Least squares, by LBFGS."""
    optimizer = torch.optim.LBFGS(
        student.parameters(), max_iter=200, tolerance_grad=1e-13, tolerance_change=1e-18, line_search_fn="strong_wolfe"
    )
    x = SCALE * torch.randn(512, 1, 1, dtype=torch.float64, generator=seeded())

    def closure():
        optimizer.zero_grad()
        value = loss(student, x, seeded(1)).mean()
        value.backward()
        return value

    optimizer.step(closure)


@pytest.mark.parametrize("schedule", ["cosine", "flow"])
@pytest.mark.parametrize(
    "parameterization", [VPrediction(), XPrediction(), EDMPrediction(0.5), FlowPrediction()], ids=str
)
def test_three_halvings_keep_what_the_teacher_makes(schedule, parameterization):
    """Students at 8, 4 and 2 steps make the teacher's samples at 16, from pure noise to the clean end."""
    schedule = SCHEDULES[schedule]
    times = schedule.times(16)
    network = Gain(schedule, parameterization, times[:-1])
    before = network.gain.detach().clone()
    teacher = Denoiser(network, parameterization, schedule, lambda t: t)
    z = prior(torch.randn(5, 2, 3, dtype=torch.float64, generator=seeded(2)), schedule, times)
    with torch.no_grad():
        expected = DDIM()(teacher, z, schedule, times)
        naive = DDIM()(teacher, z, schedule, times[::8])
    assert (naive - expected).abs().max() > 0.01  # which two steps of the teacher itself do not
    steps = []
    for student, path in distill(teacher, times, 3, fit):
        steps.append(len(path) - 1)
        with torch.no_grad():
            torch.testing.assert_close(DDIM()(student, z, schedule, path), expected, rtol=0, atol=1e-6)
    assert steps == [8, 4, 2]
    assert torch.equal(network.gain, before)


@pytest.mark.parametrize(("t", "weight"), [(0.4, 1 / math.tan(0.2 * math.pi) ** 2), (1.0, 1.0)])
def test_the_loss_is_the_weighted_error_of_x(t, weight):
    """Truncated SNR weights it: the SNR, and 1 where that is less."""
    schedule, times = CosineSchedule(), torch.tensor([t, t - 0.1, t - 0.2], dtype=torch.float64)  # one of the student's
    teacher = Denoiser(lambda z, noise, shift: torch.sin(z) + shift, VPrediction(), schedule)
    loss = DistillationLoss(teacher, VPrediction(), schedule, times)
    x = torch.randn(3, 2, 4, dtype=torch.float64, generator=seeded())
    seen = []
    value = loss(lambda z, noise, shift: seen.append((z, shift)) or torch.cos(z), x, seeded(1), shift=0.25)
    z, shift = seen[0]
    assert shift == 0.25
    target = two_step_target(teacher, z, schedule, *times, shift=0.25)
    alpha, sigma = schedule.alpha_sigma(times[0])
    error = (alpha * z - sigma * torch.cos(z) - target).square().flatten(1).mean(1)
    torch.testing.assert_close(value, weight * error, rtol=1e-10, atol=1e-12)


def test_truncated_snr():
    alpha, sigma = CosineSchedule().alpha_sigma(torch.tensor([1.0, 0.7, 0.2], dtype=torch.float64))
    snr = (alpha / sigma) ** 2
    torch.testing.assert_close(TruncatedSNR()(alpha, sigma), torch.stack([snr[0] + 1, snr[0] + 1, snr[2]]))


def test_the_student_starts_as_its_teacher_and_learns_alone():
    times = CosineSchedule().times(4)
    network = Gain(CosineSchedule(), VPrediction(), times[:-1])
    start = copy.deepcopy(network.state_dict())
    seen = []

    def look(student, loss):
        seen.append(student is not network and torch.equal(student.gain, network.gain))
        student.gain.data += 1

    teacher = Denoiser(network, VPrediction(), CosineSchedule(), lambda t: t)
    (student, _), (last, _) = distill(teacher, times, 2, look)
    assert seen == [True, False]  # the second student starts from the first
    assert torch.equal(network.gain, start["gain"])
    torch.testing.assert_close(last.network.gain, student.network.gain + 1)


@pytest.mark.parametrize("steps", [1, 3])
def test_an_odd_path_cannot_be_halved(steps):
    times = CosineSchedule().times(steps)
    denoise = Denoiser(lambda z, noise: z, VPrediction(), CosineSchedule())
    with pytest.raises(ValueError, match="cannot be halved"):
        DistillationLoss(denoise, VPrediction(), CosineSchedule(), times)
    with pytest.raises(ValueError, match="2 times"):
        next(distill(denoise, CosineSchedule().times(6), 2, lambda student, loss: None))
