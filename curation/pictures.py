"""Pictures for reports and pages: a score's histogram as SVG, a contact sheet as PNG."""

import io
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont, ImageOps

from curation.inspect import printable


def histogram_svg(
    values: np.ndarray,
    kept: np.ndarray | None = None,
    *,
    low: float | None = None,
    high: float | None = None,
    title: str = "",
    bins: int = 44,
) -> str:
    """A score's histogram as inline SVG (360 x 132): all clips, those that a selection kept, and its thresholds.

    `values` and `kept` are finite float arrays (n,), `low` and `high` the bounds in the score's unit. Tails beyond the
    0.5 and 99.5 percentiles that would squeeze the rest are gathered in the outermost bars, marked by "≤" or "≥".
    Colours come from the CSS variables --kept, --fell, --ink, --muted and --line where the page sets them.
    """
    name = Markup.escape(printable(title))
    head = f'<svg viewBox="0 0 360 132" role="img" aria-label="histogram of {name}" class="histogram">'
    if not len(values):
        return head + _text(180, 70, "not measured", "middle", "muted") + "</svg>"
    marks = [m for m in (low, high) if m is not None]
    start, stop = _span(values, marks)
    edges = np.linspace(start, stop, bins + 1)
    every = np.histogram(np.clip(values, start, stop), edges)[0]
    stay = every if kept is None else np.histogram(np.clip(kept, start, stop), edges)[0]
    left, top, width, height = 6, 22, 348, 86

    def x(value: float) -> float:
        return left + width * (value - start) / (stop - start)

    parts = [head]
    for bound, sign in ((low, "≥"), (high, "≤")):
        if bound is None:
            continue
        a, b = (start, bound) if sign == "≥" else (bound, stop)
        parts.append(_rect(x(a), top, x(b) - x(a), height, "var(--fell, #b4552d)", 0.09))
    for (a, b), n, s in zip(pairwise(edges), every, stay, strict=True):
        for count, fill in ((n, "var(--fell, #b4552d)"), (s, "var(--kept, #1f6f6b)")):
            if count:
                tall = max(height * count / every.max(), 1.0)  # a single clip among millions is still seen
                parts.append(_rect(x(a) + 0.5, top + height - tall, x(b) - x(a) - 1, tall, fill, 1))
    parts.append(_rect(left, top + height, width, 1, "var(--line, #ccc)", 1))
    for bound, sign in ((low, "≥"), (high, "≤")):
        if bound is not None:
            side = "start" if x(bound) < 280 else "end"
            parts.append(_rect(x(bound) - 0.75, top - 6, 1.5, height + 6, "var(--ink, #222)", 1))
            parts.append(_text(x(bound) + (5 if side == "start" else -5), 13, f"{sign} {number(bound)}", side, "ink"))
    first, last = ("≤ " if values.min() < start else ""), ("≥ " if values.max() > stop else "")
    ends = [(left, start, "start", first), (left + width / 2, (start + stop) / 2, "middle", "")]
    for at, value, anchor, sign in [*ends, (left + width, stop, "end", last)]:
        parts.append(_text(at, 125, f"{sign}{number(_rounded(value, stop - start))}", anchor, "muted"))
    return "".join([*parts, "</svg>"])


def _span(values: np.ndarray, marks: Sequence[float]) -> tuple[float, float]:
    """What the axis shows: the whole range, or without long tails, and always the thresholds."""
    least, most = float(values.min()), float(values.max())
    low, high = (float(q) for q in np.quantile(values, (0.005, 0.995)))
    room = high - low
    start = min([least if low - least <= room / 4 else low, *marks])
    stop = max([most if most - high <= room / 4 else high, *marks])
    if stop - start <= 1e-9 * max(abs(start), abs(stop), 1e-3):
        half = max(abs(start), 1.0) / 2
        return start - half, stop + half
    return start, stop


def _rounded(value: float, span: float) -> float:
    """Without the digits that an axis of this length cannot show."""
    return round(value, 2 - math.floor(math.log10(span))) + 0.0


def _rect(x: float, y: float, width: float, height: float, fill: str, opacity: float) -> str:
    faint = f' opacity="{opacity}"' if opacity < 1 else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" fill="{fill}"{faint}/>'


def _text(x: float, y: float, text: str, anchor: str, tone: str) -> str:
    fill = f"var(--{tone}, {'#222' if tone == 'ink' else '#777'})"
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-size="11" fill="{fill}">{Markup.escape(text)}</text>'


def contact_sheet(
    previews: Sequence[bytes | None],
    labels: Sequence[str],
    columns: int = 6,
    *,
    tile_px: int = 192,
    limit: int = 1_000_000,
) -> bytes:
    """Small pictures in a grid, a line of text under each, as a PNG below `limit` bytes.

    `previews` are encoded pictures of any size; None, or one that is none, leaves its tile grey. `labels` has one text
    a picture. Where the limit asks for it the sheet first goes to 256 colours, then to smaller tiles.

    Raises:
        ValueError: nothing to show, a label missing, or a limit below what the smallest tiles take.
    """
    if not previews or len(previews) != len(labels) or columns < 1:
        raise ValueError(f"{len(previews)} pictures and {len(labels)} labels in {columns} columns")
    while tile_px >= 24:
        sheet = _grid(previews, labels, min(columns, len(previews)), tile_px)
        for colours in (None, 256):
            buffer = io.BytesIO()
            (_palette(sheet, colours) if colours else sheet).save(buffer, "PNG")
            if buffer.tell() < limit:
                return buffer.getvalue()
        tile_px = int(tile_px * min(0.9, (limit / buffer.tell()) ** 0.5))  # bytes go with the area
    raise ValueError(f"{len(previews)} pictures do not fit into {limit} bytes")


def _grid(previews: Sequence[bytes | None], labels: Sequence[str], columns: int, tile: int) -> Image.Image:
    gap, line, tall = 8, 18, tile * 9 // 16
    rows = -(-len(previews) // columns)
    sheet = Image.new("RGB", (columns * (tile + gap) + gap, rows * (tall + line + gap) + gap), "#17191c")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for i, (preview, label) in enumerate(zip(previews, labels, strict=True)):
        x, y = gap + i % columns * (tile + gap), gap + i // columns * (tall + line + gap)
        draw.rectangle((x, y, x + tile - 1, y + tall - 1), fill="#26292e")
        if preview:
            try:
                picture = ImageOps.contain(Image.open(io.BytesIO(preview)).convert("RGB"), (tile, tall))
                sheet.paste(picture, (x + (tile - picture.width) // 2, y + (tall - picture.height) // 2))
            except (OSError, ValueError, Image.DecompressionBombError):
                draw.text((x + 6, y + 6), "unreadable preview", "#8b9097", font)
        text = printable(label, 120)
        while len(text) > 1 and draw.textlength(text, font) > tile:
            text = printable(text, len(text) - 1 - (len(text) > 40) * 4)
        draw.text((x, y + tall + 2), text, "#c9ccd1", font)
    return sheet


def _palette(sheet: Image.Image, colours: int) -> Image.Image:
    """The sheet in that many colours, found on a quarter of its width: median cut is slow on millions of them."""
    few = sheet.reduce(4).quantize(colours)
    return sheet.quantize(palette=few, dither=Image.Dither.NONE)


def number(value: float | None) -> str:
    """Three significant digits; integers and thousands in full, with separators; a dash for none."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
