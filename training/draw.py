"""How each system draws a video: from noise, of a source video, or of an image network without training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.diffusion.guidance import Guided
from models.diffusion.losses import Loss, denoiser
from models.diffusion.samplers import DDIM, Denoise, Heun, OnStep, sample
from models.diffusion.schedules import CosineSchedule, Schedule
from models.systems import control_video, text2video_zero, tune_a_video
from training.conditioning import Told
from training.config import SampleConfig
from training.names import SamplerName, SampleSystem, SystemName
from training.networks import Controlled


@dataclass(frozen=True)
class Scene:
    """What a sample is made of. `noise` is unit, (1, 3, [t,] h, w); `told` is the prompt, `empty` none; `source` the
    video that is made anew, of noise's shape, or zeros."""

    config: SampleConfig
    network: nn.Module
    loss: Loss
    told: Told
    empty: Told
    scale: float
    noise: Tensor
    source: Tensor
    generator: torch.Generator
    on_step: OnStep

    def guided(self, network: nn.Module) -> Guided:
        """Its estimate, away from no prompt."""
        return Guided(denoiser(self.loss, network), self.told, self.empty, self.scale)


Draw = Callable[[Scene], Tensor]
"""A scene to its pixels, of noise's shape."""


def from_noise(scene: Scene) -> Tensor:
    """By the network's own layers over time, if it has some."""
    sampler = Heun() if scene.config.sampler == SamplerName.heun else DDIM()
    guided, schedule = scene.guided(scene.network), scene.loss.schedule
    return sample(guided, scene.noise, schedule, scene.config.steps, sampler, scene.on_step)


@dataclass(frozen=True)
class Preserving(CosineSchedule):
    """The cosine schedule, from where noise is 80 times the signal, EDM's highest. Whatever the formulation, a video's
    noise is found on it: a step of inversion calls the network with what there is at the step's other end, which is of
    the right size only where levels preserve variance."""

    def times(self, steps: int, device: torch.device | str | None = None) -> Tensor:
        return super().times(steps, device) * self.time(torch.tensor(80.0, dtype=torch.float64))

    def denoiser(self, denoise: Guided, own: Schedule) -> Denoise:
        """`denoise` of the schedule `own`, called with what is of this one: the same noise for the signal."""

        def called(z: Tensor, t: Tensor) -> Tensor:
            alpha, sigma = self.alpha_sigma(t)
            there = own.time(sigma / alpha)
            return denoise(z * (own.alpha_sigma(there)[0] / alpha).to(z), there)

        return called


def made_anew(scene: Scene) -> Tensor:
    """Tune-A-Video: the source's noise, found without a prompt, drawn after the prompt."""
    schedule, steps = Preserving(), scene.config.steps
    unprompted = Guided(denoiser(scene.loss, scene.network), scene.empty, scene.empty)
    before, after = (schedule.denoiser(d, scene.loss.schedule) for d in (unprompted, scene.guided(scene.network)))
    noise = tune_a_video.invert(before, scene.source, schedule, steps)
    return DDIM()(after, noise, schedule, schedule.times(steps, noise.device), scene.on_step)


def moved(scene: Scene) -> Tensor:
    """Text2Video-Zero: its motion is at the paper's levels, the second and the fifth of 50 steps, of however many."""
    steps, (image, _) = scene.config.steps, _parts(scene.network)
    motion = text2video_zero.Motion(
        scene.config.strength, start=max(1, round(0.04 * steps)), steps=max(1, round(0.06 * steps))
    )
    sampler = Heun() if scene.config.sampler == SamplerName.heun else DDIM()
    return text2video_zero.sample(
        scene.guided(text2video_zero.network(image)), scene.noise[:, :, :1], scene.loss.schedule, steps,
        scene.noise.shape[2], scene.generator, motion, sampler, on_step=scene.on_step,
    )  # fmt: skip


def together(scene: Scene) -> Tensor:
    """ControlVideo: smoothed where 20 and 19 of 50 steps are left, of however many. Frames that follow a video share
    their noise, as the authors' do; without one they would then be a still, so each has its own."""
    frames, left = scene.noise.shape[2], max(1, round(0.4 * scene.config.steps))
    noise = scene.noise[:, :, :1] if "picture" in scene.told else scene.noise
    guided = scene.guided(control_video.ControlVideo(*_parts(scene.network)))
    smoothed = control_video.SmoothedDDIM(at=(left, left - 1))
    return control_video.sample(guided, noise, frames, scene.loss.schedule, scene.config.steps, smoothed, scene.on_step)


def _parts(network: nn.Module) -> tuple[nn.Module, nn.Module | None]:
    """The image network and its control branch, if it has one."""
    return (network.image, network.control) if isinstance(network, Controlled) else (network, None)


UNTRAINED: Mapping[SampleSystem, Draw] = {SampleSystem.text2video_zero: moved, SampleSystem.control_video: together}
OWN: Mapping[SystemName, Draw] = {SystemName.tune_a_video: made_anew, SystemName.control_video: together}
"""What is not drawn from noise."""


def draw_of(chosen: SampleSystem, system: SystemName, grown: bool) -> Draw:
    """How a checkpoint of `system`, `grown` or an image stage's, is drawn from."""
    return UNTRAINED.get(chosen) or (OWN.get(system, from_noise) if grown else from_noise)
