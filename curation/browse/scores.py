"""A manifest's numbers in memory: how many clips lie within some bounds, their histograms, and their order.

One pass in blocks that stay in the processor's cache, on all cores, counts ten million clips while a slider moves.
Counts are exact. Histograms are of an even sample of a million clips, which is more than their few bars can show; for
those the number of each score's bar is known beforehand, so that no pass divides.
"""

import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from curation.browse.filters import Bounds, limits
from curation.inspect import open_table, readable, score_fields

BARS = 50
STEPS = 4 * BARS  # of a slider: its handle stands on a bar's edge, or between two
_NOWHERE = 255  # the bar of a clip that was not measured
_BLOCK = 1 << 16
_SAMPLE = 1_000_000  # clips that axes and histograms are taken from
IDENTITY = ("frames", "fps", "width", "height")  # numbers of a clip that are no scores, but that a policy may bound


@dataclass(frozen=True, slots=True)
class Axis:
    """What a histogram and its slider show. Long tails lie in the outermost bars."""

    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Axis":
        """The range of the finite ones of `values` (n,), without tails beyond the 0.5 and 99.5 percentiles that would
        squeeze the rest."""
        sample = values[:: max(1, len(values) // _SAMPLE)].astype(np.float64)
        sample = sample[np.isfinite(sample)]
        if not len(sample):
            return cls(0.0, 1.0)
        least, most = float(sample.min()), float(sample.max())
        low, high = (float(q) for q in np.quantile(sample, (0.005, 0.995)))
        room = (high - low) / 4
        start, stop = least if low - least <= room else low, most if most - high <= room else high
        if stop - start <= 1e-9 * max(abs(start), abs(stop), 1e-3):
            half = max(abs(start), 1.0) / 2
            return cls(start - half, stop + half)
        return cls(start, stop)

    def value(self, step: float) -> float | None:
        """The bound that a slider's handle stands for, without idle digits; None at either end: no bound."""
        if not 0 < step < STEPS:
            return None
        width = (self.high - self.low) / STEPS
        return round(self.low + step * width, 1 - math.floor(math.log10(width)))

    def step(self, value: float) -> float:
        """Where a handle stands for a bound."""
        return min(max((value - self.low) / (self.high - self.low) * STEPS, 0.0), float(STEPS))

    def bars(self, values: np.ndarray) -> np.ndarray:
        """The bar of each value, uint8 (n,); NaN is in none."""
        place = (values.astype(np.float64) - self.low) * (BARS / (self.high - self.low))
        missing = np.isnan(place)
        bars = np.clip(np.where(missing, 0, place), 0, BARS - 1).astype(np.uint8)
        bars[missing] = _NOWHERE
        return bars


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Which clips are within the bounds and what was asked besides (bool, one a clip)."""

    mask: np.ndarray
    kept: int
    by_scores: int  # those within the bounds alone: what a policy keeps
    histograms: Mapping[str, np.ndarray]  # int64 (BARS,), of the sampled clips in `mask`


class Scores:
    """Columns of float32 or float64 (n,), NaN where nothing was measured. Safe to ask from several threads."""

    def __init__(self, columns: Mapping[str, np.ndarray], fields: Mapping[str, pa.Field] | None = None) -> None:
        self.columns, self.fields = dict(columns), dict(fields or {})
        self.clips = len(next(iter(columns.values()))) if columns else 0
        workers = len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(workers)
        edges = np.linspace(0, -(-self.clips // _BLOCK), workers + 1).astype(int) * _BLOCK
        self._shares = list(pairwise(np.minimum(edges, self.clips).tolist()))
        self.axes = {name: Axis.of(values) for name, values in self.columns.items()}
        self._every = max(1, -(-self.clips // _SAMPLE))
        self._bars = {name: self.axes[name].bars(values[:: self._every]) for name, values in self.columns.items()}
        self.missing = {name: int(np.count_nonzero(np.isnan(values))) for name, values in self.columns.items()}
        self._orders: dict[str, np.ndarray] = {}
        self.everything = self.look({})

    @classmethod
    def load(cls, manifest: str) -> "Scores":
        """Read every number of a manifest's clips. Raises CurationError if that cannot be."""
        clips = open_table(manifest, "clips")
        scores = score_fields(clips.schema)
        fields = {f.name: f for f in (*scores, *(clips.schema.field(n) for n in IDENTITY if n in clips.schema.names))}
        with readable(manifest):
            return cls(_columns(clips, fields), fields)

    def look(self, bounds: Bounds, among: np.ndarray | None = None) -> View:
        """Count the clips within the bounds, and of those the ones in `among` (bool (n,)); give all histograms.

        Raises:
            KeyError: a bound for a score that is not there.
        """
        tests = [
            (self.columns[name], limits(b, self.columns[name].dtype), b.keep_missing)
            for name, b in bounds.items()
            if not b.idle
        ]
        mask = np.empty(self.clips, bool)

        def share(edges: tuple[int, int]) -> tuple[int, int]:
            kept = by_scores = 0
            for at in range(*edges, _BLOCK):
                here = slice(at, min(at + _BLOCK, edges[1]))
                inside = mask[here]
                inside[:] = True
                for values, (low, high), keep_missing in tests:
                    _bound(inside, values[here], low, high, keep_missing)
                by_scores += int(np.count_nonzero(inside))
                if among is not None:
                    inside &= among[here]
                kept += int(np.count_nonzero(inside))
            return kept, by_scores

        counted = list(self._pool.map(share, self._shares))
        found = np.flatnonzero(mask[:: self._every])
        bars = self._pool.map(lambda every: np.bincount(every[found], minlength=256)[:BARS], self._bars.values())
        histograms = dict(zip(self._bars, bars, strict=True))
        return View(mask, sum(c[0] for c in counted), sum(c[1] for c in counted), histograms)

    def ordered(self, view: View, by: str | None = None, *, descending: bool = False) -> np.ndarray:
        """Row numbers of the view's clips, int64, by a score or in the manifest's order; unmeasured clips come last."""
        if by is None:
            return np.flatnonzero(view.mask)
        if by not in self._orders:
            self._orders[by] = np.argsort(self.columns[by])  # NaN sorts last
        order, measured = self._orders[by], self.clips - self.missing[by]
        if descending:
            order = np.concatenate([order[:measured][::-1], order[measured:]])
        return order[view.mask[order]]


def _bound(inside: np.ndarray, values: np.ndarray, low: object, high: object, keep_missing: bool) -> None:
    """Take out of `inside` what a bound does not let by. Comparing with NaN is false, as an unmeasured clip wants."""
    passes = np.ones(len(values), bool) if low is None else values >= low
    if high is not None:
        passes &= values <= high
    elif low is None:
        return
    if keep_missing:
        passes |= np.isnan(values)
    inside &= passes


def _columns(clips: ds.Dataset, fields: Mapping[str, pa.Field]) -> dict[str, np.ndarray]:
    """The columns as arrays, filled batch by batch. Integers become float64, as they do for a policy."""
    rows, at = clips.count_rows(), 0
    small = {name for name, f in fields.items() if f.type in (pa.float16(), pa.float32())}
    out = {name: np.empty(rows, np.float32 if name in small else np.float64) for name in fields}
    for batch in clips.to_batches(columns=list(fields)):
        for name, column in out.items():
            numbers = pc.cast(batch[name], pa.float32() if name in small else pa.float64(), safe=False)
            column[at : at + len(batch)] = pc.fill_null(numbers, math.nan).to_numpy(zero_copy_only=False)  # type: ignore[attr-defined]
        at += len(batch)
    return out
