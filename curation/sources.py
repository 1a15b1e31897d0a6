"""Location, state and content hash of video files: how a run identifies a video and notices a change."""

import errno
import hashlib
import io
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation import store
from curation.errors import UnreadableVideo
from curation.progress import Progress, detailed

CHANGED = "the file changed while it was read; run again when it is complete"
_SMALL = 32 << 20  # up to this size an id is a BLAKE2b digest of 24 hex digits, as in manifests of every version
_SAMPLED_DIGITS = 24
_DIGITS = 32  # hex digits kept of the SHA-256 digest of a larger file
_BLOCK = 4 << 20  # bytes per read from a disk
_REMOTE_BLOCK = 16 << 20
_ZEROS = memoryview(bytes(_BLOCK))
_READERS = 8  # files that are read at the same time
_TOLD_S = 0.5  # interval of progress reports
_SAMPLE, _SAMPLES = 1 << 20, 16
_LAST_NS = 2**63 - 1  # in the year 2262: file systems allow later times, the manifest does not


@dataclass(frozen=True, slots=True)
class Source:
    """State of a file on disk or of an object on a store: its location, size and last change.

    `revision` changes with every write: on disk it is the time of the last status change (ctime, nanoseconds), which no
    program can set; on a store it is the ETag or version, or None if the store has neither.
    """

    uri: str
    size: int
    modified_ns: int
    revision: str | None = None

    def agrees(self, other: "Source") -> bool:
        """Whether `other` is the same state of the file. Revisions are compared only if both states have one."""
        revisions = {self.revision, other.revision} - {None}
        return (self.size, self.modified_ns) == (other.size, other.modified_ns) and len(revisions) < 2


def at(path: str | Path) -> Source:
    """Return the current state of the file at a path or of the object at a URL. The size is -1 if it does not exist."""
    text = store.without_file_protocol(str(path))
    if "://" in text:
        try:
            return Source(text, *store.about(store.place(text)))
        except OSError:
            return Source(text, -1, 0)
    absolute = os.path.abspath(text)  # noqa: PTH100 - Path.resolve would replace a link by its target
    try:
        return of_status(absolute, os.stat(absolute))  # noqa: PTH116
    except OSError:
        return Source(absolute, -1, 0)


def of_status(path: str, status: os.stat_result) -> Source:
    """Return the state of a file from the result of `os.stat`."""
    modified_ns = max(-_LAST_NS, min(status.st_mtime_ns, _LAST_NS))
    return Source(path, status.st_size, modified_ns, str(status.st_ctime_ns))


def identify(uri: str) -> str:
    """Return the id of a video: a digest of every byte of its file.

    Raises UnreadableVideo for a file that is empty, cannot be read, or changes while it is hashed.
    """
    return read(uri)[1]


def read(uri: str, told: Callable[[int], None] = lambda size: None) -> tuple[Source, str]:
    """Hash a file, and return its state and its id. `told` is called with the size of each block that was read.

    Raises UnreadableVideo as `identify` does.
    """
    before = at(uri)
    size, content, large = 0, _digest(before.size), before.size > _SMALL
    try:
        for start, block in _blocks(before):
            told(start + len(block) - size)
            size = start + len(block)
            if not large:
                content.update(block)
            elif block != _ZEROS[: len(block)]:  # holes and zeros, of which there may be terabytes, need no hashing
                content.update(start.to_bytes(8, "little"))
                content.update(block)
    except OSError as error:
        raise UnreadableVideo(f"{uri}: {error.strerror or error}", step="open") from error
    if before != at(uri) or size != before.size:
        raise UnreadableVideo(f"{uri}: {CHANGED}", step="open")
    if size == 0:
        raise UnreadableVideo(f"{uri}: the file is empty (0 bytes)", step="open")
    return before, content.hexdigest()[:_DIGITS]


def read_all(uris: Sequence[str], progress: Progress) -> dict[str, tuple[Source, str] | UnreadableVideo]:
    """Hash many files in parallel. Return the result of `read` or its error, by uri."""
    total = sum(max(0, at(uri).size) for uri in uris)
    done, began, guard = 0, time.monotonic(), threading.Lock()
    what = f"hashing {len(uris)} files, in MB"

    def told(size: int) -> None:
        nonlocal done
        with guard:
            done += size

    def one(uri: str) -> tuple[Source, str] | UnreadableVideo:
        try:
            return read(uri, told)
        except UnreadableVideo as error:
            return error

    def show() -> None:
        rate = done / 1e6 / max(1e-3, time.monotonic() - began)
        progress(detailed(what, f"{rate:.0f} MB/s"), round(done / 1e6), round(max(done, total) / 1e6))

    if not uris:
        return {}
    with ThreadPoolExecutor(_READERS) as pool:
        try:
            futures = {uri: pool.submit(one, uri) for uri in uris}
            while wait(futures.values(), _TOLD_S).not_done:
                show()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    show()
    return {uri: future.result() for uri, future in futures.items()}


def changed(source: Source, video_id: str | None) -> bool:
    """Whether a file's content differs from the content in the state `source`.

    If the current state differs from `source`, the file is hashed again and the ids are compared.
    """
    if at(source.uri).agrees(source):
        return False
    try:
        return identify(source.uri) != video_id
    except UnreadableVideo:
        return True


def is_sampled(video_id: str, size: int) -> bool:
    """Whether an id is a sampled one: a digest of size and 16 MiB of samples, used by schema versions 1 and 2."""
    return size > _SMALL and len(video_id) == _SAMPLED_DIGITS


class Contents:
    """Checks whether files still hold the videos that were measured. Each state of a file is hashed at most once.

    `measured` lists states with their known ids: a file in such a state is not hashed.
    """

    def __init__(self, measured: Iterable[tuple[Source, str]] = ()) -> None:
        self._ids = {(s, is_sampled(video_id, s.size)): video_id for s, video_id in measured}
        self._locks: dict[tuple[Source, bool], threading.Lock] = {}
        self._guard = threading.Lock()

    @classmethod
    def of_rows(cls, videos: Iterable[Mapping[str, Any]]) -> "Contents":
        """Build from rows of a manifest's `videos`. Rows without a revision are ignored, since they may be outdated."""
        names = ("uri", "size_bytes", "modified_ns", "revision")
        return cls((Source(*(v[n] for n in names)), v["video_id"]) for v in videos if v["video_id"] and v["revision"])

    def hold(self, uri: str, video_id: str) -> bool:
        """Whether the file at `uri` has this id. Raises UnreadableVideo if the file cannot be read."""
        now = at(uri)
        state = now, is_sampled(video_id, now.size)
        with self._guard:
            lock = self._locks.setdefault(state, threading.Lock())
        with lock:
            if state not in self._ids:
                self._ids[state] = _sampled(now) if state[1] else identify(uri)
        return self._ids[state] == video_id


def _digest(size: int) -> Any:
    """Start a digest with the size. Large files use SHA-256, which is the faster one on CPUs with SHA instructions; of
    each block that is not all zeros, its offset and its bytes."""
    content = hashlib.blake2b(digest_size=_SAMPLED_DIGITS // 2) if size <= _SMALL else hashlib.sha256()
    content.update(max(0, size).to_bytes(8, "little"))
    return content


def _blocks(source: Source) -> Iterator[tuple[int, bytes | memoryview]]:
    """Yield the bytes of a file in blocks, each with its offset, a multiple of `_BLOCK`. Holes of a sparse file may be
    left out, but not at its end. Each block is valid only until the next one."""
    if "://" in source.uri:
        size, piece = store.pieces(store.place(source.uri))
        step = size if size <= _SMALL else _REMOTE_BLOCK  # a small object takes one request
        for start in range(0, size, step or 1):
            part = memoryview(piece(start, min(size, start + step)))
            for at in range(0, len(part), _BLOCK):
                yield start + at, part[at : at + _BLOCK]
        return
    _require_regular(source.uri)
    block = memoryview(bytearray(min(_BLOCK, max(1, source.size + 1))))
    with Path(source.uri).open("rb", buffering=0) as file:
        start = 0
        while count := _filled(file, block):
            yield start, block[:count]
            start = _after_hole(file, start + count, source.size)


def _filled(file: io.FileIO, block: memoryview) -> int:
    """Read until the block is full or the file ends. Return the number of bytes."""
    filled = 0
    while filled < len(block) and (count := file.readinto(block[filled:])):
        filled += count
    return filled


def _after_hole(file: io.FileIO, start: int, size: int) -> int:
    """Move to the block that holds the next data at or after `start`, or to the last block. Return its offset."""
    if not hasattr(os, "SEEK_DATA"):
        return start
    try:
        data = os.lseek(file.fileno(), start, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:  # the file system does not know holes
            return file.seek(start)
        data = size - 1  # nothing but a hole follows
    return file.seek(max(start, data - data % _BLOCK))


def _require_regular(path: str) -> None:
    mode = Path(path).stat().st_mode
    if stat.S_ISDIR(mode):
        raise UnreadableVideo(f"{path}: is a folder, not a video", step="open")
    if not stat.S_ISREG(mode):
        raise UnreadableVideo(f"{path}: is not a regular file", step="open")


def _sampled(source: Source) -> str:
    """Return the sampled id of a large file (see `is_sampled`)."""
    content = hashlib.blake2b(source.size.to_bytes(8, "little"), digest_size=_SAMPLED_DIGITS // 2)
    starts = [(source.size - _SAMPLE) * i // (_SAMPLES - 1) for i in range(_SAMPLES)]
    try:
        if "://" in source.uri:
            _, piece = store.pieces(store.place(source.uri))
            for start in starts:
                content.update(piece(start, start + _SAMPLE))
        else:
            _require_regular(source.uri)
            with Path(source.uri).open("rb") as file:
                for start in starts:
                    file.seek(start)
                    content.update(file.read(_SAMPLE))
    except OSError as error:
        raise UnreadableVideo(f"{source.uri}: {error.strerror or error}", step="open") from error
    return content.hexdigest()
