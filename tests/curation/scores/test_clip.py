"""CLIP scores against direct calls of open_clip on Pillow's pixels."""

import pickle
import re

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch import nn

from curation.config import WeightSettings
from curation.scores.base import Scored, columns_of, run_scorer
from curation.scores.clip import SIMILARITIES, ClipScores, ClipSimilarity
from curation.weights import MissingWeightsError

CAPTIONS = {"caption_image": "a woman in orange", "caption_video": "she smiles", "caption_fused": "an astronaut smiles"}


@pytest.fixture(scope="module")
def weights(clip_folder, tmp_path_factory):
    torch.manual_seed(1)
    head = tmp_path_factory.mktemp("head") / "head.pth"
    torch.save(nn.Linear(32, 1).state_dict(), head)
    return WeightSettings(clip=str(clip_folder), aesthetic_head=str(head))


@pytest.fixture(scope="module")
def direct(clip_folder, weights):
    """What open_clip itself says of some frames: unit features (n, 32), aesthetic score of each."""
    net, _, transform = open_clip.create_model_and_transforms(f"local-dir:{clip_folder}")
    net.eval()
    head = nn.Linear(32, 1)
    head.load_state_dict(torch.load(weights.aesthetic_head))

    @torch.no_grad()
    def measure(frames):
        features = net.encode_image(torch.stack([transform(Image.fromarray(f)) for f in frames]), normalize=True)
        texts = net.encode_text(open_clip.tokenize(list(CAPTIONS.values()), context_length=16), normalize=True)
        return features.numpy(), head(features)[:, 0].numpy(), (features @ texts.T).mean(0).numpy()

    return measure


@pytest.fixture
def clips(picture, clip_of):
    one = [picture(name, 240) for name in ("astronaut", "coffee", "rocket")]
    two = [picture(name, 180) for name in ("chelsea", "coffee", "astronaut")]
    return [clip_of(*one, clip_id="one"), clip_of(*two, clip_id="two")]


def test_scores_are_those_of_a_direct_call(weights, clips, direct):
    scorer, similarity = ClipScores(weights), ClipSimilarity(weights)
    scorer.load()
    similarity.load()
    rows = scorer.score(clips, [{}, {}])
    cosines = similarity.score(clips, [row | CAPTIONS for row in rows])
    for clip, row, cosine in zip(clips, rows, cosines, strict=True):
        features, beauty, similarities = direct(clip.frames)
        # uint8 resizing here and in Pillow rounds differently: a few thousandths of a feature
        np.testing.assert_allclose(row["embedding"].astype(np.float32), features.mean(0), atol=3e-3)
        np.testing.assert_allclose(row["aesthetic_frames"], beauty, atol=3e-3)
        assert row["aesthetic"] == pytest.approx(beauty.mean(), abs=3e-3)
        np.testing.assert_allclose([cosine[name] for name in SIMILARITIES], similarities, atol=3e-3)
    assert rows[0]["embedding"].dtype == np.float16


def test_the_embedding_is_a_mean_and_no_unit_vector(weights, clips):
    row = ClipScores(weights).score_one(clips[0])
    assert 0 < np.linalg.norm(row["embedding"].astype(np.float32)) < 1 - 1e-4


def test_what_an_embedding_keeps_is_enough_for_the_cosine(weights, clips):
    """Half precision is the only difference between the two scorers' way and the cosines themselves."""
    scorer, similarity = ClipScores(weights), ClipSimilarity(weights)
    row = scorer.score_one(clips[0])
    similarity.load()
    ours = similarity.score(clips[:1], [row | CAPTIONS])[0]
    pictures = similarity._clip.picture_features(clips[0].frames)
    exact = (pictures @ similarity._clip.text_features(list(CAPTIONS.values())).T).mean(0).tolist()
    np.testing.assert_allclose(list(ours.values()), exact, atol=5e-4)


def test_a_clip_does_not_depend_on_its_batch(weights, clips):
    scorer = ClipScores(weights)
    together = scorer.load() or scorer.score(clips, [{}, {}])
    for clip, row in zip(clips, together, strict=True):
        np.testing.assert_allclose(scorer.score_one(clip)["aesthetic_frames"], row["aesthetic_frames"], atol=1e-5)


def test_a_full_card_halves_the_batch_and_changes_no_score(weights, clips, monkeypatch):
    scorer = ClipScores(weights)
    scorer.load()
    before = scorer.score(clips, [{}, {}])
    sizes = []
    measure = scorer._measure

    def small_card(frames):
        sizes.append(len(frames))
        if len(frames) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return measure(frames)

    monkeypatch.setattr(scorer, "_measure", small_card)
    after = scorer.score(clips, [{}, {}])
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a["embedding"].astype(np.float32), b["embedding"].astype(np.float32), atol=1e-3)


def test_a_caption_that_failed_costs_only_the_similarity(weights, clips):
    state = Scored(values=dict(CAPTIONS, caption_video=None))
    scorers = [ClipScores(weights), ClipSimilarity(weights)]
    for scorer in scorers:
        scorer.load()
        run_scorer(scorer, clips[:1], [state])
    assert np.isfinite(state.values["aesthetic"])
    assert "clip_image" not in state.values
    assert [(f.step, f.error) for f in state.failures] == [("clip_similarity", "MissingInput")]


def test_the_definition_names_the_weights(weights):
    fields = columns_of([ClipScores(weights), ClipSimilarity(weights)])
    assert [c.name for c, _ in fields] == ["embedding", "aesthetic", "aesthetic_frames", *SIMILARITIES]
    for column, definition in fields:
        assert definition["model"] == weights.clip
        assert len(definition["model_sha256"]) == 64
        assert ("head_sha256" in definition) == column.name.startswith(("embedding", "aesthetic"))


def test_a_loaded_scorer_is_small_to_ship(weights):
    scorer = ClipScores(weights)
    scorer.load()
    assert len(pickle.dumps(scorer)) < 2000
    with pytest.raises(RuntimeError, match="load"):
        pickle.loads(pickle.dumps(scorer)).score([], [])


def test_missing_weights_and_a_head_of_other_features(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(MissingWeightsError, match=re.escape(WeightSettings().clip)):
        ClipScores(weights.model_copy(update={"clip": WeightSettings().clip})).load()
    torch.save(nn.Linear(768, 1).state_dict(), tmp_path / "head.pth")
    with pytest.raises(ValueError, match="no chain of linear layers from 32"):
        ClipScores(weights.model_copy(update={"aesthetic_head": str(tmp_path / "head.pth")})).load()


def test_a_clip_without_frames_is_not_scored(weights, clip_of):
    from dataclasses import replace

    with pytest.raises(ValueError, match="no frames"):
        ClipScores(weights).score_one(replace(clip_of(), frames=()))
