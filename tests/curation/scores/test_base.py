"""A scorer at a prompt, as the documentation shows it."""

import re
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from curation.config import CurateConfig, WeightSettings
from curation.engine import open_clips
from curation.scores import caption_llm, clip, coca, scorers_for, video_captioner

PAGE = (Path(__file__).parents[3] / "docs" / "scorers.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
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
    (lines,) = (s for s in SNIPPETS if "Tags" in s)
    assert len(lines.split("\n\n")[0].splitlines()) + 1 == 3  # imports, a blank line, the call
    row = run(lines)
    assert len(row["tags"]) == 5
    assert row["tag_scores"] == sorted(row["tag_scores"], reverse=True)
    assert len(row["embedding"]) == 384


def test_three_lines_of_the_svd_profile(film, coca_folder, tmp_path, monkeypatch):
    """With a tiny checkpoint in the place of the published one."""
    (lines,) = (s for s in SNIPPETS if "Coca" in s)
    assert len(lines.split("\n\n")[0].splitlines()) + 1 == 3  # imports, a blank line, the call
    published = tmp_path / "weights" / WeightSettings().coca.removeprefix("hf-hub:")
    published.parent.mkdir(parents=True)
    published.symlink_to(coca_folder)
    monkeypatch.setattr(coca, "WeightSettings", partial(WeightSettings, folder=str(tmp_path / "weights")))
    assert re.search(r"\w", run(lines)["caption_image"])


def test_the_page_names_every_column_and_what_its_scorer_occupies():
    scorers = [*scorers_for(CurateConfig(videos="x")), *(scorer() for scorer in SVD)]
    for scorer in scorers:
        (line,) = (row for row in PAGE.splitlines() if row.startswith(f"| `{scorer.name}` |"))
        assert all(f"`{c.name}`" in line for c in scorer.columns), scorer.name
        cells = [cell.strip() for cell in line.strip("|").split("|")]
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
