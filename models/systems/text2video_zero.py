"""Text2Video-Zero (Khachatryan et al. 2023): video from an image model without training.

The latents of later frames are the first one's, moved: denoised a little (x_T to x_T'), translated, and noised again.
Each frame's self-attention looks at the first frame. Any image network that takes `attend` will do (`frames`).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from models.backbones.control import ControlBranch
from models.backbones.controlnet import controlnet_of
from models.backbones.sd_unet import SD15, SDUNet
from models.backbones.unet import UNet, UNetConfig
from models.diffusion.samplers import DDIM, DDIMInversion, Denoise, OnStep, Sampler, prior
from models.diffusion.schedules import Schedule, expand_to
from models.systems.frames import STABLE_DIFFUSION, CrossFrame, PerFrame
from models.systems.recipe import System

TINY = UNetConfig(width=16, multipliers=(1, 2), attention_levels=(1,), text_dim=12, head_dim=8)
SCHEDULE = STABLE_DIFFUSION


@dataclass(frozen=True)
class Motion:
    """How the first latents become those of all frames (Khachatryan et al. 2023, section 3.3.1).

    Frame k moves by strength (k - 1) direction latents, (x, y), rounded. The first frame alone takes `start` of the
    sampler's steps to x_T and `steps` more to x_T', whose moved copies go back to T: by "ddpm", which adds the
    schedule's noise, each frame its own, or by "ddim", without chance. The paper says DDIM, the authors' code is DDPM;
    so are the other defaults, with 50 steps: T = 941, T' = 881, and 12 of 512 pixels a frame.
    Raises ValueError for another `forward` and for steps below 0.
    """

    strength: float = 1.5
    direction: tuple[float, float] = (1.0, 1.0)
    start: int = 2
    steps: int = 3
    forward: Literal["ddpm", "ddim"] = "ddpm"

    def __post_init__(self) -> None:
        if self.forward not in ("ddpm", "ddim"):
            raise ValueError(f"latents go back to T by 'ddpm' or 'ddim', not {self.forward!r}")
        if min(self.start, self.steps) < 0:
            raise ValueError(f"a motion of {self.start} and {self.steps} steps goes backwards")


def warped(x: Tensor, frames: int, motion: Motion) -> Tensor:
    """W_k(x) for k = 1..frames: `x` (b, c, 1, h, w) -> (b, c, frames, h, w), W_1 = id.

    W_k(x) at p is x at p - strength (k - 1) direction, rounded to whole latents: a mean of several would have less
    noise than there should be. What comes in is mirrored at the border. The authors' code has the opposite sign.
    """
    made = []
    for k in range(frames):
        dx, dy = (round(motion.strength * k * along) for along in motion.direction)
        made.append(x[:, :, 0, _mirrored(x.shape[-2], dy, x)][..., _mirrored(x.shape[-1], dx, x)])
    return torch.stack(made, dim=2)


def _mirrored(size: int, by: int, like: Tensor) -> Tensor:
    """Where each of `size` places takes its value from when all move by `by`."""
    at = (torch.arange(size, device=like.device) - by) % (2 * size)
    return torch.minimum(at, 2 * size - 1 - at)


def noised(z: Tensor, schedule: Schedule, t: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from q(z_s | z_t), s noisier than t: z_s = (alpha_s / alpha_t) z_t + noise of the variance that is lacking.

    Source: Ho et al. 2020, eq. 2; for any schedule Kingma et al. 2021, appendix A.
    """
    alpha_t, sigma_t = (expand_to(level, z) for level in schedule.alpha_sigma(t))
    alpha_s, sigma_s = (expand_to(level, z) for level in schedule.alpha_sigma(s))
    kept = alpha_s / alpha_t
    eps = torch.randn(z.shape, dtype=z.dtype, generator=generator, device=generator.device).to(z.device)
    return kept * z + (sigma_s**2 - (kept * sigma_t) ** 2).clamp(min=0).sqrt() * eps


def moving_latents(
    denoise: Denoise,
    first: Tensor,
    schedule: Schedule,
    times: Tensor,
    frames: int,
    motion: Motion,
    generator: torch.Generator,
    sampler: Sampler,
) -> Tensor:
    """x_T of all frames, (b, c, frames, h, w), from the first's, (b, c, 1, h, w); `times` fall from T to T'."""
    video = warped(sampler(denoise, first, schedule, times), frames, motion)
    if motion.forward == "ddpm":
        later = noised(video[:, :, 1:], schedule, times[-1], times[0], generator)
    else:
        later = DDIMInversion()(denoise, video, schedule, times.flip(0))[:, :, 1:]
    return torch.cat([first, later], dim=2)


def background_smoothed(x: Tensor, foreground: Tensor, motion: Motion, alpha: float) -> Tensor:
    """M x^k + (1 - M) (alpha W_k(x^1) + (1 - alpha) x^k) for each frame k.

    `x` (b, c, t, h, w); `foreground` M broadcasts against it, 1 where the object is. The authors take alpha = 0.6.
    """
    smooth = alpha * warped(x[:, :, :1], x.shape[2], motion) + (1 - alpha) * x
    return foreground * x + (1 - foreground) * smooth


@torch.no_grad()
def sample(
    denoise: Denoise,
    noise: Tensor,
    schedule: Schedule,
    steps: int,
    frames: int,
    generator: torch.Generator,
    motion: Motion | None = None,
    sampler: Sampler | None = None,
    foreground: Tensor | None = None,
    alpha: float = 0.6,
    on_step: OnStep | None = None,
) -> Tensor:
    """Video (b, c, frames, h, w) from the unit `noise` (b, c, 1, h, w) of its first frame.

    `denoise(z, t)` estimates x of any number of frames: a `Denoiser` of `network`, guided or not. `sampler` is DDIM by
    default or `DDPM`; it is called step by step, so one with a memory forgets. With a `foreground` mask, broadcast
    against the video, the background follows the first frame's after every step.
    Raises ValueError for noise of several frames, and where the motion's steps are not fewer than `steps`.
    """
    if noise.ndim != 5 or noise.shape[2] != 1:
        raise ValueError(f"the noise is of the first frame, (b, c, 1, h, w), not {tuple(noise.shape)}")
    motion, sampler = motion or Motion(), sampler or DDIM()
    if motion.start + motion.steps >= steps:
        raise ValueError(f"{steps} steps are too few: the motion's are {motion.start} + {motion.steps}")
    times, start = schedule.times(steps, noise.device), motion.start
    first = sampler(denoise, prior(noise, schedule, times), schedule, times[: start + 1])
    branch = times[start : start + motion.steps + 1]
    z = moving_latents(denoise, first, schedule, branch, frames, motion, generator, sampler)
    for i, (t, s) in enumerate(pairwise(times[start:]), start + 1):
        z = sampler(denoise, z, schedule, torch.stack([t, s]))
        if foreground is not None:
            z = background_smoothed(z, foreground.to(z), motion, alpha)
        if on_step:
            on_step(i, steps)
    return z


def network(image: nn.Module, control: nn.Module | None = None) -> CrossFrame:
    """`image` with each frame's self-attention on the first one's keys and values (Khachatryan et al. 2023, eq. 9), and
    a control branch for each frame where there is one. No weight is new and none changes."""
    return CrossFrame(image, "first", control)


def tiny() -> nn.ModuleDict:
    """For tests: the U-Net of our own and a control branch for it."""
    image = UNet(TINY)
    return nn.ModuleDict({"unet": image, "control": ControlBranch(image)})


def paper_size() -> nn.ModuleDict:
    """Stable Diffusion 1.5 and a ControlNet."""
    image = SDUNet(SD15)
    return nn.ModuleDict({"unet": PerFrame(image), "control": PerFrame(controlnet_of(image))})


SYSTEM = System(
    name="text2video_zero",
    paper="Khachatryan et al. 2023, Text2Video-Zero: Text-to-Image Diffusion Models are Zero-Shot Video Generators",
    description="an image model makes video without training: moved latents, attention to the first frame",
    inputs=("text", "control pictures (may lack)", "foreground masks (may lack)"),
    stages=(),
    tiny=tiny,
    paper_size=paper_size,
    published={"unet": 859_520_964},
    unpublished="the paper has no network of its own; the U-Net is Stable Diffusion 1.5's",
)
