"""Where a video is, which state its file has, and which content: its identity."""

import hashlib
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
_DIGITS = 32  # of the SHA-256 digest that names a larger file
_BLOCK = 4 << 20  # bytes that are read at once from a disk
_REMOTE_BLOCK = 16 << 20
_READERS = 8  # files that are read at the same time
_TOLD_S = 0.5
_SAMPLE, _SAMPLES = 1 << 20, 16
_LAST_NS = 2**63 - 1  # in the year 2262: file systems know later ones, the manifest does not


@dataclass(frozen=True, slots=True)
class Source:
    """The state of a file or of an object of a store: where it is, its size, and when it last changed.

    `revision` is a mark that changes with every write: on disk the time of the last status change (ctime, nanoseconds),
    which no program can reset; on a store its ETag or version. None where a store has neither.
    """

    uri: str
    size: int
    modified_ns: int
    revision: str | None = None

    def agrees(self, other: "Source") -> bool:
        """Whether another look at the file shows the same state. A revision that one of them lacks is not compared."""
        revisions = {self.revision, other.revision} - {None}
        return (self.size, self.modified_ns) == (other.size, other.modified_ns) and len(revisions) < 2


def at(path: str | Path) -> Source:
    """The present state of the file at a path, or of the object at a URL. The size is -1 where there is none."""
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
    """The state of a file that `os.stat` gave."""
    modified_ns = max(-_LAST_NS, min(status.st_mtime_ns, _LAST_NS))
    return Source(path, status.st_size, modified_ns, str(status.st_ctime_ns))


def identify(uri: str) -> str:
    """The id of a video: a digest of every byte of its file.

    Raises UnreadableVideo for a file that is empty, cannot be read, or changes meanwhile.
    """
    return read(uri)[1]


def read(uri: str, told: Callable[[int], None] = lambda size: None) -> tuple[Source, str]:
    """The state of a file and its id, which belong together. `told` hears the size of each block that was read.

    Raises UnreadableVideo as `identify` does.
    """
    before = at(uri)
    size, content = 0, _digest(before.size)
    try:
        for block in _blocks(before):
            size += len(block)
            content.update(block)
            told(len(block))
    except OSError as error:
        raise UnreadableVideo(f"{uri}: {error.strerror or error}", step="open") from error
    if before != at(uri) or size != before.size:
        raise UnreadableVideo(f"{uri}: {CHANGED}", step="open")
    if size == 0:
        raise UnreadableVideo(f"{uri}: the file is empty (0 bytes)", step="open")
    return before, content.hexdigest()[:_DIGITS]


def read_all(uris: Sequence[str], progress: Progress) -> dict[str, tuple[Source, str] | UnreadableVideo]:
    """As `read` for many files, several at a time; by uri, what came of each."""
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
    """Whether a file no longer holds the content that it had in this state. A state that differs is settled by reading
    the file again."""
    if at(source.uri).agrees(source):
        return False
    try:
        return identify(source.uri) != video_id
    except UnreadableVideo:
        return True


def is_sampled(video_id: str, size: int) -> bool:
    """Whether an id is one that schema versions 1 and 2 gave to a large file: of its size and 16 MiB of samples."""
    return size > _SMALL and len(video_id) == _SAMPLED_DIGITS


class Contents:
    """Tells whether files still hold the videos that were measured. Each state of a file is read at most once.

    `measured` names states whose content is known: a file in such a state is not read at all.
    """

    def __init__(self, measured: Iterable[tuple[Source, str]] = ()) -> None:
        self._ids = {(s, is_sampled(video_id, s.size)): video_id for s, video_id in measured}
        self._locks: dict[tuple[Source, bool], threading.Lock] = {}
        self._guard = threading.Lock()

    @classmethod
    def of_rows(cls, videos: Iterable[Mapping[str, Any]]) -> "Contents":
        """The contents that rows of a manifest's videos tell of. A row without a revision may be outdated."""
        names = ("uri", "size_bytes", "modified_ns", "revision")
        return cls((Source(*(v[n] for n in names)), v["video_id"]) for v in videos if v["video_id"] and v["revision"])

    def hold(self, uri: str, video_id: str) -> bool:
        """Whether the file at `uri` is the video of this id. Raises UnreadableVideo where the file cannot be read."""
        now = at(uri)
        state = now, is_sampled(video_id, now.size)
        with self._guard:
            lock = self._locks.setdefault(state, threading.Lock())
        with lock:
            if state not in self._ids:
                self._ids[state] = _sampled(now) if state[1] else identify(uri)
        return self._ids[state] == video_id


def _digest(size: int) -> Any:
    """A digest that begins with the size. SHA-256 is the faster one on processors with instructions for it."""
    content = hashlib.blake2b(digest_size=_SAMPLED_DIGITS // 2) if size <= _SMALL else hashlib.sha256()
    content.update(max(0, size).to_bytes(8, "little"))
    return content


def _blocks(source: Source) -> Iterator[bytes | memoryview]:
    """The bytes of a file from its first to its last, each block valid until the next."""
    if "://" in source.uri:
        size, piece = store.pieces(store.place(source.uri))
        step = size if size <= _SMALL else _REMOTE_BLOCK  # one request where it is small
        for start in range(0, size, step or 1):
            yield piece(start, min(size, start + step))
        return
    _require_regular(source.uri)
    block = memoryview(bytearray(min(_BLOCK, max(1, source.size + 1))))
    with Path(source.uri).open("rb", buffering=0) as file:
        while count := file.readinto(block):
            yield block[:count]


def _require_regular(path: str) -> None:
    mode = Path(path).stat().st_mode
    if stat.S_ISDIR(mode):
        raise UnreadableVideo(f"{path}: a folder, not a video", step="open")
    if not stat.S_ISREG(mode):
        raise UnreadableVideo(f"{path}: not a regular file", step="open")


def _sampled(source: Source) -> str:
    """The id that schema versions 1 and 2 gave to a large file."""
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
