"""How evenly curation keeps a cluster busy, and what a lost machine costs: a Ray of several nodes on this machine.

    python benchmarks/cluster.py [--nodes 4] [--cores 2] [--videos 160] [--ideal 40] [--orders found,size] [--lose]
                                 [--seed 0] [--guess 0.4] [--long 3]

What runs is curation's own: its reading tasks, its actors, its collector, its commits. Only the two places where work
is done are replaced: a reader and a scorer that sleep as long as the video would take one core. Where more of them are
awake on a node than it has cores, each advances slower, as on real ones, so `--nodes` x `--cores` is not bounded by
this machine. Lengths are as footage has them: log-normal (sigma 1), and `--long` videos that alone take most of
`--ideal` seconds, which is the sum of all work over all cores. A file's size tells its length but for a log-normal
factor of sigma `--guess`, as bit rates differ.

Orders: `found` (by path, which says nothing about length), `largest` and `total` (shards of neighbours, the shard with
the largest video, or with most bytes, first) and `size` (largest first, and then shards of neighbours).

Busy: the ideal's seconds over those that it took. The ideal is all work over all cores, or the longest video. Beside
it, the same order dealt by a plain list schedule without Ray: the mean and worst of 200 drawings. `at risk`: of the
work done at half time, what is not committed yet, and would be done again after a crash of the driver.
`--lose` takes a node away in the middle, and compares with an ideal that loses its cores there and nothing else.
The start of workers is not counted: all wait until the last is there. Needs 0.4 GB of memory a core.
"""

import argparse
import contextlib
import heapq
import json
import logging
import os
import pickle
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import numpy as np
import pyarrow as pa
import ray
from ray.cluster_utils import Cluster

from benchmarks.arguments import at_least_one, parser_of
from curation import plan
from curation.collect import Task, clip_row, end_of
from curation.config import CurateConfig
from curation.engine import Clip
from curation.ledger import Plan, clip_schema
from curation.manifest import Manifest, Shard
from curation.progress import silent
from curation.scores.base import ClipFrames, Column, Scored, Scorer, run_scorer
from curation.sources import Source

SHARD = CurateConfig(videos="").videos_per_shard
CLIP_S = 0.25  # of one core, that a clip takes
SCORING = 0.5  # share of it that is not reading
TICK_S = 0.05
START_S = 150.0  # that workers may take to start
DRAWINGS = 200
NODE = {"object_store_memory": 100 << 20}
STARTS = 4


@dataclass(frozen=True, slots=True)
class Stage:
    """Where pretended work is noted, and how many cores each node has."""

    folder: Path
    cores: int
    seconds: Mapping[str, float]  # of one core, by uri

    def clips(self, uri: str) -> int:
        """How many clips a video gives."""
        return max(1, round(self.seconds[uri] / CLIP_S))

    def arrive(self) -> None:
        """Tell that this process has started, and wait for the others."""
        (self.folder / "ready" / str(os.getpid())).touch()
        while not (self.folder / "go").exists():
            time.sleep(TICK_S)

    def work(self, uri: str, share: float) -> None:
        """Take the time that a share of one of the video's clips takes on a node with its present company."""
        wanted, node = share * self.seconds[uri] / self.clips(uri), ray.get_runtime_context().get_node_id()
        here = self.folder / "nodes" / node
        here.mkdir(exist_ok=True)
        mark, done, began = here / uuid4().hex, 0.0, time.time()
        mark.touch()
        last = time.perf_counter()
        while done < wanted:
            time.sleep(min(TICK_S, wanted - done))
            now = time.perf_counter()
            done += (now - last) * min(1, self.cores / max(1, len(os.listdir(here))))  # noqa: PTH208 - names suffice
            last = now
        mark.unlink()
        with (self.folder / "log").open("a") as log:
            log.write(json.dumps({"node": node, "began": began, "ended": time.time(), "work": wanted}) + "\n")


def clip_of(video: Task, number: int) -> Clip:
    """A clip without pixels."""
    nothing = np.empty(0)
    frames = ClipFrames(
        clip_id=f"{video.video_id}-{number}", video_id=video.video_id or "", uri=video.source.uri, start=float(number),
        end=number + 1.0, fps=25.0, width=1280, height=720, frames=(), frame_times=(), flow=nothing,
        flow_size=(0, 0), hashes=nothing,
    )  # fmt: skip
    return Clip(frames, number, 25 * number, 25, True, None)


def read(row: dict[str, Any], config: CurateConfig, threads: int, stage: Stage) -> Iterator[dict[str, Any]]:
    """In place of the decode: clips, each after its time, and the video's end."""
    video: Task = pickle.loads(row["video"])
    uri, count = video.source.uri, stage.clips(video.source.uri)
    stage.arrive()
    for number in range(count):
        stage.work(uri, 1 - SCORING)
        yield {"uri": uri, "payload": pickle.dumps(plan._Measured(clip_of(video, number), Scored()), protocol=5)}
    yield {"uri": uri, "payload": pickle.dumps(end_of(video, None, [], count), protocol=5)}


def alone(stage: Stage) -> Callable[[Task, CurateConfig, Sequence[Scorer]], list[Any]]:
    """In place of a process of its own: a video measured once more. A function, as Ray asks for one."""

    def measure(video: Task, config: CurateConfig, scorers: Sequence[Scorer]) -> list[Any]:
        rows = []
        for number in range(stage.clips(video.source.uri)):
            stage.work(video.source.uri, 1 - SCORING)
            clip, scored = clip_of(video, number), Scored()
            for scorer in scorers:
                run_scorer(scorer, [clip.frames], [scored])
            rows.append(clip_row(clip, scored))
        return [*rows, end_of(video, None, [], len(rows))]

    return measure


class Pretended(Scorer):
    """Takes the time of a scorer."""

    name = "pretended"

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    @property
    def columns(self) -> Sequence[Column]:
        return [Column("second", pa.float32(), "when the clip starts", "s")]

    def load(self) -> None:
        self.stage.arrive()

    def score(self, clips: Sequence[ClipFrames], known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Where the clip starts, after a while."""
        for clip in clips:
            self.stage.work(clip.uri, SCORING)
        return [{"second": clip.start} for clip in clips]


class Noted(Manifest):
    """A manifest that notes when which work was committed."""

    def __init__(self, root: Path, seconds: Mapping[str, float]) -> None:
        super().__init__(root)
        self.commits: list[tuple[float, float]] = []
        self._seconds = seconds

    def commit(self, shard: Shard, clip_schema: pa.Schema) -> None:
        super().commit(shard, clip_schema)
        self.commits.append((time.time(), sum(self._seconds[v["uri"]] for v in shard.videos)))


def footage(args: argparse.Namespace, rng: np.random.Generator) -> tuple[list[Source], dict[str, float]]:
    """Files in order of their paths, and the seconds of one core that each takes."""
    slots = args.nodes * args.cores
    long = rng.permutation(args.videos)[: args.long]
    seconds = rng.lognormal(0, 1, args.videos)
    seconds[long] = 0
    each = np.linspace(0.5, 0.8, args.long) * args.ideal
    seconds *= (args.ideal * slots - each.sum()) / seconds.sum()
    seconds[long] = each
    sizes = (seconds * 1e6 * rng.lognormal(0, args.guess, args.videos)).astype(np.int64)
    uris = [f"/footage/{i:05}.mp4" for i in range(args.videos)]
    return [Source(u, int(s), 0) for u, s in zip(uris, sizes, strict=True)], dict(
        zip(uris, seconds.tolist(), strict=True)
    )


def _shards(videos: Sequence[Source]) -> list[list[Source]]:
    return [list(videos[at : at + SHARD]) for at in range(0, len(videos), SHARD)]


def _by_size(videos: Sequence[Source]) -> list[Source]:
    return sorted(videos, key=lambda v: (-v.size, v.uri))


ORDERS: dict[str, Callable[[Sequence[Source]], list[list[Source]]]] = {
    "found": _shards,
    "largest": lambda v: [_by_size(s) for s in sorted(_shards(v), key=lambda s: -max(x.size for x in s))],
    "total": lambda v: [_by_size(s) for s in sorted(_shards(v), key=lambda s: -sum(x.size for x in s))],
    "size": lambda v: _shards(_by_size(v)),
}


def tasks_of(shards: Sequence[Sequence[Source]]) -> list[Task]:
    """The videos to measure, as the ledger gives them."""
    return [Task(f"{i:05}", v, Path(v.uri).stem) for i, shard in enumerate(shards) for v in shard]


def dealt(order: Sequence[Task], seconds: Mapping[str, float], slots: int) -> float:
    """Seconds until all is done when each free core takes the next video."""
    free = [0.0] * slots
    for task in order:
        heapq.heappush(free, heapq.heappop(free) + seconds[task.source.uri])
    return max(free)


def drawn(args: argparse.Namespace, order: str) -> tuple[float, float]:
    """Busy share of plain list schedules: the mean and the worst of many drawings."""
    found, slots = [], args.nodes * args.cores
    for seed in range(DRAWINGS):
        videos, seconds = footage(args, np.random.default_rng([args.seed, seed]))
        found.append(args.ideal / dealt(tasks_of(ORDERS[order](videos)), seconds, slots))
    return float(np.mean(found)), min(found)


def patiently(start: Callable[[], Any]) -> Any:
    """Start a node. On a busy machine that can miss Ray's fixed limit of 30 s."""
    for _ in range(STARTS - 1):
        with contextlib.suppress(Exception):
            return start()
    return start()


@dataclass(slots=True)
class Outcome:
    """What a run took, and what each node did, in seconds of one core."""

    start: float
    seconds: float
    busy: dict[str, float]
    at_risk: float
    ideal: float
    problems: list[str] = field(default_factory=list)


def run(args: argparse.Namespace, order: str, lose: bool) -> Outcome:
    """One curation of pretended videos on a cluster of its own."""
    videos, seconds = footage(args, np.random.default_rng(args.seed))
    slots = args.nodes * args.cores
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), args.cores, seconds)
        for name in ("ready", "nodes"):
            (stage.folder / name).mkdir()
        config = CurateConfig(videos="/footage", out=folder)
        manifest, scorers = Noted(stage.folder / "manifest", seconds), list[Scorer]([Pretended(stage)])
        cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=NODE | {"num_cpus": 0}))
        try:
            nodes = [patiently(partial(cluster.add_node, num_cpus=args.cores, **NODE)) for _ in range(args.nodes)]
            ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
            began, gone = time.time(), list[float]()

            def conduct() -> None:
                until = time.time() + START_S
                while len(os.listdir(stage.folder / "ready")) < 2 * slots and time.time() < until:  # noqa: PTH208
                    time.sleep(TICK_S)
                (stage.folder / "go").touch()
                if lose:
                    time.sleep(args.ideal / 2)
                    cluster.remove_node(nodes[-1], allow_graceful=False)
                    gone.append(time.time())

            conductor = threading.Thread(target=conduct)
            conductor.start()
            with (
                mock.patch.object(plan, "_read", partial(read, stage=stage)),
                mock.patch.object(plan, "measure_alone", alone(stage)),
            ):
                tasks = tasks_of(ORDERS[order](videos))
                plan._carry_out(config, Plan(tasks, manifest, clip_schema(config, scorers), scorers), silent)
            conductor.join()
        finally:
            ray.shutdown()
            cluster.shutdown()
        return told(args, stage, manifest, began, gone)


def told(args: argparse.Namespace, stage: Stage, manifest: Noted, began: float, gone: Sequence[float]) -> Outcome:
    """Reckon what a run took, and look whether all is there, once."""
    log = [json.loads(line) for line in (stage.folder / "log").read_text().splitlines()]
    first, last = min(e["began"] for e in log), max(e["ended"] for e in log)
    busy: dict[str, float] = {}
    for entry in log:
        busy[entry["node"]] = busy.get(entry["node"], 0.0) + entry["work"]
    half = (first + last) / 2
    done = sum(e["work"] for e in log if e["ended"] <= half)
    safe = sum(work for at, work in manifest.commits if at <= half)
    slots, total, longest = args.nodes * args.cores, sum(stage.seconds.values()), max(stage.seconds.values())
    ideal = total / slots
    if gone:
        before = gone[0] - first
        ideal = before + (total - before * slots) / (slots - args.cores)
    problems = []
    clips = sorted(manifest.read("clips", ["clip_id"])["clip_id"].to_pylist())
    if clips != sorted(f"{Path(u).stem}-{i}" for u in stage.seconds for i in range(stage.clips(u))):
        problems.append("clips are missing or there twice")
    if manifest.read("videos", ["status"])["status"].to_pylist() != ["ok"] * len(stage.seconds):
        problems.append("videos are missing or failed")
    return Outcome(first - began, last - first, busy, max(0.0, 1 - safe / done), max(ideal, longest), problems)


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--nodes", type=at_least_one, default=4)
    parser.add_argument("--cores", type=at_least_one, default=2, help="of a node")
    parser.add_argument("--videos", type=at_least_one, default=160)
    parser.add_argument("--ideal", type=float, default=40.0, metavar="SECONDS", help="all work over all cores")
    parser.add_argument("--long", type=int, default=3, help="videos that take 0.5 to 0.8 of it")
    parser.add_argument("--guess", type=float, default=0.4, metavar="SIGMA", help="how badly a size tells the length")
    parser.add_argument("--orders", default="found,size", help=f"of {', '.join(ORDERS)}; default: found,size")
    parser.add_argument("--lose", action="store_true", help="take a node away in the middle")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    orders = args.orders.split(",")
    if unknown := set(orders) - set(ORDERS):
        parser.error(f"--orders: there is no {', '.join(sorted(unknown))}; there are {', '.join(ORDERS)}")
    print(f"{args.nodes} nodes of {args.cores} cores, {args.videos} videos, Ray {ray.__version__}")
    print("order     seconds  ideal   busy   list schedule: mean, worst   at risk   busy share of each node")
    for order in orders:
        out = run(args, order, args.lose)
        mean, worst = drawn(args, order)
        each = " ".join(f"{work / args.cores / out.seconds:.2f}" for work in out.busy.values())
        print(
            f"{order:<9}{out.seconds:8.1f} {out.ideal:6.1f} {out.ideal / out.seconds:6.2f} {mean:20.2f}, {worst:.2f}"
            f"{out.at_risk:13.2f}    {each}   (workers started in {out.start:.0f} s)",
            flush=True,
        )
        print("          all there, each once" if not out.problems else f"          LOST: {'; '.join(out.problems)}")


if __name__ == "__main__":
    main()
