"""What it takes to see that nothing is left to do, and to plan what is: seconds and memory by the number of videos.

    python benchmarks/resume.py [--videos 20000] [--clips 10] [--new 200000]

Makes a manifest of `--videos` files of `--clips` clips each, as a finished run leaves it: four fragments for each shard
of eight videos. Timed, each in a process of its own: a run that finds all of them again (`ledger.plan`),
`Manifest.compact`, the same after it, and the plan of `--new` files that nobody has seen. Files are not there: a list
stands for what `sources.find` tells, and reading a file to name it by its content, which belongs to the disk, is left
out for the new ones. The floor is reading the table of videos.
"""

import argparse
import hashlib
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from benchmarks.arguments import at_least_one, parser_of
from curation import sources
from curation.collect import Task, end_of
from curation.config import CurateConfig
from curation.ledger import clip_schema, plan
from curation.manifest import Manifest, Shard
from curation.progress import silent
from curation.scores import scorers_for
from curation.sources import Source

CONFIG = CurateConfig(videos="/footage")
Mode = Callable[[Path, int, int], str]
"""Done to a manifest that holds so many videos, with so many new ones; says in words what came of it."""


def found(first: int, count: int) -> list[Source]:
    """So many files, by path."""
    return [Source(f"/footage/{i:09}.mp4", 10_000_000 + i, 1) for i in range(first, first + count)]


def name_of(uri: str) -> str:
    """24 hex digits, as of a content."""
    return hashlib.blake2b(uri.encode(), digest_size=12).hexdigest()


def make(root: Path, videos: int, clips: int) -> None:
    """What a finished run leaves."""
    manifest, schema = Manifest(root), clip_schema(CONFIG, scorers_for(CONFIG))
    files = found(0, videos)
    for at in range(0, videos, CONFIG.videos_per_shard):
        group = files[at : at + CONFIG.videos_per_shard]
        rows = [end_of(Task("", v, name_of(v.uri)), None, [], clips).video for v in group]
        pieces = [
            {"clip_id": f"{r['video_id']}{i}", "video_id": r["video_id"], "uri": r["uri"], "start": float(i)}
            for r in rows
            for i in range(clips)
        ]
        manifest.commit(Shard(f"{at:020}", rows, [], [], pieces), schema)


def floor(root: Path, count: int, new: int) -> str:
    """Read the table of videos."""
    return f"{Manifest(root).read('videos', ['uri', 'video_id', 'status']).num_rows} videos"


def again(root: Path, count: int, new: int) -> str:
    """A run that has nothing to do."""
    left = plan(CONFIG, Manifest(root), scorers_for(CONFIG), found(0, count), silent, [])
    return f"{len(left.tasks)} videos are left"


def compact(root: Path, count: int, new: int) -> str:
    """Merge small fragments."""
    manifest = Manifest(root)
    before = len(manifest.shards())
    with manifest.locked():
        manifest.compact()
    return f"{before} fragments of a table became {len(manifest.shards())}"


def fresh(root: Path, count: int, new: int) -> str:
    """A run that has everything to do, beside what is there."""
    with mock.patch.object(sources, "identify", name_of):
        left = plan(CONFIG, Manifest(root), scorers_for(CONFIG), found(count, new), silent, [])
    return f"{len(left.tasks)} videos in {len({t.shard for t in left.tasks})} shards are left"


def measured(mode: Mode, root: Path, count: int, new: int) -> tuple[float, float, float, str]:
    """Seconds, those of all cores together, the peak of memory in GB, and what the mode says."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (mode, root, count, new))


def _measure(mode: Mode, root: Path, count: int, new: int) -> tuple[float, float, float, str]:
    began, used = time.perf_counter(), time.process_time()
    said = mode(root, count, new)
    seconds, busy = time.perf_counter() - began, time.process_time() - used
    return seconds, busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, said


def measure(args: argparse.Namespace, root: Path) -> None:
    """Make the manifest and print a line a mode."""
    began = time.perf_counter()
    make(root, args.videos, args.clips)
    print(f"{args.videos} videos of {args.clips} clips, made in {time.perf_counter() - began:.0f} s", flush=True)
    modes: dict[str, Mode] = {
        "floor: read the videos": floor,
        "plan, nothing left": again,
        "compact": compact,
        "floor, compacted": floor,
        "plan, compacted": again,
        f"plan, {args.new} new": fresh,
    }
    for name, mode in modes.items():
        seconds, busy, gigabytes, said = measured(mode, root, args.videos, args.new)
        print(f"{name:<24}{seconds:7.2f} s {busy:7.2f} s of CPU {gigabytes:6.2f} GB   {said}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--videos", type=at_least_one, default=20_000)
    parser.add_argument("--clips", type=at_least_one, default=10, help="of a video")
    parser.add_argument("--new", type=at_least_one, default=200_000, help="videos that the manifest does not have")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(args, Path(folder) / "manifest")


if __name__ == "__main__":
    main()
