"""What manifests of millions cost: each part of a run's end measured beside a floor in the same run.

    python benchmarks/manifest_scale.py [--only PART ...] [--rows 10000000] [--fragments 40] [--folder DIR]
        [--policy FILE.yaml] [--hashes 2500000 5000000 10000000] [--videos 100000] [--clips 10] [--shards 1000000]

| part | what is measured | floor, peer |
|---|---|---|
| selection | a policy over `--rows` clips, dry and written; by default the published recipe and duplicates | reading its columns; DuckDB, a count |
| percentile | the same of three percentiles and nothing else, dry | the same |
| duplicates | grouping of clips that look the same, `duplicates_index.py`: about a tenth as many clips as `--hashes` | a sort; all pairs |
| compaction | merging the fragments of `--videos` of `--clips` clips each, eight a shard, `resume.py` | reading all clips |
| resume | seeing that nothing of these is left to do; after compaction again, where both are asked for | reading the videos |
| planning | the plan of `--shards` new shards of eight videos, `resume.py` | listing and sorting the files |

The manifest of selection and percentile is made in a temporary folder, or in DIR, where it is kept and taken again:
see `made_manifest.py`. Previews and embeddings are not in it: a dry run does not read them, and what writing them costs
is the disk's matter. DuckDB counts the clips that the rules leave, duplicates aside. Every mode runs in a process of its
own; memory is the peak of that process. Seconds of CPU, those of all cores together, tell where the machine has other
work.
"""  # noqa: E501

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from benchmarks import duplicates_index, resume
from benchmarks.alone import tell
from benchmarks.arguments import at_least_one, known_file, parser_of
from benchmarks.made_manifest import make
from curation.config import Policy, Rule, SelectConfig
from curation.manifest import Manifest
from curation.policy import select
from curation.selection.columns import duplicate_settings, read

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
PARTS = ("selection", "percentile", "duplicates", "compaction", "resume", "planning")
PERCENTILES = Policy(
    name="percentiles", rules=[rule for rule in RECIPE.rules if rule.min_percentile], drop_duplicates=False
)


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


def over_rows(args: argparse.Namespace, parts: dict[str, Policy]) -> None:
    """Selections over a made manifest, a policy a part; a written one where duplicates count."""
    with tempfile.TemporaryDirectory() as folder:
        at = args.folder.expanduser() if args.folder else Path(folder)
        tell(f"made: {args.rows} clips", made_manifest, at / "manifest", args.rows, args.fragments)
        for part, policy in parts.items():
            with tempfile.TemporaryDirectory(dir=at) as out:
                config = SelectConfig(manifest=str(at / "manifest"), out=f"{out}/selection", inline_policy=policy)
                dry = config.model_copy(update={"dry_run": True})
                tell(f"{part}, floor: read", floor, dry)
                tell(f"{part}, peer: DuckDB", peer, dry)
                tell(f"{part}: --dry-run", selection, dry)
                if policy.drop_duplicates:
                    tell(f"{part}: written", selection, config)
                    tell(f"{part}: written again", selection, config)


def made_manifest(root: Path, rows: int, fragments: int) -> str:
    """Make the manifest, or take the one that is there."""
    make(root, rows, fragments)
    return f"{fragments} fragments, {sum(p.stat().st_size for p in root.rglob('*.parquet')) / 1e6:.0f} MB"


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help="default: all")
    parser.add_argument("--rows", type=at_least_one, default=10_000_000)
    parser.add_argument("--fragments", type=at_least_one, default=40)
    parser.add_argument("--folder", type=Path, metavar="DIR", help="keep the manifest there; default: a temporary one")
    parser.add_argument("--policy", type=known_file, metavar="FILE", help="default: the published recipe")
    parser.add_argument("--hashes", type=at_least_one, nargs="+", default=[2_500_000, 5_000_000, 10_000_000])
    parser.add_argument("--videos", type=at_least_one, default=100_000)
    parser.add_argument("--clips", type=at_least_one, default=10, help="of each of the --videos")
    parser.add_argument("--shards", type=at_least_one, default=1_000_000, help="that are planned")
    args = parser.parse_args()
    policy = Policy.model_validate(yaml.safe_load(args.policy.read_text())) if args.policy else RECIPE
    print(f"{os.cpu_count()} cores, pyarrow {pa.__version__}, numpy {np.__version__}")
    asked = {"selection": policy, "percentile": PERCENTILES}
    if parts := {part: policy for part, policy in asked.items() if part in args.only}:
        over_rows(args, parts)
    if "duplicates" in args.only:
        duplicates_index.measure(args.hashes)
    with tempfile.TemporaryDirectory() as folder:
        if both := [part for part in resume.MODES if part in args.only]:
            resume.measure(Path(folder) / "manifest", args.videos, args.clips, both)
        if "planning" in args.only:
            resume.planning(Path(folder) / "empty", 0, args.shards * resume.CONFIG.videos_per_shard)


if __name__ == "__main__":
    main()
