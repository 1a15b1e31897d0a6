"""Clips that look the same: re-encoded, scaled, bordered, trimmed and, if asked for, mirrored."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from curation.duplicates.groups import Grouping, one_of_each_shot, stars
from curation.duplicates.index import THREADS, candidates, distinct, pair_numbers, pairs_of
from curation.duplicates.looks import Looks, directions, look_alike, look_different, neighbours
from curation.duplicates.sequences import Sequences, alike
from curation.scores.duplicates import MIN_INFORMATION, information

PLAIN_BITS = 2 * MIN_INFORMATION  # clips that say less on average are looked for by their looks too
_ROUNDS = 20  # a crowd of n copies shrinks to n / NEIGHBOURS in each
_CHUNK = 4_000_000  # hashes
_COMPARED = 250_000  # pairs at a time


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
    clips = _Clips.of(hashes, None if looks is None else Looks(looks), bits, with_mirrored, shots, known)
    leader, distance = np.arange(count), np.zeros(count, np.float32)
    alive, seen = np.ones(count, bool), np.empty(0, np.int64)
    for _ in range(_ROUNDS):
        # A large group does not fit its buckets at once: those of it that are left meet in the next round.
        numbers, apart = clips.alike(clips.candidates(alive))
        new = ~np.isin(numbers, seen)
        numbers, apart = numbers[new], apart[new]
        seen, pairs = np.concatenate([seen, numbers]), pairs_of(numbers, count)
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
    shots: np.ndarray
    known: np.ndarray | None
    turned: Sequences | None  # the hashes in a mirror, if asked for
    directions: np.ndarray | None  # of the looks, float32 (n, 72); where mirrored ones count, of these too, (2n, 72)

    @classmethod
    def of(
        cls,
        hashes: Sequences,
        looks: Looks | None,
        bits: float,
        with_mirrored: bool,
        shots: np.ndarray,
        known: np.ndarray | None,
    ) -> "_Clips":
        ways = [looks, looks.mirrored()] if looks is not None and with_mirrored else [looks]
        ahead = None if looks is None else np.concatenate([directions(way) for way in ways if way is not None])
        turned = hashes.mirrored() if with_mirrored else None
        return cls(hashes, looks, _plain(hashes), bits, shots, known, turned, ahead)

    def candidates(self, alive: np.ndarray) -> np.ndarray:
        """Candidates among the clips that are `alive`, as `pair_numbers`, int64 (n,)."""
        count = len(self.hashes)
        owner = np.repeat(np.arange(count), self.hashes.lengths)
        use = alive[owner]
        flat, owner = self.hashes.flat[use], owner[use]
        if self.turned is not None:
            # a mirrored clip near another's picture: the pair is what matters
            flat = np.concatenate([flat, self.turned.flat[use]])
            owner = np.concatenate([owner, owner + count])
        found = candidates(flat, owner, count, self._worth)
        if self.looks is None:
            return found
        plain, mirrored = np.flatnonzero(alive & self.plain), self.turned is not None
        near = neighbours(self.looks, plain, self.bits, with_mirrored=mirrored)
        return distinct(np.concatenate([found, pair_numbers(near[self._may_repeat(near)], count)]))

    def _worth(self, pairs: np.ndarray) -> np.ndarray:
        """Which pairs of clips, those in a mirror counted on behind the others, are worth a comparison, bool (n,)."""
        may = np.flatnonzero(self._may_repeat(pairs % len(self.hashes)))
        out = np.zeros(len(pairs), bool)
        out[may] = True if self.directions is None else ~look_different(self.directions, pairs[may])
        return out

    def _may_repeat(self, pairs: np.ndarray) -> np.ndarray:
        """Which pairs are of different shots, not both known, and overlap enough: see `sequences`; bool (n,)."""
        one, other = pairs.T
        m, n = self.hashes.lengths[one], self.hashes.lengths[other]
        out = (self.shots[one] != self.shots[other]) & (5 * np.minimum(m, n) >= 3 * np.maximum(m, n))
        return out if self.known is None else out & ~(self.known[one] & self.known[other])

    def alike(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pairs that are alike, as numbers too, and their distance in bits."""

        def some(at: int) -> tuple[np.ndarray, np.ndarray]:
            asked = numbers[at : at + _COMPARED]
            same, apart = self.compare(pairs_of(asked, len(self.hashes)))
            return asked[same], apart[same]

        with ThreadPoolExecutor(THREADS) as pool:
            parts = list(pool.map(some, range(0, len(numbers), _COMPARED)))
        none = np.empty(0, np.int64), np.empty(0)
        return np.concatenate([none[0], *(n for n, _ in parts)]), np.concatenate([none[1], *(a for _, a in parts)])

    def compare(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which pairs are alike, and their distance in bits."""
        same, apart = self._compare(pairs, self.hashes, self.looks, 0)
        if self.turned is not None:
            looks = None if self.looks is None else self.looks.mirrored()
            turned, as_turned = self._compare(pairs, self.turned, looks, len(self.hashes))
            apart = np.where(turned & ~(same & (apart <= as_turned)), as_turned, apart)
            same |= turned
        return same, apart

    def _compare(
        self, pairs: np.ndarray, others: Sequences, looks: Looks | None, ahead: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Clips with `others`, whose directions lie so many rows `ahead`, by their hashes; `looks` object where these
        say yes by chance, and speak where they say no."""
        same, apart = alike(self.hashes, others, pairs, self.bits)
        if self.looks is not None and looks is not None and self.directions is not None:
            same[same] = ~look_different(self.directions, pairs[same] + [0, ahead])
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
