"""The decoder against what was encoded, and against labelled odd files."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from curation.decode import Decoder
from curation.errors import UnreadableVideo
from tests.curation.conftest import texture


def test_times_sizes_and_pixels_are_those_encoded(tmp_path, write_video):
    pictures = [np.roll(texture(3), 3 * i, axis=1) for i in range(20)]
    decoder = Decoder(str(write_video(tmp_path / "a.mp4", pictures, fps=10)))
    frames = [(f.time, f.rgb(640), f.keyframe) for f in decoder]
    assert [t for t, _, _ in frames] == pytest.approx([i / 10 for i in range(20)], abs=1e-3)
    assert [i for i, f in enumerate(frames) if f[2]] == [0, 12]
    for (_, seen, _), made in zip(frames, pictures, strict=True):
        assert np.abs(seen.astype(int) - made).mean() < 6
    info = decoder.info
    assert (info.width, info.height, info.frames, info.variable_rate) == (160, 120, 20, False)
    assert info.fps == pytest.approx(10, abs=0.01)
    assert info.duration == pytest.approx(2.0, abs=0.01)


def test_variable_rate_keeps_presentation_times(tmp_path, write_video):
    times = [0, 0.1, 0.2, 0.9, 1.0, 1.05, 2.0]
    path = write_video(tmp_path / "v.mp4", [texture(i) for i in range(7)], times=times)
    decoder = Decoder(str(path))
    assert [f.time for f in decoder] == pytest.approx(times, abs=2e-3)
    assert decoder.info.variable_rate


def test_first_frame_is_time_zero_whatever_the_file_says(tmp_path, write_video):
    path = write_video(tmp_path / "late.ts", [texture(i) for i in range(5)], times=[3 + i / 25 for i in range(5)])
    assert next(iter(Decoder(str(path)))).time == 0


def test_pixels_that_are_not_square_are_made_so(tmp_path, write_video):
    path = write_video(tmp_path / "sar.mp4", [texture(1)] * 3, sar=Fraction(4, 3))
    decoder = Decoder(str(path))
    frame = next(iter(decoder))
    assert (frame.width, frame.height) == (213, 120)
    assert frame.rgb(640).shape == (120, 213, 3)
    assert frame.gray(60).shape == (60, 106)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv422p"])
def test_small_pictures_come_from_the_planes_in_true_colour(tmp_path, write_video, pix_fmt):
    flat = np.zeros((120, 160, 3), np.uint8)
    flat[:, :80], flat[:, 80:] = (200, 40, 40), (30, 60, 210)
    frame = next(iter(Decoder(str(write_video(tmp_path / "c.mp4", [flat] * 3, pix_fmt=pix_fmt)))))
    small = frame.small_bgr(64)
    assert small.shape == (48, 64, 3)
    assert np.abs(small[24, 10, ::-1].astype(int) - (200, 40, 40)).max() < 12
    assert np.abs(small[24, 54, ::-1].astype(int) - (30, 60, 210)).max() < 12


def test_small_pictures_agree_with_swscale(two_shots):
    frame = next(iter(Decoder(str(two_shots))))
    other = frame.picture.reformat(width=80, height=60, format="bgr24", interpolation="AREA").to_ndarray()
    ours = frame.small_bgr(80)
    luma = [cv2.cvtColor(p, cv2.COLOR_BGR2GRAY).astype(int) for p in (ours, other)]
    assert np.abs(luma[0] - luma[1]).mean() < 2
    # colour is reduced before it is spread over the pixels, swscale does it after: single pixels differ, areas do not
    assert np.abs(cv2.blur(ours, (9, 9)).astype(int) - cv2.blur(other, (9, 9))).mean() < 2


def test_nothing_is_enlarged(tmp_path, write_video):
    frame = next(iter(Decoder(str(write_video(tmp_path / "s.mp4", [texture(1, 32, 48)] * 3)))))
    assert frame.small_bgr(256).shape == (32, 48, 3)
    assert frame.rgb(640).shape == (32, 48, 3)
    assert frame.gray(144).shape == (32, 48)


def test_a_broken_packet_costs_its_neighbourhood_only(tmp_path, write_video):
    path = write_video(tmp_path / "broken.mp4", [np.roll(texture(5), 4 * i, axis=1) for i in range(60)], gop=10)
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.pos][31]
    data = bytearray(path.read_bytes())
    data[packet.pos + 5 : packet.pos + packet.size] = bytes(packet.size - 5)
    path.write_bytes(data)
    decoder = Decoder(str(path))
    times = [f.time for f in decoder]
    assert len(times) >= 50
    assert decoder.info.damage
    assert all(0.8 < t < 1.7 for t in decoder.info.damage)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "can be read|empty"), (b"hello, this is no video\n" * 50, "not a video")],
)
def test_what_is_no_video_says_so(tmp_path, content, reason):
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(UnreadableVideo, match=reason):
        Decoder(str(path))


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(UnreadableVideo, match="no such file"):
        Decoder(str(tmp_path / "absent.mp4"))


@pytest.mark.needs_videos
@pytest.mark.parametrize(
    ("name", "size", "frames", "seconds"),
    [
        ("anamorphic_sar.mp4", (853, 272), 75, 3.0),
        ("gray.mp4", (640, 272), 75, 3.0),
        ("hevc10.mp4", (640, 272), 75, 3.0),
        ("mjpeg.avi", (640, 272), 75, 3.0),
        ("one_frame.mp4", (640, 272), 1, 0.04),
        ("rotate90.mov", (320, 568), 3, 0.1),
        ("rotate180.mov", (568, 320), 3, 0.1),
        ("rotate90_metadata.mp4", (272, 640), 77, 3.08),
        ("vfr.mp4", (640, 272), 66, 4.0),
        ("vp9.webm", (640, 272), 75, 3.0),
    ],
)
def test_odd_files_have_right_sizes_and_times(shared_videos, name, size, frames, seconds):
    decoder = Decoder(str(shared_videos / "odd" / name))
    for frame in decoder:
        assert (frame.width, frame.height) == size
    assert decoder.info.frames == frames
    assert decoder.info.duration == pytest.approx(seconds, abs=0.01)


@pytest.mark.needs_videos
def test_rotation_turns_the_picture_upright(shared_videos):
    """rotate90_metadata.mp4 is bikes.mp4 with a turn in its header: undoing the turn gives back bikes' picture."""
    plain = next(iter(Decoder(str(shared_videos / "bikes.mp4")))).rgb(640)
    turned = next(iter(Decoder(str(shared_videos / "odd" / "rotate90_metadata.mp4"))))
    assert turned.rotation == 90
    assert np.abs(np.rot90(turned.rgb(640), -1).astype(int) - plain).mean() < 12


@pytest.mark.needs_videos
@pytest.mark.parametrize(
    ("name", "step"), [("zero_bytes.mp4", "open"), ("text_named.mp4", "open"), ("truncated_no_moov.mp4", "open")]
)
def test_unreadable_files_name_the_step(shared_videos, name, step):
    with pytest.raises(UnreadableVideo) as caught:
        Decoder(str(shared_videos / "odd" / name))
    assert caught.value.step == step


@pytest.mark.needs_videos
def test_audio_without_video_is_told_apart(shared_videos):
    with pytest.raises(UnreadableVideo, match="no video stream .the file holds audio"):
        Decoder(str(shared_videos / "odd" / "audio_only.mp4"))
