"""A diffusion transformer over spacetime patches, as OpenAI describes Sora (Brooks et al. 2024, "Video generation
models as world simulators"): images and video of any length and shape, packed into one sequence.

The report gives no sizes, schedule or loss. Here: the widths of DiT-XL/2 (Peebles and Xie 2023, table 1), text by
cross-attention, and flow matching with logit-normal times (Esser et al. 2024).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.dit import DiT, DiTConfig
from models.diffusion.guidance import Guided, same_rows
from models.diffusion.losses import DenoisingLoss, LogitNormalTimes
from models.diffusion.parameterization import Denoiser, FlowPrediction, label_like
from models.diffusion.samplers import Euler, OnStep
from models.diffusion.samplers import sample as run
from models.diffusion.schedules import FlowSchedule
from models.layers.patches import pack
from models.systems.recipe import Stage, System, everything

LOSS = DenoisingLoss(FlowSchedule(), FlowPrediction(), LogitNormalTimes())


@dataclass(frozen=True)
class PackedLoss:
    """A denoising loss on samples of any sizes in one sequence."""

    loss: DenoisingLoss = field(default_factory=lambda: LOSS)

    def __call__(
        self, network: DiT, videos: Sequence[Tensor], generator: torch.Generator, length: int | None = None, **told: Any
    ) -> Tensor:
        """Loss per sample, (s,), of clean images and videos (c, t, h, w), padded to `length` tokens where given.

        `told` are the arguments of `DiT.packed`, one row a sample. Raises ValueError for another number of rows.
        """
        same_rows(len(videos), told)
        device = videos[0].device
        t = self.loss.times(len(videos), self.loss.schedule, generator).to(device)
        alpha, sigma = self.loss.schedule.alpha_sigma(t)
        c = self.loss.parameterization.coefficients(alpha, sigma)
        noisy, targets = [], []
        for x, a, s, inp in zip(videos, alpha, sigma, c.inp, strict=True):
            eps = torch.randn(x.shape, dtype=x.dtype, generator=generator, device=generator.device).to(device)
            noisy.append(inp.to(x) * (a.to(x) * x + s.to(x) * eps))
            targets.append(self.loss.parameterization.target(x, eps, a, s))
        packed, patch = pack(noisy, network.config.patch, length), network.config.patch
        out = packed.unpack(network.packed(packed, label_like(c.noise, videos[0]), **told), patch)
        error = torch.stack([(o - target).square().mean() for o, target in zip(out, targets, strict=True)])
        return (
            error if self.loss.weighting is None else (self.loss.weighting(alpha, sigma) * c.out**2).to(error) * error
        )


def sample(
    network: DiT,
    shape: Sequence[int],
    generator: torch.Generator,
    steps: int = 30,
    scale: float = 1.0,
    shift: float = 3.0,
    on_step: OnStep | None = None,
    **told: Tensor,
) -> Tensor:
    """Images or video of `shape` (b, c, [t,] h, w) by Euler's steps along the straight path, moved by `shift` towards
    noise; `told` are the arguments of `DiT.forward`, and at a `scale` above 1 guidance is away from no text.

    Raises ValueError for a scale without text, and where something told has not b rows."""
    if "text" not in told and scale != 1:
        raise ValueError(f"guidance of {scale:g} needs a text to guide by")
    schedule = FlowSchedule(shift)
    parameter = next(network.parameters())
    noise = torch.randn(*shape, generator=generator, device=generator.device, dtype=parameter.dtype).to(
        parameter.device
    )
    without = dict(told)
    if "text" in told:
        mask = told.get("text_mask", torch.ones(told["text"].shape[:2], dtype=torch.bool, device=noise.device))
        told, without = told | {"text_mask": mask}, told | {"text_mask": torch.zeros_like(mask)}
    denoise = Guided(Denoiser(network, FlowPrediction(), schedule), told, without, scale)
    return run(denoise, noise, schedule, steps, Euler(), on_step)


def tiny() -> nn.ModuleDict:
    """For tests: latents of 4 channels in patches of 1 x 2 x 2."""
    return nn.ModuleDict({"dit": DiT(DiTConfig(width=48, depth=2, head_dim=12, text_dim=16))})


def paper_size() -> nn.ModuleDict:
    """DiT-XL/2's width, depth and heads, with T5-XXL's text."""
    return nn.ModuleDict({"dit": DiT(DiTConfig(width=1152, depth=28, head_dim=72, text_dim=4096))})


SYSTEM = System(
    name="dit",
    paper="Brooks et al. 2024, Video generation models as world simulators (Sora); Peebles and Xie 2023, DiT",
    description="a transformer over spacetime patches of images and video of any size, packed into one sequence",
    inputs=("text",),
    stages=(
        Stage("pretrain", "dit", everything, LOSS, ("text-images", "text-videos")),
        Stage("finetune", "dit", everything, LOSS, ("text-videos",), parent="pretrain"),
    ),
    tiny=tiny,
    paper_size=paper_size,
    unpublished="the report gives no sizes; these are the width, depth and heads of DiT-XL/2",
)
