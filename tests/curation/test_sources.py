"""The identity of files: every byte counts, and a file that changes has none."""

import hashlib
import os
import random
import subprocess
import sys
import threading

import pytest

from curation import sources
from curation.errors import UnreadableVideo
from curation.progress import silent
from curation.sources import Contents
from tests.curation.conftest import SHARED

LARGE = (40 << 20) + 17


def test_bytes_that_are_no_text_are_a_name_too(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\xfe.mp4"
    with open(path, "wb") as file:  # noqa: PTH123 - pathlib takes no bytes
        file.write(b"x")
    assert len(sources.identify(os.fsdecode(path))) == 24


def test_content_names_a_video(tmp_path):
    for name, content in (("a.mp4", b"one"), ("b.mp4", b"one"), ("c.mp4", b"two")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (sources.identify(str(tmp_path / n)) for n in ("a.mp4", "b.mp4", "c.mp4"))
    assert a == b != c


def test_empty_and_missing_files_are_unreadable(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(UnreadableVideo, match="0 bytes"):
        sources.identify(str(tmp_path / "empty.mp4"))
    with pytest.raises(UnreadableVideo, match="No such file"):
        sources.identify(str(tmp_path / "gone.mp4"))


def test_a_pipe_is_no_video_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(UnreadableVideo, match="not a regular file"):
        sources.identify(str(tmp_path / "pipe.mp4"))


@pytest.mark.parametrize("size", [1, 3 << 20, (40 << 20) + 17])
def test_content_has_one_name_wherever_it_lies(bucket, tmp_path, size):
    where, write = bucket
    content = random.Random(size).randbytes(size)
    (tmp_path / "a.mp4").write_bytes(content)
    write("a.mp4", content)
    assert sources.identify(f"{where}/a.mp4") == sources.identify(str(tmp_path / "a.mp4"))


def sampled(content: bytes) -> str:
    """The id that schema versions 1 and 2 gave to a large file, written down from their definition."""
    digest = hashlib.blake2b(len(content).to_bytes(8, "little"), digest_size=12)
    for i in range(16):
        start = (len(content) - (1 << 20)) * i // 15
        digest.update(content[start : start + (1 << 20)])
    return digest.hexdigest()


def test_ids_of_small_files_are_those_of_every_version(tmp_path):
    content = b"words" * 1000
    (tmp_path / "a.mp4").write_bytes(content)
    expected = hashlib.blake2b(len(content).to_bytes(8, "little") + content, digest_size=12).hexdigest()
    assert sources.identify(str(tmp_path / "a.mp4")) == expected


@pytest.mark.parametrize("size", [1000, 32 << 20, (32 << 20) + 1, LARGE])
def test_every_byte_counts(tmp_path, size):
    path = tmp_path / "a.mp4"
    content = bytearray(random.Random(size).randbytes(size))
    path.write_bytes(content)
    ids = [sources.identify(str(path))]
    for at in (0, size // 3, size // 15 + 200, size // 2, size - 1):
        content[at] ^= 1
        path.write_bytes(content)
        ids.append(sources.identify(str(path)))
        content[at] ^= 1
    assert len(set(ids)) == 6


def test_a_preallocated_download_is_not_the_complete_file(tmp_path):
    script = SHARED.parent / "faults" / "make_preallocated_pair.py"
    if not script.is_file():
        pytest.skip(f"{script} is not there")
    whole, half = tmp_path / "whole.avi", tmp_path / "half.avi"
    whole.write_bytes(random.Random(1).randbytes(LARGE))
    subprocess.run([sys.executable, str(script), str(whole), str(half)], check=True)
    assert sampled(whole.read_bytes()) == sampled(half.read_bytes())  # what makes the pair a hard one
    assert sources.identify(str(whole)) != sources.identify(str(half))


def test_the_content_alone_makes_the_id(tmp_path):
    content = random.Random(2).randbytes(LARGE)
    for name in ("a.mp4", "b.mkv"):
        (tmp_path / name).write_bytes(content)
    assert sources.identify(str(tmp_path / "a.mp4")) == sources.identify(str(tmp_path / "b.mkv"))


@pytest.mark.parametrize("keeps_times", [False, True])
def test_a_file_that_changes_while_it_is_read_has_no_id(tmp_path, keeps_times):
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(LARGE))
    before = path.stat()
    touched = threading.Event()

    def told(size: int) -> None:
        if not touched.is_set():
            touched.set()
            with path.open("r+b") as file:
                file.seek(LARGE - 1)
                file.write(b"x")
            if keeps_times:
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(UnreadableVideo, match="changed while it was read; run again when it is complete"):
        sources.read(str(path), told)
    assert len(sources.identify(str(path))) == 32


def test_a_file_that_grows_or_shrinks_while_it_is_read_has_no_id(tmp_path):
    for name, size in (("grows.mp4", LARGE + 1), ("shrinks.mp4", LARGE // 2)):
        path = tmp_path / name
        path.write_bytes(bytes(LARGE))
        with pytest.raises(UnreadableVideo, match="changed while it was read"):
            sources.read(str(path), lambda _, path=path, size=size: os.truncate(path, size))


def test_a_change_with_the_old_times_is_another_state(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"one")
    before = sources.at(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(0, before.modified_ns))
    now = sources.at(path)
    assert (now.size, now.modified_ns) == (before.size, before.modified_ns)
    assert not now.agrees(before)


def test_a_revision_that_is_not_known_is_not_compared(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"one")
    now = sources.at(path)
    assert now.agrees(sources.Source(now.uri, now.size, now.modified_ns))
    assert not now.agrees(sources.Source(now.uri, now.size + 1, now.modified_ns))


def test_other_attributes_change_no_content(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"one")
    state, video_id = sources.read(str(path))
    path.chmod(0o600)
    os.utime(path, (1, 1))
    assert not sources.changed(state, video_id)
    path.write_bytes(b"two")
    assert sources.changed(state, video_id)
    path.unlink()
    assert sources.changed(state, video_id)


def test_many_files_are_read_with_progress_in_megabytes(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.mp4").write_bytes(bytes([i]) * 3_000_000)
    (tmp_path / "empty.mp4").write_bytes(b"")
    uris = [str(tmp_path / name) for name in ("0.mp4", "1.mp4", "2.mp4", "3.mp4", "4.mp4", "empty.mp4", "gone.mp4")]
    told: list[tuple[str, int, int | None]] = []
    read = sources.read_all(uris, lambda *words: told.append(words))
    for uri in uris[:5]:
        assert read[uri] == (sources.at(uri), sources.identify(uri))
    assert "0 bytes" in str(read[uris[5]])
    assert "No such file" in str(read[uris[6]])
    assert told[-1][0].startswith("hashing 7 files, in MB · ")
    assert told[-1][0].endswith(" MB/s")
    assert told[-1][1:] == (15, 15)
    assert sources.read_all([], silent) == {}


def test_contents_of_known_states_are_not_read(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"one")
    state, video_id = sources.read(str(path))
    row = {"uri": state.uri, "video_id": video_id, "size_bytes": state.size, "modified_ns": state.modified_ns}
    known = Contents.of_rows([row | {"revision": state.revision}])
    unknown = Contents.of_rows([row | {"revision": None}])
    read = []
    monkeypatch.setattr(sources, "identify", lambda uri: read.append(uri) or sources.read(uri)[1])
    assert known.hold(str(path), video_id)
    assert not known.hold(str(path), "other")
    assert read == []
    assert unknown.hold(str(path), video_id)
    assert unknown.hold(str(path), video_id)
    assert read == [str(path)]
    path.write_bytes(b"two")
    assert not known.hold(str(path), video_id)


def test_contents_of_several_threads_are_read_once(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"one")
    video_id, read, contents = sources.identify(str(path)), [], Contents()
    monkeypatch.setattr(sources, "identify", lambda uri: read.append(uri) or video_id)
    threads = [threading.Thread(target=contents.hold, args=(str(path), video_id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read) == 1


def test_ids_of_former_versions_are_compared_by_their_samples(tmp_path):
    path, content = tmp_path / "a.mp4", random.Random(3).randbytes(LARGE)
    path.write_bytes(content)
    assert sources.is_sampled(sampled(content), LARGE)
    assert not sources.is_sampled(sources.identify(str(path)), LARGE)
    assert not sources.is_sampled("0" * 24, 32 << 20)
    assert Contents().hold(str(path), sampled(content))
    assert Contents().hold(str(path), sources.identify(str(path)))
    path.write_bytes(b"x" + content[1:])
    assert not Contents().hold(str(path), sampled(content))


def test_a_state_of_an_object_changes_with_its_content(bucket):
    where, write = bucket
    write("a.mp4", b"one")
    before, video_id = sources.read(f"{where}/a.mp4")
    assert before.revision
    write("a.mp4", b"two")
    now = sources.at(f"{where}/a.mp4")
    assert now.size == before.size
    assert now.revision != before.revision
    assert sources.changed(before, video_id)


def test_a_file_url_is_a_path(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"one")
    assert sources.at(f"file://{tmp_path}/a.mp4") == sources.at(tmp_path / "a.mp4")
    assert sources.identify(f"file://{tmp_path}/a.mp4") == sources.identify(str(tmp_path / "a.mp4"))


@pytest.mark.parametrize(
    "parts", [[(0, 5)], [(0, 5), (50 << 20, 7)], [(63 << 20, 1 << 20)], [(3, 9 << 20), (40 << 20, 3)]]
)
def test_holes_are_zeros(tmp_path, parts):
    """A sparse file and its copy with zeros in place of holes have one id, which each byte of data changes."""
    ids = []
    for name, flipped in (("sparse", False), ("zeros", False), ("other", True)):
        path = tmp_path / name
        if name == "zeros":
            path.write_bytes(bytes(64 << 20))
        with path.open("r+b" if path.exists() else "wb") as file:
            file.truncate(64 << 20)
            for offset, length in parts:
                file.seek(offset)
                file.write(bytes([7 if flipped else 9]) * length)
        ids.append(sources.identify(str(path)))
    assert ids[0] == ids[1] != ids[2]


def test_where_data_lies_in_a_sparse_file_counts(tmp_path):
    ids = set()
    for offset in (0, 1, 4 << 20, 36 << 20, (64 << 20) - 1):
        path = tmp_path / f"{offset}"
        with path.open("wb") as file:
            file.truncate(64 << 20)
            file.seek(offset)
            file.write(b"x")
        ids.add(sources.identify(str(path)))
    assert len(ids) == 5


def test_a_terabyte_of_nothing_is_no_work(tmp_path):
    path = tmp_path / "empty.mp4"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert len(sources.identify(str(path))) == 32
