"""Technical quality of a picture: sharp, contrasty, colourful, well exposed. Says nothing about taste."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from curation.scores.base import ClipFrames, Column, Scorer

SHORT_SIDE = 256  # frames are reduced to this, so that sharpness compares between sizes; smaller ones stay as they are
WEIGHTS = {"sharpness": 0.4, "contrast": 0.2, "colourfulness": 0.2, "exposure": 0.2}


def sharpness(luma: np.ndarray) -> float:
    """1 - exp(-g / 4): g is the mean absolute Laplacian of the luma (0-255), an energy that blur can only lower.

    About 0.2 for a defocused photograph, above 0.8 for a crisp one.
    """
    return float(1 - np.exp(-np.abs(cv2.Laplacian(luma.astype(np.float32), cv2.CV_32F)).mean() / 4))


def contrast(luma: np.ndarray) -> float:
    """RMS contrast (Peli 1990): standard deviation of the luma over 64, at most 1."""
    return float(min(1.0, luma.astype(np.float32).std() / 64))


def colourfulness(frame: np.ndarray) -> float:
    """M^(3) of Hasler and Suesstrunk (2003), eq. 3, over 109 (their "extremely colourful"), at most 1."""
    r, g, b = np.moveaxis(frame.astype(np.float32), -1, 0)
    rg, yb = r - g, (r + g) / 2 - b
    m = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    return float(min(1.0, m / 109))


def exposure(luma: np.ndarray) -> float:
    """How near the mean luma is to mid-grey, exp(-(mean / 255 - 0.5)^2 / (2 * 0.2^2)), times the share not clipped.

    The Gaussian is Mertens et al.'s well-exposedness (2007) on the mean; clipped is luma below 3 or above 252.
    """
    level = float(np.exp(-((luma.mean() / 255 - 0.5) ** 2) / (2 * 0.2**2)))
    return level * float(np.mean((luma > 2) & (luma < 253)))


def quality(frame: np.ndarray) -> dict[str, float]:
    """The four components of one RGB uint8 frame (h, w, 3) and their weighted mean, all 0..1."""
    scale = SHORT_SIDE / min(frame.shape[:2])
    if scale < 1:
        frame = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    parts = {
        "sharpness": sharpness(luma),
        "contrast": contrast(luma),
        "colourfulness": colourfulness(frame),
        "exposure": exposure(luma),
    }
    return {"technical_quality": sum(WEIGHTS[k] * v for k, v in parts.items()), **parts}


class TechnicalQuality(Scorer):
    """0.4 sharpness + 0.2 contrast + 0.2 colourfulness + 0.2 exposure, the mean of first, middle and last frame."""

    name = "technical_quality"
    version = 1

    @property
    def columns(self) -> Sequence[Column]:
        return [
            Column("technical_quality", pa.float32(), "weighted mean of the four components below", "0..1"),
            Column("sharpness", pa.float32(), "1 - exp(-mean absolute Laplacian of luma / 4)", "0..1"),
            Column("contrast", pa.float32(), "standard deviation of luma / 64", "0..1"),
            Column("colourfulness", pa.float32(), "Hasler and Suesstrunk's M / 109", "0..1"),
            Column("exposure", pa.float32(), "closeness of mean luma to mid-grey x share not clipped", "0..1"),
        ]

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        return {"short_side": SHORT_SIDE, **{f"weight_{k}": v for k, v in WEIGHTS.items()}}

    def score(self, clips: Sequence[ClipFrames], known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Mean over the clip's frames. Raises ValueError if it has none."""
        rows = []
        for clip in clips:
            if not clip.frames:
                raise ValueError("the clip has no frames")
            each = [quality(frame) for frame in clip.frames]
            rows.append({k: float(np.mean([e[k] for e in each])) for k in each[0]})
        return rows
