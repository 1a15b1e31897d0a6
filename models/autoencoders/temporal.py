"""The autoencoder whose decoder sees several frames at once: Video LDM's fine-tuned decoder, as SVD released it.

The encoder is an image model's, unchanged; each residual block of the decoder is followed by one over time (Blattmann
et al. 2023, Video LDM, section 3.1.1; Blattmann et al. 2023, SVD). Parameter names, shapes and results are those of
`diffusers`' `AutoencoderKLTemporalDecoder`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoencoders.base import Autoencoder
from models.autoencoders.kl import EPS, FIXED, IGNORED, Attention, AutoencoderKL, Encoder, ResBlock, Upsample
from models.layers.basics import zeroed
from models.pretrained import check_parts, settings

TEMPORAL = ("temporal_res_block.", "time_mixer.", "time_conv_out.")  # in the names of what sees time


@dataclass(frozen=True)
class TemporalConfig:
    """Sizes, by their names in `config.json`; the defaults are SVD's. SVD has no convolution before the decoder; one
    made of an image autoencoder that has one keeps it."""

    in_channels: int = 3
    out_channels: int = 3
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    norm_num_groups: int = 32
    use_post_quant_conv: bool = False
    scaling_factor: float = 0.18215

    def __post_init__(self) -> None:
        if self.layers_per_block != 2:
            raise ValueError(f"layers_per_block = {self.layers_per_block}: the decoder's middle is made for 2")
        widths = self.block_out_channels
        check_parts("norm_num_groups", "groups", widths, (self.norm_num_groups,) * len(widths))


class TemporalResBlock(nn.Module):
    """What the frames of a clip add to each other: conv(SiLU(norm(conv(SiLU(norm(x)))))) over time, `b c t h w`.

    The norms' statistics are those of the whole clip, as SVD was trained. So a clip decoded in windows is not exactly
    the clip decoded whole, and a still frame's neighbours reach it even where the convolutions do not.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, 1e-5)
        self.conv1 = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
        self.norm2 = nn.GroupNorm(groups, channels, 1e-5)
        self.conv2 = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class TimeMixer(nn.Module):
    """The share of the temporal layer, sigmoid(mix_factor); in this decoder, unlike SVD's U-Net, not the image's."""

    def __init__(self) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, added: Tensor) -> Tensor:
        """(1 - s) x + s (x + added) = x + s added."""
        return x + self.mix_factor.sigmoid().to(x) * added


class SpatioTemporalResBlock(nn.Module):
    """A residual block on each frame, then one over time, mixed in by a learned share. `(b t) c h w`."""

    def __init__(self, inp: int, out: int, groups: int) -> None:
        super().__init__()
        self.spatial_res_block = ResBlock(inp, out, groups)
        self.temporal_res_block = TemporalResBlock(out, groups)
        self.time_mixer = TimeMixer()

    def forward(self, x: Tensor, frames: int) -> Tensor:
        x = self.spatial_res_block(x)
        video = x.unflatten(0, (-1, frames)).transpose(1, 2)  # b c t h w
        return self.time_mixer(x, self.temporal_res_block(video).transpose(1, 2).flatten(0, 1))


class TemporalMiddle(nn.Module):
    """A residual block, attention over each frame's pixels, a residual block."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([Attention(channels, groups)])
        self.resnets = nn.ModuleList(SpatioTemporalResBlock(channels, channels, groups) for _ in range(2))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x, frames)), frames)


class TemporalUp(nn.Module):
    """Residual blocks at one size, then twice of it."""

    def __init__(self, inp: int, out: int, layers: int, groups: int, grow: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(SpatioTemporalResBlock(out if i else inp, out, groups) for i in range(layers))
        self.upsamplers = nn.ModuleList([Upsample(out)] if grow else [])

    def forward(self, x: Tensor, frames: int) -> Tensor:
        for block in self.resnets:
            x = block(x, frames)
        for layer in self.upsamplers:
            x = layer(x)
        return x


class TemporalDecoder(nn.Module):
    """Latents of clips `(b t) z h w`, to pixels `(b t) 3 (f h) (f w)`."""

    def __init__(self, c: TemporalConfig) -> None:
        super().__init__()
        rising, groups = c.block_out_channels[::-1], c.norm_num_groups
        self.conv_in = nn.Conv2d(c.latent_channels, rising[0], 3, padding=1)
        self.mid_block = TemporalMiddle(rising[0], groups)
        before = (rising[0], *rising)
        self.up_blocks = nn.ModuleList(
            TemporalUp(before[i], width, c.layers_per_block + 1, groups, grow=i + 1 < len(rising))
            for i, width in enumerate(rising)
        )
        self.conv_norm_out = nn.GroupNorm(groups, rising[-1], EPS)
        self.conv_out = nn.Conv2d(rising[-1], c.out_channels, 3, padding=1)
        self.time_conv_out = nn.Conv3d(c.out_channels, c.out_channels, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, z: Tensor, frames: int) -> Tensor:
        x = self.mid_block(self.conv_in(z), frames)
        for block in self.up_blocks:
            x = block(x, frames)
        x = self.conv_out(F.silu(self.conv_norm_out(x)))
        return self.time_conv_out(x.unflatten(0, (-1, frames)).transpose(1, 2)).transpose(1, 2).flatten(0, 1)


class TemporalAutoencoder(Autoencoder):
    """Pixels in [-1, 1], `b 3 h w` or `b 3 t h w`, to latents frame by frame, and back clip by clip."""

    def __init__(self, config: TemporalConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or TemporalConfig()
        self.factor, self.scaling_factor = 2 ** (len(c.block_out_channels) - 1), c.scaling_factor
        self.channels, self.latent_channels = c.in_channels, c.latent_channels
        z = c.latent_channels
        self.encoder = Encoder(
            c.block_out_channels, c.layers_per_block, c.norm_num_groups, c.in_channels, 2 * z, attend=True
        )
        self.decoder = TemporalDecoder(c)
        self.quant_conv = nn.Conv2d(2 * z, 2 * z, 1)
        self.post_quant_conv = nn.Conv2d(z, z, 1) if c.use_post_quant_conv else None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Of diffusers' `config.json`. Raises PretrainedError for settings that it does not know."""
        return cls(settings(config, TemporalConfig, "AutoencoderKLTemporalDecoder", FIXED, IGNORED))

    def moments(self, x: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(x))

    def pictures(self, z: Tensor, frames: int = 1) -> Tensor:
        """Clips `(b t) z h w` of `frames` = t; images are clips of one frame."""
        return self.decoder(z if self.post_quant_conv is None else self.post_quant_conv(z), frames)

    def decode(self, z: Tensor, at_once: int | None = None, overlap: int = 0) -> Tensor:
        """Unscaled latents, images `b z h w` or clips `b z t h w`, to pixels.

        Clips are decoded whole, or in windows of `at_once` frames, each of which shares `overlap` frames with the one
        before; there the one fades into the other. Raises ValueError where windows would not advance.
        """
        if z.ndim != 5 or z.shape[1] != self.latent_channels:
            return super().decode(z, at_once)  # images, or what it refuses
        b, _, t, h, w = z.shape
        pixels = z.new_zeros(b, self.config.out_channels, t, h * self.factor, w * self.factor)
        for first, weights in windows(t, at_once or t, overlap):
            span = slice(first, first + len(weights))
            y = self.pictures(z[:, :, span].transpose(1, 2).flatten(0, 1), len(weights))
            y = y.unflatten(0, (b, -1)).transpose(1, 2)
            if len(weights) == t:
                return y
            pixels[:, :, span] += y * torch.tensor(weights, dtype=y.dtype, device=y.device)[:, None, None]
        return pixels

    @property
    def last_layer(self) -> Tensor:
        return self.decoder.time_conv_out.weight

    def fine_tune(self, spatial: bool = False) -> list[nn.Parameter]:
        """Freeze all but the decoder's temporal layers, or all but the decoder, and return what is left to train.

        The encoder is never in it: the latents, and so every diffusion model of them, stay what they are (Video LDM,
        section 3.1.1).
        """
        self.requires_grad_(False)
        chosen = [p for name, p in self.decoder.named_parameters() if spatial or any(t in name for t in TEMPORAL)]
        for parameter in chosen:
            parameter.requires_grad_(True)
        return chosen


def windows(frames: int, size: int, overlap: int = 0) -> Iterator[tuple[int, list[float]]]:
    """First frame and weights of each window of `size` that together cover `frames`; weights of a frame sum to one.

    The last window is moved back so that it is as long as the others. Raises ValueError unless 0 <= overlap < size.
    """
    if not 0 <= overlap < size:
        raise ValueError(f"windows of {size} frames that share {overlap} do not advance")
    size = min(size, frames)
    firsts = [*range(0, frames - size, max(1, size - overlap)), frames - size]
    raw = [[float(min(i + 1, size - i, overlap + 1)) for i in range(size)] for _ in firsts]
    sums = [0.0] * frames
    for first, weights in zip(firsts, raw, strict=True):
        for i, weight in enumerate(weights):
            sums[first + i] += weight
    for first, weights in zip(firsts, raw, strict=True):
        yield first, [weight / sums[first + i] for i, weight in enumerate(weights)]


def inflate(image: AutoencoderKL) -> TemporalAutoencoder:
    """An image autoencoder whose decoder may now learn to see time, and computes exactly what it did.

    Every temporal block's last convolution is zero and the last layer hands its frame through; their gradients are not
    zero, so they wake up. Raises ValueError for a middle without attention, or shifted latents, which it has no room
    for.
    """
    c = image.config
    if not (c.mid_block_add_attention and c.use_quant_conv) or c.shift_factor:
        raise ValueError("a temporal decoder needs attention in the middle, a quant convolution and unshifted latents")
    like = next(image.parameters())
    sizes = {name: getattr(c, name) for name in TemporalConfig.__dataclass_fields__}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        video = TemporalAutoencoder(TemporalConfig(**sizes)).to(device=like.device, dtype=like.dtype)
    for module in video.modules():
        if isinstance(module, TemporalResBlock):
            zeroed(module.conv2)
    last = zeroed(video.decoder.time_conv_out)
    nn.init.dirac_(last.weight)
    renamed = {_inflated_name(key): t for key, t in image.state_dict().items()}
    missing, unexpected = video.load_state_dict(renamed, strict=False)
    stray = [name for name in missing if not any(part in name for part in TEMPORAL)]
    if stray or unexpected:
        raise RuntimeError(f"inflation must only add temporal layers: missing {stray}, unexpected {unexpected}")
    return video


def _inflated_name(key: str) -> str:
    """Where the temporal decoder has an image decoder's parameter: its residual blocks are one level deeper."""
    if not key.startswith("decoder.") or ".resnets." not in key:
        return key
    before, after = key.split(".resnets.")
    number, rest = after.split(".", 1)
    return f"{before}.resnets.{number}.spatial_res_block.{rest}"
