"""Selections over a manifest of millions of clips: seconds and memory, beside a floor measured in the same run.

    python benchmarks/manifest_scale.py [--rows 10000000] [--fragments 40] [--folder DIR] [--policy FILE.yaml]

Makes a manifest of so many rows in a temporary folder (or in DIR, where it is kept and taken again): the columns that
the policy and the ranking of duplicates look at, of distributions as real footage has them, 2 % of the clips a copy of
another, and the table of duplicates as curation leaves it. No previews or embeddings: a dry run does not read them, and
what writing them costs is the disk's matter. Without --policy: the five rules of the published recipe and duplicates.

The floor is reading the columns that the policy looks at; the peer is DuckDB, asked in SQL how many clips the rules
leave, duplicates aside. Every mode runs in a process of its own; memory is the peak of that process. Seconds of CPU,
those of all cores together, tell where the machine has other work.
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from benchmarks.arguments import at_least_one, known_file, parser_of
from curation.config import DuplicateSettings, Policy, Rule, SelectConfig
from curation.duplicates import table as duplicates
from curation.manifest import Manifest
from curation.policy import select
from curation.schema import CLIP_IDENTITY, score_field
from curation.selection.columns import duplicate_settings, read
from curation.store import write_table

SCORES = ("cut_doubt", "motion", "text_area", "aesthetic", "clip_fused", "technical_quality")
SCHEMA = pa.schema([f for f in CLIP_IDENTITY if f.name != "preview"]).append(
    score_field("phash", pa.list_(pa.uint64()), "hashes", "", {"scorer": "phash"})
)
RECIPE = Policy(
    name="recipe",
    rules=[
        Rule(score="cut_doubt", max=0.8),
        Rule(score="motion", min_percentile=25),
        Rule(score="text_area", max=0.07),
        Rule(score="aesthetic", min_percentile=25),
        Rule(score="clip_fused", min_percentile=50),
    ],
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


def floor(config: SelectConfig) -> str:
    """Read the columns that the policy looks at."""
    manifest, policy = Manifest.find(config.manifest), policy_of(config)
    return (
        f"{read(manifest, policy, duplicate_settings(config, policy, manifest), lambda *_: None).nbytes / 1e6:.0f} MB"
    )


def peer(config: SelectConfig) -> str:
    """Ask DuckDB how many clips the bounds leave, without reasons, funnel and duplicates."""
    import duckdb

    bounds, holds = [], []
    for i, rule in enumerate(rule for rule in policy_of(config).rules if rule.score and not rule.top):
        limits = {">=": (rule.min, rule.min_percentile), "<=": (rule.max, rule.max_percentile)}
        for sign, (value, percentile) in limits.items():
            if percentile is not None:
                bounds.append(f"quantile_cont({rule.score}, {percentile / 100}) AS b{i}{len(bounds)}")
                holds.append(f"{rule.score} {sign} b{i}{len(bounds) - 1}")
            if value is not None:
                holds.append(f"{rule.score} {sign} {value}")
    clips = f"read_parquet('{Path(config.manifest).absolute()}/clips/*.parquet')"
    among = f", (SELECT {', '.join(bounds)} FROM {clips})" if bounds else ""
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        query = f"SELECT count(*) AS stay FROM {clips}{among} WHERE {' AND '.join(holds) or 'true'}"
        return f"{connection.sql(query).to_arrow_table()['stay'][0]} stay before duplicates"


def selection(config: SelectConfig) -> str:
    """Select; on a dry run, without writing."""
    summary = select(config)
    return f"{summary.kept} of {summary.clips} stay"


def policy_of(config: SelectConfig) -> Policy:
    """The policy that every mode is about."""
    if config.inline_policy is None:
        raise ValueError("no policy")
    return config.inline_policy


def timed(mode: Callable[[SelectConfig], str], config: SelectConfig) -> tuple[float, float, float, str]:
    """Seconds, those of all cores together, the peak of memory in GB, and what the mode says."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (mode, config))


def _measure(mode: Callable[[SelectConfig], str], config: SelectConfig) -> tuple[float, float, float, str]:
    began, used = time.perf_counter(), time.process_time()
    said = mode(config)
    seconds, busy = time.perf_counter() - began, time.process_time() - used
    return seconds, busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, said


def measure(root: Path, rows: int, fragments: int, policy: Policy) -> None:
    """Make the manifest and print a line a mode."""
    began = time.perf_counter()
    manifest = make(root, rows, fragments)
    size = sum(p.stat().st_size for p in root.rglob("*.parquet")) / 1e6
    print(f"{rows} clips in {fragments} fragments, {size:.0f} MB, ready in {time.perf_counter() - began:.0f} s")
    with tempfile.TemporaryDirectory(dir=root.parent) as out:
        config = SelectConfig(manifest=str(manifest.root), out=f"{out}/selection", inline_policy=policy)
        modes: dict[str, tuple[Callable[[SelectConfig], str], bool]] = {
            "floor: read the columns": (floor, True),
            "peer: DuckDB, a count": (peer, True),
            "select --dry-run": (selection, True),
            "select": (selection, False),
            "select again": (selection, False),
        }
        for name, (mode, dry) in modes.items():
            seconds, busy, gigabytes, said = timed(mode, config.model_copy(update={"dry_run": dry}))
            print(f"{name:<24}{seconds:7.2f} s {busy:7.2f} s of CPU {gigabytes:6.2f} GB   {said}", flush=True)


def main() -> None:
    """Measure and print."""
    parser: argparse.ArgumentParser = parser_of(__doc__)
    parser.add_argument("--rows", type=at_least_one, default=10_000_000)
    parser.add_argument("--fragments", type=at_least_one, default=40)
    parser.add_argument("--folder", type=Path, metavar="DIR", help="keep the manifest there; default: a temporary one")
    parser.add_argument("--policy", type=known_file, metavar="FILE", help="default: the published recipe")
    args = parser.parse_args()
    policy = Policy.model_validate(yaml.safe_load(args.policy.read_text())) if args.policy else RECIPE
    print(f"{os.cpu_count()} cores, pyarrow {pa.__version__}, numpy {np.__version__}")
    if args.folder:
        measure(args.folder.expanduser() / "manifest", args.rows, args.fragments, policy)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder) / "manifest", args.rows, args.fragments, policy)


if __name__ == "__main__":
    main()
