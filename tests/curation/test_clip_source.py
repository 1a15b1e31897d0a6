"""Packets and frames of a clip, beside what PyAV gives when it reads the file from its beginning."""

from pathlib import Path

import av
import av.container
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.clip_source import ClipError, Piece, closed_prefix, first_frame, frames_of, packets_of, source_of
from curation.video.container import opened


@pytest.fixture(scope="module")
def pictures(two_shots: Path) -> list[av.VideoFrame]:
    with av.open(str(two_shots)) as container:
        return list(container.decode(video=0))


@given(st.permutations(range(12)), st.integers(1, 12))
def test_a_closed_prefix_is_the_longest_that_leaves_no_gap(order: list[int], end: int):
    kept, until = closed_prefix(order, end)
    whole = [k for k in range(len(order) + 1) if sorted(order[:k]) == list(range(k)) and k <= end]
    assert kept == max(whole)
    assert not kept or until == min([*order[kept:], end])


@pytest.mark.parametrize(("first", "last"), [(0, 12), (36, 60), (84, 100)])
def test_packets_from_a_keyframe_on_are_those_of_the_clip(
    two_shots: Path, pictures: list[av.VideoFrame], first: int, last: int
):
    """In decoding order, with what may be needed beyond its end."""
    pts = [p.pts for p in pictures if p.pts is not None]
    end = pts[last] if last < len(pts) else pts[-1] + 1
    with opened(str(two_shots)) as (container, stream):
        packets = packets_of(container, stream, pts[first], end)
    assert packets[0].is_keyframe
    decoding = [p.dts for p in packets if p.dts is not None]
    assert decoding == sorted(decoding)
    assert set(pts[first:last]) <= {p.pts for p in packets} <= set(pts[first : last + 17])


def test_where_no_packet_is_due_that_is_said(two_shots: Path, pictures: list[av.VideoFrame]):
    pts = [p.pts for p in pictures if p.pts is not None]
    with opened(str(two_shots)) as (container, stream):
        with pytest.raises(ClipError, match="no keyframe"):
            packets_of(container, stream, pts[13], pts[24])
        with pytest.raises(ClipError, match="no packet"):
            packets_of(container, stream, pts[12] + 1, pts[24])


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize(("first", "last"), [(0, 100), (7, 31), (93, 100)])
def test_frames_are_those_between_its_ends_with_and_without_time_stamps(
    two_shots: Path, pictures: list[av.VideoFrame], stamped: bool, first: int, last: int
):
    start_pts = pictures[first].pts if stamped else None
    piece = Piece(str(two_shots), first / 25, last / 25, last - first, 25.0, 160, 120, False, start_pts)
    found = list(frames_of(piece))
    assert [frame.time for frame in found] == pytest.approx([i / 25 for i in range(first, last)])
    for frame, expected in zip(found, pictures[first:last], strict=True):
        assert np.array_equal(frame.picture.to_ndarray(), expected.to_ndarray())
    assert first_frame(piece).time == found[0].time


def test_a_clip_that_begins_between_two_frames_has_no_frame_at_its_start(two_shots: Path):
    piece = Piece(str(two_shots), 0.50, 1.0, 12, 25.0, 160, 120, False)
    assert next(frames_of(piece)).time == pytest.approx(0.52)
    with pytest.raises(ClipError, match="no frame at its start"):
        first_frame(piece)


def test_what_is_no_video_is_said(tmp_path: Path):
    (tmp_path / "text.mp4").write_text("no video")
    for name, words in (("gone.mp4", "no such file"), ("text.mp4", "not a video")):
        piece = Piece(str(tmp_path / name), 0.0, 1.0, 25, 25.0, 160, 120, True)
        with pytest.raises(ClipError, match=words):
            next(frames_of(piece))
        with pytest.raises(ClipError, match=words), source_of(piece):
            pass
