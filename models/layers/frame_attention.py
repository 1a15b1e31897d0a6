"""Spatial attention whose keys and values come from other frames: what turns an image model's self-attention into a
video's without a new weight.

Queries, keys and values are `(b t) heads n d`: n tokens of each frame.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

Reach = Literal["own", "first", "first and previous", "all"]
"""Which frames' tokens each frame attends to.

own: an image model's self-attention. first: cross-frame attention (Khachatryan et al. 2023, Text2Video-Zero, eq. 9).
first and previous: spatio-temporal attention, [v_1, v_(i-1)], and [v_1, v_1] for the first frame (Wu et al. 2023,
Tune-A-Video, eq. 3). all: fully cross-frame attention, the frames as one large image (Zhang et al. 2023, ControlVideo,
eq. 4).
"""


def frame_attention(q: Tensor, k: Tensor, v: Tensor, frames: int, reach: Reach) -> Tensor:
    """Attention of each frame's queries to the tokens of the frames in `reach`; of q's shape."""
    if reach == "own":
        return F.scaled_dot_product_attention(q, k, v)
    if reach == "all":  # b heads (t n) d
        q, k, v = (_together(part, frames) for part in (q, k, v))
        return _apart(F.scaled_dot_product_attention(q, k, v), frames)
    return F.scaled_dot_product_attention(q, seen(k, frames, reach), seen(v, frames, reach))


def seen(tokens: Tensor, frames: int, reach: Literal["first", "first and previous"]) -> Tensor:
    """The keys or values that each frame looks at: `(b t) heads n d` -> `(b t) heads (k n) d`, k frames of them."""
    video = rearrange(tokens, "(b t) heads n d -> b t heads n d", t=frames)
    first = video[:, :1].expand_as(video)
    if reach == "first":
        return rearrange(first, "b t heads n d -> (b t) heads n d")
    previous = torch.cat([video[:, :1], video[:, :-1]], dim=1)
    return rearrange([first, previous], "k b t heads n d -> (b t) heads (k n) d")


def attend_to(q: Tensor, k: Tensor, v: Tensor, frames: int, keys: Tensor) -> Tensor:
    """Attention of each frame's queries to the tokens of chosen frames: `keys`, (k,), are their numbers. With both ends
    of a clip: the in-between frames of ControlVideo's hierarchical sampler."""
    chosen = (rearrange(part, "(b t) heads n d -> b t heads n d", t=frames)[:, keys] for part in (k, v))
    k, v = (rearrange(part, "b k heads n d -> b heads (k n) d") for part in chosen)
    return _apart(F.scaled_dot_product_attention(_together(q, frames), k, v), frames)


def _together(x: Tensor, frames: int) -> Tensor:
    return rearrange(x, "(b t) heads n d -> b heads (t n) d", t=frames)


def _apart(x: Tensor, frames: int) -> Tensor:
    return rearrange(x, "b heads (t n) d -> (b t) heads n d", t=frames)
