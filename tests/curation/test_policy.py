"""Policies against numpy, and selections as they lie on disk."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.config import DuplicateSettings, Policy, Rule, SelectConfig
from curation.duplicates import table as duplicates
from curation.errors import CurationError
from curation.manifest import Manifest, Shard
from curation.policy import judge, levels, read_summary, select
from curation.schema import CLIP_IDENTITY, score_field

SCHEMA = pa.schema(
    [
        *CLIP_IDENTITY,
        score_field("motion", pa.float32(), "flow", "px", {"scorer": "motion"}),
        score_field("text_area", pa.float32(), "text", "", {"scorer": "text"}),
        score_field("tags", pa.list_(pa.string()), "tags", "", {"scorer": "tags"}),
        score_field("phash", pa.list_(pa.uint64()), "hash", "", {"scorer": "phash"}),
    ]
)
RNG = np.random.default_rng(0)
MOTION = np.round(RNG.gamma(2, 2, 100), 3)


@pytest.fixture
def manifest(tmp_path):
    made = Manifest(tmp_path / "curation" / "manifest")
    for name, rows in (("s1", range(60)), ("s2", range(60, 100))):
        clips = [
            {
                "clip_id": f"c{i:03}",
                "video_id": f"v{i % 7}",
                "uri": f"/v/{i % 7}.mp4",
                "start": float(i),
                "end": i + 2.0,
                "width": 640,
                "height": 360,
                "motion": None if i == 5 else float(MOTION[i]),
                "text_area": 0.2 if i % 10 == 0 else 0.0,
                "phash": [int(x) for x in np.random.default_rng(i if i != 99 else 98).integers(0, 2**63, 4)],
            }
            for i in rows
        ]
        made.commit(Shard(name, [], [], [], clips), SCHEMA)
    return made


def config(manifest, tmp_path, *rules, **more):
    policy = Policy(rules=list(rules), drop_duplicates=more.pop("drop_duplicates", False))
    return SelectConfig(manifest=str(manifest.root), out=str(tmp_path / "selection"), inline_policy=policy, **more)


def kept_ids(tmp_path):
    return pq.read_table(tmp_path / "selection" / "clips.parquet")["clip_id"].to_pylist()


def test_a_percentile_agrees_with_numpy(manifest, tmp_path):
    summary = select(config(manifest, tmp_path, Rule(score="motion", min_percentile=25)))
    measured = {f"c{i:03}": np.float32(m) for i, m in enumerate(MOTION) if i != 5}
    cut = np.percentile(list(measured.values()), 25)
    assert kept_ids(tmp_path) == [c for c, m in measured.items() if m >= cut]
    assert summary.thresholds[0].min == pytest.approx(cut)
    assert summary.rejected_by_reason["motion not measured"] == 1


def test_every_fallen_clip_has_all_its_reasons(manifest, tmp_path):
    select(config(manifest, tmp_path, Rule(score="motion", min=3), Rule(score="text_area", max=0.07)))
    rejected = {r["clip_id"]: r["reasons"] for r in pq.read_table(tmp_path / "selection/rejected.parquet").to_pylist()}
    assert set(rejected) | set(kept_ids(tmp_path)) == {f"c{i:03}" for i in range(100)}
    assert not set(rejected) & set(kept_ids(tmp_path))
    for i in range(100):
        expected = []
        if i != 5 and np.float32(MOTION[i]) < 3:
            expected.append("motion below 3")
        if i == 5:
            expected.append("motion not measured")
        if i % 10 == 0:
            expected.append("text_area above 0.07")
        assert rejected.get(f"c{i:03}", []) == expected


def test_missing_values_can_be_let_through(manifest, tmp_path):
    select(config(manifest, tmp_path, Rule(score="motion", min=3, missing="keep")))
    assert "c005" in kept_ids(tmp_path)


def test_of_duplicates_one_stays(manifest, tmp_path):
    summary = select(config(manifest, tmp_path, drop_duplicates=True))
    assert summary.kept == 99
    (row,) = pq.read_table(tmp_path / "selection/rejected.parquet").to_pylist()
    assert {row["clip_id"], row["duplicate_of"]} == {"c098", "c099"}
    assert row["reasons"] == ["duplicate"]


def test_kept_rows_are_the_manifests_rows(manifest, tmp_path):
    select(config(manifest, tmp_path, Rule(score="motion", min=3)))
    kept = pq.read_table(tmp_path / "selection/clips.parquet")
    source = {r["clip_id"]: r for r in manifest.read("clips").to_pylist()}
    assert kept.to_pylist() == [source[c] for c in kept["clip_id"].to_pylist()]
    assert kept.schema.field("motion").metadata == SCHEMA.field("motion").metadata


def test_a_second_time_nothing_is_done(manifest, tmp_path):
    first = select(config(manifest, tmp_path, Rule(score="motion", min=3)))
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "selection").iterdir()}
    again = select(config(manifest, tmp_path, Rule(score="motion", min=3)))
    assert (first.already_done, again.already_done) == (False, True)
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "selection").iterdir()} == before
    assert again.selection_hash == first.selection_hash == read_summary(tmp_path / "selection").selection_hash


def test_another_policy_replaces_the_selection_whole(manifest, tmp_path):
    select(config(manifest, tmp_path, Rule(score="motion", min=3)))
    select(config(manifest, tmp_path, Rule(score="motion", min=5)))
    assert len(kept_ids(tmp_path)) == sum(np.float32(m) >= 5 for i, m in enumerate(MOTION) if i != 5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curation", "selection"]


def test_a_dry_run_writes_nothing(manifest, tmp_path):
    summary = select(config(manifest, tmp_path, Rule(score="motion", min=3), dry_run=True))
    assert 0 < summary.kept < 100
    assert not (tmp_path / "selection").exists()


def test_a_selection_that_keeps_nothing_says_so_and_leaves_nothing(manifest, tmp_path):
    with pytest.raises(CurationError, match=r"no clip of 100 survives .*motion >= 1000: 100 -> 0"):
        select(config(manifest, tmp_path, Rule(score="motion", min=1000)))
    assert [p.name for p in tmp_path.iterdir()] == ["curation"]


@pytest.mark.parametrize(
    ("score", "message"),
    [("moton", "did you mean 'motion'"), ("tags", "not a number"), ("qqq", "there are")],
)
def test_a_score_that_is_not_there_is_named(manifest, tmp_path, score, message):
    with pytest.raises(CurationError, match=message):
        select(config(manifest, tmp_path, Rule(score=score, min=1)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: [{score: motion, min_percentile: 140}]", "rules.0.min_percentile.*100"),
        ("rules: [{score: motion, minimum: 3}]", "unknown key rules.0.minimum; did you mean 'min'"),
        ("rulez: [{score: motion, min: 3}]", "unknown key rulez; did you mean 'rules'"),
        (
            "{max_clips: 3, dedup: true}",
            "key max_clips; did you mean .*key dedup; (did you mean|there are name, rules)",
        ),
        ("rules:\n- {score: motion, min: 3}\nrules: []", "yaml', line 3: 'rules' is given twice, first in line 1"),
        ("rules:\n- score: motion\n  min: 3\n  min: 4", "yaml', line 4: 'min' is given twice, first in line 3"),
        ("rules: [{score: motion}]", "rules.0: a rule needs min, max"),
        ("rules: [{score: motion, min: , max: 3}]", "yaml': rules.0.min is empty; give it a value"),
        ("rules: [{score: motion, min: 5, max: 3}]", "rules.0: min 5 is above max 3"),
        ("rules: [{score: motion, min: true}]", "rules.0.min: a bound is a number, not true"),
        ("{drop_duplicates: false, duplicate_similarity: 0.9}", "yaml': with drop_duplicates: false nothing reads"),
        ("rules: [", "yaml', line 1: "),
        ("- a", "must be a mapping, with `name:` and `rules:`"),
    ],
)
def test_a_policy_file_with_a_mistake_names_file_and_field(manifest, tmp_path, text, message):
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(CurationError, match=message) as caught:
        select(SelectConfig(manifest=str(manifest.root), out=str(tmp_path / "s"), policy=str(tmp_path / "policy.yaml")))
    assert "policy.yaml" in str(caught.value)


def test_a_folder_is_no_policy(manifest, tmp_path):
    with pytest.raises(CurationError, match="is a folder, not a file of rules"):
        select(SelectConfig(manifest=str(manifest.root), out=str(tmp_path / "s"), policy=str(tmp_path)))


def test_a_manifest_without_clips_says_what_came_of_its_shots(tmp_path):
    shots = [{"uri": "a.mp4", "shot": i, "start": 0.0, "end": 0.25 * i, "reason": "too short"} for i in range(4)]
    settings = {"rushes.config": json.dumps({"clips": {"min_length_s": 1.0, "stride_s": None}})}
    made = Manifest(tmp_path / "short")
    made.commit(Shard("s", [], shots, [], []), SCHEMA.with_metadata(settings))
    with pytest.raises(CurationError) as caught:
        select(config(made, tmp_path))
    for words in ("4 shots", "the longest of 0.75 s", r"none as long as clips.min_length_s (1 s)", "FROM shots"):
        assert words in str(caught.value)
    made.commit(Shard("s", [{"uri": "a.mp4", "status": "failed"}], [], [], []), SCHEMA)
    with pytest.raises(CurationError, match="1 of 1 videos failed.* FROM errors"):
        select(config(made, tmp_path))


def test_a_folder_that_is_something_else_is_not_replaced(manifest, tmp_path):
    (tmp_path / "selection").mkdir()
    (tmp_path / "selection" / "thesis.tex").write_text("precious")
    with pytest.raises(CurationError, match="is no selection"):
        select(config(manifest, tmp_path, Rule(score="motion", min=3)))
    assert (tmp_path / "selection" / "thesis.tex").read_text() == "precious"


def test_the_record_is_plain_json(manifest, tmp_path):
    select(config(manifest, tmp_path, Rule(score="motion", min_percentile=50)))
    record = json.loads((tmp_path / "selection" / "selection.json").read_text())
    assert record["clips"] == 100
    assert record["funnel"][0]["before"] == 100
    assert record["manifest_hash"] == manifest.hash()


@given(
    values=st.lists(st.one_of(st.none(), st.floats(-100, 100, width=32)), min_size=1, max_size=60),
    percentile=st.floats(0, 100),
)
def test_a_percentile_drops_no_more_than_its_share(values, percentile):
    table = pa.table({"clip_id": [str(i) for i in range(len(values))], "x": pa.array(values, pa.float32())})
    verdict = judge(table, Policy(rules=[Rule(score="x", min_percentile=percentile)], drop_duplicates=False))
    measured = [v for v in values if v is not None]
    # numpy's percentile lies at rank p (n - 1), so at most that many values, rounded up, are below it
    assert verdict.keep.sum() >= len(measured) - np.ceil((len(measured) - 1) * percentile / 100 + 1e-9)
    for value, keep, bits in zip(values, verdict.keep, verdict.bits, strict=True):
        assert keep == (bits == 0)
        assert value is not None or not keep


def test_the_default_policy_asks_only_for_what_was_measured(manifest, tmp_path):
    """This manifest has motion and text_area, but neither of the default's other scores."""
    summary = select(SelectConfig(manifest=str(manifest.root), out=str(tmp_path / "selection")))
    assert [t.score for t in summary.thresholds] == ["motion", "text_area"]


def copies(tmp_path, name, *clips):
    """A manifest of one shard: (id, seed of the hashes, motion, width, embedding) a clip."""
    schema = SCHEMA.append(score_field("embedding", pa.list_(pa.float16()), "embedding", "", {"scorer": "clip"}))
    made = Manifest(tmp_path / name / "manifest")
    rows = [
        {
            "clip_id": clip_id,
            "video_id": clip_id,
            "uri": f"{clip_id}.mp4",
            "start": 0.0,
            "end": 3.0,
            "width": width,
            "height": 360,
            "motion": motion,
            "phash": np.random.default_rng(seed).integers(0, 2**63, 6).tolist(),
            "embedding": embedding,
        }
        for clip_id, seed, motion, width, embedding in clips
    ]
    made.commit(Shard("s", [], [], [], rows), schema)
    return made


def fallen(tmp_path):
    rows = pq.read_table(tmp_path / "selection/rejected.parquet").to_pylist()
    return {r["clip_id"]: (r["reasons"], r["duplicate_of"]) for r in rows}


def test_a_copy_stays_where_the_better_one_falls_by_a_rule(tmp_path):
    made = copies(tmp_path, "m", ("large", 1, 0.1, 1280, [1, 0]), ("small", 1, 5.0, 640, [1, 0]))
    select(config(made, tmp_path, Rule(score="motion", min=1), drop_duplicates=True))
    assert kept_ids(tmp_path) == ["small"]
    assert fallen(tmp_path) == {"large": (["motion below 1"], None)}


def test_what_an_existing_manifest_has_is_not_taken_again(tmp_path):
    made = copies(
        tmp_path, "m", ("new", 1, 1.0, 1280, [1, 0]), ("same", 2, 1.0, 640, [1, 0]), ("own", 3, 1, 640, [1, 0])
    )
    old = copies(tmp_path, "old", ("known", 1, 1.0, 320, [1, 0]), ("same", 2, 1.0, 640, [1, 0]))
    first = select(config(made, tmp_path, drop_duplicates=True))
    assert first.kept == 3
    again = select(config(made, tmp_path, drop_duplicates=True, against=[str(old.root)]))
    assert not again.already_done
    assert kept_ids(tmp_path) == ["own"]
    assert fallen(tmp_path) == {"new": (["duplicate"], "known"), "same": (["exact duplicate"], "same")}


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_example_that_repeats_another_manifests_clip_names_that_manifest(tmp_path, dry_run):
    made = copies(
        tmp_path, "m", ("new", 1, 1.0, 1280, [1, 0]), ("same", 2, 1.0, 640, [1, 0]),
        ("large", 3, 1, 1280, [1, 0]), ("small", 3, 1, 640, [1, 0]),
    )  # fmt: skip
    old = copies(tmp_path, "old", ("known", 1, 1.0, 320, [1, 0]))
    older = copies(tmp_path, "older", ("same", 2, 1.0, 640, [1, 0]), ("known", 1, 1.0, 320, [1, 0]))
    against = [str(made.root), str(old.root), str(older.root)]
    summary = select(config(made, tmp_path, drop_duplicates=True, against=against, dry_run=dry_run))
    said = {example["clip_id"]: example["value"] for step in summary.funnel for example in step.examples}
    assert said == {
        "new": f"repeats known of {old.root}", "same": f"repeats same of {older.root}", "small": "repeats large"
    }  # fmt: skip


def test_an_existing_manifest_that_is_gone_is_named_with_the_ways_out(tmp_path):
    made = copies(tmp_path, "m", ("new", 1, 1.0, 1280, [1, 0]), ("own", 3, 1, 640, [1, 0]))
    old = copies(tmp_path, "old", ("known", 1, 1.0, 320, [1, 0]))
    duplicates.update(made, DuplicateSettings(against=[str(old.root)]))
    old.root.rename(tmp_path / "away")
    with pytest.raises(CurationError) as caught:
        select(config(made, tmp_path, drop_duplicates=True))
    for words in (str(old.root), "restore it", "--against", "`rushes curate` again without --duplicates.against"):
        assert words in str(caught.value)
    with pytest.raises(CurationError, match="compared with"):
        select(config(made, tmp_path, Rule(score="perceptual_size", max=1)))
    assert select(config(made, tmp_path)).kept == 2  # looks at no duplicates
    assert select(config(made, tmp_path, drop_duplicates=True, against=[str(tmp_path / "away")])).kept == 1
    duplicates.update(made, DuplicateSettings())  # as `rushes curate` without the option does
    assert select(config(made, tmp_path, drop_duplicates=True)).kept == 2


def test_clips_that_mean_the_same_fall_when_asked_for(tmp_path):
    made = copies(tmp_path, "m", ("a", 1, 1.0, 1280, [1, 0]), ("b", 2, 1.0, 640, [1, 0.1]), ("c", 3, 1.0, 640, [0, 1]))
    assert select(config(made, tmp_path, drop_duplicates=True)).kept == 3
    wanted = Policy(duplicate_similarity=0.9)
    summary = select(SelectConfig(manifest=str(made.root), out=str(tmp_path / "selection"), inline_policy=wanted))
    assert fallen(tmp_path) == {"b": (["semantic duplicate"], "a")}
    assert [step.rule for step in summary.funnel] == ["no duplicate", "no semantic duplicate"]
    asked = select(config(made, tmp_path, Rule(score="semantic_size", max=9), drop_duplicates=True))
    assert asked.kept == 3  # a rule that looks at groups does not drop by them


def test_groups_are_scores_that_a_rule_may_ask_for(manifest, tmp_path):
    select(config(manifest, tmp_path, Rule(score="perceptual_representative", min=1)))
    assert set(fallen(tmp_path)) == {"c099"}
    select(config(manifest, tmp_path, Rule(score="perceptual_size", min=2)))
    assert kept_ids(tmp_path) == ["c098", "c099"]
    assert pq.read_schema(tmp_path / "selection/clips.parquet").names == manifest.schema("clips").names


def test_meaning_cannot_be_compared_without_embeddings(manifest, tmp_path):
    policy = Policy(duplicate_similarity=0.9)
    with pytest.raises(CurationError, match="the manifest has none"):
        select(SelectConfig(manifest=str(manifest.root), out=str(tmp_path / "s"), inline_policy=policy))


def test_split_and_weight_are_columns_of_the_selection(manifest, tmp_path):
    policy = Policy(
        validation=0.3, weight="coalesce(motion, 0) + 1", max_clips_per_video=5, best_by="motion", sample=20
    )
    summary = select(SelectConfig(manifest=str(manifest.root), out=str(tmp_path / "selection"), inline_policy=policy))
    kept = pq.read_table(tmp_path / "selection/clips.parquet")
    assert kept.schema.names == [*SCHEMA.names, "split", "weight"]
    assert summary.kept == kept.num_rows == 20
    assert kept["weight"].to_pylist() == pytest.approx([(m or 0) + 1 for m in kept["motion"].to_pylist()], rel=1e-6)
    sides = set(zip(kept["video_id"].to_pylist(), kept["split"].to_pylist(), strict=True))
    assert len(sides) == len({video for video, _ in sides}) > 2
    assert {side for _, side in sides} == {"train", "validation"} == set(summary.split)
    assert summary.split["validation"] == kept["split"].to_pylist().count("validation")


def test_training_reads_a_selection_with_more_columns(manifest, tmp_path):
    from training.selection import read_selection

    columns = {f.name: f for f in SCHEMA}
    rows = [r | {"fps": 25.0} for r in manifest.read("clips").to_pylist()]
    made = Manifest(tmp_path / "whole")
    made.commit(Shard("s", [], [], [], rows), pa.schema(list(columns.values())))
    policy = Policy(validation=0.3, weight="frames + 1", rules=[Rule(where="coalesce(motion, 9) > 1")])
    out = tmp_path / "selection"
    with pytest.raises(CurationError, match="0 or null for every clip"):
        select(SelectConfig(manifest=str(made.root), out=str(out), inline_policy=policy))
    policy = policy.model_copy(update={"weight": "motion"})
    summary = select(SelectConfig(manifest=str(made.root), out=str(out), inline_policy=policy))
    read = read_selection(str(out))
    assert len(read.clips) == summary.kept > 50
    assert read.hash == summary.selection_hash
    assert Counter(clip.split for clip in read.clips) == summary.split
    assert {c.clip_id: c.weight for c in read.clips}.items() <= {r["clip_id"]: r["motion"] or 0 for r in rows}.items()


def test_a_column_is_not_written_twice(tmp_path):
    schema = SCHEMA.append(score_field("weight", pa.float32(), "of a scale", "kg", {"scorer": "scale"}))
    made = Manifest(tmp_path / "m")
    made.commit(Shard("s", [], [], [], [{"clip_id": "a", "video_id": "v", "motion": 1.0, "weight": 2.0}]), schema)
    policy = Policy(weight="motion")
    for dry in (True, False):
        with pytest.raises(CurationError, match="has a column 'weight' already"):
            select(SelectConfig(manifest=str(made.root), out=str(tmp_path / "s"), inline_policy=policy, dry_run=dry))
    assert not (tmp_path / "s").exists()


def test_a_dry_run_shows_what_each_rule_costs_and_clips_that_fell(manifest, tmp_path):
    rules = Rule(score="motion", min=3), Rule(where="text_area < 0.1"), Rule(score="motion", top=2, per=["video_id"])
    summary = select(config(manifest, tmp_path, *rules, dry_run=True))
    assert [s.rule for s in summary.funnel] == [
        "motion >= 3", "text_area < 0.1", "motion in the top 2 of each video_id"
    ]  # fmt: skip
    for at, step in enumerate(summary.funnel):
        fewer = select(config(manifest, tmp_path, *(r for i, r in enumerate(rules) if i != at), dry_run=True))
        assert step.alone == fewer.kept - summary.kept
    source = {r["clip_id"]: r for r in manifest.read("clips").to_pylist()}
    for step, falls in zip(summary.funnel, ("motion", "text_area", "motion"), strict=True):
        assert len(step.examples) == 3
        for example in step.examples:
            row = source[example["clip_id"]]
            assert (example["uri"], example["start"]) == (row["uri"], row["start"])
            shown = "null" if row[falls] is None else f"{row[falls]:.4g}"
            assert example["value"].split(", ")[0] == f"{falls} {shown}"


def test_a_selection_made_before_there_were_examples_is_still_read(manifest, tmp_path):
    select(config(manifest, tmp_path, Rule(score="motion", min=3)))
    path = tmp_path / "selection" / "selection.json"
    record = json.loads(path.read_text())
    del record["split"]
    record["funnel"] = [{k: s[k] for k in ("rule", "before", "after")} for s in record["funnel"]]
    path.write_text(json.dumps(record))
    assert [s.alone for s in read_summary(tmp_path / "selection").funnel] == [None]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"where": "moton > 1"}, "policy 'default': where: 'moton > 1': .* did you mean 'motion'"),
        ({"score": "motion", "top": 2, "per": "vidio_id"}, "per: .* did you mean 'video_id'"),
        ({"score": "motion", "top": 2, "per": "tags"}, "nothing is grouped by"),
    ],
)
def test_what_a_rule_looks_at_must_be_there(manifest, tmp_path, rule, message):
    with pytest.raises(CurationError, match=message):
        select(config(manifest, tmp_path, Rule.model_validate(rule)))


def test_a_sweep_is_a_selection_for_each_level(manifest, tmp_path):
    rules = [Rule(score="motion", min_percentile=1, max=9), Rule(score="text_area", max=0.07)]
    swept = SelectConfig(
        manifest=str(manifest.root), out=str(tmp_path / "swept"), sweep="motion=12.5,25,50",
        inline_policy=Policy(name="x" * 64, rules=rules),
    )  # fmt: skip
    made = [select(level) for level in levels(swept)]
    assert [p.name for p in sorted((tmp_path / "swept").iterdir())] == ["motion-12.5", "motion-25", "motion-50"]
    rows = manifest.read("clips").to_pylist()
    measured = [r["motion"] for r in rows if r["motion"] is not None]
    for level, summary in zip((12.5, 25, 50), made, strict=True):
        low = np.percentile(measured, level)
        expected = [r for r in rows if r["motion"] is not None and low <= r["motion"] <= 9 and r["text_area"] < 0.07]
        assert pq.read_table(f"{summary.out}/clips.parquet")["clip_id"].to_pylist() == [r["clip_id"] for r in expected]
    assert [select(level).already_done for level in levels(swept)] == [True] * 3
    other = swept.model_copy(update={"sweep": "text_area=50", "out": str(tmp_path / "motion")})
    (alone,) = levels(other.model_copy(update={"inline_policy": Policy()}))
    assert alone.inline_policy
    assert [r.min_percentile for r in alone.inline_policy.rules] == [50]
    with pytest.raises(CurationError, match="is a selection; choose a folder"):
        list(levels(swept.model_copy(update={"out": made[0].out})))


@pytest.mark.parametrize(
    "sweep", ["motion", "motion=", "motion=a", "motion=1,,2", "motion=101", "motion=25,5,25.0", "../x=5"]
)
def test_a_sweep_that_is_none_is_refused(sweep):
    with pytest.raises(ValueError, match="sweep"):
        SelectConfig(manifest="m", sweep=sweep)
