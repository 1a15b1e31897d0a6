"""ControlVideo (Zhang et al. 2023): video that follows control pictures, from an image model and its ControlNet,
without training.

Every frame's self-attention sees all frames; some of DDIM's steps smooth the estimated video; a long one is made of
clips between key frames. Any image network that takes `attend` will do (`frames`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from models.diffusion.samplers import Denoise, OnStep, ddim_step
from models.diffusion.samplers import sample as run
from models.diffusion.schedules import Schedule, expand_to
from models.layers.frame_attention import attend_to
from models.systems.frames import STABLE_DIFFUSION, CrossFrame, check_control
from models.systems.recipe import System
from models.systems.text2video_zero import paper_size, tiny  # the same image model and ControlNet

SCHEDULE = STABLE_DIFFUSION

Interpolate = Callable[[Tensor, Tensor], Tensor]
"""Frames before and after, each (b, c, n, h, w), to those in the middle, of the same shape."""


def midpoint(before: Tensor, after: Tensor) -> Tensor:
    """The mean of both neighbours: the simplest interpolator. (The paper's is RIFE, a trained one.)"""
    return (before + after) / 2


def smoothed(x: Tensor, parity: int, interpolate: Interpolate = midpoint) -> Tensor:
    """`x` (b, c, t, h, w) with every frame whose number is even (0) or odd (1) interpolated from its neighbours. The
    ends, which have one neighbour, stay; so do the frames of the other parity."""
    chosen = torch.arange(1, max(1, x.shape[2] - 1), device=x.device)
    chosen = chosen[chosen % 2 == parity]
    return x.index_copy(2, chosen, interpolate(x[:, :, chosen - 1], x[:, :, chosen + 1])) if len(chosen) else x


@dataclass(frozen=True)
class SmoothedDDIM:
    """DDIM with the interleaved-frame smoother: its estimate of x is smoothed where `at` steps are left, this included.

    z_s = alpha_s x~ + sigma_s eps: eps stays the network's. Two steps in a row smooth odd and even frames. `decode` and
    `encode` go to pixels, where interpolators work, and back. The default `at` is for 50 steps; () smooths nowhere.
    Raises ValueError, when called, where no step of `at` is among those that are taken.
    """

    interpolate: Interpolate = midpoint
    at: Sequence[int] = (20, 19)
    decode: Callable[[Tensor], Tensor] = torch.clone
    encode: Callable[[Tensor], Tensor] = torch.clone

    def __call__(
        self, denoise: Denoise, z: Tensor, schedule: Schedule, times: Tensor, on_step: OnStep | None = None
    ) -> Tensor:
        steps = len(times) - 1
        if self.at and not any(0 < left <= steps for left in self.at):
            raise ValueError(f"of {steps} steps none is smoothed: at={tuple(self.at)} counts the steps that are left")
        for i, (t, s) in enumerate(pairwise(times)):
            x_hat = denoise(z, t)
            z = ddim_step(z, x_hat, schedule, t, s)
            if steps - i in self.at:
                smooth = self.encode(smoothed(self.decode(x_hat), (i + 1) % 2, self.interpolate))
                z = z + expand_to(schedule.alpha_sigma(s)[0], z) * (smooth - x_hat)
            if on_step:
                on_step(i + 1, steps)
        return z


def hierarchy(frames: int, clip: int) -> tuple[list[int], list[tuple[int, int, list[int]]]]:
    """Key frames, and of every clip between two of them its left key, its right key and the frames in between.

    A clip has `clip` frames, keys included, the last one perhaps fewer; neighbours share a key. If one clip is enough,
    all frames are keys. Raises ValueError where clips have no length.
    """
    if clip < 2:
        raise ValueError(f"a clip has two key frames: {clip} is too short")
    if frames <= clip:
        return list(range(frames)), []
    keys = [*range(0, frames - 1, clip - 1), frames - 1]
    between = [(left, right, list(range(left + 1, right))) for left, right in pairwise(keys)]
    return keys, [part for part in between if part[2]]


class ControlVideo(nn.Module):
    """`image` with fully cross-frame attention, and a control branch for each frame.

    With `clip`, key frames see each other, and the frames between two keys see these two alone: memory is then that of
    one clip. Every frame still goes through the network at every step, so any sampler will do.
    """

    def __init__(self, image: nn.Module, control: nn.Module | None = None, clip: int | None = None) -> None:
        super().__init__()
        self.cross, self.clip = CrossFrame(image, "all", control), clip

    def forward(self, z: Tensor, noise: Tensor, picture: Tensor | None = None, **told: Any) -> Tensor:
        """`z` (b, c, t, h, w); `picture` (b, c, t, ...), the control's frames.

        Raises ValueError where they are fewer than z's, and where clips have no length."""
        check_control(z, {**told, "picture": picture})
        keys, clips = hierarchy(z.shape[2], z.shape[2] + 1 if self.clip is None else self.clip)

        def through(frames: Sequence[int], **more: Any) -> Tensor:
            at = torch.tensor(frames, device=z.device)
            seen = None if picture is None else picture[:, :, at]
            return self.cross(z[:, :, at], noise, picture=seen, **told, **more)

        made, order = [through(keys)], list(keys)
        for left, right, inner in clips:
            both = torch.tensor([0, 1], device=z.device)
            attend = partial(attend_to, frames=2 + len(inner), keys=both)
            made.append(through([left, right, *inner], attend=attend)[:, :, 2:])
            order += inner
        places = sorted(range(len(order)), key=order.__getitem__)
        return torch.cat(made, dim=2)[:, :, places]


def sample(
    denoise: Denoise,
    noise: Tensor,
    frames: int,
    schedule: Schedule,
    steps: int = 50,
    sampler: SmoothedDDIM | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Video (b, c, frames, h, w) by DDIM with smoothing. `denoise(z, t)` is a `Denoiser` of `ControlVideo`, guided or
    not; `noise` (b, c, 1, h, w) is the same for all frames, as in the authors' code, or each has its own.
    """
    noise = noise.expand(-1, -1, frames, -1, -1)
    return run(denoise, noise, schedule, steps, sampler or SmoothedDDIM(), on_step)


SYSTEM = System(
    name="control_video",
    paper="Zhang et al. 2023, ControlVideo: Training-free Controllable Text-to-Video Generation",
    description="an image model and its ControlNet make video without training: attention of all frames to all, "
    "smoothing, key frames",
    inputs=("text", "control pictures"),
    stages=(),
    tiny=tiny,
    paper_size=paper_size,
    published={"unet": 859_520_964},
    unpublished="the paper has no network of its own; the U-Net is Stable Diffusion 1.5's",
)
