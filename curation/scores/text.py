"""Text area by CRAFT, and the words that EasyOCR's and PP-OCR's recognisers agree on."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from curation.config import TextSettings
from curation.scores.base import ClipFrames, Column, Resources, Scorer
from curation.scores.craft import CRAFT
from curation.scores.text_cascade import CASCADE
from curation.scores.text_languages import recogniser_for
from curation.scores.text_words import UNREAD, WORDS, Line, SecondReader, WordRule, english_words
from curation.weights import MINILM, TEXT_DETECTOR, TEXT_RECOGNISER, Resolved, craft_model, resolve, text_recogniser

MIN_BOX = 6  # px; text below this height cannot be read
_METHODS = {
    "cascade": "CRAFT word boxes where cheap looks suspect text, union",
    "craft": "CRAFT word boxes, union",
    "light": "RapidOCR line boxes, union",
}

Boxes = list[np.ndarray]
Span = tuple[float, float, float]  # top, bottom and left of a line, in pixels


def union_area(boxes: Sequence[np.ndarray], shape: tuple[int, ...]) -> float:
    """Share of a picture (h, w) that boxes cover, overlaps counted once. A box is (corners, 2) in pixels x, y."""
    mask = np.zeros(shape[:2], np.uint8)
    for box in boxes:
        cv2.fillPoly(mask, [np.asarray(box, np.int32).reshape(-1, 2)], 1)
    return float(mask.mean())


class Text(Scorer):
    """CRAFT's word boxes (Baek et al. 2019) on first, middle and last frame, as Stable Video Diffusion scores text.

    The area is that of the boxes as CRAFT draws them, before EasyOCR joins them to lines with a margin, which makes
    them about a third larger.
    """

    name = "text"
    version = 4
    batch_size = 2
    resources = Resources(cpus=1, memory_gb=1.6)

    def __init__(self, settings: TextSettings | None = None, folder: str = "") -> None:
        self.config = settings or TextSettings()
        self.folder = folder
        self._reader: Any = None
        self._second: SecondReader | None = None
        self._rule: WordRule | None = None
        self._craft: Any = None
        self._finder: Any = None  # the cascade, or RapidOCR

    @property
    def columns(self) -> Sequence[Column]:
        columns = [
            Column("text_area", pa.float32(), "largest share of a frame that text boxes cover", "0..1"),
            Column("text_area_frames", pa.list_(pa.float32()), "that share for first, middle and last frame", "0..1"),
            Column(
                "text",
                pa.string(),
                "words that two recognisers agree on, frame by frame, repeated lines once; null if reading is off",
            ),
        ]
        if self.config.method == "light":
            every = self.config.check_every
            columns.append(Column("text_area_craft", pa.float32(), f"by CRAFT, on one clip in {every}", "0..1"))
        return columns

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        method = self.config.method
        said: dict[str, str | int | float | bool] = {"method": _METHODS[method], "recognise": self.config.recognise}
        if method != "craft":
            said["detector_sha256"] = resolve(TEXT_DETECTOR, self.folder).sha256()
        if method != "light":
            said |= {"craft_sha256": self._detector_weights().sha256("craft_mlt_25k.pth"), **CRAFT}
        if method == "cascade":
            said |= CASCADE
        elif method == "craft":
            said["canvas_px"] = self.config.canvas_px
        if self.config.recognise:
            said |= {
                "languages": " ".join(self.config.languages),
                "recogniser_sha256": self._recogniser_weights().sha256(recogniser_for(self.config.languages).file),
                "second_recogniser_sha256": resolve(TEXT_RECOGNISER, self.folder).sha256(),
                "english_sha256": resolve(MINILM, self.folder).sha256("tokenizer.json"),
                **WORDS,
            }
        return said

    def _detector_weights(self) -> Resolved:
        return resolve(craft_model(self.config), self.folder)

    def _recogniser_weights(self) -> Resolved:
        return resolve(text_recogniser(self.config.languages), self.folder)

    @property
    def options(self) -> Mapping[str, Any]:
        return {f"text.{name}": value for name, value in self.config}

    def load(self) -> None:
        import torch

        from curation.scores.craft import Craft
        from curation.scores.encoders import limit_threads
        from curation.scores.text_cascade import TextCascade, TextFinder
        from curation.scores.text_light import LightText

        limit_threads(self.resources.cpus)
        # EasyOCR asks for pinned memory on every machine, and torch would say so for every line that is read.
        warnings.filterwarnings("ignore", message=".*pin_memory.*no accelerator")
        if self._craft is not None:
            return
        gpu, threads = torch.cuda.is_available(), max(1, int(self.resources.cpus))
        found = easyocr_reader(["en"], self._detector_weights().path, gpu, detector=True, recognizer=False)
        self._craft = Craft(found.detector, found.device, threads)
        if self.config.recognise:
            self._load_recognisers(gpu, threads)
        if self.config.method != "craft":
            weights = resolve(TEXT_DETECTOR, self.folder).file()
            light = self.config.method == "light"
            self._finder = (
                LightText(weights, threads) if light else TextCascade(TextFinder(weights, threads), self._craft)
            )

    def _load_recognisers(self, gpu: bool, threads: int) -> None:
        languages = self.config.languages
        folder = self._recogniser_weights().path
        self._reader = easyocr_reader(languages, folder, gpu, detector=False, recognizer=True)
        self._second = SecondReader(resolve(TEXT_RECOGNISER, self.folder).file(), threads)
        english = english_words(resolve(MINILM, self.folder).file("tokenizer.json"))
        self._rule = WordRule(recogniser_for(languages).scripts, self._second.alphabet, english)

    def score(self, clips: Sequence[ClipFrames], known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Raises RuntimeError before `load`, ValueError for a clip without frames."""
        if self._craft is None:
            raise RuntimeError("load() comes first")
        return [self._measure(clip) for clip in clips]

    def detect(self, frames: Sequence[np.ndarray]) -> list[Boxes]:
        """Boxes on the frames of one clip, RGB uint8 (h, w, 3), by the configured method.

        Each box is int32 (4, 2): corners x, y in the frame's pixels.
        """
        if self.config.method == "cascade":
            return self._finder(frames)
        one = self._finder.boxes if self.config.method == "light" else self._by_craft
        found: list[Boxes] = []
        for i, frame in enumerate(frames):  # a very short clip repeats a frame
            found.append(found[-1] if i and np.array_equal(frame, frames[i - 1]) else one(frame))
        return found

    def _by_craft(self, frame: np.ndarray) -> Boxes:
        return self._craft.full(frame, self.config.canvas_px)

    def read(self, frame: np.ndarray, boxes: Sequence[np.ndarray]) -> list[str]:
        """Lines of words that both recognisers agree on, from top to bottom, in the given boxes of a frame.

        Raises RuntimeError before `load`, and where reading is off.
        """
        if self._rule is None:
            raise RuntimeError("load() comes first, with text.recognise on")
        return self._rule(self.lines(frame, boxes))

    def lines(self, frame: np.ndarray, boxes: Sequence[np.ndarray]) -> list[Line]:
        """Both readings of each line in the given boxes, in reading order."""
        from easyocr.utils import four_point_transform, group_text_box

        flat, tilted = group_text_box([box.reshape(-1) for box in boxes], add_margin=0.1)
        height, width = frame.shape[:2]
        flat = [[max(0, x0), min(width, x1), max(0, y0), min(height, y1)] for x0, x1, y0, y1 in flat]
        flat = [box for box in flat if min(box[1] - box[0], box[3] - box[2]) >= MIN_BOX]
        tilted = [
            corners for corners in (np.asarray(box, np.float32) for box in tilted) if _short_side(corners) >= MIN_BOX
        ]
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        lines: list[tuple[Span, Line]] = []
        for x0, x1, y0, y1 in flat:
            found = self._reader.recognize(grey, [[x0, x1, y0, y1]], [], reformat=False)
            lines += [((y0, y1, x0), line) for line in self._read_twice(found, frame[y0:y1, x0:x1])]
        for corners in tilted:
            found = self._reader.recognize(grey, [], [corners.tolist()], reformat=False)
            span = float(corners[:, 1].min()), float(corners[:, 1].max()), float(corners[:, 0].min())
            lines += [(span, line) for line in self._read_twice(found, four_point_transform(frame, corners))]
        return [lines[i][1] for i in reading_order([span for span, _ in lines])]

    def _read_twice(self, found: Sequence[Any], crop: np.ndarray) -> list[Line]:
        """EasyOCR's reading of a line with PP-OCR's. Where EasyOCR is too unsure, PP-OCR does not read."""
        assert self._second is not None
        return [
            Line(text, float(confidence), self._second.read(crop) if confidence >= WORDS["min_confidence"] else UNREAD)
            for _, text, confidence in found
        ]

    def _measure(self, clip: ClipFrames) -> dict[str, Any]:
        if not clip.frames:
            raise ValueError("the clip has no frames")
        found = self.detect(clip.frames)
        areas = [union_area(boxes, frame.shape) for boxes, frame in zip(found, clip.frames, strict=True)]
        row: dict[str, Any] = {"text_area": max(areas), "text_area_frames": areas, "text": None}
        if self.config.recognise:
            row["text"] = self._words(clip.frames, found)
        if self.config.method == "light":
            row["text_area_craft"] = self._by_craft_too(clip)
        return row

    def _words(self, frames: Sequence[np.ndarray], found: Sequence[Boxes]) -> str:
        """All lines of a clip, those that are repeated once. A frame that equals the one before is not read again."""
        lines: dict[str, str] = {}
        for i, (frame, boxes) in enumerate(zip(frames, found, strict=True)):
            if boxes and not (i and np.array_equal(frame, frames[i - 1])):
                lines |= {line.casefold(): line for line in self.read(frame, boxes) if line.casefold() not in lines}
        return " ".join(lines.values())

    def _by_craft_too(self, clip: ClipFrames) -> float | None:
        """CRAFT's area, if this clip is one of those that are checked: which ones, only their names decide."""
        number = int.from_bytes(hashlib.sha256(clip.clip_id.encode()).digest()[:8], "big")
        if number % self.config.check_every:
            return None
        return max(union_area(self._by_craft(frame), frame.shape) for frame in clip.frames)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": None, "_second": None, "_rule": None, "_craft": None, "_finder": None}


def reading_order(spans: Sequence[Span]) -> list[int]:
    """Indices of spans, row by row and from left to right. A row holds spans that are side by side."""
    rows: list[list[int]] = []
    for i in sorted(range(len(spans)), key=lambda i: spans[i][0] + spans[i][1]):
        if rows and _side_by_side(spans[rows[-1][0]], spans[i]):
            rows[-1].append(i)
        else:
            rows.append([i])
    return [i for row in rows for i in sorted(row, key=lambda i: spans[i][2])]


def _side_by_side(one: Span, other: Span) -> bool:
    """Whether two lines share half of the smaller height."""
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return 2 * shared >= min(one[1] - one[0], other[1] - other[0])


def _short_side(corners: np.ndarray) -> float:
    """The shorter of a box's sides, in pixels; corners (4, 2) follow one another."""
    return float(np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1).min())


def easyocr_reader(languages: Sequence[str], folder: Path, gpu: bool, *, detector: bool, recognizer: bool) -> Any:
    """EasyOCR with weights from a folder; nothing is downloaded."""
    import easyocr

    return easyocr.Reader(
        list(languages),
        gpu=gpu,
        model_storage_directory=str(folder),
        user_network_directory=str(folder),  # otherwise EasyOCR creates one in the home folder, which may be read-only
        download_enabled=False,
        detector=detector,
        recognizer=recognizer,
        quantize=False,  # deprecated in torch, and no faster for so small a recogniser
        verbose=False,
    )
