"""Which clips look the same: a difference hash per sample, compared over time."""

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from curation.scores.base import ClipFrames, Column, Scorer

BLOCKS = 5  # the 64 bits fall into five blocks; a table is sorted by two of them
WINDOW = 16  # neighbours that a hash is compared with in each table
MAX_OFFSET = 1  # samples by which a duplicate may start earlier or later
MIN_INFORMATION = 6  # a hash with fewer bits of its rarer value says too little: flat frames, plain gradients
MARGIN = 1.0  # grey levels a neighbour must be brighter by, so that noise in flat areas codes nothing


def difference_hash(gray: np.ndarray) -> np.uint64:
    """64-bit difference hash of a uint8 grey picture (h, w): is the right neighbour brighter, on 9x8 cells?

    Cells are averaged over area, so scaling and re-encoding leave all but a few bits. First cell in the highest bit.
    """
    if gray.ndim != 2 or gray.size == 0:
        raise ValueError(f"a difference hash needs a grey picture (h, w), not {gray.shape}")
    picture = gray.astype(np.float32)
    # INTER_AREA only averages when shrinking; tiny pictures are first enlarged by whole factors.
    grow = (-(-8 // gray.shape[0]), -(-9 // gray.shape[1]))
    if max(grow) > 1:
        picture = np.kron(picture, np.ones(grow, np.float32))
    cells = cv2.resize(picture, (9, 8), interpolation=cv2.INTER_AREA)
    bits = (cells[:, 1:] - cells[:, :-1] > MARGIN).ravel()
    return np.uint64(int.from_bytes(np.packbits(bits).tobytes(), "big"))


def hash_distance(a: np.ndarray | np.uint64, b: np.ndarray | np.uint64) -> np.ndarray:
    """Bits in which two hashes differ, elementwise (Hamming distance)."""
    return np.bitwise_count(np.bitwise_xor(a, b))


def group_duplicates(
    clip_ids: Sequence[str], hashes: Sequence[Sequence[int] | np.ndarray], quality: Sequence[float], bits: float = 6
) -> tuple[list[str], np.ndarray]:
    """Group clips whose hashes differ by at most `bits` of 64 on average over time.

    Returns for each clip the id of its group's representative, and whether it is that representative: the one of
    highest quality (NaN counts lowest; ties go to the smaller id). A clip joins a representative only if the two are
    alike, so chains of slowly changing clips do not run together. Clips overlap by at least half of the longer one.

    Candidates are neighbours in tables sorted by two of five blocks of bits (Manku et al. 2007, section 3): memory and
    time grow as n log n. A pair is sure to share a block pair if any two of their samples differ by at most 3 bits.
    """
    count = len(clip_ids)
    if len(hashes) != count or len(quality) != count:
        raise ValueError(f"{count} clip ids, {len(hashes)} hash sequences and {len(quality)} qualities")
    rank = _rank(clip_ids, quality)
    lengths = np.array([len(h) for h in hashes], np.int64)
    flat = np.concatenate([np.asarray(h, np.uint64) for h in hashes]) if count else np.empty(0, np.uint64)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64) if count else np.empty(0, np.int64)
    leader = np.arange(count)
    alive = np.ones(count, bool)
    while True:
        # A large group does not fit the window at once: its remaining representatives meet in the next round.
        pairs = _candidates(flat, np.repeat(np.arange(count), lengths), alive)
        pairs = pairs[_distances(flat, starts, lengths, pairs) <= bits]
        if len(pairs) == 0:
            break
        merged = _stars(pairs, rank)
        leader[list(merged)] = list(merged.values())
        alive[list(merged)] = False
    # A representative of an early round may have joined another one later.
    while (leader[leader] != leader).any():
        leader = leader[leader]
    return [clip_ids[i] for i in leader.tolist()], leader == np.arange(count)


def _rank(clip_ids: Sequence[str], quality: Sequence[float]) -> np.ndarray:
    """Position of each clip when the best comes first."""
    values = np.array([-np.inf if q is None or np.isnan(q) else q for q in quality], np.float64)
    order = np.lexsort((np.asarray(clip_ids), -values)) if len(clip_ids) else np.empty(0, np.int64)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def _informative(hashes: np.ndarray) -> np.ndarray:
    ones = np.bitwise_count(hashes)
    return np.minimum(ones, 64 - ones) >= MIN_INFORMATION


def _candidates(flat: np.ndarray, owner: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Pairs (a < b) of clips, (n, 2), that share two blocks of some informative hash and lie near in its table."""
    use = alive[owner] & _informative(flat)
    hashes, owner = flat[use], owner[use]
    order = np.lexsort((owner, hashes))
    hashes, owner = hashes[order], owner[order]
    first = np.ones(len(order), bool)  # a still clip repeats its hash: once is enough
    first[1:] = (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
    hashes, owner = hashes[first], owner[first]
    edges = np.linspace(0, 64, BLOCKS + 1).astype(int).tolist()
    masks = [sum(1 << bit for bit in range(lo, hi)) for lo, hi in pairwise(edges)]
    count = len(alive)
    found = np.empty(0, np.int64)
    for chosen in combinations(masks, 2):
        key = hashes & np.uint64(chosen[0] | chosen[1])
        order = np.lexsort((hashes, key))
        key, clip = key[order], owner[order]
        for step in range(1, min(WINDOW, len(key) - 1) + 1):
            near = (key[:-step] == key[step:]) & (clip[:-step] != clip[step:])
            a, b = clip[:-step][near], clip[step:][near]
            found = np.union1d(found, np.minimum(a, b) * count + np.maximum(a, b))
    return np.stack([found // count, found % count], 1) if count else np.empty((0, 2), np.int64)


def _distances(flat: np.ndarray, starts: np.ndarray, lengths: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Least mean distance in bits of each pair over the allowed offsets; inf where too little can be compared."""
    best = np.full(len(pairs), np.inf)
    if len(pairs) == 0:
        return best
    (a, b), (m, n) = pairs.T, lengths[pairs].T
    informative = _informative(flat)
    for offset in range(-MAX_OFFSET, MAX_OFFSET + 1):
        begin, end = np.maximum(0, offset), np.minimum(m, n + offset)  # in samples of a; b is read at t - offset
        total, told = np.zeros(len(pairs)), np.zeros(len(pairs), bool)
        for t in range(begin, int(end.max(initial=0))):
            live = t < end
            i, j = starts[a[live]] + t, starts[b[live]] + t - offset
            total[live] += hash_distance(flat[i], flat[j])
            told[live] |= informative[i] & informative[j]
        overlap = end - begin
        enough = told & (overlap >= 1) & (2 * overlap >= np.maximum(m, n))
        mean = np.divide(total, overlap, out=np.full(len(pairs), np.inf), where=enough)
        best = np.minimum(best, mean)
    return best


def _stars(pairs: np.ndarray, rank: np.ndarray) -> dict[int, int]:
    """Clips that give way -> the better clip that they are alike to. The best clip left takes all its neighbours."""
    neighbours: dict[int, list[int]] = {}
    for a, b in pairs.tolist():
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    merged: dict[int, int] = {}
    for clip in sorted(neighbours, key=rank.__getitem__):
        if clip not in merged:
            merged |= {other: clip for other in neighbours[clip] if other not in merged and rank[other] > rank[clip]}
    return merged


class PerceptualHash(Scorer):
    """Keeps the difference hashes of a clip's samples, from which selections group duplicates."""

    name = "perceptual_hash"
    version = 1

    @property
    def columns(self) -> Sequence[Column]:
        return [Column("phash", pa.list_(pa.uint64()), "64-bit difference hash of each sample, in order of time")]

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        return {"method": "dhash 9x8, area averaged", "margin": MARGIN}

    def score(self, clips: Sequence[ClipFrames], known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The hashes as they are. Raises ValueError for a clip without samples."""
        if any(len(clip.hashes) == 0 for clip in clips):
            raise ValueError("no sample lies inside the clip")
        return [{"phash": [int(h) for h in clip.hashes]} for clip in clips]
