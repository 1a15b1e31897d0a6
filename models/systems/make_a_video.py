"""Make-A-Video (Singer et al. 2022): an image generator inflated to video without a single text-video pair.

    y = SR_h . SR_l^t . up_F . D^t . P (x, CLIP_text(x))

P makes an image embedding of a text, D^t 16 small frames of it, up_F frames in between, SR_l^t and SR_h larger ones.
Images teach what the world looks like, text-image pairs (P alone) what it is called, and unlabeled video how it moves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.unet import UNet, UNetConfig, inflate
from models.diffusion.guidance import downsampled
from models.diffusion.losses import DenoisingLoss, VLoss, denoiser
from models.diffusion.parameterization import XPrediction, label_like
from models.diffusion.samplers import DDIM, Denoise
from models.diffusion.samplers import sample as draw
from models.diffusion.schedules import CosineSchedule
from models.layers.temporal import Pseudo3D
from models.systems.cascade import enlarged, unit
from models.systems.prior import Prior, PriorConfig
from models.systems.recipe import Stage, System, everything, temporal_only
from models.systems.text_guidance import guided_by_text

PRIOR_LOSS = DenoisingLoss(CosineSchedule(), XPrediction())
LOSS = VLoss()
"""The paper does not say what its U-Nets predict; v is finite at both ends."""


@dataclass(frozen=True)
class Sizes:
    """Frames and pixels along the way. up_F puts skip - 1 new frames between two: (frames - 1) skip + 1 in all."""

    frames: int = 16
    skip: int = 5
    small: int = 64
    middle: int = 256
    large: int = 768


def interpolator(decoder: UNet) -> UNet:
    """up_F as it is before training: D^t, with four more input channels that count for nothing yet (section 3.3)."""
    network = UNet(replace(decoder.config, extra_channels=4), Pseudo3D(decoder.config.head_dim))
    like = next(decoder.parameters())
    missing, unexpected = network.to(like).load_state_dict(decoder.state_dict(), strict=False)
    if unexpected or {name.split(".")[0] for name in missing} != {"extra"}:
        raise RuntimeError(f"only the new channels' weights are new: missing {missing}, unexpected {unexpected}")
    return network


def masked(video: Tensor, known: Tensor) -> Tensor:
    """What up_F is given, (b, 4, t, h, w): the frames of `video` (b, 3, t, h, w) where `known` (t,), bool, zeros
    elsewhere, and a channel that is 1 where a frame is missing (section 3.3)."""
    here = known[:, None, None].to(video)
    return torch.cat([video * here, (1 - here).expand_as(video[:, :1])], dim=1)


def small_of(video: Tensor, small: int) -> Tensor:
    """What SR_l^t and SR_h are given of a video or image in training: its `small` version at its own size."""
    return enlarged(downsampled(video, small, small), *video.shape[-2:])


def embed(
    prior: Prior, tokens: Tensor, text: Tensor, generator: torch.Generator, steps: int, seen: Tensor | None = None
) -> Tensor:
    """P: an image embedding (b, d) of the BPE `tokens` (b, n) and the CLIP embedding `text` (b, d)."""
    denoise = partial(denoiser(PRIOR_LOSS, prior), tokens=tokens, text=text, seen=seen)
    return draw(denoise, unit(text.shape, generator, text), PRIOR_LOSS.schedule, steps, DDIM())


def decode(
    decoder: UNet, embedding: Tensor, sizes: Sizes, generator: torch.Generator, steps: int, fps: Tensor, scale: float
) -> Tensor:
    """D^t: small frames (b, 3, t, h, w) at `fps` (b,) of the image `embedding` (b, d), guided by `scale`."""
    denoise = guided_by_text(denoiser(LOSS, decoder), embedding[:, None], scale=scale, fps=fps)
    noise = unit((len(embedding), 3, sizes.frames, sizes.small, sizes.small), generator, embedding)
    return draw(denoise, noise, LOSS.schedule, steps, DDIM())


def interpolate(
    network: UNet, video: Tensor, embedding: Tensor, skip: int, generator: torch.Generator, steps: int, fps: Tensor
) -> Tensor:
    """up_F: skip - 1 new frames between two of `video` (b, 3, t, h, w), at the new rate `fps` (b,). The given frames
    pass through as they are. Raises ValueError for a skip below 1."""
    if skip < 1:
        raise ValueError(f"a skip of {skip}: there are skip - 1 new frames between two, so it is 1 or more")
    b, c, t, h, w = video.shape
    known = torch.arange((t - 1) * skip + 1, device=video.device) % skip == 0
    spread = video.new_zeros(b, c, len(known), h, w)
    spread[:, :, known] = video
    denoise = guided_by_text(denoiser(LOSS, network), embedding[:, None], fps=fps, extra=masked(spread, known))
    return draw(kept(denoise, spread, known), unit(spread.shape, generator, video), LOSS.schedule, steps, DDIM())


def kept(denoise: Denoise, video: Tensor, known: Tensor) -> Denoise:
    """The estimate with the `known` frames of `video` in place of its own."""
    return lambda z, t: torch.where(known[:, None, None], video, denoise(z, t))


def enlarge(network: UNet, video: Tensor, size: int, generator: torch.Generator, steps: int) -> Tensor:
    """SR_l^t: the video at `size`, all frames together."""
    given = enlarged(video, size, size)
    denoise = partial(denoiser(LOSS, network), extra=given)
    return draw(denoise, unit(given.shape, generator, video), LOSS.schedule, steps, DDIM())


def enlarge_frames(network: UNet, video: Tensor, size: int, generator: torch.Generator, steps: int) -> Tensor:
    """SR_h: each frame for itself, all of a video from the same noise, so that what is made up stays the same
    (section 3.2)."""
    b, c, t = video.shape[:3]
    noise = unit((b, 1, c, size, size), generator, video).expand(-1, t, -1, -1, -1).flatten(0, 1)
    given = enlarged(video, size, size).transpose(1, 2).flatten(0, 1)  # (b t) c h w
    denoise = partial(denoiser(LOSS, network), extra=given)
    return draw(denoise, noise, LOSS.schedule, steps, DDIM()).unflatten(0, (b, t)).transpose(1, 2)


def sample(
    networks: Mapping[str, Any],
    tokens: Tensor,
    text: Tensor,
    sizes: Sizes,
    generator: torch.Generator,
    steps: int = 50,
    fps: float = 4.0,
    scale: float = 3.0,
    seen: Tensor | None = None,
) -> Tensor:
    """Video (b, 3, (t - 1) skip + 1, large, large) of the BPE `tokens` (b, n) and their CLIP embedding `text` (b, d):
    SR_h . SR_l^t . up_F . D^t . P (eq. 1). `fps` is that of D^t's frames."""
    rate = label_like(torch.full((len(text),), fps), text)
    embedding = embed(networks["prior"], tokens, text, generator, steps, seen)
    video = decode(networks["decoder"], embedding, sizes, generator, steps, rate, scale)
    video = interpolate(networks["interpolation"], video, embedding, sizes.skip, generator, steps, rate * sizes.skip)
    video = enlarge(networks["sr_low"], video, sizes.middle, generator, steps)
    return enlarge_frames(networks["sr_high"], video, sizes.large, generator, steps)


STAGES = (
    Stage("prior-images", "prior", everything, PRIOR_LOSS, ("text-images",)),
    Stage("decoder-images", "decoder", everything, LOSS, ("images",)),
    Stage("sr_low-images", "sr_low", everything, LOSS, ("images",)),
    Stage("sr_high-images", "sr_high", everything, LOSS, ("images",)),
    Stage("decoder-video", "decoder", temporal_only, LOSS, ("videos",), parent="decoder-images"),
    Stage("sr_low-video", "sr_low", temporal_only, LOSS, ("videos",), parent="sr_low-images"),
    Stage("interpolation-video", "interpolation", everything, LOSS, ("videos",), parent="decoder-video"),
)
"""Each part by itself (section 3.4). On images the networks are not yet inflated; D^t is told the embedding of the very
image it learns, so no stage but P's reads a text, and none a text of a video."""


@dataclass(frozen=True)
class Networks:
    """The configurations of the image networks, before inflation."""

    prior: PriorConfig
    decoder: UNetConfig
    sr_low: UNetConfig
    sr_high: UNetConfig


def build(config: Networks) -> nn.ModuleDict:
    """All five, new: D^t and SR_l^t inflated, up_F a copy of D^t, SR_h an image network."""
    decoder = inflate(UNet(config.decoder), inflation=Pseudo3D(config.decoder.head_dim))
    sr_low = inflate(UNet(config.sr_low), inflation=Pseudo3D(config.sr_low.head_dim))
    return nn.ModuleDict(
        {
            "prior": Prior(config.prior),
            "decoder": decoder,
            "interpolation": interpolator(decoder),
            "sr_low": sr_low,
            "sr_high": UNet(config.sr_high),
        }
    )


_SMALL = UNetConfig(width=16, multipliers=(1, 2), attention_levels=(1,), patch=1, text_dim=12, head_dim=8)
TINY_SIZES = Sizes(frames=3, skip=2, small=8, middle=16, large=32)
TINY = Networks(
    PriorConfig(width=16, depth=2, head_dim=8, embed=12, vocabulary=20, length=6),
    decoder=_SMALL,
    sr_low=replace(_SMALL, extra_channels=3),
    sr_high=replace(_SMALL, extra_channels=3, patch=2),
)
PAPER = Networks(
    PriorConfig(width=2048, depth=24, head_dim=64, embed=768, vocabulary=49408, length=77),
    decoder=UNetConfig(
        width=512, multipliers=(1, 2, 3, 4), blocks=3, attention_levels=(1, 2, 3), patch=1, text_dim=768, head_dim=64
    ),
    sr_low=UNetConfig(
        width=320, multipliers=(1, 2, 3, 4), blocks=3, attention_levels=(3,), patch=1, text_dim=768, head_dim=64,
        extra_channels=3,
    ),
    sr_high=UNetConfig(
        width=192, multipliers=(1, 1, 2, 2, 3, 4), blocks=2, attention_levels=(), patch=1, text_dim=768, head_dim=64,
        extra_channels=3,
    ),
)  # fmt: skip
"""The paper's: 16 frames, 64, 256 and 768 pixels, 76 frames after up_F. Every width here is a choice."""


def tiny() -> nn.ModuleDict:
    return build(TINY)


def paper() -> nn.ModuleDict:
    return build(PAPER)


SYSTEM = System(
    name="make_a_video",
    paper="Singer et al. 2022, Make-A-Video: Text-to-Video Generation without Text-Video Data",
    description="An image generator inflated to video: text-image pairs, images and unlabeled video, each by itself.",
    inputs=("text tokens", "CLIP text embedding"),
    stages=STAGES,
    tiny=tiny,
    paper_size=paper,
    unpublished="no number of parameters that could be confirmed; ours are of a chosen size",
)
