"""Megabytes a second at which files are identified, next to hashes in memory and to decoding.

    python benchmarks/hashing.py [FILE ...] [--mb 256] [--files 4] [--repeat 3]

First each hash of hashlib over one buffer in memory, on one thread and on as many as there are cores: hashlib releases
the interpreter's lock. Then `sources.read_all` over the files, from the page cache and, after the kernel was asked to
drop them, from the disk; without FILE over `--files` random ones of `--mb` MB. With FILEs that are videos also how long
a bare decode of them takes, of which identifying them is a share. The best of `--repeat` interleaved runs.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.arguments import at_least_one, known_file, parser_of
from curation import sources
from curation.progress import silent
from curation.video.decoder import Decoder

HASHES = ("blake2b", "blake2s", "sha256", "sha512", "sha1")
_BLOCK, _BLOCKS = bytes(os.urandom(4 << 20)), 32


def hashed(name: str, threads: int) -> int:
    """Hash the buffer on every thread; bytes."""

    def one(_: int) -> None:
        digest = hashlib.new(name)
        for _ in range(_BLOCKS):
            digest.update(_BLOCK)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(threads)))
    return threads * _BLOCKS * len(_BLOCK)


def identified(paths: Sequence[Path], cached: bool) -> int:
    """Identify the files; bytes."""
    if not cached:
        for path in paths:
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    sources.read_all([str(path) for path in paths], silent)
    return sum(path.stat().st_size for path in paths)


def decoded(paths: Sequence[Path]) -> int:
    """Decode the files and look at nothing; bytes."""
    for path in paths:
        for _ in Decoder(str(path)):
            pass
    return sum(path.stat().st_size for path in paths)


def random_files(folder: Path, count: int, size: int) -> list[Path]:
    """Files of random bytes."""
    paths = [folder / f"{i}.bin" for i in range(count)]
    for path in paths:
        with path.open("wb") as file:
            for start in range(0, size, len(_BLOCK)):
                file.write(os.urandom(min(len(_BLOCK), size - start)))
    return paths


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("files", nargs="*", type=known_file, metavar="FILE")
    parser.add_argument("--mb", type=at_least_one, default=256)
    parser.add_argument("--files", dest="count", type=at_least_one, default=4)
    parser.add_argument("--repeat", type=at_least_one, default=3)
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        paths = args.files or random_files(Path(folder), args.count, args.mb * 1_000_000)
        rows: dict[str, Callable[[], int]] = {
            f"{name}, {threads} thread{'s' * (threads > 1)}": lambda name=name, threads=threads: hashed(name, threads)
            for name in HASHES
            for threads in sorted({1, cores})
        }
        rows["identify, from the page cache"] = lambda: identified(paths, cached=True)
        rows["identify, from the disk"] = lambda: identified(paths, cached=False)
        if args.files:
            rows["bare decode"] = lambda: decoded(paths)
        best = dict.fromkeys(rows, 0.0)
        for _ in range(args.repeat):
            for name, run in rows.items():
                began = time.perf_counter()
                best[name] = max(best[name], run() / 1e6 / (time.perf_counter() - began))
    for name, rate in best.items():
        print(f"{name:<32} {rate:8.0f} MB/s")


if __name__ == "__main__":
    main()
