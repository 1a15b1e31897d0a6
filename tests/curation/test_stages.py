"""The arithmetic of a run: every plan is worth its resources, and a refusal says what is lacking."""

import re
from dataclasses import fields

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from curation.config import CurateConfig, WeightSettings
from curation.errors import CurationError
from curation.scores import caption_llm, clip, coca, scorers_for, video_captioner
from curation.scores.base import PIXELS, ClipFrames, Column, Resources, Scorer
from curation.stages import BOOKED, CARD_BATCH, CPU_BATCH, PROCESS_GB, RESERVED, Node, stages_for, trimmed

CONFIG = CurateConfig(videos="x")
BIG = Node(cpus=64, gpus=8, memory_gb=1000)


class Any(Scorer):
    """A scorer of the given wants, whose one column is its name."""

    def __init__(self, name, resources=None, requires=(), sees=PIXELS):
        self.name, self.requires, self.sees = name, requires, sees  # type: ignore[misc]
        self.resources = resources or Resources()

    @property
    def columns(self):
        return [Column(self.name, pa.int32(), "a number")]

    def score(self, clips, known):
        return [{self.name: 1} for _ in clips]


@st.composite
def lists_of_scorers(draw):
    out: list[Scorer] = []
    for i in range(draw(st.integers(0, 8))):
        resources = Resources(
            cpus=draw(st.sampled_from([0.1, 1, 2])),
            gpus=draw(st.sampled_from([0, 0, 0.05, 0.25, 0.6, 1])),
            memory_gb=draw(st.floats(0, 20)),
        )
        requires = draw(st.lists(st.sampled_from([s.name for s in out]), max_size=2, unique=True)) if out else []
        sees = draw(st.lists(st.sampled_from(PIXELS), unique=True))
        out.append(Any(f"s{i}", resources, tuple(requires), tuple(sees)))
    return out


nodes = st.lists(
    st.builds(Node, st.sampled_from([1, 2, 4, 16]), st.integers(0, 3), st.floats(1, 100)), min_size=1, max_size=3
)


@given(lists_of_scorers(), nodes, st.integers(1, 32), st.integers(1, 100))
def test_a_plan_holds_every_scorer_once_after_what_it_requires_within_what_there_is(scorers, cluster, cpus, videos):
    try:
        stages = stages_for(scorers, cluster, CONFIG, cpus, videos)
    except CurationError:
        assume(False)
    assert sorted(s.name for stage in stages for s in stage.scorers) == sorted(s.name for s in scorers)
    cards = sum(n.gpus for n in cluster)
    made: set[str] = set()
    for at, stage in enumerate(stages):
        for scorer in stage.scorers:
            assert set(scorer.requires) <= made
            made.add(scorer.name)
            assert bool(stage.needs.gpus) == (cards > 0 and scorer.resources.gpus > 0)
            assert stage.needs.cpus >= scorer.resources.cpus
            assert stage.needs.memory_gb >= scorer.resources.memory_gb
            for later in stages[:at]:  # whatever came before has kept what this one looks at
                assert set(scorer.sees) <= later.keeps
        assert stage.needs.gpus <= 1
        assert stage.copies >= 1
        assert stage.copies <= (cards if stage.needs.gpus else max(1, min(cpus, videos)))
        assert stage.batch == (CARD_BATCH if stage.needs.gpus else CPU_BATCH)
    assert not stages or stages[-1].keeps == frozenset()
    each = [(stage.booked, stage.needs.gpus, stage.needs.memory_gb, stage.copies) for stage in stages]
    assert RESERVED * (BOOKED + sum(b * n for b, _, _, n in each)) <= sum(n.cpus for n in cluster) + 1e-3
    assert sum(g * n for _, g, _, n in each) <= cards + 1e-3
    assert sum(m * n for _, _, m, n in each) <= sum(n.memory_gb for n in cluster) + 1e-3


@given(lists_of_scorers(), st.integers(1, 32), st.integers(1, 100))
def test_without_a_card_one_process_holds_all_and_nobody_asks_for_one(scorers, cpus, videos):
    assume(scorers)
    (stage,) = stages_for(scorers, [Node(64, 0, 1000)], CONFIG, cpus, videos)
    assert [s.name for s in stage.scorers] == [s.name for s in scorers]
    assert stage.needs.gpus == 0
    assert stage.needs.memory_gb == pytest.approx(PROCESS_GB + sum(s.resources.memory_gb for s in scorers), abs=1e-3)


@given(lists_of_scorers())
def test_what_fits_on_no_machine_is_refused_and_what_fits_on_one_is_not(scorers):
    stages_for(scorers, [BIG], CONFIG, 64, 64)
    assume(scorers)
    with pytest.raises(CurationError, match=r"cpus: the plan needs .* and Ray has 0\.1"):
        stages_for(scorers, [Node(0.1, 8, 1000)], CONFIG, 64, 64)
    with pytest.raises(CurationError, match=r"memory: .* GB \(.* and Ray has 0\.1 GB"):
        stages_for(scorers, [Node(64, 8, 0.1)], CONFIG, 64, 64)


def refusal(scorers, *cluster) -> str:
    with pytest.raises(CurationError) as error:
        stages_for(scorers, cluster, CONFIG, 4, 4)
    return str(error.value)


def test_the_arithmetic_of_a_refusal():
    first, second = Any("first", Resources(gpus=0.7, memory_gb=9)), Any("second", Resources(gpus=0.6, memory_gb=4))
    said = refusal([Any("light"), first, second], Node(4, 1, 12))
    assert "at the same time (first 0.7 = 0.7; second 0.6 = 0.6), none of them can be split, and Ray has 1;" in said
    assert "memory: one process of each stage needs 14.6 GB (light 0.6 GB; first 9.5 GB; second 4.5 GB)" in said
    assert "cpus" not in said
    said = refusal([first], Node(0.7, 1, 12))
    assert said.startswith("cpus: the plan needs 0.8 CPUs of Ray's books (2 times a reader's 0.2 and 0.2 (first))")
    assert "gpus" not in said
    assert "memory" not in said


def test_a_reader_that_decodes_on_a_card_needs_one():
    config = CurateConfig(videos="x", decoder="nvdec")
    with pytest.raises(CurationError, match=r"decoder nvdec 0\.02\), .* Ray has 0; add a card, take decoder cpu"):
        stages_for([Any("a")], [Node(8, 0, 64)], config, 4, 4)
    whole = Any("whole", Resources(gpus=1))
    assert stages_for([whole], [Node(8, 2, 64)], config, 4, 4)[0].copies == 1
    with pytest.raises(CurationError, match=r"decoder nvdec 0\.02; whole 1 = 1"):
        stages_for([whole], [Node(8, 1, 64)], config, 4, 4)


def test_a_refusal_that_only_the_mixture_of_machines_explains():
    scorer = Any("both", Resources(gpus=0.5, memory_gb=30))
    said = refusal([scorer], Node(8, 0, 64), Node(8, 1, 16))
    assert said.startswith("resources: CPUs, cards and memory suffice each")
    assert "both needs 0.2 CPUs, 0.5 of a card and 30.5 GB" in said


def test_pools_fill_cores_and_cards_and_shrink_to_what_is_there():
    scorers = [Any("cores"), Any("card", Resources(gpus=0.3, memory_gb=10))]

    def copies(*cluster, cpus=16, videos=100):
        return [s.copies for s in stages_for(scorers, cluster, CONFIG, cpus, videos)]

    assert copies(BIG) == [16, 8]
    assert copies(BIG, videos=3) == [3, 8]
    assert copies(Node(2, 1, 100)) == [3, 1]
    assert copies(Node(1.4, 2, 100)) == [1, 1]  # a second card would need more of Ray's books than there are
    assert copies(Node(16, 1, 13)) == [4, 1]  # 0.6 GB each beside 10.5


def test_scorers_with_and_without_a_card_take_turns():
    scorers = [
        Any("a", Resources(gpus=0.5)), Any("b"), Any("c", Resources(gpus=0.4), ("a", "b")), Any("d", None, ("c",)),
        Any("e", Resources(gpus=0.1), ("d",), sees=()), Any("f", Resources(gpus=0.1)),
    ]  # fmt: skip
    stages = stages_for(scorers, [BIG], CONFIG, 8, 8)
    assert [s.title for s in stages] == ["b", "a + c + f", "d", "e"]
    assert [s.needs.gpus for s in stages] == [0, 1, 0, 0.1]
    assert [bool(s.keeps) for s in stages] == [True, True, False, False]


def test_a_column_that_nobody_makes_is_an_error():
    with pytest.raises(ValueError, match=r"nobody makes .*'a': \['b'\]"):
        stages_for([Any("a", requires=("b",))], [BIG], CONFIG, 1, 1)


def svd(**weights):
    settings = WeightSettings(**weights)
    models = (clip.ClipScores, coca.CocaCaption, video_captioner.VideoCaption, caption_llm.FusedCaption)
    return [scorer(settings) for scorer in (*models, clip.ClipSimilarity)]


def test_the_svd_profile_is_one_stage_of_a_card_behind_one_of_cores():
    config = CurateConfig(videos="x", profile="svd")
    scorers = [*scorers_for(CONFIG), *svd()]
    stages = stages_for(scorers, [Node(16, 1, 100)], config, 16, 100)
    on_card = [s.name for s in stages[-1].scorers]
    assert on_card[-5:] == ["clip", "coca", "video_captioner", "caption_llm", "clip_similarity"]
    assert stages[-1].needs.gpus <= 1
    assert [s.copies for s in stages[-1:]] == [1]
    large = CurateConfig(videos="x", profile="svd", thumbnail_px=2048)
    assert 1 <= stages_for(scorers, [Node(16, 1, 100)], large, 16, 100)[-1].batch < 32


def test_a_server_that_fuses_captions_keeps_no_card_waiting():
    stages = stages_for(svd(caption_llm="http://127.0.0.1:9/v1#m"), [BIG], CONFIG, 8, 8)
    assert [s.title for s in stages] == ["clip + coca + video_captioner", "caption_llm", "clip_similarity"]
    assert [bool(s.needs.gpus) for s in stages] == [True, False, True]
    assert [s.keeps for s in stages] == [frozenset()] * 3  # texts and embeddings travel, pictures do not


@given(st.sets(st.sampled_from(PIXELS)))
def test_what_is_trimmed_is_gone_and_the_rest_is_the_same(keep):
    picture = np.zeros((4, 6, 3), np.uint8)
    whole = ClipFrames(
        "c", "v", "v.mp4", 0.0, 2.0, 25.0, 6, 4, (picture,) * 3, (0.0, 1.0, 2.0), np.ones((3, 2, 3, 2), np.float16),
        (6, 4), np.arange(4, dtype=np.uint64), (picture,) * 8,
    )  # fmt: skip
    left = trimmed(whole, frozenset(keep))
    for field in fields(ClipFrames):
        if field.name in PIXELS and field.name not in keep:
            assert len(getattr(left, field.name)) == 0
        else:
            assert getattr(left, field.name) is getattr(whole, field.name)


def test_every_heavy_field_of_a_clip_is_known():
    """What is no number, name, time or size is pixels, and has to be let go of."""
    light = re.compile(r"_id$|^uri$|^(start|end|fps|width|height|cut_doubt)$|_times$|_size$")
    assert {f.name for f in fields(ClipFrames) if not light.search(f.name)} == set(PIXELS)
