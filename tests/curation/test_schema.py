"""Versions of the schema: fragments as version 1 wrote them, written here by hand, under today's eyes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from curation import schema as module
from curation.errors import CurationError
from curation.manifest import Manifest, Shard
from curation.schema import (
    CLIP_IDENTITY,
    ERRORS,
    SCHEMA_VERSION,
    SHOTS,
    TABLES,
    VERSION_KEY,
    VIDEOS,
    current,
    definition_of,
    score_field,
    version_of,
)  # fmt: skip

TEXT, WHOLE, LONG, REAL, YES = pa.string(), pa.int32(), pa.int64(), pa.float64(), pa.bool_()
# Version 1, column by column: never to be changed, as files of it exist.
VERSION_1 = {
    "videos": {
        "uri": TEXT, "video_id": TEXT, "size_bytes": LONG, "modified_ns": LONG, "status": TEXT, "message": TEXT,
        "container": TEXT, "codec": TEXT, "pix_fmt": TEXT, "width": WHOLE, "height": WHOLE, "coded_width": WHOLE,
        "coded_height": WHOLE, "rotation": WHOLE, "fps": REAL, "variable_rate": YES, "duration": REAL, "frames": LONG,
        "shots": WHOLE, "clips": WHOLE,
    },
    "shots": {
        "video_id": TEXT, "uri": TEXT, "shot": WHOLE, "start": REAL, "end": REAL, "begins_with": TEXT,
        "ends_with": TEXT, "clips": WHOLE, "reason": TEXT,
    },
    "errors": {
        "uri": TEXT, "video_id": TEXT, "clip_id": TEXT, "step": TEXT, "error": TEXT, "message": TEXT, "attempts": WHOLE,
    },
    "clips": {
        "clip_id": TEXT, "video_id": TEXT, "uri": TEXT, "shot": WHOLE, "start": REAL, "end": REAL, "start_frame": LONG,
        "frames": WHOLE, "fps": REAL, "width": WHOLE, "height": WHOLE, "starts_on_keyframe": YES,
        "preview": pa.binary(), "motion": pa.float32(), "embedding": pa.list_(pa.float16()),
    },
}  # fmt: skip
TODAY = {"videos": VIDEOS, "shots": SHOTS, "errors": ERRORS}
ADDED = {
    "videos": {
        "first_pts", "time_base_num", "time_base_den", "revision", "mirrored", "interlaced", "color_primaries",
        "color_transfer", "color_matrix", "color_range",
    },
    "clips": {"start_pts", "end_pts", "begins_with", "ends_with"},
}  # fmt: skip


def value(kind: pa.DataType, i: int):
    if pa.types.is_list(kind):
        return [0.5, float(i)]
    if pa.types.is_boolean(kind):
        return i % 2 == 0
    return f"text {i}" if pa.types.is_string(kind) else f"bytes {i}".encode() if pa.types.is_binary(kind) else i


def old(table: str, rows: int = 3) -> pa.Table:
    """A table as version 1 wrote it: only the clips said a version."""
    fields = [pa.field(name, kind) for name, kind in VERSION_1[table].items()]
    said = {VERSION_KEY: "1", "rushes.config": "{}"} if table == "clips" else None
    return pa.table({f.name: [value(f.type, i) for i in range(rows)] for f in fields}, schema=pa.schema(fields, said))


def read(table: str, *paths: Path) -> pa.Table:
    return ds.dataset([str(p) for p in paths], schema=current(table, pq.read_schema(paths[0]))).to_table()


@pytest.mark.parametrize("table", TABLES)
def test_a_version_1_fragment_reads_as_today_with_nulls_for_what_it_lacks(tmp_path, table):
    before, path = old(table), tmp_path / "f.parquet"
    pq.write_table(before, path)
    after = read(table, path)
    for name in before.column_names:
        assert after[name].to_pylist() == before[name].to_pylist()
    assert set(after.column_names) - set(before.column_names) == ADDED.get(table, set())
    assert all(after[name].null_count == len(after) for name in ADDED.get(table, ()))
    assert version_of(after.schema) == SCHEMA_VERSION


def test_a_version_1_manifest_is_read_and_goes_on(tmp_path):
    for table in TABLES:
        (tmp_path / table).mkdir()
        pq.write_table(old(table), tmp_path / table / "a.parquet")
    manifest = Manifest(tmp_path)
    assert manifest.read("clips", ["clip_id", "end_pts"]).to_pylist()[2] == {"clip_id": "text 2", "end_pts": None}
    rows = {"videos": [{"uri": "new", "first_pts": 9}], "clips": [{"clip_id": "new", "end_pts": 7, "ends_with": "cut"}]}
    manifest.commit(Shard("b", rows["videos"], [], [], rows["clips"]), manifest.schema("clips"))
    assert manifest.read("videos")["first_pts"].to_pylist() == [None, None, None, 9]
    assert manifest.read("clips")["ends_with"].to_pylist() == [None, None, None, "cut"]
    assert manifest.read("shots")["begins_with"].to_pylist() == ["text 0", "text 1", "text 2"]


@pytest.mark.parametrize("table", TABLES)
def test_a_manifest_from_the_future_is_refused(tmp_path, table):
    for name in TABLES:
        (tmp_path / name).mkdir()
        pq.write_table(
            old(name).replace_schema_metadata({VERSION_KEY: str(SCHEMA_VERSION + 1)}), tmp_path / name / "a.parquet"
        )
    with pytest.raises(CurationError, match="install a newer one"):
        Manifest(tmp_path).read(table)


@pytest.mark.parametrize("table", ["videos", "shots", "errors"])
def test_the_upgraded_schema_is_todays(table):
    said = current(table, old(table).schema)
    assert said.names == TODAY[table].names
    assert said.types == TODAY[table].types
    assert said.metadata == TODAY[table].metadata


def test_upgraded_clips_are_todays_identity_and_then_the_scores_with_their_definitions():
    motion = score_field("motion", pa.float32(), "flow", "px", {"scorer": "motion"})
    physical = pa.schema([*list(old("clips").schema)[:-2], motion], {VERSION_KEY: "1", "rushes.config": "{}"})
    said = current("clips", physical)
    assert said.names == [*(f.name for f in CLIP_IDENTITY), "motion"]
    assert said.types[:-1] == [f.type for f in CLIP_IDENTITY]
    assert definition_of(said.field("motion")) == {"scorer": "motion"}
    assert said.metadata == {VERSION_KEY.encode(): str(SCHEMA_VERSION).encode(), b"rushes.config": b"{}"}


def test_fragments_of_both_versions_are_one_table_in_either_order(tmp_path):
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    pq.write_table(old("clips", 2), first)
    scores = list(old("clips").schema)[-2:]
    today = pa.schema([*CLIP_IDENTITY, *scores], {VERSION_KEY: "2"})
    pq.write_table(pa.Table.from_pylist([{"clip_id": "new", "start_pts": 2**40, "begins_with": "fade"}], today), second)
    for paths in ((first, second), (second, first)):
        rows = {r["clip_id"]: r for r in read("clips", *paths).to_pylist()}
        assert (rows["new"]["start_pts"], rows["new"]["begins_with"]) == (2**40, "fade")
        assert (rows["text 1"]["start_pts"], rows["text 1"]["embedding"]) == (None, [0.5, 1.0])


@pytest.mark.parametrize("table", TABLES)
def test_todays_schema_stays_as_it_is(table):
    today = TODAY.get(table, pa.schema(CLIP_IDENTITY, {VERSION_KEY: str(SCHEMA_VERSION)}))
    assert current(table, today).equals(today, check_metadata=True)


@pytest.mark.parametrize("table", TABLES)
def test_a_version_from_the_future_is_refused_with_its_remedy(table):
    later = old(table).schema.with_metadata({VERSION_KEY: str(SCHEMA_VERSION + 1)})
    with pytest.raises(
        CurationError, match=rf"its {table} .* version {SCHEMA_VERSION + 1}, .* knows {SCHEMA_VERSION}; install"
    ):
        current(table, later)


@pytest.mark.parametrize("said", ["two", "", "-1", "0", "1.5"])
def test_a_version_that_is_none_is_refused(said):
    with pytest.raises(CurationError, match="is no schema version"):
        version_of(pa.schema([], {VERSION_KEY: said}))


def test_no_version_renames_retypes_or_drops_a_column():
    """The rule that makes every older file readable as it lies."""
    for table, columns in VERSION_1.items():
        identity = list(TODAY.get(table, CLIP_IDENTITY))
        today = {f.name: f.type for f in identity}
        scores = {"motion", "embedding"}
        assert {n: t for n, t in columns.items() if n not in scores}.items() <= today.items()
        assert today.keys() - columns.keys() == ADDED.get(table, set())


def test_every_version_has_its_step():
    assert sorted(module.UPGRADES) == list(range(1, SCHEMA_VERSION))


@pytest.mark.parametrize("fields", [VIDEOS, SHOTS, ERRORS, CLIP_IDENTITY], ids=["videos", "shots", "errors", "clips"])
def test_every_column_says_what_it_means(fields):
    assert all((f.metadata or {}).get(b"description") for f in fields)
