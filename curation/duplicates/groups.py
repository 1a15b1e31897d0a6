"""From pairs that are alike to groups with one representative each."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True, slots=True)
class Grouping:
    """For each clip the row of its group's representative, int64 (n,), and how far it is from it, float32 (n,), in the
    kind's own unit; a representative is its own. `measured` tells the clips that could be compared at all, bool (n,).
    """

    leader: np.ndarray
    distance: np.ndarray
    measured: np.ndarray


def preference(
    pixels: np.ndarray,
    seconds: np.ndarray,
    quality: np.ndarray,
    clip_ids: pa.ChunkedArray | pa.Array,
    known: np.ndarray,
) -> np.ndarray:
    """Position of each clip, int64 (n,), when the best to keep comes first: clips of an existing manifest (`known`),
    then the highest resolution, the longest, the best technical quality (NaN is worst), the smallest id."""
    keys = {
        "known": ~known,
        "pixels": -pixels,
        "seconds": -np.round(seconds, 1),  # lengths of copies differ by a frame or two: not to outweigh quality
        "quality": -np.where(np.isnan(quality), -np.inf, quality),
        "id": clip_ids,
    }
    # as `np.lexsort`, but for texts in a third of the time
    order = pc.sort_indices(  # type: ignore[attr-defined]
        pa.table(keys), sort_keys=[(name, "ascending") for name in keys]
    ).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def one_of_each_shot(pairs: np.ndarray, cost: np.ndarray, shots: np.ndarray) -> np.ndarray:
    """Which pairs, int64 (n, 2), stay when a clip may be alike to one clip of a shot at most, bool (n,).

    Clips of one shot follow each other: a third clip that looks like several of them repeats the likeliest. `cost`
    orders the pairs, different for each, lowest first; the lowest wins, then the lowest of what it leaves open, and so
    on. `shots` int64 names the shot of each clip; pairs within a shot never stay.
    """
    stay = np.zeros(len(pairs), bool)
    left = np.flatnonzero(shots[pairs[:, 0]] != shots[pairs[:, 1]])
    left = left[np.argsort(cost[left])]
    while len(left):
        forth, back = _slots(pairs[left], shots)
        best = _first(forth) & _first(back)
        stay[left[best]] = True
        taken = np.isin(forth, forth[best]) | np.isin(back, back[best])
        left = left[~taken]
    return stay


def _slots(pairs: np.ndarray, shots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(clip, the other's shot) as one number, for both sides of each pair."""
    base = int(shots.max()) + 1
    return pairs[:, 0] * base + shots[pairs[:, 1]], pairs[:, 1] * base + shots[pairs[:, 0]]


def _first(keys: np.ndarray) -> np.ndarray:
    """Where a key occurs for the first time."""
    out = np.zeros(len(keys), bool)
    out[np.unique(keys, return_index=True)[1]] = True
    return out


def stars(pairs: np.ndarray, rank: np.ndarray) -> dict[int, int]:
    """Clips that give way -> the better clip that they are alike to. The best clip left takes all its neighbours, so
    that chains of slowly changing clips do not run together."""
    neighbours: dict[int, list[int]] = {}
    for a, b in pairs.tolist():
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    merged: dict[int, int] = {}
    for clip in sorted(neighbours, key=rank.__getitem__):
        if clip not in merged:
            merged |= {other: clip for other in neighbours[clip] if other not in merged and rank[other] > rank[clip]}
    return merged
