"""What the sliders say: a bound for each score, and the policy that keeps the very same clips."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import yaml

from curation.config import Policy, Rule
from curation.policy import Threshold, judge


@dataclass(frozen=True, slots=True)
class Bound:
    """A clip passes when `min <= score <= max`; without both it always does. `keep_missing` lets unmeasured ones by."""

    min: float | None = None
    max: float | None = None
    keep_missing: bool = False

    @property
    def idle(self) -> bool:
        """Whether every clip passes."""
        return self.min is None and self.max is None


Bounds = Mapping[str, Bound]


def to_policy(bounds: Bounds, name: str = "inspected") -> Policy:
    """The policy that keeps exactly the clips within the bounds. Duplicates are left to whoever writes it on."""
    rules = [
        Rule(score=score, min=b.min, max=b.max, missing="keep" if b.keep_missing else "reject")
        for score, b in bounds.items()
        if not b.idle
    ]
    return Policy(name=name, rules=rules, drop_duplicates=False)


def to_yaml(policy: Policy) -> str:
    """The file that `rushes select --policy` reads. Numbers are written so that they come back bit for bit."""
    rules = [rule.model_dump(exclude_defaults=True) for rule in policy.rules]
    content = {"name": policy.name, "drop_duplicates": policy.drop_duplicates, "rules": rules}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def from_policy(policy: Policy, thresholds: list[Threshold]) -> dict[str, Bound]:
    """The bounds that a policy's rules set on a manifest, percentiles as the values they were turned into.

    Several rules over one score become their intersection.
    """
    bounds: dict[str, Bound] = {}
    for rule, threshold in zip(policy.rules, thresholds, strict=True):
        old = bounds.get(rule.score, Bound(keep_missing=True))
        lows = [v for v in (old.min, threshold.min) if v is not None]
        highs = [v for v in (old.max, threshold.max) if v is not None]
        keep = old.keep_missing and rule.missing == "keep"
        bounds[rule.score] = Bound(max(lows, default=None), min(highs, default=None), keep)
    return bounds


def reasons(bounds: Bounds, scores: Mapping[str, float | None]) -> list[str]:
    """Why a clip with these scores falls, in a selection's own words; empty if it stays."""
    policy = to_policy(bounds)
    columns = {rule.score: pa.array([scores.get(rule.score)], pa.float64()) for rule in policy.rules}
    return list(judge(pa.table({"clip_id": [""], **columns}), policy).reasons)


def limits(bound: Bound, kind: np.dtype) -> tuple[np.generic | None, np.generic | None]:
    """The bound as numbers of a column's own type, such that comparing in that type says what comparing in float64
    says: the least float32 that is not below `min`, and the greatest that is not above `max`."""
    low = high = None
    with np.errstate(over="ignore"):
        if bound.min is not None:
            low = kind.type(bound.min)
            low = np.nextafter(low, kind.type(np.inf)) if float(low) < bound.min else low
        if bound.max is not None:
            high = kind.type(bound.max)
            high = np.nextafter(high, kind.type(-np.inf)) if float(high) > bound.max else high
    return low, high
