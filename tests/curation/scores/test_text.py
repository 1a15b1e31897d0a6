"""Text area against the ink that was drawn, and the words against what was written."""

import pickle

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from curation.config import TextSettings
from curation.scores.base import Scored, run_scorer
from curation.scores.text import Text, reading_order, union_area


@pytest.fixture(scope="module")
def text() -> Text:
    scorer = Text()
    scorer.load()
    return scorer


@pytest.fixture(scope="module")
def craft() -> Text:
    scorer = Text(TextSettings(method="craft", canvas_px=2560, recognise=False))
    scorer.load()
    return scorer


@pytest.fixture(scope="module")
def light() -> Text:
    scorer = Text(TextSettings(method="light", check_every=1, recognise=False))
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


BOX = st.tuples(*[st.integers(-20, 120)] * 4).map(
    lambda c: np.array([[c[0], c[1]], [c[2], c[1]], [c[2], c[3]], [c[0], c[3]]], np.int32)
)


@given(st.lists(BOX, max_size=6), st.lists(BOX, max_size=3))
def test_a_union_is_a_share_that_grows_with_boxes_and_counts_none_twice(boxes, more):
    shape = (90, 110)
    area = union_area(boxes, shape)
    assert 0 <= area <= union_area(boxes + more, shape) <= 1
    assert union_area(boxes + boxes, shape) == area == union_area(boxes[::-1], shape)
    assert area <= sum(union_area([box], shape) for box in boxes) + 1e-9
    # pixel by pixel, both ends of a box included
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside = np.zeros(shape, bool)
    for (x0, y0), (x1, y1) in ((box.min(0), box.max(0)) for box in boxes):
        inside |= (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
    assert area == pytest.approx(inside.mean(), abs=1e-9)


@pytest.mark.parametrize(("name", "size"), [("chelsea", 20), ("coffee", 26), ("coffee", 60)])
def test_the_area_of_a_drawn_caption(text, picture, name, size):
    frame, ink = write(picture(name, 480), "Never trust a cat"[: 17 if size < 60 else 11], size, (20, 150))
    area = union_area(text.detect([frame])[0], frame.shape)
    assert 0.7 * ink < area < 1.75 * ink


def test_the_cascade_and_whole_frames_agree(text, craft, picture):
    plain = picture("chelsea", 640)
    captioned, _ = write(plain, "A caption under the picture", 22, (60, 265))
    titled, _ = write(captioned, "TITLE", 90, (150, 90))
    frames = [plain, captioned, titled]
    areas, full = ([union_area(b, plain.shape) for b in s.detect(frames)] for s in (text, craft))
    assert full[0] == 0 < full[1] < full[2]
    assert areas == pytest.approx(full, abs=0.01)


@pytest.mark.needs_videos
def test_blurred_letters_that_the_cheap_detector_misses(text, shared_videos):
    """A TAXI sign, mirrored and out of focus: the last frame of the second shot, 5.4 % of it by full CRAFT."""
    capture = cv2.VideoCapture(str(shared_videos / "bikes.mp4"))
    capture.set(cv2.CAP_PROP_POS_FRAMES, 75)
    ok, frame = capture.read()
    assert ok
    areas = [union_area(boxes, frame.shape) for boxes in text.detect([cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)])]
    assert areas == [pytest.approx(0.054, abs=0.02)]


def test_the_light_method_is_checked_against_craft(light, picture, clip_of):
    frame, _ = write(picture("coffee", 320), "CHECKED", 40, (30, 60))
    (row,) = light.score([clip_of(frame)], [{}])
    assert row["text_area_craft"] == pytest.approx(row["text_area"], abs=0.02)
    assert row["text_area_craft"] > 0.01


def test_one_clip_in_so_many_is_checked_whichever_order_they_come_in(clip_of):
    scorer = Text(TextSettings(method="light", check_every=5))
    scorer._by_craft = lambda frame: []
    checked = [n for n in range(200) if scorer._by_craft_too(clip_of(clip_id=f"clip-{n}")) is not None]
    assert 20 <= len(checked) <= 60
    assert checked == [n for n in range(200) if scorer._by_craft_too(clip_of(clip_id=f"clip-{n}")) is not None]


def test_the_check_has_a_column_only_with_the_light_method(light):
    assert "text_area_craft" in {c.name for c in light.columns}
    assert "text_area_craft" not in {c.name for c in Text().columns}


def test_words_are_read_once_and_the_largest_frame_counts(text, picture, clip_of):
    plain = picture("coffee", 320)
    small, _ = write(plain, "HELLO", 24, (30, 30))
    large, _ = write(small, "WIDE WORLD", 34, (30, 150))
    row = text.score([clip_of(plain, small, large)], [{}])[0]
    assert row["text"].upper().split() == ["HELLO", "WIDE", "WORLD"]
    assert row["text_area_frames"][0] == 0
    assert 0 < row["text_area_frames"][1] < row["text_area_frames"][2] == row["text_area"]


@pytest.mark.parametrize(
    ("spans", "order"),
    [
        ([], []),
        ([(0, 20, 50), (4, 24, 0)], [1, 0]),  # one row, the left one a little lower
        ([(30, 50, 0), (0, 20, 90), (2, 18, 5)], [2, 1, 0]),
        ([(0, 60, 100), (10, 30, 0)], [1, 0]),  # a tall one and a low one in its upper half
        ([(0, 20, 50), (15, 35, 0)], [0, 1]),
    ],
)
def test_lines_are_read_row_by_row_from_the_left(spans, order):
    assert reading_order(spans) == order


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
    look = text._finder.finder.look
    monkeypatch.setattr(text._finder.finder, "look", lambda f, side: seen.append(side) or look(f, side))
    row = text.score([clip_of(frame, frame.copy(), frame.copy())], [{}])[0]
    assert len(seen) == len(set(seen))
    assert row["text_area_frames"] == [row["text_area"]] * 3


def test_with_reading_off_the_text_is_null(picture, clip_of):
    scorer = Text(TextSettings(recognise=False))
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


def test_the_definition_says_how_the_number_was_measured():
    definitions = {m: Text(TextSettings(method=m, canvas_px=320)).definition for m in ("cascade", "craft", "light")}
    assert len({str(d) for d in definitions.values()}) == 3
    assert definitions["craft"]["canvas_px"] == 320
    assert str(definitions["craft"]["craft_sha256"]).startswith("4a5efbfb")  # as in the package's own RECORD
    assert definitions["cascade"]["letter_px"] == 24
    assert definitions["cascade"]["detector_sha256"] == definitions["light"]["detector_sha256"]
    assert "recogniser_sha256" not in Text(TextSettings(recognise=False)).definition
