"""What one driver gathers: clips a second through `collect` and the manifest's commits, without Ray.

    python benchmarks/driver.py [--videos 48] [--clips 40]

Rows are as the embedded profile's: every column filled with random content, a picture of 5 kB, an embedding. They come
pickled, as from Ray, are gathered by shards and committed. What Ray adds on the way to the driver is not counted: the
figure is the most that one run can take. The floor is unpickling alone.
"""

import pickle
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.arguments import at_least_one, parser_of
from curation import collect
from curation.config import CurateConfig
from curation.manifest import Manifest
from curation.schema import CLIP_IDENTITY, score_field
from curation.scores import scorers_for
from curation.scores.base import columns_of
from curation.sources import Source

PICTURE_BYTES = 5000
LENGTHS = {"phash": 12, "look": 219, "embedding": 384}  # other lists: 3


def value(column: pa.Field, rng: np.random.Generator) -> Any:
    """Something of the column's type."""
    kind = column.type
    if pa.types.is_list(kind):
        numbers = rng.integers(0, 255, LENGTHS.get(column.name, 3))
        inner = kind.value_type
        if pa.types.is_string(inner):
            return [f"word {n}" for n in numbers]
        return (numbers / 255 if pa.types.is_floating(inner) else numbers).tolist()
    if pa.types.is_binary(kind):
        return rng.bytes(PICTURE_BYTES)
    if pa.types.is_boolean(kind):
        return True
    if pa.types.is_string(kind):
        return f"a caption of {rng.integers(0, 10**9)} and some more words"
    return float(rng.random()) if pa.types.is_floating(kind) else int(rng.integers(0, 100))


def payloads(schema: pa.Schema, task: Any, clips: int, rng: np.random.Generator) -> list[bytes]:
    """What comes of a video: its clips' rows, and its end."""
    rows = [{f.name: value(f, rng) for f in schema} for _ in range(clips)]
    same = {"video_id": task.video_id, "uri": task.source.uri}
    named = [r | same | {"clip_id": f"{task.video_id}-{i}"} for i, r in enumerate(rows)]
    content = [*((r, []) for r in named), collect.end_of(task, None, [], clips)]
    return [pickle.dumps(c, protocol=5) for c in content]


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--videos", type=at_least_one, default=48)
    parser.add_argument("--clips", type=at_least_one, default=40, help="of a video")
    args = parser.parse_args()
    config, rng = CurateConfig(videos=""), np.random.default_rng(0)
    scores = [score_field(c.name, c.type, c.description, c.unit, d) for c, d in columns_of(scorers_for(config))]
    schema = pa.schema([*CLIP_IDENTITY, *scores])
    shards, total = config.videos_per_shard, args.videos * args.clips
    todo = [collect.Task(f"{i // shards:05}", Source(f"/{i}.mp4", 1, 1), f"v{i}") for i in range(args.videos)]
    come = [(task.source.uri, payloads(schema, task, args.clips, rng)) for task in todo]
    began = time.process_time()
    for _, rows in come:
        for row in rows:
            pickle.loads(row)
    floor = time.process_time() - began
    with tempfile.TemporaryDirectory() as folder:
        manifest, waiting, began = Manifest(folder), collect.Collector(todo), time.process_time()
        for uri, rows in come:
            for row in rows:
                for shard in waiting.add(uri, pickle.loads(row)):
                    manifest.commit(shard, schema)
        seconds = time.process_time() - began
        size = sum(p.stat().st_size for p in Path(folder, "clips").glob("*.parquet")) / total
        if (there := manifest.read("clips", ["clip_id"]).num_rows) != total:
            raise RuntimeError(f"{there} of {total} clips were committed")
    print(f"{total} clips of {len(schema)} columns in shards of {shards} videos, {size / 1e3:.1f} kB a clip on disk")
    print(f"{total / seconds:.0f} clips a second of CPU; unpickling alone {total / floor:.0f}")


if __name__ == "__main__":
    main()
