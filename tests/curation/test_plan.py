"""Curation on a real Ray. Only the scorers without weights run, so that an actor starts in no time; the full set runs
in tests/end_to_end. Ray believes in two cards, which decide where a scorer runs and which nobody touches."""

import os
import shutil
import sys
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import ray

from curation import plan, store
from curation.config import CurateConfig, CutSettings, MotionSettings, TextSettings, WeightSettings
from curation.engine import open_clips
from curation.errors import CurationError
from curation.manifest import Manifest
from curation.plan import curate
from curation.schema import definition_of
from curation.scores.aesthetics import TechnicalQuality
from curation.scores.base import PIXELS, Column, Resources, Scored, Scorer, run_scorer
from curation.scores.clip import ClipScores
from curation.scores.coca import CocaCaption
from curation.scores.duplicates import PerceptualHash
from curation.scores.motion import Motion
from curation.scores.text import Text
from tests.curation.conftest import texture
from tests.curation.scores import conftest as checkpoints
from tests.curation.test_alone import Deadly


@pytest.fixture(scope="module", autouse=True)
def engine(server):
    """One Ray, and light scorers, for all of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "init", partial(ray.init, num_gpus=2))
        patch.setattr(plan, "scorers_for", lambda config: [TechnicalQuality(), Motion(config.motion), PerceptualHash()])
        with plan._ray(CurateConfig(videos="unused", cpus=2)):
            yield


clip_folder, coca_folder = checkpoints.clip_folder, checkpoints.coca_folder


@pytest.fixture
def footage(tmp_path, two_shots):
    folder = tmp_path / "footage"
    folder.mkdir()
    shutil.copy(two_shots, folder / "a.mp4")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_bytes(b"no video at all\n" * 99)
    return folder


def config(folder, **more) -> CurateConfig:
    out = more.pop("out", folder.parent / "out")
    return CurateConfig(videos=str(folder), out=str(out), text=TextSettings(enabled=False), cpus=2, **more)


def test_a_folder_becomes_a_manifest_and_a_second_run_does_nothing(footage):
    seen = []
    summary = curate(config(footage), lambda *step: seen.append(step))
    assert (summary.videos, summary.videos_failed, summary.shots, summary.clips) == (3, 2, 2, 2)
    steps = [(done, total) for what, done, total in seen if what == "measuring"]
    assert (steps[0], steps[-1]) == ((0, 2), (2, 2))  # the empty file is not measured
    assert steps == sorted(steps)
    manifest = Manifest.find(summary.manifest)
    clips = manifest.read("clips").to_pylist()
    for clip in clips:
        assert clip["motion"] > 1
        assert 0 < clip["technical_quality"] < 1
    assert definition_of(manifest.schema("clips").field("motion"))["scorer"] == "motion"
    errors = {os.path.basename(e["uri"]): e for e in manifest.read("errors").to_pylist()}  # noqa: PTH119
    assert "0 bytes" in errors["empty.mp4"]["message"]
    assert "not a video" in errors["text.mp4"]["message"]

    before = sorted((p, p.stat().st_mtime_ns) for p in manifest.root.rglob("*.parquet"))
    again = curate(config(footage))
    assert again.nothing_to_do
    assert again.already_done == 3
    assert sorted((p, p.stat().st_mtime_ns) for p in manifest.root.rglob("*.parquet")) == before


def test_a_folder_that_gives_no_clip_says_why(footage):
    summary = curate(config(footage, clips={"stride_s": 5.0}))
    assert (summary.shots, summary.clips) == (2, 0)
    (told,) = summary.messages
    assert "no clip was made: 2 shots, the longest of 2.00 s, none as long as clips.stride_s (5 s)" in told


def test_the_same_bytes_twice_are_measured_once(footage):
    shutil.copy(footage / "a.mp4", footage / "b.mp4")
    summary = curate(config(footage))
    assert (summary.duplicates, summary.clips) == (1, 2)
    videos = {r["uri"]: r for r in Manifest.find(summary.manifest).read("videos").to_pylist()}
    assert videos[str(footage / "b.mp4")]["message"] == f"the same bytes as {footage / 'a.mp4'}"
    shutil.copy(footage / "a.mp4", footage / "c.mp4")
    later = curate(config(footage))
    assert (later.measured, later.duplicates, later.clips) == (1, 2, 2)


def test_adding_one_file_measures_one_file(footage, write_video):
    curate(config(footage))
    write_video(footage / "b.mp4", [texture(7)] * 30)
    summary = curate(config(footage))
    assert (summary.measured, summary.already_done, summary.videos, summary.clips) == (1, 3, 4, 3)


def test_a_changed_and_a_moved_file_are_noticed(footage, write_video):
    first = curate(config(footage))
    ids = set(Manifest.find(first.manifest).read("clips")["clip_id"].to_pylist())
    (footage / "a.mp4").rename(footage / "moved.mp4")
    moved = curate(config(footage))
    table = Manifest.find(first.manifest).read("clips").to_pylist()
    assert {c["clip_id"] for c in table} == ids
    assert {c["uri"] for c in table} == {str(footage / "moved.mp4")}
    assert any("moved" in m for m in moved.messages)

    write_video(footage / "moved.mp4", [texture(9)] * 30)
    changed = curate(config(footage))
    assert any("changed" in m for m in changed.messages)
    table = Manifest.find(first.manifest).read("clips").to_pylist()
    assert len(table) == 1
    assert table[0]["clip_id"] not in ids


def test_a_run_says_what_its_search_skipped(footage):
    for name in ("._a.mp4", "a.mp4.part", "notes.odt"):
        (footage / name).write_bytes(b"x")
    summary = curate(config(footage))
    assert sum(summary.skipped.values()) == 3
    assert any("(.odt 1)" in m and str(footage / "notes.odt") in m for m in summary.messages)
    assert curate(config(footage)).skipped == summary.skipped


def test_other_settings_are_refused_unless_asked_for(footage):
    curate(config(footage))
    other = {"cuts": CutSettings(hard_threshold=4.0)}
    with pytest.raises(CurationError, match=r"cuts\.hard_threshold 2\.5 -> 4\.0.*--remeasure"):
        curate(config(footage, **other))
    summary = curate(config(footage, remeasure=True, **other))
    assert (summary.measured, summary.clips) == (3, 2)
    assert curate(config(footage, remeasure=True, **other)).nothing_to_do


def test_failed_videos_are_tried_again_on_request_only(footage):
    curate(config(footage))
    assert curate(config(footage)).nothing_to_do
    assert not curate(config(footage, retry_failed=True)).nothing_to_do


def test_a_scorer_that_fails_leaves_nulls_and_error_rows(footage, write_video):
    """Shots with a single sample inside have no flow: motion is null, everything else is measured."""
    write_video(footage / "short.mp4", [texture(5)] * 30, times=[i / 25 if i < 10 else 0.5 + i / 25 for i in range(30)])
    summary = curate(config(footage, motion={"fps": 0.7}))
    manifest = Manifest.find(summary.manifest)
    broken = [e for e in manifest.read("errors").to_pylist() if e["step"] == "motion"]
    assert broken
    assert all(e["clip_id"] for e in broken)
    by_id = {c["clip_id"]: c for c in manifest.read("clips").to_pylist()}
    for error in broken:
        assert by_id[error["clip_id"]]["motion"] is None
        assert by_id[error["clip_id"]]["technical_quality"] is not None


def test_a_plan_that_cannot_fit_is_refused_with_its_arithmetic_before_anything_is_read(footage, monkeypatch):
    node = {"Alive": True, "Resources": {"CPU": 0.5, "memory": 64e9}}
    monkeypatch.setattr(plan.ray, "nodes", lambda: [node, {"Alive": False, "Resources": {"CPU": 64.0}}])
    monkeypatch.setattr(plan, "_read", None)
    with pytest.raises(CurationError, match=r"needs 0\.8 CPUs .* Ray has 0\.5; give Ray more"):
        curate(config(footage))


def test_the_check_of_the_light_text_score_reaches_the_summary(footage, monkeypatch):
    light = TextSettings(method="light", check_every=1, recognise=False)
    monkeypatch.setattr(plan, "scorers_for", lambda config: [Text(light)])
    small = {"text": light, "thumbnail_px": 192}  # CRAFT's time goes by pixels
    summary = curate(config(footage).model_copy(update=small))
    (told,) = summary.messages
    assert "differs from CRAFT's" in told
    assert "over 2 checked clips" in told


class Place(Scorer):
    """Where it is run, and which of a clip's pixels have come that far."""

    def __init__(self, name: str, gpus: float, sees: tuple[str, ...], requires: tuple[str, ...] = ()) -> None:
        self.name, self.sees, self.requires = name, sees, requires  # type: ignore[misc]
        self.resources = Resources(gpus=gpus)

    @property
    def columns(self):
        return [Column(self.name, pa.list_(pa.string()), "cards of this process, as Ray and as CUDA see them; pixels")]

    def score(self, clips, known):
        ids = ",".join(ray.get_runtime_context().get_accelerator_ids()["GPU"])
        cuda = os.environ.get("CUDA_VISIBLE_DEVICES", "every card")
        return [{self.name: [ids, cuda, *(f for f in PIXELS if len(getattr(c, f)))]} for c in clips]


def test_scorers_that_want_a_card_run_on_one_and_measure_what_they_do_in_this_process(
    footage,
    monkeypatch,
    clip_folder,
    coca_folder,
    tmp_path,
):
    """Four stages: cores, a card, cores again, and a card that sees no picture any more."""
    import torch

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    torch.save(torch.nn.Linear(32, 1).state_dict(), tmp_path / "head.pth")
    models = WeightSettings(clip=str(clip_folder), aesthetic_head=str(tmp_path / "head.pth"), coca=str(coca_folder))
    scorers = [
        Motion(), ClipScores(models), Place("first", 0, ("frames", "flow")), Place("second", 0.3, ("frames",)),
        CocaCaption(models), Place("third", 0, (), ("second",)), Place("fourth", 0.5, (), ("third",)),
    ]  # fmt: skip
    monkeypatch.setattr(plan, "scorers_for", lambda config: scorers)
    shutil.copy(footage / "a.mp4", footage / "again.mp4")
    with (footage / "again.mp4").open("ab") as file:
        file.write(b"\0" * 64)  # other bytes, the same pictures: two videos share a batch
    summary = curate(config(footage))
    rows = Manifest.find(summary.manifest).read("clips").to_pylist()
    assert summary.clips == len(rows) == 4
    assert not [e for e in Manifest.find(summary.manifest).read("errors").to_pylist() if e["clip_id"]]
    for row in rows:
        assert row["first"] == ["", "", "frames", "flow", "hashes"]  # `uniform` is the svd profile's
        card = row["second"][0]
        assert card in ("0", "1")
        assert row["second"] == [card, card, "frames"]
        assert row["third"] == ["", ""]
        assert row["fourth"][0] == row["fourth"][1] in ("0", "1")
        assert len(row["fourth"]) == 2

    clips = open_clips(str(footage / "a.mp4"), config(footage))
    serial = [Scored() for _ in clips]
    for scorer in scorers:
        if not isinstance(scorer, Place):
            scorer.load()
            run_scorer(scorer, clips, serial)
    ours = sorted((r for r in rows if r["uri"].endswith("a.mp4")), key=lambda r: r["start"])
    for row, clip, expected in zip(ours, clips, serial, strict=True):
        assert row["clip_id"] == clip.clip_id
        assert row["caption_image"] == expected.values["caption_image"]
        assert row["motion"] == pytest.approx(expected.values["motion"], rel=1e-6)
        np.testing.assert_allclose(row["embedding"], expected.values["embedding"], atol=2e-3)
        assert row["aesthetic"] == pytest.approx(expected.values["aesthetic"], abs=1e-4)


def test_only_rays_greeting_is_kept_back(capfd):
    with plan._without_greeting():
        os.write(
            2, b"[2026 I 1] logging.cc:303: Set ray log level from environment variable RAY_X to 3\n[E] disk full\n"
        )
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "[E] disk full\nlater\n"


def test_ray_listens_on_this_machine_only():
    """Every listening socket of Ray's processes is on loopback (read from /proc, as `ss -ltn` would)."""
    import psutil

    names = ("raylet", "gcs_server", "ray::", "ray/")
    for process in psutil.process_iter(["cmdline"]):
        if not any(n in " ".join(process.info["cmdline"] or []) for n in names):
            continue
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip.removeprefix("::ffff:") in ("127.0.0.1", "::1"), process.info["cmdline"]


def test_a_video_that_kills_every_worker_costs_no_neighbour_its_result(footage, two_shots, monkeypatch):
    undisturbed = curate(config(footage, out=footage.parent / "before"))
    shutil.copy(two_shots, footage / "segv.mp4")
    with (footage / "segv.mp4").open("ab") as file:
        file.write(b"\0" * 16)  # another content, so no copy of a.mp4
    scorers = [Deadly(), Motion(), PerceptualHash()]
    monkeypatch.setattr(plan, "scorers_for", lambda config: scorers)
    summary = curate(config(footage, out=footage.parent / "after"))
    before, after = (Manifest.find(s.manifest) for s in (undisturbed, summary))
    clips = [c for c in after.read("clips").to_pylist() if c["uri"].endswith("a.mp4")]
    assert clips == before.read("clips").to_pylist()
    assert {v["uri"].rpartition("/")[2]: v["status"] for v in after.read("videos").to_pylist()} == {
        "a.mp4": "ok", "empty.mp4": "failed", "segv.mp4": "failed", "text.mp4": "failed"
    }  # fmt: skip
    (error,) = [e for e in after.read("errors").to_pylist() if e["uri"].endswith("segv.mp4")]
    assert (error["step"], error["error"], error["attempts"]) == ("alone", "KilledItsWorker", 2)
    assert "SIGSEGV" in error["message"]
    assert "technical_quality of the clip at 0.00 s" in error["message"]
    assert curate(config(footage, out=footage.parent / "after")).nothing_to_do


def test_without_a_scorer_the_clips_are_the_same_and_scores_can_follow(footage, monkeypatch):
    with_scores = Manifest.find(curate(config(footage)).manifest).read("clips")
    bare = config(footage, out=footage.parent / "bare")
    with monkeypatch.context() as patch:
        patch.setattr(plan, "scorers_for", lambda c: [])
        clips = Manifest.find(curate(bare).manifest).read("clips")
    assert "motion" not in clips.column_names
    assert clips.to_pylist() == with_scores.select(clips.column_names).to_pylist() != []
    curate(bare)
    assert Manifest.find(f"{bare.out}/manifest").read("clips").to_pylist() == with_scores.to_pylist()


def test_videos_on_an_object_store_are_measured_as_on_disk(footage, server):
    """And a second run finds them unchanged; one that was replaced is measured anew."""
    where = store.place(f"s3://bucket/{footage.parent.name}/videos")
    for path in footage.iterdir():
        store.write_bytes(path.read_bytes(), where / path.name)
    disk = curate(config(footage))
    out = footage.parent / "from_store"
    on_store = config(footage, out=out).model_copy(update={"videos": str(where)})
    there = curate(on_store)
    rows = [
        [
            {**clip, "uri": clip["uri"].rpartition("/")[2]}
            for clip in Manifest.find(s.manifest).read("clips").to_pylist()
        ]
        for s in (disk, there)
    ]
    assert rows[0] == rows[1] != []
    assert curate(on_store).nothing_to_do
    store.write_bytes((footage / "text.mp4").read_bytes(), where / "a.mp4")
    after = curate(on_store)
    assert (after.clips, after.videos_failed) == (0, 3)


def test_a_score_with_other_settings_is_measured_alone_on_an_object_store(footage, server, monkeypatch):
    """Motion by DIS instead of Farnebaeck: as if it had been measured so from the beginning, and nothing else anew."""
    where = f"s3://bucket/{footage.parent.name}"
    summary = curate(config(footage, out=where))
    assert summary.clips == 2
    other = {"motion": MotionSettings(method="dis")}
    measured = []
    monkeypatch.setattr(plan, "scorers_for", lambda c: [TechnicalQuality(), Motion(c.motion), PerceptualHash()])
    real = plan.stages_for
    monkeypatch.setattr(plan, "stages_for", lambda scorers, *more: measured.append(scorers) or real(scorers, *more))
    with pytest.raises(
        CurationError, match=r"motion.method 'farneback' -> 'dis'.*--remeasure to measure these scores anew"
    ):
        curate(config(footage, out=where, **other))
    again = curate(config(footage, out=where, remeasure=True, **other))
    assert "measured anew: motion; other scores are kept" in again.messages
    assert [[s.name for s in scorers] for scorers in measured] == [["motion"]]
    fresh = curate(config(footage, out=footage.parent / "fresh", **other))
    got, wanted = (Manifest.find(s.manifest).read("clips") for s in (again, fresh))
    assert got.to_pylist() == wanted.to_pylist()
    assert got.schema.equals(wanted.schema, check_metadata=True)
    assert curate(config(footage, out=where, **other)).nothing_to_do
