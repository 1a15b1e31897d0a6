"""The manifest: a folder of Parquet fragments that any tool can read as it lies.

    MANIFEST/videos/*.parquet   one row a source file
    MANIFEST/shots/*.parquet    one row a shot, with the reason if it gave no clip
    MANIFEST/errors/*.parquet   one row a failure: what could not be read or measured, and why
    MANIFEST/clips/*.parquet    one row a clip with every score; null where measuring failed

A shard writes one fragment of each under the same name. The clips fragment is written last and is the commit: a shard
without one does not exist. Each file appears whole or not at all.

Two more folders exist for a while. A note in MANIFEST/replaced says which shards one shard stands for: once that one is
committed the others do not exist, whether they are deleted already or not. MANIFEST/.next is a manifest that is being
measured with other settings; when it is complete it takes this one's place.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from curation import store
from curation.errors import CurationError
from curation.schema import CLIP_IDENTITY, ERRORS, SHOTS, TABLES, VIDEOS, current
from curation.sources import Source

Tables = Mapping[str, pa.Table]
"""The four tables of a shard, by name."""

_MERGED = "c-"  # begins the name of a shard that compaction made; the sum of what it was made of follows
_SMALL, _LARGE = 32 << 20, 128 << 20  # bytes of a clips fragment that is worth merging, and of one that it ends at
_MANY = 64  # small fragments that are worth the trouble
_GROUP = 1 << 15  # rows that a reader has to take at once


@dataclass(frozen=True, slots=True)
class Shard:
    """The rows of a group of videos, as they are written together."""

    name: str
    videos: Sequence[Mapping[str, Any]]
    shots: Sequence[Mapping[str, Any]]
    errors: Sequence[Mapping[str, Any]]
    clips: Sequence[Mapping[str, Any]]

    def tables(self, clip_schema: pa.Schema) -> Tables:
        """The rows as tables."""
        return {
            table: pa.Table.from_pylist([_clean(r) for r in getattr(self, table)], schema)
            for table, schema in (FIXED | {"clips": clip_schema}).items()
        }


FIXED = {"videos": VIDEOS, "shots": SHOTS, "errors": ERRORS}
"""Schemas of the tables that are the same in every manifest."""


class Manifest:
    """A manifest on disk or on an object store. Reading sees committed shards only.

    Only who holds it (`locked`) may write.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = store.place(root)
        self._check: Callable[[], None] = lambda: None

    @classmethod
    def find(cls, folder: str | Path) -> "Manifest":
        """The manifest in `folder`, or in its `manifest` folder. Raises CurationError if there is none."""
        where = store.place(folder)
        for root in (where, where / "manifest"):
            if (root / "clips").is_dir():
                return cls(root)
        if (where / "selection.json").is_file():
            raise CurationError(
                f"manifest: {str(folder)!r} is a selection; its selection.json names the manifest that it was made from"
            )
        raise CurationError(
            f"manifest: {str(folder)!r} holds no manifest; make one with `rushes curate VIDEOS --out DIR`"
        )

    @property
    def next(self) -> "Manifest":
        """The manifest that is being measured to take this one's place."""
        staged = Manifest(self.root / ".next")
        staged._check = self._check
        return staged

    def shards(self) -> list[str]:
        """Names of the committed shards, sorted. Raises CurationError while another manifest takes this one's place."""
        if self._adopting.exists():
            raise CurationError(
                f"manifest: {str(self.root)!r} is just being replaced by newly measured scores; try again in a moment, "
                "or, if that run was killed, run `rushes curate` again, which finishes it"
            )
        return sorted(self._committed())

    def fragments(self, table: str) -> list[Path]:
        """Paths of a table's committed fragments, sorted by name."""
        return [self._path(table, shard) for shard in self.shards()]

    def dataset(self, table: str) -> ds.Dataset:
        """A table without reading its rows: those of its fragments, in their order."""
        with self.readable():
            return store.dataset(self.fragments(table), self.schema(table))

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A whole table, or some of its columns, in memory. Column metadata comes along."""
        with self.readable():
            return self.dataset(table).to_table(columns=list(columns) if columns is not None else None)

    def tables(self, shard: str) -> Tables:
        """The four tables of one shard."""
        with self.readable():
            return {t: store.dataset([self._path(t, shard)], self.schema(t)).to_table() for t in TABLES}

    def schema(self, table: str) -> pa.Schema:
        """The schema of a table."""
        with self.readable():
            first = min(self._committed(), default=None)
            if first is None:
                return FIXED.get(table, pa.schema(CLIP_IDENTITY))
            return current(table, store.read_schema(self._path(table, first)))

    def config(self) -> dict[str, Any] | None:
        """The configuration that made it; None while it is empty."""
        raw = (self.schema("clips").metadata or {}).get(b"rushes.config")
        return json.loads(raw) if raw else None

    def hash(self) -> str:
        """16 hex digits that name what the manifest holds, however its shards are merged."""
        self.shards()
        return f"{_sum(self._committed().items()) % 2**64:016x}"

    def commit(self, shard: Shard, clip_schema: pa.Schema) -> None:
        """Write a shard's four fragments, the clips last. On any failure the shard does not exist."""
        self.write(shard.name, shard.tables(clip_schema))

    def write(self, shard: str, tables: Tables) -> None:
        """As `commit`, of tables that exist."""
        self._check()
        for table in TABLES:
            store.write_table(tables[table], self._path(table, shard), row_group=_GROUP)

    def replace(self, old: Sequence[str], shard: str, tables: Tables) -> None:
        """Put one shard in the place of others: whoever reads sees those or this one, killed or not."""
        note = self.root / "replaced" / f"{shard}.json"
        store.write_bytes(json.dumps(list(old)).encode(), note)
        self.write(shard, tables)
        self._bury(note)

    def rewrite(self, shard: str, dropped: set[str], moved: Mapping[str, str]) -> None:
        """Leave some videos out of a shard, and tell of others that they are elsewhere now; both by uri."""
        tables = {}
        for name, table in self.tables(shard).items():
            kept = table.filter(pc.invert(pc.is_in(table["uri"], pa.array(sorted(dropped), pa.string()))))  # type: ignore[attr-defined]
            uris = [moved.get(uri, uri) for uri in kept["uri"].to_pylist()]
            at = kept.schema.get_field_index("uri")
            tables[name] = kept.set_column(at, kept.schema.field(at), pa.array(uris, pa.string()))
        if not tables["videos"].num_rows:
            return self.remove(shard)
        told = json.dumps([shard, sorted(dropped), sorted(moved.items())])
        return self.replace([shard], hashlib.blake2b(told.encode(), digest_size=10).hexdigest(), tables)

    def record_states(self, shard: str, states: Mapping[str, Source]) -> None:
        """Record the present states of a shard's videos, by uri. The shard keeps its name: no clip depends on them."""
        self._check()
        path = self._path("videos", shard)
        with self.readable():
            videos = store.dataset([path], self.schema("videos")).to_table()
        for column, name in (("size_bytes", "size"), ("modified_ns", "modified_ns"), ("revision", "revision")):
            at = videos.schema.get_field_index(column)
            values = zip(videos["uri"].to_pylist(), videos[column].to_pylist(), strict=True)
            new = [getattr(states[uri], name) if uri in states else old for uri, old in values]
            videos = videos.set_column(at, videos.schema.field(at), pa.array(new, videos.schema.field(at).type))
        store.write_table(videos, path, row_group=_GROUP)

    def remove(self, shard: str) -> None:
        """Forget a shard, its commit first."""
        self._check()
        for table in reversed(TABLES):
            self._path(table, shard).unlink(missing_ok=True)

    def compact(self, many: int = _MANY, small: int = _SMALL, large: int = _LARGE) -> int:
        """Merge small fragments, where there are many, to larger ones; sizes in bytes. Returns how many were merged."""
        sizes = {name: size for name, size in self._committed().items() if size < small}
        if len(sizes) < many:
            return 0
        merged, group, weight = 0, dict[str, int](), 0
        for name in sorted(sizes):
            group[name] = sizes[name]
            weight += sizes[name]
            if weight >= large:
                merged += self._merge(group)
                group, weight = {}, 0
        return merged + self._merge(group)

    def _merge(self, group: Mapping[str, int]) -> int:
        if len(group) < 2:
            return 0
        tables = {}
        for table in TABLES:
            paths = [self._path(table, shard) for shard in group]
            for path in paths:
                current(table, store.read_schema(path))  # none may be of a version whose columns would be lost
            tables[table] = store.dataset(paths, self.schema(table)).to_table()
        self.replace(list(group), f"{_MERGED}{_sum(group.items()):032x}", tables)
        return len(group)

    def adopt_next(self) -> None:
        """Let the manifest `next` take this one's place. A run that is killed at it is finished by `sweep`."""
        store.write_bytes(json.dumps(sorted(self._committed())).encode(), self._adopting)
        self._finish_adoption()

    def sweep(self) -> None:
        """Finish what an interrupted run began, and delete what it left behind: fragments that nothing committed and
        temporary files. What else somebody put there stays."""
        if self._adopting.exists():
            self._finish_adoption()
        committed = {path.stem for path, _ in store.listed(self.root / "clips")}
        for note, _ in store.listed(self.root / "replaced", ".json"):
            if note.stem in committed:
                self._bury(note)
            else:
                note.unlink()
        committed = set(self._committed())
        for table in TABLES:
            for path in (self.root / table).glob("*") if (self.root / table).is_dir() else ():
                if (path.suffix == ".parquet" and path.stem not in committed) or store.is_temporary(path):
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the manifest against a second writer. Raises CurationError if somebody else writes to it."""
        with store.locked(self.root) as self._check:
            yield

    @contextlib.contextmanager
    def readable(self) -> Iterator[None]:
        """Tell what to do where a fragment cannot be read."""
        try:
            yield
        except (pa.ArrowInvalid, OSError) as error:
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError) and "CRC" not in str(error):
                raise  # a disk or a store that cannot be reached
            raise CurationError(
                f"manifest: {str(self.root)!r} cannot be read: {self.damaged() or 'a fragment'} is damaged or missing "
                f"({str(error).splitlines()[0]}); delete the files of that name in videos, shots, errors and clips, "
                "and run `rushes curate` again"
            ) from error

    def damaged(self) -> str | None:
        """The first fragment that cannot be read, below the manifest's folder."""
        for table in TABLES:
            for path in self.fragments(table):
                try:
                    store.read_table(path)
                except (pa.ArrowInvalid, OSError):
                    return f"{table}/{path.name}"
        return None

    @property
    def _adopting(self) -> Path:
        return self.root / ".next" / "adopt.json"

    def _committed(self) -> dict[str, int]:
        """The committed shards, each with the size of its clips fragment in bytes."""
        sizes = {path.stem: size for path, size in store.listed(self.root / "clips")}
        for note, _ in store.listed(self.root / "replaced", ".json"):
            if note.stem in sizes:
                for shard in json.loads(note.read_bytes()):
                    sizes.pop(shard, None)
        return sizes

    def _bury(self, note: Path) -> None:
        """Delete the shards that a committed one stands for, and then the note."""
        for shard in json.loads(note.read_bytes()):
            self.remove(shard)
        note.unlink()

    def _finish_adoption(self) -> None:
        for shard in json.loads(self._adopting.read_bytes()):
            self.remove(shard)
        staged = self.root / ".next"
        for table in TABLES:  # the clips last
            for path, _ in store.listed(staged / table):
                store.move(path, self.root / table / path.name)
        self._adopting.unlink()

    def _path(self, table: str, shard: str) -> Path:
        return self.root / table / f"{shard}.parquet"


def _sum(shards: Iterable[tuple[str, int]]) -> int:
    """A number of 128 bits for shards and their sizes: that of merged ones is the sum of what they were made of."""
    total = 0
    for name, size in shards:
        if name.startswith(_MERGED):
            total += int(name.removeprefix(_MERGED), 16)
        else:
            total += int.from_bytes(hashlib.blake2b(f"{name}:{size}".encode(), digest_size=16).digest(), "big")
    return total % 2**128


def read(folder: str | Path, table: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A table (videos, shots, errors, clips) of the manifest in `folder`."""
    return Manifest.find(folder).read(table, columns)


def _clean(row: Mapping[str, Any]) -> dict[str, Any]:
    """Parquet text is UTF-8: bytes of a file name that are not are kept visibly, as in `\\xff`."""
    return {k: stored(v) if isinstance(v, str) else v for k, v in row.items()}


def stored(text: str) -> str:
    """A text as the manifest spells it: the same, unless it is a file name whose bytes are no UTF-8."""
    if text.isascii():  # nearly all are, and planning asks for each file several times
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
