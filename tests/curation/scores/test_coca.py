"""CoCa captions: the middle frame's, deterministic, whatever batch they come in."""

import pickle
from dataclasses import replace

import pytest
import torch

from curation.config import WeightSettings
from curation.scores.base import Scored, run_scorer
from curation.scores.coca import BEAMS, MAX_LENGTH, MIN_LENGTH, CocaCaption
from curation.scores.openclip import PictureCaptioner

NAMES = ("astronaut", "coffee", "rocket")


@pytest.fixture(scope="module")
def scorer(coca_folder):
    scorer = CocaCaption(WeightSettings(coca=str(coca_folder)))
    scorer.load()
    return scorer


@pytest.fixture
def clips(picture, clip_of):
    dark = picture("astronaut", 64) // 8
    return [clip_of(dark, picture(name, 200), dark, clip_id=name) for name in NAMES]


def test_the_caption_is_the_middle_frames(scorer, coca_folder, clips):
    direct = PictureCaptioner(coca_folder)
    rows = scorer.score(clips, [{}] * 3)
    for clip, row in zip(clips, rows, strict=True):
        assert row == {"caption_image": direct.caption([clip.frames[1]], BEAMS, MIN_LENGTH, MAX_LENGTH)[0]}
        assert row["caption_image"]
    assert scorer.score(clips, [{}] * 3) == rows
    assert scorer.score(clips[::-1], [{}] * 3) == rows[::-1]


@pytest.mark.parametrize("seed", [0, 1])
def test_no_caption_hangs_on_a_random_number(scorer, clips, seed):
    torch.manual_seed(seed)
    before = torch.get_rng_state()
    first = scorer.score(clips, [{}] * 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert scorer.score(clips, [{}] * 3) == first


def test_a_model_that_says_nothing_fails_that_clip_alone(scorer, clips, monkeypatch):
    monkeypatch.setattr(
        scorer, "_caption", lambda frames: ["" if f is clips[1].frames[1] else "a picture" for f in frames]
    )
    states = [Scored() for _ in clips]
    run_scorer(scorer, clips, states)
    assert [s.values.get("caption_image") for s in states] == ["a picture", None, "a picture"]
    assert [(f.step, f.message) for f in states[1].failures] == [("coca", "the caption is empty")]


def test_the_definition_names_model_and_search(scorer, coca_folder):
    definition = scorer.definition
    assert (definition["model"], definition["model_revision"]) == (str(coca_folder), "local")
    assert len(definition["model_sha256"]) == 64
    assert (definition["beams"], definition["min_length"], definition["max_length"]) == (2, 5, 30)


def test_a_loaded_scorer_is_small_to_ship(scorer, clips):
    fresh = pickle.loads(pickle.dumps(scorer))
    assert len(pickle.dumps(scorer)) < 2000
    with pytest.raises(RuntimeError, match="load"):
        fresh.score(clips, [{}] * 3)


def test_a_clip_without_frames_is_not_captioned(scorer, clip_of):
    with pytest.raises(ValueError, match="no frames"):
        scorer.score([replace(clip_of(), frames=())], [{}])
