"""Which videos there are, and what names them: their content."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
    """A file on disk: where it is, how large, and when it last changed (nanoseconds)."""

    uri: str
    size: int
    modified_ns: int


def find(videos: str) -> list[Source]:
    """The videos that a folder holds (searched recursively), a list file (.txt) names, or the file itself.

    Sorted by path. Raises CurationError when nothing is there, naming what was looked for.
    """
    root = Path(videos).expanduser()
    if not root.exists():
        raise CurationError(f"videos: {videos!r} does not exist; give a folder, a video file or a .txt list of paths")
    if root.is_dir():
        paths = sorted(p for p in _walk(root) if p.suffix.lower() in SUFFIXES)
        if not paths:
            raise CurationError(f"videos: no video in {videos!r} (looked for {' '.join(sorted(SUFFIXES))})")
    elif root.suffix.lower() == ".txt":
        lines = [line.strip() for line in root.read_text(encoding="utf-8", errors="surrogateescape").splitlines()]
        paths = [root.parent / line for line in dict.fromkeys(lines) if line and not line.startswith("#")]
        if not paths:
            raise CurationError(f"videos: the list {videos!r} names no video")
        missing = [p for p in paths if not p.exists()]
        if missing:
            raise CurationError(f"videos: {videos!r} names {missing[0]}, which does not exist ({len(missing)} such)")
    elif not root.is_file():
        raise CurationError(f"videos: {videos!r} is no regular file; give a folder, a video or a .txt list of paths")
    else:
        paths = [root]
    return [at(p) for p in paths]


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
    """The file at a path as it is now; its size is -1 where there is none, which reading it will say."""
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
        if not stat.S_ISREG(Path(uri).stat().st_mode):
            raise UnreadableVideo(f"{uri}: not a regular file", step="open")
        with Path(uri).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise UnreadableVideo(f"{uri}: the file is empty (0 bytes)", step="open")
            digest.update(size.to_bytes(8, "little"))
            if size <= _WHOLE_UP_TO:
                while block := file.read(_BLOCK):
                    digest.update(block)
            else:
                for i in range(_BLOCKS):
                    file.seek((size - _BLOCK) * i // (_BLOCKS - 1))
                    digest.update(file.read(_BLOCK))
    except OSError as error:
        raise UnreadableVideo(f"{uri}: {error.strerror or error}", step="open") from error
    return digest.hexdigest()
