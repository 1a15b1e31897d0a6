"""Exports of real clips: read back with OpenCV, tarfile and json, interrupted, repeated, and made to fail."""

import errno
import hashlib
import io
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import export as module
from curation import sources, store
from curation.clip_file import ClipFile, reencode
from curation.clip_source import ClipError, Piece, Stopped
from curation.clips import Splitter, clip_id, stamps
from curation.config import ClipSettings, ExportConfig
from curation.errors import CurationError
from curation.export import export
from curation.manifest import Manifest, Shard, stored
from curation.schema import CLIP_IDENTITY, TABLES, score_field
from curation.sources import identify
from curation.video.decoder import Decoder

SCHEMA = pa.schema(
    [
        *CLIP_IDENTITY,
        score_field("motion", pa.float32(), "flow", "px", {"scorer": "motion", "version": 1}),
        score_field("camera_vector", pa.list_(pa.float32()), "camera", "px", {"scorer": "motion", "version": 1}),
        score_field("caption_image", pa.string(), "caption", "", {"scorer": "captions", "version": 1}),
        score_field("caption_fused", pa.string(), "caption", "", {"scorer": "captions", "version": 1}),
        score_field("phash", pa.list_(pa.uint64()), "hashes", "", {"scorer": "duplicates", "version": 1}),
        score_field("embedding", pa.list_(pa.float16()), "picture", "", {"scorer": "tags", "version": 1}),
    ]
)


def rows_of(path: Path, max_length_s: float = 1.0) -> list[dict]:
    """The rows of a video taken as one shot, with scores of our own."""
    decoder = Decoder(str(path))
    frames = [(f.time, f.keyframe) for f in decoder]
    duration, video_id = decoder.info.duration, identify(str(path))
    assert duration is not None
    stream = {name: getattr(decoder.info, name) for name in ("first_pts", "time_base_num", "time_base_den")}
    settings = ClipSettings(min_length_s=0.5, max_length_s=max_length_s, max_snap_s=0.3)
    spans = Splitter(0.0, settings).take([t for t, key in frames if key], duration, True)
    rows = []
    for n, span in enumerate(spans):
        inside = [i for i, (t, _) in enumerate(frames) if span.start - 1e-4 <= t < span.end - 1e-4]
        scores = {
            "preview": b"\xff\xd8\xff",
            "motion": math.nan if n == 1 else 0.1 + n,
            "camera_vector": [0.1, 0.2, 0.0],
            "caption_image": f"picture {n}",
            "caption_fused": None if n == 2 else f"clip {n}, «été»",
            "phash": [2**64 - 1],
            "embedding": [0.5] * 4,
        }
        rows.append(
            {
                "clip_id": clip_id(video_id, span.start, span.end),
                "video_id": video_id,
                "uri": stored(str(path)),
                "shot": 0,
                "start": span.start,
                "end": span.end,
                **stamps({"start": span.start, "end": span.end}, stream),
                "start_frame": inside[0],
                "frames": len(inside),
                "fps": len(inside) / (span.end - span.start),
                "width": decoder.info.width,
                "height": decoder.info.height,
                "starts_on_keyframe": span.starts_on_keyframe,
                **scores,
            }
        )
    return rows


def manifest(root: Path, rows: list[dict]) -> Path:
    Manifest(root).commit(Shard("a", [], [], [], rows), SCHEMA)
    return root


@pytest.fixture(scope="module")
def rows(two_shots: Path) -> list[dict]:
    found = rows_of(two_shots)
    assert {r["starts_on_keyframe"] for r in found} == {True, False}  # both ways out are taken
    return sorted(found, key=lambda r: r["clip_id"])


@pytest.fixture
def clips(tmp_path: Path, rows: list[dict]) -> Path:
    return manifest(tmp_path / "films", rows)


def config(clips: Path, out: Path, **settings: object) -> ExportConfig:
    return ExportConfig.model_validate(
        {"selection": str(clips), "out": str(out), "preset": "ultrafast", "cpus": 2, **settings}
    )


def opencv_frames(path: Path) -> int:
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        count += 1
    return count


def tree(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"}


@pytest.mark.parametrize("mode", ["copy", "reencode"])
def test_a_video_and_its_manifest_on_an_object_store(
    two_shots: Path, rows: list[dict], tmp_path: Path, server, mode: str
):
    where = store.place(f"s3://bucket/{tmp_path.name}/two_shots.mp4")
    store.write_bytes(two_shots.read_bytes(), where)
    there = manifest(where.parent / "films", [row | {"uri": str(where)} for row in rows])
    here = manifest(tmp_path / "disk", rows)
    for clips, out in ((there, "a"), (here, "b")):
        export(config(clips, tmp_path / out, mode=mode))
    films = [{p.name: p.read_bytes() for p in (tmp_path / out).rglob("*.mp4")} for out in ("a", "b")]
    assert films[0] == films[1] != {}


def test_files_hold_each_clip_and_what_was_measured_on_it(clips: Path, rows: list[dict], tmp_path: Path):
    summary = export(config(clips, tmp_path / "out"))
    assert summary.clips == len(rows) == summary.copied + summary.reencoded
    assert summary.copied
    assert summary.reencoded
    assert not summary.failed
    names = {f"{r['clip_id']}.{s}" for r in rows for s in ("mp4", "json")}
    assert set(tree(tmp_path / "out")) == names | {"export.json", "export_errors.json"}
    for row in rows:
        beside = json.loads((tmp_path / "out" / f"{row['clip_id']}.json").read_text())
        made = beside["file"]
        assert opencv_frames(tmp_path / "out" / f"{row['clip_id']}.mp4") == made["frames"]
        assert row["frames"] - 4 <= made["frames"] <= row["frames"]
        assert made["how"] == "copy" or made["frames"] == row["frames"]
        assert made["seconds"] == pytest.approx(made["frames"] / 25)
        assert beside["source"]["uri"] == row["uri"]
        assert [beside["source"][k] for k in ("start", "end", "frames")] == [row[k] for k in ("start", "end", "frames")]
        assert beside["captions"] == {k: row[k] for k in ("caption_image", "caption_fused")}
        assert set(beside["scores"]) == {"motion", "camera_vector"}
        assert beside["scores"]["camera_vector"] == [0.1, 0.2, 0.0]  # no 0.10000000149
        assert beside["scores"]["motion"] == (None if math.isnan(row["motion"]) else round(row["motion"], 3))


def test_shards_are_read_by_any_tar_reader_and_are_the_same_bytes_twice(clips: Path, rows: list[dict], tmp_path: Path):
    for name in ("one", "two"):
        export(config(clips, tmp_path / name, format="webdataset", clips_per_shard=3, cpus=2 if name == "one" else 1))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    index = json.loads((tmp_path / "one" / "index.json").read_text())
    assert index["__kind__"] == "wids-shard-index-v1"
    seen = []
    for number, entry in enumerate(index["shardlist"]):
        assert entry["url"] == f"shard-{number:06d}.tar"
        data = (tmp_path / "one" / entry["url"]).read_bytes()
        assert (len(data), hashlib.md5(data).hexdigest()) == (entry["filesize"], entry["md5sum"])
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            members = tar.getmembers()
            assert all((m.mtime, m.uid, m.gid, m.uname, m.mode) == (0, 0, 0, "", 0o644) for m in members)
            names = [m.name for m in members]
            bodies = {m.name: tar.extractfile(m).read() for m in members}  # type: ignore[union-attr]
        keys = [n.removesuffix(".json") for n in names[::3]]
        assert names == [f"{k}.{s}" for k in keys for s in ("json", "mp4", "txt")]
        assert len(keys) == entry["nsamples"] <= 3
        seen += keys
        for key in keys:
            row = next(r for r in rows if r["clip_id"] == key)
            assert bodies[f"{key}.txt"].decode() == row["caption_fused"] or row["caption_image"]
            assert json.loads(bodies[f"{key}.json"])["clip_id"] == key
            (tmp_path / "clip.mp4").write_bytes(bodies[f"{key}.mp4"])
            assert opencv_frames(tmp_path / "clip.mp4") == json.loads(bodies[f"{key}.json"])["file"]["frames"]
    assert seen == [r["clip_id"] for r in rows]


@pytest.mark.parametrize("kind", ["files", "webdataset"])
def test_a_second_run_does_nothing_and_a_lost_file_alone_is_made_again(
    clips: Path, rows: list[dict], tmp_path: Path, kind: str
):
    wanted = config(clips, tmp_path / "out", format=kind, clips_per_shard=2)
    export(wanted)
    before, times = tree(tmp_path / "out"), {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    again = export(wanted)
    assert again.nothing_to_do
    assert again.already_done == len(rows)
    data = [n for n in before if n.endswith((".mp4", ".tar"))]
    assert all((tmp_path / "out" / n).stat().st_mtime_ns == times[n] for n in data)
    (tmp_path / "out" / data[0]).unlink()
    third = export(wanted)
    assert third.copied + third.reencoded == (1 if kind == "files" else 2)
    assert tree(tmp_path / "out") == before
    changed = [n for n in data if (tmp_path / "out" / n).stat().st_mtime_ns != times[n]]
    assert changed == data[:1]


@pytest.mark.parametrize("kind", ["files", "webdataset"])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupted_run_leaves_nothing_half_written_and_goes_on(clips: Path, tmp_path: Path, kind: str, after: int):
    settings = {"format": kind, "clips_per_shard": 2}
    export(config(clips, tmp_path / "whole", **settings))

    def interrupt(what: str, done: int, total: int | None) -> None:
        if done >= after:
            raise KeyboardInterrupt

    wanted = config(clips, tmp_path / "out", **settings)
    with pytest.raises(KeyboardInterrupt):
        export(wanted, interrupt)
    whole = tree(tmp_path / "whole")
    there = tree(tmp_path / "out")
    assert all(whole[n] == data for n, data in there.items() if n != "index.json")
    (tmp_path / "out" / ".shard-000001.tar.1.tmp").write_bytes(b"left by a killed run")
    rest = export(wanted)
    assert rest.copied + rest.reencoded < rest.clips or after < 2
    assert tree(tmp_path / "out") == whole


def test_an_interrupt_stops_the_encoders_between_two_frames(
    clips: Path, rows: list[dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each encoder is held at a frame until it is told to stop; nothing else would end it."""
    begun, ended = threading.Event(), []

    def hold(check: Callable[[], None]) -> None:
        begun.set()
        for _ in range(1000):
            check()
            threading.Event().wait(0.01)

    def watched(piece: Piece, *, check: Callable[[], None], **settings: Any) -> ClipFile:
        try:
            return reencode(piece, check=lambda: hold(check), **settings)
        except Exception as error:
            ended.append(type(error))
            raise

    monkeypatch.setattr("curation.export.reencode", watched)
    interrupter = threading.Thread(target=lambda: begun.wait() and os.kill(os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process below a test runner may ignore it
    try:
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            export(config(clips, tmp_path / "out", mode="reencode"))
    finally:
        signal.signal(signal.SIGINT, before)
    interrupter.join()
    assert ended
    assert set(ended) == {Stopped}
    assert set(tree(tmp_path / "out")) == {"export.json", "export_errors.json"}
    assert json.loads((tmp_path / "out" / "export_errors.json").read_text()) == []
    monkeypatch.undo()
    assert export(config(clips, tmp_path / "out", mode="reencode")).reencoded == len(rows)


Killed = Callable[..., int]
KILLED = """
import os, signal, sys, threading
from curation.config import ExportConfig
from curation.export import export
for line in sys.stdin:
    moment, delay, config = line.split(maxsplit=2)
    moment, delay, config = int(moment), float(delay), ExportConfig.model_validate_json(config)
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    seen = 0
    def watch(event, args):
        global seen
        if event in {"open", "os.rename", "os.remove"} and os.fsdecode(args[0]).startswith(config.out):
            seen += 1
            if seen == moment and delay:
                threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
            elif seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(lambda event, args: watch(event, args) if args and not isinstance(args[0], int) else None)
    export(config)
    os._exit(min(seen, 255))
"""


@pytest.fixture(scope="module")
def killed() -> Iterator[Killed]:
    """`killed(config, moment, delay)`: an export in a process of its own, kill -9 `delay` seconds after the moment-th
    time that it opens, renames or deletes a file of the export. Gives -9, or how many times it did so if it lives."""
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:

        def run(wanted: ExportConfig, moment: int, delay: float = 0.0) -> int:
            assert parent.stdin
            assert parent.stdout
            parent.stdin.write(f"{moment} {delay} {wanted.model_dump_json()}\n")
            parent.stdin.flush()
            return int(parent.stdout.readline())

        yield run


@pytest.mark.parametrize("kind", ["files", "webdataset"])
def test_a_killed_run_leaves_nothing_half_written_and_is_finished_by_the_next(
    clips: Path, tmp_path: Path, kind: str, killed: Killed
):
    """Killed at the edge of a file operation or milliseconds later: in a fresh folder, and again and again in one."""
    settings = {"format": kind, "clips_per_shard": 2}
    operations = killed(config(clips, tmp_path / "calm", **settings), -1)
    assert operations > 20
    whole, chance, died = tree(tmp_path / "calm"), random.Random(), 0
    moments = [(n, 0.0) for n in range(1, 6)]
    moments += [(chance.randint(6, operations), chance.choice([0, 0.01, 0.05])) for _ in range(8)]
    print("moments:", moments)  # shown if this fails
    often = config(clips, tmp_path / "often", **settings)
    for number, (moment, delay) in enumerate(moments):
        once = config(clips, tmp_path / f"once{number}", **settings)
        for wanted in (once, often):
            status = killed(wanted, moment, delay)
            died += status == -signal.SIGKILL
            assert status == -signal.SIGKILL or status > 1
            assert_nothing_is_half_written(tree(Path(wanted.out)), whole)
        export(once)
        assert tree(Path(once.out)) == whole  # no less, and nothing of the killed
    assert died > 5
    export(often)
    assert tree(tmp_path / "often") == whole
    times = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "often").iterdir() if p.suffix in {".mp4", ".tar"}}
    assert export(often).nothing_to_do
    assert {name: (tmp_path / "often" / name).stat().st_mtime_ns for name in times} == times
    assert tree(tmp_path / "often") == whole


def assert_nothing_is_half_written(there: dict[str, bytes], whole: dict[str, bytes]) -> None:
    """Whatever has its name has its content; an index may still list less."""
    for name, data in there.items():
        if name == "index.json":
            listed = json.loads(whole[name])["shardlist"]
            assert all(entry in listed for entry in json.loads(data)["shardlist"])
        elif not name.startswith("."):
            assert data == whole[name], name


@pytest.mark.parametrize("kind", ["files", "webdataset"])
def test_a_clip_that_fails_is_a_row_costs_no_other_and_can_be_tried_again(
    rows: list[dict], tmp_path: Path, kind: str, two_shots: Path
):
    lost, changed = tmp_path / "lost.mp4", tmp_path / "changed.mp4"
    changed.write_bytes(two_shots.read_bytes() + b"\0")
    bad = [{**rows[0], "uri": str(lost)}, {**rows[1], "uri": str(changed)}, *rows[2:]]
    wanted = config(manifest(tmp_path / "films", bad), tmp_path / "out", format=kind, clips_per_shard=3)
    summary = export(wanted)
    assert summary.failed == summary.failed_now == 2
    assert summary.copied + summary.reencoded == len(rows) - 2
    errors = json.loads((tmp_path / "out" / "export_errors.json").read_text())
    assert [e["clip_id"] for e in errors] == [r["clip_id"] for r in bad[:2]]
    assert "No such file" in errors[0]["message"]
    assert "has changed since" in errors[1]["message"]
    again = export(wanted)
    assert again.nothing_to_do
    assert (again.failed, again.already_done) == (2, len(rows) - 2)
    lost.write_bytes(two_shots.read_bytes())
    tried = export(wanted.model_copy(update={"retry_failed": True}))
    assert tried.failed == 1
    assert tried.copied + tried.reencoded == (1 if kind == "files" else 2)
    assert len(json.loads((tmp_path / "out" / "export_errors.json").read_text())) == 1
    assert export(wanted).already_done == len(rows) - 1


def test_copy_alone_fails_where_it_would_not_be_exact_and_reencode_alone_never_copies(
    clips: Path, rows: list[dict], tmp_path: Path
):
    copied = export(config(clips, tmp_path / "copy", mode="copy"))
    off = {r["clip_id"] for r in rows if not r["starts_on_keyframe"]}
    assert {f["clip_id"] for f in copied.failures if "not start on a keyframe" in f["message"]} == off
    assert copied.copied == len(rows) - copied.failed
    made = export(config(clips, tmp_path / "encode", mode="reencode"))
    assert (made.copied, made.reencoded, made.failed) == (0, len(rows), 0)


def test_only_the_clips_of_a_selection_are_written(clips: Path, rows: list[dict], tmp_path: Path):
    (tmp_path / "selection").mkdir()
    table = Manifest(clips).read("clips")
    pq.write_table(table.slice(0, 2), tmp_path / "selection" / "clips.parquet")
    export(config(tmp_path / "selection", tmp_path / "out"))
    kept = set(table["clip_id"].slice(0, 2).to_pylist())
    assert {p.stem for p in (tmp_path / "out").glob("*.mp4")} == kept


@pytest.mark.parametrize(
    "name",
    [
        b"caf\xe9.mp4",
        b"-rf \n'\"; $(x) <b>.mp4",
        b"..mp4",
        "漢字 \u202e.mp4".encode(),
        b"a\\xe9.mp4",
        b"x" * 240 + b".mp4",
    ],
)
def test_no_name_of_a_video_matters(two_shots: Path, tmp_path: Path, name: bytes):
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(two_shots.read_bytes())
    rows = rows_of(path, 4.0)[:1]
    summary = export(config(manifest(tmp_path / "films", rows), tmp_path / "out"))
    assert summary.failures == []
    assert {p.name for p in (tmp_path / "out").glob("*.mp4")} == {f"{rows[0]['clip_id']}.mp4"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("kind", ["files", "webdataset"])
def test_a_disk_that_takes_no_more_is_one_line_and_no_fault_of_a_clip(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: str
):
    wanted = config(clips, tmp_path / "out", format=kind)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        write = Path.write_bytes
        patch.setattr(Path, "write_bytes", lambda p, data: refuse() if p.name.endswith(".tmp") else write(p, data))
        patch.setattr(tarfile.TarFile, "addfile", refuse)
        with pytest.raises(CurationError, match=r"^out: .*(disk is full|not writable)") as raised:
            export(wanted)
    assert "\n" not in str(raised.value)
    assert not [n for n in tree(tmp_path / "out") if n.endswith((".mp4", ".tar", ".tmp"))]
    assert export(wanted).failed == 0


def test_a_folder_that_holds_something_else_is_left_alone(clips: Path, rows: list[dict], tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(CurationError, match="is no export"):
        export(config(clips, tmp_path / "mine"))
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    export(config(clips, tmp_path / "out"))
    before = tree(tmp_path / "out")
    with pytest.raises(CurationError, match="crf 18 there, 30 now"):
        export(config(clips, tmp_path / "out", crf=30))
    with pytest.raises(CurationError, match="holds another export"):
        export(config(manifest(tmp_path / "fewer", rows[:2]), tmp_path / "out"))
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("inside", [True, False])
def test_an_export_goes_to_disk_and_not_into_the_manifest(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
):
    for table in TABLES:
        assert (clips / table).is_dir()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    wanted = config(clips, clips / "clips" / "out").model_copy(update={} if inside else {"out": "s3://bucket/x"})
    with pytest.raises(CurationError, match="lies within the manifest" if inside else "written to disk"):
        export(wanted)
    assert sorted(tmp_path.rglob("*")) == before


def test_two_exports_do_not_write_into_one_folder(clips: Path, tmp_path: Path):
    wanted = config(clips, tmp_path / "out")
    with Manifest(tmp_path / "out").locked(), pytest.raises(CurationError, match="another run"):
        export(wanted)


def test_what_is_no_selection_is_said(tmp_path: Path, clips: Path):
    with pytest.raises(CurationError, match="holds no selection"):
        export(config(tmp_path / "nowhere", tmp_path / "out"))
    with pytest.raises(CurationError, match="holds no clip"):
        export(config(manifest(tmp_path / "empty", []), tmp_path / "out"))
    (tmp_path / "made").mkdir()
    pq.write_table(Manifest(clips).read("clips").drop_columns(["frames"]), tmp_path / "made" / "clips.parquet")
    with pytest.raises(CurationError, match="no column frames"):
        export(config(tmp_path / "made", tmp_path / "out"))
    (tmp_path / "made" / "clips.parquet").write_text("no Parquet")
    with pytest.raises(CurationError, match="cannot be read"):
        export(config(tmp_path / "made", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.needs_videos
def test_awkward_footage_is_exported_whole(shared_videos: Path, tmp_path: Path, two_shots: Path):
    names = ["odd/rotate90_metadata.mp4", "odd/vfr.mp4", "odd/vp9.webm", "odd/anamorphic_sar.mp4", "odd/mjpeg.avi"]
    rows = [row for name in names for row in rows_of(shared_videos / name, 2.0)[:2]]
    out = tmp_path / "out"
    summary = export(config(manifest(tmp_path / "films", rows), out, audio=True, format="files"))
    assert summary.failures == []
    for row in rows:
        made = json.loads((out / f"{row['clip_id']}.json").read_text())["file"]
        assert opencv_frames(out / f"{row['clip_id']}.mp4") == made["frames"]


def test_a_video_that_changes_while_a_clip_is_cut_out_fails_the_clip(
    rows: list[dict], tmp_path: Path, two_shots: Path, monkeypatch: pytest.MonkeyPatch
):
    film = tmp_path / "film.mp4"
    shutil.copy(two_shots, film)
    cut = module._cut

    def interrupted(path: str, *args: object) -> object:
        made = cut(path, *args)
        film.write_bytes(film.read_bytes() + b"\0")
        return made

    monkeypatch.setattr(module, "_cut", interrupted)
    with pytest.raises(ClipError, match="has changed since it was curated"):
        module.cut_out({**rows[0], "uri": str(film)}, config("unused", tmp_path / "out", mode="reencode"))


def test_a_file_in_its_recorded_state_is_not_hashed_again(
    rows: list[dict], tmp_path: Path, two_shots: Path, monkeypatch: pytest.MonkeyPatch
):
    state, video_id = sources.read(str(two_shots))
    video = {"uri": state.uri, "video_id": video_id, "size_bytes": state.size, "modified_ns": state.modified_ns}
    films = Manifest(tmp_path / "films")
    films.commit(Shard("a", [video | {"revision": state.revision}], [], [], rows), pa.schema(CLIP_IDENTITY))
    monkeypatch.setattr(sources, "identify", lambda uri: pytest.fail(f"{uri} was hashed"))
    assert module._contents(str(films.root)).hold(state.uri, video_id)
