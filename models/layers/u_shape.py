"""The way down and up that latent diffusion's U-Nets share, whatever their residual blocks and attentions are.

A residual block is called with (x, *to_resnet), an attention with (x, *to_attention); x is `b c h w`. Level i has
widths[i] channels at 1 / 2^i of the input's height and width, rounded up.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MakeResnet = Callable[[int, int, int], nn.Module]  # (level, channels in, channels out)
MakeAttention = Callable[[int], nn.Module]  # (level)


class Resampled(nn.Module):
    """The convolution that follows a change of size, or makes it."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class DownBlock(nn.Module):
    """A level on the way down: residual blocks, each perhaps with attention, then half the size."""

    def __init__(self, resnets: Iterable[nn.Module], attentions: Iterable[nn.Module], shrink: int | None) -> None:
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(resnets), nn.ModuleList(attentions)
        self.downsamplers = nn.ModuleList([Resampled(shrink, stride=2)] if shrink else [])

    def forward(self, x: Tensor, to_resnet: tuple, to_attention: tuple) -> list[Tensor]:
        """What every layer made; the last is what the next level takes."""
        made = []
        for resnet, attention in zip_longest(self.resnets, self.attentions):
            x = resnet(x, *to_resnet)
            x = x if attention is None else attention(x, *to_attention)
            made.append(x)
        return made + [shrink(x) for shrink in self.downsamplers]


class MidBlock(nn.Module):
    """Residual block, attention, residual block at the lowest level."""

    def __init__(self, first: nn.Module, attention: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList([first, second]), nn.ModuleList([attention])

    def forward(self, x: Tensor, to_resnet: tuple, to_attention: tuple) -> Tensor:
        first, second = self.resnets
        return second(self.attentions[0](first(x, *to_resnet), *to_attention), *to_resnet)


class UpBlock(nn.Module):
    """A level on the way up: residual blocks that each also see a layer of the way down, then the size above."""

    def __init__(self, resnets: Iterable[nn.Module], attentions: Iterable[nn.Module], grow: int | None) -> None:
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(resnets), nn.ModuleList(attentions)
        self.upsamplers = nn.ModuleList([Resampled(grow)] if grow else [])

    def forward(
        self, x: Tensor, skips: Sequence[Tensor], size: Sequence[int] | None, to_resnet: tuple, to_attention: tuple
    ) -> Tensor:
        """`skips`, one a residual block, the last first; `size` (h, w), of the level above."""
        for resnet, attention, skip in zip_longest(self.resnets, self.attentions, reversed(skips)):
            x = resnet(torch.cat([x, skip], dim=1), *to_resnet)
            x = x if attention is None else attention(x, *to_attention)
        for grow in self.upsamplers:
            x = grow(F.interpolate(x, size=size))
        return x


def way_down(
    widths: Sequence[int], layers: int, attends: Sequence[bool], resnet: MakeResnet, attention: MakeAttention
) -> nn.ModuleList:
    """The blocks on the way down, `layers` residual blocks each; `attends`, whether a level has attention."""
    blocks, last = nn.ModuleList(), len(widths) - 1
    for level, out in enumerate(widths):
        inp = widths[max(level - 1, 0)]
        resnets = [resnet(level, out if i else inp, out) for i in range(layers)]
        attentions = [attention(level) for _ in range(layers)] if attends[level] else []
        blocks.append(DownBlock(resnets, attentions, out if level < last else None))
    return blocks


def skip_widths(widths: Sequence[int], layers: int) -> list[int]:
    """Channels of the first layer's output and of all that the way down makes: what the way up sees, last first."""
    last = len(widths) - 1
    return [widths[0], *(out for level, out in enumerate(widths) for _ in range(layers + (level < last)))]


def way_up(
    widths: Sequence[int], layers: int, attends: Sequence[bool], resnet: MakeResnet, attention: MakeAttention
) -> nn.ModuleList:
    """The blocks on the way up, the lowest first, with one residual block more a level; `attends` by level."""
    blocks, skips, inp = nn.ModuleList(), skip_widths(widths, layers), widths[-1]
    for level, out in reversed(list(enumerate(widths))):
        resnets = [resnet(level, (out if i else inp) + skips.pop(), out) for i in range(layers + 1)]
        attentions = [attention(level) for _ in resnets] if attends[level] else []
        blocks.append(UpBlock(resnets, attentions, out if level else None))
        inp = out
    return blocks


def go_down(blocks: nn.ModuleList, x: Tensor, to_resnet: tuple, to_attention: tuple) -> list[Tensor]:
    """`x` and what every layer on the way down makes of it."""
    skips = [x]
    for block in blocks:
        skips += block(skips[-1], to_resnet, to_attention)
    return skips


def go_up(blocks: nn.ModuleList, x: Tensor, skips: Sequence[Tensor], to_resnet: tuple, to_attention: tuple) -> Tensor:
    """Up again from `x`, with the `skips` of `go_down`; every size is that of the way down, odd ones too."""
    skips = list(skips)
    for block in blocks:
        count = len(block.resnets)  # type: ignore[arg-type]
        skips, seen = skips[:-count], skips[-count:]
        x = block(x, seen, skips[-1].shape[2:] if skips else None, to_resnet, to_attention)
    return x


def each_level(value: int | tuple[int, ...], widths: Sequence[int]) -> tuple[int, ...]:
    """One number for each level."""
    return value if isinstance(value, tuple) else (value,) * len(widths)


def check_levels(widths: Sequence[int], heads: Sequence[int], blocks: Sequence[str], known: Mapping[str, bool]) -> None:
    """Raises ValueError where a kind of block is unknown, or levels do not have one block and one number each."""
    if strange := sorted(set(blocks) - known.keys()):
        raise ValueError(f"blocks that are not supported here: {', '.join(strange)} (are: {', '.join(known)})")
    if not len(widths) == len(heads) == len(blocks):
        raise ValueError(f"{len(widths)} levels do not fit {len(blocks)} blocks and {len(heads)} numbers of heads")
