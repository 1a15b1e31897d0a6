"""Regions against what was marked, and what the cascade spares."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.config import TextSettings
from curation.engine import open_clips
from curation.scores.text import Text
from curation.scores.text_cascade import CASCADE, Region, TextCascade, _confirmed, _grown, find_regions

SHAPE = (360, 640, 3)


@given(st.lists(st.tuples(*[st.integers(0, 20)] * 4), max_size=12))
def test_regions_hold_every_mark_and_do_not_touch(marks):
    mask = np.zeros((90, 160), bool)
    for x, y, w, h in marks:
        mask[4 * y : 4 * y + h + 2, 6 * x : 6 * x + w + 2] = True
    regions = find_regions(mask, SHAPE)
    count = np.zeros(SHAPE[:2], int)
    for x0, y0, x1, y1, letters in regions:
        assert 0 <= x0 < x1 <= SHAPE[1]
        assert 0 <= y0 < y1 <= SHAPE[0]
        assert letters > 0
        count[y0:y1, x0:x1] += 1
    assert count.max(initial=0) <= 1
    assert (count[np.kron(mask, np.ones((4, 4), bool))] == 1).all()
    assert bool(marks) == bool(regions)


def test_a_region_is_as_low_as_its_lowest_considerable_line():
    mask = np.zeros((90, 160), bool)
    mask[20:28, 20:100] = True  # 8 rows of 4 px, of which DB marks half: 64 px letters
    mask[32:35, 20:100] = True  # and 24 px letters below them
    (region,) = find_regions(mask, SHAPE)
    assert region.letters == 24
    mask[32:35, 20:100] = False
    mask[32:34, 20:22] = True  # a speck
    (region,) = find_regions(mask, SHAPE)
    assert region.letters == 64


@pytest.mark.parametrize("words", range(1, 13))
def test_a_region_of_many_alike_words_is_as_low_as_they_are(words):
    mask = np.zeros((90, 160), bool)
    for i in range(words):
        mask[20 + 8 * (i // 4) : 24 + 8 * (i // 4), 20 + 12 * (i % 4) : 29 + 12 * (i % 4)] = True
    (region,) = find_regions(mask, SHAPE)
    assert region.letters == 32


def test_only_large_finds_need_the_second_look():
    mask = np.zeros((96, 160), bool)
    mask[4:6, 4:20] = mask[40:60, 20:60] = mask[40:60, 100:140] = True
    second = np.zeros((48, 80), np.float32)
    second[25, 55] = 1  # inside the last
    expected = mask.copy()
    expected[40:60, 20:60] = False
    assert (_confirmed(mask, second) == expected).all()


@given(st.integers(0, 600), st.integers(1, 300), st.floats(0.25, 1))
def test_a_span_grows_within_its_limit_to_whole_blocks(start, length, scale):
    limit = 640
    end = min(limit, start + length)
    low, high = _grown(start, end, limit, scale)
    assert 0 <= low <= start
    assert end <= high <= limit
    assert high - low == limit or round((high - low) * scale) % 16 in {0, 1, 15}


class Finder:
    """Sees a line of text where a frame is white."""

    def __init__(self) -> None:
        self.looks = 0

    def look(self, frame: np.ndarray, long_side: int) -> np.ndarray:
        self.looks += 1
        return (frame[::4, ::4].mean(-1) > 250).astype(np.float32)


class Craft:
    """One box around what is white; remembers the pixels it was given."""

    def __init__(self) -> None:
        self.pixels: list[int] = []

    def heat(self, pictures: list[np.ndarray]) -> np.ndarray:
        self.pixels.append(pictures[0][..., 0].size)
        white = np.stack([(p[::2, ::2].mean(-1) > 250).astype(np.float32) for p in pictures])
        return np.stack([white, white], -1)

    def boxes(self, heat: np.ndarray) -> np.ndarray:
        y, x = np.nonzero(heat[..., 0])
        if not len(x):
            return np.zeros((0, 4, 2), np.float32)
        x0, x1, y0, y1 = 2 * x.min(), 2 * x.max() + 2, 2 * y.min(), 2 * y.max() + 2
        return np.array([[[x0, y0], [x1, y0], [x1, y1], [x0, y1]]], np.float32)


def frame_with(*spans: tuple[int, int, int, int], level: int = 60) -> np.ndarray:
    frame = np.random.default_rng(level).integers(level, level + 20, SHAPE).astype(np.uint8)
    for x0, y0, x1, y1 in spans:
        frame[y0:y1, x0:x1] = 255
    return frame


@pytest.mark.parametrize("span", [(100, 200, 300, 212), (200, 100, 440, 148), (0, 0, 80, 12), (40, 60, 600, 300)])
def test_boxes_come_back_in_the_frame_s_own_pixels(span):
    (boxes,) = TextCascade(Finder(), Craft())([frame_with(span)])
    x0, y0, x1, y1 = span
    assert len(boxes) == 1
    assert np.abs(boxes[0] - [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]).max() <= 2


def test_the_same_line_over_another_picture_is_not_measured_again():
    line = (100, 300, 300, 312)
    finder, craft = Finder(), Craft()
    first, second, third = TextCascade(finder, craft)(
        [frame_with(line), frame_with(line, level=120), frame_with(line, (400, 40, 500, 52), level=20)]
    )
    assert np.array_equal(first[0], second[0])
    assert len(third) == 2
    assert len(craft.pixels) == 2  # the line, and what the third frame has besides


def test_a_frame_like_an_earlier_one_is_not_looked_at():
    finder = Finder()
    frame = frame_with((100, 300, 300, 312))
    boxes = TextCascade(finder, Craft())([frame, frame_with(level=90), np.maximum(frame, 62)])
    looks = finder.looks
    TextCascade(finder, Craft())([frame, frame_with(level=90)])
    assert looks == finder.looks - looks
    assert np.array_equal(boxes[2], boxes[0])


def test_where_nothing_is_suspected_craft_only_glances():
    craft = Craft()
    assert TextCascade(Finder(), craft)([frame_with()]) == [[]]
    assert craft.pixels == [CASCADE["glance_px"] * round(CASCADE["glance_px"] * 9 / 16)]


def test_large_letters_are_measured_unreduced_but_suspected_in_small():
    craft = Craft()
    cascade = TextCascade(Finder(), craft)
    cascade._look_closely(frame_with((200, 100, 440, 196)), Region(180, 80, 460, 216, 96.0))
    assert craft.pixels[0] < 280 * 136 / 9
    assert craft.pixels[1] > 240 * 96


@pytest.mark.needs_videos
def test_a_title_of_two_lines_that_fades_out_is_seen(shared_videos):
    """The lines run together for DB, which makes them seem twice as high, and too small a picture is looked at. Full
    CRAFT on the frame of the video's own size covers .1665 of it."""
    clip = next(c for c in open_clips(str(shared_videos / "bbb_30s.webm")) if c.start > 22)
    found = Text(TextSettings(recognise=False)).score_one(clip)["text_area_frames"]
    assert found[2] == pytest.approx(0.1665, abs=0.01)
