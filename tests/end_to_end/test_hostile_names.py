"""Names and captions that attack: through curate, select, report, inspect and export they stay text."""

import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.footage.small import footage
from curation import inspect, plan
from curation.config import CurateConfig
from curation.manifest import Manifest, stored
from curation.schema import score_field
from curation.scores.aesthetics import TechnicalQuality
from curation.scores.duplicates import PerceptualHash
from curation.scores.motion import Motion
from flows.cli import main

MARKUP = "<script>alert(1)</script>"
NAMES = [
    b"new\nline\r\ttab",
    b"quo\"te's `id` $(id) ; rm -rf * |",
    "🎬 漢字 \u202egpm".encode(),
    b"<script>alert(1)<%2fscript>",
    b'"><img src=x onerror=alert(2)>',
    b"..%2f..%2fetc%2fpasswd",
    b"..\\..\\windows",
    b"--out=elsewhere",
    b"\xff\xfe no text",
    b"x" * 251,
    b"\x1b[31mred\x1b[0m\x07",
    b"{{ 7 * 7 }} %s %(a)s {0}",
    b"'; DROP TABLE clips; --",
    b"a,b\tc",
    b"CON",
    b" ",
]
CAPTIONS = [
    MARKUP,
    '"><img src=x onerror=alert(3)>',
    "</bdi></figcaption><svg onload=alert(4)>",
    "<!-- --><iframe src='https://example.org'>",
    "javascript:alert(5)",
    "../../up\x00\x1b]0;title\x07\u202e",
]
TAGS = set(
    "html head meta title style body main p h1 h2 h3 nav a b dl dt dd div span i section header svg rect text figure "
    "figcaption img bdi ul li details summary code pre table tr th td line g".split()
)


class Tags(HTMLParser):
    """Every tag with its attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data


def rushes(*arguments: object) -> str:
    """A command's output; its status must be 0."""
    said, complaints = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(complaints):
        status = main([str(a) for a in arguments])
    assert status == 0, complaints.getvalue()
    tame(complaints.getvalue().replace("\r", "\n"))
    return said.getvalue()


def tame(text: str) -> None:
    """No control character but the ends of lines: nothing that drives a terminal, nor turns its writing round."""
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


@pytest.fixture(scope="module", autouse=True)
def engine() -> Iterator[None]:
    """One Ray, and scorers that need no weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "scorers_for", lambda config: [TechnicalQuality(), Motion(config.motion), PerceptualHash()])
        with plan._ray(CurateConfig(videos="unused", cpus=2)):
            yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over hostile names, whose manifest then gets hostile captions."""
    root = tmp_path_factory.mktemp("run")
    videos = root / "videos <b>&'\""
    videos.mkdir()
    for i, name in enumerate(NAMES):
        (videos / os.fsdecode(name + b".mp4")).write_bytes(footage(500 + i))
    (videos / f"{'y' * 100}<b>broken.mp4").write_bytes(b"no film")
    tame(rushes("curate", videos, "--out", root / "out", "--no-text.enabled"))
    shutil.copytree(root / "out", root / "untouched")
    manifest = Manifest.find(root / "out")
    for path in manifest.fragments("clips"):
        table = pq.read_table(path)
        hostile = pa.array([CAPTIONS[i % len(CAPTIONS)] for i in range(len(table))], pa.string())
        for name in ("caption_image", "caption_video", "caption_fused"):
            field = score_field(name, pa.string(), f"caption {MARKUP}", "", {"scorer": MARKUP, "version": 1})
            table = table.append_column(field, hostile)
        pq.write_table(table, path)
    return root


def test_every_file_is_curated_under_its_own_name(run: Path):
    rows = Manifest.find(run / "out").read("videos").to_pylist()
    assert {Path(r["uri"]).name for r in rows if r["status"] == "ok"} == {
        stored(os.fsdecode(n + b".mp4")) for n in NAMES
    }
    assert all(r["clips"] == 2 for r in rows if r["status"] == "ok")
    (failed,) = (r for r in rows if r["status"] == "failed")
    assert failed["uri"].endswith("<b>broken.mp4")
    assert {p.name for p in run.iterdir()} >= {"out", "videos <b>&'\""}
    assert not (run / "elsewhere").exists()


def test_a_second_run_knows_every_name_again(run: Path, tmp_path: Path):
    videos = run / "videos <b>&'\""
    assert len(rushes("inspect", run / "untouched", "--sql", "SELECT uri FROM videos")) > 0
    before = Manifest.find(run / "untouched").shards()
    said = rushes("curate", videos, "--out", run / "untouched", "--no-text.enabled")
    assert "read before" in said
    assert Manifest.find(run / "untouched").shards() == before


def test_the_report_holds_no_tag_of_theirs(run: Path, tmp_path: Path):
    page_at = tmp_path / "page.html"
    rushes("select", run / "out", "--out", tmp_path / "selection")
    rushes("report", run / "out", "--selection", tmp_path / "selection", "--out", page_at)
    page = page_at.read_text(encoding="utf-8")
    tame(page)
    seen = Tags(page)
    assert {tag for tag, _ in seen.tags} <= TAGS
    for _, attributes in seen.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert attributes.get("href", "#").startswith("#")
    shown = seen.text + "".join(a.get("title", "") for _, a in seen.tags)
    for text in (MARKUP, "<iframe", "onerror=alert(2)", "{{ 7 * 7 }}", "DROP TABLE", "..%2f..%2fetc", "漢字"):
        assert text in shown
    for text in (MARKUP, "<iframe", "<img src=x", "<svg onload"):
        assert text not in page


def test_commands_that_print_stay_lines_of_text(run: Path, tmp_path: Path):
    said = rushes("inspect", run / "out")
    tame(said)
    assert "broken.mp4" in said
    for query in ("SELECT uri, caption_fused FROM clips", "SELECT * FROM errors", "SELECT uri, message FROM videos"):
        tame(rushes("inspect", run / "out", "--sql", query))
    tame(rushes("select", run / "out", "--out", tmp_path / "s", "--dry-run"))


@pytest.mark.parametrize("form", ["files", "webdataset"])
def test_exported_names_are_the_clips_own(run: Path, tmp_path: Path, form: str):
    ids = set(Manifest.find(run / "out").read("clips", ["clip_id"])["clip_id"].to_pylist())
    tame(rushes("export", run / "out", "--format", form, "--out", tmp_path / "clips"))
    names = {p.name for p in (tmp_path / "clips").rglob("*")}
    assert all(re.fullmatch(r"[0-9a-z_.-]+", n) for n in names)
    assert {p.name for p in tmp_path.iterdir()} == {"clips"}
    if form == "files":
        assert {n.removesuffix(".mp4") for n in names if n.endswith(".mp4")} == ids
        captions = {
            json.loads((tmp_path / "clips" / f"{i}.json").read_text())["captions"]["caption_fused"] for i in ids
        }
        assert captions == set(CAPTIONS)
    assert not json.loads((tmp_path / "clips" / "export_errors.json").read_text())


def test_duplicates_of_hostile_names_are_found(run: Path, tmp_path: Path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in NAMES[:4]:
        (videos / os.fsdecode(b"again " + name[:200] + b".mkv")).write_bytes(footage(500 + NAMES.index(name), ".mkv"))
    said = rushes(
        "curate", videos, "--out", tmp_path / "out", "--no-text.enabled", "--duplicates.against", run / "out",
    )  # fmt: skip
    tame(said)
    groups = inspect.sql(str(tmp_path / "out"), "SELECT perceptual_group g FROM clips")["g"].to_pylist()
    theirs = set(Manifest.find(run / "out").read("clips", ["clip_id"])["clip_id"].to_pylist())
    assert len(groups) == 8  # two clips of each video, and each repeats one of the other manifest
    assert set(groups) <= theirs
