"""Groups of hash sequences: families of copies, mirrors, crowds, shots, and every order of the clips."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.duplicates import perceptual
from curation.duplicates.perceptual import group_perceptual
from curation.duplicates.sequences import Sequences
from curation.scores.duplicates import hash_distance, mirrored


def scene(rng, length: int) -> np.ndarray:
    return rng.integers(0, 2**64, length, np.uint64)


def noisy(hashes, rng, bits):
    """Each hash with that many different bits turned."""
    turned = [sum(1 << int(b) for b in rng.choice(64, bits, replace=False)) for _ in hashes]
    return hashes ^ np.array(turned, np.uint64)


def looks_of(cells) -> np.ndarray:
    """Looks of grey frames, from (n, 3, 8, 9)."""
    grey = np.clip(np.round(cells), 0, 255).reshape(len(cells), -1)
    return np.hstack([grey, np.repeat(grey.mean(axis=1, keepdims=True), 3, axis=1)]).astype(np.uint8)


def groups(hashes, rank=None, shots=None, bits=6.0, **more) -> list[int]:
    """The representative of each clip; every clip is a shot of its own unless told."""
    count = len(hashes)
    rank = np.arange(count) if rank is None else rank
    shots = np.arange(count) if shots is None else np.asarray(shots)
    return group_perceptual(Sequences.of(hashes), shots, np.zeros(count), rank, bits, **more).leader.tolist()


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(0, 3))
@settings(max_examples=30)
def test_groups_are_the_families_in_whatever_order_they_come(seed, families, bits):
    rng = np.random.default_rng(seed)
    clips, family = [], []
    for f in range(families):
        base = scene(rng, int(rng.integers(3, 9)))
        for copy in range(int(rng.integers(1, 5))):
            clips.append(noisy(base, rng, bits if copy else 0))
            family.append(f)
    expected = [family.index(f) for f in family]
    assert groups(clips) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perceptual, "_COMPARED", 3)
        assert groups(clips) == expected
    order = rng.permutation(len(clips))
    shuffled = groups([clips[i] for i in order], rank=order)
    assert [int(order[leader]) for leader in shuffled] == [expected[i] for i in order]


@given(st.integers(0, 2**32 - 1))
def test_a_mirrored_copy_is_found_when_asked_for(seed):
    rng = np.random.default_rng(seed)
    base = scene(rng, 6)
    clips = [base, noisy(mirrored(base), rng, 1), noisy(base, rng, 1), scene(rng, 6)]
    assert groups(clips) == [0, 1, 0, 3]
    assert groups(clips, with_mirrored=True) == [0, 0, 0, 3]


def test_pieces_of_one_shot_are_never_duplicates_and_a_copy_repeats_its_own_piece():
    """A slide held for three clips, and its copy in another video: all six look the same."""
    rng = np.random.default_rng(0)
    still = np.full(8, scene(rng, 1)[0])
    clips = [noisy(still, rng, 1) for _ in range(6)]
    starts = np.array([0.0, 10, 20] * 2)
    found = group_perceptual(Sequences.of([still] * 6), np.array([0, 0, 0, 1, 1, 1]), starts, np.arange(6), 8)
    assert found.leader.tolist() == [0, 1, 2, 0, 1, 2]
    assert groups(clips[:3], shots=[0, 0, 0]) == [0, 1, 2]


def test_a_chain_of_small_changes_does_not_run_together():
    """Each clip is 4 bits from the next: the ends are 40 bits apart and must not share a group."""
    rng = np.random.default_rng(3)
    order = rng.permutation(64)
    chain = [scene(rng, 4)]
    for step in range(10):
        turned = sum(1 << int(bit) for bit in order[4 * step : 4 * step + 4])
        chain.append(chain[-1] ^ np.uint64(turned))
    leader = groups(chain)
    assert all(hash_distance(chain[i], chain[to]).mean() <= 6 for i, to in enumerate(leader))
    assert 1 < len(set(leader)) < 11


def test_a_crowd_larger_than_a_bucket_keeps_one():
    rng = np.random.default_rng(0)
    base = scene(rng, 5)
    assert set(groups([noisy(base, rng, 1) for _ in range(500)])) == {0}


def test_known_clips_represent_and_are_not_compared_with_each_other():
    base = scene(np.random.default_rng(0), 6)
    leader = groups([base, base, base], rank=np.array([2, 0, 1]), known=np.array([False, True, True]))
    assert leader == [1, 1, 2]


def test_a_clip_without_hashes_stays_alone_and_is_not_measured():
    base = scene(np.random.default_rng(0), 4)
    found = group_perceptual(Sequences.of([[], base, base]), np.arange(3), np.zeros(3), np.arange(3), 6)
    assert found.leader.tolist() == [0, 1, 1]
    assert found.measured.tolist() == [False, True, True]
    assert groups([]) == []


def test_titles_without_a_hash_are_grouped_by_their_looks():
    """White letters on black: no sample says enough for a hash, and each title has a copy."""
    rng = np.random.default_rng(0)
    titles = [np.full((8, 9), 20) for _ in range(4)]
    for i, card in enumerate(titles):
        card[1 + i : 3 + i, 2:7] = rng.integers(60, 200, (2, 5))
    cells = np.array([t + rng.normal(0, 1, (3, 8, 9)) for t in titles * 2])
    looks, turned = looks_of(cells), looks_of(np.concatenate([cells[:4], cells[:4, ..., ::-1]]))
    nothing = [np.zeros(6, np.uint64)] * 8
    assert groups(nothing, looks=looks) == [0, 1, 2, 3, 0, 1, 2, 3]
    assert groups(nothing) == list(range(8))
    assert groups(nothing, looks=turned) == list(range(8))
    assert groups(nothing, looks=turned, with_mirrored=True) == [0, 1, 2, 3, 0, 1, 2, 3]
    assert groups([*nothing[:4], *[np.zeros(2, np.uint64)] * 4], looks=looks) == list(range(8))  # a third as long


def test_clips_of_near_hashes_and_other_looks_are_no_duplicates():
    """A look that shows nothing does not object, and mirrored ones are asked in a mirror."""
    rng = np.random.default_rng(0)
    base, frames = scene(rng, 6), rng.uniform(50, 200, (2, 1, 8, 9)).repeat(3, axis=1)
    other, nothing = looks_of(frames[[0, 1]]), looks_of(np.stack([frames[0], np.full((3, 8, 9), 90.0)]))
    assert groups([base, base], looks=other) == [0, 1]
    assert groups([base, base], looks=nothing) == [0, 0]
    turned = looks_of(np.stack([frames[0], frames[0][..., ::-1]]))
    assert groups([base, mirrored(base)], looks=turned, with_mirrored=True) == [0, 0]
    assert groups([base, mirrored(base)], looks=other, with_mirrored=True) == [0, 1]


def test_a_noisy_copy_is_found_by_its_look_where_noise_turns_as_many_bits_as_motion():
    rng = np.random.default_rng(0)
    base = np.full(9, scene(rng, 1)[0])
    clips = [noisy(base, rng, 3) for _ in range(3)]
    assert groups(clips, bits=8.0) == [0, 1, 2]
    frames = rng.uniform(50, 200, (8, 9)) + rng.normal(0, 9, (2, 3, 8, 9))
    cells = np.stack([frames[0], frames[0] + rng.normal(0, 1, (3, 8, 9)), frames[1]])
    assert groups(clips, bits=8.0, looks=looks_of(cells)) == [0, 0, 2]


def test_the_distance_is_that_to_the_representative():
    rng = np.random.default_rng(0)
    base = scene(rng, 8)
    found = group_perceptual(Sequences.of([base, noisy(base, rng, 3)]), np.arange(2), np.zeros(2), np.arange(2), 6)
    assert found.distance[0] == 0
    assert 0 < found.distance[1] <= 3
