"""What a run shows in the UI: markdown artifacts with tables and pictures, progress, and links to them in the logs.

Names, captions and messages come from files, so every one of them passes `escape` before it becomes markdown.
"""

import base64
import io
import re
import string
import threading
import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.settings import PREFECT_UI_URL

from curation.progress import in_words, phase_of

MAX_IMAGE_BYTES = 700_000  # base64 adds a third, and the page stays below the 1 MB that Prefect renders well
MAX_ROWS = 200


def escape(value: Any, limit: int = 200) -> str:
    """Text from anywhere as markdown that shows exactly that text: no markup, link, image, HTML or table break.

    Every ASCII punctuation mark gets a backslash, which CommonMark defines to mean the mark itself (one of the two UIs
    shows HTML entities as they are written); control and direction-changing characters become a visible replacement.
    Longer texts end in an ellipsis after `limit` characters.
    """
    if value is None:
        return "–"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    text = re.sub(r"\s+", " ", text).strip()
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    out = []
    for c in text:
        if c in string.punctuation:
            out.append("\\" + c)
        elif unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn"}:
            out.append("\N{REPLACEMENT CHARACTER}")
        else:
            out.append(c)
    return "".join(out)


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as a markdown table of at most 200 rows, escaped. Columns are those of the first row unless named."""
    rows = list(rows)
    if not rows:
        return "*nothing*\n"
    columns = columns or list(rows[0])
    lines = ["| " + " | ".join(escape(c) for c in columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(escape(row.get(c)) for c in columns) + " |" for row in rows[:MAX_ROWS]]
    if len(rows) > MAX_ROWS:
        lines.append(f"\n*and {len(rows) - MAX_ROWS} more*")
    return "\n".join(lines) + "\n"


def image(png: bytes, alt: str) -> str:
    """A PNG as a markdown image that carries its own data; one that is too large is scaled down until it fits."""
    data = shrink(png)
    return f"![{escape(alt)}](data:image/png;base64,{base64.b64encode(data).decode('ascii')})\n"


def shrink(png: bytes, max_bytes: int = MAX_IMAGE_BYTES) -> bytes:
    """Scale a PNG down until it is at most `max_bytes` long; one that fits comes back unchanged."""
    from PIL import Image

    while len(png) > max_bytes:
        with Image.open(io.BytesIO(png)) as picture:
            scale = min(0.9, (max_bytes / len(png)) ** 0.5)
            size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
            if size == (1, 1):
                break
            smaller = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        smaller.save(buffer, "PNG", optimize=True)
        png = buffer.getvalue()
    return png


def publish(key: str, markdown: str, description: str) -> UUID:
    """Create a markdown artifact of the running flow and log a link to it. `key`: lower case, digits and dashes."""
    made = cast(UUID, create_markdown_artifact(key=key, markdown=markdown, description=description))
    base = PREFECT_UI_URL.value()
    where = f"{base}/artifacts/artifact/{made}" if base else f"artifact {key}"
    get_run_logger().info("%s: %s", description, where)
    return made


class FlowProgress:
    """A `Progress` for flows: log lines, at most one in ten seconds a phase, and a progress artifact that moves."""

    def __init__(self, key: str, log_every_s: float = 10.0, artifact_every_s: float = 2.0) -> None:
        self.log_every_s = log_every_s
        self.artifact_every_s = artifact_every_s
        # Both are made here, inside the run: the engine may call back from a thread that has no run context.
        self._logger = get_run_logger()
        self._artifact = cast(UUID, create_progress_artifact(0.0, key=key, description="starting"))
        self._lock = threading.Lock()
        self._phase = ""
        self._logged = self._moved = float("-inf")

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Report that `done` of `total` units of `what` are finished. Never raises: progress is no reason to fail."""
        with self._lock:
            now = time.monotonic()
            finished = total is not None and done >= total
            if phase_of(what) != self._phase or finished or now - self._logged >= self.log_every_s:
                self._logged, self._phase = now, phase_of(what)
                self._logger.info("%s", in_words(what, done, total))
            if total and (finished or now - self._moved >= self.artifact_every_s):
                self._moved = now
                try:
                    update_progress_artifact(self._artifact, 100.0 * min(done, total) / total, description=what)
                except httpx.HTTPError as error:
                    self._logger.warning("the progress bar could not be moved: %s", error)
