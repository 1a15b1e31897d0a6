"""Do picture and caption agree: cosine of the ConSE picture embedding with MiniLM's embedding of the caption.

Not CLIP, and not called so. The embedded captions are made from the same tags as the picture embedding, so these scores
mostly say how sure the tags were; captions of other origin are judged on their merits.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.scores.base import ClipFrames, Column, Resources, Scorer
from curation.weights import MINILM, resolve

if TYPE_CHECKING:  # torch takes seconds to import: only the process that scores pays for it
    from curation.scores.encoders import SentenceEncoder

CAPTIONS = {"conse_image": "caption_image", "conse_video": "caption_video", "conse_fused": "caption_fused"}


class Similarity(Scorer):
    """ConSE similarity (Norouzi et al. 2013) between a clip and each of its three captions."""

    name = "similarity"
    version = 1
    requires = ("embedding", *CAPTIONS.values())
    resources = Resources(cpus=1, memory_gb=0.2)

    def __init__(self, folder: str = "") -> None:
        self.folder = folder
        self._encoder: SentenceEncoder | None = None

    @property
    def columns(self) -> Sequence[Column]:
        return [
            Column(name, pa.float32(), f"cosine of the ConSE picture embedding and {caption}", "-1..1")
            for name, caption in CAPTIONS.items()
        ]

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        return {
            "method": "ConSE",
            "sentences": MINILM.name,
            "sentences_sha256": resolve(MINILM, self.folder).sha256(),
        }

    @property
    def options(self) -> Mapping[str, Any]:
        return {"profile": "embedded"}

    def load(self) -> None:
        from curation.scores.encoders import limit_threads, sentence_encoder

        limit_threads(self.resources.cpus)
        self._encoder = sentence_encoder(self.folder)

    def score(self, clips: Sequence[ClipFrames], known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Raises RuntimeError before `load`."""
        if self._encoder is None:
            raise RuntimeError("load() comes first")
        rows = []
        for columns in known:
            picture = np.asarray(columns["embedding"], np.float32)
            picture /= np.linalg.norm(picture)  # half precision left it almost at unit length
            # One sentence at a time: padding in a batch moves the last digits.
            rows.append({n: float(picture @ self._encoder.encode([columns[c]])[0]) for n, c in CAPTIONS.items()})
        return rows

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_encoder": None}
