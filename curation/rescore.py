"""Measuring some scores anew while the rest is kept: which ones differ, and how new columns join the old rows."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.collect import error_row
from curation.errors import CurationError
from curation.manifest import FIXED, Manifest, Shard, Tables
from curation.schema import definition_of
from curation.scores.base import Failure, Scorer, columns_of

_OF_SCORERS = ("profile", "text", "weights")  # settings that scorers' definitions tell of, by section
CONFIG_KEY = b"rushes.config"  # of a manifest's schema: what it was measured with
_OF_MOTION = ("method", "raft_weights")  # its rate and size decide which pictures every scorer gets


@dataclass(frozen=True, slots=True)
class Difference:
    """How a manifest's scores differ from those that are wanted, by column."""

    added: list[str]
    changed: list[str]  # each told with what differs
    removed: list[str]
    outdated: list[Scorer]  # who has to measure, in order

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self.added or self.changed or self.removed)


def structure(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of a manifest's settings, those that decide which clips there are and which pictures scorers see."""
    motion = {k: v for k, v in settings.get("motion", {}).items() if k not in _OF_MOTION}
    return {k: v for k, v in settings.items() if k not in _OF_SCORERS} | {"motion": motion}


def difference(old: pa.Schema, scorers: Sequence[Scorer]) -> Difference:
    """Compare the clips' schema of a manifest with the scorers' columns. A scorer that reads an outdated column is
    outdated too."""
    added, changed, outdated, stale = [], [], list[Scorer](), set[str]()
    config = json.loads((old.metadata or {}).get(CONFIG_KEY, b"{}"))
    for scorer in scorers:
        names = [c.name for c in scorer.columns]
        new = [c.name for c in scorer.columns if c.name not in old.names]
        other = [c.name for c in scorer.columns if c.name in old.names and not _same(old.field(c.name), c.type, scorer)]
        if new or other or stale & set(scorer.requires):
            outdated.append(scorer)
            stale |= set(names)
        added += new
        if other:
            changed.append(_told(definition_of(old.field(other[0])) or {}, config, scorer))
    wanted = {c.name for c, _ in columns_of(scorers)}
    removed = [f.name for f in old if definition_of(f) is not None and f.name not in wanted]
    return Difference(added, list(dict.fromkeys(changed)), removed, outdated)


def _same(field: pa.Field, kind: pa.DataType, scorer: Scorer) -> bool:
    return field.type == kind and definition_of(field) == json.loads(json.dumps(scorer.definition))


def _told(old: Mapping[str, Any], config: Mapping[str, Any], scorer: Scorer) -> str:
    """The options that were given otherwise, by their names; where it is none of them, what else is in the definition,
    the version first."""
    was = dict(config)
    for section in [name for name, fields in config.items() if isinstance(fields, dict)]:
        was |= {f"{section}.{name}": value for name, value in was.pop(section).items()}
    given = [f"{k} {was[k]!r} -> {v!r}" for k, v in scorer.options.items() if k in was and was[k] != v]
    if given:
        return ", ".join(given)
    new = scorer.definition
    names = sorted(old.keys() | new.keys(), key=lambda k: (k != "version", k))
    derived = [f"{k} {_short(old.get(k))} -> {_short(new.get(k))}" for k in names if old.get(k) != new.get(k)]
    return f"{scorer.name}: " + ", ".join(derived[:3])


def _short(value: Any) -> str:
    text = str(value)
    return repr(text[:12] + "…" if len(text) > 40 else value)


class Kept:
    """The rows of a manifest that stay as they are, while `outdated` scorers measure their columns anew."""

    def __init__(self, manifest: Manifest, schema: pa.Schema, outdated: Sequence[Scorer]) -> None:
        self._manifest, self._schema, self._outdated = manifest, schema, outdated
        self._made = {c.name for c, _ in columns_of(outdated)}
        self._members: dict[str, tuple[str, list[str]]] = {}  # of a new shard: the old one, and videos by uri
        self._gone: set[str] = set()
        self._read: tuple[str, Tables] | None = None

    @property
    def measures(self) -> bool:
        """Whether anything is measured at all."""
        return bool(self._outdated)

    @property
    def needed(self) -> list[str]:
        """Columns that the outdated scorers read and do not make."""
        return sorted({c for s in self._outdated for c in s.requires} - self._made)

    def take(self, shard: str, old: str, videos: Sequence[str], gone: Iterable[str]) -> None:
        """Say what a new shard is made of: some videos of an old one; those that are `gone` cannot be measured."""
        self._members[shard] = (old, list(videos))
        self._gone |= set(gone)

    def __contains__(self, shard: str) -> bool:
        return shard in self._members

    @property
    def shards(self) -> list[str]:
        """The new shards that were taken."""
        return list(self._members)

    def known(self, old: str) -> dict[str, dict[str, dict[str, Any]]]:
        """By video of an old shard and by its clips, the columns that are needed."""
        videos: dict[str, dict[str, dict[str, Any]]] = {}
        if self.needed:
            for clip in self._tables(old)["clips"].select(["video_id", "clip_id", *self.needed]).to_pylist():
                videos.setdefault(clip.pop("video_id"), {})[clip.pop("clip_id")] = clip
        return videos

    def joined(self, shard: Shard) -> Tables:
        """The old rows of a new shard with the new columns.

        Raises CurationError if a video did not come apart into the same clips as before.
        """
        old, members = self._members[shard.name]
        tables = {name: _of(table, members) for name, table in self._tables(old).items()}
        measured = {row["clip_id"]: row for row in shard.clips}
        failed = {row["uri"]: row for row in shard.errors if row["clip_id"] is None}
        clips, errors = tables["clips"], [row for row in shard.errors if row["clip_id"] is not None]
        for uri, video_id, clip_id in zip(*(clips[c].to_pylist() for c in ("uri", "video_id", "clip_id")), strict=True):
            if measured.pop(clip_id, None) is None and self._outdated:
                errors += self._unmeasured(uri, video_id, clip_id, failed.get(uri))
        if measured:
            raise CurationError(
                f"{next(iter(measured.values()))['uri']}: other clips come of it than before, perhaps by another "
                "version of a library; give --remeasure to measure everything anew"
            )
        rows = {row["clip_id"]: row for row in shard.clips}
        columns = [self._column(field, clips, rows) for field in self._schema]
        return {
            "videos": tables["videos"],
            "shots": tables["shots"],
            "errors": pa.concat_tables(
                [self._still_true(tables["errors"]), pa.Table.from_pylist(errors, FIXED["errors"])]
            ),
            "clips": pa.table(columns, schema=self._schema),
        }

    def _column(self, field: pa.Field, clips: pa.Table, rows: Mapping[str, Mapping[str, Any]]) -> pa.ChunkedArray:
        if field.name not in self._made:
            return clips[field.name].cast(field.type)
        values = [rows.get(clip_id, {}).get(field.name) for clip_id in clips["clip_id"].to_pylist()]
        return pa.chunked_array([pa.array(values, field.type)])

    def _still_true(self, errors: pa.Table) -> pa.Table:
        steps = pa.array([s.name for s in self._outdated], pa.string())
        measured_anew = pc.and_(pc.is_valid(errors["clip_id"]), pc.is_in(errors["step"], steps))  # type: ignore[attr-defined]
        return errors.filter(pc.invert(measured_anew))  # type: ignore[attr-defined]

    def _unmeasured(
        self, uri: str, video_id: str, clip_id: str, failed: Mapping[str, Any] | None
    ) -> list[dict[str, Any]]:
        if failed:
            why = (failed["error"], failed["message"])
        elif uri in self._gone:
            why = ("SourceGone", f"{uri} is not there any more, so that this score could not be measured anew")
        else:
            why = ("ClipGone", f"{uri} did not give this clip again; see why with --remeasure")
        return [error_row(uri, video_id, clip_id, Failure(s.name, *why)) for s in self._outdated]

    def _tables(self, old: str) -> Tables:
        if self._read is None or self._read[0] != old:
            self._read = (old, self._manifest.tables(old))
        return self._read[1]


def _of(table: pa.Table, videos: Sequence[str]) -> pa.Table:
    return table.filter(pc.is_in(table["uri"], pa.array(videos, pa.string())))  # type: ignore[attr-defined]
