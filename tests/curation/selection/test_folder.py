"""Single rows of a manifest, and what a selection writes, against reading the manifest whole."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.config import Policy, Rule, SelectConfig
from curation.errors import CurationError
from curation.manifest import Manifest, Shard
from curation.policy import select
from curation.schema import CLIP_IDENTITY, score_field
from curation.selection import folder
from curation.selection.folder import SelectionSummary, read_summary, rows_at, write
from curation.selection.rules import Verdict

COLUMNS = ["clip_id", "uri", "start"]


@given(positions=st.sets(st.integers(0, 29)))
def test_rows_are_those_of_the_whole_manifest(tmp_path_factory, positions):
    root = tmp_path_factory.mktemp("m")
    (root / "clips").mkdir()
    schema = pa.schema(CLIP_IDENTITY)
    for at, count in ((0, 7), (7, 0), (7, 23)):  # a fragment of one row group, one of none, one of several
        rows = [{"clip_id": f"c{i}", "uri": f"f{i}.mp4", "start": i / 2} for i in range(at, at + count)]
        pq.write_table(
            pa.Table.from_pylist(rows, schema), root / "clips" / f"{at}-{count:02}.parquet", row_group_size=7
        )
    manifest = Manifest(root)
    whole = manifest.read("clips", COLUMNS).to_pylist()
    assert len(whole) == 30
    wanted = np.array(sorted(positions), np.int64)
    assert rows_at(manifest, wanted, COLUMNS) == [whole[i] for i in wanted]


SCORES = {
    "motion": pa.float32(),
    "camera": pa.string(),
    "tags": pa.list_(pa.string()),
    "embedding": pa.list_(pa.float16()),
    "phash": pa.list_(pa.uint64()),
}


def scored(rng: np.random.Generator, count: int, schema: pa.Schema) -> pa.Table:
    """Clips of a few videos, nulls among their scores."""

    def score(kind: pa.DataType) -> object:
        if rng.random() < 0.2:
            return None
        if pa.types.is_list(kind):
            text = kind.value_type == pa.string()
            numbers = rng.integers(0, 5, rng.integers(0, 4))
            return [f"t{n}" for n in numbers] if text else numbers.astype(kind.value_type.to_pandas_dtype()).tolist()
        return "pan" if kind == pa.string() else float(rng.random())

    rows = []
    for i in range(count):
        video = int(rng.integers(0, 4))
        identity = {"clip_id": f"{rng.integers(2**60):x}{i}", "video_id": f"v{video}", "uri": f"/ä{video}.mp4"}
        rows.append(identity | {"start": i / 2, "preview": rng.bytes(20)} | {n: score(t) for n, t in SCORES.items()})
    return pa.Table.from_pylist(rows, schema)


def told(reasons: dict[str, int], keep: np.ndarray, rng: np.random.Generator) -> Verdict:
    """A verdict with random reasons, every second clip that fell a duplicate of c0, and a weight."""
    bits = np.where(keep, 0, rng.integers(1, 2 ** len(reasons), len(keep))).astype(np.uint64)
    repeats = np.flatnonzero(~keep)[::2]
    return Verdict(
        keep, bits, reasons, repeats, pa.array(["c0"] * len(repeats), pa.string()), np.zeros(len(repeats), bool),
        [], [], [], {"weight": pa.array(rng.random(len(keep)))},
    )  # fmt: skip


@pytest.mark.parametrize("known", [["clip_id"], ["clip_id", "uri", "motion", "tags"], "all"])
@pytest.mark.parametrize("keeps", [0.3, 1.0])
def test_what_is_written_is_the_manifest_filtered(tmp_path, monkeypatch, known, keeps):
    monkeypatch.setattr(folder, "_BATCH_ROWS", 3)
    monkeypatch.setattr(folder, "_GROUP_BYTES", 200)  # several row groups
    rng = np.random.default_rng(5)
    fields = [score_field(n, t, n, "", {"scorer": n}) for n, t in SCORES.items()]
    schema = pa.schema([*CLIP_IDENTITY, *fields]).with_metadata({"rushes.config": "{}"})
    (tmp_path / "m" / "clips").mkdir(parents=True)
    for i, count in enumerate((11, 0, 1, 25)):
        pq.write_table(scored(rng, count, schema), tmp_path / "m" / "clips" / f"{i}.parquet", row_group_size=7)
    manifest = Manifest(tmp_path / "m")
    whole = manifest.read("clips")
    keep = rng.random(37) < keeps
    verdict = told({"dim": 3, "still": 2, "dull": 1}, keep, rng)
    summary = SelectionSummary("o", 37, int(keep.sum()), {}, [], [], {}, "m", "h", "p", "s")
    scores = whole if known == "all" else whole.select(known)
    write(tmp_path / "out", manifest, verdict, summary, scores.append_column("perceptual_size", whole["shot"]))

    kept = pq.read_table(tmp_path / "out" / "clips.parquet")
    assert kept.drop_columns("weight").equals(whole.filter(pa.array(keep)), check_metadata=True)
    assert kept["weight"].to_pylist() == verdict.added["weight"].filter(pa.array(keep)).to_pylist()
    assert pq.ParquetFile(tmp_path / "out" / "clips.parquet").num_row_groups >= 2

    fell = pq.read_table(tmp_path / "out" / "rejected.parquet")
    assert [(f.name, f.type) for f in fell.schema] == [
        ("clip_id", pa.string()), ("reasons", fell.schema.field("reasons").type), ("duplicate_of", pa.string())
    ]  # fmt: skip
    assert fell.schema.field("reasons").type.value_type == pa.string()
    repeats = set(verdict.repeats.tolist())
    assert fell.to_pylist() == [
        {
            "clip_id": whole["clip_id"][i].as_py(),
            "reasons": [r for k, r in enumerate(verdict.reasons) if int(verdict.bits[i]) >> k & 1],
            "duplicate_of": "c0" if i in repeats else None,
        }
        for i in np.flatnonzero(~keep).tolist()
    ]


@pytest.fixture
def selecting(tmp_path: Path) -> SelectConfig:
    """Two clips of four stay; the folder is not written yet."""
    rows = [{"clip_id": f"c{i}", "video_id": "v", "uri": "v.mp4", "start": i * 2.0, "motion": i} for i in range(4)]
    schema = pa.schema([*CLIP_IDENTITY, score_field("motion", pa.float32(), "flow", "px", {"scorer": "motion"})])
    Manifest(tmp_path / "m").commit(Shard("a", [], [], [], rows), schema)
    policy = Policy(rules=[Rule(score="motion", min=2)])
    return SelectConfig(manifest=str(tmp_path / "m"), out=str(tmp_path / "out"), inline_policy=policy)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("record", ["", "{", "{}", "[]", "null", "\x00"])
def test_a_damaged_record_is_told_by_readers_and_mended_by_selecting_again(selecting: SelectConfig, record: str):
    out = Path(select(selecting).out)
    whole = contents(out)
    (out / "selection.json").write_text(record)
    with pytest.raises(CurationError, match=f"is damaged.*`rushes select MANIFEST --out {out}`"):
        read_summary(out)
    assert not select(selecting).already_done
    assert contents(out) == whole
    assert select(selecting).already_done


@pytest.mark.parametrize("name", ["clips.parquet", "rejected.parquet"])
@pytest.mark.parametrize("how", ["lost", "cut", "of another"])
def test_a_selection_without_one_of_its_tables_is_made_again(selecting: SelectConfig, name: str, how: str):
    out = Path(select(selecting).out)
    whole = contents(out)
    if how == "lost":
        (out / name).unlink()
    elif how == "cut":
        (out / name).write_bytes(whole[name][:-20])
    else:
        pq.write_table(pq.read_table(out / name).slice(1), out / name)
    assert not select(selecting).already_done
    assert contents(out) == whole


@pytest.mark.parametrize(
    "files",
    [
        {"selection.json": "{"},
        {"selection.json": "{", "clips.parquet": "", "thesis.txt": "years of work"},
        {"selection.json": '{"mine": 1}', "other.json": "{}"},
        {"clips.parquet": "mine", "rejected.parquet": "mine"},
    ],
)
def test_what_may_be_somebody_s_own_is_left_alone(selecting: SelectConfig, files: dict[str, str]):
    out = Path(selecting.out)
    out.mkdir()
    for name, text in files.items():
        (out / name).write_text(text)
    before = contents(out)
    with pytest.raises(CurationError, match="^out: .* exists and is no selection; choose another folder"):
        select(selecting)
    with pytest.raises(CurationError, match="is no selection; make one"):
        read_summary(out)
    assert contents(out) == before


@pytest.mark.parametrize("table", ["clips", "errors"])
def test_a_selection_is_not_written_into_the_manifest(selecting: SelectConfig, tmp_path: Path, table: str):
    before = sorted(tmp_path.rglob("*"))
    for out in (tmp_path / "m" / table / "selection", tmp_path / "m" / table / "a" / "b"):
        with pytest.raises(CurationError, match="lies within the manifest"):
            select(selecting.model_copy(update={"out": str(out)}))
    assert sorted(tmp_path.rglob("*")) == before


def leftovers(out: Path) -> list[str]:
    return sorted(p.name for p in out.parent.iterdir() if p.name.startswith(f".{out.name}."))


def test_what_killed_runs_left_is_deleted_and_what_they_put_aside_comes_back(selecting: SelectConfig):
    out = Path(select(selecting).out)
    whole = contents(out)
    out.rename(out.with_name(f".{out.name}.7.old"))  # killed between the two renames
    half = out.with_name(f".{out.name}.8.new")
    half.mkdir()
    (half / "clips.parquet").write_bytes(b"half")
    folder._clear(out)
    assert contents(out) == whole
    assert not leftovers(out)


def test_what_a_living_run_writes_is_left_alone(selecting: SelectConfig):
    out = Path(selecting.out)
    fresh, old = (out.with_name(f".{out.name}.7.{kind}") for kind in ("new", "old"))
    fresh.mkdir(parents=True)
    old.mkdir()
    with folder._held(fresh):
        select(selecting)
        assert leftovers(out) == [fresh.name, old.name]
    folder._clear(out)
    assert not leftovers(out)


def test_a_selection_that_was_moved_says_where_it_lies(selecting: SelectConfig, tmp_path: Path):
    moved = Path(select(selecting).out).rename(tmp_path / "elsewhere")
    again = select(selecting.model_copy(update={"out": str(moved)}))
    assert (again.already_done, again.out) == (True, str(moved))
