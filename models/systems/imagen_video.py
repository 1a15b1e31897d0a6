"""Imagen Video (Ho et al. 2022): a cascade of seven diffusion models in pixels, all told the states of a frozen T5.

A base model makes 16 frames of 40 x 24; three models of temporal super-resolution (TSR) fill in frames and three of
spatial super-resolution (SSR) enlarge them, up to 128 frames of 1280 x 768 at 24 a second. Each is trained by itself on
what it gets in the cascade: the model below's pictures, repeated or blank in between, or enlarged, beside the noisy
ones, with noise of their own whose level it is told. Sampling is `samples`, few steps of it `distilled`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.backbones.unet import UNet, UNetConfig
from models.diffusion.distillation import Fit, distill
from models.diffusion.guidance import downsampled
from models.diffusion.losses import TruncatedSNR, UniformTimes, VLoss, denoiser
from models.diffusion.parameterization import Denoiser
from models.diffusion.samplers import DDIM, Denoise, prior
from models.diffusion.schedules import expand_to
from models.layers.temporal import Inflation, TemporalAttention, TemporalConv
from models.systems.cascade import LABEL, SCHEDULE, at_snr, enlarged, given, labelled, unit
from models.systems.recipe import Stage, System, everything
from models.systems.text_guidance import drop_text, guided_by_text

LOSS = VLoss()
Fill = Literal["repeat", "blank"]


@dataclass(frozen=True)
class Model:
    """One of the cascade: what it makes, its steps before distillation, and its network."""

    name: str
    kind: Literal["base", "tsr", "ssr"]
    frames: int
    height: int
    width: int
    fps: int
    network: UNetConfig
    steps: int = 128
    oscillates: bool = False  # guidance does, while sampling

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.frames, self.height, self.width


class TimeLayers(Inflation):
    """Attention over time after each attention over space in the base model; in the others, to spare memory, a
    convolution over time after each residual block (section 2.3)."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def attention(self, channels: int, level: int) -> nn.Module | None:
        if self.model.kind != "base":
            return None
        return TemporalAttention(channels, self.model.network.head_dim, "relative")

    def block(self, channels: int) -> nn.Module | None:
        return None if self.model.kind == "base" else TemporalConv(channels)


def network(model: Model) -> UNet:
    """F(z, noise, text, ...) for video `b c t h w`, and for images `b c h w`, which leave the layers in time out."""
    return UNet(model.network, TimeLayers(model))


def in_time(video: Tensor, times: int, fill: Fill = "repeat") -> Tensor:
    """(b, c, t, h, w) to (b, c, t times, h, w): each frame repeated, or followed by blank ones."""
    many = video.repeat_interleave(times, dim=2)
    if fill == "repeat":
        return many
    kept = torch.arange(many.shape[2], device=video.device) % times == 0
    return many * kept[:, None, None].to(many)


def raised(model: Model, video: Tensor, fill: Fill = "repeat") -> Tensor:
    """The model below's `video` (b, c, t, h, w), or image, with the frames and pixels of `model`'s own.

    Raises ValueError for an image where frames are filled in."""
    if model.kind == "ssr":
        return enlarged(video, model.height, model.width)
    _needs_frames(model, video)
    return in_time(video, model.frames // video.shape[2], fill)


def lowered(model: Model, below: Model, video: Tensor) -> Tensor:
    """What the model `below` would give for a clean `video` of `model`'s: fewer pixels, or every n-th frame. Raises
    ValueError for an image where frames are filled in."""
    if model.kind == "ssr":
        return downsampled(video, below.height, below.width)
    _needs_frames(model, video)
    return video[:, :, :: model.frames // below.frames]


def _needs_frames(model: Model, video: Tensor) -> None:
    if video.ndim != 5:
        raise ValueError(f"{model.name} fills in frames of a video (b, c, t, h, w), not of {tuple(video.shape)}")


def _fits(model: Model, picture: Tensor, shape: tuple[int, ...]) -> None:
    """Raises ValueError where what is given is not of the shape that is to be made."""
    if picture.shape != shape:
        raise ValueError(
            f"{model.name} makes (t, h, w) = {model.shape}: with {tuple(picture.shape)} given, "
            f"{tuple(shape)} cannot be made"
        )


@dataclass(frozen=True)
class CascadeLoss:
    """The v loss of one model, with captions left out for a share of the batch, and with the model below's pictures,
    which are taken of the video itself and made noisy to a random level (sections 2.4 to 2.6)."""

    model: Model
    below: Model | None = None
    fill: Fill = "repeat"
    drop: float = 0.1

    def __call__(
        self, network: UNet, x: Tensor, generator: torch.Generator, text: Tensor, text_mask: Tensor | None = None
    ) -> Tensor:
        """Loss per sample, (b,), of clean `x` (b, 3, t, h, w), given `text` (b, n, d), T5's states: no gradient goes
        there. Images (b, 3, h, w) train the base model and SSR too. Raises ValueError for images where frames are
        filled in, and for frames or pixels that are not those of `model`."""
        seen = torch.ones_like(text[..., 0], dtype=torch.bool) if text_mask is None else text_mask
        told: dict[str, Any] = {"text": text.detach(), "text_mask": drop_text(seen, self.drop, generator)}
        if self.below is None:
            return LOSS(network, x, generator, **told)
        picture = raised(self.model, lowered(self.model, self.below, x), self.fill)
        _fits(self.model, picture, x.shape)
        t = UniformTimes()(len(x), SCHEDULE, generator).to(x.device)
        return LOSS(labelled(network), x, generator, **told, **given(picture, t, generator))


def oscillating(steps: int, high: float = 15.0, low: float = 1.0, first: int = 10) -> list[float]:
    """A guidance weight for each step: `high` for the `first` ones, then `low` and `high` in turn (section 2.6). How
    many the first ones are, the paper leaves open; up to `first` steps are all at `high`, and none oscillates."""
    return [high if i < first or (i - first) % 2 else low for i in range(steps)]


def stepwise(guided: Callable[[float], Denoise], times: Tensor, weights: list[float]) -> Denoise:
    """A denoiser guided by its step's weight: (1 + w) x_cond - w x_uncond is a scale of 1 + w."""
    return lambda z, t: guided(1 + weights[int((times - t).abs().argmin())])(z, t)


@torch.no_grad()
def draw(
    model: Model,
    network: Callable[..., Tensor],
    text: Tensor,
    generator: torch.Generator,
    below: Tensor | None = None,
    seen: Tensor | None = None,
    steps: int | None = None,
    weight: float | None = None,
    snr: float = 5.0,
    fill: Fill = "repeat",
) -> Tensor:
    """The model's video (b, 3, t, h, w) of `text` (b, n, d), given the video `below`, noised to `snr` (section 2.5).

    `weight` is by default the paper's 6, or where the model's guidance oscillates 15, and is then the high one, between
    which and 1 it goes. 0 is without guidance, which a distilled network does not need. Raises ValueError where `below`
    has not as many videos as there are texts, or not what `model` makes larger.
    """
    shape = (len(text), 3, *model.shape)
    told: dict[str, Tensor] = {}
    if below is not None:
        picture = raised(model, below, fill)
        _fits(model, picture, shape)
        told = given(picture, at_snr(snr, len(below)), generator)
        network = labelled(network)
    times = LOSS.schedule.times(steps or model.steps, text.device)
    if weight is None:
        weight = 15.0 if model.oscillates else 6.0
    weights = oscillating(len(times), weight, min(1.0, weight)) if model.oscillates else [weight] * len(times)
    denoise = stepwise(lambda scale: guided_by_text(denoiser(LOSS, network), text, seen, scale, **told), times, weights)
    noise = unit(shape, generator, text)
    return DDIM()(denoise, prior(noise, LOSS.schedule, times), LOSS.schedule, times)


def samples(
    networks: Mapping[str, Any],
    models: tuple[Model, ...],
    text: Tensor,
    generator: torch.Generator,
    seen: Tensor | None = None,
    steps: int | None = None,
    weight: float | None = None,
) -> Iterator[tuple[Model, Tensor]]:
    """Through the whole cascade: each model with what it made, (b, 3, t, h, w). The last one's is the video; `weight`
    is as in `draw`, the same for all."""
    video = None
    for model in models:
        video = draw(model, networks[model.name], text, generator, video, seen, steps, weight)
        yield model, video


@dataclass(frozen=True)
class GuidanceLoss:
    """The first stage of distillation: one network that answers as guidance of `weight` does with two calls of its
    `teacher` (section 2.7; Meng et al. 2022). As `CascadeLoss` but with everything that the networks are told."""

    teacher: Denoiser
    weight: float

    def __call__(
        self, network: nn.Module, x: Tensor, generator: torch.Generator, text: Tensor, text_mask: Tensor, **told: Any
    ) -> Tensor:
        t = UniformTimes()(len(x), LOSS.schedule, generator).to(x.device)
        alpha, sigma = LOSS.schedule.alpha_sigma(t)
        z = expand_to(alpha, x) * x + expand_to(sigma, x) * unit(x.shape, generator, x)
        told["text"] = text.detach()
        with torch.no_grad():
            cond = self.teacher(z, t, text_mask=text_mask, **told)
            uncond = self.teacher(z, t, text_mask=torch.zeros_like(text_mask), **told)
            target = (1 + self.weight) * cond - self.weight * uncond
        x_hat = denoiser(LOSS, network)(z, t, text_mask=text_mask, **told)
        return TruncatedSNR()(alpha, sigma).to(z) * (x_hat - target).square().flatten(1).mean(1)


def distilled(model: Model, network: nn.Module, fit: Fit, to: int = 8) -> tuple[nn.Module, Tensor]:
    """The second stage: a network of `to` steps, by halving `model.steps` again and again, and its times (section 2.7).

    `fit(student, loss)` trains a student in place: `loss(student, x, generator, **told)` with everything that the
    network is told. Raises ValueError where halving does not lead to `to`.
    """
    halvings = (model.steps // to).bit_length() - 1
    if halvings < 1 or to * 2**halvings != model.steps:
        raise ValueError(f"halving {model.steps} steps does not lead to {to}")
    *_, (student, times) = distill(denoiser(LOSS, network), LOSS.schedule.times(model.steps), halvings, fit)
    assert isinstance(student.network, nn.Module)
    return student.network, times


def _net(width: int, attention: tuple[int, ...], blocks: int = 2, given: bool = True, **more: Any) -> UNetConfig:
    return UNetConfig(
        width=width,
        multipliers=(1, 2, 3, 4),
        blocks=blocks,
        attention_levels=attention,
        patch=1,
        text_dim=4096,
        head_dim=64,
        temporal=True,
        extra_channels=3 if given else 0,
        labels=(LABEL,) if given else (),
        **more,
    )


PAPER = (
    Model("base", "base", 16, 24, 40, 3, _net(768, (1, 2, 3), 3, given=False), steps=256, oscillates=True),
    Model("tsr1", "tsr", 32, 24, 40, 6, _net(448, (3,), 3), oscillates=True),
    Model("ssr1", "ssr", 32, 48, 80, 6, _net(448, (2, 3)), oscillates=True),
    Model("ssr2", "ssr", 32, 192, 320, 6, _net(432, (3,))),
    Model("tsr2", "tsr", 64, 192, 320, 12, _net(352, (3,))),
    Model("tsr3", "tsr", 128, 192, 320, 24, _net(304, (3,))),
    Model("ssr3", "ssr", 128, 768, 1280, 24, _net(256, (), middle_attention=False)),
)
"""From the paper (figure 6 and section 2): order, frames, pixels, rates, T5-XXL's 4096, 256 and 128 steps, where
guidance oscillates, a last model without attention (it knows the text by its mean alone). Widths, multipliers, blocks
and levels of attention are chosen to come within 5 % of the published numbers of parameters."""

PUBLISHED = {
    "base": 5_600_000_000,
    "tsr1": 1_700_000_000,
    "ssr1": 1_400_000_000,
    "ssr2": 1_200_000_000,
    "tsr2": 780_000_000,
    "tsr3": 630_000_000,
    "ssr3": 340_000_000,
}
"""Of the paper's figure 6: 11.6 B together."""

_SMALL = UNetConfig(width=8, multipliers=(1, 2), attention_levels=(1,), patch=1, text_dim=12, head_dim=8, temporal=True)
_GIVEN = replace(_SMALL, extra_channels=3, labels=(LABEL,))
TINY = (
    Model("base", "base", 2, 4, 4, 3, _SMALL, steps=16, oscillates=True),
    Model("tsr1", "tsr", 4, 4, 4, 6, _GIVEN, steps=16, oscillates=True),
    Model("ssr1", "ssr", 4, 6, 8, 6, _GIVEN, steps=16, oscillates=True),
    Model("ssr2", "ssr", 4, 8, 12, 6, _GIVEN, steps=16),
    Model("tsr2", "tsr", 8, 8, 12, 12, _GIVEN, steps=16),
    Model("tsr3", "tsr", 16, 8, 12, 24, _GIVEN, steps=16),
    Model("ssr3", "ssr", 16, 12, 20, 24, replace(_GIVEN, attention_levels=(), middle_attention=False), steps=16),
)


def stages(models: tuple[Model, ...]) -> tuple[Stage, ...]:
    """One training run for each model, none of which waits for another."""
    below = {model.name: lower for lower, model in pairwise(models)}
    return tuple(
        Stage(
            model.name,
            model.name,
            everything,
            CascadeLoss(model, below.get(model.name)),
            ("text-videos",) if model.kind == "tsr" else ("text-videos", "text-images"),
        )
        for model in models
    )


def tiny() -> nn.ModuleDict:
    return nn.ModuleDict({model.name: network(model) for model in TINY})


def paper() -> nn.ModuleDict:
    return nn.ModuleDict({model.name: network(model) for model in PAPER})


SYSTEM = System(
    name="imagen_video",
    paper="Ho et al. 2022, Imagen Video: High Definition Video Generation with Diffusion Models",
    description="A cascade of seven diffusion models in pixels: one base, three more frames, three more pixels.",
    inputs=("text",),
    stages=stages(PAPER),
    tiny=tiny,
    paper_size=paper,
    published=PUBLISHED,
)
