"""Patches and packing: round trips, and a packed sequence beside its samples one by one."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.layers.patches import grid_of, pack, patchify, positions, rotary_3d, unpatchify

SIZE = st.integers(1, 3)
PATCH = st.tuples(SIZE, SIZE, SIZE)


@given(SIZE, SIZE, st.tuples(SIZE, SIZE, SIZE), PATCH)
def test_unpatchify_is_the_inverse(batch, channels, grid, patch):
    sizes = [g * p for g, p in zip(grid, patch, strict=True)]
    video = torch.randn(batch, channels, *sizes)
    tokens = patchify(video, patch)
    assert grid_of(video.shape, patch) == grid
    assert torch.equal(unpatchify(tokens, grid, patch), video)


@given(st.tuples(SIZE, SIZE, SIZE), PATCH, st.data())
def test_a_token_is_a_patch(grid, patch, data):
    """In channel, time, row, column order, as `positions` says where."""
    video = torch.randn(1, 2, *(g * p for g, p in zip(grid, patch, strict=True)))
    tokens, places = patchify(video, patch), positions(grid)
    n = data.draw(st.integers(0, len(places) - 1))
    t, h, w = (place * p for place, p in zip(places[n].tolist(), patch, strict=True))
    cut = video[0, :, t : t + patch[0], h : h + patch[1], w : w + patch[2]]
    assert torch.equal(tokens[0, n], cut.flatten())


def test_what_has_no_whole_patches_is_refused():
    with pytest.raises(ValueError, match=r"\(3, 4, 5\).*\(1, 2, 2\)"):
        patchify(torch.zeros(1, 1, 3, 4, 5), (1, 2, 2))
    with pytest.raises(ValueError, match="8 tokens do not fit a sequence of 7"):
        pack([torch.zeros(1, 2, 4, 4)], (1, 2, 2), length=7)


@given(st.tuples(*[st.integers(0, 9)] * 3), st.tuples(*[st.integers(0, 9)] * 3), st.integers(0, 99))
def test_rotary_products_depend_on_the_three_gaps_only(gap, shift, seed):
    q, k = torch.randn(2, 1, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    zero, gap, shift = torch.zeros(1, 3), torch.tensor([gap]), torch.tensor([shift])
    here = (rotary_3d(q, gap) * rotary_3d(k, zero)).sum()
    there = (rotary_3d(q, gap + shift) * rotary_3d(k, shift)).sum()
    assert here.item() == pytest.approx(there.item(), abs=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotary_tells_each_axis(axis):
    x, place = torch.ones(1, 12), torch.zeros(1, 3)
    place[0, axis] = 1
    assert not torch.allclose(rotary_3d(x, place), x)


def test_heads_too_small_for_three_axes_are_refused():
    with pytest.raises(ValueError, match="three axes"):
        rotary_3d(torch.zeros(1, 4), torch.zeros(1, 3))


class Block(nn.Module):
    """Attention with three-axis positions, a modulation for each sample, and a map back to patches."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * 2 * 12), nn.Linear(2 * 12, width)

    def forward(self, tokens, places, mask, shift):
        q, k, v = self.qkv(tokens + shift).reshape(1, -1, 3, 2, 12).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(rotary_3d(q, places), rotary_3d(k, places), v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))


PATCH_2 = (1, 2, 2)


@pytest.fixture
def videos():
    """A video, an image and a longer, narrow video."""
    sizes = [(3, 4, 4, 6), (3, 1, 8, 8), (3, 5, 2, 4)]
    return [
        torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(size))) for size in sizes
    ]


@pytest.mark.parametrize("length", [None, 64])
def test_a_packed_batch_is_its_samples_one_by_one(videos, length):
    torch.manual_seed(0)
    block, shifts = Block(12).double(), torch.randn(3, 12, dtype=torch.float64)
    packed = pack(videos, PATCH_2, length)
    out = packed.unpack(block(packed.tokens, packed.positions, packed.mask[None, None], packed.each(shifts)), PATCH_2)
    for video, shift, together in zip(videos, shifts, out, strict=True):
        grid = grid_of(video.shape, PATCH_2)
        alone = block(patchify(video[None], PATCH_2), positions(grid), None, shift)
        torch.testing.assert_close(together, unpatchify(alone, grid, PATCH_2)[0], rtol=1e-12, atol=1e-12)


def test_no_gradient_leaks_between_samples(videos):
    torch.manual_seed(0)
    block = Block(12).double()
    leaves = [video.requires_grad_() for video in videos]
    packed = pack(leaves, PATCH_2, 70)
    out = packed.unpack(block(packed.tokens, packed.positions, packed.mask[None, None], torch.zeros(1)), PATCH_2)
    gradients = torch.autograd.grad(out[1].square().sum(), leaves)
    assert [bool(g.abs().max() > 0) for g in gradients] == [False, True, False]


def test_nothing_of_the_sequence_is_not_a_number(videos):
    packed = pack(videos, PATCH_2, 70)
    out = Block(12).double()(packed.tokens, packed.positions, packed.mask[None, None], torch.zeros(1))
    assert out.isfinite().all()
    assert packed.mask.sum() == sum(int((packed.sample == s).sum()) ** 2 for s in (-1, 0, 1, 2))
