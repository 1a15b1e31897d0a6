import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.diffusion.losses import (
    DenoisingLoss,
    EDMLoss,
    LogitNormalTimes,
    LogNormalTimes,
    MinSNR,
    TruncatedSNR,
    UniformTimes,
    VLoss,
    denoiser,
    stratified_uniform,
)
from models.diffusion.parameterization import EpsPrediction, FlowPrediction, VPrediction, XPrediction
from models.diffusion.schedules import CosineSchedule, FlowSchedule, KarrasSchedule, expand_to

FLOW = DenoisingLoss(FlowSchedule(), FlowPrediction(), LogitNormalTimes())
LOSSES = pytest.mark.parametrize("loss", [VLoss(), EDMLoss(), FLOW], ids=["v", "edm", "flow"])


def test_stratified_numbers_fill_every_bin_once():
    numbers = stratified_uniform(64, torch.Generator().manual_seed(3))
    assert sorted((numbers * 64).long().tolist()) == list(range(64))


def test_stratified_numbers_are_uniform_over_draws():
    first = torch.stack([stratified_uniform(4, torch.Generator().manual_seed(s))[0] for s in range(2000)])
    assert first.mean().item() == pytest.approx(0.5, abs=0.02)
    assert first.var().item() == pytest.approx(1 / 12, abs=0.005)


@LOSSES
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


@LOSSES
def test_loss_is_a_function_of_the_generator(loss):
    x = torch.randn(4, 3, 2, 4, 4)
    first, again, other = (loss(lambda z, noise: z, x, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert first.shape == (4,)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("parameterization", "weight"),
    [
        (EpsPrediction(), lambda snr: min(snr, 5) / snr),
        (XPrediction(), lambda snr: min(snr, 5)),
        (VPrediction(), lambda snr: min(snr, 5) / (snr + 1)),
    ],
    ids=["eps", "x", "v"],
)
@given(t=st.floats(0.02, 0.98))
def test_min_snr_is_the_published_weight_of_each_prediction(parameterization, weight, t):
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain, weighed = (
        DenoisingLoss(CosineSchedule(), parameterization, UniformTimes(t, t), weighting)(
            lambda z, noise: torch.sin(z), x, torch.Generator().manual_seed(1)
        )
        for weighting in (None, MinSNR(5.0))
    )
    snr = 1 / math.tan(math.pi * t / 2) ** 2
    torch.testing.assert_close(weighed, weight(snr) * plain, rtol=1e-9, atol=1e-12)


def test_weighted_losses_are_the_denoising_error_times_the_weight():
    """The same in x, whatever the network predicts."""
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    schedule, generator = CosineSchedule(), torch.Generator()
    for time, weight in ((0.3, 1 / math.tan(0.15 * math.pi) ** 2), (0.8, 1.0)):
        for parameterization in (EpsPrediction(), XPrediction(), VPrediction(), FlowPrediction()):
            seen, loss = [], DenoisingLoss(schedule, parameterization, UniformTimes(time, time), TruncatedSNR())
            value = loss(lambda z, noise, seen=seen: seen.append(z) or torch.sin(z), x, generator.manual_seed(1))
            alpha, sigma = schedule.alpha_sigma(torch.full((2,), time, dtype=torch.float64))
            z = seen[0] / expand_to(parameterization.coefficients(alpha, sigma).inp, x)
            x_hat = denoiser(loss, lambda z, noise: torch.sin(z))(z, torch.tensor(time, dtype=torch.float64))
            error = (x_hat - x).square().flatten(1).mean(1)
            torch.testing.assert_close(value, weight * error, rtol=1e-9, atol=1e-12)


def test_min_snr_is_finite_at_both_ends():
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert MinSNR(5.0)(*CosineSchedule().alpha_sigma(t)).tolist() == [5.0, 0.0]


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.5, 0.6)])
def test_logit_normal_times(mean, std):
    t = LogitNormalTimes(mean, std)(20_000, FlowSchedule(), torch.Generator().manual_seed(0))
    logit = torch.logit(t)
    assert logit.mean().item() == pytest.approx(mean, abs=0.01)
    assert logit.std().item() == pytest.approx(std, rel=0.01)
    # a shift adds its logarithm: t / (1 - t) is sigma / alpha of the straight path
    shifted = LogitNormalTimes(mean, std, 3.0)(20_000, FlowSchedule(), torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.logit(shifted), logit + math.log(3), rtol=0, atol=1e-9)


@pytest.mark.parametrize("schedule", [CosineSchedule(), FlowSchedule(), KarrasSchedule()], ids=str)
def test_log_normal_noise_is_the_same_on_any_schedule(schedule):
    t = LogNormalTimes(-0.4, 1.3)(20_000, schedule, torch.Generator().manual_seed(0))
    alpha, sigma = schedule.alpha_sigma(t)
    log_ratio = (sigma / alpha).log()
    assert log_ratio.mean().item() == pytest.approx(-0.4, abs=0.01)
    assert log_ratio.std().item() == pytest.approx(1.3, rel=0.01)


def test_training_a_flow_network_finds_the_best_linear_denoiser():
    """At one time, for x ~ N(0, 1): the velocity is (t - alpha) / (alpha^2 + t^2) z."""
    gain = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    x = torch.randn(20_000, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss = DenoisingLoss(FlowSchedule(), FlowPrediction(), UniformTimes(0.3, 0.3))
    optimizer = torch.optim.SGD([gain], lr=0.4)
    for _ in range(30):
        optimizer.zero_grad()
        loss(lambda z, noise: gain * z, x, torch.Generator().manual_seed(1)).mean().backward()
        optimizer.step()
    assert gain.item() == pytest.approx((0.3 - 0.7) / (0.3**2 + 0.7**2), abs=0.02)


@LOSSES
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_label_is_exact_whatever_the_data_s_precision(loss, dtype):
    def label_of(x):
        seen = []
        loss(lambda z, noise: seen.append(noise) or z, x, torch.Generator().manual_seed(0))
        return seen[0].double()

    x = torch.zeros(64, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(label_of(x.to(dtype)), label_of(x), rtol=1e-6, atol=1e-6)
