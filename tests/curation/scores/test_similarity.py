"""ConSE similarity: equal to the cosine written out, and higher for the right caption than for a wrong one."""

import numpy as np
import pytest

from curation.scores.base import Scored, run_scorer
from curation.scores.encoders import image_classifier, sentence_encoder
from curation.scores.similarity import Similarity
from curation.scores.tags import ConSE

# Captions written by hand, in words of their own.
CAPTIONS = {
    "coffee": "a hot drink with foam in a cup on a saucer",
    "chelsea": "the face of a cat with whiskers",
    "motorcycle_left": "a motorbike parked in a garage",
    "rocket": "a spacecraft ready for launch",
}


@pytest.fixture(scope="module")
def similarity() -> Similarity:
    scorer = Similarity()
    scorer.load()
    return scorer


def known(embedding, image, video="x", fused="y"):
    return {"embedding": embedding, "caption_image": image, "caption_video": video, "caption_fused": fused}


def test_each_picture_prefers_its_own_caption(similarity, picture, clip_of):
    conse = ConSE(image_classifier().names, sentence_encoder())
    pictures = {n: conse.embed(image_classifier().probabilities([picture(n)])[0]).astype(np.float16) for n in CAPTIONS}
    for name, embedding in pictures.items():
        rows = similarity.score([clip_of()] * 4, [known(embedding, text) for text in CAPTIONS.values()])
        scores = dict(zip(CAPTIONS, (r["conse_image"] for r in rows), strict=True))
        assert max(scores, key=scores.__getitem__) == name


def test_the_score_is_the_cosine_with_each_caption(similarity, clip_of):
    a, b = sentence_encoder().encode(["a dog"])[0], sentence_encoder().encode(["a cab"])[0]
    (row,) = similarity.score([clip_of()], [known(a.tolist(), "a dog", "a cab", "a dog")])
    assert row["conse_image"] == pytest.approx(1, abs=1e-5)
    assert row["conse_fused"] == row["conse_image"]
    assert row["conse_video"] == pytest.approx(float(a @ b), abs=1e-5)


def test_a_clip_without_captions_fails_by_name(similarity, clip_of):
    scored = [Scored({"embedding": np.ones(384, np.float16), "caption_image": "a dog"})]
    run_scorer(similarity, [clip_of()], scored)
    assert "conse_image" not in scored[0].values
    assert scored[0].failures[0].message == "needs caption_video, caption_fused, which failed"
