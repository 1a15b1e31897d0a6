"""What a manifest already holds, and what is left to measure."""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation import sources, store
from curation.collect import Task
from curation.config import ClipSettings, CurateConfig, Profile, TextSettings, WeightSettings
from curation.cuts.cascade import RULES
from curation.cuts.network import weights_sha256
from curation.errors import CurationError, UnreadableVideo
from curation.manifest import Manifest, stored
from curation.progress import Progress
from curation.rescore import Difference, Kept, difference, structure
from curation.schema import CLIP_IDENTITY, SCHEMA_VERSION, VERSION_KEY, definition_of, score_field
from curation.scores.base import Scorer, columns_of
from curation.video.decoder import READER

_DIGEST = 64  # hex digits of a sha256
_NOT_MEASURING = {
    "videos", "out", "videos_per_shard", "cpus", "remeasure", "retry_failed", "no_progress_minutes", "duplicates",
    "memory_gb", "alone_minutes"
}  # fmt: skip
Row = Mapping[str, Any]
"""What the manifest knows of a video, and the shard that holds it."""


@dataclass(slots=True)
class Plan:
    """What is to be done, and where it goes: into the manifest, or into the one that is to take its place."""

    tasks: list[Task]
    target: Manifest
    schema: pa.Schema
    scorers: list[Scorer]  # who measures
    kept: Kept | None = None  # what stays, where only some scores are measured

    @property
    def replaces(self) -> bool:
        """Whether the target takes the manifest's place when it is complete."""
        return self.target.root.name == ".next"

    @property
    def given(self) -> list[str]:
        """Columns that scorers read and nobody measures in this run."""
        return self.kept.needed if self.kept else []


def measuring(config: CurateConfig) -> dict[str, Any]:
    """What clips and numbers depend on: the settings that the chosen methods read, the cut network, its rules, the
    reader."""
    exclude: dict[str, Any] = dict.fromkeys(_NOT_MEASURING, True)
    said = config.model_dump(mode="json", exclude=exclude | _unread(config))
    said["cuts"] |= {"network_sha256": weights_sha256(), "rules": RULES}
    return said | {"reader": READER}


def _unread(config: CurateConfig) -> dict[str, set[str]]:
    """Settings that mean nothing beside the others, by section."""
    unread: dict[str, set[str]] = {}
    if not config.text.enabled:
        unread["text"] = set(TextSettings.model_fields) - {"enabled"}
    elif config.text.method != "light":
        unread["text"] = {"check_every", "canvas_px"} if config.text.method == "cascade" else {"check_every"}
    if config.text.enabled and not config.text.recognise:
        unread.setdefault("text", set()).add("languages")
    if config.motion.method != "raft":
        unread["motion"] = {"raft_weights"}
    if config.clips.stride_s is not None:
        unread["clips"] = set(ClipSettings.model_fields) - {"stride_s"}
    if config.profile is Profile.embedded:
        unread["weights"] = set(WeightSettings.model_fields) - {"folder"}
    return unread


def clip_schema(config: CurateConfig, scorers: Sequence[Scorer]) -> pa.Schema:
    """The clips table of a configuration: identity, then every score with its definition."""
    fields = [score_field(c.name, c.type, c.description, c.unit, d) for c, d in columns_of(scorers)]
    noted = {VERSION_KEY: str(SCHEMA_VERSION), "rushes.config": json.dumps(measuring(config), sort_keys=True)}
    return pa.schema([*CLIP_IDENTITY, *fields]).with_metadata(noted)


def plan(
    config: CurateConfig,
    manifest: Manifest,
    scorers: Sequence[Scorer],
    found: Sequence[sources.Source],
    progress: Progress,
    messages: list[str],
) -> Plan:
    """What is left to measure. What no longer holds is taken out of the manifest first: changed files, and on request
    those with failures. What was noticed goes to `messages`.

    With other settings the results go to `manifest.next`: everything, where other clips would come of the videos; else
    the scores concerned alone, while the rest of each row is kept.

    Raises CurationError when a score or the clips were measured with other settings and `remeasure` is not given.
    """
    schema = clip_schema(config, scorers)
    old = manifest.config()
    clips = [] if old is None else list(_differences(structure(old), structure(measuring(config)), ""))
    scores = Difference([], [], [], []) if old is None or clips else difference(manifest.schema("clips"), scorers)
    refused = [*clips, *scores.changed, *(f"{column} is not measured" for column in scores.removed)]
    if refused and not config.remeasure:
        raise CurationError(
            f"out: {str(manifest.root)!r} was measured with other settings ({'; '.join(refused[:4])}); choose another "
            f"--out, or give --remeasure to measure {'everything' if clips else 'these scores'} anew"
        )
    target = manifest.next if clips or scores.any else manifest
    if target is not manifest:
        _begin_next(config, target, scorers)
    rows = _known(manifest)
    staged = _known(target) if target is not manifest else {}
    identified = _identify(found, rows | staged, progress, sampled=not clips)
    here = {stored(uri): video_id for uri, video_id in identified.ids.items()}
    tried: dict[str, int] = {}
    if clips:
        _tell_of_others(rows, here, messages)
    else:
        rows, tried = _refresh(config, manifest, rows, identified, messages)
        _tell_of_sampled(rows, messages)
    done = rows if target is manifest else _refresh(config, target, staged, identified, [])[0]
    kept = Kept(manifest, schema, scores.outdated) if scores.any else None
    said = _said(schema)
    tasks = [] if kept is None else _again(config, kept, rows, done, said)
    if scores.any:
        names = ", ".join(s.name for s in scores.outdated) or "nothing"
        messages.append(f"measured anew: {names}; other scores are kept")
    measured = {r["video_id"]: uri for uri, r in (done | (rows if kept else {})).items() if r["status"] == "ok"}
    seen = done.keys() | (rows.keys() if kept else set())
    fresh = [s for s in identified.found if stored(s.uri) not in seen]
    tasks += _new(config, said, fresh, identified, measured, tried)
    return Plan(tasks, target, schema, scores.outdated if kept else list(scorers), kept)


def _tell_of_others(rows: Mapping[str, Row], here: Mapping[str, Any], messages: list[str]) -> None:
    if others := [uri for uri in rows if uri not in here]:
        messages.append(
            f"{len(others)} videos of the manifest, {others[0]} for one, are not among those that were given; with the "
            "new settings they are no longer in it"
        )


def _begin_next(config: CurateConfig, target: Manifest, scorers: Sequence[Scorer]) -> None:
    """Make sure that what the next manifest holds already was measured with these settings."""
    target.sweep()
    said = target.config()
    if said is None or (
        structure(said) == structure(measuring(config)) and not difference(target.schema("clips"), scorers).any
    ):
        return
    if not config.remeasure:
        raise CurationError(
            f"out: a measuring with still other settings waits in {str(target.root)!r}; finish it with its settings, "
            "or give --remeasure to drop it"
        )
    for shard in target.shards():
        target.remove(shard)


def _again(config: CurateConfig, kept: Kept, rows: Mapping[str, Row], done: Mapping[str, Row], said: str) -> list[Task]:
    """The videos of which some scores are measured anew; what is kept of them goes to `kept`."""
    tasks: list[Task] = []
    by_shard: dict[str, list[Row]] = {}
    for uri, row in rows.items():
        if uri not in done:
            by_shard.setdefault(row["shard"], []).append(row)
    for shard, members in by_shard.items():
        known = kept.known(shard)
        for at in range(0, len(members), config.videos_per_shard):
            group = members[at : at + config.videos_per_shard]
            name = _shard_name(said, [(r["video_id"] or "", r["uri"], 0) for r in group])
            there = {r["uri"] for r in group if r["status"] == "ok" and _unchanged(r)}
            gone = {r["uri"] for r in group if r["status"] == "ok"} - there
            kept.take(name, shard, [r["uri"] for r in group], gone)
            for row in group if kept.measures else ():
                if row["uri"] in there:
                    source = _state(row)
                    tasks.append(Task(name, source, row["video_id"], known=known.get(row["video_id"])))
    return tasks


def _unchanged(row: Row) -> bool:
    """Whether a measured file is still there, with the content that it had."""
    return not sources.changed(_state(row), row["video_id"])


def _new(
    config: CurateConfig,
    said: str,
    fresh: Sequence[sources.Source],
    identified: "_Identified",
    measured: dict[str, str],
    tried: Mapping[str, int],
) -> list[Task]:
    """The videos to measure from the beginning, in shards; of several with the same bytes one.

    Large files come first: what takes long begins early, and the videos of a shard end at about the same time.
    """
    tasks: list[Task] = []
    ids, problems = identified.ids, identified.problems
    fresh = sorted(fresh, key=lambda s: (-s.size, s.uri))
    for at in range(0, len(fresh), config.videos_per_shard):
        group = fresh[at : at + config.videos_per_shard]
        attempts = {s.uri: tried.get(stored(s.uri), 0) for s in group}
        name = _shard_name(said, [(ids[s.uri] or "", s.uri, attempts[s.uri]) for s in group])
        for source in group:
            video_id = ids[source.uri]
            copy_of = measured.get(video_id) if video_id else None
            tasks.append(Task(name, source, video_id, problems.get(source.uri), copy_of, attempts[source.uri]))
            if video_id:
                measured.setdefault(video_id, source.uri)
    return tasks


def _known(manifest: Manifest) -> dict[str, Row]:
    """The manifest's videos by uri, each with the shard that holds it."""
    columns = ["uri", "video_id", "size_bytes", "modified_ns", "revision", "status"]
    rows: dict[str, Row] = {}
    with manifest.readable():
        for shard, path in zip(manifest.shards(), manifest.fragments("videos"), strict=True):
            rows |= {row["uri"]: row | {"shard": shard} for row in _read(path, columns)}
    return rows


def _read(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a fragment of videos, with nulls for the columns that its version lacks."""
    there = set(store.read_schema(path).names)
    missing = dict.fromkeys(c for c in columns if c not in there)
    rows = store.read_table(path, [c for c in columns if c in there]).to_pylist()
    return [row | missing for row in rows] if missing else rows


def _state(row: Row) -> sources.Source:
    """The state in which a video's file was measured."""
    return sources.Source(row["uri"], row["size_bytes"], row["modified_ns"], row["revision"])


@dataclass(slots=True)
class _Identified:
    """The files of a run with their ids by uri (None for a file that could not be read), and why some have none."""

    found: list[sources.Source]
    ids: dict[str, str | None]
    problems: dict[str, tuple[str, str]]


def _identify(
    found: Sequence[sources.Source], rows: Mapping[str, Row], progress: Progress, sampled: bool
) -> _Identified:
    """Identify the files: those that are new or touched are read, the others have the ids of their rows. `sampled`:
    whether ids of former versions, which depend on samples of a large file, are kept."""
    progress("looking at the files", 0, len(found))
    ids: dict[str, str | None] = {}
    for source in found:
        row = rows.get(stored(source.uri))
        if row is None or not row["video_id"] or not _state(row).agrees(source):
            continue
        if sampled or not sources.is_sampled(row["video_id"], source.size):
            ids[source.uri] = row["video_id"]
    if sampled:
        ids |= _moved(found, rows, ids)
    problems: dict[str, tuple[str, str]] = {}
    states: dict[str, sources.Source] = {}
    for uri, read in sources.read_all([s.uri for s in found if s.uri not in ids], progress).items():
        if isinstance(read, UnreadableVideo):
            ids[uri], problems[uri] = None, (read.step, str(read))
        else:
            states[uri], ids[uri] = read
    return _Identified([states.get(s.uri, s) for s in found], ids, problems)


def _moved(
    found: Sequence[sources.Source], rows: Mapping[str, Row], known: Mapping[str, str | None]
) -> dict[str, str | None]:
    """The ids of large files that moved since a former version sampled their content."""
    contents, ids = sources.Contents(), dict[str, str | None]()
    here = {stored(source.uri) for source in found}
    away = {
        (row["size_bytes"], row["modified_ns"]): row["video_id"]
        for uri, row in rows.items()
        if uri not in here and row["video_id"] and sources.is_sampled(row["video_id"], row["size_bytes"])
    }
    for source in found if away else ():
        former = away.get((source.size, source.modified_ns))
        if former and source.uri not in known and stored(source.uri) not in rows:
            with contextlib.suppress(UnreadableVideo):
                if contents.hold(source.uri, former):
                    ids[source.uri] = former
    return ids


def _tell_of_sampled(rows: Mapping[str, Row], messages: list[str]) -> None:
    kept = [uri for uri, r in rows.items() if r["video_id"] and sources.is_sampled(r["video_id"], r["size_bytes"])]
    if kept:
        messages.append(
            f"{len(kept)} large videos, {kept[0]} for one, keep ids of a former version, which depend on 16 MiB of "
            "each file; a file is measured again under an id of all its bytes when it is touched, or with another --out"
        )


def _refresh(
    config: CurateConfig, manifest: Manifest, rows: dict[str, Row], identified: _Identified, messages: list[str]
) -> tuple[dict[str, Row], dict[str, int]]:
    """Take out of the manifest what no longer describes the files, and say of moved ones where they are now.

    Returns the rows that hold, and of the videos that are to be tried again the attempts that were made.
    """
    here = {stored(uri): video_id for uri, video_id in identified.ids.items()}
    again = _failed(manifest, rows) if config.retry_failed else {}
    at_hand: dict[str, str] = {}  # where contents are that may have come from elsewhere
    for uri, video_id in sorted(here.items(), reverse=True):
        if video_id and uri not in rows:
            at_hand[video_id] = uri
    dropped, moved = set[str](), dict[str, str]()
    lost = set[str]()  # contents that are no longer where they were measured
    for uri, row in rows.items():
        if uri in here and row["video_id"] != here[uri]:
            messages.append(f"{uri} {_why_again(row)} and is measured again")
        elif uri not in here and row["video_id"] in at_hand and not Path(uri).exists():
            if row["status"] == "ok":
                moved[uri] = at_hand.pop(row["video_id"])
                lost.add(row["video_id"])
                messages.append(f"{uri} has moved to {moved[uri]}; its clips are kept")
                continue
        elif not (uri in again and uri in here):
            continue
        dropped.add(uri)
        lost.add(row["video_id"])
    gone = [u for u in rows if u not in here and u not in dropped and u not in moved and not Path(u).exists()]
    if gone:
        messages.append(f"{len(gone)} videos of the manifest are gone, {gone[0]} for one; their clips stay in it")
    held = {r["video_id"] for u, r in rows.items() if r["status"] != "duplicate" and u not in dropped} - lost
    dropped |= {u for u, r in rows.items() if r["status"] == "duplicate" and r["video_id"] not in held}
    concerned = {rows[uri]["shard"] for uri in dropped | moved.keys()}
    for shard in sorted(concerned):
        manifest.rewrite(shard, dropped, moved)
    tried = {uri: many for uri, many in again.items() if uri in dropped}
    rows = _known(manifest) if concerned else rows
    return (_known(manifest) if _record_states(manifest, rows, identified.found) else rows), tried


def _why_again(row: Row) -> str:
    if row["video_id"] is None:
        return "could not be read, or changed meanwhile,"
    if sources.is_sampled(row["video_id"], row["size_bytes"]):
        return "was touched since a former version sampled its content"
    return "has changed"


def _record_states(manifest: Manifest, rows: Mapping[str, Row], found: Sequence[sources.Source]) -> bool:
    """Record the present states of files whose content is known, so that no later run reads them for that. Whether
    there was one."""
    touched: dict[str, dict[str, sources.Source]] = {}
    for source in found:
        row = rows.get(stored(source.uri))
        if row is None or not row["video_id"]:
            continue
        if not _state(row).agrees(source) or (row["revision"] is None and source.revision):
            touched.setdefault(row["shard"], {})[row["uri"]] = source
    for shard, states in touched.items():
        manifest.record_states(shard, states)
    return bool(touched)


def _failed(manifest: Manifest, rows: Mapping[str, Row]) -> dict[str, int]:
    """The videos of which something could not be measured, by uri, each with the attempts that were made."""
    errors = manifest.read("errors", ["uri", "attempts"]).group_by("uri").aggregate([("attempts", "max")])
    attempts = {row["uri"]: row["attempts_max"] or 0 for row in errors.to_pylist()}
    return {uri: 0 for uri, row in rows.items() if row["status"] == "failed"} | attempts


def _said(schema: pa.Schema) -> str:
    """All settings and definitions of a clips table, short: they go into each shard's name."""
    definitions = [str(definition_of(field)) for field in schema]
    content = json.dumps([(schema.metadata or {})[b"rushes.config"].decode(), definitions])
    return hashlib.blake2b(content.encode(), digest_size=10).hexdigest()


def _shard_name(said: str, members: Iterable[tuple[str, str, int]]) -> str:
    """A name of the settings, and of each video's content, place and attempts."""
    content = json.dumps([said, [list(m) for m in members]])
    return hashlib.blake2b(content.encode(), digest_size=10).hexdigest()


def _differences(old: Any, new: Any, where: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif old != new:
        yield f"{where} {_told(old)} -> {_told(new)}"


def _told(value: Any) -> str:
    """A value in a message; of a digest its beginning says enough."""
    return repr(value[:12] + "…" if isinstance(value, str) and len(value) >= _DIGEST else value)
