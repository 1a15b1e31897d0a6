"""A U-Net that takes images or video: 2-D layers on each frame and, once inflated, temporal ones between them.

The shape of Ho et al. 2020 with the pseudo-3D layers of Singer et al. 2022 (Make-A-Video, section 3.2), text by
cross-attention, and fps and motion as micro-conditioning (Blattmann et al. 2023, SVD).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from models.backbones.conditioned import Conditioned
from models.layers.basics import Layer, group_norm, heads_apart, merge_heads, zeroed
from models.layers.temporal import Inflation, Pseudo3D

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention of queries to keys and values, `(b t) heads n d` each, in place of every frame's to itself."""


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
    extra_channels: int = 0  # of pictures that are given beside the noisy one
    labels: tuple[str, ...] = ()  # numbers that are told beside noise, fps and motion
    pooled_text: bool = True  # the mean of the text joins the noise level; else cross-attention alone sees it
    middle_attention: bool = True  # between the way down and up; without any attention the network is convolutional

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "UNetConfig":
        """From a mapping, such as JSON, whose lists stand for tuples."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**values)

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this."""
        return self.patch * 2 ** (len(self.multipliers) - 1)


class Context(NamedTuple):
    """What every layer is told: `embedding` (b, e), `text` (b, n, d) with `seen` (b, n), bool; of video the number of
    frames, which of them see each other, and how the pixels of frames attend."""

    embedding: Tensor
    text: Tensor
    seen: Tensor
    frames: int | None
    frame_mask: Tensor | None
    attend: Attend | None


class Conv(nn.Module):
    """A convolution on each frame, then what the inflation adds. `(b t) c h w`."""

    def __init__(self, inp: int, out: int, kernel: int, inflation: Inflation, stride: int = 1) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(inp, out, kernel, stride, kernel // 2)
        self.temporal = inflation.conv(out)

    def forward(self, x: Tensor, frames: int | None) -> Tensor:
        x = self.spatial(x)
        return x if frames is None or self.temporal is None else self.temporal(x, frames)


class ResBlock(nn.Module):
    """norm, SiLU, conv, scale and shift by the embedding, norm, SiLU, conv, plus the input."""

    def __init__(self, inp: int, out: int, embed: int, inflation: Inflation) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(inp), Conv(inp, out, 3, inflation)
        self.modulation = nn.Linear(embed, 2 * out)
        self.norm2, self.conv2 = group_norm(out), zero_init(Conv(out, out, 3, inflation))
        self.skip = nn.Conv2d(inp, out, 1) if inp != out else nn.Identity()
        self.temporal = inflation.block(out)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        frames = context.frames
        h = self.conv1(F.silu(self.norm1(x)), frames)
        modulation = self.modulation(context.embedding).repeat_interleave(frames or 1, 0)
        scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
        h = self.skip(x) + self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift), frames)
        return h if frames is None or self.temporal is None else self.temporal(h, frames)


class Attention(nn.Module):
    """Attention over the pixels of a frame, then over the text, then (inflated) over a pixel's frames."""

    def __init__(self, channels: int, config: UNetConfig, temporal: nn.Module | None) -> None:
        super().__init__()
        self.heads = max(1, channels // config.head_dim)
        self.norm, self.out = group_norm(channels), zero_init(nn.Linear(channels, channels))
        self.q, self.kv = nn.Linear(channels, channels, bias=False), nn.Linear(channels, 2 * channels, bias=False)
        self.text_norm, self.text_q = group_norm(channels), nn.Linear(channels, channels, bias=False)
        self.text_kv = nn.Linear(config.text_dim, 2 * channels, bias=False)
        self.null = nn.Parameter(torch.zeros(1, 1, 2 * channels))  # a key and value to attend to where there is no text
        self.text_out = zero_init(nn.Linear(channels, channels))
        self.temporal = temporal

    def forward(self, x: Tensor, context: Context) -> Tensor:
        (h, w), b = x.shape[2:], len(context.text)
        tokens = rearrange(self.norm(x), "bt c h w -> bt (h w) c")
        q, k, v = (heads_apart(part, self.heads) for part in (self.q(tokens), *self.kv(tokens).chunk(2, dim=-1)))
        attend = context.attend or F.scaled_dot_product_attention
        mixed = self.out(merge_heads(attend(q, k, v)))
        x = x + rearrange(mixed, "bt (h w) c -> bt c h w", h=h, w=w)

        # one caption a video: all its frames' pixels are queries to the same keys
        q = heads_apart(self.text_q(rearrange(self.text_norm(x), "(b t) c h w -> b (t h w) c", b=b)), self.heads)
        kv = torch.cat([self.null.expand(b, -1, -1), self.text_kv(context.text)], dim=1)
        k, v = (heads_apart(part, self.heads) for part in kv.chunk(2, dim=-1))
        seen = F.pad(context.seen, (1, 0), value=True)[:, None, None]  # b 1 1 tokens
        mixed = merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=seen))
        x = x + rearrange(self.text_out(mixed), "b (t h w) c -> (b t) c h w", h=h, w=w)
        if context.frames is None or self.temporal is None:
            return x
        return self.temporal(x, context.frames, context.frame_mask)


class Level(nn.Module):
    """One residual block and, where level `at` has it, attention."""

    def __init__(
        self, inp: int, out: int, embed: int, config: UNetConfig, at: int | None, inflation: Inflation
    ) -> None:
        super().__init__()
        self.block = ResBlock(inp, out, embed, inflation)
        self.attention = None if at is None else Attention(out, config, inflation.attention(out, at))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        x = self.block(x, context)
        return x if self.attention is None else self.attention(x, context)


class UNet(Conditioned):
    """F(z, noise label, text, fps, motion) for images `b c h w` and, once inflated, video `b c t h w`.

    An image passes only the spatial layers, so an inflated network is still the image model it may be trained with.
    Without temporal layers, a video is a batch of images. Height and width must be multiples of `config.multiple`.
    Which temporal layers there are says `inflation`, pseudo-3D ones by default.
    """

    def __init__(self, config: UNetConfig | None = None, inflation: Inflation | None = None) -> None:
        config = config or UNetConfig()
        super().__init__(4 * config.width, config.text_dim, config.labels, config.pooled_text)
        if inflation and not config.temporal:
            raise ValueError("an inflation is for a network with temporal layers: its configuration says temporal")
        self.config = config
        added = inflation or (Pseudo3D(config.head_dim) if config.temporal else Inflation())
        widths = [config.width * m for m in config.multipliers]
        attends = [i if i in config.attention_levels else None for i in range(len(widths))]

        pixel = config.channels * config.patch**2
        self.stem = Conv(pixel, widths[0], 3, added)
        given = config.extra_channels * config.patch**2
        self.extra = zeroed(nn.Conv2d(given, widths[0], 3, padding=1)) if given else None
        self.down, self.shrink, self.temporal_down = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        skips, width = [widths[0]], widths[0]
        for i, out in enumerate(widths):
            level = nn.ModuleList()
            for _ in range(config.blocks):
                level.append(Level(width, out, self.embed, config, attends[i], added))
                width = out
                skips.append(width)
            self.down.append(level)
            if i + 1 < len(widths):
                self.shrink.append(Conv(width, width, 3, added, stride=2))
                self.temporal_down.append(added.down(width, i) or nn.Identity())
                skips.append(width)
        self.middle = Level(
            width, width, self.embed, config, len(widths) - 1 if config.middle_attention else None, added
        )
        self.up, self.grow, self.temporal_up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i, out in reversed(list(enumerate(widths))):
            level = nn.ModuleList()
            for _ in range(config.blocks + 1):
                level.append(Level(width + skips.pop(), out, self.embed, config, attends[i], added))
                width = out
            self.up.append(level)
            if i:
                self.grow.append(Conv(width, width, 3, added))
                self.temporal_up.append(added.up(width, i - 1) or nn.Identity())
        self.norm, self.head = group_norm(width), zero_init(Conv(width, pixel, 3, added))
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
        labels: Mapping[str, Tensor] | None = None,
        extra: Tensor | None = None,
        frame_mask: Tensor | None = None,
        attend: Attend | None = None,
        down_residuals: Sequence[Tensor] | None = None,
        mid_residual: Tensor | None = None,
    ) -> Tensor:
        """The network's output F, of x's shape.

        `x` (b, c, h, w) or (b, c, t, h, w); `noise` (b,), the parameterization's c_noise; `text` (b, n, text_dim)
        token states with `text_mask` (b, n), True where there is a token; `fps` (b,) frames a second and `motion`
        (b,), the clip's motion score, both NaN where unknown, which all-None means too; `labels`, each (b,), by name;
        `extra`, pictures that are given, (b, extra_channels, ...) of x's size; `frame_mask` (t, t) or (b, t, t), bool,
        whether frame i sees frame j; `attend` takes the place of each frame's attention to itself; `down_residuals`
        and `mid_residual`, `(b t) c h w`, are added to what goes across and to the middle (`control.ControlBranch`).
        Raises ValueError where height or width do not fit the network's levels, `extra` is lacking or too much, or the
        residuals are not one a skip.
        """
        if (extra is None) != (self.extra is None):
            raise ValueError(
                f"the network takes {self.config.extra_channels} extra channels, and all or none are given"
            )
        if extra is not None and extra.shape != (len(x), self.config.extra_channels, *x.shape[2:]):
            raise ValueError(f"extra channels {tuple(extra.shape)} beside x {tuple(x.shape)}: they are of x's size")
        context = self.context(x, noise, text, text_mask, fps, motion, labels, frame_mask, attend)
        frames = context.frames
        z = self.folded(x)
        direct = z * self.shortcut(context.embedding).repeat_interleave(frames or 1, 0)[:, :, None, None]
        z = self.stem(z, frames)
        if self.extra is not None and extra is not None:
            z = z + self.extra(self.folded(extra))
        skips, lengths, z, context = self.encode(z, context)
        if down_residuals is not None:
            if len(down_residuals) != len(skips):
                raise ValueError(f"{len(down_residuals)} residuals for {len(skips)} skips")
            skips = [skip + residual for skip, residual in zip(skips, down_residuals, strict=True)]
        if mid_residual is not None:
            z = z + mid_residual
        for i, level in enumerate(self.up):
            for layer in level:  # type: ignore[union-attr]
                z = layer(torch.cat([z, skips.pop()], dim=1), context)
            if i < len(self.grow):
                z = self.grow[i](F.interpolate(z, scale_factor=2.0), context.frames)
                lengths.pop()
                z, context = _resampled(self.temporal_up[i], z, context, lengths[-1])
        z = F.pixel_shuffle(self.head(F.silu(self.norm(z)), frames) + direct, self.config.patch)
        return rearrange(z, "(b t) c h w -> b c t h w", t=frames) if frames else z

    def context(
        self,
        x: Tensor,
        noise: Tensor,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        fps: Tensor | None = None,
        motion: Tensor | None = None,
        labels: Mapping[str, Tensor] | None = None,
        frame_mask: Tensor | None = None,
        attend: Attend | None = None,
    ) -> Context:
        """What the layers are told; the arguments are those of `forward`."""
        h, w = x.shape[-2:]
        if h % self.config.multiple or w % self.config.multiple:
            raise ValueError(f"{h}x{w} pixels: height and width must be multiples of {self.config.multiple}")
        text, seen = self.tokens_of(text, text_mask, x)
        embedding = F.silu(self.embedding(noise, text, seen, fps, motion, labels))
        return Context(embedding, text, seen, x.shape[2] if x.ndim == 5 else None, frame_mask, attend)

    def encode(self, z: Tensor, context: Context) -> tuple[list[Tensor], list[int | None], Tensor, Context]:
        """From the stem's output `z`: what every layer on the way down makes, each level's number of frames, the
        middle's output and the context there."""
        skips, lengths = [z], [context.frames]
        for i, level in enumerate(self.down):
            for layer in level:  # type: ignore[union-attr]
                z = layer(z, context)
                skips.append(z)
            if i < len(self.shrink):
                z = self.shrink[i](z, context.frames)
                z, context = _resampled(self.temporal_down[i], z, context, context.frames and (context.frames + 1) // 2)
                lengths.append(context.frames)
                skips.append(z)
        return skips, lengths, self.middle(z, context), context

    def folded(self, x: Tensor) -> Tensor:
        """Frames apart, `(b t) c h w`, with each patch's pixels in its channels."""
        x = rearrange(x, "b c t h w -> (b t) c h w") if x.ndim == 5 else x
        return F.pixel_unshuffle(x, self.config.patch)

    def temporal_parameters(self) -> list[nn.Parameter]:
        """The parameters that inflation added."""
        return [p for name, p in self.named_parameters() if "temporal" in name]


def _resampled(layer: nn.Module, z: Tensor, context: Context, frames: int | None) -> tuple[Tensor, Context]:
    """z after a temporal down or up sampling, and the context with the frames that there are now."""
    if frames is None or context.frames is None or isinstance(layer, nn.Identity):
        return z, context
    z = layer(z, max(frames, context.frames))  # both are told the larger number
    return z, context._replace(frames=frames)


def inflate(image: UNet, seed: int = 0, inflation: Inflation | None = None) -> UNet:
    """A video network with the weights of `image`, and the temporal layers of `inflation`, pseudo-3D ones by default.

    With layers that are the identity when new, such as those, it computes exactly what `image` computes on each frame.
    Only what new layers do not start at zero is random, drawn from `seed`.
    Raises ValueError if the network already has temporal layers.
    """
    if image.config.temporal:
        raise ValueError("the network already has temporal layers")
    like = next(image.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        video = UNet(replace(image.config, temporal=True), inflation).to(device=like.device, dtype=like.dtype)
    missing, unexpected = video.load_state_dict(image.state_dict(), strict=False)
    stray = [name for name in missing if "temporal" not in name]
    if stray or unexpected:
        raise RuntimeError(f"inflation must only add temporal layers: missing {stray}, unexpected {unexpected}")
    return video


def zero_init(module: Layer) -> Layer:
    """Zero a layer's spatial weight and bias: a residual branch that starts as nothing."""
    zeroed(module.spatial if isinstance(module, Conv) else module)
    return module
