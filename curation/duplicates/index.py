"""Candidates for duplicates among millions of hash sequences, without comparing all pairs.

Multi-index hashing (Norouzi, Punjani and Fleet 2012; the tables of Manku, Jain and Das Sarma 2007, section 3): the 64
bits fall into more blocks than can differ, and there is a table for every choice of blocks that must agree. Two hashes
that differ by at most `RADIUS` bits share a key in some table.

A table is one array of 64-bit words, a key in the upper bits and the number of its hash in the lower ones: sorted as
they are, they need no second array and a fraction of the time that sorting by key would. One table is held at a time.
"""

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np

from curation.scores.duplicates import hash_distance, informative

RADIUS = 3  # bits: pairs of clips with two samples this near are sure to be found
NEIGHBOURS = 32  # that a hash is compared with in each bucket; more of them meet again when these are grouped
_FAR = 6  # bits: hashes that share a key and yet differ by more met by chance
_TABLES = [(1_000_000, 2), (4_000_000, 3), (2**63, 4)]  # up to so many hashes, of RADIUS and so many blocks, so many
_GATHERED = 20_000_000  # pairs that are held before those found twice are dropped
_CHUNK = 4_000_000  # hashes that are looked at at a time
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd: brings every bit of a key into the upper ones

Worth = Callable[[np.ndarray], np.ndarray]
"""Which pairs of owners, int64 (n, 2), can be alike at all, bool (n,). Asked of every pair that chance brings near,
so it must cost little."""


def candidates(flat: np.ndarray, owner: np.ndarray, worth: Worth | None = None) -> np.ndarray:
    """Pairs (a < b) of different owners, int64 (n, 2), ascending, of which some hashes are near.

    `flat` holds hashes, uint64 (m,), `owner` whose each is, int64 (m,). Every pair with two informative hashes at most
    RADIUS bits apart is found unless more than NEIGHBOURS others share their bucket, or it is not `worth` it.
    """
    flat, owner = _distinct(flat, owner)
    base = int(owner.max()) + 1 if len(owner) else 0
    parts, held, most = [np.empty(0, np.int64)], 0, _GATHERED
    for mask in _masks(len(flat)):
        for at, other in _sharing(flat, mask):
            a, b = owner[at], owner[other]
            near = (a != b) & (hash_distance(flat[at], flat[other]) <= _FAR)
            a, b = a[near].astype(np.int64), b[near].astype(np.int64)
            found = _once(np.minimum(a, b) * base + np.maximum(a, b))
            if worth is not None and len(found):
                found = found[worth(_pairs(found, base))]
            parts.append(found)
            held += len(found)
            if held > most:
                parts = [_once(np.concatenate(parts))]
                held = len(parts[0])
                most = max(_GATHERED, 2 * held)  # sorted again when as much has come
    return _pairs(_once(np.concatenate(parts)), base)


def _sharing(flat: np.ndarray, mask: np.uint64) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers of hashes that share a key, int64 (n,) each, with NEIGHBOURS of a bucket at most, some at a time.

    Keys are mixed to fewer bits, so a few others come along.
    """
    below = np.uint64(max(1, (len(flat) - 1).bit_length()))
    number = np.uint64((1 << int(below)) - 1)
    words = (flat & mask) * _SPREAD
    words &= ~number
    words |= np.arange(len(flat), dtype=np.uint64)
    words.sort()
    for start in range(0, len(words), _CHUNK):
        key = words[start : start + _CHUNK + NEIGHBOURS] >> below
        at = np.arange(min(_CHUNK, len(key)))
        for step in range(1, NEIGHBOURS + 1):
            at = at[: np.searchsorted(at, len(key) - step)]
            at = at[key[at] == key[at + step]]  # sorted: what differs at this step differs at the next
            if not len(at):
                break
            yield (words[start + at] & number).astype(np.int64), (words[start + at + step] & number).astype(np.int64)


def distinct_pairs(pairs: np.ndarray, count: int) -> np.ndarray:
    """Pairs, int64 (n, 2), of numbers below `count`, ascending and each once. As one number a pair they are sorted ten
    times as fast as by `np.unique` of rows."""
    return _pairs(_once(pairs[:, 0] * count + pairs[:, 1]), count)


def _once(numbers: np.ndarray) -> np.ndarray:
    """As `np.unique`, which takes three times as long for millions. Sorts in place."""
    numbers.sort()
    first = np.ones(len(numbers), bool)
    first[1:] = numbers[1:] != numbers[:-1]
    return numbers[first]


def _pairs(keys: np.ndarray, base: int) -> np.ndarray:
    return np.stack([keys // base, keys % base], 1) if base else np.empty((0, 2), np.int64)


def _distinct(flat: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Informative hashes, ascending, and whose they are, uint32; each once an owner: a still clip repeats its hash."""
    use = np.concatenate(
        [np.empty(0, bool)] + [informative(flat[at : at + _CHUNK]) for at in range(0, len(flat), _CHUNK)]
    )
    flat, owner = flat[use], owner[use].astype(np.uint32)
    order = np.argsort(owner, kind="stable")  # mostly in order already
    order = order[np.argsort(flat[order], kind="stable")]
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
