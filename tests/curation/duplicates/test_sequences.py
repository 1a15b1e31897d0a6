"""Hashes over time: the vectorised alignment against the formula, and scenes whose truth is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.duplicates import sequences
from curation.duplicates.sequences import Sequences, alike
from curation.scores.duplicates import informative, mirrored


def ones(value: int) -> int:
    return bin(value).count("1")


def distance(x: list[int], y: list[int]) -> float:
    """The docstring's rule, sample by sample."""
    best, longer = np.inf, max(len(x), len(y))
    telling = [[bool(t) for t in informative(np.array(h, np.uint64))] for h in (x, y)]
    for offset in range(-longer, longer + 1):
        pairs = [(t, t - offset) for t in range(len(x)) if 0 <= t - offset < len(y)]
        told = [(t, s) for t, s in pairs if telling[0][t] or telling[1][s]]
        if 5 * len(pairs) < 3 * longer or 4 * len(told) < longer or not told:
            continue
        total = 0.0
        for t, s in told:
            after, before = x[min(t + 1, len(x) - 1)], y[max(s - 1, 0)]
            total += ones((x[t] ^ y[s]) & (y[s] ^ after)) / 2 + ones((x[t] ^ y[s]) & (x[t] ^ before)) / 2
        best = min(best, total / len(told))
    return best


def walk(rng: np.random.Generator, length: int, step: int) -> np.ndarray:
    """A scene in motion: each sample turns `step` bits of the one before."""
    out = [rng.integers(0, 2**64, dtype=np.uint64)]
    for _ in range(length - 1):
        out.append(out[-1] ^ noise(rng, step))
    return np.array(out, np.uint64)


def noise(rng: np.random.Generator, bits: int) -> np.uint64:
    return np.uint64(sum(1 << int(b) for b in rng.choice(64, bits, replace=False)))


def one(x, y, bits=8.0) -> tuple[bool, float]:
    same, apart = alike(Sequences.of([x]), Sequences.of([y]), np.array([[0, 0]]), bits)
    return bool(same[0]), float(apart[0])


@given(st.integers(0, 2**32 - 1))
def test_the_distance_is_the_formula(seed):
    rng = np.random.default_rng(seed)
    clips = []
    for _ in range(8):
        clip = walk(rng, int(rng.integers(1, 9)), int(rng.integers(0, 12)))
        clip[rng.random(len(clip)) < 0.3] = 0  # flat frames
        clips.append(clip)
    clips.append(np.empty(0, np.uint64))
    pairs = np.array([(a, b) for a in range(9) for b in range(9)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequences, "_CHUNK", 30)
        found = alike(Sequences.of(clips), Sequences.of(clips), pairs, 8.0)[1]
    expected = [distance(clips[a].tolist(), clips[b].tolist()) for a, b in pairs]
    assert found == pytest.approx(expected)


@given(st.integers(0, 2**32 - 1))
def test_which_is_first_does_not_matter_to_the_verdict_of_a_copy(seed):
    rng = np.random.default_rng(seed)
    x = walk(rng, 12, 8)
    y = x[1:] ^ np.array([noise(rng, 2) for _ in range(11)], np.uint64)
    assert one(x, y)[0]
    assert one(y, x)[0]


def test_a_copy_sampled_between_the_samples_is_alike_though_no_two_hashes_are():
    """Each sample of the copy has turned half of the bits on the way to the next sample of the original."""
    rng = np.random.default_rng(0)
    fine = walk(rng, 24, 7)
    x, y = fine[::2], fine[1::2]
    assert np.bitwise_count(x ^ y).min() == 7
    same, bits = one(x, y, bits=2.0)
    assert same
    assert bits < 2


@pytest.mark.parametrize(("start", "end"), [(1, 10), (0, 9), (1, 9), (2, 10)])
def test_a_trimmed_copy_is_alike(start, end):
    x = walk(np.random.default_rng(1), 10, 6)
    assert one(x, x[start:end]) == (True, 0.0)


def test_a_short_piece_of_a_long_clip_is_another_clip():
    x = walk(np.random.default_rng(0), 12, 8)
    assert not one(x, x[:4])[0]


def test_the_next_clip_of_a_talking_head_is_another_clip():
    """Before one background, few bits change, each time others: the two clips are near, and no alignment is nearer."""
    rng = np.random.default_rng(0)
    background = rng.integers(0, 2**64, dtype=np.uint64)
    shot = np.array([background ^ noise(rng, 4) for _ in range(20)], np.uint64)
    first, second = shot[:10], shot[10:]
    assert np.bitwise_count(first ^ second).mean() <= 8
    assert not one(first, second)[0]
    copy = first ^ np.array([noise(rng, 1) for _ in range(10)], np.uint64)
    assert one(first, copy)[0]


def test_a_still_picture_is_alike_to_its_copy():
    rng = np.random.default_rng(0)
    still = np.full(8, rng.integers(0, 2**64, dtype=np.uint64))
    assert one(still, still ^ np.array([noise(rng, 1) for _ in range(8)], np.uint64))[0]


def test_flat_frames_do_not_make_clips_alike():
    rng = np.random.default_rng(0)
    black = np.zeros(4, np.uint64)
    assert not one(black, black)[0]
    assert not one(np.r_[black, walk(rng, 4, 6)], np.r_[black, walk(rng, 4, 6)])[0]


def test_mirrored_sequences_are_those_of_the_mirrored_hashes():
    x = walk(np.random.default_rng(0), 5, 6)
    assert np.array_equal(Sequences.of([x, x[:2]]).mirrored().flat, mirrored(np.r_[x, x[:2]]))
