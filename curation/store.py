"""Where a manifest lies: a folder on disk, or a place on an object store such as `s3://bucket/name`, by fsspec.

What is written appears under its name whole or not at all: on disk by renaming, on an object store because an object
is there only when all of it has come. Object stores need `pip install 'rushes[s3]'`, or fsspec's package for another
protocol.
"""

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from curation.errors import TO_DISK, CurationError
from curation.schema import TABLES

_BEAT_S = 10.0  # between two signs of life of whoever holds an object store's lock
_DEAD_S = 60.0  # without one, by the clock of whoever waits: clocks of different machines are not compared
_LOCK = ".lock"
_PASSING = frozenset({errno.EIO, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT, errno.EINTR})
_PAUSES_S = (0.2, 1.0)
_OF_A_MANIFEST = {*TABLES, "replaced", ".next"}  # its folders: whatever lies there is taken for its own


def place(where: str | Path) -> Path:
    """The folder `where` names: a path, or a UPath for a URL. Raises CurationError where its protocol is unknown."""
    if "://" not in str(where) or not isinstance(where, str):
        return Path(where).expanduser() if isinstance(where, str) else where
    from upath import UPath

    try:
        found = UPath(where)
        _ = found.fs
    except (ImportError, ValueError) as error:
        raise CurationError(
            f"{where!r}: no such store can be reached from here ({error}); for s3:// install rushes[s3]"
        ) from error
    return cast(Path, found)


def remote(path: Path) -> bool:
    """Whether it lies on an object store."""
    return not isinstance(path, Path)


def on_disk(out: str | Path) -> Path:
    """Where a selection, an export or a page is to be written.

    Raises CurationError where that is on an object store, below a file, or in one of the folders of a manifest.
    """
    if "://" in str(out):
        raise CurationError(f"out: {str(out)!r} is no place for it: {TO_DISK}")
    path = Path(out).expanduser()
    if (beneath := _file_above(path)) is not None:
        raise CurationError(f"out: {str(beneath)!r} is a file, not a folder; choose another place with --out")
    real = Path(os.path.realpath(path))
    for folder in (real, *real.parents):
        if folder.name in _OF_A_MANIFEST and all((folder.parent / table).is_dir() for table in TABLES):
            raise CurationError(
                f"out: {str(path)!r} lies within the manifest {str(folder.parent)!r}, whose readers would take it "
                "for a part of it; choose another place with --out"
            )
    return path


def _file_above(path: Path) -> Path | None:
    """The file that stands where a path needs a folder, if one does."""
    return next((p for p in path.parents if os.path.lexists(p) and not p.is_dir()), None)


def named(path: Path) -> str:
    """How a place is told, and found again from another folder: an absolute path, or its URL."""
    return str(path) if remote(path) else str(path.absolute())


def read_schema(path: Path) -> pa.Schema:
    """The schema of a Parquet file."""
    with path.open("rb") as file:
        return pq.read_schema(file)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file, or some of its columns."""
    with path.open("rb") as file:
        return pq.read_table(
            file, columns=list(columns) if columns is not None else None, page_checksum_verification=True
        )


def dataset(paths: Sequence[Path], schema: pa.Schema) -> ds.Dataset:
    """Parquet files as one table that nothing has read yet."""
    if not paths:
        return ds.dataset(schema.empty_table())
    if remote(paths[0]):
        first: Any = paths[0]
        return ds.dataset([cast(Any, p).path for p in paths], schema=schema, filesystem=first.fs, format=verified())
    return ds.dataset([str(p) for p in paths], schema=schema, format=verified())


def verified(coded: Sequence[str] = ()) -> ds.ParquetFileFormat:
    """Parquet whose pages are checked against their checksums: a bit that fell over on the disk is an OSError and no
    score. Columns that are `coded` are read as dictionaries."""
    return ds.ParquetFileFormat(dictionary_columns=list(coded), page_checksum_verification=True)


def write_table(table: pa.Table, path: Path, row_group: int | None = None) -> None:
    """Write a Parquet file that appears whole or not at all, in groups of so many rows.

    Raises CurationError where that is not possible.
    """
    if remote(path):
        content = io.BytesIO()
        _write(table, content, row_group)
        write_bytes(content.getvalue(), path)
        return

    def once() -> None:
        with writing(path) as temporary:
            _write(table, temporary, row_group)

    _patiently(once)


def _write(table: pa.Table, file: Any, row_group: int | None) -> None:
    with pq.ParquetWriter(file, table.schema, **parquet_options(table.schema)) as writer:
        if table.num_rows:  # a row group without a row is more than some readers bear
            writer.write_table(table, row_group)


def parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """How pyarrow is to write columns: what occurs often as numbers into a dictionary, ids and what is measured as they
    are. A dictionary of these is made in vain, and takes longer to read."""
    ids = [f.name for f in schema if pa.types.is_string(f.type) and (f.name == "clip_id" or f.name.endswith("_group"))]
    often = []
    for column in schema:
        several = pa.types.is_list(column.type)
        kind = column.type.value_type if several else column.type
        measured = pa.types.is_floating(kind) or pa.types.is_binary(kind) or pa.types.is_uint64(kind)
        if column.name not in ids and not measured:
            often.append(f"{column.name}.list.element" if several else column.name)
    encoding = dict.fromkeys(ids, "DELTA_LENGTH_BYTE_ARRAY")
    return {
        "compression": "zstd",
        "use_dictionary": often,
        "column_encoding": encoding,
        "write_page_checksum": True,
    }


def write_bytes(content: bytes, path: Path) -> None:
    """Write a file that appears whole or not at all. Raises CurationError where that is not possible."""
    if remote(path):
        with _reaching(path):
            cast(Any, path).fs.pipe_file(cast(Any, path).path, content)
        return

    def once() -> None:
        with writing(path) as temporary:
            temporary.write_bytes(content)

    _patiently(once)


def _patiently(write: Callable[[], None]) -> None:
    """Write to a disk that may be far away: what fails in passing is tried again. (Object stores' libraries do so.)"""
    for pause_s in (*_PAUSES_S, None):
        try:
            return write()
        except CurationError as error:
            passing = isinstance(error.__cause__, OSError) and error.__cause__.errno in _PASSING
            if pause_s is None or not passing:
                raise
        time.sleep(pause_s)
    return None


def move(source: Path, target: Path) -> None:
    """Bring a file under another name, replacing what is there; no harm if that was done before."""
    with _reaching(target):
        if not source.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if remote(target):
            files = cast(Any, target).fs
            files.copy(cast(Any, source).path, cast(Any, target).path)
            files.rm_file(cast(Any, source).path)
        else:
            source.replace(target)


def listed(folder: Path, suffix: str = ".parquet") -> list[tuple[Path, int]]:
    """The visible files of a folder with their sizes in bytes, sorted by name; none where there is no folder."""
    if remote(folder):
        files, where = cast(Any, folder).fs, cast(Any, folder).path
        with _reaching(folder):
            files.invalidate_cache(where)  # somebody else may have written
            try:
                found = files.ls(where, detail=True)
            except FileNotFoundError:
                return []
        sizes = {f["name"].rpartition("/")[2]: f["size"] for f in found if f["type"] == "file"}
    else:
        try:
            with os.scandir(folder) as entries:
                sizes = {e.name: e.stat().st_size for e in entries}
        except (FileNotFoundError, NotADirectoryError):
            return []
    names = sorted(n for n in sizes if n.endswith(suffix) and not n.startswith("."))
    return [(folder / n, sizes[n]) for n in names]


def without_file_protocol(where: str) -> str:
    """A `file://` URL as a path; every other place as it is given."""
    return LocalFileSystem._strip_protocol(where) if where.startswith(("file://", "local://")) else where


State = tuple[int, int, str | None]
"""An object's size in bytes, when it changed (nanoseconds; 0 where the store does not say), and its ETag or version."""


def below(place: Path, unreadable: Callable[[OSError], None]) -> list[tuple[str, *State]]:
    """The objects of a store at a place and below it, sorted: the URL and the state of each.

    `unreadable` hears of folders that cannot be listed, where the store has folders. Raises OSError where the store
    cannot be reached.
    """
    files, where = cast(Any, place).fs, cast(Any, place).path
    files.invalidate_cache(where)
    found = _walked(files, where, unreadable) if _walks(files) else files.find(where, detail=True)
    states = ((name, _state(found[name] or files.info(name))) for name in sorted(found))
    return [(files.unstrip_protocol(name), *state) for name, state in states]


def _walked(files: Any, where: str, unreadable: Callable[[OSError], None]) -> dict[str, dict[str, Any]]:
    """The objects below a folder by name. (fsspec's own walk keeps silent about subfolders that it cannot list.)"""
    if not files.isdir(where):
        return {where: files.info(where)} if files.exists(where) else {}
    found: dict[str, dict[str, Any]] = {}
    folders, seen = [where], {where}
    while folders:
        try:
            entries = files.ls(folders.pop(), detail=True)
        except OSError as error:
            unreadable(error)
            continue
        for entry in entries:
            name = entry["name"].rstrip("/")
            if entry["type"] != "directory":
                found[name] = entry
            elif name not in seen:
                seen.add(name)
                folders.append(name)
    return found


def _walks(files: Any) -> bool:
    """Whether a store is searched folder by folder. Those with a flat listing fail as a whole."""
    kind = type(files)
    return kind.find is AbstractFileSystem.find or getattr(kind, "_find", None) is AsyncFileSystem._find


def about(place: Path) -> State:
    """The state of an object. Raises OSError where there is none."""
    files, where = cast(Any, place).fs, cast(Any, place).path
    files.invalidate_cache(where)
    entry = files.info(where)
    if entry["type"] != "file":
        raise IsADirectoryError(f"{place} is no object")
    return _state(entry)


def is_object(place: Path, url: str) -> bool:
    """Whether a listed URL is that of the place itself."""
    return url == cast(Any, place).fs.unstrip_protocol(cast(Any, place).path)


def _state(entry: dict[str, Any]) -> State:
    """The state of an object, by whichever names its store has for the parts."""
    times = ("LastModified", "mtime", "updated", "last_modified", "created")
    when = next((entry[key] for key in times if entry.get(key)), 0)
    seconds = when.timestamp() if isinstance(when, datetime) else float(when)
    marks = ("ETag", "etag", "generation", "version_id", "VersionId", "md5Hash", "content_md5", "crc32c")
    revision = next((str(entry[key]) for key in marks if entry.get(key)), None)  # listings often lack the later ones
    return int(entry.get("size") or 0), int(seconds * 1e9), revision


def pieces(place: Path) -> tuple[int, Callable[[int, int], bytes]]:
    """The size of an object, and what reads it from one byte to before another: nothing more is fetched."""
    files, where = cast(Any, place).fs, cast(Any, place).path
    size = int(files.info(where)["size"])

    def read(start: int, end: int) -> bytes:
        return files.cat_file(where) if (start, end) == (0, size) else files.cat_file(where, start=start, end=end)

    return size, read


def make_folder(folder: Path) -> None:
    """Create a folder that is about to be written to. Raises CurationError where that is not possible."""
    if remote(folder):
        return  # an object store has none
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise CurationError(_why(folder, error)) from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path on disk that becomes `path` when the block ends well, and vanishes when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CurationError(_why(path, error)) from error
    finally:
        with contextlib.suppress(NotADirectoryError):  # below a file: said above
            temporary.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Whether it is a file of `writing` or `make_folder`, whose process may have died."""
    return re.fullmatch(r"\..+\.\d+\.tmp|\.probe-\d+", path.name, re.DOTALL) is not None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold a folder against a second writer. What it yields raises CurationError if the hold was lost meanwhile.

    Raises CurationError if somebody else holds it. On an object store the holder gives signs of life; whoever has seen
    none for a minute takes over: exactly one of those who try, by conditional writes, where the store has them.
    """
    make_folder(folder)
    if remote(folder):
        lock = _ObjectLock(folder / _LOCK)
        with lock.held():
            yield lock.check
        return
    with _reaching(folder / _LOCK):
        file = (folder / _LOCK).open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CurationError(_taken(folder)) from error
        yield lambda: None


class _ObjectLock:
    """An object that only one can create, which its holder writes anew from time to time."""

    def __init__(self, path: Path) -> None:
        self.path, self.where = path, cast(Any, path).path
        self.files = cast(Any, path).fs
        self._conditional = "s3" in self.files.protocol
        self._name, self._tag = uuid.uuid4().hex, ""
        self._done, self._lost = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Take the lock, keep it alive, and give it back."""
        with _reaching(self.path):
            self._take()
        alive = threading.Thread(target=self._beat, daemon=True)
        alive.start()
        try:
            yield
        finally:
            self._done.set()
            alive.join()
            if not self._lost.is_set():
                with contextlib.suppress(FileNotFoundError), _reaching(self.path):
                    self.files.rm_file(self.where)

    def check(self) -> None:
        """Raise CurationError if somebody took over: this process must have stood still for long."""
        if self._lost.is_set():
            raise CurationError(
                f"out: this run gave no sign of life for {_DEAD_S:g} s, and another one took over "
                f"{str(self.path.parent)!r}; what is written is kept: run the same command again after that one"
            )

    def _take(self) -> None:
        try:
            self.files.pipe_file(self.where, self._name.encode(), mode="create")
        except FileExistsError:
            dead = self._wait_for_death()
            if not self._put(self._name, dead):
                raise CurationError(_taken(self.path.parent)) from None
        self._tag = self._tag_of()

    def _wait_for_death(self) -> str:
        """The tag of a lock that did not change for long. Raises CurationError as soon as it does."""
        first, until = self._tag_of(), time.monotonic() + _DEAD_S
        while time.monotonic() < until:
            time.sleep(_BEAT_S / 4)
            if self._tag_of() != first:
                raise CurationError(_taken(self.path.parent))
        return first

    def _beat(self) -> None:
        turn = 0
        while not self._done.wait(_BEAT_S):
            turn += 1
            with contextlib.suppress(OSError):  # the store may be out of reach for a moment: the next one will do
                if not self._put(f"{self._name} {turn}", self._tag):
                    self._lost.set()
                    return
                self._tag = self._tag_of()

    def _put(self, content: str, tag: str) -> bool:
        """Write the lock if it is still the one of that tag."""
        condition = {"IfMatch": tag} if self._conditional else {}
        try:
            self.files.pipe_file(self.where, content.encode(), **condition)
        except OSError as error:
            if "pre-condition" in str(error) or isinstance(error, FileNotFoundError):
                return False
            raise
        return True

    def _tag_of(self) -> str:
        self.files.invalidate_cache(cast(Any, self.path.parent).path)
        info = self.files.info(self.where)
        return str(info.get("ETag") or hashlib.blake2b(self.files.cat_file(self.where)).hexdigest())


def _taken(folder: Path) -> str:
    return f"out: another run is writing to {str(folder)!r}; wait for it to end"


@contextlib.contextmanager
def _reaching(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CurationError(_why(path, error)) from error


def _why(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"out: the disk is full while writing {str(path)!r}; free some space and run the same command again"
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"out: {str(path)!r} is not writable; choose another folder with --out"
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return f"out: {str(_file_above(path) or path)!r} is a file, not a folder; choose another folder with --out"
    return (
        f"out: {str(path)!r} cannot be written: {error.strerror or error}; mend that or choose another folder with "
        "--out, and run the same command again: nothing that was finished is lost"
    )
