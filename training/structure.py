"""What Gen-1 and a control branch are shown of a picture: its structure. With no depth estimator at hand it is the
brightness, blurred; and Gen-1's content is the caption, in place of an image's embedding."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.diffusion.losses import Loss
from models.diffusion.parameterization import Network, Parameterization
from models.diffusion.schedules import Schedule
from models.systems import gen1
from training.conditioning import Told

LEVEL = 2
"""How often the brightness is blurred where nothing says otherwise: errors are measured and control is shown at it."""


def blurred_brightness(pixels: Tensor, level: int = LEVEL) -> Tensor:
    """(b, 1, [t,] h, w) of `pixels` (b, 3, [t,] h, w): the mean of the colours, blurred `level` times (0 to 7)."""
    return gen1.blurred(pixels.mean(1, keepdim=True), torch.full((len(pixels),), level))


def content(told: Told) -> Tensor:
    """(b, d): the mean of a caption's token states."""
    mask = told["text_mask"][..., None]
    return (told["text"] * mask).sum(1) / mask.sum(1).clamp(min=1)


def edited(told: Told, pixels: Tensor, level: int = LEVEL) -> Told:
    """What Gen-1's networks are told of captions and `pixels`: for images (b, 3, h, w) the content alone, which its
    image network takes as a text of one token; for video (b, 3, t, h, w) its structure too."""
    if pixels.ndim == 4:
        return {"text": content(told)[:, None]}
    blur = torch.full((len(pixels),), float(level), device=pixels.device)
    return {"content": content(told), "structure": blurred_brightness(pixels, level), "blur": blur}


def controlled(told: Told, pixels: Tensor, level: int = LEVEL) -> Told:
    """What a network with a control branch is told: its own structure as the picture to follow."""
    return {**told, "picture": blurred_brightness(pixels, level)}


@dataclass(frozen=True)
class AtAnyBlur:
    """Gen-1's last stage by any loss: the video's structure is blurred to a level drawn from 0 to 7. Images, which have
    no structure, as they are."""

    loss: Loss

    @property
    def schedule(self) -> Schedule:
        return self.loss.schedule

    @property
    def parameterization(self) -> Parameterization:
        return self.loss.parameterization

    def __call__(self, network: Network, x: Tensor, generator: torch.Generator, **told: Any) -> Tensor:
        """(b,); the structure that is told gives way to the drawn one."""
        if x.ndim == 4:
            return self.loss(network, x, generator, **told)
        structured = gen1.StructuredLoss(gen1.LEVELS, self.loss)
        return structured(network, x, generator, depth=x.mean(1, keepdim=True), content=told["content"])
