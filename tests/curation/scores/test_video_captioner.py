"""The clip's caption: which frames are seen, what is recorded, what fails alone."""

import pickle
from dataclasses import replace

import pytest
import torch

from curation.config import WeightSettings
from curation.scores.base import Scored, run_scorer
from curation.scores.language_models import VideoBlip
from curation.scores.video_captioner import BEAMS, MAX_NEW_TOKENS, VideoCaption


@pytest.fixture(scope="module")
def scorer(blip_folder):
    scorer = VideoCaption(WeightSettings(video_captioner=str(blip_folder)), prompt="the")
    scorer.load()
    return scorer


@pytest.fixture
def clips(picture, clip_of):
    names = ("astronaut", "coffee", "rocket", "chelsea")
    frames = [picture(name, 100) for name in names]
    return [clip_of(picture(name, 64), uniform=frames[i:], clip_id=name) for i, name in enumerate(names[:3])]


def test_the_caption_is_videoblips(scorer, blip_folder, clips):
    direct = VideoBlip(blip_folder)
    rows = scorer.score(clips, [{}] * 3)
    assert [row["caption_video"] for row in rows] == [
        direct.caption([clip.uniform], "the", BEAMS, MAX_NEW_TOKENS)[0] for clip in clips
    ]
    assert scorer.score(clips[::-1], [{}] * 3) == rows[::-1]


@pytest.mark.parametrize("seed", [0, 1])
def test_no_caption_hangs_on_a_random_number(scorer, clips, seed):
    torch.manual_seed(seed)
    before = torch.get_rng_state()
    first = scorer.score(clips, [{}] * 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert scorer.score(clips, [{}] * 3) == first


def test_a_model_that_says_nothing_fails_that_clip_alone(scorer, clips, monkeypatch):
    monkeypatch.setattr(scorer, "_caption", lambda batch: ["" if len(frames) == 3 else "it is" for frames in batch])
    states = [Scored() for _ in clips]
    run_scorer(scorer, clips, states)
    assert [s.values.get("caption_video") for s in states] == ["it is", None, "it is"]
    assert [(f.step, f.message) for f in states[1].failures] == [("video_captioner", "the caption is empty")]


def test_the_definition_names_model_and_prompt(scorer, blip_folder):
    definition = scorer.definition
    assert (definition["model"], definition["prompt"], definition["beams"]) == (str(blip_folder), "the", 4)
    assert len(definition["model_sha256"]) == 64


def test_a_loaded_scorer_is_small_to_ship(scorer, clips):
    assert len(pickle.dumps(scorer)) < 2000
    with pytest.raises(RuntimeError, match="load"):
        pickle.loads(pickle.dumps(scorer)).score(clips, [{}] * 3)


def test_a_clip_whose_frames_were_not_kept_is_not_captioned_from_others(scorer, clips):
    with pytest.raises(ValueError, match="svd profile alone"):
        scorer.score([clips[0], replace(clips[1], uniform=())], [{}] * 2)
