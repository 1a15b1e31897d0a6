"""Latent diffusion's layers against diffusers' and against attention written with einsum."""

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.embeddings import TimestepEmbedding as PeerEmbedding
from diffusers.models.embeddings import Timesteps
from diffusers.models.resnet import ResnetBlock2D

from models.layers.latent_diffusion import (
    Attention,
    ResBlock,
    TimestepEmbedding,
    TransformerBlock,
    sinusoids,
    to_picture,
    to_tokens,
)


def numbers(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def alike(ours, peer):
    """Both in float64 with the same random weights."""
    generator = torch.Generator().manual_seed(0)
    ours = ours.double()
    for parameter in ours.parameters():
        parameter.data = 0.4 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    peer = peer.double()
    peer.load_state_dict(ours.state_dict())
    return ours, peer


def test_sinusoids_equal_diffusers_to_the_last_bit():
    x = torch.tensor([0.0, 1.0, 0.02, -1.7, 24.0, 127.0, 981.0, 999.0], dtype=torch.float64)
    assert torch.equal(sinusoids(x, 320), Timesteps(320, flip_sin_to_cos=True, downscale_freq_shift=0)(x))


def test_the_embedding_equals_diffusers():
    ours, peer = alike(TimestepEmbedding(8, 32, 12), PeerEmbedding(8, 32, out_dim=12))
    features = numbers(3, 8)
    torch.testing.assert_close(ours(features), peer(features))
    assert TimestepEmbedding(8, 32).bfloat16()(torch.zeros(1, 8)).dtype is torch.bfloat16


def test_the_transformer_block_equals_diffusers():
    ours, peer = alike(TransformerBlock(16, 4, 6), BasicTransformerBlock(16, 4, 4, cross_attention_dim=6))
    x, context = numbers(2, 7, 16), numbers(2, 3, 6, seed=1)
    torch.testing.assert_close(ours(x, context), peer(x, encoder_hidden_states=context))


@pytest.mark.parametrize("out", [8, 12])
def test_the_residual_block_equals_diffusers(out):
    peer = ResnetBlock2D(in_channels=8, out_channels=out, temb_channels=5, groups=4, eps=1e-3)
    ours, peer = alike(ResBlock(8, out, 5, 4, 1e-3), peer)
    x, embedding = numbers(4, 8, 3, 5), numbers(4, 5, seed=1)
    torch.testing.assert_close(ours(x, embedding), peer(x, embedding))


def test_attention_is_softmax_of_the_products():
    layer, x, context = Attention(12, 3, 5).double(), numbers(2, 4, 12), numbers(2, 6, 5, seed=1)
    q, k, v = (y.unflatten(2, (3, 4)) for y in (layer.to_q(x), layer.to_k(context), layer.to_v(context)))
    weights = (torch.einsum("bihd,bjhd->bhij", q, k) / 2).softmax(-1)
    expected = layer.to_out(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2))
    torch.testing.assert_close(layer(x, context), expected)


def test_rows_in_a_row_share_a_context():
    layer, x, context = Attention(12, 3, 5).double(), numbers(6, 4, 12), numbers(2, 7, 5, seed=1)
    torch.testing.assert_close(layer(x, context), layer(x, context.repeat_interleave(3, 0)))


def test_pictures_in_a_row_share_an_embedding():
    layer, x, embedding = ResBlock(8, 8, 5, 4, 1e-5).double(), numbers(6, 8, 3, 2), numbers(2, 5, seed=1)
    torch.testing.assert_close(layer(x, embedding), layer(x, embedding.repeat_interleave(3, 0)))


def test_channels_that_give_no_heads_are_refused():
    with pytest.raises(ValueError, match="10 channels do not give 4 heads"):
        Attention(10, 4)


def test_tokens_and_pictures():
    x = numbers(2, 3, 4, 5)
    assert torch.equal(to_tokens(x)[1, 7], x[1, :, 1, 2])
    assert torch.equal(to_picture(to_tokens(x), x), x)
