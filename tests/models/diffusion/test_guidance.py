import pytest
import torch

from models.diffusion.guidance import Guided
from models.diffusion.parameterization import EpsPrediction
from models.diffusion.schedules import CosineSchedule


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
