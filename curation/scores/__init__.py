"""The scorers: plain objects that measure clips. Measuring never drops a clip."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curation.config import CurateConfig
    from curation.scores.base import Scorer


def scorers_for(config: "CurateConfig") -> "list[Scorer]":
    """The scorers of a configuration, each after those whose columns it requires. They are not loaded yet.

    Raises CurationError, naming every missing model, where the svd profile's weights are not all there.
    """
    if config.profile == "svd":
        from curation.weights import require

        require(config)
    return _made(config)


def makers(scorer: "Scorer") -> dict[str, str]:
    """Every column of the profile that a scorer belongs to, with the class that measures it; none for a scorer of
    one's own."""
    from curation.config import CurateConfig, Profile

    for profile in Profile:
        scorers = _made(CurateConfig(videos="", profile=profile))
        if any(type(s) is type(scorer) for s in scorers):
            return {c.name: type(s).__name__ for s in scorers for c in s.columns}
    return {}


def _made(config: "CurateConfig") -> "list[Scorer]":
    from curation.scores.aesthetics import TechnicalQuality
    from curation.scores.continuity import Continuity
    from curation.scores.duplicates import PerceptualHash
    from curation.scores.motion import Motion
    from curation.scores.text import Text

    text = [Text(config.text, config.weights.folder)] if config.text.enabled else []
    seen = [Continuity(), TechnicalQuality(), Motion(config.motion, config.weights.folder), PerceptualHash(), *text]
    return [*seen, *(_svd(config) if config.profile == "svd" else _embedded(config))]


def _embedded(config: "CurateConfig") -> "list[Scorer]":
    from curation.scores.captions import Captions
    from curation.scores.similarity import Similarity
    from curation.scores.tags import Tags

    folder = config.weights.folder
    return [Tags(folder), Captions(with_text=config.text.enabled), Similarity(folder)]


def _svd(config: "CurateConfig") -> "list[Scorer]":
    from curation.scores.caption_llm import FusedCaption
    from curation.scores.clip import ClipScores, ClipSimilarity
    from curation.scores.coca import CocaCaption
    from curation.scores.video_captioner import VideoCaption

    captioners = (CocaCaption, VideoCaption, FusedCaption)
    return [scorer(config.weights) for scorer in (ClipScores, *captioners, ClipSimilarity)]
