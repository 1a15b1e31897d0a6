"""A scorer at a prompt, as the documentation shows it."""

import re
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from curation.config import CurateConfig, WeightSettings
from curation.engine import open_clips
from curation.errors import CurationError
from curation.scores import caption_llm, captions, clip, coca, scorers_for, similarity, video_captioner
from curation.scores.base import Column, Scorer

PAGE = (Path(__file__).parents[3] / "docs" / "scorers.md").read_text()
ALONE, OF_SVD, WITH_KNOWN = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SVD = (clip.ClipScores, coca.CocaCaption, video_captioner.VideoCaption, caption_llm.FusedCaption, clip.ClipSimilarity)


@pytest.fixture
def film(two_shots, tmp_path, monkeypatch):
    (tmp_path / "film.mp4").symlink_to(two_shots)
    monkeypatch.chdir(tmp_path)


def run(snippet: str) -> dict:
    """The value of a snippet's last line, as a prompt would show it."""
    *before, last = snippet.strip().splitlines()
    names: dict = {}
    exec("\n".join(before), names)
    return eval(last, names)


def test_three_lines_measure_a_clip(film):
    assert len(ALONE.split("\n\n")[0].splitlines()) + 1 == 3  # imports, a blank line, the call
    row = run(ALONE)
    assert len(row["tags"]) == 5
    assert row["tag_scores"] == sorted(row["tag_scores"], reverse=True)
    assert len(row["embedding"]) == 384


def test_three_lines_of_the_svd_profile(film, coca_folder, tmp_path, monkeypatch):
    """With a tiny checkpoint in the place of the published one."""
    assert len(OF_SVD.split("\n\n")[0].splitlines()) + 1 == 3  # imports, a blank line, the call
    published = tmp_path / "weights" / WeightSettings().coca.removeprefix("hf-hub:")
    published.parent.mkdir(parents=True)
    published.symlink_to(coca_folder)
    monkeypatch.setattr(coca, "WeightSettings", partial(WeightSettings, folder=str(tmp_path / "weights")))
    assert re.search(r"\w", run(OF_SVD)["caption_image"])


def test_a_scorer_that_reads_others_columns_gets_them_merged(film):
    row = run(WITH_KNOWN)
    assert set(row) == {c.name for c in captions.Captions().columns}
    assert re.match(r"an? .*\bpicture\b", row["caption_image"])


@pytest.mark.parametrize(
    ("scorer", "needs"),
    [
        (captions.Captions(), ["subjects, frame_subjects of Tags", "exposure, colourfulness, sharpness of Technical"]),
        (similarity.Similarity(), ["embedding of Tags", "caption_image, caption_video, caption_fused of Captions"]),
        (clip.ClipSimilarity(), ["embedding of ClipScores", "caption_fused of FusedCaption"]),
        (caption_llm.FusedCaption(), ["caption_image of CocaCaption; caption_video of VideoCaption"]),
    ],
)
def test_what_a_scorer_lacks_is_said_with_who_measures_it(two_shots, scorer, needs):
    with pytest.raises(CurationError) as caught:
        scorer.score_one(open_clips(str(two_shots))[0])
    assert str(caught.value).startswith(f"{scorer.name}: `known` lacks ")
    assert all(words in str(caught.value) for words in needs)


class Doubled(Scorer):
    """Somebody's own, of no profile."""

    name = "doubled"
    requires = ("mine",)

    @property
    def columns(self):
        return [Column("doubled", pa.float32(), "twice as much")]

    def score(self, clips, known):
        return [{"doubled": 2 * columns["mine"]} for columns in known]


def test_a_scorer_of_ones_own_says_what_it_lacks_too(clip_of):
    with pytest.raises(CurationError, match="doubled: `known` lacks mine"):
        Doubled().score_one(clip_of(), {"mine": None})
    assert Doubled().score_one(clip_of(), {"mine": 2}) == {"doubled": 4}


def test_a_clip_at_a_prompt_is_one_line(two_shots):
    first, *_ = open_clips(str(two_shots))
    assert "\n" not in repr(first)
    assert len(repr(first)) < 200 + len(first.uri)
    height, width, _ = first.frames[0].shape
    times = f"{first.start:.2f} to {first.end:.2f} s"
    for words in (first.clip_id, first.uri, times, f"3 frames of {width}x{height}", f"{len(first.flow)} flow maps"):
        assert words in repr(first)


def test_the_page_names_every_column_and_what_its_scorer_occupies():
    scorers = [*scorers_for(CurateConfig(videos="x")), *(scorer() for scorer in SVD)]
    for scorer in scorers:
        (line,) = (row for row in PAGE.splitlines() if row.startswith(f"| `{scorer.name}` |"))
        assert all(f"`{c.name}`" in line for c in scorer.columns), scorer.name
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        given: dict = {}
        exec(cells[1].strip("`"), given)
        assert given[type(scorer).__name__] is type(scorer)
        assert float(cells[-1]) == scorer.resources.memory_gb
        if scorer.resources.gpus:
            assert float(cells[-2]) == scorer.resources.gpus


def test_what_the_page_says_of_the_svd_profiles_frames(two_shots):
    config = CurateConfig(videos=str(two_shots), profile="svd")
    assert {len(c.uniform) for c in open_clips(str(two_shots), config)} == {8}
    assert {len(c.uniform) for c in open_clips(str(two_shots))} == {0}


def test_embeddings_are_kept_in_half_precision():
    columns = {c.name: c.type for c in clip.ClipScores().columns}
    assert columns["embedding"] == pa.list_(pa.float16())
