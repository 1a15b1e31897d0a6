"""The way down and up: which channels meet where, and that every size comes back. (Its sums: the backbones' tests.)"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.layers.u_shape import check_levels, each_level, go_down, go_up, skip_widths, way_down, way_up


class Widened(nn.Module):
    """A residual block that remembers the channels it was made for and gives what it is told to."""

    def __init__(self, inp, out):
        super().__init__()
        self.inp, self.out = inp, out

    def forward(self, x, told):
        assert x.shape[1] == self.inp
        return x.new_full((len(x), self.out, *x.shape[2:]), told)


class Plus(nn.Module):
    """An attention that adds what it is told."""

    def forward(self, x, told):
        return x + told


def ways(widths, layers, attends):
    made = (
        way(widths, layers, attends, lambda _level, inp, out: Widened(inp, out), lambda _level: Plus())
        for way in (way_down, way_up)
    )
    return list(made)


levels = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(levels, st.integers(1, 3), st.integers(1, 19), st.integers(1, 19))
def test_channels_and_sizes_meet_on_the_way_up(widths, layers, height, width):
    down, up = ways(widths, layers, [True] * len(widths))
    skips = go_down(down, torch.zeros(1, widths[0], height, width), (1.0,), (0.5,))
    assert [skip.shape[1] for skip in skips] == skip_widths(widths, layers)
    y = go_up(up, skips[-1], skips, (2.0,), (0.25,))
    assert y.shape == (1, widths[0], height, width)
    assert (y == 2.25).all()
    assert len(skips) == 1 + sum(len(block.resnets) + len(block.downsamplers) for block in down)


def test_only_some_levels_attend():
    down, up = ways([4, 8, 8], 2, [False, True, False])
    assert [len(block.attentions) for block in down] == [0, 2, 0]
    assert [len(block.attentions) for block in up] == [0, 3, 0]
    assert [len(block.downsamplers) for block in down] == [1, 1, 0]
    assert [len(block.upsamplers) for block in up] == [1, 1, 0]


def test_one_number_for_each_level():
    assert each_level(3, [1, 2]) == (3, 3)
    assert each_level((3, 4), [1, 2]) == (3, 4)


def test_levels_that_do_not_fit_are_refused():
    check_levels([4, 8], [1, 1], ["A", "B"], {"A": True, "B": False})
    with pytest.raises(ValueError, match=r"not supported here: C \(are: A, B\)"):
        check_levels([4, 8], [1, 1], ["A", "C"], {"A": True, "B": False})
    with pytest.raises(ValueError, match="2 levels do not fit 2 blocks and 1 numbers of heads"):
        check_levels([4, 8], [1], ["A", "A"], {"A": True})
