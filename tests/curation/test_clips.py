"""Splitting of shots into clips."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.clips import Splitter, bounds, clip_id, stamps
from curation.config import ClipSettings

SETTINGS = ClipSettings(min_length_s=1.0, max_length_s=4.0, max_snap_s=1.0)


def test_a_clip_starts_on_the_first_keyframe_after_the_cut():
    (span,) = Splitter(2.0, SETTINGS).take([2.4, 2.8], 5.0, final=True)
    assert (span.start, span.end, span.starts_on_keyframe) == (2.4, 5.0, True)


def test_a_keyframe_too_far_away_is_not_waited_for():
    (span,) = Splitter(2.0, SETTINGS).take([3.5], 5.0, final=True)
    assert (span.start, span.starts_on_keyframe) == (2.0, False)


def test_a_keyframe_that_would_leave_too_little_is_not_taken():
    (span,) = Splitter(2.0, SETTINGS).take([2.9], 3.2, final=True)
    assert (span.start, span.end) == (2.0, 3.2)


def test_a_short_shot_gives_nothing():
    assert Splitter(2.0, SETTINGS).take([2.0], 2.9, final=True) == []


def test_nothing_is_promised_before_it_is_certain():
    splitter = Splitter(0.0, SETTINGS)
    assert splitter.take([0.0], 4.5, final=False) == []
    assert len(splitter.take([0.0], 5.0, final=False)) == 1
    assert splitter.oldest_needed == 4.0


@given(
    length=st.floats(0.05, 40),
    keyframes=st.lists(st.floats(0, 40), max_size=60).map(sorted),
    looks=st.lists(st.floats(0, 1), max_size=20).map(sorted),
)
def test_clips_are_ordered_bounded_disjoint_and_do_not_depend_on_when_one_looks(length, keyframes, looks):
    online, spans = Splitter(0.0, SETTINGS), []
    for share in looks:
        known = [k for k in keyframes if k <= share * length]
        spans += online.take(known, share * length, final=False)
    spans += online.take(keyframes, length, final=True)
    assert spans == Splitter(0.0, SETTINGS).take(keyframes, length, final=True)
    for before, after in itertools.pairwise(spans):
        assert before.end <= after.start
    for span in spans:
        assert 1.0 - 1e-3 <= span.end - span.start <= 4.0 + 1e-9
        assert 0 <= span.start < span.end <= length
        assert not span.starts_on_keyframe or span.start in keyframes


@given(
    start=st.floats(0, 1e4),
    length=st.floats(0.05, 40),
    stride=st.floats(0.5, 8),
    keyframes=st.lists(st.floats(0, 40), max_size=60),
    looks=st.lists(st.floats(0, 1), max_size=20).map(sorted),
)
def test_windows_of_a_fixed_stride_fill_the_shot_without_gap(start, length, stride, keyframes, looks):
    settings = ClipSettings(stride_s=stride, min_length_s=3.0, max_length_s=4.0)
    keyframes = sorted(start + k for k in keyframes)
    online, spans = Splitter(start, settings), []
    for share in looks:
        until = start + share * length
        spans += online.take([k for k in keyframes if online.oldest_needed - 1e-3 <= k <= until], until, final=False)
    spans += online.take([k for k in keyframes if k >= online.oldest_needed - 1e-3], start + length, final=True)
    assert len(spans) == int(length / stride + 1e-4 / stride)
    for i, span in enumerate(spans):
        assert span.start == pytest.approx(start + i * stride, abs=1e-6)
        assert span.end - span.start == pytest.approx(stride, abs=2e-4)
        assert span.end <= start + length
        near = any(abs(k - span.start) < 0.9e-4 for k in keyframes)
        far = all(abs(k - span.start) > 1.1e-4 for k in keyframes)
        assert not (near and not span.starts_on_keyframe)
        assert not (far and span.starts_on_keyframe)


def test_the_name_depends_on_content_and_times_alone():
    assert clip_id("abc", 1.0, 2.0) == clip_id("abc", 1.0 + 1e-9, 2.0)
    assert len({clip_id("abc", 1.0, 2.0), clip_id("abd", 1.0, 2.0), clip_id("abc", 1.0, 2.1)}) == 3
    assert len(clip_id("abc", 1.0, 2.0)) == 24


def test_lengths_must_be_ordered():
    with pytest.raises(ValueError, match="below min_length_s"):
        ClipSettings(min_length_s=5, max_length_s=2)


@given(
    base=st.sampled_from([Fraction(1, 90_000), Fraction(1, 1000), Fraction(1001, 30_000), Fraction(1, 10**9)]),
    first=st.integers(-(10**6), 10**12),
    gaps=st.lists(st.integers(1, 5000), min_size=2, max_size=30),
    ends=st.tuples(st.integers(0, 30), st.integers(0, 30)),
)
def test_stamps_of_a_clip_between_frames_are_those_frames_own(base, first, gaps, ends):
    """The engine's clock is in floating point and starts at the first frame; the way back is exact."""
    pts = list(itertools.accumulate(gaps, initial=first))
    start, end = sorted(min(e, len(gaps)) for e in ends)
    tick = float(base)
    row = {"start": pts[start] * tick - first * tick, "end": pts[end] * tick - first * tick}
    video = {"first_pts": first, "time_base_num": base.numerator, "time_base_den": base.denominator}
    assert stamps(row, video) == {"start_pts": pts[start], "end_pts": pts[end]}


def test_a_stream_without_stamps_has_none():
    none = {"start_pts": None, "end_pts": None}
    assert stamps({"start": 0.0, "end": 1.0}, {}) == none
    assert stamps({"start": 0.0, "end": 1.0}, {"first_pts": None, "time_base_num": 1, "time_base_den": 25}) == none


@pytest.mark.parametrize(
    ("start", "end", "told"),
    [
        (2.0, 5.0, ("fade", "end")),
        (2.00001, 5.0, ("fade", "end")),  # a time stamp that was rounded
        (2.5, 5.0, ("shot", "end")),  # from the first keyframe on
        (2.0, 4.2, ("fade", "shot")),
    ],
)
def test_a_clip_is_bounded_by_its_shot_or_lies_inside_it(start, end, told):
    shot = {"start": 2.0, "end": 5.0, "begins_with": "fade", "ends_with": "end"}
    assert tuple(bounds({"start": start, "end": end}, shot).values()) == told
