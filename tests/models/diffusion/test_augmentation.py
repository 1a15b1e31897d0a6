import pytest
import torch

from models.diffusion.augmentation import augment
from models.diffusion.losses import UniformTimes
from models.diffusion.schedules import CosineSchedule, FlowSchedule, KarrasSchedule


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("schedule", [CosineSchedule(), FlowSchedule(), KarrasSchedule()], ids=str)
def test_the_noisy_condition_has_the_schedules_mean_and_variance(schedule):
    picture = torch.full((2, 3, 200, 200), 0.8, dtype=torch.float64)
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    noisy, label = augment(picture, t, schedule, seeded())
    alpha, sigma = schedule.alpha_sigma(t)
    torch.testing.assert_close(noisy.mean((1, 2, 3)), 0.8 * alpha, rtol=0, atol=0.01)
    torch.testing.assert_close(noisy.std((1, 2, 3)), sigma, rtol=0.01, atol=0)
    torch.testing.assert_close(label, (sigma / alpha).log() / 4)


def test_no_noise_leaves_the_condition_and_full_noise_forgets_it():
    picture = torch.randn(2, 3, 4, 4, generator=seeded())
    noisy, label = augment(picture, torch.tensor([0.0, 1.0]), CosineSchedule(), seeded(1))
    assert torch.equal(noisy[0], picture[0])
    again, _ = augment(-picture, torch.tensor([0.0, 1.0]), CosineSchedule(), seeded(1))
    assert torch.equal(noisy[1], again[1])
    assert label.tolist() == [-2.5, 2.5]


def test_the_level_matters_in_training_and_in_sampling():
    """The best estimate of x from a noisy c = x + 0 mixes less of c the noisier it is: a network learns that only if
    the level is its input, as here, where one weight for each half of the levels is fitted."""
    x = torch.randn(4000, 1, dtype=torch.float64, generator=seeded())
    t = UniformTimes()(len(x), CosineSchedule(), seeded(1))
    noisy, label = augment(x, t, CosineSchedule(), seeded(2))
    clean = label < 0  # sigma < alpha
    weights = [(x[half] * noisy[half]).sum() / noisy[half].square().sum() for half in (clean, ~clean)]
    assert weights[0] > 0.8
    assert weights[1] < 0.5

    def error(weight):
        return (weight * noisy - x).square().mean().item()

    both = torch.where(clean, weights[0], weights[1])[:, None]
    blind = (x * noisy).sum() / noisy.square().sum()
    assert error(both) < 0.9 * error(blind)


def test_a_level_for_each_of_the_batch():
    with pytest.raises(ValueError, match="for each of the batch"):
        augment(torch.zeros(2, 3), torch.tensor(0.5), CosineSchedule(), seeded())


def test_it_is_a_function_of_the_generator():
    picture, t = torch.zeros(2, 3), torch.tensor([0.5, 0.5])
    a, b, c = (augment(picture, t, CosineSchedule(), seeded(s))[0] for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_label_is_exact_whatever_the_condition_s_precision(dtype):
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    noisy, label = augment(torch.zeros(99, 1, dtype=dtype), t, CosineSchedule(), seeded())
    alpha, sigma = CosineSchedule().alpha_sigma(t)
    assert noisy.dtype == dtype
    torch.testing.assert_close(label.double(), (sigma / alpha).log() / 4, rtol=1e-6, atol=1e-6)
