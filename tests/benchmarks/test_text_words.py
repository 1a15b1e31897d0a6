"""The benchmark of words: what counts as kept and false, and what is drawn."""

import numpy as np

from benchmarks.text_words import PHRASES, TURNED, Tally, font_files, fonts_for, half_of, kinds, line, samples, words_of


def test_kept_and_false_words():
    tally = Tally()
    assert tally.add(["never", "trust", "a", "cat"], ["trust", "cat", "cot"]) == ["cot"]
    assert (tally.drawn, tally.kept, tally.false, tally.frames) == (4, 2, 1, 1)
    assert tally.precision.strip() == "66.7%"
    assert Tally().precision.strip() == ""


def test_words_have_no_case_and_no_marks_around_them():
    assert words_of('"Hello, World" - (50%) don\'t') == ["hello", "world", "50", "don't"]


def test_both_halves_have_phrases_of_most_scripts():
    for script in ("English", "numbers", "Cyrillic", "Greek", "Hebrew", "Arabic", "Chinese", "Japanese", "Thai"):
        assert {half_of(p) for p in PHRASES[script].split("|")} == {"fit", "judge"}


def test_a_stacked_line_is_taller_than_wide_and_a_turn_keeps_its_ink():
    (font, *_) = fonts_for("EXIT", font_files([]), "both")
    level, stacked = (line("EXIT", font, 30, way) for way in (False, True))
    assert level.shape[1] > 2 * level.shape[0]
    assert stacked.shape[0] > 2 * stacked.shape[1]
    assert all(np.isclose(turn(level).sum(), level.sum()) for turn in TURNED.values())


def test_the_same_seed_draws_the_same_frames():
    fonts = [p for p in font_files([]) if p.name == "DejaVuSans.ttf"]
    ground = [np.full((240, 640, 3), 90, np.uint8)]
    one, other = (list(samples("both", ground, fonts, 1, 3)) for _ in range(2))
    assert [s.kind for s in one] == [s.kind for s in other]
    assert all(np.array_equal(a.frame, b.frame) for a, b in zip(one, other, strict=True))
    assert {"English", "Cyrillic", "English, mirrored", "English and Cyrillic"} <= {s.kind for s in one}
    assert {s.kind for s in one} <= {name for name, *_ in kinds()}
