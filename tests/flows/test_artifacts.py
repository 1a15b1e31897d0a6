"""Markdown from hostile text, read back by a CommonMark parser of another make; pictures by Pillow."""

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from PIL import Image

from flows.artifacts import escape, image, shrink, table

MARKDOWN = MarkdownIt("commonmark").enable("table")
PLAIN = {"inline", "text", "text_special", "paragraph_open", "paragraph_close"}


def flat(tokens: list[Token]) -> list[Token]:
    return [t for token in tokens for t in (token, *flat(token.children or []))]


def text_of(markdown: str) -> str:
    """What a reader sees. Fails if it holds anything but text."""
    tokens = flat(MARKDOWN.parse(markdown))
    assert {t.type for t in tokens} <= PLAIN, markdown
    return "".join(t.content for t in tokens if t.type.startswith("text"))


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "![x](http://example.com/x.png)",
        "[click](javascript:alert(1))",
        "<http://example.com>",
        "# heading",
        "- item",
        "1. item",
        "> quote",
        "---",
        "```",
        "`code`",
        "**bold** _it_ ~~no~~",
        "a | b",
        "&lt;b&gt; &#60;",
        "\\",
        "[ref]: http://example.com",
        "=====",
        "C:\\films\\*.mp4",
    ],
)
def test_hostile_text_shows_as_itself(hostile: str):
    assert text_of(escape(hostile)) == hostile


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60))
def test_any_text_is_only_text(text: str):
    shown = text_of(escape(text))
    kept = [c for c in " ".join(text.split()) if c.isprintable()]
    assert [c for c in shown if c != "\N{REPLACEMENT CHARACTER}"] == [
        c for c in kept if c != "\N{REPLACEMENT CHARACTER}"
    ]


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=5))
def test_every_row_of_a_table_keeps_its_cells(texts: list[str]):
    tokens = flat(MARKDOWN.parse(table([{"a": t, "b": i} for i, t in enumerate(texts)])))
    types = [t.type for t in tokens]
    assert types.count("tr_open") == len(texts) + 1
    assert types.count("td_open") == 2 * len(texts)
    assert not {"html_inline", "html_block", "link_open", "image", "code_inline", "em_open"} & set(types)


def test_direction_marks_and_control_characters_are_seen():
    assert escape("a\u202egpj.exe") == "a\N{REPLACEMENT CHARACTER}gpj\\.exe"
    assert escape("a\x1b[31m") == "a\N{REPLACEMENT CHARACTER}\\[31m"


def test_long_text_is_cut_and_nothing_is_a_dash():
    assert escape("x" * 300) == "x" * 199 + "…"
    assert escape(None) == "–"
    assert escape(0.123456) == "0\\.1235"


def test_a_table_of_nothing_and_of_too_much():
    assert table([]) == "*nothing*\n"
    made = table([{"n": i} for i in range(450)])
    assert "and 250 more" in made
    assert "| 199 |" in made
    assert "| 200 |" not in made


def noise(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_small_picture_stays_as_it_is():
    png = noise(40, 30)
    assert shrink(png) is png
    data = image(png, "a [b]").partition("base64,")[2].rstrip(")\n")
    assert base64.b64decode(data) == png


def test_a_large_picture_fits_and_keeps_its_shape():
    png = noise(900, 450)
    assert len(png) > 700_000
    small = shrink(png)
    assert len(small) <= 700_000
    with Image.open(io.BytesIO(small)) as picture:
        assert picture.width / picture.height == pytest.approx(2.0, rel=0.02)
    assert len(image(png, "noise")) < 1_000_000
