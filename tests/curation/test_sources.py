"""Finding and naming files."""

import os
import random
import time

import pytest

from curation import sources, store
from curation.errors import CurationError, UnreadableVideo


def test_a_folder_is_searched_through_and_sorted(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/c/z.MP4", "a.webm", "b/notes.md"):
        (tmp_path / name).write_bytes(b"x")
    assert [s.uri for s in sources.find(str(tmp_path))] == [str(tmp_path / "a.webm"), str(tmp_path / "b/c/z.MP4")]


def test_a_list_names_paths_beside_itself(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "list.txt").write_text("# mine\na.mp4\n\na.mp4\n")
    assert [s.uri for s in sources.find(str(tmp_path / "list.txt"))] == [str(tmp_path / "a.mp4")]


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(CurationError, match="absent.*does not exist"):
        sources.find(str(tmp_path / "absent"))
    with pytest.raises(CurationError, match="no video in"):
        sources.find(str(tmp_path))
    (tmp_path / "list.txt").write_text("gone.mp4\n")
    with pytest.raises(CurationError, match=r"gone\.mp4, which does not exist"):
        sources.find(str(tmp_path / "list.txt"))


@pytest.mark.parametrize("name", ["new\nline.mp4", "'quo\"te<b>.mp4", "🎬.mp4", "x" * 240 + ".mp4", "..dots...mp4"])
def test_odd_names_are_names(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    (source,) = sources.find(str(tmp_path))
    assert source.uri == str(tmp_path / name)
    assert source.size == 1


def test_bytes_that_are_no_text_are_a_name_too(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\xfe.mp4"
    with open(path, "wb") as file:  # noqa: PTH123 - pathlib takes no bytes
        file.write(b"x")
    assert len(sources.identify(sources.find(str(tmp_path))[0].uri)) == 24


def test_content_names_a_video(tmp_path):
    for name, content in (("a.mp4", b"one"), ("b.mp4", b"one"), ("c.mp4", b"two")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (sources.identify(str(tmp_path / n)) for n in ("a.mp4", "b.mp4", "c.mp4"))
    assert a == b != c


def test_a_large_file_is_named_by_its_size_and_blocks_from_both_ends(tmp_path):
    def made(size: int, at: int | None) -> str:
        path = tmp_path / "large.mp4"
        with path.open("wb") as file:
            file.truncate(size)
            if at is not None:
                file.seek(at)
                file.write(b"x")
        return sources.identify(str(path))

    size = (40 << 20) + 17
    names = [made(size, None), made(size + 1, None), made(size, 0), made(size, size - 1)]
    assert len(set(names)) == 4
    assert made(size, None) == names[0]


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


def test_a_link_that_leads_back_multiplies_nothing(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [s.uri for s in sources.find(str(tmp_path))] == [str(tmp_path / "a.mp4")]


def test_a_device_is_no_video():
    with pytest.raises(CurationError, match="'/dev/null' is no regular file"):
        sources.find("/dev/null")


@pytest.fixture
def bucket(server, tmp_path):
    """A place of one's own on an object store: its URL, and what writes files below it."""
    where = store.place(f"s3://bucket/{tmp_path.name}")
    return str(where), lambda name, content: store.write_bytes(content, where / name)


def test_an_object_store_is_searched_like_a_folder(bucket):
    where, write = bucket
    for name in ("b/c/z.MP4", "a.webm", "b/notes.md"):
        write(name, b"xyz")
    found = sources.find(where)
    assert [s.uri for s in found] == [f"{where}/a.webm", f"{where}/b/c/z.MP4"]
    assert [s.size for s in found] == [3, 3]
    assert found == [sources.at(s.uri) for s in found]
    assert abs(found[0].modified_ns / 1e9 - time.time()) < 60
    assert sources.find(f"{where}/a.webm") == found[:1]
    write("list.txt", f"# mine\na.webm\n{where}/b/c/z.MP4\n".encode())
    assert sources.find(f"{where}/list.txt") == found
    write("list.txt", b"gone.mp4\n")
    with pytest.raises(CurationError, match=r"gone\.mp4, which does not exist"):
        sources.find(f"{where}/list.txt")


def test_what_is_not_on_a_store_is_named(bucket):
    where, write = bucket
    with pytest.raises(CurationError, match="no video in 's3://"):
        sources.find(f"{where}/empty")
    with pytest.raises(CurationError, match="no video in|cannot be listed"):
        sources.find("s3://nobucket/x")
    with pytest.raises(CurationError, match="cannot be read"):
        sources.find(f"{where}/absent.txt")
    with pytest.raises(CurationError, match="no such store can be reached"):
        sources.find("nowhere://x/y")
    assert sources.at(f"{where}/gone.mp4").size == -1
    write("folder/a.mp4", b"x")
    assert sources.at(f"{where}/folder").size == -1
    with pytest.raises(UnreadableVideo, match=r"gone\.mp4"):
        sources.identify(f"{where}/gone.mp4")


@pytest.mark.parametrize("size", [1, 3 << 20, (40 << 20) + 17])
def test_content_has_one_name_wherever_it_lies(bucket, tmp_path, size):
    where, write = bucket
    content = random.Random(size).randbytes(size)
    (tmp_path / "a.mp4").write_bytes(content)
    write("a.mp4", content)
    assert sources.identify(f"{where}/a.mp4") == sources.identify(str(tmp_path / "a.mp4"))
