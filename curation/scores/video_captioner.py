"""The clip's caption: VideoBLIP, BLIP-2 that sees several frames (Blattmann et al. 2023, appendix C)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.config import WeightSettings
from curation.scores.accelerator import COMPUTE, Halving
from curation.scores.base import ClipFrames, Column, Resources, Scorer
from curation.weights import resolve, svd_models

if TYPE_CHECKING:  # torch takes seconds to import: only the process that scores pays for it
    from curation.scores.language_models import VideoBlip

BEAMS = 4
MAX_NEW_TOKENS = 40


class VideoCaption(Scorer):
    """`caption_video`, from the eight frames that the decode spread over the clip.

    Beam search draws no random numbers: the same frames give the same caption.
    """

    name = "video_captioner"
    version = 2  # 1 saw first, middle and last frame
    sees = ("uniform",)
    batch_size = 64  # a step of the search takes little longer for so many clips than for half of them

    def __init__(self, weights: WeightSettings | None = None, prompt: str = "") -> None:
        self.weights = weights or WeightSettings()
        self.prompt = prompt
        self.resources = Resources(cpus=1, gpus=0.4, memory_gb=18)
        self._halving = Halving(self.batch_size)
        self._captioner: VideoBlip | None = None

    @property
    def columns(self) -> Sequence[Column]:
        return [Column("caption_video", pa.string(), "VideoBLIP's caption of eight frames")]

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        return {
            "method": "VideoBLIP",
            "frames": "8 evenly spread",
            "prompt": self.prompt,
            "beams": BEAMS,
            "max_new_tokens": MAX_NEW_TOKENS,
            "compute": COMPUTE,
            **resolve(svd_models(self.weights)["video_captioner"], self.weights.folder).identity("model"),
        }

    @property
    def options(self) -> Mapping[str, Any]:
        return {"profile": "svd", "weights.video_captioner": self.weights.video_captioner}

    def load(self) -> None:
        """Raises MissingWeightsError, and ValueError for an incomplete checkpoint."""
        from curation.scores.encoders import limit_threads
        from curation.scores.language_models import VideoBlip

        limit_threads(self.resources.cpus)
        self._captioner = VideoBlip(resolve(svd_models(self.weights)["video_captioner"], self.weights.folder).path)

    def score(self, clips: Sequence[ClipFrames], known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Raises RuntimeError before `load`, ValueError where there is no such frame or the model says nothing."""
        if not all(clip.uniform for clip in clips):
            raise ValueError("the clip has no frames spread over it: the decode leaves them in the svd profile alone")
        captions = self._halving(self._caption, [clip.uniform for clip in clips])
        if not all(captions):
            raise ValueError("the caption is empty")
        return [{"caption_video": caption} for caption in captions]

    def _caption(self, clips: Sequence[Sequence[np.ndarray]]) -> list[str]:
        if self._captioner is None:
            raise RuntimeError("load() comes first")
        return self._captioner.caption(clips, self.prompt, BEAMS, MAX_NEW_TOKENS)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_captioner": None}
