"""Finding videos in folders, in lists and on object stores, and counting what is passed over."""

import codecs
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem

from curation import discovery, sources
from curation.discovery import Skipped
from curation.errors import CurationError, UnreadableVideo


def test_a_folder_is_searched_through_and_sorted(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/c/z.MP4", "a.webm", "b/notes.md"):
        (tmp_path / name).write_bytes(b"x")
    assert [s.uri for s in discovery.find(str(tmp_path))] == [str(tmp_path / "a.webm"), str(tmp_path / "b/c/z.MP4")]


def test_a_list_names_paths_beside_itself(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "list.txt").write_text("# mine\na.mp4\n\na.mp4\n")
    assert [s.uri for s in discovery.find(str(tmp_path / "list.txt"))] == [str(tmp_path / "a.mp4")]


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(CurationError, match="absent.*does not exist"):
        discovery.find(str(tmp_path / "absent"))
    with pytest.raises(CurationError, match="no video in"):
        discovery.find(str(tmp_path))
    (tmp_path / "list.txt").write_text("gone.mp4\n")
    with pytest.raises(CurationError, match=r"gone\.mp4, which does not exist"):
        discovery.find(str(tmp_path / "list.txt"))


@pytest.mark.parametrize("name", ["new\nline.mp4", "'quo\"te<b>.mp4", "🎬.mp4", "x" * 240 + ".mp4", "..dots...mp4"])
def test_odd_names_are_names(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    (source,) = discovery.find(str(tmp_path))
    assert source.uri == str(tmp_path / name)
    assert source.size == 1


def test_a_link_that_leads_back_multiplies_nothing(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [s.uri for s in discovery.find(str(tmp_path))] == [str(tmp_path / "a.mp4")]


def test_a_device_is_no_video():
    with pytest.raises(CurationError, match="'/dev/null' is not a regular file"):
        discovery.find("/dev/null")


def test_an_object_store_is_searched_like_a_folder(bucket):
    where, write = bucket
    for name in ("b/c/z.MP4", "a.webm", "b/notes.md"):
        write(name, b"xyz")
    found = discovery.find(where)
    assert [s.uri for s in found] == [f"{where}/a.webm", f"{where}/b/c/z.MP4"]
    assert [s.size for s in found] == [3, 3]
    assert found == [sources.at(s.uri) for s in found]
    assert abs(found[0].modified_ns / 1e9 - time.time()) < 60
    assert discovery.find(f"{where}/a.webm") == found[:1]
    write("list.txt", f"# mine\na.webm\n{where}/b/c/z.MP4\n".encode())
    assert discovery.find(f"{where}/list.txt") == found
    write("list.txt", b"gone.mp4\n")
    with pytest.raises(CurationError, match=r"gone\.mp4, which does not exist"):
        discovery.find(f"{where}/list.txt")


def test_what_is_not_on_a_store_is_named(bucket):
    where, write = bucket
    with pytest.raises(CurationError, match="no video in 's3://"):
        discovery.find(f"{where}/empty")
    with pytest.raises(CurationError, match="no video in|cannot be listed"):
        discovery.find("s3://nobucket/x")
    with pytest.raises(CurationError, match="cannot be read"):
        discovery.find(f"{where}/absent.txt")
    with pytest.raises(CurationError, match="no such store can be reached"):
        discovery.find("nowhere://x/y")
    assert sources.at(f"{where}/gone.mp4").size == -1
    write("folder/a.mp4", b"x")
    assert sources.at(f"{where}/folder").size == -1
    with pytest.raises(UnreadableVideo, match=r"gone\.mp4"):
        sources.identify(f"{where}/gone.mp4")


def searched(where: object) -> tuple[list[str], Skipped]:
    """The names of the videos that a search finds, and what it passes over."""
    skipped = Skipped()
    return [Path(source.uri).name for source in discovery.find(str(where), skipped)], skipped


def test_what_is_passed_over_is_counted_with_its_reason(tmp_path):
    for name in (
        "film.mp4", "short.dv", "._film.mp4", ".DS_Store", "Thumbs.db", "__MACOSX/x.mov", "a.mp4.part",
        "b.mkv.crdownload", "c.avi.!qB", "d.mp4", "d.mp4.aria2", "e.download/e.mp4", "photo.JPG", "other.jpg",
        "film.srt", "README",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    names, skipped = searched(tmp_path)
    assert names == ["film.mp4", "short.dv"]
    assert skipped.counts == {
        "metadata of the operating system": 4,
        "partial download or temporary file": 6,
        "suffix that is not a video's": 4,
    }
    (suffixes,) = [m for m in skipped.messages() if "suffix" in m]
    assert "(.jpg 2, " in suffixes
    assert ".srt 1" in suffixes
    assert "none 1" in suffixes
    (metadata,) = [m for m in skipped.messages() if "metadata" in m]
    assert metadata.startswith("skipped 4: metadata of the operating system; for example ")
    assert metadata.count(str(tmp_path)) == 3


def test_a_folder_without_a_video_says_which_suffixes_it_has(tmp_path):
    for i in range(20):
        (tmp_path / f"a.x{i:02}").write_bytes(b"x")
    with pytest.raises(CurationError, match=r"no video in .*skipped 20: suffix.*\(\.x\d\d 1, .*, and 8 more\)"):
        discovery.find(str(tmp_path))


def test_links_that_lead_nowhere_and_pipes_are_passed_over(tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"x")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "absent.mp4")
    (tmp_path / "round.mp4").symlink_to(tmp_path / "round.mp4")
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "link.mp4").symlink_to(tmp_path / "film.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    names, skipped = searched(tmp_path)
    assert names == ["film.mp4", "link.mp4"]
    assert skipped.counts == {"broken link": 2, "not a regular file": 1, "folder that was already searched": 1}
    assert "No such file" in "".join(skipped.messages())
    assert "symbolic links 1" in "".join(skipped.messages())


SEARCH = """
import os, sys
from curation import discovery
os.setgroups([]); os.setgid(65534); os.setuid(65534)
skipped = discovery.Skipped()
try:
    print([s.uri for s in discovery.find(sys.argv[1], skipped)], skipped.messages())
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can search as another user")
def test_a_folder_without_permission_is_named():
    """A process of a user without rights searches: root may read everything."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        look_as_another_user(Path(folder))


def look_as_another_user(open_folder: Path) -> None:
    closed = open_folder / "closed"
    closed.mkdir()
    for place in (open_folder, closed):
        (place / "a.mp4").write_bytes(b"x")
    open_folder.chmod(0o755)
    closed.chmod(0o700)

    def search(where: Path) -> str:
        command = [sys.executable, "-c", SEARCH, str(where)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    told = search(open_folder)
    assert str(open_folder / "a.mp4") in told
    assert f"skipped 1: folder that cannot be read (Permission denied 1); for example '{closed}'" in told
    assert search(closed).startswith("CurationError videos: no video in ")
    assert "Permission denied" in search(closed)


def test_a_path_that_is_given_is_tried_whatever_its_name(tmp_path):
    for name in ("._a.mp4", "b.xyz", "c.mp4.part", "none"):
        (tmp_path / name).write_bytes(b"x")
        assert searched(tmp_path / name)[0] == [name]
    (tmp_path / "list.txt").write_text("._a.mp4\nb.xyz\nc.mp4.part\nnone\n")
    assert searched(tmp_path / "list.txt")[0] == ["._a.mp4", "b.xyz", "c.mp4.part", "none"]


LINES = "# films\r\na.mp4\r\n\"b c.mp4\"\r\n\r\nsub\\d é.mp4\r\n'sub/e.mp4'\r\na.mp4\r\n"


@pytest.mark.parametrize(
    "content",
    [
        LINES.encode(),
        LINES.replace("\r\n", "\n").encode(),
        LINES.replace("\r\n", "\r").encode(),
        LINES.encode("utf-8-sig"),
        codecs.BOM_UTF16_LE + LINES.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + LINES.encode("utf-16-be"),
        LINES.encode("utf-16-le"),
        LINES.encode("utf-16-be"),
        LINES.encode("utf-32"),
    ],
    ids=["utf-8", "lf", "cr", "utf-8 bom", "utf-16-le bom", "utf-16-be bom", "utf-16-le", "utf-16-be", "utf-32"],
)
def test_a_list_is_read_as_windows_writes_it(tmp_path, content):
    (tmp_path / "sub").mkdir()
    for name in ("a.mp4", "b c.mp4", "sub/d é.mp4", "sub/e.mp4"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "list.txt").write_bytes(content)
    assert searched(tmp_path / "list.txt")[0] == ["a.mp4", "b c.mp4", "d é.mp4", "e.mp4"]


def test_a_name_that_looks_quoted_or_indented_is_a_name(tmp_path):
    for name in ('"q".mp4', " spaced.mp4", "back\\slash.mp4", "line\u2028.mp4"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "list.txt").write_text('"q".mp4\n spaced.mp4\nback\\slash.mp4\nline\u2028.mp4\n', encoding="utf-8")
    assert searched(tmp_path / "list.txt")[0] == ['"q".mp4', " spaced.mp4", "back\\slash.mp4", "line\u2028.mp4"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"C:\\footage\\a.mp4\r\n", "a Windows path"),
        (b"\\\\server\\share\\a.mp4", "a Windows path"),
        ("é.mp4".encode("cp1252"), "not UTF-8: save it as UTF-8"),
        (b"\x00\x01\x02\x03" * 9 + b"\xd8\x00", "is not a text file"),
        (b"\xff\xfea", "is not a text file"),
        (b"\xef\xbb\xbf# nothing\r\n", "names no video"),
        (b"", "names no video"),
    ],
)
def test_a_list_that_cannot_be_used_says_why(tmp_path, content, told):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(CurationError, match=told):
        discovery.find(str(tmp_path / "list.txt"))


def test_a_store_is_searched_with_the_same_reasons(bucket):
    where, write = bucket
    for name in ("a.mp4", "b/._a.mp4", "b/c.mp4.part", "b/d.jpg", "e.xyz"):
        write(name, b"x")
    names, skipped = searched(where)
    assert names == ["a.mp4"]
    assert list(skipped.counts.values()) == [1, 1, 2]
    assert searched(f"{where}/e.xyz")[0] == ["e.xyz"]
    write("list.txt", "a.mp4\r\ne.xyz\r\n".encode("utf-16"))
    assert searched(f"{where}/list.txt")[0] == ["a.mp4", "e.xyz"]


def test_other_stores_are_searched_too(tmp_path):
    memory = fsspec.filesystem("memory")
    for name in ("a.mp4", "sub/b.mov", "c.jpg"):
        memory.pipe_file(f"/{tmp_path.name}/{name}", b"x")
    names, skipped = searched(f"memory://{tmp_path.name}")
    assert names == ["a.mp4", "b.mov"]
    assert skipped.counts == {"suffix that is not a video's": 1}
    assert searched(f"memory://{tmp_path.name}/c.jpg")[0] == ["c.jpg"]


def test_a_folder_of_a_store_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    memory = fsspec.filesystem("memory")
    for name in ("a.mp4", "closed/b.mov"):
        memory.pipe_file(f"/{tmp_path.name}/{name}", b"x")
    ls = MemoryFileSystem.ls

    def refuse(self: MemoryFileSystem, path: str, detail: bool = True, **options: object) -> list:
        if path.rstrip("/").endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return ls(self, path, detail=detail, **options)

    monkeypatch.setattr(MemoryFileSystem, "ls", refuse)
    monkeypatch.setattr(MemoryFileSystem, "find", AbstractFileSystem.find)  # folder by folder
    names, skipped = searched(f"memory://{tmp_path.name}")
    assert names == ["a.mp4"]
    assert "folder that cannot be read (Permission denied 1)" in skipped.messages()[0]
