"""Whole policies against rules applied one clip after the other in plain Python."""

import hashlib
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.config import Policy, Rule
from curation.errors import CurationError
from curation.selection.rules import EXAMPLES, judge

VALUES = st.one_of(st.none(), st.integers(-4, 4).map(float))
CLIPS = st.lists(
    st.fixed_dictionaries(
        {"video_id": st.sampled_from("uvw"), "motion": VALUES, "aesthetic": VALUES, "group": st.integers(0, 5)}
    ),
    min_size=1,
    max_size=30,
)
POLICIES = st.fixed_dictionaries(
    {
        "minimum": st.one_of(st.none(), st.integers(-4, 4)),
        "where": st.booleans(),
        "missing": st.sampled_from(["reject", "keep"]),
        "drop_duplicates": st.booleans(),
        "top": st.one_of(st.none(), st.integers(1, 4)),
        "per": st.sampled_from([[], ["video_id"], ["video_id", "group"]]),
        "max_clips_per_video": st.one_of(st.none(), st.integers(1, 4)),
        "best_by": st.booleans(),
        "sample": st.one_of(st.none(), st.integers(1, 10)),
        "weight": st.booleans(),
    }
)


def table_of(clips):
    """A group is represented by its first clip, which has the smallest id."""
    first = {}
    for i, clip in enumerate(clips):
        first.setdefault(clip["group"], i)
    sizes = [sum(c["group"] == clip["group"] for c in clips) for clip in clips]
    constant = {"width": 640, "height": 360, "start": 0.0, "end": 2.0}
    return pa.table(
        {
            "clip_id": [f"c{i:02}" for i in range(len(clips))],
            "video_id": [c["video_id"] for c in clips],
            "group": [c["group"] for c in clips],
            **{score: pa.array([c[score] for c in clips], pa.float32()) for score in ("motion", "aesthetic")},
            **{name: [value] * len(clips) for name, value in constant.items()},
            "perceptual_group": [f"c{first[c['group']]:02}" for c in clips],
            "perceptual_representative": pa.array([first[c["group"]] == i for i, c in enumerate(clips)]).cast(
                pa.int8()
            ),
            "perceptual_size": pa.array(sizes, pa.int32()),
        }
    )


def policy_of(asked):
    rules = []
    if asked["minimum"] is not None:
        rules.append(Rule(score="motion", min=asked["minimum"], missing=asked["missing"]))
    if asked["where"]:
        rules.append(Rule(where="aesthetic < 3 or motion > 2", missing=asked["missing"]))
    if asked["top"]:
        rules.append(Rule(score="aesthetic", top=asked["top"], per=asked["per"], missing=asked["missing"]))
    return Policy(
        rules=rules,
        drop_duplicates=asked["drop_duplicates"],
        max_clips_per_video=asked["max_clips_per_video"],
        best_by="aesthetic" if asked["max_clips_per_video"] and asked["best_by"] else None,
        sample=asked["sample"],
        weight="coalesce(motion, 0) + 5" if asked["weight"] else None,
        seed=7,
    )


def either(a, b):
    """SQL's OR."""
    return True if True in (a, b) else None if None in (a, b) else False


def apply(clips, policy):
    """(indices that stay, {index: what it repeats}), with nothing but lists."""
    left = list(range(len(clips)))
    for rule in policy.rules:
        if rule.top:
            continue
        for i in list(left):
            motion, aesthetic = clips[i]["motion"], clips[i]["aesthetic"]
            holds = either(
                None if aesthetic is None else aesthetic < 3, None if motion is None else motion > 2
            ) if rule.where else None if motion is None else motion >= rule.min  # fmt: skip
            if holds is False or (holds is None and rule.missing == "reject"):
                left.remove(i)
    repeats = {}
    if policy.drop_duplicates:
        best = {}
        for i in left:
            if i != best.setdefault(clips[i]["group"], i):
                repeats[i] = best[clips[i]["group"]]
        left = [i for i in left if i not in repeats]

    def few(key, score, most, *, reject):
        seen, stay = {}, []
        values = {i: clips[i][score] if score else 0 for i in left}
        order = sorted(left, key=lambda i: (math.inf if values[i] is None else -values[i], i))
        for i in order:
            if reject and clips[i][score] is None:
                continue
            seen[key(i)] = seen.get(key(i), 0) + 1
            if seen[key(i)] <= most:
                stay.append(i)
        return sorted(stay)

    for rule in [r for r in policy.rules if r.top]:
        reject = rule.missing == "reject"
        left = few(lambda i, per=rule.per: tuple(clips[i][c] for c in per), rule.score, rule.top, reject=reject)
    if policy.max_clips_per_video:
        left = few(lambda i: clips[i]["video_id"], policy.best_by, policy.max_clips_per_video, reject=False)
    if policy.sample:

        def arrival(i):
            lower = int.from_bytes(hashlib.md5(f"c{i:02}:7".encode()).digest()[8:], "little")
            return -math.log(((lower >> 11) + 0.5) / 2**53) / ((clips[i]["motion"] or 0) + 5 if policy.weight else 1)

        left = sorted(sorted(left, key=arrival)[: policy.sample])
    return left, repeats


@settings(max_examples=60)
@given(clips=CLIPS, asked=POLICIES)
def test_a_policy_is_its_rules_one_after_the_other(clips, asked):
    policy = policy_of(asked)
    verdict = judge(table_of(clips), policy)
    stay, repeats = apply(clips, policy)
    assert np.flatnonzero(verdict.keep).tolist() == stay
    assert verdict.keep.tolist() == (verdict.bits == 0).tolist()
    expected = [f"c{repeats[i]:02}" if i in repeats else None for i in range(len(clips))]
    assert verdict.duplicate_of(np.arange(len(clips))).to_pylist() == expected
    for bit, count in enumerate(verdict.reasons.values()):
        assert count == sum(int(b) >> bit & 1 for b in verdict.bits) > 0


@settings(max_examples=60)
@given(clips=CLIPS, asked=POLICIES)
def test_leaving_a_rule_out_is_counted_as_if_it_were_not_there(clips, asked):
    policy = policy_of(asked)
    verdict = judge(table_of(clips), policy)
    kept = int(verdict.keep.sum())
    order = [r for r in policy.rules if not r.top]
    without = [policy.model_copy(update={"rules": [o for o in policy.rules if o is not r]}) for r in order]
    without += [policy.model_copy(update={"drop_duplicates": False})] if policy.drop_duplicates else []
    without += [
        policy.model_copy(update={"rules": [o for o in policy.rules if o is not r]}) for r in policy.rules if r.top
    ]
    if policy.max_clips_per_video:
        without.append(policy.model_copy(update={"max_clips_per_video": None}))
    if policy.sample:
        without.append(policy.model_copy(update={"sample": None}))
    assert [step.alone for step in verdict.funnel] == [len(apply(clips, p)[0]) - kept for p in without]


@given(clips=CLIPS, asked=POLICIES)
def test_examples_fell_by_the_step_that_shows_them(clips, asked):
    verdict = judge(table_of(clips), policy_of(asked))
    left, shown = len(clips), []
    for step, fallen in zip(verdict.funnel, verdict.fallen, strict=True):
        assert (step.before, len(fallen.rows)) == (left, min(EXAMPLES, step.before - step.after))
        left = step.after
        shown += fallen.rows.tolist()
    assert left == verdict.keep.sum()
    assert len(set(shown)) == len(shown)
    assert not verdict.keep[shown].any()


def test_columns_are_added_for_split_and_weight():
    found = enumerate(zip("uuvw", (1, 2, None, 4), strict=True))
    clips = [{"video_id": v, "motion": m, "aesthetic": 0.0, "group": i} for i, (v, m) in found]
    policy = Policy(validation=0.5, weight="motion * 2", drop_duplicates=False)
    verdict = judge(table_of(clips), policy)
    assert verdict.added["weight"].to_pylist() == [2.0, 4.0, 0.0, 8.0]
    sides = verdict.added["split"].to_pylist()
    assert set(sides) == {"train", "validation"}
    assert sides[0] == sides[1]
    linked = judge(table_of([{**c, "group": 0} if c["video_id"] != "v" else c for c in clips]), policy)
    assert linked.added["split"].to_pylist()[0] == linked.added["split"].to_pylist()[3]


@pytest.mark.parametrize(
    ("weight", "message"),
    [("-motion", "-1 for c00"), ("motion / 0", "inf for c00"), ("motion * 0", "0 or null for every clip")],
)
def test_a_weight_that_is_none_names_a_clip(weight, message):
    clips = [{"video_id": "u", "motion": 1.0, "aesthetic": 0.0, "group": 0}]
    with pytest.raises(CurationError, match=f"policy 'default': weight: .*{message}"):
        judge(table_of(clips), Policy(weight=weight))


def test_more_reasons_than_bits_are_refused():
    clips = [{"video_id": "u", "motion": 0.0, "aesthetic": 0.0, "group": 0}]
    rules = [Rule(score="motion", min=i) for i in range(1, 66)]
    with pytest.raises(CurationError, match="more than 64 reasons"):
        judge(table_of(clips), Policy(rules=rules))
    assert judge(table_of(clips), Policy(rules=rules[:64])).bits[0] == 2**64 - 1


def test_rules_with_one_reason_count_a_clip_once():
    clips = [{"video_id": "u", "motion": m, "aesthetic": 0.0, "group": i} for i, m in enumerate((None, 0.0, 9.0))]
    verdict = judge(table_of(clips), Policy(rules=[Rule(score="motion", min=1), Rule(score="motion", max=5)]))
    assert verdict.reasons == {"motion below 1": 1, "motion not measured": 1, "motion above 5": 1}
