"""Of each group, the best few: what duplicates, top-k rules, caps and samples have in common.

Arrays are over rows of the table; a `Ranking` holds those rows that it is about, group by group, the best first.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True, slots=True)
class Ranking:
    """Rows, int64 (m,), ordered by group and the best first; the group of each, ascending from 0, int64 (m,); and how
    many of each group may stay, int64 (groups,)."""

    rows: np.ndarray
    group: np.ndarray
    limits: np.ndarray

    def surplus(self, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is too many among the rows that `keep`, bool (n,), leaves: those rows, int64 (f,), for each the best row
        that is left of its group, itself included, and its group."""
        left = keep[self.rows]
        rows, group = self.rows[left], self.group[left]
        first = np.flatnonzero(np.diff(group, prepend=-1))
        sizes = np.diff(np.append(first, len(group)))
        within = np.arange(len(group)) - np.repeat(first, sizes)
        fell = within >= self.limits[group]
        return rows[fell], np.repeat(rows[first], sizes)[fell], group[fell]


def codes_of(table: pa.Table, columns: list[str], rows: np.ndarray) -> np.ndarray:
    """A number for each different value of these columns together, int64 (m,), from 0; null is a value."""
    out = np.zeros(len(rows), np.int64)
    for name in columns:
        column = table[name].take(pa.array(rows)).combine_chunks()
        encoded = pc.dictionary_encode(column, null_encoding="encode")  # type: ignore[attr-defined]
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        out = out * max(len(encoded.dictionary), 1) + encoded.indices.to_numpy(zero_copy_only=False)
        if len(columns) > 1:
            out = np.unique(out, return_inverse=True)[1]
    return out


def best_first(
    table: pa.Table, rows: np.ndarray, group: np.ndarray, score: np.ndarray | None, limits: np.ndarray
) -> Ranking:
    """Order `rows`, int64 (m,), by `group`, int64 (m,), then by the highest `score`, float64 (m,) without NaN, then by
    clip id."""
    ids = table["clip_id"].take(pa.array(rows)).combine_chunks()
    # One sort of integers does nearly all; what it cannot tell apart is settled after it.
    with np.errstate(over="ignore"):
        minor = _prefix(ids) if score is None else ~_ascending(score.astype(np.float32))
    key = (group.astype(np.uint64) << np.uint64(32)) | minor
    order = np.argsort(key)
    ranked = key[order]
    same = np.zeros(len(ranked) + 1, bool)
    same[1:-1] = ranked[1:] == ranked[:-1]
    tied = np.flatnonzero(same[1:] | same[:-1])
    if len(tied):
        unsettled = order[tied]
        names = ids.take(pa.array(unsettled)).to_numpy(zero_copy_only=False).astype(str)
        exact = np.zeros(len(tied)) if score is None else -score[unsettled]
        order[tied] = unsettled[np.lexsort((names, exact, key[unsettled]))]
    return Ranking(rows[order], group[order], limits)


def _ascending(values: np.ndarray) -> np.ndarray:
    """float32 (n,) as uint32 (n,) of the same order."""
    bits = (values + np.float32(0)).view(np.uint32)  # -0 becomes 0, which it equals
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _prefix(ids: pa.Array) -> np.ndarray:
    """The first four bytes of each text as a number, uint32 (n,), in the order of the texts."""
    offsets, text = (np.frombuffer(b or b"", t) for b, t in zip(ids.buffers()[1:], (np.int32, np.uint8), strict=True))
    offsets = offsets[ids.offset : ids.offset + len(ids) + 1]
    out = np.zeros(len(ids), np.uint32)
    for at in offsets[:-1] + np.arange(4)[:, None]:
        inside = at < offsets[1:]
        out = (out << 8) | np.where(inside, np.append(text, 0)[np.minimum(at, len(text))], 0).astype(np.uint32)
    return out
