import numpy as np
import pytest
import torch

from models.diffusion.losses import EDMLoss, VLoss
from training.data import Example, collate
from training.evaluate import LEVELS, denoising_error


class NoText:
    """A conditioner for networks that look at nothing."""

    device = torch.device("cpu")

    def __call__(self, batch):
        return {}


def examples(n=5):
    rng = np.random.default_rng(0)
    return [Example(rng.integers(0, 256, (8, 8, 3), np.uint8), "", float("nan"), float("nan")) for _ in range(n)]


def silent(z, noise):
    return torch.zeros_like(z)


@pytest.mark.parametrize("level", LEVELS)
def test_a_silent_edm_network_errs_as_much_as_shrinking_does(level):
    """F = 0 leaves c_skip z: error (1 - c)^2 E[x^2] + c^2 sigma^2, the mixed term vanishing on average."""
    data = examples(40)
    power = collate(data).pixels.square().mean().item()
    c = 0.25 / (0.25 + level**2)
    expected = (1 - c) ** 2 * power + c**2 * level**2
    assert denoising_error(EDMLoss(), silent, data, NoText())[f"{level:g}"] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("loss", [EDMLoss(), VLoss()], ids=["edm", "v"])
def test_a_perfect_network_has_no_error(loss):
    data = examples()
    x = collate(data).pixels

    def perfect(z_in, noise):
        t = loss.schedule.time((4 * noise.double()).exp())
        alpha, sigma = (level[:, None, None, None] for level in loss.schedule.alpha_sigma(t))
        c = loss.parameterization.coefficients(alpha, sigma)
        return ((x - c.skip * z_in / c.inp) / c.out).float()

    errors = denoising_error(loss, perfect, data, NoText())
    assert max(errors.values()) < 1e-9
    assert set(errors) == {*(f"{level:g}" for level in LEVELS), "mean"}


def test_the_task_is_the_same_in_every_call_and_batch_size():
    one, other = (denoising_error(EDMLoss(), silent, examples(), NoText(), batch=b) for b in (2, 5))
    assert one == pytest.approx(other, rel=1e-6)
    assert one["mean"] == pytest.approx(sum(one[f"{level:g}"] for level in LEVELS) / len(LEVELS))


def test_without_examples_there_is_no_error_to_tell():
    with pytest.raises(ValueError, match="no examples"):
        denoising_error(EDMLoss(), silent, [], NoText())
