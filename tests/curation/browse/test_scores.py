"""Counts, histograms and order against a policy's own judgement and numpy."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.browse import scores as module
from curation.browse.filters import Bound, to_policy
from curation.browse.scores import BARS, STEPS, Axis, Scores
from curation.policy import judge

LEVELS = [0.0, 0.1, 0.25, 0.5, 1.0]
VALUE = st.one_of(st.sampled_from([*LEVELS, np.nan, np.inf, -np.inf]), st.floats(-2, 2, width=32))
LIMIT = st.none() | st.sampled_from(LEVELS) | st.floats(-2, 2)
BOUNDS = st.dictionaries(st.sampled_from(["a", "b"]), st.builds(Bound, LIMIT, LIMIT, st.booleans()))


@st.composite
def columns(draw: st.DrawFn) -> dict[str, np.ndarray]:
    rows = draw(st.integers(0, 40))
    values = st.lists(VALUE, min_size=rows, max_size=rows)
    return {"a": np.array(draw(values), np.float32), "b": np.array(draw(values), np.float64)}


@given(columns(), BOUNDS, st.integers(0, 2**31))
def test_the_policy_keeps_what_the_count_says(data: dict[str, np.ndarray], bounds: dict[str, Bound], seed: int) -> None:
    rows = len(data["a"])
    table = pa.table({"clip_id": [str(i) for i in range(rows)], **{n: pa.array(v) for n, v in data.items()}})
    keep = judge(table, to_policy(bounds)).keep
    scores = Scores(data)
    view = scores.look(bounds)
    assert view.mask.tolist() == keep.tolist()
    assert (view.kept, view.by_scores) == (keep.sum(), keep.sum())
    among = np.random.default_rng(seed).random(rows) < 0.5
    part = scores.look(bounds, among)
    assert part.mask.tolist() == (keep & among).tolist()
    assert (part.kept, part.by_scores) == ((keep & among).sum(), keep.sum())


def test_many_blocks_are_one_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 7)
    rng = np.random.default_rng(1)
    data = {name: rng.normal(size=1000).astype(np.float32) for name in "ab"}
    data["a"][rng.random(1000) < 0.1] = np.nan
    view = Scores(data).look({"a": Bound(-0.5, 0.5), "b": Bound(max=0.0)})
    expected = (np.abs(data["a"]) <= 0.5) & (data["b"] <= 0)
    assert view.mask.tolist() == expected.tolist()
    assert view.kept == expected.sum()
    for name, counts in view.histograms.items():
        axis = Scores(data).axes[name]
        values = data[name][expected].astype(np.float64)
        values = np.clip(values[~np.isnan(values)], axis.low, axis.high)
        assert counts.tolist() == np.histogram(values, BARS, (axis.low, axis.high))[0].tolist()


@given(columns(), BOUNDS)
def test_every_clip_comes_once_and_in_order(data: dict[str, np.ndarray], bounds: dict[str, Bound]) -> None:
    scores = Scores(data)
    view = scores.look(bounds)
    assert scores.ordered(view).tolist() == np.flatnonzero(view.mask).tolist()
    for descending in (False, True):
        order = scores.ordered(view, "a", descending=descending)
        assert sorted(order.tolist()) == np.flatnonzero(view.mask).tolist()
        found = data["a"][order]
        measured = found[~np.isnan(found)]
        assert np.isnan(found[len(measured) :]).all()
        assert measured.tolist() == sorted(measured.tolist(), reverse=descending)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(1, STEPS - 1))
def test_a_handle_stands_where_its_bound_is(low: float, width: float, step: int) -> None:
    axis = Axis(low, low + width)
    value = axis.value(step)
    assert value is not None
    assert abs(axis.step(value) - step) < 0.1
    assert axis.value(0) is None
    assert axis.value(STEPS) is None


def test_a_sample_is_enough_for_histograms_but_not_for_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SAMPLE", 300)
    values = np.random.default_rng(2).random(1000)
    values[::3] = np.nan
    scores = Scores({"a": values})
    view = scores.look({"a": Bound(min=0.5)})
    assert (view.kept, scores.missing["a"]) == ((values >= 0.5).sum(), np.isnan(values).sum())
    shown = values[::4]  # the least step that leaves 300 or fewer
    axis = scores.axes["a"]
    expected = np.histogram(np.clip(shown[shown >= 0.5], axis.low, axis.high), BARS, (axis.low, axis.high))[0]
    assert view.histograms["a"].tolist() == expected.tolist()


def test_a_long_tail_does_not_squeeze_the_axis() -> None:
    values = np.append(np.linspace(0, 1, 10_000), [1e6, np.inf, np.nan]).astype(np.float32)
    axis = Axis.of(values)
    assert axis.low == 0
    assert axis.high == pytest.approx(0.995, abs=0.01)
    assert axis.bars(values)[-3:].tolist() == [BARS - 1, BARS - 1, 255]
    assert Axis.of(np.array([np.nan])) == Axis(0, 1)
    assert Axis.of(np.array([3.0, 3.0])) == Axis(1.5, 4.5)


def test_a_manifest_is_read_with_its_gaps(made) -> None:
    scores = Scores.load(str(made.folder))
    assert list(scores.columns) == ["motion", "faces", "frames", "fps", "width", "height"]
    assert scores.columns["motion"].dtype == np.float32
    np.testing.assert_array_equal(scores.columns["motion"], np.array([4, 1, np.nan, 2.5, np.nan, 3], np.float32))
    np.testing.assert_array_equal(scores.columns["faces"], [0, np.nan, 2, 3, 4, 5])
    assert scores.missing["motion"] == 2
    assert scores.everything.kept == 6
