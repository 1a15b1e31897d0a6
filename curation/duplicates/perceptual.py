"""Clips that look the same: re-encoded, scaled, bordered, trimmed and, if asked for, mirrored."""

from dataclasses import dataclass

import numpy as np

from curation.duplicates.groups import Grouping, one_of_each_shot, stars
from curation.duplicates.index import candidates, distinct_pairs
from curation.duplicates.looks import Looks, look_alike, look_different, neighbours
from curation.duplicates.sequences import Sequences, alike
from curation.scores.duplicates import MIN_INFORMATION, information

PLAIN_BITS = 2 * MIN_INFORMATION  # clips that say less on average are looked for by their looks too
_ROUNDS = 20  # a crowd of n copies shrinks to n / NEIGHBOURS in each
_CHUNK = 4_000_000  # hashes


def group_perceptual(
    hashes: Sequences,
    shots: np.ndarray,
    starts: np.ndarray,
    rank: np.ndarray,
    bits: float,
    *,
    with_mirrored: bool = False,
    known: np.ndarray | None = None,
    looks: np.ndarray | None = None,
) -> Grouping:
    """Group clips whose hashes differ by at most `bits` of 64 over time; see `sequences` for what that means, and
    `looks` for the second opinion that there is where `looks`, uint8 (n, 219), are given (zeros: not measured).

    `shots`, int64 (n,), names the shot that each clip is a piece of: pieces of one shot are never duplicates, and a
    clip repeats at most one of them, the likeliest. `starts`, seconds (n,), decides between equals. `rank`, int64 (n,),
    is the `preference`: each clip joins a better one that it is alike to itself. Clips that are `known`, bool (n,), are
    not compared with each other.
    """
    count = len(hashes)
    clips = _Clips(hashes, None if looks is None else Looks(looks), _plain(hashes), bits, with_mirrored)
    leader, distance = np.arange(count), np.zeros(count, np.float32)
    alive, seen = np.ones(count, bool), np.empty(0, np.int64)
    for _ in range(_ROUNDS):
        # A large group does not fit its buckets at once: those of it that are left meet in the next round.
        pairs = clips.pairs(alive)
        pairs = pairs[shots[pairs[:, 0]] != shots[pairs[:, 1]]]
        if known is not None:
            pairs = pairs[~(known[pairs[:, 0]] & known[pairs[:, 1]])]
        fresh = ~np.isin(pairs[:, 0] * count + pairs[:, 1], seen)
        pairs = pairs[fresh]
        seen = np.union1d(seen, pairs[:, 0] * count + pairs[:, 1])
        same, apart = clips.compare(pairs)
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
    _settle(leader, distance, clips)
    return Grouping(leader, distance, hashes.lengths > 0)


@dataclass(frozen=True, slots=True)
class _Clips:
    """What clips are compared by, and how."""

    hashes: Sequences
    looks: Looks | None
    plain: np.ndarray  # bool (n,): hashes alone do not find it
    bits: float
    with_mirrored: bool

    def pairs(self, alive: np.ndarray) -> np.ndarray:
        """Candidates (a < b) among the clips that are `alive`, int64 (n, 2)."""
        count = len(self.hashes)
        owner = np.repeat(np.arange(count), self.hashes.lengths)
        use = alive[owner]
        flat, owner = self.hashes.flat[use], owner[use]
        if self.with_mirrored:
            turned = Sequences(flat, owner, owner).mirrored().flat
            found = candidates(np.concatenate([flat, turned]), np.concatenate([owner, owner + count]))
            found = np.sort(found % count, axis=1)  # a mirrored clip near another's picture: the pair is what matters
        else:
            found = candidates(flat, owner)
        shorter, longer = np.sort(self.hashes.lengths[found], axis=1).T
        found = found[5 * shorter >= 3 * longer]  # others are never alike: see `sequences`
        if self.looks is not None:
            near = neighbours(
                self.looks, np.flatnonzero(alive & self.plain), self.bits, with_mirrored=self.with_mirrored
            )
            found = np.concatenate([found, near])
        return distinct_pairs(found[found[:, 0] != found[:, 1]], count)

    def compare(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which pairs are alike, and their distance in bits."""
        same, apart = self._compare(pairs, self.hashes, self.looks)
        if self.with_mirrored:
            looks = None if self.looks is None else self.looks.mirrored()
            turned, as_turned = self._compare(pairs, self.hashes.mirrored(), looks)
            apart = np.where(turned & ~(same & (apart <= as_turned)), as_turned, apart)
            same |= turned
        return same, apart

    def _compare(self, pairs: np.ndarray, others: Sequences, looks: Looks | None) -> tuple[np.ndarray, np.ndarray]:
        """Clips with `others`, by their hashes; `looks` object where these say yes by chance, and speak
        where they say no."""
        same, apart = alike(self.hashes, others, pairs, self.bits)
        if self.looks is not None and looks is not None:
            same[same] = ~look_different(self.looks, looks, pairs[same])
            lengths = np.sort(self.hashes.lengths[pairs], axis=1)
            unsure = np.flatnonzero(~same & (5 * lengths[:, 0] >= 3 * lengths[:, 1]))
            still = self.plain[pairs[unsure, 0]] | self.plain[pairs[unsure, 1]]
            found, angle = look_alike(self.looks, looks, pairs[unsure], self.bits, still)
            same[unsure[found]], apart[unsure[found]] = True, angle[found]
        return same, apart


def _plain(hashes: Sequences) -> np.ndarray:
    """Whether a clip's hashes say little on average, bool (n,)."""
    told = np.concatenate(
        [np.zeros(1, np.int64)]
        + [information(hashes.flat[at : at + _CHUNK]) for at in range(0, len(hashes.flat), _CHUNK)]
    )
    total = np.cumsum(told, dtype=np.int64)
    said = total[hashes.starts + hashes.lengths] - total[hashes.starts]
    return (hashes.lengths > 0) & (said < PLAIN_BITS * hashes.lengths)


def _settle(leader: np.ndarray, distance: np.ndarray, clips: _Clips) -> None:
    """Follow each clip to its last representative, in place. One that is not alike to it becomes its own again: a
    representative too many does less harm than a clip lost."""
    root = leader.copy()
    while (root[root] != root).any():
        root = root[root]
    members = np.flatnonzero(root != np.arange(len(root)))
    same, apart = clips.compare(np.stack([root[members], members], 1))
    leader[:] = np.arange(len(leader))
    leader[members[same]] = root[members[same]]
    distance[members[same]] = apart[same]
