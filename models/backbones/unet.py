"""A U-Net that takes images or video: 2-D layers on each frame, and after each of them, once inflated, a temporal one.

The shape of Ho et al. 2020 with the pseudo-3D layers of Singer et al. 2022 (Make-A-Video, section 3.2), text by
cross-attention, and fps and motion as micro-conditioning (Blattmann et al. 2023, SVD).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.conditioned import Conditioned
from models.layers.basics import Layer, group_norm, merge_heads, split_heads, zeroed
from models.layers.temporal import TemporalAttention, TemporalConv


@dataclass(frozen=True)
class UNetConfig:
    """Sizes. Level i has width * multipliers[i] channels at 1 / (patch * 2^i) of the input's height and width."""

    width: int = 48
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 1  # residual blocks a level on the way down, one more on the way up
    attention_levels: tuple[int, ...] = (1, 2)  # levels that see text and attend over space
    patch: int = 2  # pixels folded into channels before the first layer
    channels: int = 3
    text_dim: int = 384
    head_dim: int = 32
    temporal: bool = False  # with temporal layers

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "UNetConfig":
        """From a mapping, such as JSON, whose lists stand for tuples."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**values)

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this."""
        return self.patch * 2 ** (len(self.multipliers) - 1)


class Conv(nn.Module):
    """A convolution on each frame, then the temporal convolution of an inflated network. `(b t) c h w`."""

    def __init__(self, inp: int, out: int, kernel: int, temporal: bool, stride: int = 1) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(inp, out, kernel, stride, kernel // 2)
        self.temporal = TemporalConv(out) if temporal else None

    def forward(self, x: Tensor, frames: int | None) -> Tensor:
        x = self.spatial(x)
        return x if frames is None or self.temporal is None else self.temporal(x, frames)


class ResBlock(nn.Module):
    """norm, SiLU, conv, scale and shift by the embedding, norm, SiLU, conv, plus the input."""

    def __init__(self, inp: int, out: int, embed: int, temporal: bool) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(inp), Conv(inp, out, 3, temporal)
        self.modulation = nn.Linear(embed, 2 * out)
        self.norm2, self.conv2 = group_norm(out), zero_init(Conv(out, out, 3, temporal))
        self.skip = nn.Conv2d(inp, out, 1) if inp != out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor, frames: int | None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)), frames)
        scale, shift = self.modulation(embedding).repeat_interleave(frames or 1, 0)[:, :, None, None].chunk(2, dim=1)
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift), frames)
        return self.skip(x) + h


class Attention(nn.Module):
    """Attention over the pixels of a frame, then over the text, then (inflated) over a pixel's frames."""

    def __init__(self, channels: int, text_dim: int, head_dim: int, temporal: bool) -> None:
        super().__init__()
        self.heads = max(1, channels // head_dim)
        self.norm, self.qkv = group_norm(channels), nn.Linear(channels, 3 * channels, bias=False)
        self.out = zero_init(nn.Linear(channels, channels))
        self.text_norm, self.text_q = group_norm(channels), nn.Linear(channels, channels, bias=False)
        self.text_kv = nn.Linear(text_dim, 2 * channels, bias=False)
        self.null = nn.Parameter(torch.zeros(1, 2, channels))  # a key and value to attend to where there is no text
        self.text_out = zero_init(nn.Linear(channels, channels))
        self.temporal = TemporalAttention(channels, head_dim) if temporal else None

    def forward(self, x: Tensor, text: Tensor, mask: Tensor, frames: int | None) -> Tensor:
        (bt, c, h, w), b = x.shape, len(text)
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (b t) (h w) c
        q, k, v = split_heads(self.qkv(tokens), self.heads)
        mixed = self.out(merge_heads(F.scaled_dot_product_attention(q, k, v)))
        x = x + mixed.transpose(1, 2).reshape(bt, c, h, w)

        # one caption a video: all its frames' pixels are queries to the same keys, b (t h w) c
        q = self.text_q(self.text_norm(x).flatten(2).transpose(1, 2)).reshape(b, -1, self.heads, c // self.heads)
        kv = torch.cat([self.null.expand(b, -1, -1).flatten(1)[:, None], self.text_kv(text)], dim=1)
        k, v = kv.reshape(b, -1, 2, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        seen = F.pad(mask, (1, 0), value=True)[:, None, None]  # b 1 1 tokens
        mixed = merge_heads(F.scaled_dot_product_attention(q.transpose(1, 2), k, v, attn_mask=seen))
        x = x + self.text_out(mixed).reshape(bt, h * w, c).transpose(1, 2).reshape(bt, c, h, w)
        return x if frames is None or self.temporal is None else self.temporal(x, frames)


class Level(nn.Module):
    """One residual block and, where the level has it, attention."""

    def __init__(self, inp: int, out: int, embed: int, config: UNetConfig, attend: bool) -> None:
        super().__init__()
        self.block = ResBlock(inp, out, embed, config.temporal)
        self.attention = Attention(out, config.text_dim, config.head_dim, config.temporal) if attend else None

    def forward(self, x: Tensor, embedding: Tensor, text: Tensor, mask: Tensor, frames: int | None) -> Tensor:
        x = self.block(x, embedding, frames)
        return x if self.attention is None else self.attention(x, text, mask, frames)


class UNet(Conditioned):
    """F(z, noise label, text, fps, motion) for images `b c h w` and, once inflated, video `b c t h w`.

    An image passes only the spatial layers, so an inflated network is still the image model it may be trained with.
    Without temporal layers, a video is a batch of images. Height and width must be multiples of `config.multiple`.
    """

    def __init__(self, config: UNetConfig | None = None) -> None:
        config = config or UNetConfig()
        super().__init__(4 * config.width, config.text_dim)
        self.config = config
        widths = [config.width * m for m in config.multipliers]
        temporal = config.temporal

        pixel = config.channels * config.patch**2
        self.stem = Conv(pixel, widths[0], 3, temporal)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        skips, width = [widths[0]], widths[0]
        for i, out in enumerate(widths):
            attend = i in config.attention_levels
            self.down.append(nn.ModuleList())
            for _ in range(config.blocks):
                self.down[-1].append(Level(width, out, self.embed, config, attend))  # type: ignore[union-attr]
                width = out
                skips.append(width)
            if i + 1 < len(widths):
                self.shrink.append(Conv(width, width, 3, temporal, stride=2))
                skips.append(width)
        self.middle = Level(width, width, self.embed, config, attend=True)
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for i, out in reversed(list(enumerate(widths))):
            attend = i in config.attention_levels
            self.up.append(nn.ModuleList())
            for _ in range(config.blocks + 1):
                self.up[-1].append(Level(width + skips.pop(), out, self.embed, config, attend))  # type: ignore[union-attr]
                width = out
            if i:
                self.grow.append(Conv(width, width, 3, temporal))
        self.norm, self.head = group_norm(width), zero_init(Conv(width, pixel, 3, temporal))
        # a share of the input for each noise level: what is left to predict is smooth, and soon learned
        self.shortcut = zero_init(nn.Linear(self.embed, pixel))

    def forward(
        self,
        x: Tensor,
        noise: Tensor,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        fps: Tensor | None = None,
        motion: Tensor | None = None,
    ) -> Tensor:
        """The network's output F, of x's shape.

        `x` (b, c, h, w) or (b, c, t, h, w); `noise` (b,), the parameterization's c_noise; `text` (b, n, text_dim)
        token states with `text_mask` (b, n), True where there is a token; `fps` (b,) frames a second and `motion`
        (b,), the clip's motion score, both NaN where unknown, which all-None means too.
        Raises ValueError where height or width do not fit the network's levels.
        """
        frames = x.shape[2] if x.ndim == 5 else None
        b, (h, w) = len(x), x.shape[-2:]
        if h % self.config.multiple or w % self.config.multiple:
            raise ValueError(f"{h}x{w} pixels: height and width must be multiples of {self.config.multiple}")
        text, mask = self.tokens_of(text, text_mask, x)
        embedding = F.silu(self.embedding(noise, text, mask, fps, motion))

        z = x.transpose(1, 2).flatten(0, 1) if frames else x  # (b t) c h w
        z = F.pixel_unshuffle(z, self.config.patch)
        direct = z * self.shortcut(embedding).repeat_interleave(frames or 1, 0)[:, :, None, None]
        z = self.stem(z, frames)
        skips = [z]
        for i, level in enumerate(self.down):
            for layer in level:  # type: ignore[union-attr]
                z = layer(z, embedding, text, mask, frames)
                skips.append(z)
            if i < len(self.shrink):
                z = self.shrink[i](z, frames)
                skips.append(z)
        z = self.middle(z, embedding, text, mask, frames)
        for i, level in enumerate(self.up):
            for layer in level:  # type: ignore[union-attr]
                z = layer(torch.cat([z, skips.pop()], dim=1), embedding, text, mask, frames)
            if i < len(self.grow):
                z = self.grow[i](F.interpolate(z, scale_factor=2.0), frames)
        z = F.pixel_shuffle(self.head(F.silu(self.norm(z)), frames) + direct, self.config.patch)
        return z.reshape(b, frames, *z.shape[1:]).transpose(1, 2) if frames else z

    def temporal_parameters(self) -> list[nn.Parameter]:
        """The parameters that inflation added."""
        return [p for name, p in self.named_parameters() if ".temporal." in name]


def inflate(image: UNet, seed: int = 0) -> UNet:
    """A video network that computes exactly what `image` computes on each frame; its weights are copied.

    Only the queries, keys and values of the new temporal attention are random, drawn from `seed`.
    Raises ValueError if the network already has temporal layers.
    """
    if image.config.temporal:
        raise ValueError("the network already has temporal layers")
    like = next(image.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        video = UNet(replace(image.config, temporal=True)).to(device=like.device, dtype=like.dtype)
    missing, unexpected = video.load_state_dict(image.state_dict(), strict=False)
    stray = [name for name in missing if ".temporal." not in name]
    if stray or unexpected:
        raise RuntimeError(f"inflation must only add temporal layers: missing {stray}, unexpected {unexpected}")
    return video


def zero_init(module: Layer) -> Layer:
    """Zero a layer's spatial weight and bias: a residual branch that starts as nothing."""
    zeroed(module.spatial if isinstance(module, Conv) else module)
    return module
