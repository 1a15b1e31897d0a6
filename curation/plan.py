"""Curation on Ray Data: the one file of curation that knows Ray.

Videos stream through reading tasks (the single decode) into the actors of one scoring stage after another; the driver
only collects rows and commits a shard when all of its videos are complete. Work runs at least once, results appear
exactly once.
"""

import contextlib
import logging
import math
import os
import pickle
import queue
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import ray
import ray.data
import ray.exceptions

from curation import discovery
from curation.alone import ATTEMPTS, limited, measure_alone
from curation.collect import Collector, Failures, Task, clip_row, end_of
from curation.config import CurateConfig
from curation.duplicates import table as duplicates
from curation.engine import Clip, VideoPass
from curation.errors import CurationError, UnreadableVideo, in_words
from curation.ledger import Plan, plan
from curation.manifest import Manifest, Shard
from curation.progress import Progress, silent
from curation.remarks import text_check, why_no_clip
from curation.scores import scorers_for
from curation.scores.base import Failure, Scored, Scorer, run_scorer
from curation.stages import BOOKED, Node, Stage, reader_share, stages_for, trimmed
from curation.store import place
from curation.video.decoder import threads_for
from curation.weights import require

_GREETING = b"Set ray log level from environment variable"
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
    skipped: dict[str, int] = field(default_factory=dict)  # files and folders that the search passed over, by reason
    seconds: float = 0.0
    messages: list[str] = field(default_factory=list)

    @property
    def nothing_to_do(self) -> bool:
        """Whether everything had been measured before."""
        return self.measured == 0


def curate(config: CurateConfig, progress: Progress = silent) -> CurationSummary:
    """Measure every video that the manifest lacks. Raises CurationError for what the user can mend."""
    began = time.monotonic()
    skipped = discovery.Skipped()
    found = discovery.find(config.videos, skipped)
    require(config)
    duplicates.others(config.duplicates)  # a manifest that is not there is said before the work
    scorers = scorers_for(config)
    manifest = Manifest(place(config.out) / "manifest")
    with manifest.locked():
        manifest.sweep()
        summary = CurationSummary(out=str(config.out), manifest=str(manifest.root), skipped=skipped.counts)
        summary.messages += skipped.messages()
        left = plan(config, manifest, scorers, found, progress, summary.messages)
        summary.measured = len(left.tasks)
        summary.already_done = len({s.uri for s in found} - {t.source.uri for t in left.tasks})
        _carry_out(config, left, progress)
        if left.replaces:
            manifest.adopt_next()
        if left.replaces or left.tasks:
            progress("merging small fragments", 0, None)
            manifest.compact()
        duplicates.update(manifest, config.duplicates, progress)
    _count(manifest, summary)
    if not summary.clips:
        summary.messages.append(f"no clip was made: {why_no_clip(manifest)}")
    elif told := text_check(manifest):
        summary.messages.append(told)
    summary.seconds = time.monotonic() - began
    return summary


def _carry_out(config: CurateConfig, todo: Plan, progress: Progress) -> None:
    """Measure what is left, and commit each shard when it is whole."""
    commit = partial(_commit, todo)
    waiting = Collector(todo.tasks)
    for shard in [*_settled(todo), *waiting.settle_unreadable()]:
        commit(shard)
    readable = [v for v in todo.tasks if waiting.expects(v)]
    if readable:
        progress("starting Ray", 0, None)
        with _ray(config):
            _run(config, todo, waiting, readable, commit, progress)


def _settled(todo: Plan) -> list[Shard]:
    """The shards of which everything is kept and nothing can be measured."""
    with_work = {t.shard for t in todo.tasks}
    return [Shard(name, [], [], [], []) for name in (todo.kept.shards if todo.kept else ()) if name not in with_work]


def _commit(todo: Plan, shard: Shard) -> None:
    if todo.kept and shard.name in todo.kept:
        todo.target.write(shard.name, todo.kept.joined(shard))
    else:
        todo.target.commit(shard, todo.schema)


def _run(
    config: CurateConfig,
    todo: Plan,
    waiting: Collector,
    readable: Sequence[Task],
    commit: Callable[[Shard], None],
    progress: Progress,
) -> None:
    cpus = config.cpus or max(1, int(ray.cluster_resources().get("CPU", 1)))
    settled = waiting.videos_done
    progress("measuring", 0, len(readable))
    dataset = _dataset(config, todo, readable, cpus)
    for row in _watched(dataset, config.no_progress_minutes * 60, waiting):
        for shard in waiting.add(row["uri"], pickle.loads(row["payload"])):
            commit(shard)
        progress("measuring", waiting.videos_done - settled, len(readable))
    if left := [v for v in readable if v.source.uri in waiting.open_videos]:
        for shard in _one_by_one(config, todo.scorers, left, waiting, progress):
            commit(shard)


def _one_by_one(
    config: CurateConfig, scorers: Sequence[Scorer], videos: Sequence[Task], waiting: Collector, progress: Progress
) -> Iterator[Shard]:
    """Measure each video that took its worker along, or was in its company, in a process of its own. What ends that
    process too is the video's error, and costs no other one its result."""
    cards = max((s.resources.gpus for s in scorers), default=0.0) if ray.cluster_resources().get("GPU") else 0.0
    # what reads is a process below it: this one's own end is no video's fault
    attempt = ray.remote(measure_alone).options(num_cpus=1, num_gpus=cards, max_retries=2)
    running = {attempt.remote(video, config, scorers): video for video in videos}
    while running:
        progress("measuring one by one what lost its worker", len(videos) - len(running), len(videos))
        (done,), _ = ray.wait(list(running), num_returns=1)
        video = running.pop(done)
        waiting.begin_again(video)
        for content in _result(done, video):
            yield from waiting.add(video.source.uri, content)


def _result(done: Any, video: Task) -> list[Any]:
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise CurationError(str(error.cause)) from error  # it could not even begin
    except ray.exceptions.RayError as error:
        words = f"{video.source.uri}: lost with its machine: {' '.join(str(error).split())[:400]}"
        return [end_of(video, None, [(None, Failure("alone", type(error).__name__, words, ATTEMPTS))], 0)]


def _dataset(config: CurateConfig, todo: Plan, videos: Sequence[Task], cpus: int) -> "ray.data.Dataset":
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # progress and failures are told by our own means
    # of a dead worker's task there is no second try but ours, and Ray has no other name for that yet
    warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated", DeprecationWarning)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # a worker that dies loses its rows and no more: `_one_by_one`
    stages = stages_for(todo.scorers, _nodes(), config, cpus, len(videos), todo.given)
    rows = [{"index": i, "video": pickle.dumps(v)} for i, v in enumerate(videos)]
    threads = threads_for(cpus // len(videos))  # there may be fewer videos than cores
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).flat_map(
        partial(_read, config=config, threads=threads, last=not stages),
        num_cpus=BOOKED,
        num_gpus=reader_share(config),
        max_retries=0,
        compute=ray.data.TaskPoolStrategy(min(cpus, len(rows))),
    )
    for at, stage in enumerate(stages):
        dataset = dataset.map_batches(
            _scoring(stage, last=at + 1 == len(stages)),
            batch_size=stage.batch,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=stage.copies),
            num_cpus=stage.booked,
            num_gpus=stage.needs.gpus,
            max_task_retries=0,
        )
    return dataset


def _nodes() -> list[Node]:
    """The machines of the cluster, with what Ray counts of each."""
    alive = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    return [Node(r.get("CPU", 0), r.get("GPU", 0), r.get("memory", math.inf) / 1e9) for r in alive]


def _read(row: dict[str, Any], config: CurateConfig, threads: int, last: bool) -> Iterator[dict[str, Any]]:
    """One video to its clips, rows already if no stage follows, and then its end. Nothing a file does may take its
    neighbours along."""
    video: Task = pickle.loads(row["video"])
    uri, sent = video.source.uri, 0
    reading: VideoPass | None = None
    failures: Failures = []
    try:
        reading = VideoPass(uri, config, video.video_id, threads)
        with limited(config.memory_gb):
            for clip in reading:
                known = video.scored(clip.frames.clip_id)
                content = clip_row(clip, known) if last else _Measured(clip, known)
                yield {"uri": uri, "payload": pickle.dumps(content, protocol=5)}
                sent += 1
    except UnreadableVideo as error:
        failures = [(None, Failure(error.step, type(error).__name__, str(error)))]
    except Exception as error:  # noqa: BLE001 - a decoder may raise anything; it becomes this video's error row
        failures = [(None, Failure("decode", type(error).__name__, f"{uri}: {in_words(error)}"[:500]))]
    yield {"uri": uri, "payload": pickle.dumps(end_of(video, reading, failures, sent), protocol=5)}


@dataclass(frozen=True, slots=True)
class _Measured:
    """A clip on its way, and what the stages behind it have measured."""

    clip: Clip
    scored: Scored


def _scoring(stage: Stage, last: bool) -> type:
    """The class of an actor that holds the stage's weights and measures clips; the last stage makes rows of them."""

    class Score:
        def __init__(self) -> None:
            if not stage.needs.gpus:
                os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves cards in sight of those who asked for none
            for scorer in stage.scorers:
                scorer.load()

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            content = [pickle.loads(p) for p in batch["payload"]]
            work = [c for c in content if isinstance(c, _Measured)]
            for scorer in stage.scorers:
                run_scorer(scorer, [w.clip.frames for w in work], [w.scored for w in work])
            out = [hand_over(c) if isinstance(c, _Measured) else c for c in content]
            return {"uri": batch["uri"], "payload": [pickle.dumps(o, protocol=5) for o in out]}

    def hand_over(work: _Measured) -> Any:
        if last:
            return clip_row(work.clip, work.scored)
        return replace(work, clip=replace(work.clip, frames=trimmed(work.clip.frames, stage.keeps)))

    return Score


def _watched(dataset: "ray.data.Dataset", limit_s: float, waiting: "Collector") -> Iterator[dict[str, Any]]:
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


def _count(manifest: Manifest, summary: CurationSummary) -> None:
    status = manifest.read("videos", ["status"])["status"].to_pylist()
    summary.videos = len(status)
    summary.videos_failed = status.count("failed")
    summary.duplicates = status.count("duplicate")
    summary.shots = manifest.read("shots", ["shot"]).num_rows
    summary.clips = manifest.read("clips", ["shot"]).num_rows
    summary.errors = manifest.read("errors", ["step"]).num_rows


@contextlib.contextmanager
def _ray(config: CurateConfig) -> Iterator[None]:
    """A Ray to run on: the one this process or RAY_ADDRESS names, else a local one that ends with the run, even where
    another one is up: what is not named may be somebody else's."""
    if ray.is_initialized():
        yield
        return
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
            with _without_greeting(), _ending_as_before():
                ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **local)
            break
        except Exception:
            ray.shutdown()
            if attempt + 1 == _RAY_ATTEMPTS:
                raise
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _ending_as_before() -> Iterator[None]:
    """Ray's own answer to SIGTERM is a native stack trace and an exit: what answered before does so again."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    yield
    if callable(before):
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _without_greeting() -> Iterator[None]:
    """Ray's native log is told a level by the environment, and says so on stderr each time; the rest is passed on."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        real = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            said.seek(0)
            os.write(2, b"".join(line for line in said if _GREETING not in line))
