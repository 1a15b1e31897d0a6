import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.diffusion.guidance import (
    Guided,
    Reconstruction,
    downsampled,
    frame_scale,
    given_downsampled,
    given_frames,
    rescaled,
)
from models.diffusion.parameterization import EpsPrediction
from models.diffusion.samplers import DDIM, DDPM, prior
from models.diffusion.schedules import CosineSchedule, FlowSchedule, KarrasSchedule


def denoise(z, t, text):
    return z * t + text[:, None]


def _guided(scale, **more):
    cond, uncond = {"text": torch.tensor([1.0, 2.0])}, {"text": torch.tensor([0.0, 0.5]), **more}
    return Guided(denoise, cond, uncond, scale)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5, 7.0])
def test_guidance_is_the_linear_extrapolation(scale):
    z, t = torch.randn(2, 3), torch.tensor(0.4)
    cond, uncond = denoise(z, t, torch.tensor([1.0, 2.0])), denoise(z, t, torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(_guided(scale)(z, t), (1 - scale) * uncond + scale * cond)


def test_a_scale_per_frame():
    z, t = torch.randn(2, 3), torch.tensor(0.4)
    out = _guided(torch.tensor([1.0, 2.0, 3.0]))(z, t)
    for i, scale in enumerate((1.0, 2.0, 3.0)):
        torch.testing.assert_close(out[:, i], _guided(scale)(z, t)[:, i])


def test_guiding_the_data_is_guiding_the_noise():
    alpha, sigma = CosineSchedule().alpha_sigma(torch.tensor(0.6, dtype=torch.float64))
    z, a, b = torch.randn(3, 5, dtype=torch.float64).unbind(0)
    c = EpsPrediction().coefficients(alpha, sigma)
    guided_eps = b + 4 * (a - b)
    x_a, x_b = c.skip * z + c.out * a, c.skip * z + c.out * b
    torch.testing.assert_close(x_b + 4 * (x_a - x_b), c.skip * z + c.out * guided_eps, rtol=1e-10, atol=1e-10)


def test_scale_one_leaves_the_unconditional_half_out():
    sizes = []
    guided = Guided(
        lambda z, t, text: sizes.append(len(z)) or z, {"text": torch.ones(2)}, {"text": torch.zeros(2)}, 1.0
    )
    guided(torch.randn(2, 3), torch.tensor(0.5))
    assert sizes == [2]


def test_different_conditioning_on_both_sides_is_an_error():
    with pytest.raises(ValueError, match="same keys"):
        _guided(2.0, fps=torch.ones(2))(torch.randn(2, 3), torch.tensor(0.5))


@pytest.mark.parametrize("schedule", [CosineSchedule(), KarrasSchedule()], ids=["cosine", "karras"])
@pytest.mark.parametrize(("ratio", "inside"), [(0.2, False), (0.281, True), (1.0, True), (2.89, True), (3.0, False)])
def test_guidance_in_an_interval_of_noise_alone(schedule, ratio, inside):
    z, t = torch.randn(2, 3), schedule.time(torch.tensor(ratio, dtype=torch.float64))
    cond, uncond = {"text": torch.tensor([1.0, 2.0])}, {"text": torch.tensor([0.0, 0.5])}
    out = Guided(denoise, cond, uncond, 4.0, interval=(0.28, 2.9), schedule=schedule)(z, t)
    torch.testing.assert_close(out, Guided(denoise, cond, uncond, 4.0 if inside else 1.0)(z, t))


def test_an_interval_needs_the_schedule():
    with pytest.raises(ValueError, match="needs the schedule"):
        Guided(denoise, {}, {}, 2.0, interval=(0.1, 1.0))(torch.zeros(1), torch.tensor(0.5))


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_rescaled_guidance_equals_diffusers(share):
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    guided, cond = torch.randn(2, 3, 2, 4, 8, 8, dtype=torch.float64, generator=seeded()).unbind(0)
    guided = 5 * guided
    expected = rescale_noise_cfg(guided, cond, guidance_rescale=share)
    torch.testing.assert_close(rescaled(guided, cond, share), expected, rtol=1e-12, atol=1e-12)


def test_full_rescaling_has_the_conditional_spread():
    cond = {"text": torch.tensor([1.0, 2.0])}
    guided = Guided(lambda z, t, text: z * (1 + text[:, None]), cond, {"text": torch.zeros(2)}, 6.0, rescale=1.0)
    z, t = torch.randn(2, 30, generator=seeded()), torch.tensor(0.4)
    torch.testing.assert_close(guided(z, t).std(1), (z * torch.tensor([[2.0], [3.0]])).std(1))


def test_the_scale_grows_along_the_frames():
    scale = frame_scale(5, 1.0, 3.0)
    assert scale.shape == (5, 1, 1)
    assert scale.flatten().tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]
    z, t = torch.randn(2, 3, 5, 4, 4), torch.tensor(0.4)

    def wide(z, t, text):
        return z * t + text[:, None, None, None, None]

    cond, uncond = {"text": torch.tensor([1.0, 2.0])}, {"text": torch.tensor([0.0, 0.5])}
    out = Guided(wide, cond, uncond, scale)(z, t)
    for i in range(5):
        alone = Guided(wide, cond, uncond, 1 + i / 2)(z, t)
        torch.testing.assert_close(out[:, :, i], alone[:, :, i])


# ---- reconstruction guidance, on Gaussian data where every conditional is known: x = (a, b), a of 2 numbers, b of 3

A = slice(0, 2)
B = slice(2, 5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def covariance(seed=0, size=5):
    root = torch.randn(size, size, dtype=torch.float64, generator=seeded(seed))
    return root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64)


def gaussian_denoiser(schedule, cov):
    """E[x | z] for x ~ N(0, cov), and the covariance of x given z."""

    def gain(t):
        alpha, sigma = schedule.alpha_sigma(t)
        return alpha * cov @ torch.linalg.inv(alpha**2 * cov + sigma**2 * torch.eye(len(cov), dtype=cov.dtype))

    def posterior(t):
        return cov - schedule.alpha_sigma(t)[0] * gain(t) @ cov

    return (lambda z, t: z @ gain(t).T), posterior


def exact_guidance(schedule, cov, x_a):
    """The guidance whose likelihood has the exact covariance of a given z, C: eq. 7 measures in the metric in which
    sigma^2 / alpha^2 I is that covariance."""
    denoise, posterior = gaussian_denoiser(schedule, cov)

    def guided(z, t):
        alpha, sigma = schedule.alpha_sigma(t)
        white = torch.linalg.inv(torch.linalg.cholesky(posterior(t)[A, A])) * sigma / alpha
        known = torch.tensor([True, True, False, False, False])
        values = torch.cat([x_a, torch.zeros(len(x_a), 3, dtype=x_a.dtype)], 1)
        return Reconstruction(
            denoise, schedule, lambda x: x[:, A] @ white.T, x_a @ white.T, known=known, values=values
        )(z, t)

    return guided


@pytest.mark.parametrize("schedule", [CosineSchedule(), FlowSchedule(), KarrasSchedule()], ids=str)
@given(t=st.floats(0.1, 0.9), seed=st.integers(0, 50))
def test_reconstruction_guidance_with_the_exact_covariance_is_the_conditional_mean(schedule, t, seed):
    """E[x_b | z, x_a], by conditioning the joint Gaussian of (x_b, x_a, z)."""
    cov, t = covariance(seed), torch.tensor(t, dtype=torch.float64)
    alpha, sigma = schedule.alpha_sigma(t)
    z, x = torch.randn(2, 4, 5, dtype=torch.float64, generator=seeded(seed + 1)).unbind(0)
    of_both = torch.cat([torch.cat([cov[A, A], alpha * cov[A, :]], 1), torch.cat(
        [alpha * cov[:, A], alpha**2 * cov + sigma**2 * torch.eye(5, dtype=torch.float64)], 1)])  # fmt: skip
    with_b = torch.cat([cov[B, A], alpha * cov[B, :]], 1)
    expected = torch.cat([x[:, A], z], 1) @ torch.linalg.solve(of_both, with_b.T)
    guided = exact_guidance(schedule, cov, x[:, A])(z, t)
    torch.testing.assert_close(guided[:, B], expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(guided[:, A], x[:, A])


@pytest.mark.parametrize("weight", [1.0, 3.0])
@given(t=st.floats(0.1, 0.9), seed=st.integers(0, 50))
def test_reconstruction_guidance_is_the_published_equation(weight, t, seed):
    """x_b - (w alpha / 2) grad ||x_a - x_a_hat||^2, the gradient by hand; at w = 1 that is x_b + sigma^2 / alpha times
    the score of a Gaussian likelihood with covariance sigma^2 / alpha^2 I."""
    schedule, cov, t = CosineSchedule(), covariance(seed), torch.tensor(t, dtype=torch.float64)
    denoise, _ = gaussian_denoiser(schedule, cov)
    alpha, sigma = schedule.alpha_sigma(t)
    z, x = torch.randn(2, 4, 5, dtype=torch.float64, generator=seeded(seed + 1)).unbind(0)
    guided = Reconstruction(denoise, schedule, lambda x: x[:, A], x[:, A], weight)(z, t)
    jacobian = denoise(torch.eye(5, dtype=torch.float64), t).T  # d x_hat_i / d z_j
    gradient = -2 * (x[:, A] - denoise(z, t)[:, A]) @ jacobian[A]
    expected = denoise(z, t) - weight * alpha / 2 * gradient
    torch.testing.assert_close(guided, expected, rtol=1e-12, atol=1e-12)
    if weight == 1:
        likelihood = torch.distributions.Normal(x[:, A], sigma / alpha)
        z.requires_grad_()
        score = torch.autograd.grad(likelihood.log_prob(denoise(z, t)[:, A]).sum(), z)[0]
        torch.testing.assert_close(guided, (denoise(z, t) + sigma**2 / alpha * score).detach(), rtol=1e-12, atol=1e-12)


def test_samples_guided_with_the_exact_covariance_are_the_conditional_distribution():
    schedule, cov = CosineSchedule(), covariance(3)
    x_a = torch.tensor([[0.8, -1.1]], dtype=torch.float64).expand(4000, 2)
    times = schedule.times(200)
    z = prior(torch.randn(4000, 5, dtype=torch.float64, generator=seeded()), schedule, times[1:])
    x = DDPM(seeded(1))(exact_guidance(schedule, cov, x_a), z, schedule, times[1:])
    regression = cov[B, A] @ torch.linalg.inv(cov[A, A])
    spread = (cov[B, B] - regression @ cov[A, B]).diagonal().sqrt()
    torch.testing.assert_close(x[:, A], x_a, rtol=0, atol=1e-12)
    assert ((x[:, B].mean(0) - regression @ x_a[0]) / spread).abs().max() < 0.1
    torch.testing.assert_close(x[:, B].std(0), spread, rtol=0.08, atol=0)


VIDEO = (1, 1, 4, 4, 4)  # (b, c, t, h, w)


def video_denoiser(schedule, steps=0.9):
    """Gaussian videos whose pixels are alike in space and, the nearer the frames, in time."""
    place = torch.stack(torch.meshgrid(*[torch.arange(4.0, dtype=torch.float64)] * 3, indexing="ij"), -1).reshape(-1, 3)
    cov = steps ** torch.cdist(place, place, p=1)
    mean, _ = gaussian_denoiser(schedule, cov)
    draw = torch.linalg.cholesky(cov)
    return (lambda z, t: mean(z.reshape(len(z), -1), t).reshape(z.shape)), lambda seed: (
        draw @ torch.randn(64, dtype=torch.float64, generator=seeded(seed))
    ).reshape(VIDEO)


@pytest.mark.parametrize("given_ones", [[True, True, False, False], [True, False, False, True]], ids=["on", "between"])
def test_reconstruction_of_the_given_frames_gets_better_with_guidance(given_ones):
    """Extension and in-betweens: over 20 seeds ||x_a - x_a_hat|| at the last steps' estimates falls against w = 0."""
    schedule = CosineSchedule()
    denoise, draw = video_denoiser(schedule)
    given_ones = torch.tensor(given_ones)
    for seed in range(20):
        x, errors, ends = draw(seed), {}, {}
        noise = torch.randn(VIDEO, dtype=torch.float64, generator=seeded(seed + 100))
        for weight in (0.0, 1.0):
            seen = []

            def record(z, t, seen=seen, x=x):
                x_hat = denoise(z, t)
                seen.append((x_hat - x)[:, :, given_ones].detach().norm())
                return x_hat

            guided = given_frames(record, schedule, x, given_ones, weight)
            times = schedule.times(32)
            ends[weight] = DDIM()(guided, prior(noise, schedule, times), schedule, times)
            errors[weight] = torch.stack(seen).mean()
        assert errors[1.0] < errors[0.0]
        for end in ends.values():
            torch.testing.assert_close(end[:, :, given_ones], x[:, :, given_ones], rtol=0, atol=1e-12)


def test_super_resolution_by_guidance_agrees_with_the_small_video():
    """Over 20 seeds, and closer to the large one that it was made of than an unguided sample is."""
    schedule = CosineSchedule()
    denoise, draw = video_denoiser(schedule)
    for seed in range(20):
        x = draw(seed)
        small = downsampled(x, 2, 2)
        noise = torch.randn(VIDEO, dtype=torch.float64, generator=seeded(seed + 100))
        times = schedule.times(32)
        ends = [
            DDIM()(given_downsampled(denoise, schedule, small, w), prior(noise, schedule, times), schedule, times)
            for w in (0.0, 2.0)
        ]
        measured, distance = zip(*[((downsampled(e, 2, 2) - small).norm(), (e - x).norm()) for e in ends], strict=True)
        assert measured[1] < 0.5 * measured[0]
        assert distance[1] < distance[0]


def test_unread_pixels_do_not_matter_and_gradients_are_made_in_no_grad():
    schedule = CosineSchedule()
    denoise, draw = video_denoiser(schedule)
    x, given_ones, t = draw(0), torch.tensor([True, False, False, True]), torch.tensor(0.5, dtype=torch.float64)
    hidden = x.where(given_ones[:, None, None], torch.nan)
    with torch.no_grad():
        a, b = (given_frames(denoise, schedule, known, given_ones, 2.0)(draw(1), t) for known in (x, hidden))
        plain = given_frames(denoise, schedule, x, given_ones, 0.0)(draw(1), t)
    assert torch.equal(a, b)
    assert not a.requires_grad
    assert not torch.equal(a, plain)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="sample in no_grad"):
        given_frames(denoise, schedule, x, given_ones, 2.0)(draw(1), t)


def test_downsampling_is_frame_by_frame_and_keeps_constants():
    x = torch.rand(2, 3, 5, 8, 6)
    assert downsampled(x, 4, 3).shape == (2, 3, 5, 4, 3)
    torch.testing.assert_close(downsampled(x, 4, 3)[:, :, 2], downsampled(x[:, :, 2], 4, 3))
    torch.testing.assert_close(downsampled(torch.full((1, 3, 8, 8), 0.3), 4, 4), torch.full((1, 3, 4, 4), 0.3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_made_smaller_too(dtype):
    x = torch.rand(1, 3, 2, 8, 6, generator=seeded()).to(dtype)
    out = downsampled(x, 4, 3)
    assert out.dtype == dtype
    assert torch.equal(out, downsampled(x.float(), 4, 3).to(dtype))
    fine = torch.rand(1, 3, 8, 6, dtype=torch.float64, generator=seeded())
    assert downsampled(fine, 4, 3).dtype == torch.float64


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_what_is_told_has_a_row_for_each_sample(scale):
    t, one, two = torch.tensor(0.5), {"text": torch.ones(1)}, {"text": torch.ones(2)}
    with pytest.raises(ValueError, match="a batch of 2 needs 2 rows of text, not shape \\(1,\\)"):
        Guided(denoise, one, one, scale)(torch.randn(2, 3), t)
    with pytest.raises(ValueError, match="a batch of 1 needs 1 rows of text"):
        Guided(denoise, two, two, scale)(torch.randn(1, 3), t)
    with pytest.raises(ValueError, match="rows of text"):
        Guided(denoise, two, one, 3.0)(torch.randn(2, 3), t)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 2, 2), (1, 3, 4, 2, 2), (2, 1, 4, 2, 2), (1, 1, 4, 5, 2)], ids=["t", "c", "b", "larger"]
)
def test_a_small_video_of_another_shape_is_refused(shape):
    """Each would broadcast, or be no smaller version at all."""
    schedule, t = CosineSchedule(), torch.tensor(0.5, dtype=torch.float64)
    guided = given_downsampled(lambda z, t: 0.5 * z, schedule, torch.zeros(shape), 1.0)
    with pytest.raises(ValueError, match="as observed|no smaller version"):
        guided(torch.zeros(VIDEO, dtype=torch.float64), t)


def test_given_frames_of_another_shape_are_refused():
    schedule, t = CosineSchedule(), torch.tensor(0.5, dtype=torch.float64)
    given_ones = torch.tensor([True, False, False, True])
    for shape in ((1, 2, 4, 4, 4), (2, 1, 4, 4, 4), (1, 1, 4, 4, 1)):
        guided = given_frames(lambda z, t: 0.5 * z, schedule, torch.zeros(shape), given_ones)
        with pytest.raises(ValueError, match="as observed"):
            guided(torch.zeros(VIDEO, dtype=torch.float64), t)
    with pytest.raises(ValueError, match="entries say which of 3 frames"):
        given_frames(lambda z, t: z, schedule, torch.zeros(1, 1, 3, 4, 4), given_ones)
