"""Tags and the ConSE embedding, against the paper's equation written out."""

import pickle

import numpy as np
import pytest

from curation.scores.encoders import image_classifier, sentence_encoder
from curation.scores.tags import ConSE, Tags


@pytest.fixture(scope="module")
def tags() -> Tags:
    scorer = Tags()
    scorer.load()
    return scorer


def test_a_clip_of_coffee(tags, picture, clip_of):
    frame = picture("coffee")
    (row,) = tags.score([clip_of(frame, frame, frame)], [{}])
    assert row["tags"][0] == "espresso"
    assert row["tag_scores"][0] > 0.8
    assert row["subjects"] == row["frame_subjects"] == ["espresso"]
    assert len(row["tags"]) == len(row["tag_scores"]) == 5
    assert row["tag_scores"] == sorted(row["tag_scores"], reverse=True)


def test_the_clip_is_the_mean_of_its_frames_and_the_middle_frame_speaks_for_itself(tags, picture, clip_of):
    frames = picture("coffee"), picture("chelsea"), picture("coffee")
    (row,) = tags.score([clip_of(*frames)], [{}])
    mean = image_classifier().probabilities(frames).mean(0)
    assert row["tags"][0] == "espresso"
    assert row["tag_scores"][0] == pytest.approx(mean.max(), abs=1e-6)
    assert row["frame_subjects"][0].endswith("cat")


def test_the_embedding_is_equation_4_of_the_paper(picture):
    classifier, encoder = image_classifier(), sentence_encoder()
    (p,) = classifier.probabilities([picture("chelsea")])
    top = sorted(range(1000), key=lambda i: -p[i])[:10]
    vectors = encoder.encode([classifier.names[i] for i in top])
    expected = sum(p[i] * v for i, v in zip(top, vectors, strict=True)) / sum(p[i] for i in top)
    got = ConSE(classifier.names, encoder).embed(p)
    assert got == pytest.approx(expected / np.linalg.norm(expected), abs=1e-4)


def test_a_sure_class_lies_on_its_name():
    conse = ConSE(image_classifier().names, sentence_encoder())
    p = np.zeros(1000, np.float32)
    p[281] = 1
    assert conse.embed(p) == pytest.approx(sentence_encoder().encode(["tabby"])[0], abs=1e-5)


def test_subjects_do_not_repeat_a_meaning():
    names = image_classifier().names
    conse = ConSE(names, sentence_encoder())
    p = np.zeros(1000, np.float32)
    p[names.index("tiger cat")], p[names.index("Egyptian cat")], p[names.index("espresso")] = 0.4, 0.35, 0.25
    assert conse.subjects(p) == ["tiger cat", "espresso"]
    p[names.index("espresso")] = 0.1
    assert conse.subjects(p) == ["tiger cat"]
    assert conse.subjects(np.full(1000, 0.001, np.float32)) == []


def test_a_row_does_not_depend_on_its_neighbours(tags, picture, clip_of):
    clips = [clip_of(picture(n), clip_id=n) for n in ("coffee", "chelsea", "rocket")]
    together = tags.score(clips, [{}] * 3)
    for clip, row in zip(clips, together, strict=True):
        (alone,) = tags.score([clip], [{}])
        assert alone["tags"] == row["tags"]
        assert alone["tag_scores"] == row["tag_scores"]
        assert np.array_equal(alone["embedding"], row["embedding"])


def test_the_embedding_has_its_type_and_length(tags, picture, clip_of):
    (row,) = tags.score([clip_of(picture("rocket")[:31, :17])], [{}])
    assert row["embedding"].dtype == np.float16
    assert np.linalg.norm(row["embedding"].astype(float)) == pytest.approx(1, abs=2e-3)


def test_it_travels_without_its_networks(tags):
    assert len(pickle.dumps(tags)) < 1000
    with pytest.raises(RuntimeError, match="load"):
        pickle.loads(pickle.dumps(tags)).score([], [])
