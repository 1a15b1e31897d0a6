"""Splits and samples: what must hold for every manifest, and shares against their expectation."""

import hashlib
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import CurationError
from curation.selection.chance import sample_order, split, uniform


@given(names=st.lists(st.text(max_size=12), max_size=20), seed=st.integers(0, 2**40))
def test_numbers_are_those_of_hashlib(names, seed):
    hashes = [int.from_bytes(hashlib.md5(f"{n}:{seed}".encode()).digest()[8:], "little") for n in names]
    expected = [((h >> 11) + 0.5) / 2**53 for h in hashes]
    assert uniform(pa.array(names, pa.string()), seed).tolist() == expected


def test_a_sample_has_the_probabilities_of_its_weights():
    """The first of a sample of four is clip i with probability w_i / sum w; tried with 4000 fours."""
    weights = np.array([1.0, 2.0, 5.0, 0.0])
    names = pa.array([f"{i}{c}" for i in range(4000) for c in "abcd"])
    arrival = sample_order(names, np.tile(weights, 4000), 0).reshape(4000, 4)
    first = np.bincount(arrival.argmin(axis=1), minlength=4)
    for count, share in zip(first, weights / weights.sum(), strict=True):
        assert abs(count - 4000 * share) <= 5 * math.sqrt(4000 * share * (1 - share))
    assert np.isinf(arrival[:, 3]).all()


CLIPS = st.lists(
    st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 5)), st.booleans()), min_size=2, max_size=50
)


@given(clips=CLIPS, share=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_no_video_and_no_group_of_duplicates_is_on_both_sides(clips, share, seed):
    videos = pa.chunked_array([[f"v{c[0]}" for c in clips]])
    links = pa.chunked_array([pa.array([None if c[1] is None else f"g{c[1]}" for c in clips], pa.string())])
    keep = np.array([c[2] for c in clips])
    if not keep.any():
        return
    try:
        side = split(videos, keep, [links], share, seed)
    except CurationError:
        # one component: following links from any video that is kept leads to every other one
        reached = {next(c[0] for c in clips if c[2])}
        for _ in range(10):
            groups = {c[1] for c in clips if c[0] in reached} - {None}
            reached |= {c[0] for c in clips if c[1] in groups}
        assert {c[0] for c in clips if c[2]} <= reached
        return
    assert set(side[keep].tolist()) == {False, True}
    for names in (videos.to_pylist(), links.to_pylist()):
        for name in {n for n in names if n is not None}:
            assert len({s for n, s in zip(names, side.tolist(), strict=True) if n == name}) == 1


def test_the_share_is_met_and_other_videos_change_nothing():
    videos = [f"v{i}" for i in range(20_000)]
    side = split(pa.chunked_array([videos]), np.ones(20_000, bool), [], 0.05, 3)
    assert abs(side.sum() - 1000) < 5 * math.sqrt(20_000 * 0.05 * 0.95)
    fewer = split(pa.chunked_array([videos[5000:][::-1]]), np.ones(15_000, bool), [], 0.05, 3)
    assert fewer[::-1].tolist() == side[5000:].tolist()
    assert split(pa.chunked_array([videos]), np.ones(20_000, bool), [], 0.05, 4).tolist() != side.tolist()


def test_one_video_cannot_be_split():
    with pytest.raises(CurationError, match="come from one video"):
        split(pa.chunked_array([["a", "a"]]), np.ones(2, bool), [], 0.5, 0)
