"""The picture's caption: CoCa on the middle frame (Blattmann et al. 2023, appendix C; Yu et al. 2022)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.config import WeightSettings
from curation.scores.accelerator import COMPUTE, Halving
from curation.scores.base import ClipFrames, Column, Resources, Scorer
from curation.weights import resolve, svd_models

if TYPE_CHECKING:  # torch takes seconds to import: only the process that scores pays for it
    from curation.scores.openclip import PictureCaptioner

BEAMS = 2  # what open_clip's default amounts to, see PictureCaptioner
MIN_LENGTH, MAX_LENGTH = 5, 30  # tokens, start and end included: open_clip's defaults


class CocaCaption(Scorer):
    """`caption_image`. Beam search draws no random numbers: the same frame gives the same caption."""

    name = "coca"
    version = 1
    sees = ("frames",)
    batch_size = 64  # a step of the search takes as long for one picture as for so many

    def __init__(self, weights: WeightSettings | None = None) -> None:
        self.weights = weights or WeightSettings()
        self.resources = Resources(cpus=1, gpus=0.1, memory_gb=5)
        self._halving = Halving(self.batch_size)
        self._captioner: PictureCaptioner | None = None

    @property
    def columns(self) -> Sequence[Column]:
        return [Column("caption_image", pa.string(), "CoCa's caption of the middle frame")]

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        return {
            "method": "open_clip CoCa",
            "search": "beams, mean log-probability a token",
            "beams": BEAMS,
            "min_length": MIN_LENGTH,
            "max_length": MAX_LENGTH,
            "compute": COMPUTE,
            **resolve(svd_models(self.weights)["coca"], self.weights.folder).identity("model"),
        }

    @property
    def options(self) -> Mapping[str, Any]:
        return {"profile": "svd", "weights.coca": self.weights.coca}

    def load(self) -> None:
        """Raises MissingWeightsError, and ValueError for a model that has no text decoder."""
        from curation.scores.encoders import limit_threads
        from curation.scores.openclip import PictureCaptioner

        limit_threads(self.resources.cpus)
        self._captioner = PictureCaptioner(resolve(svd_models(self.weights)["coca"], self.weights.folder).path)

    def score(self, clips: Sequence[ClipFrames], known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Raises RuntimeError before `load`, ValueError where there is no frame or the model says nothing."""
        if not all(clip.frames for clip in clips):
            raise ValueError("the clip has no frames")
        captions = self._halving(self._caption, [clip.frames[len(clip.frames) // 2] for clip in clips])
        if not all(captions):
            raise ValueError("the caption is empty")
        return [{"caption_image": caption} for caption in captions]

    def _caption(self, frames: Sequence[np.ndarray]) -> list[str]:
        if self._captioner is None:
            raise RuntimeError("load() comes first")
        return self._captioner.caption(frames, BEAMS, MIN_LENGTH, MAX_LENGTH)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_captioner": None}
