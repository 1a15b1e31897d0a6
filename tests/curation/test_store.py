"""A place on disk and one on an object store behave alike. The store is moto's S3 server, on this machine."""

import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import store
from curation.errors import CurationError
from curation.schema import TABLES

TABLE = pa.table({"a": pa.array([1, 2, 3]), "b": ["x", "y", None]})


@pytest.fixture(params=["disk", "s3"])
def folder(request, tmp_path):
    if request.param == "disk":
        return store.place(str(tmp_path / "place"))
    request.getfixturevalue("server")
    return store.place(f"s3://bucket/{tmp_path.name}/place")


def test_what_is_written_is_listed_and_read_back(folder):
    assert store.listed(folder) == []
    for name in ("b", "a"):
        store.write_table(TABLE, folder / f"{name}.parquet", 2)
    store.write_bytes(b"{}", folder / "note.json")
    paths = [path for path, _ in store.listed(folder)]
    assert [p.name for p in paths] == ["a.parquet", "b.parquet"]
    assert [(p.name, size) for p, size in store.listed(folder, ".json")] == [("note.json", 2)]
    assert store.read_table(paths[0]).equals(TABLE)
    assert store.read_table(paths[0], ["b"]).column_names == ["b"]
    assert store.read_schema(paths[0]).names == ["a", "b"]
    assert store.dataset(paths, TABLE.schema).to_table().equals(pa.concat_tables([TABLE, TABLE]))
    assert store.dataset([], TABLE.schema).to_table().equals(TABLE.slice(0, 0))


def test_a_move_replaces_and_may_be_done_twice(folder):
    store.write_bytes(b"new", folder / "a.json")
    store.write_bytes(b"old", folder / "sub" / "a.json")
    for _ in range(2):
        store.move(folder / "a.json", folder / "sub" / "a.json")
        assert (folder / "sub" / "a.json").read_bytes() == b"new"
    assert store.listed(folder, ".json") == []


def test_only_one_holds_a_place(folder, monkeypatch):
    monkeypatch.setattr(store, "_BEAT_S", 0.1)
    with store.locked(folder) as check, pytest.raises(CurationError, match="another run is writing"):
        check()
        with store.locked(store.place(str(folder))):
            pass
    with store.locked(folder):
        pass


def test_of_many_who_take_over_from_the_dead_one_does(server, tmp_path, monkeypatch):
    """The holder was killed: its lock stays. Several runs wait, and each takes what it saw for dead."""
    monkeypatch.setattr(store, "_BEAT_S", 0.05)
    monkeypatch.setattr(store, "_DEAD_S", 0.3)
    folder = store.place(f"s3://bucket/{tmp_path.name}/lock")
    (folder / ".lock").write_bytes(b"nobody 7")
    held, refused, enough = [], [], threading.Barrier(4, timeout=60)

    def run(number: int) -> None:
        enough.wait()
        try:
            with store.locked(folder):
                held.append(number)
                threading.Event().wait(1.0)
        except CurationError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1
    assert len(refused) == 3
    assert not (folder / ".lock").exists()


def test_a_holder_that_stood_still_is_told_that_it_lost_its_place(server, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_BEAT_S", 0.05)
    folder = store.place(f"s3://bucket/{tmp_path.name}/lost")
    with store.locked(folder) as check:
        (folder / ".lock").write_bytes(b"another 1")
        with pytest.raises(CurationError, match="another one took over"):
            for _ in range(200):
                check()
                threading.Event().wait(0.05)
    assert (folder / ".lock").read_bytes() == b"another 1"  # which is not its own to delete


def test_an_unknown_store_and_a_bucket_that_is_not_there_are_told(server, tmp_path):
    with pytest.raises(CurationError, match="no such store can be reached"):
        store.place("nowhere://bucket/x")
    with pytest.raises(CurationError, match=r"s3://nobucket.* cannot be written"):
        store.write_bytes(b"x", store.place("s3://nobucket/x/a.json"))


def test_a_place_is_told_so_that_it_is_found_from_elsewhere(server, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert store.named(store.place("a/b")) == f"{tmp_path}/a/b"
    assert store.named(store.place("s3://bucket/x")) == "s3://bucket/x"


@pytest.fixture
def films(tmp_path):
    """The folders of a manifest, and beside them those of a user who calls his own `clips`."""
    for table in TABLES:
        (tmp_path / "films" / "manifest" / table).mkdir(parents=True)
    (tmp_path / "mine" / "clips").mkdir(parents=True)
    (tmp_path / "mine" / "note.txt").write_text("mine")
    return tmp_path


@pytest.mark.parametrize(
    "inside", [*(f"{t}/x" for t in TABLES), "clips", "clips/a/b/x.html", "replaced/x", ".next/clips/x", "../link/x"]
)
def test_nothing_else_is_written_into_a_manifest_s_folders(films, inside):
    (films / "films" / "link").symlink_to(films / "films" / "manifest" / "clips")
    with pytest.raises(CurationError, match="lies within the manifest") as raised:
        store.on_disk(str(films / "films" / "manifest" / inside))
    assert str(films / "films" / "manifest'") in str(raised.value)


@pytest.mark.parametrize(
    "out", ["films/selection", "films/manifest/selection", "mine/clips", "mine/clips/x", "new/a/b"]
)
def test_any_other_folder_may_be_written_to(films, out):
    assert store.on_disk(str(films / out)) == films / out


@pytest.mark.parametrize("out", ["s3://bucket/x", "gs://bucket/x.html", "file:///x"])
def test_an_object_store_is_no_place_on_disk(out):
    with pytest.raises(CurationError, match="written to disk") as raised:
        store.on_disk(out)
    assert out in str(raised.value)


@pytest.mark.parametrize("below", ["x", "x/y/z.html"])
def test_below_a_file_nothing_is_written_and_the_file_is_named(films, below):
    path = films / "mine" / "note.txt" / below
    with pytest.raises(CurationError, match="note.txt' is a file, not a folder"):
        store.on_disk(path)
    with pytest.raises(CurationError, match="note.txt' is a file, not a folder"), store.writing(path) as part:
        part.write_text("x")
    assert (films / "mine" / "note.txt").read_text() == "mine"


def test_ids_and_measures_have_no_dictionary_and_what_occurs_often_has(tmp_path):
    schema = pa.schema(
        [
            ("clip_id", pa.string()),
            ("video_id", pa.string()),
            ("perceptual_group", pa.string()),
            ("score", pa.float32()),
            ("phash", pa.list_(pa.uint64())),
            ("words", pa.list_(pa.string())),
            ("preview", pa.binary()),
        ]
    )
    rows = [
        {
            "clip_id": f"{i:x}",
            "video_id": "v",
            "perceptual_group": f"{i:x}",
            "score": i / 7,
            "phash": [i],
            "words": ["a"],
            "preview": b"p",
        }
        for i in range(9)
    ]
    table = pa.Table.from_pylist(rows, schema)
    store.write_table(table, tmp_path / "t.parquet")
    group = pq.read_metadata(tmp_path / "t.parquet").row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    assert {c.path_in_schema for c in columns if c.has_dictionary_page} == {"video_id", "words.list.element"}
    assert {c.path_in_schema for c in columns if "DELTA_LENGTH_BYTE_ARRAY" in c.encodings} == {
        "clip_id",
        "perceptual_group",
    }
    assert store.read_table(tmp_path / "t.parquet") == table


@pytest.mark.parametrize("place", ["disk", "s3"])
def test_a_bit_that_fell_over_is_an_error_and_no_score(tmp_path, request, place):
    folder = tmp_path
    if place == "s3":
        request.getfixturevalue("server")
        folder = store.place(f"s3://bucket/{tmp_path.name}/bits")
    rng = np.random.default_rng(0)
    table = pa.table({"clip_id": [f"{i:x}" for i in range(999)], "score": rng.random(999).astype(np.float32)})
    path = folder / "t.parquet"
    store.write_table(table, path)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 4  # in the middle of a page
    store.write_bytes(bytes(raw), path)
    for read in (store.read_table, lambda path: store.dataset([path], table.schema).to_table()):
        with pytest.raises(OSError, match="CRC"):
            read(path)
