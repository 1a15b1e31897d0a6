"""Clusters of embeddings against comparing all pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.duplicates import semantic
from curation.duplicates.semantic import group_semantic


def greedy(embeddings: np.ndarray, rank: np.ndarray, similarity: float) -> list[int]:
    """The rule, clip by clip, without clusters."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    leader = {}
    for i in np.argsort(rank).tolist():
        near = [j for j in leader.values() if leader[j] == j and unit[i] @ unit[j] >= similarity]
        leader[i] = min(near, key=lambda j: rank[j]) if near else i
    return [leader[i] for i in range(len(embeddings))]


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 0.8, 0.95]))
def test_groups_equal_those_from_comparing_all_pairs(seed, similarity):
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((5, 12))[rng.integers(0, 5, 40)] + 0.2 * rng.standard_normal((40, 12))
    embeddings, rank = embeddings.astype(np.float32), rng.permutation(40)
    assert group_semantic(embeddings, rank, similarity).leader.tolist() == greedy(embeddings, rank, similarity)


def test_families_survive_the_clustering(monkeypatch):
    """Many clusters: families are far tighter than the distance between them, so no border cuts one."""
    monkeypatch.setattr(semantic, "CLUSTER_CLIPS", 50)
    rng = np.random.default_rng(0)
    family = rng.integers(0, 100, 1000)
    embeddings = (rng.standard_normal((100, 64))[family] + 0.01 * rng.standard_normal((1000, 64))).astype(np.float16)
    found = group_semantic(embeddings, np.arange(1000), 0.95)
    first = {f: int(np.flatnonzero(family == f)[0]) for f in set(family.tolist())}
    assert found.leader.tolist() == [first[f] for f in family.tolist()]
    assert found.distance.min() >= 0.95
    back = group_semantic(embeddings[::-1], np.arange(1000)[::-1], 0.95)
    assert (999 - back.leader[::-1]).tolist() == found.leader.tolist()


def test_what_has_no_embedding_stays_alone():
    embeddings = np.array([[0, 0], [1, 0], [0, 0], [2, 0], [np.nan, 1]], np.float16)
    found = group_semantic(embeddings, np.array([4, 3, 2, 1, 0]), 0.9)
    assert found.leader.tolist() == [0, 3, 2, 3, 4]
    assert found.measured.tolist() == [False, True, False, True, False]
    assert found.distance == pytest.approx(np.ones(5))
    assert group_semantic(np.zeros((0, 0), np.float16), np.empty(0, np.int64), 0.9).leader.tolist() == []
