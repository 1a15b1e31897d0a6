"""A folder of small sound videos, and of files that are broken, lying or hostile in some forty ways.

    python benchmarks/damaged_footage.py FOLDER [--good 160] [--seed 0] [--from VIDEOS]

FOLDER gets good_NNN.*, one bad_KIND.* of each kind, and damaged.json, which says what is owed for each bad file:
`failed` (no footage, a reason), `told` (a reason, and what is sound of it, if anything) or `any` (nothing need tell
that something is amiss). --from takes the first videos of a folder as the good ones. The same seed gives the same
files. None takes more than 200 kB of disk, and some claim terabytes: never read them without a limit on memory.
"""

import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.arguments import at_least_one, known_folder, parser_of, videos_in
from benchmarks.footage import bombs, damage
from benchmarks.footage.small import GOOD, footage


@dataclass(frozen=True, slots=True)
class Kind:
    """A way to be broken: what makes it, the file's suffix, and what is owed for it."""

    make: Callable[[random.Random], bytes]
    suffix: str
    owed: str

    @property
    def name(self) -> str:
        return self.make.__name__


KINDS = [
    Kind(damage.truncated_before_index, ".mp4", "failed"),
    Kind(damage.truncated_after_index, ".mp4", "told"),
    Kind(damage.truncated_webm, ".webm", "told"),
    Kind(damage.cut_off_header, ".mkv", "any"),
    Kind(damage.bit_flips, ".mp4", "told"),
    Kind(damage.zeroed_block, ".mp4", "told"),
    Kind(damage.noise_in_packets, ".ts", "told"),
    Kind(damage.wrong_sizes, ".mp4", "told"),
    Kind(damage.wrong_offsets, ".mp4", "failed"),
    Kind(damage.wrong_order, ".mp4", "any"),
    Kind(damage.broken_clusters, ".mkv", "told"),
    Kind(damage.no_extradata, ".mp4", "failed"),
    Kind(damage.encrypted, ".mp4", "failed"),
    Kind(damage.unknown_codec, ".mp4", "failed"),
    Kind(damage.changing_size, ".ts", "any"),
    Kind(damage.empty, ".mp4", "failed"),
    Kind(damage.text, ".mp4", "failed"),
    Kind(damage.archive, ".mkv", "failed"),
    Kind(damage.picture, ".mp4", "failed"),
    Kind(damage.noise, ".avi", "failed"),
    Kind(damage.sound_only, ".mp4", "failed"),
    Kind(damage.hls_of_itself, ".ts", "failed"),
    Kind(damage.hls_of_elsewhere, ".mp4", "failed"),
    Kind(damage.concat_of_itself, ".mp4", "failed"),
    Kind(damage.concat_of_a_neighbour, ".mkv", "failed"),
    Kind(damage.session_description, ".mp4", "failed"),
    Kind(bombs.gif_of_65535, ".gif", "failed"),
    Kind(bombs.gif_of_16000, ".gif", "failed"),
    Kind(bombs.h264_of_65536, ".ts", "failed"),
    Kind(bombs.h264_of_16000, ".ts", "failed"),
    Kind(bombs.size_grows, ".ts", "told"),
    Kind(bombs.billion_frames, ".mp4", "failed"),
    Kind(bombs.lasts_for_ever, ".mp4", "any"),
    Kind(bombs.frames_of_days, ".mp4", "any"),
    Kind(bombs.endless_mkv, ".mkv", "any"),
    Kind(bombs.times_of_2_to_62, ".mkv", "told"),
]

# what cannot be a file's bytes: each makes it at a path


def _link(path: Path, target: str) -> None:
    path.symlink_to(target)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


PLACES: dict[str, tuple[Callable[[Path], None], str]] = {
    "dangling_link": (lambda path: _link(path, "/nowhere/at/all.mp4"), "nothing"),
    "link_to_itself": (lambda path: _link(path, path.name), "nothing"),
    "link_to_endless_zeros": (lambda path: _link(path, "/dev/zero"), "nothing"),
    "pipe": (os.mkfifo, "nothing"),
    "terabyte_of_zeros": (_sparse, "failed"),
    "folder": (os.mkdir, "nothing"),
}
"""Things in a folder that are no film: what makes each, and what is owed for it; `nothing` where it
is no regular file: such are skipped and counted."""


def make(folder: Path, good: int, seed: int = 0, films: Sequence[Path] = ()) -> dict[str, dict[str, str]]:
    """Fill a folder. Gives, by file name, the kind of each damaged file and what is owed for it.

    `films` are taken as good ones, as many as there are, instead of synthetic footage.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(good):
        suffix = list(GOOD)[i % len(GOOD)]
        if not films:
            (folder / f"good_{i:03d}{suffix}").write_bytes(footage(1000 * (seed + 1) + i, suffix))
        elif i < len(films):
            (folder / f"good_{i:03d}{films[i].suffix}").write_bytes(films[i].read_bytes())
    owed: dict[str, dict[str, str]] = {}
    for kind in KINDS:
        name = f"bad_{kind.name}{kind.suffix}"
        data = kind.make(random.Random(f"{seed}/{kind.name}"))
        (folder / name).write_bytes(data.replace(b"SELF", name.encode()))
        owed[name] = {"kind": kind.name, "owed": kind.owed}
    for what, (place, due) in PLACES.items():
        place(folder / f"bad_{what}.mp4")
        owed[f"bad_{what}.mp4"] = {"kind": what, "owed": due}
    (folder / "damaged.json").write_text(json.dumps(owed, indent=1))
    return owed


def main() -> None:
    """Make the folder that the command line asks for."""
    parser = parser_of(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--good", type=at_least_one, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from", dest="films", type=known_folder, metavar="VIDEOS")
    args = parser.parse_args()
    if args.folder.exists() and any(args.folder.iterdir()):
        parser.error(f"{args.folder} holds something already")
    films = videos_in(parser, args.films) if args.films else []
    owed = make(args.folder, args.good, args.seed, films)
    print(f"{args.folder}: {len(list(args.folder.glob('good_*')))} sound, {len(owed)} damaged")


if __name__ == "__main__":
    main()
