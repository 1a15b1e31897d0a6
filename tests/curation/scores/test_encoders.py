"""The two networks: what they say on known pictures and sentences, and that they are the networks they claim to be."""

import numpy as np
import pytest
import torch

from curation.scores.encoders import image_classifier, limit_threads, sentence_encoder


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("coffee", {"espresso"}),
        ("chelsea", {"tiger cat", "Egyptian cat", "tabby"}),
        ("motorcycle_left", {"moped", "motor scooter"}),
    ],
)
def test_the_classifier_knows_photographs(picture, name, expected):
    classifier = image_classifier()
    (probabilities,) = classifier.probabilities([picture(name)])
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert classifier.names[probabilities.argmax()] in expected


def test_every_class_has_a_name():
    names = image_classifier().names
    assert len(names) == 1000
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")


def test_frames_of_different_shapes_go_together(picture):
    frames = [picture("coffee"), picture("coffee", 200)[:31, :17], np.zeros((1, 900, 3), np.uint8)]
    together = image_classifier().probabilities(frames)
    alone = np.concatenate([image_classifier().probabilities([f]) for f in frames])
    assert together == pytest.approx(alone, abs=1e-5)


def test_sentences_are_unit_vectors_that_know_paraphrases():
    encoder = sentence_encoder()
    a, b, c = encoder.encode(["a man rides a horse", "someone is riding a horse", "the stock market fell"])
    assert np.linalg.norm([a, b, c], axis=1) == pytest.approx(1, abs=1e-5)
    assert a @ b > 0.6
    assert abs(a @ c) < 0.2


def test_padding_and_order_do_not_change_a_sentence():
    encoder = sentence_encoder()
    texts = ["a cab", "a very long sentence about a cab that waits in a street full of rain and light", "a dog"]
    together = encoder.encode(texts, batch_size=2)
    alone = np.concatenate([encoder.encode([t]) for t in texts])
    assert together == pytest.approx(alone, abs=1e-5)


def test_the_sentence_encoder_is_the_mean_of_token_states():
    """Against the network called by hand on one sentence without padding."""
    encoder = sentence_encoder()
    tokens = encoder.tokenizer("a street with a cab", return_tensors="pt")
    with torch.inference_mode():
        mean = encoder.net(**tokens).last_hidden_state[0].mean(0)
    assert encoder.encode(["a street with a cab"])[0] == pytest.approx((mean / mean.norm()).numpy(), abs=1e-6)


def test_threads_follow_the_cores_that_were_given():
    before = torch.get_num_threads()
    try:
        limit_threads(0.5)
        assert torch.get_num_threads() == 1
        limit_threads(2.0)
        assert torch.get_num_threads() == 2
    finally:
        limit_threads(before)
