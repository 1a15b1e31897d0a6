"""Layers over time: what they are when new, which frames they mix, and closed forms."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from models.layers.basics import merge_heads, split_heads
from models.layers.temporal import Mix, RelativeBias, TemporalAttention, TemporalConv, TemporalDown, TemporalUp


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


@pytest.mark.parametrize("positions", ["rotary", "relative"])
def test_with_a_mask_of_the_identity_frames_are_images(positions):
    layer, x = randomise(TemporalAttention(16, positions=positions)), frames()
    alone = torch.cat([layer(frame[None], 1) for frame in x])
    own = torch.eye(5, dtype=torch.bool)
    torch.testing.assert_close(layer(x, 5, own), alone, rtol=1e-12, atol=1e-12)
    assert (layer(x, 5) - alone).abs().max() > 1e-2


def test_a_mask_may_differ_between_videos():
    layer, x = randomise(TemporalAttention(16, positions="relative")), frames()
    masks = torch.stack([torch.eye(5, dtype=torch.bool), torch.ones(5, 5, dtype=torch.bool)])
    images, video = layer(x, 5, masks[0]), layer(x, 5)
    torch.testing.assert_close(layer(x, 5, masks), torch.cat([images[:5], video[5:]]), rtol=1e-12, atol=1e-12)


def test_attention_with_a_relative_bias_is_softmax_of_logits_plus_bias():
    layer, x = randomise(TemporalAttention(16, head_dim=8, positions="relative")), frames(b=1)
    tokens = layer.norm(x).permute(2, 3, 0, 1).flatten(0, 1)  # (h w) t c
    q, k, v = split_heads(layer.qkv(tokens), 2)
    i = torch.arange(5)
    bias = layer.bias.table[:, (i[None] - i[:, None]) + layer.bias.reach]
    logits = torch.einsum("phid,phjd->phij", q, k) / 8**0.5 + bias
    mixed = layer.out(merge_heads(torch.einsum("phij,phjd->phid", logits.softmax(-1), v)))
    expected = x + mixed.permute(1, 2, 0).reshape(5, 16, 3, 2)
    torch.testing.assert_close(layer(x, 5), expected, rtol=1e-12, atol=1e-12)


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 11))
def test_a_relative_bias_depends_on_the_distance_only(count, reach, shift):
    bias = randomise(RelativeBias(2, reach))
    whole = bias(count + shift)
    assert torch.equal(whole[:, shift:, shift:], bias(count))
    assert torch.equal(bias(reach + 5)[:, 0, reach:], bias.table[:, -1:].expand(2, 5).detach())


@given(st.integers(1, 33), st.integers(1, 3))
def test_down_and_up_keep_what_does_not_change(count, levels):
    """Ends included, in float32 to the last bit; and 1/2^levels of the frames are in between."""
    still = torch.randn(1, 8, 2, 2).expand(count, 8, 2, 2)
    lengths, x = [count], still
    for _ in range(levels):
        x = TemporalDown(8)(x, lengths[-1])
        lengths.append((lengths[-1] + 1) // 2)
    assert len(x) == lengths[-1] == -(-count // 2**levels)
    for length in reversed(lengths[:-1]):
        x = TemporalUp(8)(x, length)
    assert torch.equal(x, still)


def test_down_is_the_mean_of_neighbours_plus_a_strided_convolution():
    layer, x = randomise(TemporalDown(16)), frames(t=6)
    video = x.reshape(2, 6, 16, 3, 2).transpose(1, 2)
    padded = torch.cat([video[:, :, :1], video], dim=2)
    conv = F.conv3d(padded, layer.conv.weight[..., None], layer.conv.bias, stride=(2, 1, 1))
    expected = (video[:, :, ::2] + video[:, :, 1::2]) / 2 + conv
    torch.testing.assert_close(layer(x, 6), expected.transpose(1, 2).reshape(6, 16, 3, 2), rtol=1e-12, atol=1e-12)


def test_up_repeats_frames_plus_a_convolution():
    layer, x = randomise(TemporalUp(16)), frames(t=3)
    video = x.reshape(2, 3, 16, 3, 2).transpose(1, 2).repeat_interleave(2, 2)
    conv = F.conv3d(F.pad(video, (0, 0, 0, 0, 1, 1), mode="replicate"), layer.conv.weight[..., None], layer.conv.bias)
    expected = (video + conv).transpose(1, 2).reshape(12, 16, 3, 2)
    torch.testing.assert_close(layer(x, 6), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(x, 5).reshape(2, 5, 16, 3, 2)[:, :4], expected.reshape(2, 6, 16, 3, 2)[:, :4])


def test_at_one_the_mix_is_the_image_layer_and_alpha_still_learns():
    mix, image, video = Mix(1.0), frames(), frames(seed=2)
    mixed = mix(image, video)
    assert torch.equal(mixed, image)
    mixed.square().sum().backward()
    assert mix.factor.grad.abs() > 1
    with torch.no_grad():
        mix.factor += 0.5  # an optimizer may step out: alpha stays
    assert mix.alpha == 1


@given(st.floats(0.01, 0.99), st.sampled_from(["sigmoid", "clamp"]))
def test_the_mix_is_a_weighted_sum(alpha, kept):
    mix, image, video = Mix(alpha, kept).double(), frames(), frames(seed=2)
    assert mix.alpha.item() == pytest.approx(alpha, abs=1e-6)
    torch.testing.assert_close(mix(image, video), mix.alpha * image + (1 - mix.alpha) * video)
    only = torch.tensor([True, False] * 5)
    mixed = mix(image, video, only)
    assert torch.equal(mixed[only], image[only])
    torch.testing.assert_close(mixed[~only], mix(image, video)[~only])


def test_the_mix_is_that_of_released_networks():
    from diffusers.models.transformers.transformer_temporal import AlphaBlender

    peer, image, video = AlphaBlender(0.3, "learned").double(), frames(), frames(seed=2)
    mix = Mix(0.5, "sigmoid").double()
    mix.load_state_dict({"factor": peer.mix_factor[0]})
    torch.testing.assert_close(mix(image, video), peer(image, video, None), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("alpha", "kept"), [(-0.1, "clamp"), (1.1, "clamp"), (1.0, "sigmoid"), (0.0, "sigmoid")])
def test_shares_that_are_none_are_refused(alpha, kept):
    with pytest.raises(ValueError, match="alpha"):
        Mix(alpha, kept)


@pytest.mark.parametrize("layer", [
    TemporalConv(16), TemporalAttention(16), TemporalAttention(16, positions="relative"), TemporalDown(16),
    TemporalUp(16),
])  # fmt: skip
def test_layers_compile_whole_and_run_in_bfloat16(layer):
    layer, x = layer.bfloat16(), frames(t=4).bfloat16()
    out = layer(x, 4)
    assert out.dtype is torch.bfloat16
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, 4), out)


@pytest.mark.parametrize("kept", ["sigmoid", "clamp"])
@pytest.mark.parametrize("assign", [False, True])
def test_a_0_dim_factor_of_an_older_checkpoint_loads(kept, assign):
    mix, old = torch.nn.Sequential(Mix(0.5, kept)), {"0.factor": torch.tensor(0.25)}
    mix.load_state_dict(old, assign=assign)
    assert mix[0].factor.tolist() == [0.25]
    assert old["0.factor"].ndim == 0  # the caller's state is left alone


@pytest.mark.parametrize("t", [2, 4, 6, 10])
def test_new_down_and_up_do_not_move_frames_in_time(t):
    """A video played backwards gives the same result played backwards."""

    def resampled(x):
        return TemporalUp(16).double()(TemporalDown(16).double()(x, t), t)

    def backwards(x):
        return x.reshape(2, t, 16, 3, 2).flip(1).reshape(x.shape)

    x = frames(t=t)
    torch.testing.assert_close(backwards(resampled(backwards(x)).detach()), resampled(x).detach())
