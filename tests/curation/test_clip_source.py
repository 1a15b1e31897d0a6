"""Packets and frames of a clip, beside what PyAV gives when it reads the file from its beginning."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import av.container
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.clip_source import ClipError, Missed, Piece, closed_prefix, frames_of, opened, packets_of, picture_at


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
    """In decoding order, with what may be needed beyond its end; the picture at its start is the source's."""
    pts = [p.pts for p in pictures if p.pts is not None]
    end = pts[last] if last < len(pts) else pts[-1] + 1
    with opened(str(two_shots)) as (container, stream, shown):
        assert shown.pts == pts[0]
        packets = packets_of(container, stream, pts[0], pts[first], end)
        found = picture_at(container, stream, pts[0], pts[first])
    assert packets[0].is_keyframe
    decoding = [p.dts for p in packets if p.dts is not None]
    assert decoding == sorted(decoding)
    assert set(pts[first:last]) <= {p.pts for p in packets} <= set(pts[first : last + 17])
    assert np.array_equal(found.to_ndarray(format="rgb24"), pictures[first].to_ndarray(format="rgb24"))


def test_where_no_packet_is_due_that_is_said(two_shots: Path, pictures: list[av.VideoFrame]):
    pts = [p.pts for p in pictures if p.pts is not None]
    with opened(str(two_shots)) as (container, stream, _):
        with pytest.raises(ClipError, match="no keyframe"):
            packets_of(container, stream, pts[0], pts[13], pts[24])
        with pytest.raises(ClipError, match="no packet"):
            packets_of(container, stream, pts[0], pts[12] + 1, pts[24])
        with pytest.raises(ClipError, match="no frame at its start"):
            picture_at(container, stream, pts[0], pts[12] + 1)


@pytest.mark.parametrize("seek", [True, False])
@pytest.mark.parametrize(("first", "last"), [(0, 100), (7, 31), (93, 100)])
def test_frames_are_those_between_its_ends_however_the_file_is_read(
    two_shots: Path, pictures: list[av.VideoFrame], seek: bool, first: int, last: int
):
    piece = Piece(str(two_shots), first / 25, last / 25, last - first, 25.0, 160, 120, False)
    found = list(frames_of(piece, seek))
    assert [time for time, _ in found] == pytest.approx([i / 25 for i in range(first, last)])
    for (_, picture), expected in zip(found, pictures[first:last], strict=True):
        assert np.array_equal(picture.to_ndarray(), expected.to_ndarray())


def test_a_file_whose_index_leads_past_the_clip_is_told_from_one_without_its_frames(
    write_video: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write_video(tmp_path / "a.mp4", [np.full((48, 64, 3), 5 * i, np.uint8) for i in range(48)])
    piece = Piece(str(path), 0.2, 0.4, 5, 25.0, 64, 48, False)

    class Misled:
        """A container that seeks to the keyframe after the one that was asked for."""

        def __init__(self, real: av.container.InputContainer) -> None:
            self.real = real

        def __getattr__(self, name: str):
            return getattr(self.real, name)

        def __enter__(self) -> "Misled":
            return self

        def __exit__(self, *_: object) -> None:
            self.real.close()

        def seek(self, ticks: int, stream: av.VideoStream) -> None:
            assert stream.time_base is not None
            self.real.seek(ticks + round(Fraction(1) / stream.time_base), stream=stream)

    real = av.open
    monkeypatch.setattr(av, "open", lambda *a, **k: Misled(real(*a, **k)))
    with pytest.raises(Missed):
        list(frames_of(piece, seek=True))
    monkeypatch.undo()
    assert len(list(frames_of(piece, seek=True))) == 5


def test_what_is_no_video_is_said(tmp_path: Path):
    (tmp_path / "text.mp4").write_text("no video")
    for name, words in (("gone.mp4", "No such file"), ("text.mp4", "Invalid data")):
        with pytest.raises(ClipError, match=words), opened(str(tmp_path / name)):
            pass
