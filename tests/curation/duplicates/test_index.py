"""Candidates against comparing all pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.duplicates import index
from curation.duplicates.index import NEIGHBOURS, RADIUS, candidates, distinct, pair_numbers, pairs_of
from curation.scores.duplicates import hash_distance, informative


def brute_force(flat: np.ndarray, owner: np.ndarray, radius: int) -> set[tuple[int, int]]:
    near = (hash_distance(flat[:, None], flat[None]) <= radius) & informative(flat)[:, None] & informative(flat)[None]
    pairs = {(int(owner[i]), int(owner[j])) for i, j in np.argwhere(near)}
    return {(a, b) for a, b in pairs if a < b}


def planted(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of which many are a few bits from another one, flat frames among them."""
    rng = np.random.default_rng(seed)
    flat = rng.integers(0, 2**64, 60, np.uint64)
    for i in range(20, 50):
        flips = rng.choice(64, rng.integers(0, 7), replace=False)
        flat[i] = flat[rng.integers(0, 20)] ^ np.uint64(sum(1 << int(b) for b in flips))
    flat[50:] = rng.choice(np.array([0, 1, 0xF0F0F0F0F0F0F0F0, 2**64 - 1], np.uint64), 10)
    return flat, rng.integers(0, 25, 60)


CLIPS = 25  # that `planted` hashes are of


def candidate_pairs(flat, owner, clips=CLIPS, worth=None) -> np.ndarray:
    return pairs_of(candidates(flat, owner, clips, worth), clips)


@pytest.mark.parametrize("far", [4, 6])
@pytest.mark.parametrize("chosen", [2, 3, 4], ids=["2 of 5 blocks", "3 of 6 blocks", "4 of 7 blocks"])
@given(seed=st.integers(0, 2**32 - 1))
def test_every_near_pair_is_found_and_no_far_one(seed, chosen, far):
    flat, owner = planted(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "_TABLES", [(2**63, chosen, far)])
        patch.setattr(index, "_GATHERED", 10)
        patch.setattr(index, "_CHUNK", 7)
        found = candidate_pairs(flat, owner)
    pairs = {(int(a), int(b)) for a, b in found}
    assert len(pairs) == len(found)
    assert brute_force(flat, owner, RADIUS) <= pairs <= brute_force(flat, owner, far)


@pytest.mark.parametrize("chosen", [2, 3, 4])
def test_hashes_that_share_several_keys_meet_in_one_table_only(monkeypatch, chosen):
    monkeypatch.setattr(index, "_TABLES", [(2**63, chosen, 6)])
    flat = np.array([0x123456789ABCDEF0, 0x123456789ABCDEF1], np.uint64)  # they differ in one block
    tables, far = index._tables(len(flat))
    assert (
        sum(len(a) for table in tables for a, _ in index._sharing(flat, np.arange(2, dtype=np.uint32), table, far)) == 1
    )


def test_clips_in_a_mirror_are_the_clips_they_mirror():
    flat, owner = planted(3)
    as_seen = brute_force(flat, owner, RADIUS)
    half = owner + CLIPS * (np.arange(len(owner)) % 2)  # every other hash is of the clip in a mirror
    found = {(a, b) for a, b in candidate_pairs(flat, half).tolist() if a != b}
    assert as_seen
    assert as_seen <= found <= brute_force(flat, owner, 6)


def test_the_order_of_the_hashes_does_not_matter():
    flat, owner = planted(1)
    shuffled = np.random.default_rng(0).permutation(len(flat))
    assert np.array_equal(candidate_pairs(flat, owner), candidate_pairs(flat[shuffled], owner[shuffled]))


def test_pairs_that_are_not_worth_it_are_left_out_and_no_others():
    flat, owner = planted(2)
    every = candidate_pairs(flat, owner)
    odd = every.sum(axis=1) % 2 == 1
    assert 0 < odd.sum() < len(odd)
    found = candidate_pairs(flat, owner, worth=lambda pairs: pairs.sum(axis=1) % 2 == 1)
    assert np.array_equal(found, every[odd])


def test_a_full_bucket_gives_each_hash_its_nearest_numbers_wherever_the_chunks_end(monkeypatch):
    """A hundred clips of one hash: all keys agree, and each meets NEIGHBOURS on both sides."""
    flat, owner = np.full(100, 0x123456789ABCDEF0, np.uint64), np.arange(100)
    expected = [(a, b) for a in range(100) for b in range(a + 1, min(100, a + 1 + NEIGHBOURS))]
    for chunk in (1, 9, 4_000_000):
        monkeypatch.setattr(index, "_CHUNK", chunk)
        assert [tuple(pair) for pair in candidate_pairs(flat, owner, 100).tolist()] == expected


def test_nothing_in_nothing_out():
    assert candidate_pairs(np.empty(0, np.uint64), np.empty(0, np.int64)).shape == (0, 2)
    assert candidate_pairs(np.zeros(4, np.uint64), np.arange(4)).shape == (0, 2)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6))))
def test_pairs_as_numbers_are_distinct_as_rows_are(pairs):
    rows = np.sort(np.array(pairs, np.int64).reshape(-1, 2), axis=1)
    np.testing.assert_array_equal(pairs_of(distinct(pair_numbers(rows[:, ::-1], 7)), 7), np.unique(rows, axis=0))
