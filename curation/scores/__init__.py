"""The scorers: plain objects that measure clips. Measuring never drops a clip."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curation.config import CurateConfig
    from curation.scores.base import Scorer


def scorers_for(config: "CurateConfig") -> "list[Scorer]":
    """The scorers of a configuration, each after those whose columns it requires. They are not loaded yet.

    Raises CurationError, naming everything that is missing, for a profile that cannot be scored here.
    """
    if config.profile != "embedded":
        from curation.errors import CurationError
        from curation.weights import require

        require(config)
        raise CurationError(f"profile {config.profile} has no scorers in this version; use profile: embedded")

    from curation.scores.aesthetics import TechnicalQuality
    from curation.scores.captions import Captions
    from curation.scores.duplicates import PerceptualHash
    from curation.scores.motion import Motion
    from curation.scores.similarity import Similarity
    from curation.scores.tags import Tags
    from curation.scores.text import Text

    folder = config.weights.folder
    text = [Text(config.text, folder)] if config.text.enabled else []
    return [
        TechnicalQuality(),
        Motion(config.motion),
        PerceptualHash(),
        *text,
        Tags(folder),
        Captions(with_text=bool(text)),
        Similarity(folder),
    ]
