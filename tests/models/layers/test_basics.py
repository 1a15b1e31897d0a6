"""Features, positions, heads and norms against closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layers.basics import fourier_features, group_norm, merge_heads, rotary, split_heads


@settings(deadline=None)
@given(shift=st.integers(1, 20), gap=st.integers(0, 10), seed=st.integers(0, 99))
def test_rotary_products_depend_on_the_gap_only(shift, gap, seed):
    q, k = torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).unbind(0)
    turned_q, turned_k = rotary(q.expand(40, 8)), rotary(k.expand(40, 8))
    here, there = turned_q[gap] @ turned_k[0], turned_q[gap + shift] @ turned_k[shift]
    assert here.item() == pytest.approx(there.item(), abs=1e-12)


def test_rotary_is_the_published_rotation():
    x = torch.randn(3, 4, dtype=torch.float64)
    turned = torch.view_as_complex(x[2].reshape(2, 2)) * torch.polar(
        torch.ones(2, dtype=torch.float64), 2 * torch.tensor([1.0, 10_000**-0.5], dtype=torch.float64)
    )
    torch.testing.assert_close(rotary(x)[2], torch.view_as_real(turned).flatten())
    assert torch.equal(rotary(x)[0], x[0])


def test_fourier_features_are_cosines_then_sines():
    features = fourier_features(torch.tensor([0.7], dtype=torch.float64), 6, low=1.0, high=4.0)[0]
    expected = [math.cos(0.7 * f) for f in (1, 2, 4)] + [math.sin(0.7 * f) for f in (1, 2, 4)]
    torch.testing.assert_close(features, torch.tensor(expected, dtype=torch.float64))


def test_heads_split_and_merge():
    x = torch.randn(2, 7, 24)
    q, k, v = split_heads(x, 4)
    assert q.shape == (2, 4, 7, 2)
    assert torch.equal(torch.cat([merge_heads(part) for part in (q, k, v)], dim=2), x)


@given(st.integers(1, 200))
def test_group_norm_takes_any_width(channels):
    assert group_norm(channels).num_channels == channels


def test_group_norm_is_per_frame():
    norm, x = group_norm(16).double(), torch.randn(10, 16, 3, 2, dtype=torch.float64)
    torch.testing.assert_close(norm(x)[3:4], norm(x[3:4]))


def test_rotary_takes_positions_in_between():
    x = torch.randn(3, 8, dtype=torch.float64)
    assert torch.equal(rotary(x, torch.tensor([0, 1, 2])), rotary(x))
    half = rotary(rotary(x, torch.full((3,), 0.5)), torch.full((3,), 0.5))
    torch.testing.assert_close(half, rotary(x, torch.ones(3)))
