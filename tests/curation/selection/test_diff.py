"""Two selections beside each other, against sets of the clips in their files."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.config import Policy, Rule, SelectConfig
from curation.errors import CurationError
from curation.manifest import Manifest, Shard
from curation.policy import select
from curation.schema import CLIP_IDENTITY, score_field
from curation.selection.diff import ABSENT, compare

SCHEMA = pa.schema([*CLIP_IDENTITY, *(score_field(s, pa.float32(), s, "", {"scorer": s}) for s in ("motion", "text"))])


@pytest.fixture
def made(tmp_path):
    """Makes a selection of a manifest of so many clips: the folder's name, a policy, clips -> its folder."""

    def make(name, policy, clips=100):
        rng = np.random.default_rng(0)
        rows = [
            {"clip_id": f"c{i:03}", "video_id": f"v{i % 9}", "motion": m, "text": t}
            for i, (m, t) in enumerate(zip(rng.random(100), rng.random(100), strict=True))
        ]
        root = tmp_path / f"manifest-{clips}"
        Manifest(root).commit(Shard("s", [], [], [], rows[:clips]), SCHEMA)
        config = SelectConfig(manifest=str(root), out=str(tmp_path / name), inline_policy=policy)
        return select(config).out

    return make


def ids(folder):
    return set(pq.read_table(f"{folder}/clips.parquet")["clip_id"].to_pylist())


def test_clips_of_one_alone_have_the_reasons_of_the_other(made, tmp_path):
    a = made("a", Policy(rules=[Rule(score="motion", min=0.3), Rule(score="text", max=0.9)]))
    b = made("b", Policy(rules=[Rule(score="motion", min=0.5), Rule(where="text < 0.95")], drop_duplicates=False))
    found = compare(a, b, str(tmp_path / "diff.parquet"))
    assert (found.both, found.only_a, found.only_b) == (
        len(ids(a) & ids(b)),
        len(ids(a) - ids(b)),
        len(ids(b) - ids(a)),
    )
    assert min(found.only_a, found.only_b) > 0
    rows = pq.read_table(tmp_path / "diff.parquet").to_pylist()
    assert {r["clip_id"] for r in rows if r["only_in"] == "A"} == ids(a) - ids(b)
    assert {r["clip_id"] for r in rows if r["only_in"] == "B"} == ids(b) - ids(a)
    reasons = {
        folder: {r["clip_id"]: r["reasons"] for r in pq.read_table(f"{folder}/rejected.parquet").to_pylist()}
        for folder in (a, b)
    }
    for row in rows:
        assert row["reasons"] == reasons[b if row["only_in"] == "A" else a][row["clip_id"]]
    for line in found.only:
        matching = [r["clip_id"] for r in rows if r["only_in"] == line.side and line.reason in r["reasons"]]
        assert (line.clips, line.examples) == (len(matching), matching[:3])
    assert {(o.side, o.reason) for o in found.only} == {("A", "motion below 0.5"), ("B", "text above 0.9")}


def test_policies_are_compared_rule_by_rule(made):
    shared = Rule(score="text", min=0.01)
    a = made("a", Policy(name="a", rules=[Rule(score="motion", min=0.3), shared, Rule(score="text", top=90)]))
    b = made(
        "b", Policy(name="b", rules=[shared, Rule(score="motion", min=0.5, missing="keep"), Rule(where="text < 1")])
    )
    facts = [fact for fact in compare(a, b).facts if fact[0] in ("rule", "name", "drop_duplicates", "manifest hash")]
    assert facts == [
        ("manifest hash", compare(a, b).a.manifest_hash, "as A"),
        ("rule", "score: motion, min: 0.3", "score: motion, min: 0.5, missing: keep"),
        ("rule", "score: text, top: 90", "–"),
        ("rule", "–", "where: text < 1"),
        ("name", "a", "b"),
    ]


def test_a_selection_does_not_differ_from_itself(made):
    a = made("a", Policy(rules=[Rule(score="motion", min=0.3)]))
    found = compare(a, a)
    assert (found.both, found.only_a, found.only_b, found.only) == (len(ids(a)), 0, 0, [])
    assert not any(what == "rule" for what, _, _ in found.facts)


def test_clips_that_the_other_manifest_lacks_are_told(made):
    a, b = made("a", Policy()), made("b", Policy(), clips=60)
    (line,) = compare(a, b).only
    assert (line.side, line.reason, line.clips) == ("A", ABSENT, 40)


def test_clips_that_change_sides_are_counted(made):
    a, b = (made(f"s{seed}", Policy(validation=0.4, seed=seed)) for seed in (1, 2))
    tables = [pq.read_table(f"{s}/clips.parquet", columns=["clip_id", "split"]).to_pylist() for s in (a, b)]
    sides = [{row["clip_id"]: row["split"] for row in rows} for rows in tables]
    assert compare(a, b).moved == sum(sides[0][c] != sides[1][c] for c in sides[0]) > 0


def test_a_folder_that_is_no_selection_is_named(made, tmp_path):
    a = made("a", Policy())
    for other in ("manifest-100", "nowhere"):
        with pytest.raises(CurationError, match=f"{other}.* is no selection; make one"):
            compare(a, str(tmp_path / other))


def test_a_list_goes_to_disk_and_not_into_the_manifest(made, tmp_path, monkeypatch):
    a = made("a", Policy(rules=[Rule(score="motion", min=0.3)]))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for out in ("s3://bucket/diff.parquet", f"{tmp_path}/manifest-100/clips/diff.parquet", f"{a}/selection.json/x"):
        with pytest.raises(CurationError, match="written to disk|lies within the manifest|is a file"):
            compare(a, a, out)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_is_no_list_is_left_alone(made, tmp_path):
    a, b = (made(n, Policy(rules=[Rule(score="motion", min=m)])) for n, m in (("a", 0.3), ("b", 0.6)))
    (tmp_path / "mine.txt").write_text("mine")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for out in (f"{a}/clips.parquet", f"{b}/selection.json", tmp_path / "mine.txt", a):
        with pytest.raises(CurationError, match="^out: .* exists and is no list of differences"):
            compare(a, b, str(out))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    (tmp_path / "diff.parquet").touch()
    for one, other in ((a, b), (b, a)):
        found = compare(one, other, str(tmp_path / "diff.parquet"))
        sides = pq.read_table(tmp_path / "diff.parquet")["only_in"].to_pylist()
        assert (sides.count("A"), sides.count("B")) == (found.only_a, found.only_b)
    assert found.only_a + found.only_b
