"""Do two clips look the same? Their hashes over time, slid along each other.

Both clips were sampled on a grid of their own, so a sample of one falls between two samples of the other. What moves
turns its bits one after the other on the way, so such a sample differs from *both* neighbours only in bits that
re-encoding has turned: these are counted, not the distance to either. In a scene at rest all samples are near each
other, those of the next take too: there the right alignment must also be much nearer than the wrong ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from curation.scores.duplicates import hash_distance, informative, mirrored

CONTRAST = 0.4  # of the distance of samples a second apart, what the aligned ones may differ by
STILL_BITS = 4.0  # mean distance of any two samples up to which both clips show one still picture
_APART = 2  # samples
_CHUNK = 100_000  # samples, or pairs of samples, that are compared at a time: as many as a core's cache holds


@dataclass(frozen=True)
class Sequences:
    """Hash sequences of clips, one after the other: `flat` uint64, and where each starts and how long it is, int64."""

    flat: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, hashes: Sequence[Sequence[int] | np.ndarray]) -> "Sequences":
        """From one sequence a clip; an empty one for a clip that was not measured."""
        lengths = np.array([len(h) for h in hashes], np.int64)
        flat = np.concatenate([np.asarray(h, np.uint64) for h in hashes]) if len(lengths) else np.empty(0, np.uint64)
        return cls(flat, np.cumsum(lengths) - lengths, lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def mirrored(self) -> "Sequences":
        """The same clips seen in a mirror."""
        return Sequences(mirrored(self.flat), self.starts, self.lengths)

    @cached_property
    def telling(self) -> np.ndarray:
        """Which hashes are informative, bool (m,)."""
        parts = [informative(self.flat[at : at + _CHUNK]) for at in range(0, len(self.flat), _CHUNK)]
        return np.concatenate([np.empty(0, bool), *parts])

    def padded(self, clips: np.ndarray, width: int) -> np.ndarray:
        """Hashes of some clips as rows, uint64 (clips, width), the last one repeated behind the end."""
        return self.flat[self.places(clips, width)]

    def places(self, clips: np.ndarray, width: int) -> np.ndarray:
        """Where in `flat` they are, int64 (clips, width)."""
        at = np.minimum(np.arange(width), self.lengths[clips, None] - 1)
        return self.starts[clips, None] + np.maximum(at, 0)


def alike(a: Sequences, b: Sequences, pairs: np.ndarray, bits: float) -> tuple[np.ndarray, np.ndarray]:
    """Which pairs, int64 (n, 2) of clips of `a` and of `b`, look the same, and their distance in bits of 64.

    The distance is that of the best alignment in which they overlap by three fifths of the longer one; inf if none says
    enough: flat frames match each other and say nothing.
    """
    distance, offset = _align(a, b, pairs)
    same = distance <= bits
    same[same] = _stands_out(a, b, pairs[same], distance[same], offset[same])
    return same, distance


def _align(a: Sequences, b: Sequences, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least mean of unexplained bits over all alignments, and by how many samples `b` starts later in `a`."""
    best, at = np.full(len(pairs), np.inf), np.zeros(len(pairs), np.int64)
    for rows in _chunks(a, b, pairs, power=1):
        i, j = pairs[rows].T
        m, n = a.lengths[i], b.lengths[j]
        longer, width = np.maximum(m, n), int(np.maximum(m, n).max())
        # rows are samples here and columns pairs: sums over time are then sums of whole rows
        in_a, in_b = (np.ascontiguousarray(of.places(clips, width).T) for of, clips in ((a, i), (b, j)))
        x, y = a.flat[in_a], b.flat[in_b]
        held_x, held_y = ~x, ~y  # bits that stay as they are: to the next sample of x, from the one before of y
        held_x[:-1] ^= x[1:]
        held_x[-1] ^= x[-1]
        held_y[1:] ^= y[:-1]
        held_y[0] ^= y[0]
        telling_x, telling_y = a.telling[in_a], b.telling[in_b]
        inside_x, inside_y = np.arange(width)[:, None] < m, np.arange(width)[:, None] < n
        for offset in sorted(range(-(2 * width // 5), 2 * width // 5 + 1), key=abs):
            xs, ys = _overlapping(width, offset)
            apart = x[xs] ^ y[ys]
            # of the bits that differ, those that the neighbour has as well
            excess = np.bitwise_count(apart & held_x[xs]) + np.bitwise_count(apart & held_y[ys])
            counts = (telling_x[xs] | telling_y[ys]) & inside_x[xs] & inside_y[ys]
            told, overlap = counts.sum(axis=0), np.minimum(m, n + offset) - max(0, offset)
            enough = (5 * overlap >= 3 * longer) & (4 * told >= longer) & (told > 0)
            mean = np.where(enough, (excess * counts).sum(axis=0) / np.maximum(2 * told, 1), np.inf)
            better = mean < best[rows]
            best[rows[better]], at[rows[better]] = mean[better], offset
    return best, at


def _stands_out(a: Sequences, b: Sequences, pairs: np.ndarray, distance: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Whether the alignment is better than chance in this scene, bool (n,); True where nothing in it changes at all."""
    out = np.ones(len(pairs), bool)
    for rows in _chunks(a, b, pairs, power=2):
        i, j = pairs[rows].T
        m, n, shift = a.lengths[i, None, None], b.lengths[j, None, None], offset[rows, None, None]
        width = int(max(m.max(), n.max()))
        in_a, in_b = a.places(i, width)[:, :, None], b.places(j, width)[:, None, :]
        t, s = np.arange(width)[:, None], np.arange(width)[None, :]
        apart = hash_distance(a.flat[in_a], b.flat[in_b]).astype(np.float32)
        valid = (t < m) & (s < n) & (a.telling[in_a] | b.telling[in_b])
        inside = (t >= shift) & (t < n + shift) & (s >= -shift) & (s < m - shift)
        wrong = valid & inside & (np.abs(t - s - shift) >= _APART)
        still = _mean(apart, valid) <= STILL_BITS
        # half a bit on both sides: where nearly nothing changes, one bit of noise is no evidence
        contrast = (distance[rows] + 0.5) <= CONTRAST * (_mean(apart, wrong) + 0.5)
        out[rows] = contrast | still | ~wrong.any(axis=(1, 2))
    return out


def _mean(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    return (values * where).sum(axis=(1, 2)) / np.maximum(where.sum(axis=(1, 2)), 1)


def _overlapping(width: int, offset: int) -> tuple[slice, slice]:
    """Samples of x and of y that face each other when y starts `offset` samples later."""
    return slice(max(0, offset), width + min(0, offset)), slice(max(0, -offset), width - max(0, offset))


def _chunks(a: Sequences, b: Sequences, pairs: np.ndarray, power: int) -> Iterator[np.ndarray]:
    """Row numbers of pairs of similar length, few enough to be compared at a time; too unlike ones left out."""
    longer = np.maximum(a.lengths[pairs[:, 0]], b.lengths[pairs[:, 1]])
    shorter = np.minimum(a.lengths[pairs[:, 0]], b.lengths[pairs[:, 1]])
    usable = np.flatnonzero((shorter > 0) & (5 * shorter >= 3 * longer))
    usable = usable[np.argsort(longer[usable], kind="stable")]
    at = 0
    while at < len(usable):
        # sized by the longest clip of a first guess: the order is ascending
        guess = usable[at : at + max(1, _CHUNK // int(longer[usable[at]]) ** power)]
        count = max(1, _CHUNK // int(longer[guess[-1]]) ** power)
        yield guess[:count]
        at += len(guess[:count])
