"""Expressions against Python's own arithmetic, and what is refused."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import CurationError
from curation.selection.expressions import columns_of, evaluate, hint

TABLE = pa.table(
    {
        "motion": pa.array([1.0, 3.0, None, 9.0], pa.float32()),
        "text_area": pa.array([0.1, 0.01, 0.2, None], pa.float32()),
        "camera": ["static", "pan", None, "static"],
        "end": [1.0, 2.0, 3.0, 4.0],
        "tags": [["a"], [], ["b"], None],
    }
)
NUMBERS = st.lists(st.one_of(st.none(), st.integers(-5, 5)), min_size=1, max_size=30)


def truth(text):
    return evaluate(TABLE, text, "where", truth=True).to_pylist()


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("motion > 2 and (text_area < 0.05 or camera = 'static')", ["motion", "text_area", "camera"], "NYUY"),
        ('"end" - 1 >= 1', ["end"], "NYYY"),
        ("MOTION between 1 and 3", ["motion"], "YYUN"),
        ("list_contains(tags, 'a')", ["tags"], "YNNU"),
        ("len(list_filter(tags, lambda x: x = 'b')) > 0", ["tags"], "NNYU"),
        ("camera is null", ["camera"], "NNYN"),
        ("clips.motion > 2", ["motion"], "NYUY"),
        ("list_contains(range(5), motion::int)", ["motion"], "YYUN"),
    ],
)
def test_an_expression_says_yes_no_or_unknown(text, columns, expected):
    if text.startswith("clips."):
        with pytest.raises(CurationError, match="no column 'clips'"):
            columns_of(text, TABLE.schema, "where")
        return
    assert columns_of(text, TABLE.schema, "where") == columns
    assert truth(text) == [{"Y": True, "N": False, "U": None}[c] for c in expected]


@given(a=NUMBERS, bound=st.integers(-5, 5))
def test_arithmetic_is_that_of_python_row_by_row(a, bound):
    table = pa.table({"a": pa.array(a, pa.int32()), "b": pa.array(range(len(a)), pa.int32())})
    found = evaluate(table, f"greatest(a - {bound}, 0.5) + b", "weight", truth=False).to_pylist()
    for i, (value, expected) in enumerate(zip(found, a, strict=True)):  # greatest passes over nulls
        assert value == pytest.approx((0.5 if expected is None else max(expected - bound, 0.5)) + i)
    assert evaluate(table, f"a > {bound}", "where", truth=True).to_pylist() == [
        None if x is None else x > bound for x in a
    ]


def test_rows_stay_in_order_over_many_chunks():
    table = pa.table({"a": pa.chunked_array([list(range(i, i + 5000)) for i in range(0, 400_000, 5000)])})
    assert evaluate(table, "a * 2", "weight", truth=False).to_pylist() == [2.0 * i for i in range(400_000)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("end > 1", 'names such as "end" .* in double quotes'),
        ("1); drop table clips", "no expression"),
        ("motion > 1; select 2", "no expression"),
        ("motion, 3", "single expression"),
        ("", "no expression"),
        ("motion >", "no expression"),
        ("\ud800 > 1", "no expression"),
        ("motion > (select 1)", "query within"),
        ("sum(motion) over () > 1", "window"),
        ("sum(motion) > 1", "aggregates"),
        ("motion > ?", "parameter"),
        ("random() > motion", "random, which is not the same on every run"),
        ("motion > epoch(now())", "now, which is not the same"),
        ("year(age(make_timestamp(motion::bigint))) > 3", "age, which is not the same"),
        ("read_text(camera) = 'x'", "uses read_text; functions that read files are not allowed"),
        ("READ_CSV(camera) = 'x'", "uses read_csv; functions that read files are not allowed"),
        ("glob(camera) = 'x'", "uses glob; functions that read files"),
        ("parquet_metadata(camera) = 'x'", "uses parquet_metadata; functions that read files"),
        ("unnest(tags) = 'a'", "uses unnest, which gives a table"),
        ("duckdb_tables() = camera", "uses duckdb_tables, which gives a table"),
        ("moton > 2", "no column 'moton'; did you mean 'motion'"),
        ("xyz > 2", "there are motion, text_area"),
        ("1 > 0", "looks at no column"),
        ("motion", "FLOAT, not true or false"),
        ("motion > 'much'", "could not convert"),
        ("frobnicate(motion)", "does not exist"),
    ],
)
def test_what_is_no_expression_over_one_clip_is_refused(text, message):
    with pytest.raises(CurationError, match=f"(?i)^policy 'mine'.*{message}"):
        evaluate(TABLE, text, "policy 'mine': where", truth=True)


def test_of_many_names_some_are_told():
    assert hint("xyz", [f"score_{i}" for i in range(50)]).endswith("score_18, score_19 and 30 more")
    assert hint("score_4x", [f"score_{i}" for i in range(50)]) == "did you mean 'score_4'?"


@pytest.mark.parametrize("text", ["camera", "motion > 1", "tags"])
def test_a_weight_is_a_number(text):
    with pytest.raises(CurationError, match="not a number"):
        evaluate(TABLE, text, "weight", truth=False)


@pytest.mark.parametrize("text", ["read_text('{}') = camera", "camera in (from read_csv('{}'))", "glob('{}') = tags"])
def test_no_file_can_be_read(tmp_path, text):
    (tmp_path / "secret.csv").write_text("static\n")
    with pytest.raises(CurationError) as caught:
        truth(text.format(tmp_path / "secret.csv"))
    assert "static\n" not in str(caught.value)
