"""What a manifest already holds, and what is left to measure."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curation import sources
from curation.config import ClipSettings, CurateConfig, Profile, TextSettings, WeightSettings
from curation.cuts.network import weights_sha256
from curation.errors import CurationError, UnreadableVideo
from curation.manifest import Manifest, stored
from curation.progress import Progress

_DIGEST = 64  # hex digits of a sha256
_NOT_MEASURING = {
    "videos", "out", "videos_per_shard", "cpus", "remeasure", "retry_failed", "no_progress_minutes", "duplicates",
    "memory_gb", "alone_minutes"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """A file to be measured, and the shard that its results belong to."""

    shard: str
    source: sources.Source
    video_id: str | None
    problem: tuple[str, str] | None = None  # step and message, for a file that could not even be read
    copy_of: str | None = None  # a file with the same bytes that is measured instead


def measuring(config: CurateConfig) -> dict[str, Any]:
    """What clips and numbers depend on: the settings that the chosen methods read, and the cut network's weights."""
    exclude: dict[str, Any] = dict.fromkeys(_NOT_MEASURING, True)
    said = config.model_dump(mode="json", exclude=exclude | _unread(config))
    said["cuts"]["network_sha256"] = weights_sha256()
    return said


def _unread(config: CurateConfig) -> dict[str, set[str]]:
    """Settings that mean nothing beside the others, by section."""
    unread: dict[str, set[str]] = {}
    if not config.text.enabled:
        unread["text"] = set(TextSettings.model_fields) - {"enabled"}
    elif config.text.method != "light":
        unread["text"] = {"check_every", "canvas_px"} if config.text.method == "cascade" else {"check_every"}
    if config.motion.method != "raft":
        unread["motion"] = {"raft_weights"}
    if config.clips.stride_s is not None:
        unread["clips"] = set(ClipSettings.model_fields) - {"stride_s"}
    if config.profile is Profile.embedded:
        unread["weights"] = set(WeightSettings.model_fields) - {"folder"}
    return unread


def plan(
    config: CurateConfig,
    manifest: Manifest,
    found: Sequence[sources.Source],
    progress: Progress,
    messages: list[str],
) -> list[Task]:
    """The videos to measure, in shards. Shards of the manifest that no longer hold are removed first: those of changed
    or moved files, and on request those with failures or other settings. What was noticed goes to `messages`.

    Raises CurationError when the manifest was measured with other settings and `remeasure` is not given.
    """
    changed = _differs(config, manifest)
    if changed and not config.remeasure:
        raise CurationError(
            f"out: {str(manifest.root)!r} was measured with other settings ({'; '.join(changed[:4])}); "
            "choose another --out, or give --remeasure to replace it"
        )
    rows = _known(manifest)
    ids, problems = _identify(found, rows, progress)
    stale = set(manifest.shards()) if changed else _stale(config, rows, ids, messages)
    for shard in stale:
        manifest.remove(shard)
    rows = {uri: row for uri, row in rows.items() if row["shard"] not in stale}
    fresh = [s for s in found if stored(s.uri) not in rows]
    measured = {r["video_id"]: uri for uri, r in rows.items() if r["status"] == "ok"}
    tasks: list[Task] = []
    for at in range(0, len(fresh), config.videos_per_shard):
        group = fresh[at : at + config.videos_per_shard]
        name = _shard_name(config, [(ids[s.uri] or "", s.uri) for s in group])
        for source in group:
            video_id = ids[source.uri]
            copy_of = measured.get(video_id) if video_id else None
            tasks.append(Task(name, source, video_id, problems.get(source.uri), copy_of))
            if video_id:
                measured.setdefault(video_id, source.uri)
    return tasks


def _known(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """The manifest's videos by uri, each with the shard that holds it."""
    columns = ["uri", "video_id", "size_bytes", "modified_ns", "status"]
    return {
        row["uri"]: row | {"shard": shard}
        for shard, path in zip(manifest.shards(), manifest.fragments("videos"), strict=True)
        for row in pq.read_table(path, columns=columns).to_pylist()
    }


def _identify(
    found: Sequence[sources.Source], rows: dict[str, dict[str, Any]], progress: Progress
) -> tuple[dict[str, str | None], dict[str, tuple[str, str]]]:
    """Content names by uri, read again only for files that are new or touched; and what could not be read."""
    ids: dict[str, str | None] = {}
    problems: dict[str, tuple[str, str]] = {}
    for at, source in enumerate(found):
        progress("looking at the files", at, len(found))
        row = rows.get(stored(source.uri))
        if row and row["video_id"] and (row["size_bytes"], row["modified_ns"]) == (source.size, source.modified_ns):
            ids[source.uri] = row["video_id"]
            continue
        try:
            ids[source.uri] = sources.identify(source.uri)
        except UnreadableVideo as error:
            ids[source.uri], problems[source.uri] = None, (error.step, str(error))
    progress("looking at the files", len(found), len(found))
    return ids, problems


def _stale(
    config: CurateConfig, rows: dict[str, dict[str, Any]], ids: dict[str, str | None], messages: list[str]
) -> set[str]:
    """Shards that no longer describe the files."""
    stale: set[str] = set()
    here = {stored(uri): video_id for uri, video_id in ids.items()}
    lost: set[str] = set()  # contents that are no longer where they were measured
    for uri, row in rows.items():
        if uri in here and row["video_id"] != here[uri]:
            messages.append(f"{uri} has changed and is measured again")
        elif uri not in here and not Path(uri).exists() and row["video_id"] in here.values():
            messages.append(f"{uri} has moved and is measured again where it is now")
        elif not (config.retry_failed and row["status"] == "failed" and uri in here):
            continue
        stale.add(row["shard"])
        lost.add(row["video_id"])
    gone = [u for u, r in rows.items() if u not in here and r["shard"] not in stale and not Path(u).exists()]
    if gone:
        messages.append(f"{len(gone)} videos of the manifest are gone, {gone[0]} for one; their clips stay in it")
    stale |= {r["shard"] for r in rows.values() if r["status"] == "duplicate" and r["video_id"] in lost}
    return stale


def _shard_name(config: CurateConfig, members: Iterable[tuple[str, str]]) -> str:
    content = json.dumps([measuring(config), [list(m) for m in members]], sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=10).hexdigest()


def _differs(config: CurateConfig, manifest: Manifest) -> list[str]:
    """Fields in which the manifest's settings differ from these."""
    old = manifest.config()
    return [] if old is None else list(_differences(old, measuring(config), ""))


def _differences(old: Any, new: Any, where: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif old != new:
        yield f"{where} {_told(old)} -> {_told(new)}"


def _told(value: Any) -> str:
    """A value in a message; of a digest its beginning says enough."""
    return repr(value[:12] + "…" if isinstance(value, str) and len(value) >= _DIGEST else value)
