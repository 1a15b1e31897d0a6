"""Whether a clip is one shot after all: a second look at what the cut cascade let pass."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from curation.cuts.network import weights_sha256
from curation.scores.base import ClipFrames, Column, Scorer


class Continuity(Scorer):
    """The cut network's highest probability of a transition inside the clip, beside the transitions that were found.

    It comes with the decode; the network's weights are part of the definition.
    """

    name = "continuity"
    version = 1

    @property
    def columns(self) -> Sequence[Column]:
        return [Column("cut_doubt", pa.float32(), "probability that a cut or dissolve inside was overlooked", "0..1")]

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        method = "highest probability of one frame, 8 frames beside known transitions left out"
        return {"method": method, "network_sha256": weights_sha256()}

    def score(self, clips: Sequence[ClipFrames], known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What the pass noted."""
        return [{"cut_doubt": clip.cut_doubt} for clip in clips]
