"""Candidates for duplicates among millions of hash sequences, without comparing all pairs.

Multi-index hashing (Norouzi, Punjani and Fleet 2012; the tables of Manku, Jain and Das Sarma 2007, section 3): the 64
bits fall into more blocks than can differ, and there is a table for every choice of blocks that must agree. Two hashes
that differ by at most `RADIUS` bits share a key in some table.

A table is one array of 64-bit words, a key in the upper bits and the number of its hash in the lower ones: sorted as
they are, they need no second array and a fraction of the time that sorting by key would. Each core holds one at a time.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from curation.scores.duplicates import informative

RADIUS = 3  # bits: pairs of clips with two samples this near are sure to be found
NEIGHBOURS = 32  # that a hash is compared with in each bucket; more of them meet again when these are grouped
# Up to so many hashes, a table for every so many blocks of RADIUS and so many; and the bits that hashes may differ by
# which share a key. Those of more met by chance; of many, those of 5 and 6 did so nearly always.
_TABLES = [(1_000_000, 2, 6), (4_000_000, 3, 6), (40_000_000, 4, 6), (2**63, 4, 4)]
_GATHERED = 20_000_000  # pairs that are held before those found twice are dropped
_CHUNK = 500_000  # hashes that are looked at at a time
THREADS = min(8, os.cpu_count() or 1)  # each holds a table
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd: brings every bit of a key into the upper ones

Worth = Callable[[np.ndarray], np.ndarray]
"""Which pairs of owners, int64 (n, 2), can be alike at all, bool (n,). Asked of every pair that chance brings near,
from several threads, so it must cost little."""


def candidates(flat: np.ndarray, owner: np.ndarray, clips: int, worth: Worth | None = None) -> np.ndarray:
    """Pairs (a < b) of clips, numbered as by `pair_numbers`, int64 (n,) ascending, of which some hashes are near.

    `flat` holds hashes, uint64 (m,), `owner` whose each is, int64 (m,): a clip, or counted on behind all `clips` a clip
    in a mirror. Every pair with two informative hashes at most RADIUS bits apart is found unless more than NEIGHBOURS
    others share their bucket, or it is not `worth` it.
    """
    flat, owner = _distinct(flat, owner)
    tables, far = _tables(len(flat))

    def found(table: _Table) -> np.ndarray:
        parts = [np.empty(0, np.int64)]
        for a, b in _sharing(flat, owner, table, far):
            pairs = pairs_of(distinct(_numbers(a, b, base)), base)
            pairs = pairs if worth is None else pairs[worth(pairs)]
            parts.append(pair_numbers(pairs % clips, clips))
        return np.concatenate(parts)

    base = 1 + int(owner.max(initial=0))
    every, parts, more = np.empty(0, np.int64), [], 0
    with ThreadPoolExecutor(THREADS) as pool:
        for numbers in pool.map(found, tables):
            parts.append(numbers)
            more += len(numbers)
            if more > max(_GATHERED, len(every) // 4):
                every, parts, more = distinct(np.concatenate([every, *parts])), [], 0
    return distinct(np.concatenate([every, *parts]))


def pair_numbers(pairs: np.ndarray, clips: int) -> np.ndarray:
    """Pairs of clips, int64 (n, 2), in whatever order, as one number each, int64 (n,): sorted ten times as fast as by
    `np.unique` of rows."""
    return _numbers(pairs[:, 0], pairs[:, 1], clips)


def pairs_of(numbers: np.ndarray, clips: int) -> np.ndarray:
    """The pairs, the lower clip first, int64 (n, 2)."""
    return np.stack(np.divmod(numbers, clips), 1)


def distinct(numbers: np.ndarray) -> np.ndarray:
    """As `np.unique`, which takes three times as long for millions. Sorts in place."""
    numbers.sort()
    first = np.ones(len(numbers), bool)
    first[1:] = numbers[1:] != numbers[:-1]
    return numbers[first]


def _numbers(a: np.ndarray, b: np.ndarray, clips: int) -> np.ndarray:
    return np.minimum(a, b) * np.int64(clips) + np.maximum(a, b)


@dataclass(frozen=True, slots=True)
class _Table:
    """The blocks whose bits are a table's key, and which sets of equal blocks, as bits, no earlier table has met."""

    mask: np.uint64
    blocks: tuple[np.uint64, ...]
    new: np.ndarray  # bool (2 ** blocks,)

    def meets_first(self, apart: np.ndarray) -> np.ndarray:
        """Which pairs that share this key shared none before, bool (n,), by the bits they differ in, uint64 (n,)."""
        equal = np.zeros(len(apart), np.uint8)
        for number, block in enumerate(self.blocks):
            equal |= ((apart & block) == 0).view(np.uint8) << np.uint8(number)
        return self.new[equal]


def _tables(count: int) -> tuple[list[_Table], int]:
    """The tables for so many hashes, and the bits that those which meet may differ by.

    2 of 5 blocks make 10 tables of 25 bits, 3 of 6 20 of 32, 4 of 7 35 of 36. Neighbouring bits say much the same and
    are of different blocks: so keys collide less.
    """
    chosen, far = next((chosen, far) for most, chosen, far in _TABLES if count < most)
    many = RADIUS + chosen
    blocks = tuple(np.uint64(sum(1 << bit for bit in range(64) if bit % many == block)) for block in range(many))
    tables, sets = [], np.arange(2**many)
    left = np.ones(2**many, bool)
    for choice in combinations(range(many), chosen):
        key = sum(1 << block for block in choice)
        tables.append(_Table(np.bitwise_or.reduce([blocks[b] for b in choice]), blocks, left & (sets & key == key)))
        left &= ~tables[-1].new
    return tables, far


def _sharing(flat: np.ndarray, owner: np.ndarray, table: _Table, far: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Owners of near hashes that share a key, int64 (n,) each, with NEIGHBOURS of a bucket at most, some at a time.

    Keys are mixed to fewer bits, so a few others come along.
    """
    below = np.uint64(max(1, (len(flat) - 1).bit_length()))
    number = np.uint64((1 << int(below)) - 1)
    words = (flat & table.mask) * _SPREAD
    words &= ~number
    words |= np.arange(len(flat), dtype=np.uint64)
    words.sort()
    for start in range(0, len(words), _CHUNK):
        some = words[start : start + _CHUNK + NEIGHBOURS]
        key = some >> below
        meets = np.zeros(len(key), bool)
        meets[1:] = key[1:] == key[:-1]
        meets[:-1] |= meets[1:]
        at = np.arange(np.count_nonzero(meets[:_CHUNK]))
        key, which = key[meets], some[meets] & number
        hashes, whose = flat[which], owner[which]
        for step in range(1, NEIGHBOURS + 1):
            at = at[: np.searchsorted(at, len(key) - step)]
            at = at[key[at] == key[at + step]]  # sorted: what differs at this step differs at the next
            if not len(at):
                break
            apart = hashes[at] ^ hashes[at + step]
            near = np.flatnonzero(np.bitwise_count(apart) <= far)
            near = near[table.meets_first(apart[near])]
            a, b = whose[at[near]], whose[at[near] + step]
            yield a[a != b].astype(np.int64), b[a != b].astype(np.int64)


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
