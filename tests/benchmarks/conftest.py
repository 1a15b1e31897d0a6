"""The labelled footage, as curation's tests see it."""

from tests.curation.conftest import shared_videos, truth

__all__ = ["shared_videos", "truth"]
