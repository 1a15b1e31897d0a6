"""A second opinion on doubtful boundaries: TransNetV2 (arXiv 2008.04838), on a window around each.

It was trained on other footage than our own network, and the two are wrong at different places. The published weights,
converted by `benchmarks/convert_transnet.py`, are in `transnetv2.onnx`; their licence (MIT) is next to them.
"""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

MODEL = Path(__file__).with_name("transnetv2.onnx")
LOOKUP = 101  # frames within which it compares each frame with others
_LEAST = 9  # frames: its convolutions over time reach 8 frames
_LIGHT, _MOST_GAIN = 100, 4.0  # mean grey level to which dark footage is brightened, by so many times at most
_SIZE = 48, 27  # pixels of the frames it was trained on


def thumbnail(bgr: np.ndarray) -> np.ndarray:
    """A frame (h, w, 3) as this network sees it: RGB uint8 (27, 48, 3)."""
    return cv2.cvtColor(cv2.resize(bgr, _SIZE, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)


class Opinion:
    """`model` is the content of the ONNX file."""

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the decoder has the other cores
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def __call__(self, thumbnails: list[np.ndarray]) -> np.ndarray:
        """Log-odds, float32 (n, 2), that a frame is the last one before a transition, and that it lies in one."""
        frames = _lit(np.stack([*thumbnails, *thumbnails[-1:] * (_LEAST - len(thumbnails))]))
        shown = np.ascontiguousarray(frames.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
        neighbours = np.arange(len(frames))[:, None] + np.arange(LOOKUP)
        inputs = {"frames": shown, "histograms": _histograms(frames), "neighbours": neighbours}
        return np.asarray(self._session.run(None, inputs)[0])[: len(thumbnails)]


def _lit(frames: np.ndarray) -> np.ndarray:
    """Dark footage (n, h, w, 3) with more light: the network was trained on little of it."""
    light = float(np.percentile(frames.mean(axis=(1, 2, 3)), 90))
    gain = min(_MOST_GAIN, _LIGHT / max(light, 1.0))
    return frames if gain <= 1 else np.minimum(frames * np.float32(gain), 255).astype(np.uint8)


def _histograms(frames: np.ndarray) -> np.ndarray:
    """Unit vectors, float32 (n, 512), of how often each of 8 x 8 x 8 colours occurs."""
    levels = (frames >> 5).astype(np.int64).reshape(len(frames), -1, 3)
    counts = np.stack([np.bincount(one, minlength=512) for one in levels @ np.array([64, 8, 1])]).astype(np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


@cache
def second_opinion() -> Opinion:
    """The network with the weights that come with the package."""
    return Opinion(MODEL.read_bytes())
