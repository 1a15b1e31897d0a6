"""A manifest of millions of clips as curation would leave it, made by chance: for benchmarks of what reads one.

The columns that a policy and the ranking of duplicates look at, of distributions as real footage has them, 2 % of the
clips a copy of another, and the table of duplicates. No previews or embeddings.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from curation.config import DuplicateSettings
from curation.duplicates import table as duplicates
from curation.manifest import Manifest
from curation.schema import CLIP_IDENTITY, score_field
from curation.store import write_table

SCORES = ("cut_doubt", "motion", "text_area", "aesthetic", "clip_fused", "technical_quality")
SCHEMA = pa.schema([f for f in CLIP_IDENTITY if f.name != "preview"]).append(
    score_field("phash", pa.list_(pa.uint64()), "hashes", "", {"scorer": "phash"})
)
CLIPS_OF_A_VIDEO = 40
COPIED = 0.02


def schema() -> pa.Schema:
    """The clips' schema with the scores."""
    return pa.schema([*SCHEMA, *(score_field(s, pa.float32(), s, "", {"scorer": s}) for s in SCORES)])


def scores(count: int, rng: np.random.Generator) -> dict[str, pa.Array]:
    """Scores spread as those of footage are; one clip in two hundred could not be measured."""
    text = np.where(rng.random(count) < 0.7, 0, rng.beta(0.6, 8, count))
    drawn = {
        "cut_doubt": rng.beta(0.5, 6, count),
        "motion": rng.lognormal(0.3, 1.1, count),
        "text_area": text,
        "aesthetic": rng.normal(4.9, 0.7, count),
        "clip_fused": rng.normal(0.27, 0.035, count),
        "technical_quality": rng.beta(5, 3, count),
    }
    return {s: pa.array(v.astype(np.float32), mask=rng.random(count) < 0.005) for s, v in drawn.items()}


def hexadecimal(numbers: np.ndarray) -> pa.Array:
    """uint64 (n,) as texts of 16 digits, spread as hashes are."""
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    nibbles = (mixed[:, None] >> (np.arange(60, -4, -4)).astype(np.uint64)) & np.uint64(15)
    text = np.frombuffer(b"0123456789abcdef", np.uint8)[nibbles.astype(np.uint8)]
    offsets = np.arange(0, 16 * len(numbers) + 1, 16, dtype=np.int32)
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(text.tobytes()))


def make(root: Path, rows: int, fragments: int) -> Manifest:
    """Write the manifest, unless it is there, and its table of duplicates."""
    manifest, wanted = Manifest(root), schema()
    if len(manifest.shards()) == fragments and manifest.read("clips", ["shot"]).num_rows == rows:
        if not duplicates.holds(manifest, DuplicateSettings()):  # made when manifests were named in another way
            write_duplicates(manifest, rows, np.random.default_rng(1))
        return manifest
    rng = np.random.default_rng(0)
    for i, numbers in enumerate(np.array_split(np.arange(rows), fragments)):
        count, video = len(numbers), numbers // CLIPS_OF_A_VIDEO
        names = hexadecimal(np.unique(video) + rows).to_pylist()
        place = pa.array(video - video[0], pa.int32())
        start = (numbers % CLIPS_OF_A_VIDEO) * 6.5
        columns = {
            "clip_id": hexadecimal(numbers),
            "video_id": pa.array(names).take(place),
            "uri": pa.array([f"/footage/{n[:2]}/{n}.mp4" for n in names]).take(place),
            "shot": pa.array(numbers % CLIPS_OF_A_VIDEO, pa.int32()),
            "start": pa.array(start),
            "end": pa.array(start + rng.uniform(1, 10, count)),
            "start_frame": pa.array((start * 25).astype(np.int64)),
            "frames": pa.array(rng.integers(25, 250, count), pa.int32()),
            "fps": pa.array(np.full(count, 25.0)),
            "width": pa.array(np.full(count, 1280), pa.int32()),
            "height": pa.array(np.full(count, 720), pa.int32()),
            "starts_on_keyframe": pa.array(rng.random(count) < 0.6),
            **scores(count, rng),
        }
        made = [columns[f.name] if f.name in columns else pa.nulls(count, f.type) for f in wanted]
        write_table(pa.table(made, schema=wanted), root / "clips" / f"{i:05}.parquet")
    write_duplicates(manifest, rows, rng)
    return manifest


def write_duplicates(manifest: Manifest, rows: int, rng: np.random.Generator) -> None:
    """A table as curation leaves it, with pairs drawn by chance instead of found."""
    pairs = rng.permutation(rows)[: 2 * round(COPIED * rows)].reshape(-1, 2)
    leader, sizes = np.arange(rows), np.ones(rows, np.int32)
    leader[pairs[:, 1]], sizes[pairs.ravel()] = pairs[:, 0], 2
    alone = np.arange(rows)
    settings, columns = DuplicateSettings(), {"clip_id": hexadecimal(alone)}
    found = {"exact": (alone, np.ones(rows)), "perceptual": (leader, sizes), "semantic": (alone, np.ones(rows))}
    for kind, (groups, many) in found.items():
        columns[f"{kind}_group"] = hexadecimal(groups)
        columns[f"{kind}_representative"] = pa.array((groups == alone).astype(np.int8))
        columns[f"{kind}_size"] = pa.array(many.astype(np.int32))
    wanted = duplicates.schema(settings)
    arrays = [columns.get(f.name, pa.array(np.zeros(rows, np.float32))) for f in wanted]
    noted = {duplicates._MADE_OF: json.dumps(duplicates._made_of(manifest, settings))}
    write_table(pa.table(arrays, schema=wanted.with_metadata(noted)), duplicates.path_of(manifest))
