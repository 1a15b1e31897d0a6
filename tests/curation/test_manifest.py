"""Fragments, commits and what other tools make of them."""

import errno
import os
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import store
from curation.errors import CurationError
from curation.manifest import Manifest, Shard, read
from curation.schema import CLIP_IDENTITY, TABLES, definition_of, score_field
from curation.store import writing

SCHEMA = pa.schema(
    [*CLIP_IDENTITY, score_field("motion", pa.float32(), "flow", "px", {"scorer": "motion", "fps": 2.0})]
)


def shard(name: str, clips: int = 2, uri: str = "a.mp4") -> Shard:
    return Shard(
        name,
        videos=[{"uri": uri, "video_id": name, "status": "ok", "clips": clips}],
        shots=[{"video_id": name, "uri": uri, "shot": 0, "start": 0.0, "end": 1.0, "clips": clips}],
        errors=[],
        clips=[{"clip_id": f"{name}-{i}", "video_id": name, "uri": uri, "motion": i or None} for i in range(clips)],
    )


def test_what_is_committed_is_read_back_with_its_definition(tmp_path):
    manifest = Manifest(tmp_path / "manifest")
    manifest.commit(shard("s1"), SCHEMA)
    table = read(tmp_path, "clips")
    assert table["clip_id"].to_pylist() == ["s1-0", "s1-1"]
    assert table["motion"].to_pylist() == [None, 1.0]
    assert definition_of(manifest.schema("clips").field("motion")) == {"scorer": "motion", "fps": 2.0}
    assert definition_of(manifest.schema("clips").field("uri")) is None


def test_other_tools_read_it_as_it_lies(tmp_path):
    manifest = Manifest(tmp_path)
    for name in ("s1", "s2"):
        manifest.commit(shard(name), SCHEMA)
    assert len(pd.read_parquet(tmp_path / "clips")) == 4
    assert duckdb.sql(f"select sum(motion) from '{tmp_path}/clips/*.parquet'").fetchall() == [(2.0,)]
    assert pq.read_table(tmp_path / "clips").schema.field("motion").metadata[b"unit"] == b"px"


@pytest.mark.parametrize("table", ["videos", "shots", "errors", "clips"])
def test_a_shard_that_fails_at_any_file_does_not_exist(tmp_path, monkeypatch, table):
    manifest = Manifest(tmp_path)
    manifest.commit(shard("s1"), SCHEMA)
    real = store._write

    def full(data, path, *more):
        if f"{os.sep}{table}{os.sep}" in str(path):
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(data, path, *more)

    monkeypatch.setattr(store, "_write", full)
    with pytest.raises(CurationError, match="disk is full"):
        manifest.commit(shard("s2"), SCHEMA)
    assert manifest.shards() == ["s1"]
    assert manifest.read("videos").num_rows == 1
    monkeypatch.undo()
    manifest.sweep()
    left = sorted(p.name for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["s1.parquet"] * 4


def test_removal_takes_all_four(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.commit(shard("s1"), SCHEMA)
    manifest.remove("s1")
    assert not list(tmp_path.rglob("*.parquet"))


def test_the_hash_names_the_content(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.commit(shard("s1"), SCHEMA)
    before = manifest.hash()
    assert manifest.hash() == before
    manifest.commit(shard("s2"), SCHEMA)
    assert manifest.hash() != before


def test_a_second_writer_is_turned_away(tmp_path):
    with (
        Manifest(tmp_path).locked(),
        pytest.raises(CurationError, match="another run is writing"),
        Manifest(tmp_path).locked(),
    ):
        pass


def test_no_manifest_is_said_with_its_remedy(tmp_path):
    with pytest.raises(CurationError, match="rushes curate"):
        Manifest.find(tmp_path)
    (tmp_path / "selection.json").write_text("{}")
    with pytest.raises(CurationError, match="is a selection; its selection.json names the manifest"):
        Manifest.find(tmp_path)


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "x.bin"
    with pytest.raises(RuntimeError, match="boom"), writing(target) as path:
        path.write_bytes(b"half")
        raise RuntimeError("boom")
    assert list(target.parent.iterdir()) == []
    with writing(target) as path:
        path.write_bytes(b"whole")
    assert target.read_bytes() == b"whole"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CurationError, match="is a file, not a folder"), Manifest(tmp_path / "file").locked():
        pass


def test_names_that_are_no_text_become_text(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.commit(shard("s1", uri=os.fsdecode(b"/v/\xff.mp4")), SCHEMA)
    assert manifest.read("clips")["uri"][0].as_py() == "/v/\\xff.mp4"


@pytest.mark.parametrize("table", ["videos", "clips"])
def test_a_damaged_fragment_is_said_with_its_remedy(tmp_path, table):
    manifest = Manifest(tmp_path)
    manifest.commit(shard("s1"), SCHEMA)
    (tmp_path / table / "s1.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(CurationError, match=rf"{table}/s1\.parquet is damaged or missing .*rushes curate"):
        manifest.read(table)


def test_a_bit_that_fell_over_names_its_fragment(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.commit(shard("s1"), SCHEMA)
    path = tmp_path / "clips" / "s1.parquet"
    raw, column = bytearray(path.read_bytes()), pq.read_metadata(path).row_group(0).column(0)
    raw[column.data_page_offset + column.total_compressed_size - 1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CurationError, match=r"clips/s1\.parquet is damaged or missing .*CRC"):
        manifest.read("clips")


def test_sweeping_leaves_what_others_put_there(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.commit(shard("s1"), SCHEMA)
    theirs = [tmp_path / "clips" / "notes.txt", tmp_path / "errors" / "mine.csv", tmp_path / "shots" / ".hidden"]
    ours = [tmp_path / "clips" / ".s2.parquet.4711.tmp", tmp_path / "shots" / "s2.parquet", tmp_path / "clips/.probe-3"]
    for path in (*theirs, *ours):
        path.write_bytes(b"x")
    manifest.sweep()
    assert [p.exists() for p in theirs] == [True] * 3
    assert [p.exists() for p in ours] == [False] * 3


def many(manifest: Manifest, count: int = 6) -> None:
    for i in range(count):
        manifest.commit(shard(f"s{i}", clips=i, uri=f"{i}.mp4"), SCHEMA)


def test_small_fragments_are_merged_and_the_manifest_stays_the_same(tmp_path):
    manifest = Manifest(tmp_path)
    many(manifest)
    before = {t: manifest.read(t).to_pylist() for t in TABLES}
    name, size = manifest.hash(), (tmp_path / "clips" / "s5.parquet").stat().st_size
    assert manifest.compact(many=7) == 0  # not worth the trouble
    assert manifest.compact(many=6, large=3 * size) == 6
    assert len(manifest.shards()) == 2
    assert {t: sorted(manifest.read(t).to_pylist(), key=str) for t in TABLES} == {
        t: sorted(rows, key=str) for t, rows in before.items()
    }
    assert manifest.hash() == name
    assert manifest.compact(many=2) == 2  # merged once more
    assert manifest.hash() == name
    assert definition_of(manifest.schema("clips").field("motion")) == {"scorer": "motion", "fps": 2.0}
    assert sorted(p.name for p in tmp_path.rglob("*.json")) == []
    manifest.commit(shard("s9"), SCHEMA)
    assert manifest.hash() != name


def test_only_small_fragments_are_merged(tmp_path):
    manifest = Manifest(tmp_path)
    many(manifest)
    sizes = {p.stem: p.stat().st_size for p in (tmp_path / "clips").glob("*")}
    assert manifest.compact(many=2, small=max(sizes.values())) == sum(s < max(sizes.values()) for s in sizes.values())


@pytest.mark.parametrize("moment", range(34))
def test_a_kill_while_fragments_are_merged_loses_and_doubles_nothing(tmp_path, monkeypatch, moment):
    """Killed before any of the writes and deletions: reading sees every row once, and the next run leaves no trace."""
    manifest = Manifest(tmp_path)
    many(manifest)
    before = sorted(manifest.read("clips").to_pylist(), key=str)
    name, calls, dead = manifest.hash(), iter(range(999)), False

    def dying(real):
        def call(*arguments, **options):
            if next(calls) == moment:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        return call

    monkeypatch.setattr(store, "_write", dying(store._write))
    monkeypatch.setattr(store, "write_bytes", dying(store.write_bytes))
    monkeypatch.setattr(Path, "unlink", dying(Path.unlink))
    try:
        manifest.compact(many=6)
    except KeyboardInterrupt:
        dead = True
    monkeypatch.undo()
    assert dead
    for _ in range(2):
        assert sorted(manifest.read("clips").to_pylist(), key=str) == before
        assert manifest.hash() == name
        manifest.sweep()
    files = sorted(p.stem for p in tmp_path.rglob("*") if p.is_file())
    assert files == sorted(4 * manifest.shards())


def test_videos_are_left_out_of_a_shard_and_followed_where_they_went(tmp_path):
    manifest = Manifest(tmp_path)
    many(manifest)
    manifest.compact(many=6)
    (merged,) = manifest.shards()
    manifest.rewrite(merged, {"1.mp4", "3.mp4"}, {"4.mp4": "moved.mp4"})
    for table in ("videos", "shots"):
        assert sorted(manifest.read(table)["uri"].to_pylist()) == ["0.mp4", "2.mp4", "5.mp4", "moved.mp4"]
    assert sorted(set(manifest.read("clips")["uri"].to_pylist())) == ["2.mp4", "5.mp4", "moved.mp4"]
    (left,) = manifest.shards()
    manifest.rewrite(left, {"0.mp4", "2.mp4", "5.mp4", "moved.mp4"}, {})
    assert manifest.shards() == []


def test_all_of_it_holds_on_an_object_store(server):
    manifest = Manifest("s3://bucket/whole/manifest")
    with manifest.locked():
        many(manifest)
        before, name = manifest.read("clips").to_pylist(), manifest.hash()
        manifest.compact(many=6)
        manifest.commit(shard("t"), SCHEMA)
        manifest.remove("t")
        manifest.next.commit(shard("n"), SCHEMA)
    found = Manifest.find("s3://bucket/whole")
    assert sorted(found.read("clips").to_pylist(), key=str) == sorted(before, key=str)
    assert found.hash() == name
    with manifest.locked(), pytest.raises(CurationError, match="another run is writing"), found.locked():
        pass
    with found.locked():
        found.adopt_next()
        found.sweep()
    assert found.read("clips")["clip_id"].to_pylist() == ["n-0", "n-1"]
    with pytest.raises(CurationError, match="holds no manifest"):
        Manifest.find("s3://bucket/empty")
