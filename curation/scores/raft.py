"""RAFT (Teed and Deng 2020) through torchvision: exact optical flow also where much moves."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from curation.scores.accelerator import Halving, device

if TYPE_CHECKING:
    import torch

UPDATES = 12  # of the recurrent unit, as torchvision's networks are evaluated
_STRIDE = 8  # the encoder's; sides are filled up to multiples of it
_LARGE = 64  # channels of the first layer; the small network has 32
_BATCH = 64  # pairs of 256 x 144: correlation volumes of 120 MB

Pair = tuple[np.ndarray, np.ndarray]

# The authors' names of layers -> torchvision's, who ported the same network.
_RENAMED = (
    (r"^module\.", ""),
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"(encoder)\.conv1\.", r"\1.convnormrelu.0."),
    (r"(encoder)\.norm1\.", r"\1.convnormrelu.1."),
    (r"(encoder)\.conv2\.", r"\1.conv."),
    (r"(layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"(layer\d\.\d)\.norm(\d)\.", r"\1.convnormrelu\2.1."),
    (r"^update_block\.encoder\.conv(c|f)(\d)\.", lambda m: f"update_block.motion_encoder.conv{_PART[m[1]]}{m[2]}.0."),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"^update_block\.gru\.conv(z|r|q)(\d)\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)
_PART = {"c": "corr", "f": "flow"}


class Raft:
    """RAFT with weights from a file: torchvision's, large or small, or its authors' (large)."""

    def __init__(self, weights: Path) -> None:
        import torch
        from torchvision.models.optical_flow import raft_large, raft_small

        state = renamed(torch.load(weights, map_location="cpu", weights_only=True))
        large = state["feature_encoder.convnormrelu.0.weight"].shape[0] == _LARGE
        net: Any = raft_large() if large else raft_small()
        net.load_state_dict(state)
        self.device = device()
        self.net = net.eval().to(self.device)
        self._halving = Halving(_BATCH)

    def __call__(self, pairs: Sequence[Pair]) -> list[np.ndarray]:
        """Flow from the first to the second of each pair: float32 (h, w, 2), x right and y down, in pixels.

        All pictures are uint8 grey (h, w) of one size of at least 128 x 128. Computed in single precision. Raises
        ValueError on pictures that do not fit together, torch.OutOfMemoryError if one pair does not fit on the card.
        """
        shapes = {picture.shape for pair in pairs for picture in pair}
        if len(shapes) > 1 or any(len(shape) != 2 or min(shape) < 128 for shape in shapes):
            raise ValueError(f"RAFT needs grey pictures of one size of 128 x 128 or more, not {sorted(shapes)}")
        return self._halving(self._batch, pairs)

    def _batch(self, pairs: Sequence[Pair]) -> list[np.ndarray]:
        import torch

        height, width = pairs[0][0].shape
        with torch.inference_mode():
            first, second = (self._uploaded([pair[i] for pair in pairs]) for i in (0, 1))
            flow = self.net(first, second, num_flow_updates=UPDATES)[-1]
            return list(flow[:, :, :height, :width].permute(0, 2, 3, 1).cpu().numpy())

    def _uploaded(self, pictures: Sequence[np.ndarray]) -> "torch.Tensor":
        """Grey pictures as three equal channels in -1..1, (n, 3, h', w'), sides filled up with what lies on the rim."""
        import torch

        height, width = pictures[0].shape
        pad = -height % _STRIDE, -width % _STRIDE
        filled = [cv2.copyMakeBorder(p, 0, pad[0], 0, pad[1], cv2.BORDER_REPLICATE) for p in pictures]
        grey = torch.from_numpy(np.stack(filled)).to(self.device).float().div_(127.5).sub_(1)
        return grey[:, None].expand(-1, 3, -1, -1).contiguous()


def renamed(state: dict[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """A checkpoint under torchvision's names of layers, whichever of the two it came under."""
    if "feature_encoder.convnormrelu.0.weight" in state:
        return state
    out = {}
    for theirs, value in state.items():
        name = theirs
        for pattern, to in _RENAMED:
            name = re.sub(pattern, to, name)
        # in a block that halves the picture, norm3 is another name of downsample.1
        if ".norm3." not in theirs:
            out[name] = value
    return out
