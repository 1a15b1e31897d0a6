"""Keep the words of a frame that two text recognisers agree on.

EasyOCR's recogniser knows only the characters of its languages. It reads every other script as the characters that look
most alike, often with high confidence. PP-OCR's recogniser was trained on other data and also knows Chinese, Japanese
and Greek. On a script that neither of them knows, the two readings differ.

1. A word is kept if both recognisers read the same word, and all its letters belong to scripts of the languages.
2. Some Cyrillic and Greek words look like Latin ones ("PECTOPAH"), and both recognisers read them as Latin. A word of
   only such letters is kept if it is English and if other text of the frame supports it (see `WordRule`).
3. A word with letters that PP-OCR does not know (Cyrillic, Arabic, Hangul, ...) cannot be confirmed. It is kept if
   EasyOCR's confidence is high enough, unless PP-OCR confidently reads a script outside the languages.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.scores.text_light import without_subnormals

# All of these thresholds are part of the score's definition.
WORDS = {
    "min_confidence": 0.2,  # of EasyOCR, for a line
    "min_unconfirmed_confidence": 0.3,  # of EasyOCR, for a line that PP-OCR cannot confirm
    "min_second_confidence": 0.9,  # of PP-OCR, mean over a word's characters
    "characters_per_edit": 6,  # the two readings may differ in one of this many characters
    "min_short_confidence": 0.9,  # of EasyOCR, for a line of one or two characters
}
LINE_PX = 48  # height at which PP-OCR's recogniser reads a line
_MIN_WIDTH_PX = 320
# Latin letters that look like Cyrillic or Greek letters, upright or italic.
_LOOK_ALIKE = frozenset("ABCEHIKMNOPTXYZ" + "aceopxykmnugrti")
_SAME_SHAPE = str.maketrans({"0": "o", "1": "l", "i": "l", "|": "l", "ı": "l", "ł": "l", "ø": "o"})
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # "YouTube" has two parts


@dataclass(frozen=True, slots=True)
class Reading:
    """A line of text as PP-OCR reads it, with the confidence of each character."""

    text: str
    confidence: np.ndarray

    @property
    def mean(self) -> float:
        """Mean confidence of the line, 0 if it is empty."""
        return float(self.confidence.mean()) if len(self.confidence) else 0.0


UNREAD = Reading("", np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text as both recognisers read it. `confidence` is EasyOCR's."""

    text: str
    confidence: float
    second: Reading


class SecondReader:
    """PP-OCR's text recogniser (SVTR with a CTC decoder), run by ONNX Runtime."""

    def __init__(self, weights: Path, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        self._session = ort.InferenceSession(without_subnormals(weights), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        known = self._session.get_modelmeta().custom_metadata_map["character"].splitlines()
        self._characters = ["", *known, " "]  # the first is CTC's blank
        self.alphabet = frozenset(known)

    def read(self, line: np.ndarray) -> Reading:
        """Read one line of text, RGB uint8 (h, w, 3)."""
        height, width = line.shape[:2]
        small = cv2.resize(line, (max(16, round(LINE_PX * width / height)), LINE_PX))[..., ::-1]
        pixels = small.astype(np.float32) / 127.5 - 1
        pixels = np.pad(pixels, ((0, 0), (0, max(0, _MIN_WIDTH_PX - pixels.shape[1])), (0, 0)))
        scores = np.asarray(self._session.run(None, {self._input: pixels.transpose(2, 0, 1)[None]})[0])[0]
        best, confidence = scores.argmax(1), scores.max(1)
        kept = (best > 0) & np.append(True, best[1:] != best[:-1])
        # A character of the alphabet may be longer than one code point; one confidence belongs to each code point.
        read = [(c, v) for i, v in zip(best[kept], confidence[kept], strict=True) for c in self._characters[i]]
        return Reading("".join(c for c, _ in read), np.array([v for _, v in read], np.float32))


class WordRule:
    """Decides which words of a frame are kept."""

    def __init__(self, scripts: Sequence[str], alphabet: frozenset[str], english: frozenset[str]) -> None:
        """Create a rule.

        Args:
            scripts: Scripts of the languages, as Unicode character names begin ("LATIN").
            alphabet: Characters that PP-OCR knows.
            english: English words in lower case.
        """
        self.scripts, self.alphabet, self.english = tuple(scripts), alphabet, english

    def __call__(self, lines: Sequence[Line]) -> list[str]:
        """Return the kept words of each line of a frame, joined by spaces; lines without a kept word are omitted."""
        kept = [self._words(line) for line in lines]
        if not self._supported(lines, kept):
            kept = [[word for word in words if not _looks_foreign(word)] for words in kept]
        return [" ".join(words) for words in kept if words]

    def _supported(self, lines: Sequence[Line], kept: Sequence[list[str]]) -> bool:
        """Whether words that look like another script may be kept.

        They may if another kept word of the frame is certainly Latin, or if every line of at least three letters has a
        kept word.
        """
        if any(_letters(word) and not _looks_foreign(word) for words in kept for word in words):
            return True
        return all(words or len(_letters(line.text)) < 3 for line, words in zip(lines, kept, strict=True))

    def _words(self, line: Line) -> list[str]:
        if line.confidence < WORDS["min_confidence"]:
            return []
        if not self._confirmable(line.text):
            sure = line.confidence >= WORDS["min_unconfirmed_confidence"] and not self._contradicted(line.second)
            return line.text.split() if sure else []
        words = [word for word in self._agreed(line) if self._english_or_unmistakable(word)]
        return [] if _lone_letter(words) else words

    def _confirmable(self, text: str) -> bool:
        """Whether PP-OCR knows every letter that EasyOCR read."""
        return all(c in self.alphabet for c in _letters(text))

    def _contradicted(self, second: Reading) -> bool:
        """Whether PP-OCR is confident that most letters belong to scripts that the languages do not cover."""
        letters = _letters(second.text)
        foreign = [c for c in letters if not self._covered(c)]
        return second.mean >= WORDS["min_second_confidence"] and 2 * len(foreign) > len(letters)

    def _agreed(self, line: Line) -> Iterator[str]:
        """Yield the words, as PP-OCR reads them, that EasyOCR reads in the same or nearly the same way."""
        pairs = _aligned(line)
        for first, second, confidence in pairs:
            one, other = _shape(first), _shape(second)
            if len(pairs) == 1 and len(other) <= 2 and line.confidence < WORDS["min_short_confidence"]:
                continue
            exact = any(c.isdigit() for c in first + second)
            allowed = 0 if exact else len(other) // WORDS["characters_per_edit"]
            if (
                other
                and confidence >= WORDS["min_second_confidence"]
                and _edits(one, other) <= allowed
                and self._all_covered(second)
            ):
                yield second

    def _all_covered(self, word: str) -> bool:
        return all(self._covered(c) for c in _letters(word))

    def _covered(self, letter: str) -> bool:
        return unicodedata.name(letter, "").startswith(self.scripts)

    def _english_or_unmistakable(self, word: str) -> bool:
        if not _looks_foreign(word):
            return True
        return all(part.lower() in self.english for part in _PARTS.findall(word))


def english_words(tokenizer: Path) -> frozenset[str]:
    """Return the whole words in the vocabulary of a WordPiece tokenizer (tokenizer.json), in lower case."""
    pieces = json.loads(tokenizer.read_text("utf-8"))["model"]["vocab"]
    return frozenset(piece for piece in pieces if piece.isalpha())


def _letters(text: str) -> str:
    return "".join(c for c in text if c.isalpha())


def _looks_foreign(word: str) -> bool:
    """Whether a word has letters, and all of them look like Cyrillic or Greek letters."""
    letters = {unicodedata.normalize("NFKD", c)[0] for c in _letters(word)}
    return bool(letters) and letters <= _LOOK_ALIKE


def _lone_letter(words: Sequence[str]) -> bool:
    """Whether the only kept word of a line is one Latin letter, which probably belongs to vertical text."""
    return len(words) == 1 and len(words[0]) == 1 and unicodedata.name(words[0], "").startswith("LATIN")


def _shape(text: str) -> str:
    """Normalize a text for comparison: remove case, accents and punctuation, and merge characters of similar shape."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in plain.translate(_SAME_SHAPE) if c.isalnum())


def _aligned(line: Line) -> list[tuple[str, str, float]]:
    """Align both readings: each word of EasyOCR, the corresponding text of PP-OCR, and its mean confidence."""
    words = line.text.split()
    places = [i for i, c in enumerate(line.second.text) if not c.isspace()]
    one = [_shape(c) or c for word in words for c in word]
    other = [_shape(line.second.text[i]) or line.second.text[i] for i in places]
    starts, ends = _bounds(one, other)
    pairs, at = [], 0
    for word in words:
        span = places[starts[at] : ends[at + len(word)]]
        at += len(word)
        text = line.second.text[span[0] : span[-1] + 1] if span else ""
        pairs.append((word, text, float(line.second.confidence[span].mean()) if span else 0.0))
    return pairs


def _bounds(one: Sequence[str], other: Sequence[str]) -> tuple[list[int], list[int]]:
    """Map positions in `one` to `other`: `starts` for a word that starts at i, `ends` for a word that ends before i."""
    starts, ends = [len(other)] * (len(one) + 1), [0] * (len(one) + 1)
    matcher: SequenceMatcher[Any] = SequenceMatcher(None, one, other, autojunk=False)
    for _, a0, a1, b0, b1 in matcher.get_opcodes():
        for a in range(a0, a1):
            starts[a] = min(b0 + a - a0, b1)
            ends[a + 1] = b1 if a + 1 == a1 else min(b0 + a + 1 - a0, b1)
    return starts, ends


def _edits(one: str, other: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(other) + 1))
    for i, x in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(other, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]
