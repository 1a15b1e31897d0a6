"""Looking into a manifest: numbers against numpy, SQL that can only read, names that cannot harm a terminal."""

import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation import inspect
from curation.config import DuplicateSettings
from curation.duplicates import table as duplicates
from curation.errors import CurationError
from curation.manifest import Manifest, Shard
from curation.schema import CLIP_IDENTITY, score_field

NASTY = "a\x1b[31mred\nname\u202egpm.mp4"
SCHEMA = pa.schema(
    [
        *CLIP_IDENTITY,
        score_field("motion", pa.float32(), "mean flow", "px", {"scorer": "motion", "version": 1, "fps": 2.0}),
        score_field("caption_fused", pa.string(), "caption", "", {"scorer": "captions", "version": 3}),
        score_field("phash", pa.uint64(), "frame hash", "", {"scorer": "duplicates", "version": 1}),
    ]
)


def clip(i: int, uri: str, motion: float | None) -> dict:
    identity = {"clip_id": f"c{i}", "video_id": "v", "uri": uri, "shot": i, "start": 2.0 * i, "end": 3.0 * i + 1}
    caption = None if i == 2 else "a street"
    return identity | {"fps": 25.0, "width": 64, "height": 36, "motion": motion, "caption_fused": caption, "phash": i}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two shards: five clips, one unmeasured; one failed video with a nasty name; one shot without a clip."""
    made = Manifest(tmp_path / "out" / "manifest")
    motions = [4.0, 1.0, None, 2.5, float("nan")]
    clips = [clip(i, "/films/street.mp4", m) for i, m in enumerate(motions)]
    videos = [{"uri": "/films/street.mp4", "video_id": "v", "status": "ok", "duration": 3725.0, "shots": 6, "clips": 5}]
    failed = {"uri": NASTY, "status": "failed", "message": "no index: <cut> off"}
    shots = [{"uri": "/films/street.mp4", "shot": i, "start": 0.0, "end": 1.0, "reason": None} for i in range(5)]
    shots.append({"uri": "/films/street.mp4", "shot": 5, "start": 9.0, "end": 9.2, "reason": "shorter than 1 s"})
    errors = [{"uri": NASTY, "step": "open", "error": "InvalidDataError", "message": "no index", "attempts": 1}]
    errors.append({"uri": "/films/street.mp4", "clip_id": "c2", "step": "motion", "error": "E", "attempts": 1})
    made.commit(Shard("a", videos, shots, errors, clips[:3]), SCHEMA)
    made.commit(Shard("b", [failed], [], [], clips[3:]), SCHEMA)
    return tmp_path / "out"


def line(text: str, start: str) -> list[str]:
    """The words of the first line that starts so."""
    found = next(row for row in text.splitlines() if row.startswith(start))
    return found.removeprefix(start).split()


def test_summary_counts_what_is_there(manifest: Path) -> None:
    text = inspect.summarise(str(manifest))
    assert line(text, "videos  ") == ["2", "1:02:05"]
    assert line(text, "videos that failed") == ["1"]
    assert line(text, "shots  ") == ["6"]
    assert line(text, "shots without a clip") == ["1"]
    assert line(text, "clips  ") == ["5", "0:15"]
    quartiles = [f"{q:.4g}" for q in np.quantile([4.0, 1.0, 2.5], (0, 0.25, 0.5, 0.75, 1))]
    assert line(text, "motion") == ["3", "1", "1", *quartiles, "px"]
    assert line(text, "caption_fused") == ["4", "0", "1", "text"]
    assert "phash" not in text
    assert "shorter than 1 s" in text
    assert "no index: <cut> off" in text


def test_an_unchecked_text_score_is_told(tmp_path: Path) -> None:
    areas = [score_field(n, pa.float32(), "area", "", {"scorer": "text"}) for n in ("text_area", "text_area_craft")]
    Manifest(tmp_path).commit(Shard("a", [], [], [], []), pa.schema([*CLIP_IDENTITY, *areas]))
    assert "warning: of 0 clips CRAFT checked none" in inspect.summarise(str(tmp_path))


def test_the_length_is_no_score(manifest: Path) -> None:
    text = inspect.summarise(str(manifest))
    length, scores = (text.split(title)[1].split("\n\n")[1] for title in ("Length of the clips", "Scores"))
    lengths = [3.0 * i + 1 - 2.0 * i for i in range(5)]
    assert length.splitlines()[2].split() == [*(f"{q:.4g}" for q in np.quantile(lengths, (0, 0.25, 0.5, 0.75, 1))), "s"]
    assert "length" not in scores


def test_a_long_message_goes_on_below(tmp_path: Path) -> None:
    words = [f"word{i}" for i in range(60)]
    failed = {"uri": "/films/" + "x" * 120, "status": "failed", "message": " ".join(words)}
    Manifest(tmp_path).commit(Shard("a", [failed], [], [], []), SCHEMA)
    text = inspect.summarise(str(tmp_path)).split("Videos that failed (")[1]
    assert "…" not in text
    assert text.split(failed["uri"])[1].split() == words


def test_longest_clips_come_longest_first(manifest: Path) -> None:
    table = inspect.summarise(str(manifest)).split("Longest clips")[1].splitlines()[4:9]
    assert [row.split()[0] for row in table] == ["5", "4", "3", "2", "1"]


def test_names_cannot_drive_the_terminal(manifest: Path) -> None:
    text = inspect.summarise(str(manifest))
    assert "a\\x1b[31mred\\nname\\u202egpm.mp4" in text
    assert not {c for c in text if unicodedata.category(c) in {"Cc", "Cf"}} - {"\n"}


def test_an_empty_manifest_is_summarised(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    text = inspect.summarise(str(tmp_path))
    assert line(text, "clips  ") == ["0", "0:00"]
    assert inspect.sql(str(tmp_path), "SELECT count(*) AS n FROM errors").to_pylist() == [{"n": 0}]
    assert inspect.definitions(str(tmp_path)) == "This manifest defines no scores."


def test_sql_sees_all_four_tables(manifest: Path) -> None:
    query = """
        SELECT (SELECT count(*) FROM videos) AS videos, (SELECT count(*) FROM shots) AS shots,
               (SELECT count(*) FROM errors) AS errors, count(*) AS clips, max(motion) FILTER (motion < 100) AS top
        FROM clips
    """
    assert inspect.sql(str(manifest), query).to_pylist() == [
        {"videos": 2, "shots": 6, "errors": 2, "clips": 5, "top": 4.0}
    ]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT nope FROM clips",
        "SELEC 1",
        "",
        "SELECT 1; SELECT 2",
        "DELETE FROM clips",
        "CREATE TABLE t AS SELECT 1",
        "SET enable_external_access = true",
        "SELECT '\ud800'",
        "SELECT 1/0 + CAST('x' AS INT) FROM clips",
        "SELECT * FROM manifest",
    ],
)
def test_a_bad_query_is_one_clear_line(manifest: Path, query: str) -> None:
    with pytest.raises(CurationError, match=r"^sql: ") as caught:
        inspect.sql(str(manifest), query)
    assert "\n" not in str(caught.value)


def test_sql_reaches_no_file(manifest: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    for query in (f"SELECT * FROM '{secret}'", f"SELECT * FROM read_text('{secret}')", "SELECT * FROM glob('/*')"):
        with pytest.raises(CurationError, match="disabled by configuration"):
            inspect.sql(str(manifest), query)
    with pytest.raises(CurationError):
        inspect.sql(str(manifest), f"COPY clips TO '{tmp_path / 'copy.csv'}'")
    assert not (tmp_path / "copy.csv").exists()


def test_definitions_say_what_numbers_depend_on(manifest: Path) -> None:
    text = inspect.definitions(str(manifest))
    assert text.startswith("motion [px]  float\n    mean flow\n    ")
    assert "fps = 2.0" in text
    assert "video_id" not in text


def test_no_manifest_and_no_parquet_are_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(CurationError, match="holds no manifest"):
        inspect.summarise(str(tmp_path))
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.parquet").write_bytes(b"not parquet")
    for look in (inspect.summarise, inspect.definitions):
        with pytest.raises(CurationError, match="cannot be read") as caught:
            look(str(tmp_path))
        assert "\n" not in str(caught.value)


@given(st.lists(st.one_of(st.none(), st.floats(width=32)), max_size=30))
def test_numbers_are_the_finite_ones(values: list[float | None]) -> None:
    got, missing = inspect.numbers(ds.dataset(pa.table({"x": pa.array(values, pa.float32())})), "x")
    expected = [v for v in values if v is not None and np.isfinite(v)]
    assert got.tolist() == expected
    assert missing == len(values) - len(expected)


@given(st.text(st.characters(exclude_categories=[]), max_size=60), st.integers(1, 40))
def test_printable_is_one_harmless_line(text: str, limit: int) -> None:
    shown = inspect.printable(text)
    shown.encode("utf-8")
    assert not any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in shown)
    assert inspect.printable(shown) == shown
    cut = inspect.printable(text, limit)
    assert cut == shown if len(shown) <= limit else len(cut) == limit


def test_printable_leaves_writing_alone() -> None:
    for text in ("Süsstrunk", "漢字\u3000全角", "می\u200cخواهم", "👩\u200d🚀", "a\u00a0b"):
        assert inspect.printable(text) == text


def test_counts_leave_nulls_out_and_sort(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": ["x", None, "y", "y"], "b": ["1", "2", None, None]}), tmp_path / "t.parquet")
    table = ds.dataset(tmp_path / "t.parquet")
    assert inspect.counts(table, "a") == [("y", 2), ("x", 1)]
    assert inspect.counts(table, "a", "b") == [(("y", None), 2), (("x", "1"), 1)]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599.7, "1:00:00"), (36005, "10:00:05")])
def test_clock(seconds: float, text: str) -> None:
    assert inspect.clock(seconds) == text


def test_duplicates_are_columns_of_the_clips(tmp_path):
    """Two copies and a clip that came after the table was made."""
    schema = pa.schema([*CLIP_IDENTITY, score_field("phash", pa.list_(pa.uint64()), "hash", "", {"scorer": "hash"})])
    made = Manifest(tmp_path / "manifest")
    rows = [{"clip_id": c, "video_id": c, "uri": c, "shot": 0, "start": 0.0, "end": 3.0} for c in "abc"]
    for row in rows:
        row |= {"width": 64, "height": 36, "phash": [0x9C3A5E71D2480FB6, 0x3B1D7A94E06C52F8, 0xE4925B0D6F18C37A]}
    made.commit(Shard("one", [], [], [], rows[:2]), schema)
    duplicates.update(made, DuplicateSettings())
    made.commit(Shard("two", [], [], [], rows[2:]), schema)
    found = inspect.sql(
        str(tmp_path), "SELECT clip_id, width, perceptual_group g, perceptual_size n FROM clips ORDER BY 1"
    )
    assert [tuple(r.values()) for r in found.to_pylist()] == [
        ("a", 64, "a", 2),
        ("b", 64, "a", 2),
        ("c", 64, None, None),
    ]
    assert inspect.sql(str(tmp_path), "SELECT count(*) n FROM duplicates")["n"].to_pylist() == [2]
    assert "perceptual_bits [bit]" in inspect.definitions(str(tmp_path))
    line = next(line for line in inspect.summarise(str(tmp_path)).splitlines() if line.startswith("perceptual"))
    assert line.split()[1:] == ["1", "2", "1"]  # groups, clips in them, repeats
    duplicates.path_of(made).write_bytes(b"PAR1 and no more")  # as if there were none
    assert inspect.sql(str(tmp_path), "SELECT count(*) n FROM clips")["n"].to_pylist() == [3]
    assert "perceptual" not in inspect.summarise(str(tmp_path)) + inspect.definitions(str(tmp_path))
    with pytest.raises(CurationError, match="duplicates does not exist"):
        inspect.sql(str(tmp_path), "SELECT * FROM duplicates")
