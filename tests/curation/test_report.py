"""The report, read back by an HTML parser: every count, every reason, and no text that is taken for markup."""

import base64
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curation.config import DuplicateSettings, Policy, Rule, SelectConfig
from curation.duplicates import table as duplicates
from curation.errors import CurationError
from curation.inspect import printable
from curation.manifest import Manifest, Shard
from curation.policy import select
from curation.report import KEPT_SHOWN, REJECTED_SHOWN, ROWS_SHOWN, positions_of, render, rows_at, write_report
from curation.schema import CLIP_IDENTITY, score_field

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "'; alert(3) //",
    "</style></title><svg onload=alert(4)>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &amp; &#60;",
    "line\nbreak\ttab\x00nul\x1b[31m",
    "\u202egpm.exe",
    "👩\u200d🚀 漢字 ñ",
    "https://example.org/?a=1&b=2",
    "x" * 300,
]
VOID = {"meta", "img", "link", "br", "hr", "input", "base"}
ALLOWED = set(
    "html head meta title style body main p h1 h2 h3 nav a b dl dt dd div span i section header svg rect text figure "
    "figcaption img bdi ul li details summary code pre table tr th td".split()
)


class Page(HTMLParser):
    """Tags, attributes, text by tag, and whether every tag was closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.css = ""
        self.feed(html)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] == "style":
            self.css += data
        else:
            self.texts.append(data)

    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def count(self, tag: str, css_class: str = "") -> int:
        return sum(t == tag and (not css_class or css_class in a.get("class", "").split()) for t, a in self.tags)


def jpeg(seed: int, side: int = 16) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


SCHEMA = pa.schema(
    [
        *CLIP_IDENTITY,
        score_field("motion", pa.float32(), "mean <flow>", "px & more", {"scorer": "motion", "version": 1}),
        score_field("text_area", pa.float32(), "share of the frame", "", {"scorer": "text", "version": 1}),
        score_field("caption_fused", pa.string(), "caption", "", {"scorer": "captions", "version": 1}),
        score_field("phash", pa.list_(pa.uint64()), "hashes", "", {"scorer": "duplicates", "version": 1}),
    ],
    metadata={"rushes.config": json.dumps({"videos": "</pre><script>"})},
)


def make(root: Path, count: int, hostile: bool = False) -> Path:
    """A manifest of `count` clips: motion i, no preview on every seventh, text area null on every ninth."""
    name = lambda i: HOSTILE[i % len(HOSTILE)] if hostile else f"film {i}.mp4"  # noqa: E731
    clips = [
        {
            "clip_id": f"{i:06x}",
            "video_id": "v",
            "uri": f"/films/{name(i).replace('/', '⁄')}",
            "shot": i,
            "start": 60.0 + i,
            "end": 62.5 + i,
            "fps": 25.0,
            "width": 640,
            "height": 360,
            "preview": None if i % 7 == 6 else jpeg(i),
            "motion": float(i),
            "text_area": None if i % 9 == 8 else 0.5 if i % 5 == 4 else 0.0,
            "caption_fused": name(i + 1),
        }
        for i in range(count)
    ]
    videos = [{"uri": c["uri"], "video_id": "v", "status": "ok", "duration": 90.0} for c in clips]
    videos += [{"uri": name(i), "status": "failed", "message": f"open: {name(i + 2)}"} for i in range(len(HOSTILE))]
    shots = [{"uri": name(i), "shot": i, "start": 0.0, "end": 0.4, "reason": name(i + 3)} for i in range(len(HOSTILE))]
    errors = [
        {"uri": c["uri"], "clip_id": c["clip_id"], "step": "text", "error": "Err", "message": name(5), "attempts": 2}
        for c in clips
        if c["text_area"] is None
    ]
    manifest, half = Manifest(root / "run" / "manifest"), count // 2
    manifest.commit(Shard("a", videos, shots, errors, clips[:half]), SCHEMA)
    manifest.commit(Shard("b", [], [], [], clips[half:]), SCHEMA)
    return root / "run"


def choose(root: Path, *rules: Rule) -> Path:
    policy = Policy(name="test", rules=list(rules), drop_duplicates=False)
    select(SelectConfig(manifest=str(root), out=str(root / "selection"), inline_policy=policy))
    return root / "selection"


RULES = (Rule(score="motion", min=10), Rule(score="text_area", max=0.1))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 clips with hostile names, and a selection by motion >= 10 and text area <= 0.1."""
    root = make(tmp_path_factory.mktemp("hostile"), 100, hostile=True)
    choose(root, *RULES)
    return root


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return render(str(run), str(run / "selection"))


def test_the_page_is_sound_and_asks_for_nothing(html: str) -> None:
    page = Page(html)
    assert {tag for tag, _ in page.tags} <= ALLOWED
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert attributes.get("href", "#").startswith("#")
        assert tag != "meta" or attributes.get("http-equiv") in {None, "Content-Security-Policy"}
    assert "url(" not in page.css
    assert "@import" not in page.css


def test_hostile_text_is_shown_as_text(html: str) -> None:
    page = Page(html)
    shown = "".join(page.texts)
    for text in HOSTILE:
        assert printable(text) in shown
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "49" not in re.findall(r"<bdi>(\d+)", html)  # no template ran inside a name
    html.encode("utf-8")
    assert not set(html) & {chr(c) for c in (*range(9), *range(11, 32), 0x202E)}


def test_every_link_of_the_menu_has_its_place(html: str) -> None:
    page = Page(html)
    targets = {a["href"].removeprefix("#") for tag, a in page.tags if tag == "a"}
    assert targets == {"funnel", "scores", "kept", "rejected", "videos", "shots", "errors", "lineage"}
    assert targets <= {a["id"] for _, a in page.tags if "id" in a}


def test_numbers_are_those_of_the_manifest(run: Path, html: str) -> None:
    motion, text = np.arange(100), np.array([np.nan if i % 9 == 8 else 0.5 if i % 5 == 4 else 0 for i in range(100)])
    moving = motion >= 10
    kept = int((moving & (text <= 0.1)).sum())
    page = Page(html).text()
    assert f"kept {kept} {kept}% of clips" in page
    assert f"motion >= 10 {moving.sum()} −10" in page
    assert f"text_area <= 0.1 {kept} −{moving.sum() - kept}" in page
    assert f"videos 111 {len(HOSTILE)} failed" in page
    assert f"median 49.5 · {len(motion)} measured" in page
    assert f"{np.isfinite(text).sum()} measured · {np.isnan(text).sum()} missing" in page
    summary = json.loads((run / "selection" / "selection.json").read_text())
    for key in ("manifest_hash", "policy_hash", "selection_hash"):
        assert summary[key] in page
    assert "has changed" not in page


def test_clips_are_shown_once_with_their_reasons(run: Path, html: str) -> None:
    rejected = pq.read_table(run / "selection" / "rejected.parquet").to_pylist()
    leading = [r["reasons"][0] for r in rejected]
    kept = 100 - len(rejected)
    shown = min(kept, KEPT_SHOWN) + sum(min(leading.count(r), REJECTED_SHOWN) for r in set(leading))
    page = Page(html)
    assert page.count("figure", "card") == shown
    text = page.text()
    for reason in set(leading):
        many = leading.count(reason)
        assert f"{reason} · {many} clips" in text
        assert (f"{many} clips, {REJECTED_SHOWN} shown, evenly sampled" in text) == (many > REJECTED_SHOWN)
    assert "1:00.0 – 1:02.5 · 2.5 s" in text  # the first clip, which motion rejects


def test_previews_shown_are_the_clips_own(run: Path, html: str) -> None:
    page = Page(html)
    images = {base64.b64decode(a["src"].partition(",")[2]) for tag, a in page.tags if tag == "img"}
    own = {p for p in Manifest.find(run).read("clips", ["preview"])["preview"].to_pylist() if p}
    assert images
    assert images <= own
    assert page.text().count("no preview") == page.count("figure", "card") - page.count("img")


def test_a_preview_that_is_no_picture_is_not_embedded(tmp_path: Path) -> None:
    root = make(tmp_path, 4)
    path = next((root / "manifest" / "clips").glob("a*"))
    table = pq.read_table(path)
    fake = pa.array([b"<svg onload=alert(1)>", b""], pa.binary())
    pq.write_table(table.set_column(table.schema.get_field_index("preview"), SCHEMA.field("preview"), fake), path)
    page = Page(render(str(root)))
    assert page.count("img") == 2
    assert page.text().count("no preview") == 2


def test_without_a_selection_the_clips_are_shown(tmp_path: Path) -> None:
    page = Page(render(str(make(tmp_path, 5))))
    assert page.count("figure", "card") == 5
    assert "Funnel" not in page.text()
    assert "5 clips." in page.text()


def test_an_empty_manifest_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    text = Page(render(str(tmp_path))).text()
    assert "clips 0 0:00 long" in text
    assert "Nothing failed." in text


def test_a_selection_that_drops_nothing_says_so(tmp_path: Path) -> None:
    root = make(tmp_path, 3)
    page = Page(render(str(root), str(choose(root, Rule(score="motion", min=0)))))
    assert "No clip was rejected." in page.text()


def test_duplicates_name_what_they_repeat(tmp_path: Path) -> None:
    root = make(tmp_path, 2)
    clips = Manifest.find(root).read("clips").to_pylist()
    for row in clips:
        row |= {"phash": [0x9C3A5E71D2480FB6, 0x3B1D7A94E06C52F8, 0xE4925B0D6F18C37A], "width": 640 + 2 * row["shot"]}
    Manifest.find(root).commit(Shard("a", [], [], [], clips), SCHEMA)
    Manifest.find(root).remove("b")
    select(SelectConfig(manifest=str(root), out=str(root / "selection"), inline_policy=Policy(rules=[])))
    text = Page(render(str(root), str(root / "selection"))).text()
    assert "duplicate · 1 clip" in text
    assert "perceptual_size" not in text
    duplicates.update(Manifest.find(root), DuplicateSettings())
    assert "perceptual_size" in Page(render(str(root), str(root / "selection"))).text()
    assert "repeats film 1.mp4 at 1:01.0" in text


def test_a_selection_of_another_manifest_is_refused_and_both_are_named(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one", 8), make(tmp_path / "other", 12)
    selection = choose(one, Rule(score="motion", min=2))
    with pytest.raises(CurationError) as caught:
        write_report(str(other), str(selection), str(tmp_path / "page.html"))
    for root in (one, other):
        assert str(root / "manifest") in str(caught.value)
    assert not (tmp_path / "page.html").exists()


def test_a_manifest_that_was_moved_keeps_its_selections(tmp_path: Path) -> None:
    root = make(tmp_path, 8)
    choose(root, Rule(score="motion", min=2))
    moved = root.rename(tmp_path / "moved")
    assert "has changed since" not in render(str(moved), str(moved / "selection"))


def test_a_stale_selection_is_said(tmp_path: Path) -> None:
    root = make(tmp_path, 20)
    chosen = choose(root, *RULES)
    Manifest.find(root).remove("a")  # its clips are gone, the selection still names them
    page = Page(render(str(root), str(chosen)))
    assert "manifest has changed" in page.text()


def test_lone_surrogates_in_the_record_do_not_break_the_file(tmp_path: Path) -> None:
    root = make(tmp_path, 20)
    chosen = choose(root, *RULES)
    record = chosen / "selection.json"
    summary = json.loads(record.read_text())
    summary["funnel"][0]["rule"] = "bad \ud800 <i>"
    record.write_text(json.dumps(summary))
    path = write_report(str(root), str(chosen), str(tmp_path / "report.html"))
    assert "bad \\ud800 <i>" in Page(path.read_text(encoding="utf-8")).text()


def test_a_large_manifest_gives_a_small_report(tmp_path: Path) -> None:
    root = make(tmp_path, 1500)
    chosen = choose(root, Rule(score="motion", min=600))
    html = render(str(root), str(chosen))
    page = Page(html)
    assert page.count("figure", "card") == KEPT_SHOWN + REJECTED_SHOWN
    assert f"{ROWS_SHOWN} of 166 shown, evenly sampled." in page.text()
    assert f"900 clips, {KEPT_SHOWN} shown, evenly sampled." in page.text()
    assert len(html) < 400_000


def test_only_row_groups_of_shown_clips_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    rows = pa.table({"clip_id": [str(i) for i in range(30)], "preview": [jpeg(i) for i in range(30)]})
    pq.write_table(rows, path, row_group_size=1, compression="none", use_dictionary=False)
    meta, spoiled = pq.read_metadata(path), bytearray(path.read_bytes())
    for group in set(range(30)) - {3, 17}:
        column = meta.row_group(group).column(1)
        spoiled[column.data_page_offset :][: column.total_compressed_size] = b""
        at, size = column.data_page_offset, column.total_compressed_size
        spoiled[at : at + size] = b"\xff" * size
    path.write_bytes(spoiled)
    table = ds.dataset(path)
    with pytest.raises(OSError, match=r"."):
        rows_at(table, np.array([4]), ["preview"])
    found = rows_at(table, positions_of(table, ["17", "3", "absent"]), ["clip_id", "preview"])
    assert found == [{"clip_id": str(i), "preview": jpeg(i)} for i in (3, 17)]


@given(st.data())
def test_rows_at_is_take(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("rows")
    sizes = data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=4))
    for i, size in enumerate(sizes):
        table = pa.table({"n": pa.array(range(sum(sizes[:i]), sum(sizes[:i]) + size), pa.int64())})
        pq.write_table(table, folder / f"{i}.parquet", row_group_size=3)
    wanted = data.draw(st.sets(st.integers(0, sum(sizes) - 1))) if sum(sizes) else set()
    got = rows_at(ds.dataset(folder), np.array(sorted(wanted), np.int64), ["n"])
    assert [r["n"] for r in got] == sorted(wanted)


def test_the_file_appears_whole_or_not_at_all(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_report(str(run), str(run / "selection"), str(tmp_path / "new" / "folder"))
    assert path == tmp_path / "new" / "folder" / "report.html"
    before = path.read_bytes()
    assert before.decode("utf-8") == render(str(run), str(run / "selection"))  # and the same again

    def fill(self: Path, *args: object, **kwargs: object) -> int:
        self.write_bytes(b"<!doc")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fill)
    with pytest.raises(CurationError, match="disk is full"):
        write_report(str(run), None, str(path))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["own.html", "notes.txt", "notes.txt/x.html", "notes.txt/sub"])
def test_a_file_that_is_no_report_is_left_alone(tmp_path: Path, run: Path, name: str) -> None:
    for file in ("own.html", "notes.txt"):
        (tmp_path / file).write_text("<title>mine</title>")
    with pytest.raises(CurationError, match=r"^out: .*(own.html' exists and is no report|notes.txt' is a file)"):
        write_report(str(run), None, str(tmp_path / name))
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == dict.fromkeys(
        ["own.html", "notes.txt"], "<title>mine</title>"
    )


@pytest.mark.parametrize("before", ["", "<!doctype html>\n<html><head><title>films · curation report</title>"])
def test_an_earlier_report_is_replaced(tmp_path: Path, run: Path, before: str) -> None:
    path = tmp_path / "page.html"
    path.write_text(before, encoding="utf-8")
    for selection in (None, str(run / "selection")):
        assert write_report(str(run), selection, str(path)) == path
        assert path.read_text(encoding="utf-8") == render(str(run), selection)
    named = {a["name"]: a["content"] for _, a in Page(path.read_text(encoding="utf-8")).tags if "name" in a}
    assert named["generator"].startswith("Rushes ")


def test_a_long_name_does_not_hide_that_it_is_a_report(tmp_path: Path) -> None:
    root = make(tmp_path / ("&" * 250), 8)
    for _ in range(2):
        write_report(str(root), None, str(tmp_path / "page.html"))


@pytest.mark.parametrize("out", ["s3://bucket/x.html", "{manifest}/clips/x.html", "{manifest}/errors"])
def test_a_report_goes_to_disk_and_not_into_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    root = make(tmp_path, 8)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CurationError, match="written to disk|lies within the manifest"):
        write_report(str(root), None, out.format(manifest=root / "manifest"))
    assert sorted(tmp_path.rglob("*")) == before


def spoil_kept(chosen: Path) -> None:
    (chosen / "clips.parquet").write_bytes(b"not parquet")


def drop_rejected(chosen: Path) -> None:
    (chosen / "rejected.parquet").unlink()


def spoil_record(chosen: Path) -> None:
    (chosen / "selection.json").write_text("{}")


@pytest.mark.parametrize("spoil", [spoil_kept, drop_rejected, spoil_record])
def test_a_spoiled_selection_is_one_line(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    root = make(tmp_path, 20)
    chosen = choose(root, *RULES)
    spoil(chosen)
    with pytest.raises(CurationError, match="selection") as caught:
        write_report(str(root), str(chosen), str(tmp_path / "report.html"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()
