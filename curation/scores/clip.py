"""What CLIP sees in a clip: its embedding, LAION's aesthetic score, and how well the captions fit.

Blattmann et al. 2023, appendix C: first, middle and last frame, each on its own, then the mean. The similarity of a
caption, the mean of its cosines with the three frames, is its dot product with the mean of their unit features, which
is what `embedding` holds: so the pictures are encoded once, before there are captions, and a clip whose caption failed
keeps its embedding and aesthetic score.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.config import WeightSettings
from curation.scores.accelerator import COMPUTE, Halving
from curation.scores.base import ClipFrames, Column, Resources, Scorer
from curation.weights import resolve, svd_models

if TYPE_CHECKING:  # torch takes seconds to import: only the process that scores pays for it
    from torch import Tensor, nn

    from curation.scores.openclip import OpenClip

FRAMES = 64  # a card computes on so many while the host prepares the next
TEXTS = 192
SIMILARITIES = {"clip_image": "caption_image", "clip_video": "caption_video", "clip_fused": "caption_fused"}


class ClipScores(Scorer):
    """CLIP embedding and LAION aesthetic score of a clip, from its first, middle and last frame."""

    name = "clip"
    version = 1
    sees = ("frames",)
    batch_size = 64

    def __init__(self, weights: WeightSettings | None = None) -> None:
        self.weights = weights or WeightSettings()
        self.resources = Resources(cpus=1, gpus=0.1, memory_gb=3)
        self._halving = Halving(FRAMES)
        self._clip: OpenClip | None = None
        self._head: nn.Module | None = None

    @property
    def columns(self) -> Sequence[Column]:
        return [
            Column("embedding", pa.list_(pa.float16()), "mean of the three frames' unit-length CLIP features"),
            Column("aesthetic", pa.float32(), "LAION aesthetic score, mean of three frames", "about 1..10"),
            Column("aesthetic_frames", pa.list_(pa.float32()), "of first, middle and last frame", "about 1..10"),
        ]

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        models = svd_models(self.weights)
        clip = resolve(models["clip"], self.weights.folder).identity("model")
        head = resolve(models["aesthetic_head"], self.weights.folder).identity("head")
        return {"method": "open_clip", "frames": "first, middle, last", "compute": COMPUTE, **clip, **head}

    @property
    def options(self) -> Mapping[str, Any]:
        heads = {"weights.aesthetic_head": self.weights.aesthetic_head}
        return {"profile": "svd", "weights.clip": self.weights.clip, **heads}

    def load(self) -> None:
        """Raises MissingWeightsError, and ValueError if the head does not fit the model's features."""
        from curation.scores.encoders import limit_threads
        from curation.scores.openclip import aesthetic_head, clip_model

        limit_threads(self.resources.cpus)
        models = svd_models(self.weights)
        clip = clip_model(resolve(models["clip"], self.weights.folder).path)
        dim = clip.text_features([""]).shape[1]
        head = aesthetic_head(resolve(models["aesthetic_head"], self.weights.folder).file(), dim)
        self._clip, self._head = clip, head.to(clip.device)

    def score(self, clips: Sequence[ClipFrames], known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Raises RuntimeError before `load`, ValueError for a clip without frames."""
        if self._clip is None or self._head is None:
            raise RuntimeError("load() comes first")
        if not all(clip.frames for clip in clips):
            raise ValueError("the clip has no frames")
        import torch

        seen = self._halving(self._measure, [frame for clip in clips for frame in clip.frames])
        numbers = torch.stack(seen).cpu().numpy()
        rows, at = [], 0
        for clip in clips:
            features, beauty = numbers[at : at + len(clip.frames), :-1], numbers[at : at + len(clip.frames), -1]
            at += len(clip.frames)
            rows.append(
                {
                    "embedding": features.mean(axis=0).astype(np.float16),
                    "aesthetic": float(beauty.mean()),
                    "aesthetic_frames": beauty.tolist(),
                }
            )
        return rows

    def _measure(self, frames: Sequence[np.ndarray]) -> "Sequence[Tensor]":
        """Features and aesthetic score of each frame, float32 (dim + 1,), left where they were computed."""
        import torch

        assert self._clip is not None and self._head is not None  # noqa: PT018 - for the type checker, see score
        features = self._clip.picture_features(frames)
        with torch.inference_mode():
            return torch.cat([features, self._head(features)], dim=1).unbind()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_clip": None, "_head": None}


class ClipSimilarity(Scorer):
    """Mean cosine between the three frames and each of the three captions, from `embedding`: no picture is seen."""

    name = "clip_similarity"
    version = 1
    sees = ()
    requires = ("embedding", *SIMILARITIES.values())
    batch_size = 64

    def __init__(self, weights: WeightSettings | None = None) -> None:
        self.weights = weights or WeightSettings()
        self.resources = Resources(cpus=1, gpus=0.05, memory_gb=3)
        self._halving = Halving(TEXTS)
        self._clip: OpenClip | None = None

    @property
    def columns(self) -> Sequence[Column]:
        return [
            Column(name, pa.float32(), f"cosine of the CLIP features of {caption} and a frame, mean of three", "-1..1")
            for name, caption in SIMILARITIES.items()
        ]

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        clip = resolve(svd_models(self.weights)["clip"], self.weights.folder)
        return {"method": "open_clip", "frames": "first, middle, last", "compute": COMPUTE, **clip.identity("model")}

    @property
    def options(self) -> Mapping[str, Any]:
        return {"profile": "svd", "weights.clip": self.weights.clip}

    def load(self) -> None:
        """Raises MissingWeightsError."""
        from curation.scores.encoders import limit_threads
        from curation.scores.openclip import clip_model

        limit_threads(self.resources.cpus)
        self._clip = clip_model(resolve(svd_models(self.weights)["clip"], self.weights.folder).path)

    def score(self, clips: Sequence[ClipFrames], known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Half precision of `embedding` costs at most 5e-4 of a cosine. Raises RuntimeError before `load`."""
        if self._clip is None:
            raise RuntimeError("load() comes first")
        texts = [columns[caption] for columns in known for caption in SIMILARITIES.values()]
        features = np.stack(self._halving(self._encode, texts)).reshape(len(known), len(SIMILARITIES), -1)
        pictures = np.stack([np.asarray(columns["embedding"], np.float32) for columns in known])
        cosines = np.einsum("ncd,nd->nc", features, pictures).tolist()
        return [dict(zip(SIMILARITIES, row, strict=True)) for row in cosines]

    def _encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        assert self._clip is not None  # for the type checker, see score
        return list(self._clip.text_features(texts).cpu().numpy())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_clip": None}
