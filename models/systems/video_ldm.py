"""Video LDM (Blattmann et al. 2023, "Align your latents"): a latent diffusion model of images that learns to move.

Between the frozen layers of the image model stand new ones over time, each mixed in by a learned share. One model makes
key frames, a second one fills in frames between two of them, twice, and a third one enlarges. The decoder's own
fine-tuning over time is `models.autoencoders.temporal`.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoencoders.temporal import TEMPORAL, TemporalAutoencoder, TemporalConfig
from models.backbones import sd_video
from models.backbones.sd_unet import SD21, SDUNet
from models.backbones.unet import UNet, UNetConfig, inflate
from models.diffusion.losses import DenoisingLoss, UniformTimes
from models.diffusion.parameterization import EpsPrediction
from models.diffusion.samplers import DDIM, Denoise, Sampler
from models.diffusion.samplers import sample as run
from models.diffusion.schedules import Schedule
from models.layers.basics import group_norm
from models.layers.latent_diffusion import FeedForward, to_picture, to_tokens
from models.layers.temporal import Inflation, Mix, TemporalAttention
from models.systems import cascade
from models.systems.frames import STABLE_DIFFUSION, PerFrame, Timestep
from models.systems.recipe import Stage, System, everything, temporal_only

TINY = UNetConfig(width=16, multipliers=(1, 2), attention_levels=(1,), text_dim=12, head_dim=8, channels=4, patch=1)
SCHEDULE = STABLE_DIFFUSION
LOSS = DenoisingLoss(SCHEDULE, EpsPrediction(), UniformTimes(0, 999))
BETWEEN = 3  # frames that interpolation puts between two


class TemporalResBlock(nn.Module):
    """x + convolutions over time and space, `(b t) c h w`; its norms' statistics are each frame's own."""

    def __init__(self, channels: int, kernel: tuple[int, int, int] = (3, 1, 1)) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        self.norm1, self.norm2 = group_norm(channels), group_norm(channels)
        self.conv1 = nn.Conv3d(channels, channels, kernel, padding=padding)
        self.conv2 = nn.Conv3d(channels, channels, kernel, padding=padding)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        h = _convolved(self.conv1, F.silu(self.norm1(x)), frames)
        return x + _convolved(self.conv2, F.silu(self.norm2(h)), frames)


class TemporalTransformer(nn.Module):
    """Feed-forward, attention of each pixel over its frames, feed-forward, each added; `(b t) c h w`.

    The paper names the attention alone; the two others are in the layers that its authors released with SVD.
    """

    def __init__(self, channels: int, head_dim: int) -> None:
        super().__init__()
        self.before, self.after = (nn.Sequential(nn.LayerNorm(channels), FeedForward(channels)) for _ in range(2))
        self.attention = TemporalAttention(channels, head_dim)
        self.attention.out.reset_parameters()

    def forward(self, x: Tensor, frames: int, mask: Tensor | None = None) -> Tensor:
        x = x + to_picture(self.before(to_tokens(x)), x)
        x = self.attention(x, frames, mask)
        return x + to_picture(self.after(to_tokens(x)), x)


class Mixed(nn.Module):
    """alpha z + (1 - alpha) z', z' what a layer over time makes of the image layer's output z."""

    def __init__(self, layer: nn.Module, alpha: float) -> None:
        super().__init__()
        self.layer, self.mix = layer, Mix(alpha)

    def forward(self, x: Tensor, frames: int, mask: Tensor | None = None) -> Tensor:
        made = self.layer(x, frames) if mask is None else self.layer(x, frames, mask)
        return self.mix(x, made)


class Aligned(Inflation):
    """A temporal residual block behind each residual block, a temporal transformer behind each attention, mixed in.

    Unlike elsewhere, new layers start random and alpha a little below 1, so that alpha and they have gradients at once.
    At alpha = 1 a layer would have none, and where alpha's own says to stay it would never wake up. The paper does not
    say where alpha starts.
    """

    def __init__(self, head_dim: int = 32, alpha: float = 0.9) -> None:
        self.head_dim, self.alpha = head_dim, alpha

    def block(self, channels: int) -> nn.Module:
        return Mixed(TemporalResBlock(channels), self.alpha)

    def attention(self, channels: int, level: int) -> nn.Module:
        return Mixed(TemporalTransformer(channels, self.head_dim), self.alpha)


def set_alpha(network: nn.Module, alpha: float) -> None:
    """Give every layer the share `alpha`: 1 makes the video network the image model again."""
    for layer in network.modules():
        if isinstance(layer, Mix):
            nn.init.constant_(layer.factor, alpha)


def network(image: UNet | SDUNet, seed: int = 0, given: int = 0) -> nn.Module:
    """The video network of an image model's weights, with `given` more input channels that count for nothing yet.

    Called (z, c_noise, text=... or context=..., extra=...), `b c t h w`.
    """
    if isinstance(image, SDUNet):
        video = sd_video.inflate(image, Aligned(64), seed, given)
        return Timestep(PerFrame(video), SCHEDULE)
    if not given:
        return inflate(image, seed, Aligned(image.config.head_dim))
    like = next(image.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wider = UNet(replace(image.config, extra_channels=given)).to(device=like.device, dtype=like.dtype)
    wider.load_state_dict(image.state_dict(), strict=False)
    return inflate(wider, seed, Aligned(image.config.head_dim))


def context(latents: Tensor, known: Tensor) -> Tensor:
    """What a model that predicts is given, (b, c + 1, t, h, w): `latents` (b, c, t, h, w) where `known` (t,) or (b, t),
    bool, zeros elsewhere, and the mask. Raises ValueError where `known` has not an entry for each frame."""
    if known.shape not in (latents.shape[2:3], (len(latents), latents.shape[2])):
        raise ValueError(f"known of shape {tuple(known.shape)} for {len(latents)} videos of {latents.shape[2]} frames")
    mask = known.expand(len(latents), -1)[:, None, :, None, None].to(latents)
    return torch.cat([latents * mask, mask.expand_as(latents[:, :1])], dim=1)


def sample(
    denoise: Denoise,
    noise: Tensor,
    known: Tensor | None = None,
    latents: Tensor | None = None,
    schedule: Schedule = SCHEDULE,
    steps: int = 50,
    sampler: Sampler | None = None,
) -> Tensor:
    """Latent video of `noise`'s shape (b, c, t, h, w); where `known` (t,), it is `latents`, exactly.

    `denoise` is told `context(latents, known)` as `extra`, guided or not: away from empty context is the paper's
    context guidance. Raises ValueError for one of `known` and `latents` without the other, or of other frames.
    """
    if (known is None) != (latents is None):
        raise ValueError("what is known are the latents where the mask says so: both are given or neither")
    if known is not None and latents is not None:
        if known.shape != noise.shape[2:3]:
            raise ValueError(f"known of shape {tuple(known.shape)} for {noise.shape[2]} frames")
        if latents.shape != noise.shape:
            raise ValueError(f"latents of shape {tuple(latents.shape)} for noise of {tuple(noise.shape)}")
    video = run(denoise, noise, schedule, steps, sampler or DDIM())
    if known is None or latents is None:
        return video
    return torch.where(known[:, None, None].to(video.device), latents.to(video), video)


def interpolated_length(frames: int, times: int = 2) -> int:
    """Frames after `times` interpolations, each of which puts 3 between two: 8 -> 29 -> 113."""
    return (frames - 1) * (BETWEEN + 1) ** times + 1


def interpolate(
    denoise: Any, keys: Tensor, generator: torch.Generator, told: Mapping[str, Tensor], **how: Any
) -> Tensor:
    """(b, c, t, h, w) to (b, c, 4 (t - 1) + 1, h, w): three frames between each two, the keys as they are.

    Every pair of neighbours is a clip of five with its ends known. `denoise(z, t, extra=..., **told)` is the
    interpolation model's; `told` has a row a video; `how` is as in `sample`.
    """
    b, c, t, h, w = keys.shape
    if t < 2:
        raise ValueError("between fewer than two frames there is nothing to interpolate")
    pairs = torch.stack([keys[:, :, :-1], keys[:, :, 1:]], dim=3)  # b c (t - 1) 2 h w
    pairs = pairs.transpose(1, 2).flatten(0, 1)  # (b (t - 1)) c 2 h w
    latents = torch.cat([pairs[:, :, :1], pairs.new_zeros(len(pairs), c, BETWEEN, h, w), pairs[:, :, 1:]], dim=2)
    known = torch.tensor([True, *[False] * BETWEEN, True], device=keys.device)
    noise = torch.randn(latents.shape, dtype=keys.dtype, generator=generator, device=generator.device).to(keys.device)
    rows = {name: value.repeat_interleave(t - 1, 0) for name, value in told.items()}
    clips = sample(partial(denoise, extra=context(latents, known), **rows), noise, known, latents, **how)
    video = clips[:, :, :-1].unflatten(0, (b, t - 1)).transpose(1, 2).flatten(2, 3)  # each without its right key
    return torch.cat([video, keys[:, :, -1:]], dim=2)


def extend(
    denoise: Any,
    first: Tensor,
    frames: int,
    shared: int,
    generator: torch.Generator,
    told: Mapping[str, Tensor],
    **how: Any,
) -> Tensor:
    """A longer video: `first` (b, c, n, h, w) and clips of n frames, each given the last `shared` before it, until
    there are at least `frames`. The rest as in `interpolate`."""
    n = first.shape[2]
    if not 0 < shared < n:
        raise ValueError(f"clips of {n} frames that share {shared} do not advance")
    video, known = first, torch.arange(n, device=first.device) < shared
    while video.shape[2] < frames:
        latents = F.pad(video[:, :, -shared:], (0, 0, 0, 0, 0, n - shared))
        noise = torch.randn(first.shape, dtype=first.dtype, generator=generator, device=generator.device)
        clip = sample(
            partial(denoise, extra=context(latents, known), **told), noise.to(first.device), known, latents, **how
        )
        video = torch.cat([video, clip[:, :, shared:]], dim=2)
    return video


def enlarge(
    denoise: Any, small: Tensor, generator: torch.Generator, snr: float, told: Mapping[str, Tensor], **how: Any
) -> Tensor:
    """Latents, (b, c, t, h, w), of a larger video than `small` (b, 3, t, h, w): the upsampler is given it, noised to
    `snr`, and told how noisy it is. `denoise` is a `Denoiser` of `cascade.labelled(network)`."""
    given = cascade.given(small, cascade.at_snr(snr, len(small)), generator)
    shape = (len(small), TINY.channels, *small.shape[2:])
    noise = torch.randn(shape, dtype=small.dtype, generator=generator, device=generator.device).to(small.device)
    return sample(partial(denoise, **given, **told), noise, **how)


def reconstruction_loss(network: TemporalAutoencoder, x: Tensor, generator: torch.Generator) -> Tensor:
    """Mean |y - x| of each clip (b, 3, t, h, w) and its reconstruction y, (b,): what a decoder is fine-tuned by.

    The perceptual and the temporal discriminator's terms beside it are those of `models.autoencoders.losses`.
    """
    with torch.no_grad():
        z = network.encode(x).sample(generator)
    return (network.decode(z) - x).abs().flatten(1).mean(1)


def _convolved(conv: nn.Conv3d, x: Tensor, frames: int) -> Tensor:
    """A convolution over (t, h, w) of `(b t) c h w`."""
    return conv(x.unflatten(0, (-1, frames)).transpose(1, 2)).transpose(1, 2).flatten(0, 1)


def _decoder(name: str) -> bool:
    """The decoder's layers over time."""
    return name.startswith("decoder.") and any(part in name for part in TEMPORAL)


UPSAMPLER = replace(TINY, extra_channels=3, labels=(cascade.LABEL,))
SD_UPSCALER = replace(
    SD21,
    in_channels=7,
    block_out_channels=(256, 512, 512, 1024),
    down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * 3),
    up_block_types=(*("CrossAttnUpBlock2D",) * 3, "UpBlock2D"),
    attention_head_dim=8,
)
"""The widths of Stable Diffusion's x4 upscaler, which sees 3 channels of a small picture beside 4 of latents."""


def tiny() -> nn.ModuleDict:
    """For tests: U-Nets of our own on latents of 4 channels."""
    autoencoder = TemporalConfig(block_out_channels=(16, 32), norm_num_groups=8)
    return nn.ModuleDict(
        {
            "keyframes": network(UNet(TINY)),
            "interpolation": network(UNet(TINY), given=TINY.channels + 1),
            "upsampler": network(UNet(UPSAMPLER)),
            "decoder": TemporalAutoencoder(autoencoder),
        }
    )


def paper_size() -> nn.ModuleDict:
    """Stable Diffusion 2.1, its upscaler's widths and its autoencoder, each with layers over time."""
    return nn.ModuleDict(
        {
            "keyframes": network(SDUNet(SD21)),
            "interpolation": network(SDUNet(SD21), given=5),
            "upsampler": network(SDUNet(SD_UPSCALER)),
            "decoder": TemporalAutoencoder(TemporalConfig(use_post_quant_conv=True)),
        }
    )


SYSTEM = System(
    name="video_ldm",
    paper="Blattmann et al. 2023, Align your Latents: High-Resolution Video Synthesis with Latent Diffusion Models",
    description="a latent diffusion model of images, frozen, with layers over time mixed in: key frames, two "
    "interpolations, enlargement",
    inputs=("text",),
    stages=(
        Stage("image-pretrain", "keyframes", lambda name: not temporal_only(name), LOSS, ("text-images",)),
        Stage("keyframes", "keyframes", temporal_only, LOSS, ("text-videos",), parent="image-pretrain"),
        Stage("interpolation", "interpolation", everything, LOSS, ("text-videos",), parent="keyframes"),
        Stage("upsampler", "upsampler", temporal_only, LOSS, ("text-videos",)),
        Stage("decoder", "decoder", _decoder, reconstruction_loss, ("videos",)),
    ),
    tiny=tiny,
    paper_size=paper_size,
    unpublished="the authors give 4.1 B for all but the text encoder, of which 2.7 B are trained on video, and no "
    "count by network",
)
