"""What is to be seen: ImageNet tags, and a picture embedding in the space of sentences (ConSE)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.scores.base import ClipFrames, Column, Resources, Scorer
from curation.weights import EFFICIENTNET, MINILM, resolve

if TYPE_CHECKING:  # torch takes seconds to import: only the process that scores pays for it
    from curation.scores.encoders import ImageClassifier, SentenceEncoder

TOP_K = 5
CONSE_T = 10  # classes that enter the embedding; Norouzi et al. found 10 best
SUBJECT_MIN = 0.15  # a class below this probability is not worth saying
SAME_MEANING = 0.5  # cosine above which two class names say nearly the same ("tiger cat", "Egyptian cat")


class ConSE:
    """Convex combination of semantic embeddings (Norouzi et al. 2013, eq. 4).

    A picture lies at the mean of the sentence embeddings of its likeliest class names, weighted by their
    probabilities, which puts pictures and captions into one space without having seen a pair of them.
    """

    def __init__(self, names: Sequence[str], encoder: "SentenceEncoder") -> None:
        self.names, self.encoder = names, encoder
        self._known: dict[int, np.ndarray] = {}

    def name_embedding(self, index: int) -> np.ndarray:
        """Unit float32 (384,). Each name is encoded alone and once, so the numbers do not depend on the batch."""
        if index not in self._known:
            self._known[index] = self.encoder.encode([self.names[index]]).reshape(-1)
        return self._known[index]

    def embed(self, probabilities: np.ndarray) -> np.ndarray:
        """Class probabilities (classes,) -> unit float32 (384,), from the CONSE_T likeliest classes."""
        top = _likeliest(probabilities, CONSE_T)
        mean = probabilities[top] @ np.stack([self.name_embedding(i) for i in top])
        return (mean / np.linalg.norm(mean)).astype(np.float32)

    def subjects(self, probabilities: np.ndarray) -> list[str]:
        """Names of at most two classes worth saying, likeliest first, none that repeats another's meaning."""
        chosen: list[int] = []
        for i in _likeliest(probabilities, TOP_K):
            alike = any(self.name_embedding(i) @ self.name_embedding(j) > SAME_MEANING for j in chosen)
            if probabilities[i] >= SUBJECT_MIN and not alike:
                chosen.append(i)
        return [self.names[i] for i in chosen[:2]]


class Tags(Scorer):
    """EfficientNet-lite0 on first, middle and last frame; a clip's class probabilities are their mean."""

    name = "tags"
    version = 1
    resources = Resources(cpus=1, memory_gb=0.2)

    def __init__(self, folder: str = "") -> None:
        self.folder = folder
        self._classifier: ImageClassifier | None = None
        self._conse: ConSE | None = None

    @property
    def columns(self) -> Sequence[Column]:
        return [
            Column("tags", pa.list_(pa.string()), f"the {TOP_K} likeliest ImageNet-1k classes, mean of three frames"),
            Column("tag_scores", pa.list_(pa.float32()), "their probabilities", "0..1"),
            Column("subjects", pa.list_(pa.string()), f"up to two tags of p >= {SUBJECT_MIN} with different meanings"),
            Column("frame_subjects", pa.list_(pa.string()), "the same from the middle frame alone"),
            Column("embedding", pa.list_(pa.float16()), "ConSE picture embedding, 384 numbers, unit length"),
        ]

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        return {
            "classifier": EFFICIENTNET.name,
            "classifier_sha256": resolve(EFFICIENTNET, self.folder).sha256(),
            "sentences": MINILM.name,
            "sentences_sha256": resolve(MINILM, self.folder).sha256(),
            "conse_t": CONSE_T,
            "subject_min": SUBJECT_MIN,
            "same_meaning": SAME_MEANING,
        }

    @property
    def options(self) -> Mapping[str, Any]:
        return {"profile": "embedded"}

    def load(self) -> None:
        from curation.scores.encoders import image_classifier, limit_threads, sentence_encoder

        limit_threads(self.resources.cpus)
        self._classifier = image_classifier(self.folder)
        self._conse = ConSE(self._classifier.names, sentence_encoder(self.folder))

    def score(self, clips: Sequence[ClipFrames], known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Raises RuntimeError before `load`, ValueError for a clip without frames."""
        if self._classifier is None or self._conse is None:
            raise RuntimeError("load() comes first")
        rows = []
        for clip in clips:
            if not clip.frames:
                raise ValueError("the clip has no frames")
            each = self._classifier.probabilities(clip.frames)
            mean = each.mean(0)
            top = _likeliest(mean, TOP_K)
            rows.append(
                {
                    "tags": [self._classifier.names[i] for i in top],
                    "tag_scores": [float(mean[i]) for i in top],
                    "subjects": self._conse.subjects(mean),
                    "frame_subjects": self._conse.subjects(each[len(each) // 2]),
                    "embedding": self._conse.embed(mean).astype(np.float16),
                }
            )
        return rows

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_classifier": None, "_conse": None}


def _likeliest(probabilities: np.ndarray, count: int) -> list[int]:
    """Indices of the largest values, largest first; ties in order of index."""
    return np.argsort(-probabilities, kind="stable")[:count].tolist()
