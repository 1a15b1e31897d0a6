"""Bounds on float32 scores against the same in float64, as numpy computes them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.config import Policy, Rule
from curation.selection.steps import look

NEAR = st.sampled_from([0.0, 0.07, 0.1, 1 / 3, 1.0])
FLOAT32 = st.floats(allow_nan=False, allow_infinity=False, width=32)
SCORES = st.lists(st.none() | NEAR | FLOAT32, min_size=1, max_size=30)
BOUNDS = st.none() | NEAR | st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
@given(scores=SCORES, least=BOUNDS, most=BOUNDS)
def test_bounds_hold_as_in_float64_whatever_the_scores_are_stored_as(kind, scores, least, most):
    if least is None and most is None:
        return
    table = pa.table({"score": pa.array(scores, kind)})
    found = look(table, Policy(name="p"), Rule(score="score", min=least, max=most, missing="keep"))
    exact = [np.float64(v) for v in table["score"].to_pylist() if v is not None]
    low, high = (-np.inf if least is None else least), (np.inf if most is None else most)
    measured = np.array([s is not None for s in scores])
    assert found.fell[measured].tolist() == [bool(v < low or v > high) for v in exact]
    assert not found.fell[~measured].any()


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.int32()])
@given(scores=st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=30), percentile=st.floats(0.1, 99.9))
def test_percentiles_are_numpy_s_of_float64(kind, scores, percentile):
    table = pa.table({"score": pa.array([s / 8 if kind != pa.int32() else s for s in scores], kind)})
    found = look(table, Policy(name="p"), Rule(score="score", min_percentile=percentile))
    expected = float(np.percentile(table["score"].to_numpy().astype(np.float64), percentile))
    assert found.threshold is not None
    assert found.threshold.min == expected


@given(scores=st.lists(FLOAT32, min_size=2, max_size=9), percentile=st.sampled_from([25.0, 50.0]))
def test_percentiles_of_any_floats_are_numpy_s_of_float64(scores, percentile):
    table = pa.table({"score": pa.array(scores, pa.float32())})
    found = look(table, Policy(name="p"), Rule(score="score", max_percentile=percentile))
    assert found.threshold is not None
    assert found.threshold.max == float(np.percentile(np.array(scores, np.float32).astype(np.float64), percentile))
