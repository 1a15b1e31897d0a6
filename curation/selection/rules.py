"""What a policy does to a table of scores: which clips stay, why the others fell, and what each rule cost.

Bounds and expressions look at one clip at a time, each alone; duplicates, top-k rules, the cap and the sample choose
among what is left, in this order.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from curation.config import Policy
from curation.errors import CurationError
from curation.selection.chance import SIDES, split
from curation.selection.columns import place
from curation.selection.steps import Few, Look, Threshold, few, links_of, look, weights_of

EXAMPLES = 3
_MOST_REASONS = 64  # a bit each


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """How many clips were left before and after a rule, in order; how many more would stay at the end without it; and
    some of those that fell: clip_id, uri, start in seconds, value in words."""

    rule: str
    before: int
    after: int
    alone: int | None = None
    examples: list[dict] = field(default_factory=list)


@dataclass(slots=True)
class Fallen:
    """Some of the rows that fell by a step, int64 (up to EXAMPLES,), and the columns that tell why."""

    rows: np.ndarray
    shown: list[str]


@dataclass(slots=True)
class Verdict:
    """Which clips stay (bool per clip), and the reasons per clip as bits (8 to 64 of them) over `reasons`, each with
    its count."""

    keep: np.ndarray
    bits: np.ndarray
    reasons: dict[str, int]
    repeats: np.ndarray  # rows that fell as a duplicate, int64 (d,)
    repeated: pa.Array  # ids of the clips that these repeat
    elsewhere: np.ndarray  # whether those are of another manifest, bool (d,)
    thresholds: list[Threshold]
    funnel: list[FunnelStep]
    fallen: list[Fallen]  # one a step of the funnel
    added: dict[str, pa.Array]  # columns `split` and `weight`, one value a clip

    def duplicate_of(self, rows: np.ndarray) -> pa.Array:
        """For each of these rows, int64 (m,) ascending, the id of the clip that it repeats, null for none."""
        at = self._repeat_at(rows)
        return self.repeated.take(pa.array(at, mask=at < 0))

    def repeats_another_manifest(self, rows: np.ndarray) -> np.ndarray:
        """For each of these rows, int64 (m,) ascending, whether it repeats a clip of another manifest, bool (m,)."""
        at = self._repeat_at(rows)
        return (at >= 0) & np.append(self.elsewhere, False)[at]

    def _repeat_at(self, rows: np.ndarray) -> np.ndarray:
        """Where in `repeats` each row is, int64 (m,), -1 for those that are not."""
        out, at = np.full(len(rows), -1, np.int64), np.searchsorted(rows, self.repeats)
        there = np.flatnonzero(np.append(rows, -1)[at] == self.repeats)
        out[at[there]] = there
        return out


def judge(table: pa.Table, policy: Policy) -> Verdict:
    """Apply a policy to a table of scores (one row a clip). Percentiles are over all measured clips, each rule alone;
    duplicates, top-k rules, the cap and the sample choose among what is left, in this order."""
    rules = [rule for rule in policy.rules if not rule.top]
    with ThreadPoolExecutor(2) as beside:  # numpy and Arrow keep one core each
        looks = list(beside.map(lambda rule: look(table, policy, rule), rules))
        faults = np.zeros(table.num_rows, np.uint16)
        for step in looks:
            faults += step.fell
        weights = weights_of(table, policy)
        rows = np.flatnonzero(faults <= 1)  # without one rule, those of one fault are left
        ranked = beside.submit(few, table, policy, rows, weights)
        book = _Book(table)
        for step in looks:
            book.look(step)
        choices = ranked.result()
        counted = [step for step in choices if book.choose(step)]
        left = [beside.submit(_survivors, faults, step.fell, choices) for step in looks]
        left += [beside.submit(_survivors, faults, 0, [c for c in choices if c is not step]) for step in counted]
    keep, kept = book.keep, int(np.count_nonzero(book.keep))
    alone = [more.result() - kept for more in left]
    added: dict[str, pa.Array] = {}
    if policy.validation is not None and kept:
        side = split(table["video_id"], keep, links_of(table), policy.validation, policy.seed)
        added["split"] = pa.array(SIDES).take(pa.array(side.astype(np.int8)))
    if weights is not None:
        if kept and not weights[keep].any():
            raise CurationError(f"{place(policy, 'weight')}: {policy.weight!r} is 0 or null for every clip that stays")
        added["weight"] = pa.array(weights)
    return Verdict(
        keep=keep,
        bits=book.bits,
        reasons=book.reasons,
        repeats=np.concatenate([np.zeros(0, np.int64), *book.repeats]),
        repeated=pa.concat_arrays([pa.array([], pa.string()), *book.repeated]),
        elsewhere=np.concatenate([np.zeros(0, bool), *book.elsewhere]),
        thresholds=[step.threshold for step in looks if step.threshold],
        funnel=[FunnelStep(*step, more) for step, more in zip(book.steps, alone, strict=True)],
        fallen=book.fallen,
        added=added,
    )


def _survivors(faults: np.ndarray, without: np.ndarray | int, choices: list[Few]) -> int:
    """How many clips stay where the faults (n,) of one rule, or of none, do not count, and these choices are made."""
    left = faults == without
    for step in choices:
        left[step.ranking.surplus(left)[0]] = False
    return int(np.count_nonzero(left))


class _Book:
    """Writes down what each step did, in order."""

    def __init__(self, table: pa.Table) -> None:
        self.ids = table["clip_id"]
        self.keep = np.ones(table.num_rows, bool)
        self.bits = np.zeros(table.num_rows, np.uint8)  # widened when there are more reasons
        self.reasons: dict[str, int] = {}
        self.steps: list[tuple[str, int, int]] = []
        self.fallen: list[Fallen] = []
        self.repeats: list[np.ndarray] = []
        self.repeated: list[pa.Array] = []
        self.elsewhere: list[np.ndarray] = []

    def look(self, step: Look) -> None:
        """A rule that sees one clip at a time. A clip has all of its reasons, also where it fell before."""
        for fell, reason in step.reasons:
            self._reason(fell, reason)
        self._step(step.words, step.fell, step.shown)

    def choose(self, step: Few) -> bool:
        """A rule over groups of what is left; whether it is a step of the funnel."""
        surplus, best, group = step.ranking.surplus(self.keep)
        if not len(surplus) and step.reason == "exact duplicate":
            return False  # within a manifest there are none
        fell = np.zeros(len(self.keep), bool)
        fell[surplus] = True
        missing, why = step.unmeasured or (np.zeros(len(fell), bool), "")
        self._reason(fell & missing, why)
        self._reason(fell & ~missing, step.reason)
        if step.names is not None:
            self._name(surplus, best, group, *step.names)
        self._step(step.words, fell, step.shown)
        return True

    def _name(
        self, surplus: np.ndarray, best: np.ndarray, group: np.ndarray, names: np.ndarray, known: np.ndarray
    ) -> None:
        """Note what each duplicate repeats: what stays of its group, or what stands for it in another manifest."""
        rows, at = np.unique(best, return_inverse=True)
        chosen = np.zeros(len(self.keep), bool)
        chosen[rows] = True
        ours = self.ids.filter(pa.array(chosen)).to_numpy()[at]  # `take` of ids in many chunks takes longer
        self.repeats.append(surplus)
        self.elsewhere.append(known[group])
        self.repeated.append(pa.array(np.where(known[group], names[group], ours), pa.string()))

    def _step(self, words: str, fell: np.ndarray, shown: list[str]) -> None:
        """A line of the funnel, and some that fell, evenly spread."""
        rows = np.flatnonzero(self.keep & fell)
        before = int(np.count_nonzero(self.keep))
        self.keep &= ~fell
        self.steps.append((words, before, before - len(rows)))
        spread = np.unique(np.linspace(0, max(len(rows) - 1, 0), min(len(rows), EXAMPLES)).round().astype(np.int64))
        self.fallen.append(Fallen(rows[spread], shown))

    def _reason(self, fell: np.ndarray, reason: str) -> None:
        if not fell.any():
            return
        at = list(self.reasons).index(reason) if reason in self.reasons else len(self.reasons)
        if at >= _MOST_REASONS:
            raise CurationError(f"policy: clips fall for more than {_MOST_REASONS} reasons; use fewer rules")
        while at >= 8 * self.bits.itemsize:
            self.bits = self.bits.astype(f"u{2 * self.bits.itemsize}")
        flags = fell.astype(self.bits.dtype) << self.bits.dtype.type(at)
        fresh = fell & ((self.bits & flags) == 0) if reason in self.reasons else fell  # two rules may have one reason
        self.reasons[reason] = self.reasons.get(reason, 0) + int(np.count_nonzero(fresh))
        self.bits |= flags
