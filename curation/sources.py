"""Which videos there are, and what names them: their content."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from curation import store
from curation.errors import CurationError, UnreadableVideo

SUFFIXES = frozenset(
    ".3gp .asf .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogm .ogv .ts .vob .webm .wmv".split()
)
_WHOLE_UP_TO = 32 << 20
_BLOCK = 1 << 20
_BLOCKS = 16
_LAST_NS = 2**63 - 1  # in the year 2262: file systems know later ones, the manifest does not


@dataclass(frozen=True, slots=True)
class Source:
    """A file, or an object of a store: where it is, how large, and when it last changed (nanoseconds)."""

    uri: str
    size: int
    modified_ns: int


def find(videos: str) -> list[Source]:
    """The videos that a folder holds (searched recursively), a list file (.txt) names, or the file itself; on disk or,
    by URL, on an object store.

    Sorted by path. Raises CurationError when nothing is there, naming what was looked for.
    """
    if "://" in videos:
        return _find_on_store(videos)
    root = Path(videos).expanduser()
    if not root.exists():
        raise CurationError(f"videos: {videos!r} does not exist; give a folder, a video file or a .txt list of paths")
    if root.is_dir():
        paths = sorted(p for p in _walk(root) if p.suffix.lower() in SUFFIXES)
        if not paths:
            raise CurationError(_none_in(videos))
    elif root.suffix.lower() == ".txt":
        return _listed(videos, root.read_text(encoding="utf-8", errors="surrogateescape"), root.parent)
    elif not root.is_file():
        raise CurationError(f"videos: {videos!r} is no regular file; give a folder, a video or a .txt list of paths")
    else:
        paths = [root]
    return [at(p) for p in paths]


def _find_on_store(videos: str) -> list[Source]:
    """The videos below a URL, of a list that lies there, or the object itself."""
    root = store.place(videos)
    if PurePosixPath(videos).suffix.lower() == ".txt":
        try:
            text = root.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise CurationError(f"videos: {videos!r} cannot be read: {error}") from error
        return _listed(videos, text, root.parent)
    try:
        found = [Source(*what) for what in store.below(root)]
    except OSError as error:
        raise CurationError(f"videos: {videos!r} cannot be listed: {error}") from error
    if [source.uri for source in found] == [videos]:
        return found
    found = [source for source in found if PurePosixPath(source.uri).suffix.lower() in SUFFIXES]
    if not found:
        raise CurationError(_none_in(videos))
    return found


def _listed(videos: str, text: str, folder: Path) -> list[Source]:
    """The videos that the lines of a list name, relative to its folder, or by URL."""
    lines = [line for line in dict.fromkeys(map(str.strip, text.splitlines())) if line and not line.startswith("#")]
    found = [at(line if "://" in line else str(folder / line)) for line in lines]
    if not found:
        raise CurationError(f"videos: the list {videos!r} names no video")
    if missing := [source.uri for source in found if source.size < 0]:
        raise CurationError(f"videos: {videos!r} names {missing[0]}, which does not exist ({len(missing)} such)")
    return found


def _none_in(videos: str) -> str:
    return f"videos: no video in {videos!r} (looked for {' '.join(sorted(SUFFIXES))})"


def _walk(root: Path) -> Iterator[Path]:
    """Every file below `root`, through links too, but each folder once."""
    seen: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        at = Path(folder).stat()
        if (at.st_dev, at.st_ino) in seen:
            folders.clear()
            continue
        seen.add((at.st_dev, at.st_ino))
        yield from (Path(folder) / name for name in names)


def at(path: str | Path) -> Source:
    """The file at a path, or the object at a URL, as it is now; its size is -1 where there is none, which reading it
    will say."""
    if "://" in str(path):
        try:
            return Source(str(path), *store.about(store.place(str(path))))
        except OSError:
            return Source(str(path), -1, 0)
    absolute = os.path.abspath(path)  # noqa: PTH100 - Path.resolve would replace a link by its target
    try:
        status = os.stat(absolute)  # noqa: PTH116
    except OSError:
        return Source(absolute, -1, 0)
    return Source(absolute, status.st_size, max(-_LAST_NS, min(status.st_mtime_ns, _LAST_NS)))


def identify(uri: str) -> str:
    """24 hex digits of the file's content: all of it up to 32 MiB; beyond, its size and 16 spread blocks of 1 MiB.

    Raises UnreadableVideo for a file that is empty or cannot be opened.
    """
    digest = hashlib.blake2b(digest_size=12)
    try:
        with _pieces(uri) as (size, piece):
            if size == 0:
                raise UnreadableVideo(f"{uri}: the file is empty (0 bytes)", step="open")
            digest.update(size.to_bytes(8, "little"))
            if size <= _WHOLE_UP_TO:
                for start in range(0, size, _BLOCK):
                    digest.update(piece(start, min(size, start + _BLOCK)))
            else:
                for i in range(_BLOCKS):
                    start = (size - _BLOCK) * i // (_BLOCKS - 1)
                    digest.update(piece(start, start + _BLOCK))
    except OSError as error:
        raise UnreadableVideo(f"{uri}: {error.strerror or error}", step="open") from error
    return digest.hexdigest()


@contextmanager
def _pieces(uri: str) -> Iterator[tuple[int, Callable[[int, int], bytes]]]:
    """A file's size and a function that reads it from one byte to before another."""
    if "://" in uri:
        size, read = store.pieces(store.place(uri))
        whole = read(0, size) if 0 < size <= _WHOLE_UP_TO else b""  # one request in place of thirty
        yield size, lambda start, end: whole[start:end] or read(start, end)
        return
    if not stat.S_ISREG(Path(uri).stat().st_mode):
        raise UnreadableVideo(f"{uri}: not a regular file", step="open")
    with Path(uri).open("rb") as file:

        def piece(start: int, end: int) -> bytes:
            file.seek(start)
            return file.read(end - start)

        yield os.fstat(file.fileno()).st_size, piece
