"""What is left to measure, asked of manifests written by hand."""

import os
from pathlib import Path

import pytest

from curation import discovery, ledger, sources
from curation.config import (
    ClipSettings,
    CurateConfig,
    CutSettings,
    MotionSettings,
    Profile,
    TextSettings,
    WeightSettings,
)
from curation.errors import CurationError
from curation.ledger import clip_schema, measuring, plan
from curation.manifest import Manifest, Shard
from curation.progress import silent


@pytest.fixture
def world(tmp_path):
    """Three files, and a manifest in which each was measured in a shard of its own."""
    folder = tmp_path / "videos"
    folder.mkdir()
    config = CurateConfig(videos=str(folder), out=str(tmp_path / "out"), videos_per_shard=1)
    schema = clip_schema(config, [])
    manifest = Manifest(tmp_path / "out" / "manifest")
    for name in ("a", "b", "c"):
        (folder / f"{name}.mp4").write_bytes(name.encode() * 100)
    for source in discovery.find(str(folder)):
        name = Path(source.uri).stem
        row = {
            "uri": source.uri,
            "video_id": sources.identify(source.uri),
            "size_bytes": source.size,
            "modified_ns": source.modified_ns,
            "status": "failed" if name == "c" else "ok",
        }
        manifest.commit(Shard(name, [row], [], [], []), schema)
    return folder, config, manifest


def todo(world, **changes):
    folder, config, manifest = world
    messages: list[str] = []
    tasks = plan(config.model_copy(update=changes), manifest, [], discovery.find(str(folder)), silent, messages).tasks
    return [Path(t.source.uri).name for t in tasks], messages, tasks


def test_nothing_is_left_when_all_is_done(world):
    assert todo(world)[0] == []
    assert world[2].shards() == ["a", "b", "c"]


def test_a_new_file_is_left(world):
    (world[0] / "d.mp4").write_bytes(b"new")
    assert todo(world)[0] == ["d.mp4"]


def test_a_touched_file_with_the_same_content_is_done(world):
    os.utime(world[0] / "a.mp4", (1, 1))
    assert todo(world)[0] == []


def test_a_changed_file_is_left_and_its_old_shard_gone(world):
    (world[0] / "a.mp4").write_bytes(b"other")
    names, messages, _ = todo(world)
    assert names == ["a.mp4"]
    assert "has changed" in messages[0]
    assert world[2].shards() == ["b", "c"]


def test_the_rows_of_a_moved_file_follow_it(world):
    (world[0] / "a.mp4").rename(world[0] / "z.mp4")
    names, messages, _ = todo(world)
    assert names == []
    assert "has moved" in messages[0]
    uris = world[2].read("videos", ["uri"])["uri"].to_pylist()
    assert sorted(uris) == [str(world[0] / f"{name}.mp4") for name in "bcz"]
    assert todo(world)[:2] == ([], [])


def test_of_a_moved_file_with_a_copy_one_is_told_as_a_copy(world):
    (world[0] / "y.mp4").write_bytes(b"a" * 100)
    (world[0] / "a.mp4").rename(world[0] / "z.mp4")
    names, _, (task,) = todo(world)
    assert names == ["z.mp4"]
    assert task.copy_of == str(world[0] / "y.mp4")


def test_a_deleted_file_keeps_its_rows(world):
    (world[0] / "a.mp4").unlink()
    names, messages, _ = todo(world)
    assert names == []
    assert "1 videos of the manifest are gone" in messages[0]
    assert world[2].shards() == ["a", "b", "c"]


def test_a_copy_points_to_its_original(world):
    (world[0] / "copy.mp4").write_bytes(b"a" * 100)
    _, _, (task,) = todo(world)
    assert task.copy_of == str(world[0] / "a.mp4")


def test_failures_are_retried_on_request(world):
    assert todo(world, retry_failed=True)[0] == ["c.mp4"]


def test_other_settings_are_refused_or_replace_all(world):
    other = {"motion": MotionSettings(fps=4)}
    with pytest.raises(CurationError, match=r"motion\.fps 2\.0 -> 4\.0"):
        todo(world, **other)
    assert todo(world, remeasure=True, **other)[0] == ["a.mp4", "b.mp4", "c.mp4"]


def test_settings_that_measure_nothing_may_change(world):
    assert todo(world, cpus=1, videos_per_shard=3, no_progress_minutes=5.0)[0] == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"text": TextSettings(canvas_px=320, check_every=7)}),
        ({"text": TextSettings(method="craft")}, {"text": TextSettings(method="craft", check_every=7)}),
        ({"text": TextSettings(enabled=False)}, {"text": TextSettings(enabled=False, recognise=False)}),
        ({}, {"motion": MotionSettings(raft_weights="other.pth")}),
        ({"clips": ClipSettings(stride_s=2)}, {"clips": ClipSettings(stride_s=2, max_length_s=5, max_snap_s=0)}),
        ({}, {"weights": WeightSettings(coca="other", caption_llm="other")}),
    ],
)
def test_settings_that_the_chosen_method_does_not_read_may_change(world, before, after):
    old, new = (measuring(world[1].model_copy(update=changes)) for changes in (before, after))
    assert old == new


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"text": TextSettings(method="craft")}, {"text": TextSettings(method="craft", canvas_px=320)}),
        ({"text": TextSettings(method="light")}, {"text": TextSettings(method="light", canvas_px=320)}),
        ({"text": TextSettings(method="light")}, {"text": TextSettings(method="light", check_every=7)}),
        ({"motion": MotionSettings(method="raft")}, {"motion": MotionSettings(method="raft", raft_weights="o.pth")}),
        ({}, {"clips": ClipSettings(max_length_s=5)}),
        ({"profile": Profile.svd}, {"profile": Profile.svd, "weights": WeightSettings(coca="other")}),
        ({}, {"weights": WeightSettings(folder="elsewhere")}),
        ({}, {"cuts": CutSettings(gradual_threshold=3)}),
    ],
)
def test_settings_that_it_reads_may_not(world, before, after):
    old, new = (measuring(world[1].model_copy(update=changes)) for changes in (before, after))
    assert old != new


def test_other_weights_of_the_cut_network_are_other_settings(world, monkeypatch):
    monkeypatch.setattr(ledger, "weights_sha256", lambda: "0" * 64)
    with pytest.raises(CurationError, match=r"cuts\.network_sha256 '[0-9a-f]{12}…' -> '000000000000…'"):
        todo(world)
    assert todo(world, remeasure=True)[0] == ["a.mp4", "b.mp4", "c.mp4"]


def test_shards_are_named_by_content_and_settings(world):
    (world[0] / "d.mp4").write_bytes(b"new")
    first = todo(world)[2][0].shard
    assert todo(world)[2][0].shard == first
    (world[0] / "d.mp4").write_bytes(b"newer")
    assert todo(world)[2][0].shard != first


def test_an_empty_file_is_left_with_its_reason(world):
    (world[0] / "e.mp4").write_bytes(b"")
    _, _, (task,) = todo(world)
    assert task.video_id is None
    assert "0 bytes" in task.problem[1]


def rows(manifest):
    return {Path(r["uri"]).stem: r for r in manifest.read("videos").to_pylist()}


def test_a_change_that_keeps_size_and_times_is_noticed(world):
    assert todo(world)[0] == []  # records the revisions that the manifest lacks
    path = world[0] / "a.mp4"
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(50)
        file.write(b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    names, messages, _ = todo(world)
    assert names == ["a.mp4"]
    assert "has changed" in messages[0]


def test_a_touched_file_is_read_once(world, monkeypatch):
    folder, _, manifest = world
    (folder / "b.mp4").rename(folder / "z.mp4")
    os.utime(folder / "a.mp4", (1, 1))
    before = manifest.hash()
    assert todo(world)[0] == []
    assert rows(manifest)["a"]["modified_ns"] == 10**9
    assert rows(manifest)["a"]["revision"] == sources.at(folder / "a.mp4").revision
    assert rows(manifest)["z"]["revision"] == sources.at(folder / "z.mp4").revision
    monkeypatch.setattr(sources, "read", lambda *_: pytest.fail("a file was read again"))
    assert todo(world)[0] == []
    monkeypatch.undo()
    os.utime(folder / "a.mp4", (2, 2))
    after = manifest.hash()
    todo(world)
    assert manifest.hash() == after  # the states of files are no part of what a manifest holds
    assert after != before  # the moved video's clips are


def test_a_file_that_changed_while_it_was_read_is_tried_again(world):
    folder, _, manifest = world
    source = sources.at(folder / "d.mp4")
    (folder / "d.mp4").write_bytes(b"half")
    row = {"uri": source.uri, "video_id": None, "size_bytes": 4, "modified_ns": 1, "status": "failed"}
    manifest.commit(Shard("d", [row], [], [], []), manifest.schema("clips"))
    names, messages, _ = todo(world)
    assert names == ["d.mp4"]
    assert "could not be read, or changed meanwhile" in messages[0]


def test_a_copy_of_a_video_that_lost_its_id_is_measured(world):
    folder, _, manifest = world
    for name, status, video_id in (("e", "failed", None), ("f", "duplicate", sources.identify(str(folder / "a.mp4")))):
        (folder / f"{name}.mp4").write_bytes(b"e" * 100)
        now, e = sources.read(str(folder / f"{name}.mp4"))
        row = {"uri": now.uri, "video_id": e if video_id else None, "size_bytes": 100, "modified_ns": now.modified_ns}
        manifest.commit(Shard(name, [row | {"status": status}], [], [], []), manifest.schema("clips"))
    names, _, tasks = todo(world)
    assert sorted(names) == ["e.mp4", "f.mp4"]
    assert sum(task.copy_of is None for task in tasks) == 1


LARGE = (40 << 20) + 17


def sampled_row(path, **changes):
    """The row that schema version 2 wrote of a large file."""
    now = sources.at(path)
    row = {"uri": now.uri, "video_id": sources._sampled(now), "size_bytes": now.size, "modified_ns": now.modified_ns}
    return row | {"status": "ok"} | changes


@pytest.fixture
def former(world):
    """A large file beside the others, which a former version measured."""
    path = world[0] / "large.mp4"
    with path.open("wb") as file:
        file.truncate(LARGE)
    world[2].commit(Shard("large", [sampled_row(path)], [], [], []), world[2].schema("clips"))
    return world, path


def test_an_id_of_a_former_version_is_kept_until_the_file_is_touched(former):
    world, path = former
    names, messages, _ = todo(world)
    assert names == []
    assert "keep ids of a former version" in messages[-1]
    before = path.stat()
    with path.open("r+b") as file:  # between two samples: as a download is completed in place
        file.seek(3 << 20)
        file.write(b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    names, messages, (task,) = todo(world)
    assert names == ["large.mp4"]
    assert "was touched since a former version sampled its content" in messages[0]
    assert task.video_id == sources.identify(str(path))
    assert len(task.video_id or "") == 32


def test_the_rows_of_a_moved_file_with_a_former_id_follow_it(former):
    world, path = former
    path.rename(world[0] / "moved.mp4")
    names, messages, _ = todo(world)
    assert names == []
    assert "has moved" in messages[0]
    assert rows(world[2])["moved"]["revision"] == sources.at(world[0] / "moved.mp4").revision


def test_what_is_measured_anew_has_an_id_of_all_bytes(former):
    _, _, tasks = todo(former[0], remeasure=True, motion=MotionSettings(fps=4))
    assert {Path(t.source.uri).stem: len(t.video_id or "") for t in tasks} == {"a": 24, "b": 24, "c": 24, "large": 32}
