"""A diffusion prior (Ramesh et al. 2022, section 2.2): from a text's embedding to an image's, by a causal transformer.

The sequence is the text's tokens, its CLIP embedding, the noise level, the noisy image embedding and a query, at whose
place the clean image embedding is read.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.basics import fourier_features, merge_heads, split_heads


@dataclass(frozen=True)
class PriorConfig:
    """Sizes; `length` is the most tokens of a text, `embed` that of CLIP's two embeddings."""

    width: int
    depth: int
    head_dim: int
    embed: int
    vocabulary: int
    length: int


class Block(nn.Module):
    """Attention, then a feed-forward, each behind a norm. `b n width`."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.heads = width // head_dim
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = split_heads(self.qkv(self.norm1(x)), self.heads)
        x = x + self.out(merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
        return x + self.feed(self.norm2(x))


class Prior(nn.Module):
    """F(z, noise label, tokens, text) of image embeddings `b d`: with x-prediction the embedding itself."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        if config.width % config.head_dim:
            raise ValueError(f"{config.width} channels do not give heads of {config.head_dim}")
        self.config, width = config, config.width
        self.words = nn.Embedding(config.vocabulary, width)
        self.text, self.image = nn.Linear(config.embed, width), nn.Linear(config.embed, width)
        self.noise = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.query = nn.Parameter(0.02 * torch.randn(width))
        self.places = nn.Parameter(0.02 * torch.randn(config.length + 4, width))
        self.blocks = nn.ModuleList(Block(width, config.head_dim) for _ in range(config.depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, config.embed)

    def forward(self, z: Tensor, noise: Tensor, tokens: Tensor, text: Tensor, seen: Tensor | None = None) -> Tensor:
        """(b, embed). `z` (b, embed); `noise` (b,), the parameterization's c_noise; `tokens` (b, n), whole numbers,
        with `seen` (b, n), bool, where there is one; `text` (b, embed). Raises ValueError for too long a text."""
        b, n = tokens.shape
        if n > self.config.length:
            raise ValueError(f"{n} tokens are more than the prior's {self.config.length}")
        level = self.noise(fourier_features(noise, self.config.width).to(z.dtype))
        image = self.image(z)
        parts = [self.words(tokens), *(part[:, None] for part in (self.text(text), level, image))]
        x = torch.cat([*parts, self.query.expand(b, 1, -1)], dim=1)
        # the last four places are the same for texts of any length
        x = x + torch.cat([self.places[:n], self.places[-4:]])
        x = x.to(image)  # under autocast the embeddings are float32 and would promote every block
        mask = self._mask(tokens.new_ones(b, n, dtype=torch.bool) if seen is None else seen)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x[:, -1]))

    def _mask(self, seen: Tensor) -> Tensor:
        """(b, 1, m, m): each place sees itself, and what is before it and no padding."""
        there = F.pad(seen, (0, 4), value=True)
        m = there.shape[1]
        causal = torch.ones(m, m, dtype=torch.bool, device=seen.device).tril()
        own = torch.eye(m, dtype=torch.bool, device=seen.device)
        return (causal & there[:, None] | own)[:, None]
