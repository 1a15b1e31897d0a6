import pytest
import torch

from models.systems.text_guidance import drop_text, guided_by_text


def test_a_share_of_the_captions_is_dropped_whole_and_padding_stays_hidden():
    seen = torch.ones(4000, 3, dtype=torch.bool)
    seen[:, 2] = False
    kept = drop_text(seen, 0.25, torch.Generator().manual_seed(0))
    assert set(map(tuple, kept.tolist())) == {(True, True, False), (False, False, False)}
    assert 1 - kept[:, 0].double().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(drop_text(seen, 0.0, torch.Generator()), seen)
    assert not drop_text(seen, 1.0, torch.Generator()).any()


def test_guidance_is_the_published_equation():
    """x_u + s (x_c - x_u); what is known beside the text both halves are told."""

    def denoise(z, t, text, text_mask, level):
        return z * t + (text.sum(-1) * text_mask).sum(1)[:, None] + level[:, None]

    z, text = torch.randn(2, 3), torch.randn(2, 4, 5)
    t, level = torch.tensor(0.5), torch.randn(2)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    without = z * t + level[:, None]
    told = (text.sum(-1) * mask).sum(1)[:, None]
    torch.testing.assert_close(guided_by_text(denoise, text, mask, 3.0, level=level)(z, t), without + 3 * told)
    torch.testing.assert_close(guided_by_text(denoise, text, mask, level=level)(z, t), without + told)


def test_without_text_there_is_nothing_to_be_guided_by():
    denoise = guided_by_text(lambda z, t, **given: z + len(given), None)
    assert denoise(torch.zeros(1), torch.tensor(0.0)).item() == 0
    with pytest.raises(ValueError, match="guidance of 2 needs a text"):
        guided_by_text(lambda z, t: z, None, scale=2.0)


def test_what_is_told_has_a_row_for_each_sample_with_and_without_text():
    z, t = torch.zeros(2, 3), torch.tensor(0.5)
    for text in (None, torch.zeros(2, 4, 5)):
        with pytest.raises(ValueError, match="a batch of 2 needs 2 rows of fps, not shape \\(1,\\)"):
            guided_by_text(lambda z, t, **told: z, text, fps=torch.ones(1))(z, t)
