"""RAFT (Teed and Deng 2020) through torchvision: exact optical flow also where much moves."""

import functools
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from curation.scores.accelerator import Halving, device, uploaded

if TYPE_CHECKING:
    import torch

UPDATES = 12  # of the recurrent unit, as torchvision's networks are evaluated
_STRIDE = 8  # the encoder's; sides are filled up to multiples of it
_LARGE = 64  # channels of the first layer; the small network has 32
_BATCH = 64  # pairs; of 256 x 144: correlation volumes of 120 MB

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
    """RAFT with weights from a file: torchvision's, large or small, or its authors' (large).

    The network's own forward, less what nobody asks for: a picture that is in two pairs is encoded once, and only the
    last of the flows is enlarged. The result is the same.
    """

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

        All pictures are uint8 grey (h, w) of one size of at least 128 x 128. Computed in single precision, on a card as
        far as its convolutions have it (TF32). Raises ValueError on pictures that do not fit together,
        torch.OutOfMemoryError if one pair does not fit on the card.
        """
        return list(self._flows(pairs, None))

    def maps(self, pairs: Sequence[Pair], size: tuple[int, int]) -> Iterator[np.ndarray]:
        """The same, reduced to `size` (width, height) as `cv2.resize` does by area: float32 (height, width, 2).

        A card reduces, so little comes back; it works on the next pairs while the caller uses these. Raises the same,
        when it is iterated.
        """
        return self._flows(pairs, size)

    def _flows(self, pairs: Sequence[Pair], size: tuple[int, int] | None) -> Iterator[np.ndarray]:
        shapes = {picture.shape for pair in pairs for picture in pair}
        if len(shapes) > 1 or any(len(shape) != 2 or min(shape) < 128 for shape in shapes):
            raise ValueError(f"RAFT needs grey pictures of one size of 128 x 128 or more, not {sorted(shapes)}")
        coming: deque[_Coming] = deque()
        for at in range(0, len(pairs), _BATCH):
            coming.append(_Coming(self._halving(lambda some: self._batch(some, size), pairs[at : at + _BATCH])))
            if len(coming) > 1:
                yield from coming.popleft().arrived()
        while coming:
            yield from coming.popleft().arrived()

    def _batch(self, pairs: Sequence[Pair], size: tuple[int, int] | None) -> Sequence["torch.Tensor"]:
        import torch

        height, width = pairs[0][0].shape
        pictures = {id(p): p for pair in pairs for p in pair}
        number = {key: i for i, key in enumerate(pictures)}
        index = np.array([[number[id(p)] for p in pair] for pair in pairs], np.uint8)  # _BATCH is far below 128
        with torch.inference_mode():
            first, second = uploaded([*index.T], self.device).long()
            flow = self.flow(self._pixels(list(pictures.values())), first, second)[:, :, :height, :width]
            if size is not None:
                across, down = (area_weights(n, m, self.device) for n, m in zip((width, height), size, strict=True))
                flow = down @ flow @ across.T
            return flow.permute(0, 2, 3, 1).contiguous().unbind()

    def _pixels(self, pictures: Sequence[np.ndarray]) -> "torch.Tensor":
        """Grey pictures as three equal channels in -1..1, (n, 3, h', w'), sides filled up with what lies on the rim."""
        from torch.nn.functional import pad

        grey = uploaded(pictures, self.device).float().div_(127.5).sub_(1)[:, None]
        height, width = grey.shape[-2:]
        return pad(grey, (0, -width % _STRIDE, 0, -height % _STRIDE), mode="replicate").expand(-1, 3, -1, -1)

    def flow(self, pixels: "torch.Tensor", first: "torch.Tensor", second: "torch.Tensor") -> "torch.Tensor":
        """Flow (n, 2, h, w) of `pixels[first]` to `pixels[second]`, given (m, 3, h, w) and two indices (n,)."""
        from torchvision.models.optical_flow.raft import make_coords_grid, upsample_flow

        net = self.net
        features = net.feature_encoder(pixels)
        net.corr_block.build_pyramid(features[first], features[second])
        seen = net.context_encoder(pixels[first])
        hidden, context = seen.tensor_split([net.update_block.hidden_state_size], dim=1)
        hidden, context = hidden.tanh(), context.relu()
        still = make_coords_grid(len(first), *seen.shape[-2:], device=str(self.device))
        moved = still
        with self.device:  # each update makes small tensors: made on the host, they would wait for the card
            for _ in range(UPDATES):
                correlation = net.corr_block.index_pyramid(centroids_coords=moved)
                hidden, change = net.update_block(hidden, context, correlation, moved - still)
                moved = moved + change
        mask = None if net.mask_predictor is None else net.mask_predictor(hidden)
        return upsample_flow(moved - still, mask)


class _Coming:
    """Results of one batch on their way to host memory."""

    def __init__(self, rows: Sequence["torch.Tensor"]) -> None:
        import torch

        results = torch.stack(list(rows))
        self._event = torch.cuda.Event() if results.is_cuda else None
        self._results = results
        if self._event:
            self._results = torch.empty(results.shape, dtype=results.dtype, pin_memory=True)
            self._results.copy_(results, non_blocking=True)
            self._event.record()

    def arrived(self) -> Iterable[np.ndarray]:
        if self._event:
            self._event.synchronize()
        return self._results.numpy()


@functools.cache
def area_weights(length: int, cells: int, on: "torch.device") -> "torch.Tensor":
    """(cells, length): what of each pixel goes into each cell in OpenCV's reduction by area, asked of OpenCV itself."""
    import torch

    points = np.eye(length, dtype=np.float32)
    return torch.from_numpy(cv2.resize(points, (cells, length), interpolation=cv2.INTER_AREA).T.copy()).to(on)


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
