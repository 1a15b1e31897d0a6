"""Gen-1 (Esser et al. 2023): a video made anew, its structure given by depth and its content by an image embedding.

Depth estimates, blurred to a level t_s, are extra input channels; the embedding is seen through cross-attention alone.
Images and video train together without captions; a text becomes an image embedding by a prior, when sampling only.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.unet import UNet, UNetConfig
from models.diffusion.guidance import same_rows
from models.diffusion.losses import DenoisingLoss, Loss, UniformTimes
from models.diffusion.parameterization import Denoiser, Network, VPrediction, XPrediction, label_like
from models.diffusion.samplers import DDIM, OnStep, Sampler
from models.diffusion.samplers import sample as run
from models.diffusion.schedules import CosineSchedule, Schedule
from models.layers.basics import zeroed
from models.layers.temporal import Pseudo3D
from models.systems.frames import STABLE_DIFFUSION
from models.systems.prior import Prior, PriorConfig
from models.systems.recipe import Stage, System, everything

SCHEDULE = STABLE_DIFFUSION
LOSS = DenoisingLoss(SCHEDULE, VPrediction(), UniformTimes(0, 999))
PRIOR_LOSS = DenoisingLoss(CosineSchedule(), XPrediction())
LEVELS = 7
"""T_s, the most that depth is blurred."""

TINY = UNetConfig(
    width=16,
    multipliers=(1, 2),
    attention_levels=(1,),
    text_dim=12,
    head_dim=8,
    channels=4,
    patch=1,
    pooled_text=False,
)
PAPER = UNetConfig(
    width=320,
    multipliers=(1, 2, 4, 4),
    blocks=2,
    attention_levels=(0, 1, 2),
    text_dim=768,
    head_dim=40,
    channels=4,
    patch=1,
    pooled_text=False,
)
"""The widths of Stable Diffusion 1.5, with one token of CLIP ViT-L/14's size."""


def blurred(depth: Tensor, levels: Tensor) -> Tensor:
    """Blur `depth` (b, c, [t,] h, w): halve each sample `levels` (b,) times and resize it back, so that a higher t_s
    leaves less structure. Levels are whole numbers.

    The filters are ours: (1, 3, 3, 1) / 8 on an even side and (1, 2, 1) / 4 on an odd one. Both are symmetric about the
    frame's centre, so that no level moves the structure.

    Raises ValueError for levels outside 0 to `LEVELS`."""
    _check_levels(levels)
    same_rows(len(depth), {"levels": levels})
    return torch.stack(
        [
            _blurred_rows(_blurred_rows(sample, int(level)).mT, int(level)).mT
            for sample, level in zip(depth, levels.tolist(), strict=True)
        ]
    )


def _check_levels(levels: Tensor) -> None:
    if any(level not in range(LEVELS + 1) for level in levels.flatten().tolist()):
        raise ValueError(f"levels of blur are whole numbers from 0 to {LEVELS}, not {levels.tolist()}")


def _blurred_rows(x: Tensor, level: int) -> Tensor:
    """Rows of `x` (..., w), halved `level` times and doubled as often. Row by row, because height and width may differ
    in parity."""
    if level == 0:
        return x
    size = x.shape[-1]
    odd = bool(size % 2)
    # sample i of half a row lies at pixel 2i of an odd row and at 2i + 0.5 of an even row
    weights = x.new_tensor([2, 4, 2] if odd else [1, 3, 3, 1]) / 8
    rows = F.pad(x.reshape(-1, 1, size), (1, 1), mode="replicate")
    half = _blurred_rows(F.conv1d(rows, weights[None, None], stride=2), level - 1)
    return F.interpolate(half, size, mode="linear", align_corners=odd).reshape(x.shape)


class Gen1(nn.Module):
    """F(z, noise label, content, structure, blur) of images and video; `unet` is made by `network`."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self,
        z: Tensor,
        noise: Tensor,
        content: Tensor | None = None,
        structure: Tensor | None = None,
        blur: Tensor | None = None,
        images: bool = False,
    ) -> Tensor:
        """Of z's shape, (b, c, [t,] h, w). `content` (b, d), an image's embedding, none where unknown; `structure`
        (b, extra_channels, [t,] h, w), blurred to the level `blur` (b,), nothing where unknown. With `images`, every
        frame by itself, by the image model that is in the network.

        Raises ValueError where these have not a row for each of z's, or structure not z's frames and size."""
        same_rows(len(z), {"content": content, "structure": structure, "blur": blur})
        if structure is not None and structure.shape[2:] != z.shape[2:]:
            raise ValueError(f"structure of {tuple(structure.shape[2:])} for latents of {tuple(z.shape[2:])}")
        if structure is None:
            structure = torch.zeros_like(z[:, :1]).expand(-1, self.unet.config.extra_channels, *z.shape[2:])
        if images and z.ndim == 5:
            alone, shapes = (part.transpose(1, 2).flatten(0, 1) for part in (z, structure))
            told = {"content": content, "blur": blur}
            each = {name: x.repeat_interleave(z.shape[2], 0) for name, x in told.items() if x is not None}
            out = self(alone, noise.repeat_interleave(z.shape[2], 0), structure=shapes, **each)
            return out.unflatten(0, (len(z), -1)).transpose(1, 2)
        text = None if content is None else content[:, None]
        level = torch.zeros_like(noise) if blur is None else label_like(blur, noise) / LEVELS
        return self.unet(z, noise, text=text, extra=structure, labels={"blur": level})


def network(image: UNet, structure: int = 1, seed: int = 0) -> Gen1:
    """The video network of an image model's weights: a convolution over time behind each convolution, attention over
    time behind each attention, with learned relative positions, and `structure` more input channels.

    All of it is the identity when new, t_s included: it computes what `image` does.
    """
    config, like = image.config, next(image.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        video = UNet(
            replace(config, temporal=True, extra_channels=structure, labels=("blur",)),
            Pseudo3D(config.head_dim, "relative"),
        )
    zeroed(video.labels["blur"])
    video.to(device=like.device, dtype=like.dtype).load_state_dict(image.state_dict(), strict=False)
    return Gen1(video)


@dataclass(frozen=True)
class StructuredLoss:
    """The denoising loss of a network that is given the video's own depth, blurred to levels uniform in 0 to `most`."""

    most: int
    loss: Loss = LOSS
    encode: Callable[[Tensor], Tensor] = torch.clone

    def __call__(
        self, network: Network, x: Tensor, generator: torch.Generator, depth: Tensor, content: Tensor | None = None
    ) -> Tensor:
        """(b,); `depth` (b, c, [t,] h, w), which `encode` brings to the size of the latents `x` if it has not got it,
        and `content` (b, d) of one of its frames."""
        levels = torch.randint(self.most + 1, (len(x),), generator=generator, device=generator.device)
        given = {"structure": self.encode(blurred(depth, levels)), "blur": label_like(levels, x)}
        return self.loss(network, x, generator, content=content, **given)


@dataclass(frozen=True)
class Guided:
    """x^i(no c) + temporal (x(no c) - x^i(no c)) + scale (x(c) - x(no c)), with x^i the image model's, frame by frame.

    `temporal` above 1 makes frames more alike, below 1 less (Esser et al. 2023: omega_t and omega; the paper guides
    the mean, which is affine in x with the same weights). At 1 the image model is not called. Raises ValueError for a
    `scale` without content.
    """

    denoise: Denoiser
    content: Tensor | None
    structure: Tensor
    blur: Tensor
    scale: float = 1.0
    temporal: float = 1.0

    def __post_init__(self) -> None:
        if self.content is None and self.scale != 1:
            raise ValueError(f"guidance of {self.scale:g} needs a content to guide by")

    def __call__(self, z: Tensor, t: Tensor) -> Tensor:
        """Guided estimate of x, of z's shape, at the scalar time `t`."""
        call = partial(self.denoise, z, t, structure=self.structure, blur=self.blur)
        x = call(content=self.content)
        if self.scale == self.temporal == 1:
            return x
        free = call()
        guided = free + self.scale * (x - free)
        return guided if self.temporal == 1 else guided + (self.temporal - 1) * (free - call(images=True))


@torch.no_grad()
def content_of(prior: Prior, tokens: Tensor, text: Tensor, generator: torch.Generator, steps: int = 50) -> Tensor:
    """An image embedding (b, d) for a text: its `tokens` (b, n) and its own embedding `text` (b, d)."""
    schedule = CosineSchedule()
    noise = torch.randn(text.shape, dtype=text.dtype, generator=generator, device=generator.device).to(text.device)
    denoise = partial(Denoiser(prior, XPrediction(), schedule), tokens=tokens, text=text)
    return run(denoise, noise, schedule, steps, DDIM())


def sample(
    network: nn.Module,
    noise: Tensor,
    content: Tensor | None,
    structure: Tensor,
    blur: Tensor,
    scale: float = 1.0,
    temporal: float = 1.0,
    schedule: Schedule = SCHEDULE,
    steps: int = 50,
    sampler: Sampler | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Latent video of `noise`'s shape (b, c, t, h, w) with the content (b, d) of an image, or by `content_of` of a
    text, or without, and the `structure` of a video, blurred to `blur` (b,); the scales are those of `Guided`.

    Raises ValueError for a scale without content, and for levels of blur that there are not."""
    _check_levels(blur)
    denoise = Guided(Denoiser(network, VPrediction(), schedule), content, structure, blur, scale, temporal)
    return run(denoise, noise, schedule, steps, sampler or DDIM(), on_step)


def tiny() -> nn.ModuleDict:
    """For tests: latents of 4 channels, depth of one."""
    prior = PriorConfig(width=24, depth=2, head_dim=12, embed=TINY.text_dim, vocabulary=50, length=6)
    return nn.ModuleDict({"unet": network(UNet(TINY)), "prior": Prior(prior)})


def paper_size() -> nn.ModuleDict:
    """Of Stable Diffusion's widths; depth is encoded to 4 channels, as pictures are."""
    prior = PriorConfig(width=1024, depth=12, head_dim=64, embed=PAPER.text_dim, vocabulary=49_408, length=77)
    return nn.ModuleDict({"unet": network(UNet(PAPER), structure=4), "prior": Prior(prior)})


SYSTEM = System(
    name="gen1",
    paper="Esser et al. 2023, Structure and Content-Guided Video Synthesis with Diffusion Models",
    description="a video made anew: structure from its depth, content from an image's or a text's embedding",
    inputs=("depth of a video", "image or text"),
    stages=(
        Stage("content", "unet", lambda name: "temporal" not in name, LOSS, ("images",)),
        Stage("temporal", "unet", everything, LOSS, ("images", "videos"), parent="content"),
        Stage("structure", "unet", everything, StructuredLoss(0), ("images", "videos"), parent="temporal"),
        Stage("blur", "unet", everything, StructuredLoss(LEVELS), ("images", "videos"), parent="structure"),
        Stage("prior", "prior", everything, PRIOR_LOSS, ("text-images",)),
    ),
    tiny=tiny,
    paper_size=paper_size,
    unpublished="no number of parameters that could be confirmed; ours are of Stable Diffusion's widths",
)
