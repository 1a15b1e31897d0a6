"""Text area against the ink that was drawn, and the words against what was written."""

import pickle

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from curation.config import TextSettings
from curation.scores.base import Scored, run_scorer
from curation.scores.text import Text, union_area


@pytest.fixture(scope="module")
def text() -> Text:
    scorer = Text(TextSettings(canvas_px=320))
    scorer.load()
    return scorer


def write(frame: np.ndarray, words: str, size: int, at: tuple[int, int]) -> tuple[np.ndarray, float]:
    """The frame with white, dark-rimmed words on it, and the share of it that their boxes cover, word by word."""
    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size)
    ink, (x, y) = 0.0, at
    for word in words.split():
        draw.text((x, y), word, font=font, fill="white", stroke_width=1, stroke_fill="black")
        x0, y0, x1, y1 = draw.textbbox((x, y), word, font=font)
        ink += (x1 - x0) * (y1 - y0)
        x += int(draw.textlength(word + " ", font=font))
    return np.asarray(image), ink / frame[..., 0].size


def test_overlapping_boxes_count_once():
    left = np.array([[0, 0], [49, 0], [49, 99], [0, 99]])
    middle = left + np.array([25, 0])
    assert union_area([left], (100, 200, 3)) == pytest.approx(0.25)
    assert union_area([left, middle], (100, 200, 3)) == pytest.approx(0.375)
    assert union_area([], (100, 200, 3)) == 0
    assert union_area([left - np.array([25, 0])], (100, 200, 3)) == pytest.approx(
        0.125
    )  # what lies outside does not count


@pytest.mark.parametrize(("name", "size"), [("chelsea", 20), ("coffee", 26)])
def test_the_area_of_a_drawn_caption(text, picture, name, size):
    frame, ink = write(picture(name, 320), "Never trust a cat", size, (20, 150))
    area = union_area(text.detect(frame), frame.shape)
    assert 0.7 * ink < area < 1.6 * ink


def test_words_are_read_once_and_the_largest_frame_counts(text, picture, clip_of):
    plain = picture("coffee", 320)
    small, _ = write(plain, "HELLO", 24, (30, 30))
    large, _ = write(small, "WIDE WORLD", 34, (30, 150))
    row = text.score([clip_of(plain, small, large)], [{}])[0]
    assert row["text"].upper().split() == ["HELLO", "WIDE", "WORLD"]
    assert row["text_area_frames"][0] == 0
    assert 0 < row["text_area_frames"][1] < row["text_area_frames"][2] == row["text_area"]


def test_a_clean_frame_has_none(text, picture, clip_of):
    row = text.score([clip_of(picture("chelsea", 320))], [{}])[0]
    assert row == {"text_area": 0, "text_area_frames": [0], "text": ""}


@pytest.mark.parametrize("shape", [(31, 17, 3), (1, 1, 3), (4, 640, 3), (33, 47, 3)])
def test_small_and_thin_frames(text, clip_of, shape):
    frame = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    row = text.score([clip_of(frame)], [{}])[0]
    assert 0 <= row["text_area"] <= 1


def test_repeated_frames_are_measured_once(text, picture, clip_of, monkeypatch):
    frame, _ = write(picture("coffee", 320), "TWICE", 30, (30, 60))
    seen = []
    detect = text.detect
    monkeypatch.setattr(text, "detect", lambda f: seen.append(1) or detect(f))
    row = text.score([clip_of(frame, frame.copy(), frame.copy())], [{}])[0]
    assert len(seen) == 1
    assert row["text_area_frames"] == [row["text_area"]] * 3


def test_with_reading_off_the_text_is_null(picture, clip_of):
    scorer = Text(TextSettings(canvas_px=256, recognise=False))
    scored = [Scored()]
    scorer.load()
    run_scorer(scorer, [clip_of(write(picture("coffee", 256), "HELLO", 30, (30, 60))[0])], scored)
    assert scored[0].values["text"] is None
    assert scored[0].values["text_area"] > 0
    assert scored[0].failures == []


def test_it_travels_without_its_networks(text):
    copy = pickle.loads(pickle.dumps(text))
    assert len(pickle.dumps(text)) < 2000
    assert copy.definition == text.definition
    with pytest.raises(RuntimeError, match="load"):
        copy.score([], [])


def test_the_definition_names_canvas_and_weights():
    definition = Text(TextSettings(canvas_px=320)).definition
    assert definition["canvas_px"] == 320
    assert definition["craft_sha256"].startswith("4a5efbfb")  # as in the package's own RECORD
    assert "recogniser_sha256" not in Text(TextSettings(recognise=False)).definition
