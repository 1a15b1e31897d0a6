"""An image network as one of video without a new weight: frames in its batch, its self-attention across them, and a
control branch beside it."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models.diffusion.guidance import same_rows
from models.diffusion.parameterization import label_like
from models.diffusion.schedules import DDPMSchedule, Schedule
from models.layers.frame_attention import Reach, frame_attention

STABLE_DIFFUSION = DDPMSchedule("scaled_linear", 0.00085, 0.012, spacing="leading", offset=1)
"""The schedule that Stable Diffusion was trained with and is sampled on (Rombach et al. 2022)."""


def check_control(z: Tensor, told: Mapping[str, Any]) -> None:
    """Raises ValueError where a tensor of `told` has not a row for each video of `z` (b, c, t, h, w), or the control's
    `picture` not a frame for each of its frames: one would control them all."""
    same_rows(len(z), told)
    picture = told.get("picture")
    if picture is not None and picture.shape[2] < z.shape[2]:
        raise ValueError(f"{picture.shape[2]} control pictures are too few for {z.shape[2]} frames")


class PerFrame(nn.Module):
    """A network of pictures `b c h w`, such as `SDUNet` or its `ControlNet`, on each frame of `b c t h w`.

    What else it is told has a row for each video. Residuals of a control branch stay apart, `(b t) c h w`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, z: Tensor, noise: Tensor, picture: Tensor | None = None, extra: Tensor | None = None, **told: Any
    ) -> Any:
        """`picture` (b, c, t, h, w), of any size, goes with the frames; `extra`, of z's size, are further channels."""
        if picture is not None:
            told["picture"] = picture.transpose(1, 2).flatten(0, 1)
        if extra is not None:
            z = torch.cat([z, extra], dim=1)
        out = self.network(z.transpose(1, 2).flatten(0, 1), noise, **told)
        return out.unflatten(0, (len(z), -1)).transpose(1, 2) if isinstance(out, Tensor) else out


class CrossFrame(nn.Module):
    """A network whose self-attention looks at the frames in `reach`, and what a control branch adds to each frame.

    `network(z, noise, attend=..., down_residuals=..., mid_residual=..., **told)` takes `b c t h w`: a `UNet`, or any
    `PerFrame` network with these arguments. `control(z, noise, picture=..., **told)` gives both residuals.
    """

    def __init__(self, network: nn.Module, reach: Reach, control: nn.Module | None = None) -> None:
        super().__init__()
        self.network, self.control = network, control
        self.reach: Reach = reach

    def forward(self, z: Tensor, noise: Tensor, picture: Tensor | None = None, **told: Any) -> Tensor:
        """`picture` (b, c, >= t, h, w): the control's frames, of which as many as there are in `z` are taken. Without
        one, nothing is controlled. `told` may have an `attend` that takes the reach's place.
        Raises ValueError for a picture that there is no control branch for, for fewer pictures than frames, and where
        something told has not a row for each video."""
        check_control(z, {**told, "picture": picture})
        attend = told.pop("attend", None) or partial(frame_attention, frames=z.shape[2], reach=self.reach)
        if picture is not None:
            if self.control is None:
                raise ValueError("a picture to control by is given, but no control branch")
            down, mid = self.control(z, noise, picture=picture[:, :, : z.shape[2]], **told)
            told |= {"down_residuals": down, "mid_residual": mid}
        return self.network(z, noise, attend=attend, **told)


class Timestep(nn.Module):
    """A network that is told the time of `schedule`, as DDPM's are, called with c_noise = ln(sigma / alpha) / 4."""

    def __init__(self, network: nn.Module, schedule: Schedule) -> None:
        super().__init__()
        self.network, self.schedule = network, schedule

    def forward(self, z: Tensor, noise: Tensor, **told: Any) -> Any:
        return self.network(z, label_like(self.schedule.time((4 * noise.double()).exp()), noise), **told)
