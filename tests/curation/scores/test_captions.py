"""Captions word for word, and as sentences for any numbers."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.scores.base import Scored, run_scorer
from curation.scores.captions import CAMERA, Captions, join_words, noun_phrase, words_on_screen

STREET = {
    "subjects": ["cab", "minibus"],
    "frame_subjects": ["cab"],
    "camera": "pan left",
    "motion_bucket": 90,
    "exposure": 0.8,
    "colourfulness": 0.3,
    "sharpness": 0.6,
    "text_area": 0.0,
    "text": "",
}


def captions(clip_of, **changes):
    (row,) = Captions().score([clip_of()], [STREET | changes])
    return row["caption_image"], row["caption_video"], row["caption_fused"]


def test_a_street(clip_of):
    assert captions(clip_of) == (
        "a picture of a cab",
        "a cab and a minibus, the camera pans left",
        "A video of a cab and a minibus in which the camera pans left.",
    )


def test_a_dark_still_with_words(clip_of):
    changes = {"exposure": 0.05, "colourfulness": 0.0, "camera": "static", "motion_bucket": 3}
    assert captions(clip_of, **changes, text="THE END", text_area=0.1, subjects=[], frame_subjects=[]) == (
        "a dark black-and-white picture",
        'a scene, hardly anything moves, the words "THE END" are on screen',
        'A dark black-and-white video in which hardly anything moves and the words "THE END" are on screen.',
    )


def test_fast_motion_before_a_still_camera(clip_of):
    _, video, _ = captions(clip_of, camera="static", motion_bucket=180)
    assert video == "a cab and a minibus, the camera stands still, there is fast motion"


def test_text_that_was_found_but_not_read():
    assert words_on_screen(None, 0.1) == "there is text on screen"
    assert words_on_screen("_ |", 0.1) == "there is text on screen"
    assert words_on_screen("", 0.0) == ""
    assert words_on_screen("one two three four five six seven eight nine ten", 0.5) == (
        'the words "one two three four five six seven eight" are on screen'
    )


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("cab", "a cab"),
        ("ox", "an ox"),
        ("unicycle", "a unicycle"),
        ("umbrella", "an umbrella"),
        ("Egyptian cat", "an Egyptian cat"),
        ("corn", "corn"),
        ("mashed potato", "mashed potato"),
        ("red wine", "red wine"),
    ],
)
def test_articles(name, phrase):
    assert noun_phrase(name) == phrase


def test_lists():
    assert [join_words(w) for w in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


names = st.lists(st.sampled_from(["cab", "ox", "corn", "web site", "Granny Smith"]), max_size=2, unique=True)


@given(
    names,
    names,
    st.sampled_from(sorted(CAMERA)),
    st.integers(0, 255),
    *[st.floats(0, 1)] * 3,
    st.one_of(st.none(), st.text(max_size=40)),
    st.floats(0, 1),
)
def test_always_a_sentence_and_always_the_same(subjects, frame, camera, bucket, exposure, colour, sharp, text, area):
    row = {"subjects": subjects, "frame_subjects": frame, "camera": camera, "motion_bucket": bucket, "text": text}
    row |= {"exposure": exposure, "colourfulness": colour, "sharpness": sharp, "text_area": area}
    first, second = Captions().score([None, None], [row, dict(row)])  # type: ignore[list-item]
    assert first == second
    assert re.fullmatch(r"(A|An) .*video.* in which .+\.", first["caption_fused"])
    for caption in first.values():
        assert caption == " ".join(caption.split())
        assert all(noun_phrase(s) in caption for s in (frame if caption == first["caption_image"] else []))


def test_only_what_was_looked_for_is_required(clip_of):
    without_text = {k: v for k, v in STREET.items() if not k.startswith("text")}
    scored = [Scored(dict(without_text)), Scored(dict(without_text))]
    run_scorer(Captions(with_text=True), [clip_of()], scored[:1])
    run_scorer(Captions(with_text=False), [clip_of()], scored[1:])
    assert "needs text_area" in scored[0].failures[0].message
    assert scored[1].values["caption_video"] == "a cab and a minibus, the camera pans left"
    assert Captions(True).definition != Captions(False).definition


def test_a_null_text_is_no_missing_input(clip_of):
    scored = [Scored(STREET | {"text": None, "text_area": 0.2})]
    run_scorer(Captions(), [clip_of()], scored)
    assert scored[0].values["caption_video"].endswith("there is text on screen")
