"""The best few of each group against a plain sort."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from curation.selection.ranking import Ranking, best_first, codes_of

SCORES = st.one_of(st.floats(-1e300, 1e300), st.sampled_from([0.0, -0.0, 1.0, np.nextafter(1, 2), -np.inf]))
CLIPS = st.lists(
    st.tuples(st.text(max_size=7), st.integers(0, 3), SCORES), min_size=1, max_size=40, unique_by=lambda c: c[0]
)


def table_of(clips):
    # a slice of a longer table in several chunks: offsets must be minded
    ids = pa.chunked_array([["x", "yy"], *([c[0]] for c in clips)], pa.string()).slice(2)
    return pa.table({"clip_id": ids, "video_id": pa.chunked_array([[f"v{c[1]}"] for c in clips])})


def plain_order(clips, rows, *, scored):
    """Python compares texts by code point, which is the order of their UTF-8."""
    return sorted(rows, key=lambda i: (clips[i][1], -clips[i][2] if scored else 0, clips[i][0]))


@given(clips=CLIPS, scored=st.booleans(), data=st.data())
def test_the_order_is_that_of_a_plain_sort(clips, scored, data):
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, len(clips) - 1), min_size=1))))
    group = np.array([clips[i][1] for i in rows])
    score = np.array([clips[i][2] for i in rows]) if scored else None
    found = best_first(table_of(clips), rows, group, score, np.full(4, 1))
    assert found.rows.tolist() == plain_order(clips, rows.tolist(), scored=scored)
    assert found.group.tolist() == sorted(group.tolist())


@given(clips=CLIPS, limits=st.lists(st.integers(0, 4), min_size=4, max_size=4), data=st.data())
def test_no_group_keeps_more_than_its_limit_and_none_less_than_it_could(clips, limits, data):
    rows = np.arange(len(clips))
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(clips), max_size=len(clips))))
    group = np.array([c[1] for c in clips])
    ranking = best_first(table_of(clips), rows, group, np.array([c[2] for c in clips]), np.array(limits))
    fell, best, of = ranking.surplus(keep)
    expected, leaders = [], []
    for g in range(4):
        left = [i for i in plain_order(clips, rows.tolist(), scored=True) if clips[i][1] == g and keep[i]]
        expected += left[limits[g] :]
        leaders += left[:1] * len(left[limits[g] :])
    assert fell.tolist() == expected
    assert best.tolist() == leaders
    assert of.tolist() == [clips[i][1] for i in expected]


def test_nothing_is_ranked_where_nothing_is():
    none = np.zeros(0, np.int64)
    assert [len(found) for found in Ranking(none, none, np.array([1])).surplus(np.ones(3, bool))] == [0, 0, 0]


@given(st.lists(st.tuples(st.sampled_from([None, "a", "b"]), st.sampled_from([None, 1, 2])), min_size=1, max_size=20))
def test_groups_are_different_values_of_all_columns_together(pairs):
    table = pa.table(
        {"x": pa.array([p[0] for p in pairs], pa.string()), "y": pa.array([p[1] for p in pairs], pa.int32())}
    )
    for columns, values in ((["x", "y"], pairs), (["x"], [p[0] for p in pairs]), ([], [0] * len(pairs))):
        codes = codes_of(table, columns, np.arange(len(pairs)))
        assert len(set(zip(codes.tolist(), values, strict=True))) == len(set(codes.tolist())) == len(set(values))
        assert codes.max() < len(pairs)
