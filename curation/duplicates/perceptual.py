"""Clips that look the same: re-encoded, scaled, bordered, trimmed and, if asked for, mirrored."""

import numpy as np

from curation.duplicates.groups import Grouping, one_of_each_shot, stars
from curation.duplicates.index import candidates
from curation.duplicates.sequences import Sequences, alike

_ROUNDS = 20  # a crowd of n copies shrinks to n / NEIGHBOURS in each


def group_perceptual(
    hashes: Sequences,
    shots: np.ndarray,
    starts: np.ndarray,
    rank: np.ndarray,
    bits: float,
    *,
    with_mirrored: bool = False,
    known: np.ndarray | None = None,
) -> Grouping:
    """Group clips whose hashes differ by at most `bits` of 64 over time; see `sequences` for what that means.

    `shots`, int64 (n,), names the shot that each clip is a piece of: pieces of one shot are never duplicates, and a
    clip repeats at most one of them, the likeliest. `starts`, seconds (n,), decides between equals. `rank`, int64 (n,),
    is the `preference`: each clip joins a better one that it is alike to itself. Clips that are `known`, bool (n,), are
    not compared with each other.
    """
    count = len(hashes)
    leader, distance = np.arange(count), np.zeros(count, np.float32)
    alive, seen = np.ones(count, bool), np.empty(0, np.int64)
    for _ in range(_ROUNDS):
        # A large group does not fit its buckets at once: those of it that are left meet in the next round.
        pairs = _pairs(hashes, alive, with_mirrored)
        pairs = pairs[shots[pairs[:, 0]] != shots[pairs[:, 1]]]
        if known is not None:
            pairs = pairs[~(known[pairs[:, 0]] & known[pairs[:, 1]])]
        fresh = ~np.isin(pairs[:, 0] * count + pairs[:, 1], seen)
        pairs = pairs[fresh]
        seen = np.union1d(seen, pairs[:, 0] * count + pairs[:, 1])
        same, apart = _compare(hashes, pairs, bits, with_mirrored)
        pairs, apart = pairs[same], apart[same]
        better = np.sort(rank[pairs], axis=1)
        order = np.lexsort((better[:, 1], better[:, 0], np.abs(np.diff(starts[pairs], axis=1)[:, 0]), apart))
        cost = np.empty(len(order), np.int64)
        cost[order] = np.arange(len(order))
        merged = stars(pairs[one_of_each_shot(pairs, cost, shots)], rank)
        if not merged:
            break
        leader[list(merged)] = list(merged.values())
        alive[:] = False
        alive[pairs] = True
        alive[list(merged)] = False
    _settle(leader, distance, hashes, bits, with_mirrored)
    return Grouping(leader, distance, hashes.lengths > 0)


def _pairs(hashes: Sequences, alive: np.ndarray, with_mirrored: bool) -> np.ndarray:
    count = len(hashes)
    owner = np.repeat(np.arange(count), hashes.lengths)
    use = alive[owner]
    flat, owner = hashes.flat[use], owner[use]
    if not with_mirrored:
        return candidates(flat, owner)
    both = Sequences(flat, owner, owner).mirrored().flat
    found = candidates(np.concatenate([flat, both]), np.concatenate([owner, owner + count]))
    found = np.sort(found % count, axis=1)  # a mirrored clip near another's picture: the pair is what matters
    return np.unique(found[found[:, 0] != found[:, 1]], axis=0)


def _compare(hashes: Sequences, pairs: np.ndarray, bits: float, with_mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """Which pairs are alike, and their distance in bits."""
    same, apart = alike(hashes, hashes, pairs, bits)
    if with_mirrored:
        turned, as_turned = alike(hashes, hashes.mirrored(), pairs, bits)
        apart = np.where(turned & ~(same & (apart <= as_turned)), as_turned, apart)
        same |= turned
    return same, apart


def _settle(leader: np.ndarray, distance: np.ndarray, hashes: Sequences, bits: float, with_mirrored: bool) -> None:
    """Follow each clip to its last representative, in place. One that is not alike to it becomes its own again: a
    representative too many does less harm than a clip lost."""
    root = leader.copy()
    while (root[root] != root).any():
        root = root[root]
    members = np.flatnonzero(root != np.arange(len(root)))
    same, apart = _compare(hashes, np.stack([root[members], members], 1), bits, with_mirrored)
    leader[:] = np.arange(len(leader))
    leader[members[same]] = root[members[same]]
    distance[members[same]] = apart[same]
