"""How much of the picture is text, and what it says: CRAFT and EasyOCR's English recogniser."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from curation.config import TextSettings
from curation.scores.base import ClipFrames, Column, Resources, Scorer
from curation.weights import EASYOCR, resolve

# CRAFT's published thresholds (Baek et al. 2019, section 4.2), as EasyOCR uses them.
CRAFT = {"text_threshold": 0.7, "link_threshold": 0.4, "low_text": 0.4}
MIN_SIDE = 32  # CRAFT halves a picture five times; thinner ones are padded
MIN_BOX = 6  # px; text below this height cannot be read
MIN_CONFIDENCE = 0.3


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
    version = 1
    batch_size = 2
    resources = Resources(cpus=1, memory_gb=1.5)

    def __init__(self, settings: TextSettings | None = None, folder: str = "") -> None:
        self.config = settings or TextSettings()
        self.folder = folder
        self._reader: Any = None

    @property
    def columns(self) -> Sequence[Column]:
        return [
            Column("text_area", pa.float32(), "largest share of a frame that text boxes cover", "0..1"),
            Column("text_area_frames", pa.list_(pa.float32()), "that share for first, middle and last frame", "0..1"),
            Column("text", pa.string(), "words read, frame by frame, repeated lines once; null if reading is off"),
        ]

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        found = resolve(EASYOCR, self.folder)
        reading = {"recogniser_sha256": found.sha256("english_g2.pth"), "min_confidence": MIN_CONFIDENCE}
        return {
            "method": "CRAFT word boxes, union",
            "canvas_px": self.config.canvas_px,
            "craft_sha256": found.sha256("craft_mlt_25k.pth"),
            "recognise": self.config.recognise,
            **CRAFT,
            **(reading if self.config.recognise else {}),
        }

    def load(self) -> None:
        import easyocr
        import torch

        from curation.scores.encoders import limit_threads

        limit_threads(self.resources.cpus)
        # EasyOCR asks for pinned memory on every machine, and torch would say so for every line that is read.
        warnings.filterwarnings("ignore", message=".*pin_memory.*no accelerator")
        if self._reader is None:
            folder = str(resolve(EASYOCR, self.folder).path)
            self._reader = easyocr.Reader(
                ["en"],
                gpu=torch.cuda.is_available(),
                model_storage_directory=folder,
                user_network_directory=folder,  # else it makes one in the home folder, which may be read-only
                download_enabled=False,
                recognizer=self.config.recognise,
                quantize=False,  # deprecated in torch, and no quicker for so small a recogniser
                verbose=False,
            )
            self._reader.detector.to(memory_format=torch.channels_last)  # a tenth quicker on a CPU

    def score(self, clips: Sequence[ClipFrames], known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Raises RuntimeError before `load`, ValueError for a clip without frames."""
        if self._reader is None:
            raise RuntimeError("load() comes first")
        return [self._measure(clip) for clip in clips]

    def detect(self, frame: np.ndarray) -> list[np.ndarray]:
        """CRAFT's boxes on an RGB uint8 frame (h, w, 3), each int (4, 2): corners x, y in the frame's pixels."""
        height, width = frame.shape[:2]
        pad = (max(0, MIN_SIDE - height), max(0, MIN_SIDE - width))
        if any(pad):
            frame = cv2.copyMakeBorder(frame, 0, pad[0], 0, pad[1], cv2.BORDER_REPLICATE)
        boxes = self._reader.get_textbox(
            self._reader.detector,
            frame,
            canvas_size=self.config.canvas_px,
            mag_ratio=1.0,
            poly=False,
            device=self._reader.device,
            optimal_num_chars=None,
            **CRAFT,
        )[0]
        return [np.asarray(box, np.int32).reshape(-1, 2) for box in boxes]

    def read(self, frame: np.ndarray, boxes: Sequence[np.ndarray]) -> list[str]:
        """Lines of text in the given boxes, from top to bottom, unsure ones left out."""
        from easyocr.utils import group_text_box

        flat, tilted = group_text_box([box.reshape(-1) for box in boxes], add_margin=0.1)
        height, width = frame.shape[:2]
        flat = [[max(0, x0), min(width, x1), max(0, y0), min(height, y1)] for x0, x1, y0, y1 in flat]
        flat = [box for box in flat if min(box[1] - box[0], box[3] - box[2]) >= MIN_BOX]
        tilted = [box for box in tilted if np.ptp(np.asarray(box), axis=0).min() >= MIN_BOX]
        if not flat and not tilted:
            return []
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        found = self._reader.recognize(grey, flat, tilted, reformat=False)
        found.sort(key=lambda line: (min(y for _, y in line[0]), min(x for x, _ in line[0])))
        return [
            " ".join(text.split()) for _, text, confidence in found if confidence >= MIN_CONFIDENCE and text.strip()
        ]

    def _measure(self, clip: ClipFrames) -> dict[str, Any]:
        if not clip.frames:
            raise ValueError("the clip has no frames")
        areas: list[float] = []
        lines: dict[str, str] = {}
        for i, frame in enumerate(clip.frames):
            if i and np.array_equal(frame, clip.frames[i - 1]):
                areas.append(areas[-1])  # a very short clip repeats a frame
                continue
            boxes = self.detect(frame)
            areas.append(union_area(boxes, frame.shape))
            if boxes and self.config.recognise:
                lines |= {line.casefold(): line for line in self.read(frame, boxes) if line.casefold() not in lines}
        text = " ".join(lines.values()) if self.config.recognise else None
        return {"text_area": max(areas), "text_area_frames": areas, "text": text}

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config, "folder": self.folder, "_reader": None}
