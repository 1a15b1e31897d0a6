"""A control branch for `unet.UNet`, as ControlNet is one for Stable Diffusion's (`controlnet`; Zhang et al. 2023).

A copy of the network's encoder sees a picture beside the noisy one and adds to what the network carries across. Its
last convolutions are zero when new, so it changes nothing until it has learned to.
"""

import copy
from typing import Any

from torch import Tensor, nn

from models.backbones.unet import UNet
from models.layers.basics import zeroed
from models.layers.u_shape import skip_widths


class ControlBranch(nn.Module):
    """(z, noise, picture) to (down_residuals, mid_residual) of the `UNet` that it was made of, which stays as it is.

    `channels` are the picture's. Frames are controlled one by one where that network has no temporal layers.
    """

    def __init__(self, network: UNet, channels: int = 3) -> None:
        super().__init__()
        config, like = network.config, next(network.parameters())
        self.encoder = copy.deepcopy(network)
        for part in ("up", "grow", "temporal_up", "norm", "head", "shortcut"):
            delattr(self.encoder, part)
        widths = [config.width * m for m in config.multipliers]
        self.picture = nn.Sequential(
            nn.Conv2d(channels * config.patch**2, widths[0], 3, padding=1),
            nn.SiLU(),
            zeroed(nn.Conv2d(widths[0], widths[0], 3, padding=1)),
        )
        self.down = nn.ModuleList(zeroed(nn.Conv2d(width, width, 1)) for width in skip_widths(widths, config.blocks))
        self.mid = zeroed(nn.Conv2d(widths[-1], widths[-1], 1))
        self.to(device=like.device, dtype=like.dtype)

    def forward(
        self, x: Tensor, noise: Tensor, picture: Tensor, scale: float = 1.0, **told: Any
    ) -> tuple[list[Tensor], Tensor]:
        """`x` (b, c, [t,] h, w) and `picture` (b, channels, [t,] h, w); `told` as in `UNet.context`. All residuals are
        `(b t) c h w` and multiplied by `scale`."""
        network = self.encoder
        context = network.context(x, noise, **told)
        z = network.stem(network.folded(x), context.frames) + self.picture(network.folded(picture))
        skips, _, z, _ = network.encode(z, context)
        return [conv(skip) * scale for conv, skip in zip(self.down, skips, strict=True)], self.mid(z) * scale
