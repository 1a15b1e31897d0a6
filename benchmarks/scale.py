"""What millions of hours of video ask for: cores, cards, storage, time, money, failures, reckoned from measured rates.

    python benchmarks/scale.py [--hours 10000000] [--profile svd] [--core-hour 0.04] [--card-hour 3] ...

Every rate is an argument; its default was measured by the script that the help names, on the machines that README.md
tells of. What nobody can measure for you (how long your files are, at which bit rate, how often machines fail, what a
core costs) is an argument too, marked `assumed`: an example, not a price list.

Core seconds = footage x decode / 600 + clips x scoring; card seconds = clips x the sum of 1 / rate;
hours = the larger of core hours / cores and card hours / cards, over `--busy`;
cost = core hours x price + card hours x price + TB x months x price + requests x price.
"""

import argparse
from dataclasses import dataclass

from benchmarks.arguments import parser_of

SIZES = [(100, 2), (1_000, 16), (10_000, 128), (100_000, 1_024)]  # cores, cards


@dataclass(frozen=True, slots=True)
class Work:
    """What so much footage comes to."""

    videos: float
    shards: float
    clips: float
    core_hours: float
    card_hours: float
    footage_tb: float
    manifest_tb: float
    requests: float  # reads and writes of the object store
    fragments: float  # after compaction, of one table


def work_of(args: argparse.Namespace) -> Work:
    """The sums of the docstring."""
    seconds = args.hours * 3600
    videos, clips = seconds / args.video_s, args.hours * args.clips_per_hour
    footage = seconds * args.mbit / 8 / 1e6  # TB
    manifest = clips * args.row_bytes / 1e12
    core_s = seconds * args.decode_s / 600 + clips * args.text_s
    rates = [args.clip_rate, args.coca_rate, args.blip_rate, args.raft_rate] if args.profile == "svd" else []
    shards = videos / args.shard
    identify = footage * 1e6 / args.read_mb + 2 * videos  # `sources.read`: all of a file, its state before and after
    requests = footage * 1e6 / args.read_mb + identify + 4 * shards
    return Work(
        videos,
        shards,
        clips,
        core_s / 3600,
        clips * sum(1 / r for r in rates) / 3600,
        footage,
        manifest,
        requests,
        manifest * 1e6 / args.fragment_mb,
    )


def cost(work: Work, args: argparse.Namespace) -> dict[str, float]:
    """What each part costs, in the unit of the prices."""
    return {
        "cores": work.core_hours * args.core_hour,
        "cards": work.card_hours * args.card_hour,
        "footage kept": work.footage_tb * args.months * args.tb_month,
        "requests": work.requests / 1e6 * args.request_million,
    }


def hours(work: Work, args: argparse.Namespace, cores: int, cards: int) -> tuple[float, str]:
    """Wall hours on so many cores and cards, and what they wait for."""
    needs = {
        "cores": work.core_hours / cores / args.busy,
        "cards": work.card_hours / cards / args.busy,
        "one driver": work.clips / args.driver_rate / 3600 / args.drivers,
        "storage": work.footage_tb * 8e3 / args.storage_gbit / 3600,
    }
    longest = max(needs, key=needs.__getitem__)
    return needs[longest], longest


def failures(work: Work, args: argparse.Namespace, wall: float, machines: float) -> tuple[float, float, float]:
    """Machines lost in `wall` hours, core hours done again for that, and core hours spent on files that are poison."""
    lost = machines * wall / args.machine_hours
    again = lost * args.machine_cores * args.video_s / 600 * args.decode_s / 2 / 3600  # half of what is open
    poison = work.videos * args.poison * 2 * args.video_s / 600 * args.decode_s / 3600  # tried twice
    return lost, again, poison


def parser() -> argparse.ArgumentParser:
    """Every rate and every assumption, with where it comes from."""
    out = parser_of(__doc__)

    def add(name: str, value: float, words: str) -> None:
        out.add_argument(f"--{name}", type=float, default=value, metavar="N", help=f"{words}; default: {value:g}")

    add("hours", 1e7, "of footage")
    out.add_argument("--profile", choices=["embedded", "svd"], default="svd", help="which scores; default: svd")
    add("decode-s", 1.22 * 26.9, "core seconds for 600 s of 720p, cuts and flow (benchmarks/curation_throughput.py)")
    add("text-s", 0.43, "core seconds of the text score for a clip (benchmarks/text.py)")
    add("clip-rate", 595, "clips a second of CLIP on a card (benchmarks/scorers_gpu.py)")
    add("coca-rate", 133, "the same, CoCa")
    add("blip-rate", 44, "the same, BLIP-2")
    add("raft-rate", 156, "the same, RAFT")
    add("busy", 0.9, "share of cores and cards kept busy, assumed (benchmarks/cluster.py measures it)")
    add("driver-rate", 5000, "clips a second through one driver, at most (benchmarks/driver.py)")
    add("drivers", 1, "runs side by side, each with a manifest of its own")
    add("video-s", 600, "seconds of a file, assumed")
    add("clips-per-hour", 400, "clips of an hour of footage, assumed")
    add("mbit", 5, "bit rate of the footage in Mbit/s, assumed")
    add("row-bytes", 6000, "of a clip in the manifest with a picture of 5 kB (benchmarks/driver.py)")
    add("shard", 8, "videos in a shard (the configuration's default)")
    add("read-mb", 8, "MB of a read request, assumed")
    add("fragment-mb", 128, "MB of a merged fragment of clips")
    add("storage-gbit", 400, "Gbit/s that the store gives in all, assumed")
    add("machine-cores", 64, "cores of a machine, assumed")
    add("machine-hours", 4000, "hours between two losses of a machine, assumed")
    add("poison", 1e-4, "share of files that end or block their process, assumed")
    add("core-hour", 0.04, "price, assumed")
    add("card-hour", 3.0, "price, assumed")
    add("tb-month", 20, "price of storage, assumed")
    add("months", 1, "that the footage is kept")
    add("request-million", 0.5, "price, assumed")
    return out


def main() -> None:
    """Reckon and print."""
    args = parser().parse_args()
    work = work_of(args)
    print(f"{args.hours:,.0f} hours, profile {args.profile}\n")
    print("| what | amount |\n|---|---|")
    print(f"| files, shards of {args.shard:g} | {work.videos:,.0f}, {work.shards:,.0f} |")
    print(f"| clips | {work.clips:,.0f} |")
    print(f"| core hours | {work.core_hours:,.0f} |")
    print(f"| card hours | {work.card_hours:,.0f} |")
    print(f"| footage read once | {work.footage_tb:,.0f} TB |")
    print(f"| manifest | {work.manifest_tb:,.1f} TB |")
    print(f"| fragments as written, merged | {4 * work.shards:,.0f}, {work.fragments:,.0f} of clips |")
    print(f"| requests of an object store | {work.requests:,.0f} |")
    for name, money in (each := cost(work, args)).items():
        print(f"| cost: {name} | {money:,.0f} |")
    print(f"| cost: all | {sum(each.values()):,.0f} |\n")
    print("| cores | cards | days | waits for | machines lost | core hours done again | spent on poison |")
    print("|---|---|---|---|---|---|---|")
    for cores, cards in SIZES:
        wall, waits = hours(work, args, cores, cards)
        lost, again, poison = failures(work, args, wall, cores / args.machine_cores)
        print(f"| {cores:,} | {cards:,} | {wall / 24:,.1f} | {waits} | {lost:,.0f} | {again:,.0f} | {poison:,.0f} |")


if __name__ == "__main__":
    main()
