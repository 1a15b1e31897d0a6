"""Attention across frames against one written with einsum, token by token."""

import pytest
import torch

from models.layers.frame_attention import attend_to, frame_attention, seen

B, T, HEADS, N, D = 2, 4, 3, 5, 8


@pytest.fixture
def qkv():
    """Random, distinct frames, `(b t) heads n d`."""
    return torch.randn(3, B * T, HEADS, N, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()


def oracle(q, k, v, frames_seen):
    """Each frame's queries over the tokens of the frames that `frames_seen(i)` names."""
    q, k, v = (x.reshape(B, T, HEADS, N, D) for x in (q, k, v))
    out = torch.empty_like(q)
    for b in range(B):
        for i in range(T):
            keys = torch.cat([k[b, j] for j in frames_seen(i)], dim=1)
            values = torch.cat([v[b, j] for j in frames_seen(i)], dim=1)
            weights = (torch.einsum("hid,hjd->hij", q[b, i], keys) / D**0.5).softmax(-1)
            out[b, i] = torch.einsum("hij,hjd->hid", weights, values)
    return out.flatten(0, 1)


REACHES = {
    "own": lambda i: [i],
    "first": lambda i: [0],
    "first and previous": lambda i: [0, max(0, i - 1)],
    "all": lambda i: range(T),
}


@pytest.mark.parametrize("reach", REACHES)
def test_frames_see_what_the_paper_says(qkv, reach):
    torch.testing.assert_close(frame_attention(*qkv, T, reach), oracle(*qkv, REACHES[reach]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reach", REACHES)
def test_one_frame_is_an_image(qkv, reach):
    torch.testing.assert_close(frame_attention(*qkv, 1, reach), frame_attention(*qkv, 1, "own"), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reach", REACHES)
def test_equal_frames_give_what_an_image_gives(qkv, reach):
    """Attending to copies of the same tokens changes no weight's share."""
    q, k, v = (x.reshape(B, T, HEADS, N, D)[:, :1].expand(B, T, HEADS, N, D).flatten(0, 1) for x in qkv)
    torch.testing.assert_close(frame_attention(q, k, v, T, reach), frame_attention(q, k, v, T, "own"))


def test_the_first_frame_has_itself_twice(qkv):
    keys = seen(qkv[1], T, "first and previous").reshape(B, T, HEADS, 2 * N, D)
    first = qkv[1].reshape(B, T, HEADS, N, D)[:, 0]
    assert torch.equal(keys[:, 0], torch.cat([first, first], dim=2))
    assert torch.equal(keys[:, 3, :, N:], qkv[1].reshape(B, T, HEADS, N, D)[:, 2])


def test_chosen_key_frames(qkv):
    keys = torch.tensor([0, 3])
    torch.testing.assert_close(attend_to(*qkv, T, keys), oracle(*qkv, lambda i: [0, 3]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(attend_to(*qkv, T, torch.arange(T)), frame_attention(*qkv, T, "all"))


@pytest.mark.parametrize("reach", REACHES)
def test_it_compiles_whole(qkv, reach):
    compiled = torch.compile(frame_attention, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*qkv, T, reach), frame_attention(*qkv, T, reach))
