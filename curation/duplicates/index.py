"""Candidates for duplicates among millions of hash sequences, without comparing all pairs.

Multi-index hashing (Norouzi, Punjani and Fleet 2012; the tables of Manku, Jain and Das Sarma 2007, section 3): the 64
bits fall into more blocks than can differ, and there is a table for every choice of blocks that must agree. Two hashes
that differ by at most `RADIUS` bits share a key in some table.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from curation.scores.duplicates import hash_distance, informative

RADIUS = 3  # bits: pairs of clips with two samples this near are sure to be found
NEIGHBOURS = 32  # that a hash is compared with in each bucket; more of them meet again when these are grouped
_FAR = 6  # bits: hashes that share a key and yet differ by more met by chance
_TABLES = [(1_000_000, 2), (4_000_000, 3), (2**63, 4)]  # up to so many hashes, of RADIUS and so many blocks, so many
_GATHERED = 20_000_000  # pairs that are held before those found twice are dropped


def candidates(flat: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Pairs (a < b) of different owners, int64 (n, 2), ascending, of which some hashes are near.

    `flat` holds hashes, uint64 (m,), `owner` whose each is, int64 (m,). Every pair with two informative hashes at most
    RADIUS bits apart is found unless more than NEIGHBOURS others share their bucket. Time grows as m log m.
    """
    flat, owner = _distinct(flat, owner)
    base = int(owner.max(initial=-1)) + 1
    parts = [np.empty(0, np.int64)]
    for mask in _masks(len(flat)):
        key = flat & mask
        order = np.argsort(key)
        key, hashes, clip = key[order], flat[order], owner[order]
        at = np.arange(len(key))
        for step in range(1, NEIGHBOURS + 1):
            at = at[at + step < len(key)]
            at = at[key[at] == key[at + step]]  # sorted: what differs at this step differs at the next
            if not len(at):
                break
            a, b = clip[at], clip[at + step]
            near = (a != b) & (hash_distance(hashes[at], hashes[at + step]) <= _FAR)
            a, b = a[near], b[near]
            parts.append(np.minimum(a, b) * base + np.maximum(a, b))
        if sum(map(len, parts)) > _GATHERED:
            parts = [np.unique(np.concatenate(parts))]
    return _pairs(np.unique(np.concatenate(parts)), base)


def distinct_pairs(pairs: np.ndarray, count: int) -> np.ndarray:
    """Pairs, int64 (n, 2), of numbers below `count`, ascending and each once. As one number a pair they are sorted ten
    times as fast as by `np.unique` of rows."""
    return _pairs(np.unique(pairs[:, 0] * count + pairs[:, 1]), count)


def _pairs(keys: np.ndarray, base: int) -> np.ndarray:
    return np.stack([keys // base, keys % base], 1) if base else np.empty((0, 2), np.int64)


def _distinct(flat: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Informative hashes, each once an owner: a still clip repeats its hash."""
    use = informative(flat)
    flat, owner = flat[use], owner[use]
    order = np.lexsort((owner, flat))
    flat, owner = flat[order], owner[order]
    first = np.ones(len(flat), bool)
    first[1:] = (flat[1:] != flat[:-1]) | (owner[1:] != owner[:-1])
    return flat[first], owner[first]


def _masks(count: int) -> Iterator[np.uint64]:
    """The bits of each table's key: 2 of 5 blocks (25 bits, 10 tables), 3 of 6 (32 bits, 20 tables) or, for many, 4 of
    7 (36 bits, 35 tables). Neighbouring bits say much the same and are of different blocks: so keys collide less."""
    chosen = next(chosen for most, chosen in _TABLES if count < most)
    blocks = RADIUS + chosen
    masks = [sum(1 << bit for bit in range(64) if bit % blocks == block) for block in range(blocks)]
    for choice in combinations(masks, chosen):
        yield np.uint64(sum(choice))
