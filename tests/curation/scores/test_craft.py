"""CRAFT's scores and boxes against EasyOCR's own."""

import cv2
import easyocr
import numpy as np
import pytest
import torch

from curation.scores.craft import CRAFT, Craft
from curation.weights import EASYOCR, resolve


@pytest.fixture(scope="module")
def reader() -> easyocr.Reader:
    folder = str(resolve(EASYOCR).path)
    return easyocr.Reader(
        ["en"], gpu=False, model_storage_directory=folder, user_network_directory=folder, download_enabled=False,
        recognizer=False, quantize=False, verbose=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def craft(reader) -> Craft:
    return Craft(reader.detector, "cpu")


@pytest.fixture(scope="module")
def page(picture) -> np.ndarray:
    return np.ascontiguousarray(np.repeat(picture("page", 384)[:160, :, :1], 3, 2))


@pytest.mark.parametrize("shape", [(64, 96), (50, 131), (20, 200), (1, 1)])
def test_scores_equal_the_network_s_in_torch(craft, reader, shape):
    pictures = np.random.default_rng(0).integers(0, 255, (2, *shape, 3), np.uint8)
    heat = craft.heat(list(pictures))
    pad = [max(0, 32 - side) for side in shape]
    filled = np.stack([cv2.copyMakeBorder(p, 0, pad[0], 0, pad[1], cv2.BORDER_REPLICATE) for p in pictures])
    pixels = torch.from_numpy(filled).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.inference_mode():
        expected = reader.detector((pixels - mean) / std)[0].numpy()
    assert heat == pytest.approx(expected, abs=1e-5)


def test_whole_frames_give_easyocr_s_boxes(craft, reader, page):
    expected = reader.detect(page, canvas_size=2560, mag_ratio=1.0, add_margin=0, min_size=0, **CRAFT)
    boxes = craft.full(page, 2560)
    assert len(boxes) > 20
    # EasyOCR joins words to lines: each word lies in one of them
    lines = [*expected[0][0], *[(*np.array(p).min(0), *np.array(p).max(0)) for p in expected[1][0]]]
    for box in boxes:
        (x0, y0), (x1, y1) = box.min(0), box.max(0)
        assert any(a - 2 <= x0 and x1 <= b + 2 and c - 2 <= y0 and y1 <= d + 2 for a, b, c, d in lines)


def test_boxes_of_scores_are_those_of_the_whole_frame(craft, page):
    from curation.scores.text import union_area

    parts = craft.boxes(craft.heat([page])[0]).round().astype(np.int32)
    full = craft.full(page, 2560)
    assert len(parts) == len(full)
    assert union_area(list(parts), page.shape) == pytest.approx(union_area(full, page.shape), abs=0.005)


def test_no_text_no_boxes(craft):
    assert craft.boxes(craft.heat([np.zeros((64, 64, 3), np.uint8)])[0]).shape == (0, 4, 2)
    assert craft.full(np.zeros((64, 64, 3), np.uint8), 640) == []
