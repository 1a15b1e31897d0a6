"""The manifest: a folder of Parquet fragments that any tool can read as it lies.

    MANIFEST/videos/*.parquet   one row a source file
    MANIFEST/shots/*.parquet    one row a shot, with the reason if it gave no clip
    MANIFEST/errors/*.parquet   one row a failure: what could not be read or measured, and why
    MANIFEST/clips/*.parquet    one row a clip with every score; null where measuring failed

A shard writes one fragment of each under the same name. The clips fragment is written last and is the commit: a shard
without one does not exist. Each file appears whole or not at all.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from curation.errors import CurationError
from curation.schema import CLIP_IDENTITY, ERRORS, SHOTS, TABLES, VIDEOS


@dataclass(frozen=True, slots=True)
class Shard:
    """The rows of a group of videos, as they are written together."""

    name: str
    videos: Sequence[Mapping[str, Any]]
    shots: Sequence[Mapping[str, Any]]
    errors: Sequence[Mapping[str, Any]]
    clips: Sequence[Mapping[str, Any]]


class Manifest:
    """A manifest folder. Reading sees committed shards only."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    @classmethod
    def find(cls, folder: str | Path) -> "Manifest":
        """The manifest in `folder`, or in its `manifest` folder. Raises CurationError if there is none."""
        for root in (Path(folder), Path(folder) / "manifest"):
            if (root / "clips").is_dir():
                return cls(root)
        raise CurationError(
            f"manifest: {str(folder)!r} holds no manifest; make one with `rushes curate VIDEOS --out DIR`"
        )

    def shards(self) -> list[str]:
        """Names of the committed shards, sorted."""
        return sorted(p.stem for p in (self.root / "clips").glob("*.parquet"))

    def fragments(self, table: str) -> list[str]:
        """Paths of a table's committed fragments."""
        return [str(self._path(table, shard)) for shard in self.shards()]

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A whole table, or some of its columns, in memory. Column metadata comes along."""
        paths = self.fragments(table)
        if not paths:
            return self.schema(table).empty_table().select(list(columns or self.schema(table).names))
        with self._readable():
            return ds.dataset(paths, schema=self.schema(table)).to_table(columns=list(columns) if columns else None)

    def schema(self, table: str) -> pa.Schema:
        """The schema of a table."""
        fixed = {"videos": VIDEOS, "shots": SHOTS, "errors": ERRORS}
        if table in fixed:
            return fixed[table]
        paths = self.fragments("clips")
        with self._readable():
            return pq.read_schema(paths[0]) if paths else pa.schema(CLIP_IDENTITY)

    def config(self) -> dict[str, Any] | None:
        """The configuration that made it; None while it is empty."""
        raw = (self.schema("clips").metadata or {}).get(b"rushes.config")
        return json.loads(raw) if raw else None

    def hash(self) -> str:
        """16 hex digits that name what the manifest holds: its shards and their sizes."""
        digest = hashlib.blake2b(digest_size=8)
        for path in self.fragments("clips"):
            digest.update(f"{Path(path).name}:{Path(path).stat().st_size}\n".encode())
        return digest.hexdigest()

    def commit(self, shard: Shard, clip_schema: pa.Schema) -> None:
        """Write a shard's four fragments, the clips last. On any failure the shard does not exist."""
        rows = {"videos": shard.videos, "shots": shard.shots, "errors": shard.errors, "clips": shard.clips}
        for table in TABLES:
            schema = clip_schema if table == "clips" else self.schema(table)
            write_table(pa.Table.from_pylist([_clean(r) for r in rows[table]], schema), self._path(table, shard.name))

    def remove(self, shard: str) -> None:
        """Forget a shard, its commit first."""
        for table in reversed(TABLES):
            self._path(table, shard).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete what an interrupted run left behind: unfinished files and fragments without a commit."""
        known = set(self.shards())
        for table in TABLES:
            for path in (self.root / table).glob("*"):
                if path.suffix != ".parquet" or path.stem not in known:
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the manifest against a second writer. Raises CurationError if somebody else writes to it."""
        make_folder(self.root)
        with (self.root / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise CurationError(f"out: another run is writing to {str(self.root)!r}; wait for it to end") from error
            yield

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowInvalid, FileNotFoundError) as error:
            raise CurationError(
                f"manifest: {str(self.root)!r} cannot be read: a fragment is damaged or missing "
                f"({str(error).splitlines()[0]}); delete the files of its name in videos, shots, errors and clips, and "
                "run `rushes curate` again"
            ) from error

    def _path(self, table: str, shard: str) -> Path:
        return self.root / table / f"{shard}.parquet"


def read(folder: str | Path, table: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A table (videos, shots, errors, clips) of the manifest in `folder`."""
    return Manifest.find(folder).read(table, columns)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a Parquet file that appears whole or not at all. Raises CurationError on a full or read-only disk."""
    with writing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def make_folder(folder: Path) -> None:
    """Create a folder that is about to be written to. Raises CurationError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise CurationError(_disk(folder, error)) from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well, and vanishes when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CurationError(_disk(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _disk(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"out: the disk is full while writing {str(path)!r}; free some space and run the same command again"
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"out: {str(path)!r} is not writable; choose another folder with --out"
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return f"out: {str(path)!r} is a file, not a folder; choose another folder with --out"
    return f"out: {str(path)!r} cannot be written: {error.strerror or error}"


def _clean(row: Mapping[str, Any]) -> dict[str, Any]:
    """Parquet text is UTF-8: bytes of a file name that are not are kept visibly, as in `\\xff`."""
    return {k: stored(v) if isinstance(v, str) else v for k, v in row.items()}


def stored(text: str) -> str:
    """A text as the manifest spells it: the same, unless it is a file name whose bytes are no UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
