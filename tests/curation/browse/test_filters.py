"""Bounds become a policy and come back, whatever the numbers."""

import math

import numpy as np
import yaml
from hypothesis import given
from hypothesis import strategies as st

from curation.browse import filters
from curation.browse.filters import Bound
from curation.config import Policy
from curation.policy import Threshold

FINITE = st.none() | st.floats(allow_nan=False, allow_infinity=False)
BOUND = st.builds(Bound, FINITE, FINITE, st.booleans())


@given(st.dictionaries(st.sampled_from(["motion", "on", "caf\u00e9", "1e3"]), BOUND))
def test_the_file_says_what_the_sliders_say(bounds: dict[str, Bound]) -> None:
    policy = Policy.model_validate(yaml.safe_load(filters.to_yaml(filters.to_policy(bounds))))
    thresholds = [Threshold(r.score, r.min, r.max, "") for r in policy.rules]
    assert filters.from_policy(policy, thresholds) == {name: b for name, b in bounds.items() if not b.idle}
    assert not policy.drop_duplicates


def test_rules_over_one_score_are_intersected() -> None:
    policy = Policy.model_validate(
        {"rules": [{"score": "m", "min": 1, "max": 9, "missing": "keep"}, {"score": "m", "min_percentile": 50}]}
    )
    thresholds = [Threshold("m", 1, 9, ""), Threshold("m", 4, None, "")]
    assert filters.from_policy(policy, thresholds) == {"m": Bound(4, 9, keep_missing=False)}


def test_reasons_in_a_selections_words() -> None:
    bounds = {"motion": Bound(2, 3), "faces": Bound(max=1, keep_missing=True), "text": Bound(min=0)}
    assert filters.reasons(bounds, {"motion": 1.0, "faces": None, "text": None}) == [
        "motion below 2",
        "text not measured",
    ]
    assert filters.reasons(bounds, {"motion": 2.5, "faces": 1.0, "text": 0.0}) == []
    assert filters.reasons({}, {"motion": 1.0}) == []


@given(BOUND, st.floats(width=32, allow_nan=False))
def test_comparing_in_float32_says_what_float64_says(bound: Bound, value: float) -> None:
    low, high = filters.limits(bound, np.dtype(np.float32))
    x = np.float32(value)
    assert (low is None or x >= low) == (bound.min is None or float(x) >= bound.min)
    assert (high is None or x <= high) == (bound.max is None or float(x) <= bound.max)
    near = np.float32(bound.min if bound.min is not None and abs(bound.min) < 3e38 else 0.1)
    for y in (near, np.nextafter(near, np.float32(math.inf)), np.nextafter(near, np.float32(-math.inf))):
        assert (low is None or y >= low) == (bound.min is None or float(y) >= bound.min)
