"""Representatives, and one clip of each shot, against the rules applied one by one."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from curation.duplicates.groups import one_of_each_shot, preference, stars


def test_the_best_to_keep_comes_first():
    rows = [  # known, pixels, seconds, quality, id
        (True, 10, 1.0, 0.1, "f"),
        (False, 900, 1.0, 0.9, "g"),
        (False, 500, 9.0, np.nan, "h"),
        (False, 500, 8.01, 0.5, "i"),
        (False, 500, 8.04, 0.4, "c"),  # no longer than the one before, but for a frame
        (False, 500, 8.0, 0.4, "d"),
        (False, 500, 8.0, np.nan, "a"),
    ]
    for order in (rows, rows[::-1]):
        known, pixels, seconds, quality = (np.array(column) for column in list(zip(*order, strict=True))[:4])
        found = preference(pixels, seconds, quality, pa.array([row[4] for row in order]), known)
        assert found.tolist() == [rows.index(row) for row in order]


@given(st.integers(0, 2**32 - 1))
def test_a_clip_keeps_the_likeliest_of_each_shot(seed):
    rng = np.random.default_rng(seed)
    shots = rng.integers(0, 5, 14)
    pairs = np.unique(np.sort(rng.integers(0, 14, (40, 2)), axis=1), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    cost = rng.permutation(len(pairs))
    taken, expected = set(), np.zeros(len(pairs), bool)
    for i in np.argsort(cost):  # the rule, pair by pair
        a, b = pairs[i].tolist()
        slots = {(a, shots[b], "forth"), (b, shots[a], "back")}
        if shots[a] != shots[b] and not slots & taken:
            expected[i] = True
            taken |= slots
    assert np.array_equal(one_of_each_shot(pairs, cost, shots), expected)


def test_the_best_takes_its_neighbours_and_chains_do_not_run_together():
    rank = np.array([2, 0, 3, 1, 4])
    pairs = np.array([[0, 1], [0, 2], [2, 3], [3, 4]])
    assert stars(pairs, rank) == {0: 1, 2: 3, 4: 3}


@given(st.integers(0, 2**32 - 1))
def test_every_clip_that_gives_way_is_a_neighbour_of_a_better_one_that_stays(seed):
    rng = np.random.default_rng(seed)
    rank = rng.permutation(12)
    pairs = np.unique(np.sort(rng.integers(0, 12, (20, 2)), axis=1), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    merged = stars(pairs, rank)
    edges = {tuple(p) for p in pairs.tolist()}
    for clip, to in merged.items():
        assert to not in merged
        assert rank[to] < rank[clip]
        assert (min(clip, to), max(clip, to)) in edges
    assert all(a in merged or b in merged for a, b in edges)
