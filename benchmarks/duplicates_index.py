"""Grouping of clips that look the same at scale: seconds, memory, and recall of planted copies, in one run.

    python benchmarks/duplicates_index.py [--hashes 2500000 5000000 10000000] [--copies 0.02] [--seed 0] [--bits 8]

Clips of 4 to 16 samples are synthetic pictures of the 9 x 8 cells that hashes are made of: random fields whose spectrum
falls as 1/f, as photographs' do, or as 1/f^2, with brightness contrasts from dim to strong, drifting from sample to
sample; one in fifty is a plain ground. Their hashes are unevenly spread over the 64 bits, as real ones are: the run
prints how far hashes of different clips are apart. `--copies` is the share of clips that are a copy of another: sampled
midway between its samples, with a codec's noise on the cells, up to a tenth trimmed off. Recall: a copy's group is its
original's. A stranger is a representative that the clip is no copy of, but alike to by chance. The floor is one sort of
all hashes, without which nothing can be found; the peer, XOR and bit count of a few hashes with all, reckoned for all
pairs. Every number of hashes has a process of its own; memory is its peak, and what making the clips had needed.
From several numbers of hashes follows how the time grows: as which power of the clips between the last two.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.alone import alone, peak_gb
from benchmarks.arguments import at_least_one, parser_of
from curation.duplicates.perceptual import group_perceptual
from curation.duplicates.sequences import Sequences
from curation.scores.duplicates import MARGIN, hash_distance, informative

ROWS, COLUMNS = 8, 9
SMOOTH = 0.4  # share of clips that show little detail
CLIPS = 50_000  # made at a time


def spectrum(steep: float) -> np.ndarray:
    """What turns white noise (n, 72) into fields of cells whose amplitude falls as 1/f^steep; float32 (72, 72)."""
    fy, fx = np.meshgrid(np.fft.fftfreq(2 * ROWS), np.fft.fftfreq(2 * COLUMNS), indexing="ij")
    power = np.maximum(fy**2 + fx**2, (0.5 / COLUMNS) ** 2) ** -steep
    covariance = np.fft.ifft2(power).real
    y, x = (axis.ravel() for axis in np.mgrid[:ROWS, :COLUMNS])
    matrix = covariance[np.abs(y[:, None] - y), np.abs(x[:, None] - x)]
    return (np.linalg.cholesky(matrix / matrix[0, 0] + 1e-6 * np.eye(len(y)))).T.astype(np.float32)


def hashed(cells: np.ndarray) -> np.ndarray:
    """The difference hash of cells (n, 72), uint64 (n,), as `difference_hash` makes it of a picture's."""
    inward = np.diff(cells.reshape(-1, ROWS, COLUMNS), axis=2)
    inward[..., 4:] *= -1
    bits = np.packbits((inward > MARGIN).reshape(len(cells), 64), axis=1)
    return bits.view(">u8")[:, 0].astype(np.uint64)


def fields(smooth: np.ndarray, shapes: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """One random field of cells for each clip, float32 (n, 72), by the second of the shapes where it is `smooth`."""
    noise = rng.standard_normal((len(smooth), ROWS * COLUMNS), np.float32)
    return np.where(smooth[:, None], noise @ shapes[1], noise @ shapes[0])


@dataclass(frozen=True, slots=True)
class Made:
    """Hash sequences, looks uint8 (clips, 219), and of which clip each is a copy, int64 (clips,), -1 for none."""

    hashes: Sequences
    looks: np.ndarray
    source: np.ndarray


def levels(samples: list[np.ndarray], first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The cells (clips, 72) of each clip's first, middle and last sample as grey levels and their mean
    as colour, uint8 (clips, 219)."""
    clip, out = np.arange(len(first)), []
    for at in (first, (first + last) // 2, last):
        chosen = np.zeros_like(samples[0])
        for t, cells in enumerate(samples):
            chosen[at == t] = cells[at == t]
        out.append(np.clip(np.round(120 + chosen[clip]), 0, 255).astype(np.uint8))
    mean = np.concatenate(out, axis=1).mean(axis=1, keepdims=True).astype(np.uint8)
    return np.concatenate([*out, mean, mean, mean], axis=1)


def clips(count: int, copies: float, rng: np.random.Generator) -> Made:
    """So many clips, and copies of some of them."""
    shapes = spectrum(1.0), spectrum(2.0)
    flat, looks, lengths, source = [], [], [], []
    for at in range(0, count, CLIPS):
        many = min(CLIPS, count - at)
        length = rng.integers(4, 17, many)
        contrast = np.exp(rng.normal(np.log(25), 0.6, (many, 1))).astype(np.float32)
        contrast[rng.random(many) < 0.02] = 0.2
        speed = np.exp(rng.normal(np.log(0.2), 0.7, (many, 1))).astype(np.float32)  # share of a field new each sample
        copied = np.flatnonzero(rng.random(many) < copies)
        trim = np.round(length[copied] * rng.uniform(-0.1, 0.1, len(copied))).astype(int)
        smooth = rng.random(many) < SMOOTH
        field = fields(smooth, shapes, rng)
        own, theirs = [], []
        for _ in range(int(length.max())):
            step = fields(smooth, shapes, rng)
            after = np.sqrt(np.maximum(1 - speed**2, 0)) * field + np.minimum(speed, 1) * step
            own.append(contrast * field)
            between = contrast[copied] * (field[copied] + after[copied]) / 2
            theirs.append(between + rng.normal(0, 0.7, between.shape).astype(np.float32))
            field = after
        here = np.arange(len(own))
        begin, end = np.maximum(trim, 0), length[copied] - 1 + np.minimum(trim, 0)
        end = np.maximum(end, begin + 2)
        inside = here < length[:, None], (here >= begin[:, None]) & (here < end[:, None])
        flat += [np.stack([hashed(c) for c in x], 1)[w] for x, w in zip((own, theirs), inside, strict=True)]
        looks += [levels(own, np.zeros_like(length), length - 1), levels(theirs, begin, end - 1)]
        first = sum(map(len, lengths))
        lengths += [length, inside[1].sum(axis=1)]
        source += [np.full(many, -1), first + copied]
    all_lengths = np.concatenate(lengths)
    hashes = Sequences(np.concatenate(flat), np.cumsum(all_lengths) - all_lengths, all_lengths)
    return Made(hashes, np.concatenate(looks), np.concatenate(source))


def grouped(wanted: int, copies: float, bits: float, seed: int) -> str:
    """Make clips of so many hashes and group them; what was found, as JSON: seconds, GB, shares."""
    rng = np.random.default_rng(seed)
    made = clips(round(wanted / 10 / (1 + copies)), copies, rng)
    hashes, source, before = made.hashes, made.source, peak_gb()
    chosen = hashes.flat[rng.integers(0, len(hashes.flat), (2, 100_000))]
    apart = hash_distance(*chosen[:, informative(chosen).all(axis=0)])
    began = time.perf_counter()
    np.sort(hashes.flat)
    floor = time.perf_counter() - began
    began = time.perf_counter()
    for i in range(5):
        (hash_distance(hashes.flat, hashes.flat[i]) <= bits).any()
    peer = (time.perf_counter() - began) / 5 * len(hashes.flat) / 2
    every = np.arange(len(hashes))
    began, used = time.perf_counter(), time.process_time()
    found = group_perceptual(hashes, every, np.zeros(len(every)), every, bits, looks=made.looks)
    seconds, busy = time.perf_counter() - began, time.process_time() - used
    copy = np.flatnonzero(source >= 0)
    original = np.where(source >= 0, source, every)
    gone = np.flatnonzero(found.leader != every)
    strange = original[gone] != original[found.leader[gone]]
    return json.dumps(
        {
            "hashes": len(hashes.flat),
            "clips": len(every),
            "seconds": seconds,
            "busy": busy,
            "floor": floor,
            "peer": peer,
            "peak": peak_gb(),
            "before": before,
            "recall": float((found.leader[copy] == found.leader[source[copy]]).mean()),
            "gone": len(gone),
            "strange": float(strange.mean()) if len(gone) else 0.0,
            "spread": [float(apart.mean()), float(apart.std()), float((apart <= 12).mean())],
        }
    )


def measure(sizes: Sequence[int], copies: float = 0.02, bits: float = 8, seed: int = 0) -> None:
    """Print a line for every number of hashes, and how the time grows."""
    columns = ("hashes", "clips", "s", "s of CPU", "us a clip", "floor, s", "all pairs, h", "GB", "GB made", "recall")
    print("".join(f"{c:>14}" for c in (*columns, "give way", "to strangers")), flush=True)
    runs = []
    for size in sizes:
        f = json.loads(alone(grouped, size, copies, bits, seed).said)
        runs.append(f)
        whole = f"{f['hashes']:14}{f['clips']:14}{f['seconds']:14.1f}{f['busy']:14.1f}"
        rates = f"{1e6 * f['busy'] / f['clips']:14.0f}{f['floor']:14.2f}{f['peer'] / 3600:14.1f}"
        what = f"{f['peak']:14.2f}{f['before']:14.2f}{f['recall']:14.4f}{f['gone']:14}{f['strange']:14.4f}"
        print(whole + rates + what, flush=True)
    mean, deviation, near = runs[-1]["spread"]
    print(f"telling hashes of different clips: {mean:.1f} bits apart, deviation {deviation:.1f}, {near:.4f} at most 12")
    if len(runs) > 1 and runs[-2]["hashes"] != runs[-1]["hashes"]:
        less, more = runs[-2:]
        power = math.log(more["busy"] / less["busy"]) / math.log(more["hashes"] / less["hashes"])
        least, most = (more["busy"] * 10**p / 3600 for p in sorted((power, 2.0)))
        print(f"time grows as the power {power:.2f} of clips, and of what chance brings near as the power 2: reckoned,")
        print(f"ten times as many take {least:.1f} to {most:.1f} h of CPU, if memory holds the pairs")


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--hashes", type=at_least_one, nargs="+", default=[2_500_000, 5_000_000, 10_000_000])
    parser.add_argument("--copies", type=float, default=0.02, help="share of clips that are copied")
    parser.add_argument("--bits", type=float, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    measure(args.hashes, args.copies, args.bits, args.seed)


if __name__ == "__main__":
    main()
