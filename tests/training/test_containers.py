"""The same coded frames in other containers, and cached or not, give the same batches to the bit."""

from pathlib import Path

import av
import numpy as np
import pytest

from curation.clips import stamps
from curation.video.decoder import Decoder
from tests.training.conftest import clip
from training.config import DataSettings
from training.data import ClipData

SETTINGS = DataSettings(height=32, width=48, frames=4, fps=[5.0, 12.5, 25.0], text_drop=0.0)
FRAMES = 100


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """H.264 with B frames and open groups; a moving ramp, so that no two frames are alike."""
    path = tmp_path_factory.mktemp("coded") / "film.mp4"
    ramp = np.linspace(0, 255, 96).astype(np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.options = {"crf": "12", "x264-params": "keyint=20:bframes=3:open-gop=1"}
        for i in range(FRAMES):
            rows = np.tile(np.roll(ramp, 2 * i)[None, :, None], (64, 1, 3))
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(rows), format="rgb24")))
        out.mux(stream.encode())
    return path


def remuxed(source: Path, suffix: str) -> Path:
    path = source.with_suffix(suffix)
    with av.open(str(source)) as given, av.open(str(path), "w") as out:
        film = given.streams.video[0]
        copied = out.add_stream_from_template(film)
        for packet in given.demux(film):
            if packet.size:
                packet.stream = copied
                out.mux(packet)
    return path


def batches(path: Path, cache_gb: float, stamped: bool = True) -> np.ndarray:
    """Pixels of 24 examples of three clips of a file, float32 (24, 3, 4, 32, 48)."""
    decoder = Decoder(str(path))
    times = [f.time for f in decoder]
    assert len(times) == FRAMES
    clips = []
    for i, (first, last) in enumerate(((3, 40), (40, 61), (61, 99))):
        ends = {"start": times[first], "end": times[last]}
        info = decoder.info
        clock = {name: getattr(info, name) for name in ("first_pts", "time_base_num", "time_base_den")}
        start_pts = stamps(ends, clock)["start_pts"] if stamped else None
        assert (start_pts is not None) == (stamped and path.suffix != ".avi")
        clips.append(clip(i, uri=str(path), fps=25.0, width=96, height=64, start_pts=start_pts, **ends))
    settings = SETTINGS.model_copy(update={"cache_gb": cache_gb})
    data = ClipData(clips, settings, 4, path.parent / f"cache_{path.suffix}", seed=5, warn=pytest.fail)
    assert data.cached == (cache_gb > 0)
    return data.batch(0, 24).pixels.numpy()


def test_batches_do_not_depend_on_container_cache_or_stamps(coded: Path):
    expected = batches(coded, 0.0, stamped=False)  # read from the file's beginning
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    for suffix in (".mp4", ".ts", ".mkv", ".mov", ".flv"):
        path = coded if suffix == ".mp4" else remuxed(coded, suffix)
        for cache_gb in (0.0, 4.0):
            assert np.array_equal(batches(path, cache_gb), expected), (suffix, cache_gb)


def test_frames_of_high_rates_are_told_apart(tmp_path: Path):
    """480 frames a second, two milliseconds each."""
    path = tmp_path / "fast.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=480)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(120):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 96, 3), 2 * i, np.uint8), format="rgb24")))
        out.mux(stream.encode())
    shot = clip(uri=str(path), start=0.0, end=0.25, fps=480.0, width=96, height=64, start_pts=0)
    settings = SETTINGS.model_copy(update={"fps": [480.0], "cache_gb": 0.0})
    data = ClipData([shot], settings, 4, tmp_path / "cache", warn=pytest.fail)
    for n in range(6):
        levels = data.example(n).pixels.mean(axis=(1, 2, 3))  # rise by two a frame
        assert np.abs(np.diff(levels) - 2).max() <= 1
