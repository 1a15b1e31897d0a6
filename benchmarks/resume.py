"""What it takes to see that nothing is left to do, and to plan what is: seconds and memory by the number of videos.

    python benchmarks/resume.py [--videos 20000] [--clips 10] [--new 200000]

Makes a manifest of `--videos` files of `--clips` clips each, as a finished run leaves it: four fragments for each shard
of eight videos. Timed, each in a process of its own: a run that finds all of them again (`ledger.plan`),
`Manifest.compact`, the same after it, and the plan of `--new` files that nobody has seen. Files are not there: a list
stands for what `discovery.find` tells, and reading a file to name it by its content, which belongs to the disk, is left
out for the new ones. The floors are reading the table of videos, reading all clips, and that list in order of size.
"""

import hashlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from benchmarks.alone import tell
from benchmarks.arguments import at_least_one, parser_of
from curation import sources
from curation.collect import Task, end_of
from curation.config import CurateConfig
from curation.ledger import clip_schema, plan
from curation.manifest import Manifest, Shard
from curation.progress import Progress, silent
from curation.scores import scorers_for
from curation.sources import Source

CONFIG = CurateConfig(videos="/footage")
MODES = ("compaction", "resume")

# What is measured: done to a manifest that holds so many videos, with so many new ones; says in words what came of it.


def found(first: int, count: int) -> list[Source]:
    """So many files, by path."""
    return [Source(f"/footage/{i:09}.mp4", 10_000_000 + i, 1) for i in range(first, first + count)]


def name_of(uri: str) -> str:
    """24 hex digits, as of a content."""
    return hashlib.blake2b(uri.encode(), digest_size=12).hexdigest()


def identified(uris: Sequence[str], progress: Progress) -> dict[str, tuple[Source, str]]:
    """What `sources.read_all` says of files that need not exist."""
    return {uri: (Source(uri, 10_000_000, 1), name_of(uri)) for uri in uris}


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


def clips_of(root: Path, count: int, new: int) -> str:
    """Read the table of clips."""
    return f"{Manifest(root).read('clips').num_rows} clips"


def compact(root: Path, count: int, new: int) -> str:
    """Merge small fragments."""
    manifest = Manifest(root)
    before = len(manifest.shards())
    with manifest.locked():
        manifest.compact()
    return f"{before} fragments of a table became {len(manifest.shards())}"


def in_order(root: Path, count: int, new: int) -> str:
    """List new files, and sort them as a plan does."""
    return f"{len(sorted(found(count, new), key=lambda s: (-s.size, s.uri)))} files"


def fresh(root: Path, count: int, new: int) -> str:
    """A run that has everything to do, beside what is there."""
    with mock.patch.object(sources, "read_all", identified):
        left = plan(CONFIG, Manifest(root), scorers_for(CONFIG), found(count, new), silent, [])
    return f"{len(left.tasks)} videos in {len({t.shard for t in left.tasks})} shards are left"


def measure(root: Path, videos: int, clips: int, only: Sequence[str] = MODES) -> None:
    """Make the manifest and print a line a mode."""
    began = time.perf_counter()
    make(root, videos, clips)
    print(f"{videos} videos of {clips} clips, made in {time.perf_counter() - began:.0f} s", flush=True)
    if "resume" in only:
        tell("floor: read the videos", floor, root, videos, 0)
        tell("plan, nothing left", again, root, videos, 0)
    if "compaction" in only:
        tell("floor: read all clips", clips_of, root, videos, 0)
        tell("compact", compact, root, videos, 0)
    if len(only) > 1:
        tell("floor, compacted", floor, root, videos, 0)
        tell("plan, compacted", again, root, videos, 0)


def planning(root: Path, videos: int, new: int) -> None:
    """Print what it takes to plan new files beside so many that the manifest has."""
    tell(f"floor: {new} in order", in_order, root, videos, new)
    tell(f"plan, {new} new", fresh, root, videos, new)


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--videos", type=at_least_one, default=20_000)
    parser.add_argument("--clips", type=at_least_one, default=10, help="of a video")
    parser.add_argument("--new", type=at_least_one, default=200_000, help="videos that the manifest does not have")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "manifest"
        measure(root, args.videos, args.clips)
        planning(root, args.videos, args.new)


if __name__ == "__main__":
    main()
