"""Tune-A-Video (Wu et al. 2023): an image model tuned on one video, which is then made anew after an edited text.

Self-attention looks at the first and the previous frame (ST-Attn), and attention over time follows each block. Tuned
are the queries of ST-Attn and of cross-attention, and all of the attention over time. The noise that the edited video
is made of is the source's, by DDIM inversion.
"""

import torch
from torch import Tensor, nn

from models.backbones import sd_video
from models.backbones.sd_unet import SD15, SDUNet
from models.backbones.unet import UNet, UNetConfig, inflate
from models.diffusion.losses import DenoisingLoss, UniformTimes
from models.diffusion.parameterization import EpsPrediction
from models.diffusion.samplers import DDIM, DDIMInversion, Denoise
from models.diffusion.schedules import Schedule
from models.layers.temporal import Inflation, TemporalAttention
from models.systems.frames import STABLE_DIFFUSION, CrossFrame, PerFrame, Timestep
from models.systems.recipe import Stage, System

TINY = UNetConfig(width=16, multipliers=(1, 2), attention_levels=(1,), text_dim=12, head_dim=8)
SCHEDULE = STABLE_DIFFUSION
LOSS = DenoisingLoss(SCHEDULE, EpsPrediction(), UniformTimes(0, 999))
QUERIES = ("attention.q.weight", "attention.text_q.weight", "attn1.to_q.weight", "attn2.to_q.weight")
"""Of ST-Attn and of cross-attention, in `UNet` and in `SDUNet`."""


class TemporalSelfAttention(Inflation):
    """Attention over time after each attention over space and text, and nothing else; eight heads where `head_dim` says
    nothing, as Stable Diffusion 1.5 has everywhere."""

    def __init__(self, head_dim: int | None = None) -> None:
        self.head_dim = head_dim

    def attention(self, channels: int, level: int) -> nn.Module:
        return TemporalAttention(channels, self.head_dim or channels // 8)


def network(image: UNet | SDUNet, seed: int = 0) -> CrossFrame:
    """The video network of an image network's weights: called (z, c_noise, text=... or context=...)."""
    if isinstance(image, SDUNet):
        video: nn.Module = Timestep(PerFrame(sd_video.inflate(image, TemporalSelfAttention(), seed)), SCHEDULE)
    else:
        video = inflate(image, seed, TemporalSelfAttention(image.config.head_dim))
    return CrossFrame(video, "first and previous")


def tuned(name: str) -> bool:
    """The queries of ST-Attn and of cross-attention, and all attention over time."""
    return "temporal" in name or name.endswith(QUERIES)


def invert(denoise: Denoise, x: Tensor, schedule: Schedule = SCHEDULE, steps: int = 50) -> Tensor:
    """The noise that DDIM makes the video `x` (b, c, t, h, w) of (Song et al. 2021, section 4.3)."""
    with torch.no_grad():
        return DDIMInversion()(denoise, x, schedule, schedule.times(steps, x.device).flip(0))


def edit(source: Denoise, edited: Denoise, x: Tensor, schedule: Schedule = SCHEDULE, steps: int = 50) -> Tensor:
    """`x` (b, c, t, h, w) made anew: inverted with `source`, whose text is empty or that of `x`, at guidance 1; then
    DDIM with `edited`, guided by the edited text."""
    with torch.no_grad():
        return DDIM()(edited, invert(source, x, schedule, steps), schedule, schedule.times(steps, x.device))


def tiny() -> nn.ModuleDict:
    """For tests: the U-Net of our own."""
    return nn.ModuleDict({"unet": network(UNet(TINY))})


def paper_size() -> nn.ModuleDict:
    """Stable Diffusion with attention over time."""
    return nn.ModuleDict({"unet": network(SDUNet(SD15))})


SYSTEM = System(
    name="tune_a_video",
    paper="Wu et al. 2023, Tune-A-Video: One-Shot Tuning of Image Diffusion Models for Text-to-Video Generation",
    description="an image model tuned on one video makes it anew after an edited text",
    inputs=("video", "text", "edited text"),
    stages=(Stage("one-shot", "unet", tuned, LOSS, ("text-videos",)),),
    tiny=tiny,
    paper_size=paper_size,
    unpublished="the paper gives no count; without attention over time it is Stable Diffusion's 859.52 M",
)
