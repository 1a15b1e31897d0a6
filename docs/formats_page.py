"""Fills the tables of docs/formats.md from the table that the tests check.

python -m docs.formats_page            prints the page as it should be
python -m docs.formats_page --write    writes it
"""

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from curation.clip_file import MP4_VIDEO
from tests.formats.row import Kind, Row
from tests.formats.table import ROWS

PAGE = Path(__file__).parent / "formats.md"
_BLOCK = re.compile(r"(<!-- table: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_KINDS: tuple[Kind, ...] = ("container", "time stamps", "frame rate", "geometry", "color", "interlaced", "streams")

_CONTAINERS = {
    "MP4 and QuickTime": ("mp4", "m4v", "mov", "qt", "f4v", "3gp", "3g2", "ismv"),
    "Matroska": ("mkv",),
    "WebM": ("webm",),
    "transport stream": ("ts", "m2ts"),
    "program stream": ("mpg", "vob"),
    "AVI": ("avi",),
    "ASF": ("wmv", "asf"),
    "FLV": ("flv",),
    "Ogg": ("ogv", "ogm"),
    "MXF": ("mxf",),
    "DV": ("dv",),
    "RealMedia": ("rm",),
    "WTV": ("wtv",),
    "NUT": ("nut",),
    "IVF": ("ivf",),
    "no container": ("h264", "hevc", "m2v", "obu", "mjpeg"),
    "Y4M": ("y4m",),
    "GIF": ("gif",),
    "animated PNG": ("apng",),
    "animated AVIF": ("avif",),
    "animated WebP": ("webp",),
    "id RoQ": ("roq",),
}


def page() -> str:
    """The page with its tables as they should be."""
    made = {"codecs": _codecs(), "copied": _copied(), "counts": _counts()}
    made |= {kind: _situations(row for row in ROWS if row.kind == kind) for kind in _KINDS}
    return _BLOCK.sub(lambda block: f"{block[1]}\n{made[block[2]]}\n\n{block[3]}", PAGE.read_text())


def _codecs() -> str:
    """A line for each container: codecs of all of its files that are read, and of those that are refused."""
    lines = []
    for name, suffixes in _CONTAINERS.items():
        rows = [row for row in ROWS if row.name.rpartition(".")[2] in suffixes]
        read = sorted({f"`{row.codec}`" for row in rows if not row.refused})
        refused = sorted({f"`{row.codec}`" for row in rows if row.refused and row.kind == "codec"})
        lines.append((name, " ".join(f"`.{s}`" for s in suffixes), ", ".join(read), ", ".join(refused)))
    return _table(("container", "suffixes tested", "codecs that are read", "refused"), lines)


def _situations(rows: Iterable[Row]) -> str:
    """A line for each situation."""
    lines = {(row.what, row.status, row.converted or _reason(row)): None for row in rows}
    return _table(("situation", "status", "treatment"), lines)


def _reason(row: Row) -> str:
    if row.reported:
        return f"error row `{row.reported}`"
    return f"the reason: {row.refused}" if row.refused else ""


def _copied() -> str:
    return "Codecs that a copy takes over into MP4: " + ", ".join(f"`{name}`" for name in sorted(MP4_VIDEO)) + "."


def _counts() -> str:
    counts = Counter(row.status for row in ROWS)
    return f"{len(ROWS)} files: {', '.join(f'{count} {status}' for status, count in counts.most_common())}."


def _table(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *rows])


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page())
    else:
        print(page(), end="")
