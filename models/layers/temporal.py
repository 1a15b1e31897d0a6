"""Layers that mix the frames of a video, pixel by pixel.

Video inside a network is a batch of frames, `(b t) c h w`, with `frames` = t: spatial layers and norms then treat
each frame on its own by construction.
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from models.layers.basics import group_norm, merge_heads, rotary, split_heads, zeroed

Positions = Literal["rotary", "relative"]


class TemporalConv(nn.Module):
    """x + conv over time, `(b t) c h w`, kernel (k, 1, 1) with zero padding; the identity when new.

    The temporal half of a pseudo-3D convolution (Singer et al. 2022, section 3.2.1). Written as a residual: weight
    decay then pulls towards the image model. Its weight has a gradient from the first step on.
    """

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"an even kernel ({kernel}) would shift the frames")
        self.conv = zeroed(nn.Conv2d(channels, channels, (kernel, 1), padding=(kernel // 2, 0)))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        return x + _from_rows(self.conv(_rows(x, frames)), x)


class RelativeBias(nn.Module):
    """A learned number for each head and distance between two frames, to be added to attention's logits: (heads, t, t).

    Distances beyond `reach` share the last one. It depends on the distance only, so it takes clips of any length.
    Source: Shaw et al. 2018, as Ho et al. 2022 (Video Diffusion Models), section 3, use it. Zero when new.
    """

    def __init__(self, heads: int, reach: int = 32) -> None:
        super().__init__()
        self.reach = reach
        self.table = nn.Parameter(torch.zeros(heads, 2 * reach + 1))

    def forward(self, frames: int) -> Tensor:
        at = torch.arange(frames, device=self.table.device)
        return self.table[:, (at[None] - at[:, None]).clamp(-self.reach, self.reach) + self.reach]


class TemporalAttention(nn.Module):
    """x + attention of each pixel over its own frames, `(b t) c h w`; the identity when new.

    Frames know their order by rotary positions or by a learned relative bias. Both weight and bias of the output
    projection start at zero; it has a gradient at the first step, the queries, keys and values from the second on.
    Source: Ho et al. 2022 (Video Diffusion Models), section 3.
    """

    def __init__(self, channels: int, head_dim: int = 32, positions: Positions = "rotary") -> None:
        super().__init__()
        self.heads = max(1, channels // head_dim)
        if channels % self.heads or (channels // self.heads) % 2:
            raise ValueError(f"{channels} channels do not give {self.heads} heads of an even size")
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = zeroed(nn.Linear(channels, channels))
        self.bias = RelativeBias(self.heads) if positions == "relative" else None

    def forward(self, x: Tensor, frames: int, mask: Tensor | None = None) -> Tensor:
        """`mask` (t, t) or (b, t, t), bool: whether frame i sees frame j. With the identity the frames of a video are
        so many images, which is how images and video are trained together (Ho et al. 2022, section 3)."""
        h, w = x.shape[2:]
        tokens = rearrange(self.norm(x), "(b t) c h w -> (b h w) t c", t=frames)
        q, k, v = split_heads(self.qkv(tokens), self.heads)  # (b h w) heads t d
        if self.bias is None:
            q, k = rotary(q), rotary(k)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self._added(frames, mask, h * w, q))
        mixed = self.out(merge_heads(mixed))
        return x + rearrange(mixed, "(b h w) t c -> (b t) c h w", h=h, w=w)

    def _added(self, frames: int, mask: Tensor | None, pixels: int, like: Tensor) -> Tensor | None:
        """What is added to the logits, broadcast to `(b h w) heads t t`."""
        bias = None if self.bias is None else self.bias(frames).to(like)
        if mask is None:
            return bias
        if mask.ndim == 3:  # b t t, for each pixel
            mask = mask.repeat_interleave(pixels, 0)[:, None]
        closed = torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(~mask, float("-inf"))
        return closed if bias is None else bias + closed


class TemporalDown(nn.Module):
    """Half as many frames, `(b t) c h w` -> `(b t/2) c h w`: the mean of two neighbours, plus a convolution that is
    zero when new. An odd last frame counts twice, so a clip that does not change stays what it is, ends included.

    The temporal half of the space-time U-Net's down-sampling (Bar-Tal et al. 2024, Lumiere, section 3.1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = zeroed(nn.Conv2d(channels, channels, (3, 1), stride=(2, 1)))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        video = _rows(x, frames)  # b c t (h w)
        video = torch.cat([video, video[:, :, -1:]], dim=2) if frames % 2 else video
        half = (video[:, :, ::2] + video[:, :, 1::2]) / 2
        return _from_rows(half + self.conv(F.pad(video, (0, 0, 1, 0), mode="replicate")), x)


class TemporalUp(nn.Module):
    """`frames` frames of half as many, `(b t/2) c h w` -> `(b t) c h w`: each twice, plus a convolution that is zero
    when new. The counterpart of `TemporalDown`: of an odd number, the last one's copy is left out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = zeroed(nn.Conv2d(channels, channels, (3, 1)))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        video = _rows(x, (frames + 1) // 2).repeat_interleave(2, dim=2)[:, :, :frames]
        return _from_rows(video + self.conv(F.pad(video, (0, 0, 1, 1), mode="replicate")), x)


class Mix(nn.Module):
    """alpha of the image layer's output and 1 - alpha of the temporal one's, alpha learned, one for the layer.

    `sigmoid`: alpha = sigmoid(factor), as in SVD's released networks. `clamp`: alpha is the parameter itself, kept in
    [0, 1]; at 1 the temporal layer adds exactly nothing, and alpha has a gradient all the same (Blattmann et al. 2023,
    Video LDM, eq. 3 and section 3.1).
    """

    def __init__(self, alpha: float, kept: Literal["sigmoid", "clamp"] = "clamp") -> None:
        super().__init__()
        if not 0 <= alpha <= 1 or (kept == "sigmoid" and alpha in {0, 1}):
            raise ValueError(f"alpha = {alpha:g} is not in [0, 1], or no sigmoid's value")
        self.kept = kept
        value = alpha if kept == "clamp" else math.log(alpha / (1 - alpha))
        self.factor = nn.Parameter(torch.full((1,), float(value)))  # not 0-dim: `fully_shard` refuses such parameters
        self.register_load_state_dict_pre_hook(_with_one_dimension)

    @property
    def alpha(self) -> Tensor:
        """The share of the image layer, (1,)."""
        if self.kept == "sigmoid":
            return self.factor.sigmoid()
        value = self.factor.detach()
        return value.clamp(0, 1) + (self.factor - value)  # the gradient passes at the ends too

    def forward(self, image: Tensor, video: Tensor, only_images: Tensor | None = None) -> Tensor:
        """Both `(b t) c h w`; `only_images` (b t,), bool: frames that are images of their own, which stay so."""
        alpha = self.alpha.to(image)
        if only_images is not None:
            shape = (-1,) + (1,) * (image.ndim - 1)
            alpha = torch.where(only_images, torch.ones_like(alpha), alpha).reshape(shape)
        return alpha * image + (1 - alpha) * video


def _with_one_dimension(mix: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Accept the 0-dim factor of older checkpoints."""
    if (factor := state.get(f"{prefix}factor")) is not None:
        state[f"{prefix}factor"] = factor.reshape(-1)


class Inflation:
    """Which temporal layers a network of images gets when it is inflated, and where; None where nothing is added.

    This one adds nothing; each system has its own. Layers are called `layer(x, frames)` on `(b t) c h w`, attention
    with the frames' mask behind. Level i of a network has 1 / 2^i of the first one's height and width.
    """

    def conv(self, channels: int) -> nn.Module | None:
        """What follows each convolution."""
        return None

    def block(self, channels: int) -> nn.Module | None:
        """What follows each residual block."""
        return None

    def attention(self, channels: int, level: int) -> nn.Module | None:
        """What follows each attention over a frame."""
        return None

    def down(self, channels: int, level: int) -> nn.Module | None:
        """What makes fewer frames for level + 1: ceil(t / 2)."""
        return None

    def up(self, channels: int, level: int) -> nn.Module | None:
        """What makes level's `frames` of those of level + 1."""
        return None


class Pseudo3D(Inflation):
    """A temporal convolution after each convolution, temporal attention after each attention (Singer et al. 2022,
    Make-A-Video, section 3.2)."""

    def __init__(self, head_dim: int = 32, positions: Positions = "rotary") -> None:
        self.head_dim = head_dim
        self.positions: Positions = positions

    def conv(self, channels: int) -> nn.Module:
        return TemporalConv(channels)

    def attention(self, channels: int, level: int) -> nn.Module:
        return TemporalAttention(channels, self.head_dim, self.positions)


def _rows(x: Tensor, frames: int) -> Tensor:
    return rearrange(x, "(b t) c h w -> b c t (h w)", t=frames)


def _from_rows(rows: Tensor, like: Tensor) -> Tensor:
    """Frames apart again, of the height and width of `like`."""
    h, w = like.shape[2:]
    return rearrange(rows, "b c t (h w) -> (b t) c h w", h=h, w=w)
