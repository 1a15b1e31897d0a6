"""A policy's rules as steps over a table of scores: those that look at one clip, and those that keep a few of many."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.config import Policy, Rule
from curation.duplicates import table as duplicates
from curation.errors import CurationError
from curation.selection.chance import sample_order
from curation.selection.columns import KINDS, place
from curation.selection.expressions import columns_of, evaluate
from curation.selection.ranking import Ranking, best_first, codes_of


@dataclass(frozen=True, slots=True)
class Threshold:
    """A rule with its percentiles turned into values; `source` is the rule in words."""

    score: str
    min: float | None
    max: float | None
    source: str


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A rule that sees one clip at a time: who falls, bool (n,), and for which reasons. `shown` are columns that tell
    of an example."""

    words: str
    fell: np.ndarray
    reasons: list[tuple[np.ndarray, str]]
    shown: list[str]
    threshold: Threshold | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Few:
    """A rule that keeps a few of each group. `unmeasured`, bool (n,), are clips that fall for another reason.
    `names`, of duplicates alone: each group's name (groups,), and whether it is of another manifest, bool (groups,)."""

    words: str
    ranking: Ranking
    reason: str
    shown: list[str]
    unmeasured: tuple[np.ndarray, str] | None = None
    names: tuple[np.ndarray, np.ndarray] | None = None


def look(table: pa.Table, policy: Policy, rule: Rule) -> Look:
    """A rule with bounds or an expression."""
    if rule.where is not None:
        return _expression(table, policy, rule, rule.where)
    values = table[rule.score].to_numpy()
    if values.dtype != np.float32:  # as scores are, and half as much to move
        values = values.astype(np.float64)
    missing = np.isnan(values)
    by_percentile = rule.min_percentile is not None or rule.max_percentile is not None
    threshold = _threshold(rule, values[~missing] if by_percentile else values[:0])
    reasons = []
    if threshold.min is not None:
        fails = values < _rounded(threshold.min, values.dtype, np.inf)
        reasons.append((fails, f"{rule.score} below {short(threshold.min)}"))
    if threshold.max is not None:
        fails = values > _rounded(threshold.max, values.dtype, -np.inf)
        reasons.append((fails, f"{rule.score} above {short(threshold.max)}"))
    if rule.missing == "reject":
        reasons.append((missing, f"{rule.score} not measured"))
    fell = np.zeros(len(values), bool)
    for fails, _ in reasons:
        fell |= fails
    return Look(threshold.source, fell, reasons, [rule.score], threshold)


def few(table: pa.Table, policy: Policy, rows: np.ndarray, weights: np.ndarray | None) -> list[Few]:
    """The rules over groups, in their order, as far as they concern `rows`, int64 (m,) ascending."""
    steps = [_duplicates(table, kind, rows) for kind in _kinds(table, policy)]
    for rule in policy.rules:
        if rule.top:
            each = f" of each {' and '.join(rule.per)}" if rule.per else ""
            words = f"{rule.score} in the top {rule.top}{each}"
            values = numbers(table, rule.score)
            ranking = _ranked(table, rows, rule.per, values, rule.top, keep_missing=rule.missing == "keep")
            unmeasured = (np.isnan(values), f"{rule.score} not measured") if rule.missing == "reject" else None
            reason = f"{rule.score} not in the top {rule.top}{each}"
            steps.append(Few(words, ranking, reason, [rule.score, *rule.per], unmeasured))
    if policy.max_clips_per_video:
        most, score = policy.max_clips_per_video, policy.best_by
        values = numbers(table, score) if score else None
        ranking = _ranked(table, rows, ["video_id"], values, most, keep_missing=True)
        by = f", best by {score}" if score else ""
        shown = [*([score] if score else []), "video_id"]
        steps.append(
            Few(f"at most {most} clips of a video{by}", ranking, f"more than {most} clips of its video", shown)
        )
    if policy.sample:
        steps.append(_sample(table, policy, rows, weights))
    return steps


def weights_of(table: pa.Table, policy: Policy) -> np.ndarray | None:
    """Each clip's weight, float64 (n,), 0 where it is null. Raises CurationError for one below 0 or without end."""
    if policy.weight is None:
        return None
    what = place(policy, "weight")
    values = evaluate(table, policy.weight, what, truth=False).fill_null(0).to_numpy()
    wrong = np.flatnonzero(~np.isfinite(values) | (values < 0))
    if len(wrong):
        raise CurationError(
            f"{what}: {policy.weight!r} is {values[wrong[0]]:.4g} for {table['clip_id'][int(wrong[0])]} "
            f"({len(wrong)} clips in all); a weight is a number of 0 or more"
        )
    return values


def links_of(table: pa.Table) -> list[pa.ChunkedArray]:
    """The groups of duplicates that keep videos together; null for a clip that repeats nothing."""
    kinds = [kind for kind in KINDS if {f"{kind}_group", f"{kind}_size"} <= set(table.column_names)]
    several = [pc.greater(table[f"{kind}_size"], 1) for kind in kinds]  # type: ignore[attr-defined]
    nothing = pa.scalar(None, pa.string())
    return [
        pc.if_else(many, table[f"{kind}_group"], nothing)  # type: ignore[attr-defined]
        for kind, many in zip(kinds, several, strict=True)
    ]


def numbers(table: pa.Table, column: str) -> np.ndarray:
    """A column as float64 (n,), NaN where it is null."""
    return table[column].to_numpy().astype(np.float64, copy=False)


def short(value: float) -> str:
    """A number in words."""
    return f"{value:.4g}"


def _expression(table: pa.Table, policy: Policy, rule: Rule, text: str) -> Look:
    what = place(policy, "where")
    truth = evaluate(table, text, what, truth=True)
    unknown = truth.is_null().to_numpy()
    fails = ~truth.fill_null(True).to_numpy()
    reasons = [(fails, f"not {text}")]
    if rule.missing == "reject":
        reasons.append((unknown, f"not known whether {text}"))
    fell = fails | unknown if rule.missing == "reject" else fails
    return Look(text, fell, reasons, columns_of(text, table.schema, what))


def _threshold(rule: Rule, measured: np.ndarray) -> Threshold:
    words, low, high = [], rule.min, rule.max
    if rule.min is not None:
        words.append(f">= {short(rule.min)}")
    if rule.max is not None:
        words.append(f"<= {short(rule.max)}")
    if rule.min_percentile is not None:
        words.append(f"not in the lowest {short(rule.min_percentile)} %")
        low = _tighter(max, low, measured, rule.min_percentile)
    if rule.max_percentile is not None:
        words.append(f"not in the highest {short(100 - rule.max_percentile)} %")
        high = _tighter(min, high, measured, rule.max_percentile)
    return Threshold(rule.score, low, high, f"{rule.score} {' and '.join(words)}")


def _tighter(
    of: Callable[[float, float], float], bound: float | None, measured: np.ndarray, percentile: float
) -> float | None:
    if not len(measured):
        return bound
    value = _percentile(measured, percentile)
    return value if bound is None else of(bound, value)


def _percentile(values: np.ndarray, percentile: float) -> float:
    """As `np.percentile` of the values as float64; orders them in place, as they are."""
    at = (len(values) - 1) * (percentile / 100)
    below = int(at)
    above = min(below + 1, len(values) - 1)
    values.partition((below, above))
    low, high = float(values[below]), float(values[above])
    share = at - below
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


def _rounded(bound: float, kind: np.dtype, towards: float) -> np.floating:
    """The number of a kind nearest to a bound on one side of it: what its numbers are compared with is the bound."""
    with np.errstate(over="ignore"):
        nearest = kind.type(bound)
    beyond = float(nearest) < bound if towards > 0 else float(nearest) > bound
    return np.nextafter(nearest, kind.type(towards)) if beyond else nearest


def _ranked(
    table: pa.Table, rows: np.ndarray, per: list[str], score: np.ndarray | None, most: int, *, keep_missing: bool
) -> Ranking:
    """The best of each group; clips without a score are last, or in a group of their own that nothing stays of."""
    group = codes_of(table, per, rows)
    groups = int(group.max(initial=0)) + 1
    limits = np.append(np.full(groups, most), 0)
    if score is None:
        return best_first(table, rows, group, None, limits)
    values = score[rows]
    missing = np.isnan(values)
    group = group if keep_missing else np.where(missing, groups, group)
    return best_first(table, rows, group, np.where(missing, -np.inf, values), limits)


def _sample(table: pa.Table, policy: Policy, rows: np.ndarray, weights: np.ndarray | None) -> Few:
    own = np.ones(len(rows)) if weights is None else weights[rows]
    arrival = sample_order(table["clip_id"].take(pa.array(rows)), own, policy.seed)
    never = np.isinf(arrival).astype(np.int64)
    ranking = best_first(table, rows, never, -arrival, np.array([policy.sample or 0, 0]))
    by = f" by weight {policy.weight}" if weights is not None else ""
    shown = columns_of(policy.weight, table.schema, "weight") if policy.weight is not None else []
    return Few(f"a sample of {policy.sample}{by}", ranking, "not in the sample", shown)


def _kinds(table: pa.Table, policy: Policy) -> list[str]:
    """The kinds of duplicates that fall; a rule may have asked for columns of another kind."""
    there = [k for k in KINDS if {f"{k}_group", f"{k}_size", f"{k}_representative"} <= set(table.column_names)]
    return [k for k in there if policy.drop_duplicates and (k != "semantic" or policy.duplicate_similarity)]


def _duplicates(table: pa.Table, kind: str, rows: np.ndarray) -> Few:
    """Of each group the best one stays, or none where the representative is in another manifest."""
    sizes = table[f"{kind}_size"].fill_null(1).to_numpy()
    several = sizes > 1
    inside = rows[several[rows]]  # a tenth of millions of clips, or fewer
    chosen = np.zeros(len(sizes), bool)
    chosen[inside] = True
    left = table.select([f"{kind}_group", *duplicates.ranking_columns(table.schema)]).filter(pa.array(chosen))
    coded = pa.concat_arrays([pa.array([], pa.string()), *left[f"{kind}_group"].chunks]).dictionary_encode()
    names, group = coded.dictionary, coded.indices.to_numpy()
    represents = several & (table[f"{kind}_representative"].fill_null(0).to_numpy() == 1)
    here = table["clip_id"].filter(pa.array(represents))  # the very same clip has the same id there
    known = ~pc.is_in(names, here).to_numpy(zero_copy_only=False)  # type: ignore[attr-defined]
    order = np.lexsort((duplicates.rank_of(left), group))
    ranking = Ranking(inside[order], group[order], np.where(known, 0, 1))
    return Few(f"no {KINDS[kind]}", ranking, KINDS[kind], [], names=(names.to_numpy(zero_copy_only=False), known))
