"""One clip as a file: compared with its source frame by frame, in OpenCV as well as in PyAV."""

import dataclasses
import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curation.clip_file import ClipFile, copy, reencode
from curation.clip_source import ClipError, Piece, Stopped, frames_of
from curation.clips import stamps
from curation.errors import CurationError
from curation.video.decoder import Decoder


def piece_of(path: Path, first: int, last: int | None = None) -> tuple[Piece, list[np.ndarray], list[float]]:
    """Frames [first, last) of a video, with their upright pixels and their times from the first on."""
    wanted = range(first, last or 1 << 30)
    decoder = Decoder(str(path))
    seen = [
        (f.time, f.duration, f.keyframe, f.rgb(4096) if f.index in wanted else None, f.width, f.height) for f in decoder
    ]
    last = min(last or len(seen), len(seen))
    start = seen[first][0]
    end = seen[last][0] if last < len(seen) else seen[-1][0] + seen[-1][1]
    fps = (last - first) / (end - start)
    info = decoder.info
    stream = {name: getattr(info, name) for name in ("first_pts", "time_base_num", "time_base_den")}
    ends = stamps({"start": start, "end": end}, stream)
    piece = Piece(str(path), start, end, last - first, fps, *seen[first][4:], seen[first][2], **ends)
    return piece, [s[3] for s in seen if s[3] is not None], [s[0] - start for s in seen[first:last]]


def decoded(made: ClipFile, tmp_path: Path) -> tuple[list[np.ndarray], list[float]]:
    """Upright pixels and times of every frame of a made file."""
    path = tmp_path / "made.mp4"
    path.write_bytes(made.data)
    frames = [(f.rgb(4096), f.time) for f in Decoder(str(path))]
    return [f[0] for f in frames], [f[1] for f in frames]


def opencv_frames(path: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        ok, frame = capture.read()
        if not ok:
            return frames
        frames.append(frame)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(np.float64) - b) ** 2)))


def test_a_copy_is_bit_for_bit_what_it_was_in_two_readers(two_shots: Path, tmp_path: Path):
    piece, pixels, times = piece_of(two_shots, 24, 36)
    made = copy(piece)
    assert (made.how, made.codec, made.frames, made.audio) == ("copy", "h264", 12, None)
    found, at = decoded(made, tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(found, pixels, strict=True))
    assert at == pytest.approx(times, abs=1e-4)
    assert made.seconds == pytest.approx(12 / 25)
    source = opencv_frames(two_shots)[24:36]
    assert all(np.array_equal(a, b) for a, b in zip(opencv_frames(tmp_path / "made.mp4"), source, strict=True))


def test_a_copy_leaves_out_only_frames_that_need_later_ones(two_shots: Path, tmp_path: Path):
    trimmed = []
    for last in range(25, 41):
        piece, pixels, _ = piece_of(two_shots, 24, last)
        try:
            made = copy(piece)
        except ClipError as error:
            assert "beyond its end" in str(error)  # noqa: PT017 - some ends are closed and raise nothing
            made = copy(piece, trim_frames=4)
        found, _ = decoded(made, tmp_path)
        trimmed.append(len(pixels) - len(found))
        assert all(np.array_equal(a, b) for a, b in zip(found, pixels, strict=False))
        assert made.seconds == pytest.approx(len(found) / 25)
    assert 0 in trimmed
    assert 0 < max(trimmed) <= 4  # the footage does have B-frames


@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 100), (7, 31), (24, 37), (49, 51), (93, 100)])
def test_a_reencode_is_exactly_the_span(two_shots: Path, tmp_path: Path, first: int, last: int):
    piece, pixels, times = piece_of(two_shots, first, last)
    made = reencode(piece, preset="ultrafast")
    found, at = decoded(made, tmp_path)
    assert at == pytest.approx(times, abs=1e-4)
    assert made.seconds == pytest.approx((last - first) / 25)
    assert min(psnr(a, b) for a, b in zip(found, pixels, strict=True)) > 32
    assert len(opencv_frames(tmp_path / "made.mp4")) == last - first


def test_a_clip_that_begins_between_two_frames_starts_with_the_next_one(two_shots: Path, tmp_path: Path):
    piece, pixels, times = piece_of(two_shots, 7, 31)
    between = dataclasses.replace(piece, start=piece.start - 0.023, start_pts=None)
    found, at = decoded(reencode(between, preset="ultrafast"), tmp_path)
    assert at == pytest.approx(times, abs=1e-4)
    assert min(psnr(a, b) for a, b in zip(found, pixels, strict=True)) > 32


def test_a_variable_rate_stays_variable(write_video: Callable[..., Path], tmp_path: Path):
    rng = np.random.default_rng(0)
    shown = np.cumsum([0.0, *rng.integers(20, 120, 47) / 1000])
    pictures = [np.full((64, 96, 3), 5 * i, np.uint8) for i in range(48)]
    path = write_video(tmp_path / "vfr.mp4", pictures, times=shown)
    piece, pixels, times = piece_of(path, 12, 36)
    for made in (copy(piece, trim_frames=4), reencode(piece, preset="ultrafast")):
        found, at = decoded(made, tmp_path)
        assert at == pytest.approx(times[: made.frames], abs=1e-4)
        assert all(abs(int(a.mean()) - int(b.mean())) <= 2 for a, b in zip(found, pixels, strict=False))
        end = times[made.frames] if made.frames < len(times) else piece.end - piece.start
        assert made.seconds == pytest.approx(end, abs=1e-4)


def rotated(path: Path, out: Path, degrees: int) -> Path:
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream, opaque=True)
        copied.set_display_rotation(degrees)
        for packet in source.demux(stream):
            if packet.size:
                packet.stream = copied
                target.mux(packet)
    return out


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_rotated_video_plays_upright(two_shots: Path, tmp_path: Path, degrees: int):
    piece, pixels, _ = piece_of(rotated(two_shots, tmp_path / "rotated.mp4", degrees), 12, 24)
    assert (piece.width < piece.height) == (degrees != 180)
    copied, _ = decoded(copy(piece), tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(copied, pixels, strict=True))
    made = reencode(piece, preset="ultrafast")
    found, _ = decoded(made, tmp_path)
    assert min(psnr(a, b) for a, b in zip(found, pixels, strict=True)) > 32
    with av.open(io.BytesIO(made.data), "r") as container:
        assert next(container.decode(video=0)).rotation == 0
    assert cv2.VideoCapture(str(tmp_path / "made.mp4")).get(cv2.CAP_PROP_FRAME_WIDTH) == piece.width


def test_wide_pixels_stay_wide_in_a_copy_and_become_square_in_a_reencode(
    write_video: Callable[..., Path], tmp_path: Path
):
    pictures = [np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (48, 1, 3)) for _ in range(24)]
    piece, pixels, _ = piece_of(write_video(tmp_path / "wide.mp4", pictures, sar=Fraction(2, 1)), 12, 24)
    assert (piece.width, piece.height) == (128, 48)
    with av.open(io.BytesIO(copy(piece).data), "r") as container:
        assert container.streams.video[0].sample_aspect_ratio == 2
        assert container.streams.video[0].width == 64
    made = reencode(piece)
    assert (made.width, made.height) == (128, 48)
    found, _ = decoded(made, tmp_path)
    assert psnr(found[0], pixels[0]) > 32


@pytest.mark.parametrize(
    ("name", "codec", "copied"),
    [
        ("a.webm", "libvpx-vp9", "vp9"),
        ("a.webm", "libvpx", ""),
        ("a.mp4", "mpeg4", "mpeg4"),
        ("a.mkv", "libx264", "h264"),
        ("a.ts", "libx264", "h264"),
        ("a.avi", "mjpeg", ""),
    ],
)
def test_codecs_that_mp4_holds_are_copied_and_all_are_reencoded(
    write_video: Callable[..., Path], tmp_path: Path, name: str, codec: str, copied: str
):
    ramp = np.linspace(0, 255, 96).astype(np.uint8)
    pictures = [np.tile(np.roll(ramp, 2 * i)[None, :, None], (64, 1, 3)) for i in range(48)]
    path = write_video(tmp_path / name, pictures, codec=codec, pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p")
    keyframes = [f.index for f in Decoder(str(path)) if f.keyframe]
    first = max(k for k in keyframes if k <= 24)
    piece, pixels, times = piece_of(path, first, 40)
    if copied:
        made = copy(piece, trim_frames=4)
        found, at = decoded(made, tmp_path)
        assert made.codec == copied
        assert all(np.array_equal(a, b) for a, b in zip(found, pixels, strict=False))
        assert at == pytest.approx(times[: made.frames], abs=2e-3)
    else:
        with pytest.raises(ClipError, match="is not copied into MP4"):
            copy(piece, trim_frames=4)
    found, at = decoded(reencode(piece, crf=10), tmp_path)
    assert at == pytest.approx(times, abs=2e-3)
    assert min(psnr(a, b) for a, b in zip(found, pixels, strict=True)) > 30


def test_of_avi_without_presentation_times_clips_are_reencoded_picture_by_picture(
    write_video: Callable[..., Path], tmp_path: Path
):
    ramp = np.linspace(0, 255, 96).astype(np.uint8)
    pictures = [np.tile(np.roll(ramp, 2 * i)[None, :, None], (64, 1, 3)) for i in range(48)]
    path = write_video(tmp_path / "b.avi", pictures)
    piece, pixels, times = piece_of(path, 24, 40)
    with pytest.raises(ClipError, match="cannot be found by their time stamps"):
        copy(piece, trim_frames=4)
    found, at = decoded(reencode(piece, crf=10), tmp_path)
    assert at == pytest.approx(times, abs=2e-3)
    assert len(found) == 16
    assert min(psnr(a, b) for a, b in zip(found, pixels, strict=True)) > 30


@pytest.mark.parametrize(("name", "codec", "expected"), [("a.mp4", "aac", "aac"), ("a.mkv", "pcm_s16le", "aac")])
@pytest.mark.parametrize("how", [copy, reencode])
def test_sound_stays_at_its_time(tmp_path: Path, name: str, codec: str, expected: str, how: Callable[..., ClipFile]):
    rate, path = 16000, tmp_path / name
    clock = np.arange(4 * rate) / rate
    chirp = np.sin(2 * np.pi * (200 * clock + 100 * clock**2))  # 200 + 200 t hertz at t seconds
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"x264-params": "keyint=25:scenecut=0"})
        video.width, video.height = 64, 48
        audio = container.add_stream(codec, rate=rate, layout="mono")
        for i in range(100):
            picture = np.full((48, 64, 3), 2 * i, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        samples = (chirp * 20000).astype(np.int16)
        for at in range(0, len(samples), 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, at : at + 1024], format="s16", layout="mono")
            frame.pts, frame.sample_rate, frame.time_base = at, rate, Fraction(1, rate)
            container.mux(audio.encode(frame))
        container.mux(audio.encode())
    piece, *_ = piece_of(path, 50, 75)
    assert piece.starts_on_keyframe
    assert how(piece).audio is None
    made = how(piece, audio=True)
    assert made.audio == expected
    with av.open(io.BytesIO(made.data), "r") as container:
        frames = [(f.time, f.to_ndarray()[0].astype(np.float64)) for f in container.decode(audio=0)]
    assert 0.8 < frames[-1][0] < 1.0
    for time, heard in frames[4:-4:3]:
        spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard)), 16384))
        frequency = np.argmax(spectrum) * rate / 16384
        seen = (frequency - 200) / 200 - piece.start
        assert seen == pytest.approx(time + len(heard) / rate / 2, abs=0.04)


def test_a_file_without_sound_gives_a_clip_without_sound(two_shots: Path):
    piece, *_ = piece_of(two_shots, 12, 24)
    assert copy(piece, audio=True).audio is None
    assert reencode(piece, preset="ultrafast", audio=True).audio is None


class Patience:
    """A check that stops at its `last` call; without one it counts the calls."""

    def __init__(self, last: int | None = None) -> None:
        self.last, self.calls = last, 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == self.last:
            raise Stopped


def test_work_can_be_stopped_at_every_frame_that_is_read_encoded_or_verified(two_shots: Path):
    piece, _, times = piece_of(two_shots, 3, 27)  # from between two keyframes: some frames are read to no purpose
    through = Patience()
    made = reencode(piece, preset="veryslow", check=through)
    assert through.calls >= 3 * len(times)  # once read, once encoded, some of them after the last was read, ...
    for last in (1, len(times), 2 * len(times), through.calls):
        with pytest.raises(Stopped):
            reencode(piece, preset="veryslow", check=Patience(last))
    assert made.data == reencode(piece, preset="veryslow").data
    whole, _, times = piece_of(two_shots, 0, 12)
    through = Patience()
    copy(whole, trim_frames=4, check=through)
    assert through.calls > len(times) - 4
    for last in (1, through.calls):
        with pytest.raises(Stopped):
            copy(whole, trim_frames=4, check=Patience(last))


def test_a_film_that_is_read_from_its_beginning_can_be_left(two_shots: Path):
    piece, _, _ = piece_of(two_shots, 60, 80)
    with pytest.raises(Stopped):
        next(
            frames_of(dataclasses.replace(piece, start_pts=None), check=Patience(50))
        )  # none of the clip's frames has come yet


def moved(piece: Piece, frames: float) -> dict[str, float | int]:
    """The start of a piece, later by so many frames of 25 a second, in seconds and as a stamp."""
    assert piece.start_pts is not None
    assert piece.end_pts is not None
    ticks = (piece.end_pts - piece.start_pts) / piece.frames
    return {"start": piece.start + frames / 25, "start_pts": piece.start_pts + round(frames * ticks)}


def test_what_cannot_be_exact_is_refused_with_its_reason(two_shots: Path, tmp_path: Path):
    piece, *_ = piece_of(two_shots, 12, 24)
    with pytest.raises(ClipError, match="not start on a keyframe"):
        copy(dataclasses.replace(piece, starts_on_keyframe=False))
    with pytest.raises(ClipError, match="no keyframe at its start"):
        copy(dataclasses.replace(piece, **moved(piece, 1)))
    with pytest.raises(ClipError, match="no frame at its start"):
        copy(dataclasses.replace(piece, **moved(piece, 0.5)))
    with pytest.raises(ClipError, match="12 packets for 13 frames"):
        copy(dataclasses.replace(piece, frames=13))
    with pytest.raises(ClipError, match="has 12 frames for it, the manifest 13"):
        reencode(dataclasses.replace(piece, frames=13))
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    for uri, words in ((str(tmp_path / "gone.mp4"), "no such file"), (str(text), "not a video")):
        for how in (copy, reencode):
            with pytest.raises(CurationError, match=words):
                how(dataclasses.replace(piece, uri=uri))


def test_the_bytes_do_not_depend_on_when_they_are_made(two_shots: Path):
    piece, *_ = piece_of(two_shots, 12, 24)
    assert copy(piece).data == copy(piece).data
    assert reencode(piece, preset="ultrafast").data == reencode(piece, preset="ultrafast").data


@pytest.mark.needs_videos
@pytest.mark.parametrize(
    ("name", "copied"),
    [
        ("bikes.mp4", True),
        ("fire_whip_rot180_vfr.mp4", True),
        ("nasa_launch.webm", False),
        ("screencast_text.mpeg", False),
        ("tiny_motion.mov", True),
        ("cockatoo.mp4", False),  # open groups: its first frames would show damage
        ("grand_prix_1906.ogv", False),
        ("odd/hevc10.mp4", True),
        ("odd/odd_dims_17x31.mp4", True),
        ("odd/gray.mp4", True),
        ("odd/unordered.mov", True),
        ("odd/vfr.mp4", True),
    ],
)
def test_real_footage(shared_videos: Path, tmp_path: Path, name: str, copied: bool):
    keyframes = [f.index for f in Decoder(str(shared_videos / name)) if f.keyframe]
    first = keyframes[len(keyframes) // 2]
    piece, pixels, times = piece_of(shared_videos / name, first, first + 20)
    if copied:
        made = copy(piece, trim_frames=4)
        found, at = decoded(made, tmp_path)
        assert made.frames >= piece.frames - 4
        assert all(np.array_equal(a, b) for a, b in zip(found, pixels, strict=False))
        assert at == pytest.approx(times[: made.frames], abs=2e-3)
    else:
        with pytest.raises(ClipError):
            copy(piece, trim_frames=4)
    made = reencode(piece, crf=12, preset="veryfast")
    found, at = decoded(made, tmp_path)
    assert at == pytest.approx(times, abs=2e-3)
    assert len(opencv_frames(tmp_path / "made.mp4")) == piece.frames
    for a, b in zip(found, pixels, strict=True):
        even = cv2.resize(b, a.shape[1::-1], interpolation=cv2.INTER_AREA)  # an odd side loses a pixel
        assert psnr(a, even) > 25
