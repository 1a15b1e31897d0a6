"""RapidOCR's boxes against the ink that was drawn."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image, ImageDraw, ImageFont

from curation.scores.text_light import LightText, without_subnormals
from curation.weights import TEXT_DETECTOR, resolve


@pytest.fixture(scope="module")
def light() -> LightText:
    return LightText(resolve(TEXT_DETECTOR).file(), 1)


def test_a_line_is_found_where_it_was_written(light, picture):
    image = Image.fromarray(picture("chelsea", 320))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(30)
    draw.text((40, 60), "WRITTEN HERE", font=font, fill="white", stroke_width=2, stroke_fill="black")
    x0, y0, x1, y1 = draw.textbbox((40, 60), "WRITTEN HERE", font=font)
    boxes = light.boxes(np.asarray(image))
    corners = np.concatenate(boxes)
    assert corners.dtype == np.int32
    assert corners.min(0) == pytest.approx([x0, y0], abs=10)
    assert corners.max(0) == pytest.approx([x1, y1], abs=10)


def test_an_empty_picture_has_none(light):
    assert light.boxes(np.full((90, 160, 3), 128, np.uint8)) == []


def test_weights_without_subnormals_give_the_same_to_the_bit():
    weights = resolve(TEXT_DETECTOR).file()
    kept = without_subnormals(weights)
    tensors = [onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(kept).graph.initializer]
    numbers = np.concatenate([np.abs(t[t != 0]).ravel() for t in tensors if t.dtype == np.float32])
    assert numbers.min() >= np.finfo(np.float32).tiny
    pixels = np.random.default_rng(0).random((1, 3, 96, 160), np.float32)
    ours, theirs = (
        ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": pixels})[0]
        for model in (kept, weights.read_bytes())
    )
    assert np.array_equal(ours, theirs)
