"""The set of scorers of a configuration: order, columns, cheap to make and to ship."""

import pickle
import subprocess
import sys

import pytest

from curation.config import CurateConfig, TextSettings
from curation.errors import CurationError
from curation.scores import scorers_for
from curation.scores.base import columns_of


@pytest.mark.parametrize("text", [True, False])
def test_each_scorer_comes_after_what_it_requires(text):
    seen: set[str] = set()
    for scorer in scorers_for(CurateConfig(videos="x", text=TextSettings(enabled=text))):
        assert set(scorer.requires) <= seen
        seen |= {c.name for c in scorer.columns}
    assert ("text_area" in seen) == text
    assert {"motion", "technical_quality", "tags", "phash", "caption_image", "caption_fused", "conse_video"} <= seen


def test_columns_are_unique_described_and_defined():
    for column, definition in columns_of(scorers_for(CurateConfig(videos="x"))):
        assert column.description
        assert definition["scorer"]
        assert all(isinstance(v, str | int | float | bool) for v in definition.values())


def test_scorers_are_small_to_ship():
    assert all(len(pickle.dumps(s)) < 2000 for s in scorers_for(CurateConfig(videos="x")))


def test_the_svd_profile_names_what_is_missing_instead_of_standing_in():
    with pytest.raises(CurationError, match="CLIP-ViT-L-14") as error:
        scorers_for(CurateConfig(videos="x", profile="svd"))
    assert "not part of this version" in str(error.value)


def test_making_scorers_imports_no_network_library():
    code = (
        "import sys; from curation.config import CurateConfig; from curation.scores import scorers_for\n"
        "scorers_for(CurateConfig(videos='x'))\n"
        "print([m for m in ('torch', 'easyocr', 'timm', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
