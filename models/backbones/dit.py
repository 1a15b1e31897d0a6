"""A diffusion transformer over spacetime patches of images and video, of any size, several samples in one sequence.

Peebles and Xie 2023 (DiT, with adaLN-zero) as Brooks et al. 2024 (Sora) describe its use: patches of space and time,
positions relative in three axes, images as videos of one frame. Text is seen by cross-attention.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask

from models.backbones.conditioned import Conditioned
from models.layers.basics import heads_apart, merge_heads, split_heads, zeroed
from models.layers.patches import Packed, Patch, attend, grid_of, patchify, positions, rotary_3d, unpatchify

Mask = Tensor | BlockMask | None


@dataclass(frozen=True)
class DiTConfig:
    """Sizes. `patch` is (frames, rows, columns)."""

    width: int = 192
    depth: int = 6
    head_dim: int = 32
    patch: Patch = (1, 2, 2)
    channels: int = 4
    text_dim: int = 384
    widening: int = 4  # of the feed-forward


class Block(nn.Module):
    """Attention over all tokens of a sample, over its text, and a feed-forward; the identity when new.

    Each branch is normalised, scaled, shifted and gated by the embedding (adaLN-zero: all of these start at zero).
    """

    def __init__(self, config: DiTConfig, embed: int) -> None:
        super().__init__()
        width = config.width
        self.heads = width // config.head_dim
        self.modulation = zeroed(nn.Linear(embed, 9 * width))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query_norm, self.key_norm = nn.RMSNorm(config.head_dim), nn.RMSNorm(config.head_dim)
        self.text_q, self.text_out = nn.Linear(width, width), nn.Linear(width, width)
        self.text_kv = nn.Linear(config.text_dim, 2 * width)
        self.null = nn.Parameter(torch.zeros(1, 1, 2 * width))  # to attend to where there is no text
        wide = config.widening * width
        self.feed = nn.Sequential(nn.Linear(width, wide), nn.GELU("tanh"), nn.Linear(wide, width))

    def forward(self, x: Tensor, embedding: Tensor, places: Tensor, mask: Mask, text: Tensor, seen: Tensor) -> Tensor:
        """`x` (b, n, width); `embedding` (b, 1 or n, embed); `places` (n, 3); `mask`, of n by n, or None; `text` (b, m,
        text_dim) and `seen` (b, 1 or n, m), bool."""
        one, two, three = self.modulation(F.silu(embedding)).chunk(3, dim=-1)
        x = x + _branch(x, one, lambda y: self._attend(y, places, mask))
        x = x + _branch(x, two, lambda y: self._read(y, text, seen))
        return x + _branch(x, three, self.feed)

    def _attend(self, x: Tensor, places: Tensor, mask: Mask) -> Tensor:
        q, k, v = split_heads(self.qkv(x), self.heads)
        q, k = rotary_3d(self.query_norm(q), places).to(v), rotary_3d(self.key_norm(k), places).to(v)
        return self.out(merge_heads(attend(q, k, v, mask)))

    def _read(self, x: Tensor, text: Tensor, seen: Tensor) -> Tensor:
        kv = torch.cat([self.null.expand(len(x), -1, -1), self.text_kv(text)], dim=1)
        q, k, v = (heads_apart(part, self.heads) for part in (self.text_q(x), *kv.chunk(2, dim=2)))
        mask = F.pad(seen, (1, 0), value=True)[:, None]  # b 1 (1 or n) (1 + m)
        return self.text_out(merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))


class DiT(Conditioned):
    """F(z, noise label, text, fps, motion) for images `b c h w` and video `b c t h w`, and for packed samples.

    Its output is exactly 0 when new. An image is a video of one frame.
    """

    def __init__(self, config: DiTConfig | None = None) -> None:
        config = config or DiTConfig()
        super().__init__(config.width, config.text_dim)
        if config.width % config.head_dim:
            raise ValueError(f"{config.width} channels do not give heads of {config.head_dim}")
        self.config = config
        t, h, w = config.patch
        pixels = config.channels * t * h * w
        self.stem = nn.Linear(pixels, config.width)
        self.blocks = nn.ModuleList(Block(config, self.embed) for _ in range(config.depth))
        self.modulation = zeroed(nn.Linear(self.embed, 2 * config.width))
        self.head = zeroed(nn.Linear(config.width, pixels))

    def forward(
        self,
        x: Tensor,
        noise: Tensor,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        fps: Tensor | None = None,
        motion: Tensor | None = None,
    ) -> Tensor:
        """The network's output F, of x's shape; the arguments are those of `unet.UNet`.

        Raises ValueError where x has no whole patches.
        """
        video = x if x.ndim == 5 else x[:, :, None]
        grid, patch = grid_of(video.shape, self.config.patch), self.config.patch
        text, mask = self.tokens_of(text, text_mask, x)
        embedding = self.embedding(noise, text, mask, fps, motion)[:, None]
        places = positions(grid, x.device)
        tokens = self._tokens(patchify(video, patch), embedding, places, None, text, mask[:, None])
        return unpatchify(tokens, grid, patch).reshape(x.shape)

    def packed(
        self,
        packed: Packed,
        noise: Tensor,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        fps: Tensor | None = None,
        motion: Tensor | None = None,
        flex: bool | None = None,
    ) -> Tensor:
        """The output of several samples in one sequence, (1, n, c pt ph pw), which `packed.unpack` takes apart.

        The rest, (s, ...), as in `forward`, with one row a sample. `flex` attention skips what is not of one sample; by
        default where there is a GPU to run it.
        """
        text, mask = self.tokens_of(text, text_mask, noise)
        embedding = packed.each(self.embedding(noise, text, mask, fps, motion))
        owner = torch.arange(len(text), device=text.device).repeat_interleave(text.shape[1])
        seen = (packed.sample[:, None] == owner[None]) & mask.flatten()[None]  # n (s m)
        words = text.flatten(0, 1)[None]
        mask = packed.block_mask if (packed.tokens.is_cuda if flex is None else flex) else packed.mask
        return self._tokens(packed.tokens, embedding, packed.positions, mask, words, seen[None])

    def _tokens(
        self, tokens: Tensor, embedding: Tensor, places: Tensor, mask: Mask, text: Tensor, seen: Tensor
    ) -> Tensor:
        x = self.stem(tokens)
        for block in self.blocks:
            x = block(x, embedding, places, mask, text, seen)
        scale, shift = self.modulation(F.silu(embedding)).chunk(2, dim=-1)
        return self.head(_normed(x) * (1 + scale) + shift)


def _branch(x: Tensor, modulation: Tensor, layer: Callable[[Tensor], Tensor]) -> Tensor:
    scale, shift, gate = modulation.chunk(3, dim=-1)
    return gate * layer(_normed(x) * (1 + scale) + shift)


def _normed(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])
