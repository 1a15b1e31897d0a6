"""Histograms and contact sheets, read back as XML and as pixels."""

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curation.pictures import contact_sheet, histogram_svg, number

finite = st.floats(-1e38, 1e38, allow_nan=False)


def bars(svg: str, fill: str) -> list[float]:
    """Heights of the opaque rectangles of one fill."""
    rects = ET.fromstring(svg).iter("rect")
    return [float(r.attrib["height"]) for r in rects if fill in r.attrib["fill"] and "opacity" not in r.attrib]


def test_bars_stand_as_high_as_numpys_counts() -> None:
    values = np.random.default_rng(0).uniform(2, 5, 3000)
    counts = np.histogram(values, np.linspace(values.min(), values.max(), 45))[0]
    heights = np.array(bars(histogram_svg(values), "--kept"))
    assert np.allclose(heights, 86 * counts / counts.max(), atol=0.06)


def test_kept_bars_lie_before_all_bars() -> None:
    values = np.linspace(0, 10, 1001)
    svg = histogram_svg(values, values[values >= 5], low=5, bins=10)
    assert len(bars(svg, "--fell")) == 10
    assert len(bars(svg, "--kept")) == 5
    assert "≥ 5<" in svg


def test_threshold_line_lies_at_its_value() -> None:
    svg = ET.fromstring(histogram_svg(np.linspace(0, 100, 500), low=25.0, high=75.0))
    lines = [float(r.attrib["x"]) + 0.75 for r in svg.iter("rect") if r.attrib["width"] == "1.5"]
    assert lines == pytest.approx([6 + 348 * 0.25, 6 + 348 * 0.75], abs=0.1)


def test_a_long_tail_is_gathered_and_said() -> None:
    values = np.append(np.random.default_rng(1).normal(0, 1, 5000), 1e6)
    labels = [t.text or "" for t in ET.fromstring(histogram_svg(values)).iter("text")]
    assert labels[-1].startswith("≥ ")
    assert float(labels[-1].removeprefix("≥ ")) < 10
    assert not labels[0].startswith("≤")


@given(
    st.lists(finite, max_size=40).map(np.array),
    st.none() | finite,
    st.none() | finite,
    st.text(st.characters(exclude_categories=[]), max_size=20),
)
def test_any_values_give_sound_svg_inside_its_box(
    values: np.ndarray, low: float | None, high: float | None, title: str
) -> None:
    svg = ET.fromstring(histogram_svg(values, values[::2], low=low, high=high, title=title))
    for rect in svg.iter("rect"):
        x, y, width, height = (float(rect.attrib[k]) for k in ("x", "y", "width", "height"))
        assert -1 <= x <= x + width <= 361
        assert 0 <= y <= y + height <= 132


def jpeg(colour: str | tuple[int, int, int], size: tuple[int, int] = (192, 108)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_pictures_lie_in_reading_order() -> None:
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]
    sheet = Image.open(io.BytesIO(contact_sheet([jpeg(c) for c in colours], list("abcd"), 3))).convert("RGB")
    assert sheet.size == (3 * 200 + 8, 2 * (108 + 18 + 8) + 8)
    centres = [(8 + 96 + 200 * (i % 3), 8 + 54 + 134 * (i // 3)) for i in range(4)]
    for centre, colour in zip(centres, colours, strict=True):
        assert np.abs(np.subtract(sheet.getpixel(centre), colour)).max() < 8


def test_missing_and_unreadable_previews_leave_their_tile_grey() -> None:
    sheet = Image.open(io.BytesIO(contact_sheet([None, b"\xff\xd8\xffno", jpeg("white")], ["", "", ""], 3))).convert(
        "RGB"
    )
    assert sheet.getpixel((104, 62)) == sheet.getpixel((304, 80)) == (0x26, 0x29, 0x2E)
    assert sheet.getpixel((504, 62)) == (255, 255, 255)


def test_hostile_labels_are_drawn() -> None:
    labels = ["\ud800\x00\n", "<b>" * 100, "👩\u200d🚀" * 60, "\u202egpm"]
    assert contact_sheet([None] * 4, labels, 2)[:8] == b"\x89PNG\r\n\x1a\n"


def test_sixty_noisy_pictures_stay_below_a_megabyte() -> None:
    rng = np.random.default_rng(0)
    noise = []
    for _ in range(60):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (108, 192, 3), np.uint8)).save(buffer, "JPEG", quality=95)
        noise.append(buffer.getvalue())
    sheet = contact_sheet(noise, [str(i) for i in range(60)], 6)
    assert len(sheet) < 1_000_000
    assert Image.open(io.BytesIO(sheet)).width > 300


def test_what_cannot_be_drawn_raises() -> None:
    for previews, labels, columns in (([], [], 3), ([None], [], 3), ([None], ["a"], 0)):
        with pytest.raises(ValueError, match="columns"):
            contact_sheet(previews, labels, columns)
    with pytest.raises(ValueError, match="do not fit"):
        contact_sheet([jpeg("red")], ["a"], limit=100)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.123456, "0.123"),
        (12.0, "12"),
        (999.4, "999"),
        (12345.6, "12,346"),
        (1234567, "1,234,567"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text
