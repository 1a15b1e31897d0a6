"""The set of scorers of a configuration: order, columns, cheap to make and to ship."""

import pickle
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

import curation.policy
from curation.config import CurateConfig, TextSettings, WeightSettings
from curation.errors import CurationError
from curation.schema import definition_of, score_field
from curation.scores import scorers_for
from curation.scores.base import Scored, columns_of, run_scorer


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


def test_the_svd_profile_names_what_is_missing_instead_of_standing_in(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    config = CurateConfig(videos="x", profile="svd")
    with pytest.raises(CurationError) as error:
        scorers_for(config)
    assert all(name in str(error.value) for name in config.weights.model_dump(exclude={"folder"}).values())


@pytest.fixture(scope="module")
def svd(clip_folder, coca_folder, blip_folder, llm_folder, tmp_path_factory):
    """The svd profile with tiny checkpoints of its models; text off, as it is the same in both profiles."""
    import torch

    head = tmp_path_factory.mktemp("head") / "head.pth"
    torch.save(torch.nn.Linear(32, 1).state_dict(), head)
    weights = WeightSettings(
        clip=str(clip_folder), aesthetic_head=str(head), coca=str(coca_folder), video_captioner=str(blip_folder),
        caption_llm=str(llm_folder),
    )  # fmt: skip
    return CurateConfig(videos="x", profile="svd", weights=weights, text=TextSettings(enabled=False))


def test_the_svd_profile_measures_what_its_policy_asks_for(svd, picture, clip_of):
    """Every scorer in its order on two clips; the rows are stored and read back under the schema of a manifest."""
    scorers = scorers_for(svd)
    clips = [clip_of(*(picture(n, 100) for n in names), clip_id=names[0], hashes=[1, 2, 3],
                     uniform=[picture(n, 100) for n in names])
             for names in (("astronaut", "coffee", "rocket"), ("chelsea", "rocket", "coffee"))]  # fmt: skip
    states = [Scored() for _ in clips]
    for scorer in scorers:
        assert len(pickle.dumps(scorer)) < 2000
        assert set(scorer.requires) <= set(states[0].values)
        scorer.load()
        run_scorer(scorer, clips, states)
    assert [s.failures for s in states] == [[], []]
    schema = pa.schema([score_field(c.name, c.type, c.description, c.unit, d) for c, d in columns_of(scorers)])
    table = pa.Table.from_pylist([s.values for s in states], schema)
    policy = yaml.safe_load((Path(curation.policy.__file__).parent / "policies" / "svd.yaml").read_text())
    assert {rule["score"] for rule in policy["rules"]} - set(table.column_names) == {"text_area"}
    for name in (
        "aesthetic",
        "clip_image",
        "clip_video",
        "clip_fused",
        "caption_image",
        "caption_video",
        "caption_fused",
    ):
        assert table[name].null_count == 0
        assert len(set(table[name].to_pylist())) == 2
    assert len(table["embedding"][0]) == 32
    assert len(definition_of(table.schema.field("caption_fused"))["model_sha256"]) == 64


def test_making_scorers_imports_no_network_library(svd):
    configs = [CurateConfig(videos="x").model_dump_json(), svd.model_dump_json()]
    code = (
        "import sys; from curation.config import CurateConfig; from curation.scores import scorers_for\n"
        f"[scorers_for(CurateConfig.model_validate_json(c)) for c in {configs!r}]\n"
        "print([m for m in ('torch', 'easyocr', 'timm', 'transformers', 'open_clip') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
