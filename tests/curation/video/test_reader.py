"""Stretches of a video next to one decode from its beginning, whatever the container's index says."""

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import av.container
import numpy as np
import pytest

from curation.video.decoder import Decoder
from curation.video.reader import Origin, Reader
from curation.video.timeline import stamp_at
from tests.curation.conftest import texture

KINDS = [
    ("closed.mp4", "libx264", {"x264-params": "keyint=12:bframes=3"}),
    ("open.mkv", "libx264", {"x264-params": "keyint=12:bframes=3:open-gop=1"}),
    ("open.ts", "libx264", {"x264-params": "keyint=12:bframes=3:open-gop=1"}),
    ("refresh.ts", "libx264", {"x264-params": "keyint=24:intra-refresh=1"}),
    ("open_hevc.mp4", "libx265", {"x265-params": "keyint=12:bframes=3:open-gop=1:log-level=none"}),
    ("open_hevc.ts", "libx265", {"x265-params": "keyint=12:bframes=3:open-gop=1:log-level=none"}),
    ("a.mpg", "libx264", {"x264-params": "keyint=12:bframes=3"}),
    ("b.avi", "mpeg4", {"bf": "2", "g": "12"}),
    ("vp9.webm", "libvpx-vp9", {"g": "12"}),
]


@pytest.fixture(scope="module", params=KINDS, ids=[k[0] for k in KINDS])
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, write_video: Callable[..., Path]):
    """A file of 90 frames, all of them decoded in order, and what the manifest says of its clock."""
    name, codec, options = request.param
    pictures = [np.roll(texture(4), 3 * i, axis=1) for i in range(90)]
    path = write_video(tmp_path_factory.mktemp("film") / name, pictures, codec=codec, options=options)
    decoder = Decoder(str(path), threads=1)
    frames = [(f.time, f.picture.to_ndarray()) for f in decoder]
    assert len(frames) == 90
    return str(path), frames, decoder.info


def origin_of(seconds: float, info) -> Origin:
    if info.first_pts is None:
        return seconds, None
    return seconds, stamp_at(seconds, info.first_pts, Fraction(info.time_base_num, info.time_base_den))


def test_any_stretch_is_that_of_the_whole_decode(film):
    uri, frames, info = film
    reader = Reader()
    for first, count in itertools.product((0, 1, 11, 12, 13, 23, 35, 47, 60, 71, 88), (1, 2, 15)):
        wanted = frames[first : first + count]
        end = frames[first + count][0] if first + count < len(frames) else info.duration
        found = list(reader.read(uri, wanted[0][0], end, origin_of(wanted[0][0], info)))
        assert [f.time for f in found] == [time for time, _ in wanted]
        assert all(np.array_equal(f.picture.to_ndarray(), p) for f, (_, p) in zip(found, wanted, strict=True))


def test_the_origin_may_lie_elsewhere(film):
    uri, frames, info = film
    found = list(Reader().read(uri, frames[50][0] + 0.01, frames[52][0] + 0.01, origin_of(frames[30][0], info)))
    assert [f.time for f in found] == [frames[i][0] for i in (50, 51, 52)]


def test_behind_the_end_the_last_frame_is_on_screen(film):
    uri, frames, _ = film
    assert [f.time for f in Reader().read(uri, 99.0, 100.0)] == [frames[-1][0]]


@pytest.mark.parametrize("late_s", [0.5, 1.0, 50.0])
def test_an_index_that_leads_elsewhere_gives_the_same_frames(
    write_video: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late_s: float
):
    path = write_video(tmp_path / "a.mp4", [np.full((48, 64, 3), 5 * i, np.uint8) for i in range(48)])
    decoder = Decoder(str(path))
    times = [f.time for f in decoder]

    class Misled:
        """A container that seeks to a place after the one that was asked for."""

        def __init__(self, real: av.container.InputContainer) -> None:
            self.real = real

        def __getattr__(self, name: str):
            return getattr(self.real, name)

        def seek(self, ticks: int, stream: av.VideoStream) -> None:
            assert stream.time_base is not None
            self.real.seek(ticks + round(late_s / stream.time_base), stream=stream)

    real = av.open
    monkeypatch.setattr(av, "open", lambda *a, **k: Misled(real(*a, **k)))
    found = list(Reader().read(str(path), times[5], times[10], origin_of(times[5], decoder.info)))
    assert [f.time for f in found] == times[5:10]
    assert [round(f.rgb(64).mean() / 5) for f in found] == list(range(5, 10))


def test_a_reading_that_is_not_wanted_any_more_stops_among_the_frames_before_it(two_shots: Path):
    class StopError(Exception):
        pass

    calls = iter(range(10))

    def check() -> None:
        if next(calls) == 5:
            raise StopError

    with pytest.raises(StopError):
        next(Reader().read(str(two_shots), 3.0, 3.5, check=check))
