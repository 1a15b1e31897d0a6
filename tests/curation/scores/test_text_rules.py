"""The two rules of Stable Video Diffusion for text: more than 7 % of the picture, and the quarter with most of it."""

from importlib.resources import files

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from curation.config import Policy, Rule
from curation.policy import judge

AREAS = st.lists(st.none() | st.sampled_from([0.0, 0.0, 0.01, 0.07, 0.0701, 0.3]), min_size=1, max_size=40)


def kept(areas, rule) -> list[bool]:
    table = pa.table({"clip_id": [str(i) for i in range(len(areas))], "text_area": pa.array(areas, pa.float64())})
    return list(judge(table, Policy(rules=[rule], drop_duplicates=False)).keep)


@given(AREAS)
def test_seven_percent(areas):
    assert kept(areas, Rule(score="text_area", max=0.07)) == [a is not None and a <= 0.07 for a in areas]


@given(AREAS)
def test_the_top_quarter(areas):
    measured = [a for a in areas if a is not None]
    bound = np.percentile(measured, 75) if measured else np.inf
    expected = [a is not None and a <= bound for a in areas]
    assert kept(areas, Rule(score="text_area", max_percentile=75)) == expected


@pytest.mark.parametrize("profile", ["embedded", "svd"])
def test_the_policies_that_come_along_have_the_first(profile):
    policy = Policy(**yaml.safe_load((files("curation") / "policies" / f"{profile}.yaml").read_text()))
    (rule,) = (r for r in policy.rules if r.score == "text_area")
    assert (rule.max, rule.missing) == (0.07, "reject")
