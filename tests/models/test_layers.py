import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layers import (
    TemporalAttention,
    TemporalConv,
    fourier_features,
    group_norm,
    merge_heads,
    rotary,
    split_heads,
)


def randomise(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return module.double()


def frames(b=2, t=5, c=16, h=3, w=2, seed=1):
    """Random, distinct frames: `(b t) c h w`."""
    return torch.randn(b * t, c, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def jacobian_mask(layer, t=5, c=16):
    """(t, t): whether frame i of the output depends on frame j of the input."""
    x = frames(b=1, t=t, c=c).requires_grad_()
    out = layer(x, t)
    rows = [torch.autograd.grad(out[i].sum(), x, retain_graph=True)[0].abs().flatten(1).sum(1) > 0 for i in range(t)]
    return torch.stack(rows)


@pytest.mark.parametrize("layer", [TemporalConv(16), TemporalAttention(16)], ids=["conv", "attention"])
def test_new_layers_are_the_identity_to_the_last_bit(layer):
    x = frames().float()
    assert torch.equal(layer(x, 5), x)


def test_conv_equals_conv3d():
    layer, x = randomise(TemporalConv(16)), frames()
    video = x.reshape(2, 5, 16, 3, 2).transpose(1, 2)
    expected = F.conv3d(video, layer.conv.weight[..., None], layer.conv.bias, padding=(1, 0, 0))
    torch.testing.assert_close(layer(x, 5), x + expected.transpose(1, 2).reshape(x.shape), rtol=1e-12, atol=1e-12)


def test_conv_reaches_its_neighbours_and_no_further():
    i = torch.arange(5)
    assert torch.equal(jacobian_mask(randomise(TemporalConv(16))), (i[:, None] - i).abs() <= 1)


def test_attention_reaches_every_frame():
    assert jacobian_mask(randomise(TemporalAttention(16))).all()


def test_attention_keeps_pixels_and_videos_apart():
    layer, x = randomise(TemporalAttention(16)), frames().requires_grad_()
    layer(x, 5)[2, :, 1, 0].sum().backward()
    touched = x.grad.abs().sum(1) > 0  # (b t) h w
    expected = torch.zeros(10, 3, 2, dtype=torch.bool)
    # the norm before it looks at whole frames, so that all pixels of the first video may matter, and none of the second
    assert not touched[5:].any()
    layer.norm = torch.nn.Identity()
    x.grad = None
    layer(x, 5)[2, :, 1, 0].sum().backward()
    expected[:5, 1, 0] = True
    assert torch.equal(x.grad.abs().sum(1) > 0, expected)


def test_attention_knows_the_order_of_frames():
    layer, x = randomise(TemporalAttention(16)), frames(b=1)
    order = torch.tensor([3, 1, 4, 0, 2])
    assert (layer(x[order], 5) - layer(x, 5)[order]).abs().max() > 1e-3


@pytest.mark.parametrize("layer", [TemporalConv(16), TemporalAttention(16)], ids=["conv", "attention"])
def test_the_last_map_has_a_gradient_at_the_first_step(layer):
    layer = layer.double()
    layer(frames(), 5).square().sum().backward()
    last = layer.conv if isinstance(layer, TemporalConv) else layer.out
    assert last.weight.grad.abs().max() > 0
    assert last.bias.grad.abs().max() > 0


def test_even_kernels_are_refused():
    with pytest.raises(ValueError, match="even kernel"):
        TemporalConv(16, kernel=2)


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
    norm, x = group_norm(16).double(), frames()
    torch.testing.assert_close(norm(x)[3:4], norm(x[3:4]))
