"""Curation on Ray Data: the one file of curation that knows Ray.

Videos stream through reading tasks (the single decode) into scoring actors; the driver only collects rows and commits a
shard when all of its videos are complete. Work runs at least once, results appear exactly once.
"""

import contextlib
import hashlib
import json
import logging
import os
import pickle
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data

from curation import sources
from curation.config import CurateConfig
from curation.engine import Clip, VideoPass
from curation.errors import CurationError, UnreadableVideo
from curation.manifest import CLIP_IDENTITY, SCHEMA_VERSION, Manifest, Shard, score_field
from curation.progress import Progress, silent
from curation.scores import scorers_for
from curation.scores.base import Failure, Scored, Scorer, columns_of, run_scorer
from curation.weights import require

_NOT_MEASURING = {"videos", "out", "videos_per_shard", "cpus", "remeasure", "retry_failed", "no_progress_minutes"}
# Ray's books, not real load: how many readers and scorers run is set by their pools. Ray Data reserves only half of a
# machine for what an operator needs at least, and hangs where that does not fit.
_READ_CPUS = 0.25
_SCORE_CPUS = 0.25
_SCORE_BATCH = 4
_RAY_ATTEMPTS = 4  # on a busy machine its start can miss a fixed limit of 30 s


@dataclass(slots=True)
class CurationSummary:
    """What a run found. Counts are of the whole manifest; `measured` of this run alone."""

    out: str
    manifest: str
    measured: int = 0
    already_done: int = 0
    videos: int = 0
    videos_failed: int = 0
    duplicates: int = 0
    shots: int = 0
    clips: int = 0
    errors: int = 0
    seconds: float = 0.0
    messages: list[str] = field(default_factory=list)

    @property
    def nothing_to_do(self) -> bool:
        """Whether everything had been measured before."""
        return self.measured == 0


@dataclass(frozen=True, slots=True)
class _Video:
    """A file to be measured, and the shard that its results belong to."""

    shard: str
    source: sources.Source
    video_id: str | None
    problem: tuple[str, str] | None  # step and message, for a file that could not even be read


def curate(config: CurateConfig, progress: Progress = silent) -> CurationSummary:
    """Measure every video that the manifest lacks. Raises CurationError for what the user can mend."""
    began = time.monotonic()
    found = sources.find(config.videos)
    require(config)
    scorers = scorers_for(config)
    schema = clip_schema(config, scorers)
    manifest = Manifest(Path(config.out).expanduser() / "manifest")
    with manifest.locked():
        manifest.sweep()
        summary = CurationSummary(out=str(config.out), manifest=str(manifest.root))
        todo = _plan(config, manifest, found, summary, progress)
        if todo:
            with _ray(config):
                _run(config, scorers, schema, manifest, todo, progress)
    summary.measured = len(todo)
    _count(manifest, summary)
    summary.seconds = time.monotonic() - began
    return summary


def clip_schema(config: CurateConfig, scorers: Sequence[Scorer]) -> pa.Schema:
    """The clips table of this configuration: identity, then every score with its definition."""
    fields = [score_field(c.name, c.type, c.description, c.unit, d) for c, d in columns_of(scorers)]
    return pa.schema([*CLIP_IDENTITY, *fields]).with_metadata(
        {
            "rushes.schema_version": str(SCHEMA_VERSION),
            "rushes.config": json.dumps(measuring(config), sort_keys=True),
        }
    )


def measuring(config: CurateConfig) -> dict[str, Any]:
    """The part of a configuration that numbers depend on."""
    return config.model_dump(mode="json", exclude=_NOT_MEASURING)


# --- what is to be done


def _plan(
    config: CurateConfig,
    manifest: Manifest,
    found: Sequence[sources.Source],
    summary: CurationSummary,
    progress: Progress,
) -> list[_Video]:
    """The videos to measure, in shards. Shards of the manifest that no longer hold are removed first."""
    _check_settings(config, manifest)
    present = {s.uri: s for s in found}
    shard_of, rows = _known(manifest)
    stale: set[str] = set()
    ids: dict[str, str | None] = {}
    problems: dict[str, tuple[str, str]] = {}
    for at, source in enumerate(found):
        progress("looking at the files", at, len(found))
        row = rows.get(_stored(source.uri))
        if row and (row["size_bytes"], row["modified_ns"]) == (source.size, source.modified_ns):
            ids[source.uri] = row["video_id"]
            if config.retry_failed and row["status"] == "failed":
                stale.add(shard_of[row["uri"]])
            continue
        try:
            ids[source.uri] = sources.identify(source.uri)
        except UnreadableVideo as error:
            ids[source.uri], problems[source.uri] = None, (error.step, str(error))
        if row and row["video_id"] != ids[source.uri]:
            summary.messages.append(f"{source.uri} has changed and is measured again")
            stale.add(shard_of[row["uri"]])
    gone = [uri for uri, row in rows.items() if uri not in {_stored(u) for u in present}]
    moved = {i for i in ids.values() if i} & {rows[u]["video_id"] for u in gone if not Path(u).exists()}
    for uri in gone:
        if rows[uri]["video_id"] in moved:
            summary.messages.append(f"{uri} has moved; its shard is measured again")
            stale.add(shard_of[uri])
    if config.remeasure and _differs(config, manifest):
        stale.update(manifest.shards())
    for shard in stale:
        manifest.remove(shard)
    fresh = [s for s in found if shard_of.get(_stored(s.uri), "") in stale or _stored(s.uri) not in rows]
    summary.already_done = len(found) - len(fresh)
    todo: list[_Video] = []
    for at in range(0, len(fresh), config.videos_per_shard):
        group = fresh[at : at + config.videos_per_shard]
        name = _shard_name(config, [(ids[s.uri] or "", s.uri) for s in group])
        todo += [_Video(name, s, ids[s.uri], problems.get(s.uri)) for s in group]
    return todo


def _known(manifest: Manifest) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """By uri: the shard that holds a video, and its row."""
    shard_of, rows = {}, {}
    columns = ["uri", "video_id", "size_bytes", "modified_ns", "status"]
    for shard, path in zip(manifest.shards(), manifest.fragments("videos"), strict=True):
        for row in pq.read_table(path, columns=columns).to_pylist():
            shard_of[row["uri"]], rows[row["uri"]] = shard, row
    return shard_of, rows


def _stored(uri: str) -> str:
    """A path as the manifest spells it."""
    return uri.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


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
        yield f"{where} {old!r} -> {new!r}"


def _check_settings(config: CurateConfig, manifest: Manifest) -> None:
    changed = _differs(config, manifest)
    if changed and not config.remeasure:
        raise CurationError(
            f"out: {str(manifest.root)!r} was measured with other settings ({'; '.join(changed[:4])}); "
            "choose another --out, or give --remeasure to replace it"
        )


# --- doing it


def _run(
    config: CurateConfig,
    scorers: Sequence[Scorer],
    schema: pa.Schema,
    manifest: Manifest,
    todo: Sequence[_Video],
    progress: Progress,
) -> None:
    cpus = config.cpus or max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting = _Collector(todo)
    for shard in waiting.settle_unreadable():
        manifest.commit(shard, schema)
    readable = [v for v in todo if waiting.expects(v)]
    progress("measuring", len(todo) - len(readable), len(todo))
    if readable:
        dataset = _dataset(config, scorers, readable, cpus)
        for row in _watched(dataset, config.no_progress_minutes * 60, waiting):
            for shard in waiting.add(row["uri"], pickle.loads(row["payload"])):
                manifest.commit(shard, schema)
            progress("measuring", waiting.videos_done, len(todo))
    if waiting.open_videos:
        raise CurationError(f"{len(waiting.open_videos)} videos gave no result; run the same command again")


def _dataset(
    config: CurateConfig, scorers: Sequence[Scorer], videos: Sequence[_Video], cpus: int
) -> "ray.data.Dataset":
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # progress is told by our own means
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    rows = [{"index": i, "video": pickle.dumps(v)} for i, v in enumerate(videos)]
    actors = max(1, min(cpus, len(videos)))
    need = 2 * (actors * _SCORE_CPUS + _READ_CPUS)
    have = ray.cluster_resources().get("CPU", 0)
    if need > have:
        raise CurationError(
            f"cpus: the plan needs {need:g} CPUs (twice {actors} scorers of {_SCORE_CPUS:g} and a reader of "
            f"{_READ_CPUS:g}) and Ray has {have:g}; lower --cpus or enlarge the cluster"
        )
    return (
        ray.data.from_items(rows, override_num_blocks=len(rows))
        .flat_map(partial(_read, config=config), num_cpus=_READ_CPUS, compute=ray.data.TaskPoolStrategy(cpus))
        .map_batches(
            _scoring(scorers),
            batch_size=_SCORE_BATCH,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=_SCORE_CPUS,
        )
    )


@dataclass(frozen=True, slots=True)
class _End:
    """The last row of a video: its own row and what belongs to it, and how many clips were sent before."""

    clips: int
    video: dict[str, Any]
    shots: list[dict[str, Any]]
    failures: list[tuple[str | None, Failure]]


def _read(row: dict[str, Any], config: CurateConfig) -> Iterator[dict[str, Any]]:
    """One video to its clips, and then its end. Nothing a file does may take its neighbours along."""
    video: _Video = pickle.loads(row["video"])
    uri, sent = video.source.uri, 0
    reading: VideoPass | None = None
    failures: list[tuple[str | None, Failure]] = []
    try:
        reading = VideoPass(uri, config, video.video_id, threads=1)
        for clip in reading:
            yield {"uri": uri, "payload": pickle.dumps(clip, protocol=5)}
            sent += 1
    except UnreadableVideo as error:
        failures = [(None, Failure(error.step, type(error).__name__, str(error)))]
    except Exception as error:  # noqa: BLE001 - a decoder may raise anything; it becomes this video's error row
        failures = [(None, Failure("decode", type(error).__name__, f"{uri}: {error}"[:500]))]
    end = _End(sent, *_video_rows(video, reading, failures, sent))
    yield {"uri": uri, "payload": pickle.dumps(end, protocol=5)}


def _scoring(scorers: Sequence[Scorer]) -> type:
    """The class of an actor that holds the weights and turns clips into rows of scores. The scorers travel inside the
    class: constructor arguments would live in the object store, where a restarted actor may no longer find them."""

    class Score:
        def __init__(self) -> None:
            for scorer in scorers:
                scorer.load()

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            content = [pickle.loads(p) for p in batch["payload"]]
            clips = [c for c in content if isinstance(c, Clip)]
            scored = [Scored() for _ in clips]
            for scorer in scorers:
                run_scorer(scorer, [c.frames for c in clips], scored)
            measured = iter(zip(clips, scored, strict=True))
            out = [_clip_row(*next(measured)) if isinstance(c, Clip) else c for c in content]
            return {"uri": batch["uri"], "payload": [pickle.dumps(o, protocol=5) for o in out]}

    return Score


def _watched(dataset: "ray.data.Dataset", limit_s: float, waiting: "_Collector") -> Iterator[dict[str, Any]]:
    """The dataset's rows as they come. Raises CurationError when none has come for `limit_s` seconds."""
    rows: queue.Queue[Any] = queue.Queue(maxsize=64)
    finished = object()

    def pump() -> None:
        try:
            for row in dataset.iter_rows():
                rows.put(row)
            rows.put(finished)
        except BaseException as error:  # noqa: BLE001 - handed to the caller, who raises it
            rows.put(error)

    threading.Thread(target=pump, daemon=True).start()
    while True:
        try:
            row = rows.get(timeout=limit_s)
        except queue.Empty:
            names = ", ".join(sorted(waiting.open_videos)[:5])
            raise CurationError(
                f"nothing has finished for {limit_s / 60:g} minutes (no_progress_minutes); still open: {names}"
            ) from None
        if row is finished:
            return
        if isinstance(row, BaseException):
            raise row
        yield row


class _Collector:
    """Gathers rows until a shard is whole."""

    def __init__(self, todo: Sequence[_Video]) -> None:
        self._by_shard: dict[str, list[_Video]] = {}
        for video in todo:
            self._by_shard.setdefault(video.shard, []).append(video)
        self._video = {v.source.uri: v for v in todo}
        self._clips: dict[str, list[tuple[dict[str, Any], list[Failure]]]] = {u: [] for u in self._video}
        self._end: dict[str, _End] = {}
        self._first = _first_of_each_content(todo)
        self.videos_done = 0

    @property
    def open_videos(self) -> set[str]:
        """Videos of which something is still to come."""
        return {u for u in self._video if u not in self._end or len(self._clips[u]) < self._end[u].clips}

    def expects(self, video: _Video) -> bool:
        """Whether the video has to be read at all."""
        return video.source.uri not in self._end

    def settle_unreadable(self) -> list[Shard]:
        """End the videos that need no decoding: unreadable files, and further copies of the same bytes."""
        out: list[Shard] = []
        for uri, video in self._video.items():
            if video.problem is not None:
                failure = Failure(video.problem[0], "UnreadableVideo", video.problem[1])
                out += self._finish(uri, _End(0, *_video_rows(video, None, [(None, failure)], 0)))
            elif (original := self._first[video.video_id]) != uri:
                row, shots, failures = _video_rows(video, None, [], 0)
                row |= {"status": "duplicate", "message": f"the same bytes as {original}"}
                out += self._finish(uri, _End(0, row, shots, failures))
        return out

    def add(self, uri: str, content: Any) -> list[Shard]:
        """Take a clip's row or a video's end. Returns the shards that became whole."""
        if isinstance(content, _End):
            return self._finish(uri, content)
        self._clips[uri].append(content)
        return self._check(uri)

    def _finish(self, uri: str, end: _End) -> list[Shard]:
        self._end[uri] = end
        return self._check(uri)

    def _check(self, uri: str) -> list[Shard]:
        if uri not in self._end or len(self._clips[uri]) < self._end[uri].clips:
            return []
        self.videos_done += 1
        shard = self._video[uri].shard
        members = [v.source.uri for v in self._by_shard[shard]]
        if any(m in self.open_videos for m in members):
            return []
        return [self._shard(shard, members)]

    def _shard(self, name: str, members: Sequence[str]) -> Shard:
        videos, shots, errors, clips = [], [], [], []
        for uri in members:
            end = self._end[uri]
            video_id = end.video["video_id"]
            videos.append(end.video)
            shots += end.shots
            errors += [_error_row(uri, video_id, clip, failure) for clip, failure in end.failures]
            for row, failures in sorted(self._clips.pop(uri), key=lambda c: c[0]["start"]):
                clips.append(row)
                errors += [_error_row(uri, video_id, row["clip_id"], failure) for failure in failures]
            self._clips[uri] = []
            self._end[uri] = _End(0, end.video, [], [])
        return Shard(name, videos, shots, errors, clips)


def _first_of_each_content(todo: Sequence[_Video]) -> dict[str | None, str]:
    first: dict[str | None, str] = {}
    for video in todo:
        first.setdefault(video.video_id, video.source.uri)
    return first


# --- rows


def _video_rows(
    video: _Video, reading: VideoPass | None, failures: list[tuple[str | None, Failure]], clips: int
) -> tuple[dict[str, Any], list[dict[str, Any]], list[tuple[str | None, Failure]]]:
    """A video's row, its shots and its failures."""
    source = video.source
    row: dict[str, Any] = {
        "uri": source.uri,
        "video_id": video.video_id,
        "size_bytes": source.size,
        "modified_ns": source.modified_ns,
        "status": "failed" if failures else "ok",
        "message": failures[0][1].message if failures else None,
        "shots": 0,
        "clips": clips,
    }
    if reading is None:
        return row, [], failures
    info = reading.info
    names = "container codec pix_fmt width height coded_width coded_height rotation fps variable_rate duration frames"
    row |= {name: getattr(info, name) for name in names.split()} | {"shots": len(reading.shots)}
    shots = [
        {
            "video_id": video.video_id,
            "uri": source.uri,
            "shot": s.index,
            "start": s.start,
            "end": s.end,
            "begins_with": s.begins_with,
            "ends_with": s.ends_with,
            "clips": s.clips,
            "reason": s.reason,
        }
        for s in reading.shots
    ]
    return row, shots, [*reading.failures, *failures]


def _clip_row(clip: Clip, scored: Scored) -> tuple[dict[str, Any], list[Failure]]:
    frames = clip.frames
    row = {
        "clip_id": frames.clip_id,
        "video_id": frames.video_id,
        "uri": frames.uri,
        "shot": clip.shot,
        "start": frames.start,
        "end": frames.end,
        "start_frame": clip.start_frame,
        "frames": clip.frame_count,
        "fps": frames.fps,
        "width": frames.width,
        "height": frames.height,
        "starts_on_keyframe": clip.starts_on_keyframe,
        "preview": clip.preview,
        **scored.values,
    }
    return row, scored.failures


def _error_row(uri: str, video_id: str | None, clip_id: str | None, failure: Failure) -> dict[str, Any]:
    return {
        "uri": uri,
        "video_id": video_id,
        "clip_id": clip_id,
        "step": failure.step,
        "error": failure.error,
        "message": failure.message,
        "attempts": 1,
    }


def _count(manifest: Manifest, summary: CurationSummary) -> None:
    status = manifest.read("videos", ["status"])["status"].to_pylist()
    summary.videos = len(status)
    summary.videos_failed = status.count("failed")
    summary.duplicates = status.count("duplicate")
    summary.shots = manifest.read("shots", ["shot"]).num_rows
    summary.clips = manifest.read("clips", ["shot"]).num_rows
    summary.errors = manifest.read("errors", ["step"]).num_rows


# --- the engine


@contextlib.contextmanager
def _ray(config: CurateConfig) -> Iterator[None]:
    """A Ray to run on: the one this process or RAY_ADDRESS names, else a local one that ends with the run."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS")
    local = (
        {}
        if address
        else {
            "num_cpus": max(2, config.cpus or os.cpu_count() or 1),
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
        }
    )
    for attempt in range(_RAY_ATTEMPTS):
        try:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **local)
            break
        except Exception:
            ray.shutdown()
            if attempt + 1 == _RAY_ATTEMPTS:
                raise
    try:
        yield
    finally:
        ray.shutdown()
