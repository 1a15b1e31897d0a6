"""Words that two recognisers agree on: rendered text in many scripts, and readings written by hand."""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from curation.scores.captions import words_on_screen
from curation.scores.text import Text
from curation.scores.text_languages import recogniser_for
from curation.scores.text_words import WORDS, Line, Reading, SecondReader, WordRule, _aligned, _edits, english_words
from curation.weights import MINILM, TEXT_RECOGNISER, resolve

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@pytest.fixture(scope="module")
def text() -> Text:
    scorer = Text()
    scorer.load()
    return scorer


@pytest.fixture(scope="module")
def second() -> SecondReader:
    return SecondReader(resolve(TEXT_RECOGNISER).file(), 1)


@pytest.fixture(scope="module")
def rule_for(second):
    english = english_words(resolve(MINILM).file("tokenizer.json"))
    return lambda *languages: WordRule(recogniser_for(languages or ["en"]).scripts, second.alphabet, english)


def line(first: str, second: str | None = None, confidence: float = 0.9, of_second: float = 0.99) -> Line:
    """Both readings of a line, by default the same."""
    other = first if second is None else second
    return Line(first, confidence, Reading(other, np.full(len(other), of_second, np.float32)))


def title(words: str, font: str = "DejaVuSans", size: int = 40) -> np.ndarray:
    """White letters on black, with a margin."""
    face = ImageFont.truetype(str(FONTS / f"{font}.ttf"), size)
    left, top, right, bottom = face.getbbox(words)
    page = Image.new("RGB", (int(right - left) + 20, int(bottom - top) + 20))
    ImageDraw.Draw(page).text((10 - left, 10 - top), words, "white", face)
    return np.asarray(page)


def over(frame: np.ndarray, page: np.ndarray, top: int = 60) -> np.ndarray:
    """The frame under a title, as large as fits."""
    fit = min(1.0, (frame.shape[1] - 20) / page.shape[1], (frame.shape[0] - top - 10) / page.shape[0])
    page = cv2.resize(page, None, fx=fit, fy=fit, interpolation=cv2.INTER_AREA) if fit < 1 else page
    left, out = (frame.shape[1] - page.shape[1]) // 2, frame.copy()
    out[top : top + page.shape[0], left : left + page.shape[1]] = page
    return out


@pytest.mark.parametrize("font", ["DejaVuSans", "DejaVuSerif-Bold", "DejaVuSans-Oblique"])
@pytest.mark.parametrize(
    "words",
    [
        "Утро в деревне", "РОССИЯ", "ТОРМОЗ", "Поехали", "ПРИВЕТ МИР",  # Cyrillic
        "ΕΛΕΥΘΕΡΙΑ", "Νύχτα στην πόλη", "ΧΑΡΤΗΣ",  # Greek
    ],
)  # fmt: skip
def test_cyrillic_and_greek_give_area_and_no_words(text, picture, clip_of, words, font):
    (row,) = text.score([clip_of(over(picture("coffee", 480), title(words, font)))], [{}])
    assert row["text"] == ""
    assert row["text_area"] > 0.01
    assert words_on_screen(row["text"], row["text_area"]) == "there is text on screen"


@pytest.mark.parametrize("words", ["حديقة المدينة", "ქალაქის ბაღი", "Քաղաքային այգի", "גן העיר שלנו", "ສວນສາທາລະນະ"])
def test_other_scripts_give_area_and_no_words(text, picture, clip_of, words):
    (row,) = text.score([clip_of(over(picture("coffee", 480), title(words)))], [{}])
    assert row["text"] == ""
    assert row["text_area"] > 0.01


@pytest.mark.parametrize(
    "turn", [np.rot90, lambda p: np.rot90(p, -1), lambda p: np.rot90(p, 2), lambda p: p[:, ::-1]],
    ids=["left", "right", "upside down", "mirrored"],
)  # fmt: skip
def test_turned_and_mirrored_text_gives_no_words(text, picture, clip_of, turn):
    page = np.ascontiguousarray(turn(title("Garden of forking paths", size=30)))
    (row,) = text.score([clip_of(over(picture("coffee", 480), page, top=5))], [{}])
    assert row["text"] == ""


def test_letters_below_one_another_are_no_words(text, picture, clip_of):
    page = np.zeros((270, 60, 3), np.uint8)
    for i, letter in enumerate("GARDEN"):
        drawn = title(letter, size=32)
        page[i * 45 : i * 45 + drawn.shape[0], 5 : 5 + drawn.shape[1]] = drawn[:45]
    (row,) = text.score([clip_of(over(picture("coffee", 480), page, top=5))], [{}])
    assert row["text"] == ""


@pytest.mark.parametrize("font", ["DejaVuSans", "DejaVuSerif", "DejaVuSansMono-Bold"])
@pytest.mark.parametrize(
    "words", ["The garden of forking paths", "PHONE HOME", "1906", "Platform 9", "COFFEE", "Sintel"]
)
def test_english_words_names_and_numbers_are_read(text, picture, clip_of, words, font):
    (row,) = text.score([clip_of(over(picture("coffee", 480), title(words, font)))], [{}])
    assert row["text"].split() == words.split()


def test_english_beside_another_script_is_read(text, picture, clip_of):
    frame = over(over(picture("coffee", 480), title("НОВОСТИ ДНЯ"), 20), title("News of the day"), 180)
    (row,) = text.score([clip_of(frame)], [{}])
    assert row["text"] == "News of the day"


@pytest.mark.needs_videos
def test_the_cyrillic_title_gives_no_words(text, shared_videos):
    path = shared_videos.parent / "faults" / "text_cyrillic.mp4"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    from curation.engine import open_clips

    row = text.score([open_clips(str(path))[0]], [{}])[0]
    assert row["text"] == ""
    assert row["text_area"] > 0.01


def test_the_second_recogniser_reads_a_line(second):
    read = second.read(title("Never trust a cat 1906"))
    assert read.text == "Never trust a cat 1906"
    assert read.confidence.shape == (len(read.text),)
    assert read.mean > 0.9
    assert second.read(np.zeros((6, 6, 3), np.uint8)).text == ""


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([line("Hello world")], ["Hello world"]),
        ([line("NO EXIT", "NOEXIT")], ["NO EXIT"]),
        ([line("@Open Movie Preject", "Open Movie Project")], ["Open Movie Project"]),
        ([line("Offnung", "Öffnung")], ["Öffnung"]),
        ([line("00.10", "00:10")], ["00:10"]),
        ([line("P2001", "2001")], []),  # digits must be equal
        ([line("nPMBET MVP", "IIPИBET")], []),
        ([line("News 133", "News ニュース")], ["News"]),
        ([line("TEAOZ", "TEΛOΣ")], []),
        ([line("HELLO", of_second=0.5)], []),
        ([line("HELLO", confidence=0.1)], []),
        ([line("a", confidence=0.99)], []),  # a letter is no word
        ([line("7", confidence=0.99)], ["7"]),
        ([line("7", confidence=0.6)], []),
        ([line("PECTOPAH")], []),  # looks the same in Cyrillic
        ([line("XopBaT")], []),
        ([line("Pexuccep", "Pexuccêp")], []),
        ([line("PHONE")], ["PHONE"]),
        ([line("YouTube")], ["YouTube"]),
        ([line("HET"), line("npMbet", "")], []),  # an English word, but the rest of the frame is not Latin
        ([line("HET"), line("Hello")], ["HET", "Hello"]),
        ([line("")], []),
        ([], []),
    ],
)
def test_which_words_of_a_frame_are_kept(rule_for, lines, words):
    assert rule_for("en")(lines) == words


def test_words_of_a_script_that_cannot_be_confirmed_are_kept_by_confidence(rule_for):
    russian = rule_for("ru")
    assert russian([line("ПРИВЕТ МИР", "nPMBET", of_second=0.6)]) == ["ПРИВЕТ МИР"]
    assert russian([line("ПРИВЕТ", "", confidence=0.25)]) == []
    assert russian([line("ЯМФЕ", "今天新闻")]) == []  # it is Chinese
    assert russian([line("Hello", "Hello")]) == ["Hello"]
    assert rule_for("ko")([line("안녕하세요", "")]) == ["안녕하세요"]


def test_chinese_and_japanese_are_confirmed(rule_for):
    assert rule_for("ch_sim", "en")([line("今天新闻")]) == ["今天新闻"]
    assert rule_for("ch_sim")([line("今天新闻", "全大祈门")]) == []
    assert rule_for("ja")([line("ニュース")]) == ["ニュース"]
    assert rule_for("en")([line("NHK", "ニュース")]) == []


@pytest.mark.parametrize(
    ("first", "second", "pairs"),
    [
        ("one two", "onetwo", ["one", "two"]),
        ("one two", "one  two", ["one", "two"]),
        ("xone two", "one two", ["one", "two"]),
        ("one two", "", ["", ""]),
        ("onetwo", "one two", ["one two"]),
    ],
)
def test_each_word_has_its_stretch_of_the_other_reading(first, second, pairs):
    assert [other for _, other, _ in _aligned(line(first, second))] == pairs


@pytest.mark.parametrize(
    ("one", "other", "edits"), [("", "", 0), ("kitten", "sitting", 3), ("a", "", 1), ("", "ab", 2)]
)
def test_levenshtein(one, other, edits):
    assert _edits(one, other) == edits


def test_the_rule_is_in_the_definition(text):
    definition = text.definition
    assert WORDS.items() <= definition.items()
    assert definition["version"] == 4
    assert definition["languages"] == "en"
    assert len(str(definition["second_recogniser_sha256"])) == 64
