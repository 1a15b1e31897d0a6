"""The decoder against what was encoded, and against labelled odd files."""

import itertools
import random
import threading
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from curation.errors import UnreadableVideo
from curation.video.decoder import Decoder, threads_for
from curation.video.geometry import Orientation
from curation.video.prefetch import prefetch
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


def spoil(path, number: int, rng: random.Random, how: str = "random") -> None:
    """Overwrite the video packet of this number, in order of decoding, with zeros or noise."""
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.pos and p.size][number]
    data = bytearray(path.read_bytes())
    data[packet.pos : packet.pos + packet.size] = bytes(packet.size) if how == "zeros" else rng.randbytes(packet.size)
    path.write_bytes(data)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("how", ["zeros", "random"])
@pytest.mark.parametrize("number", [0, 1, 24, 31, 33, 48, 54])
def test_a_broken_packet_costs_what_rests_on_it_and_nothing_else(tmp_path, write_video, number, how, threads):
    """Keyframes lie at 0, 12, 24, ...; B pictures are shown before what they rest on."""
    path = write_video(tmp_path / "broken.mp4", [np.roll(texture(5), 4 * i, axis=1) for i in range(60)])
    sound = {round(f.time, 3): f.picture.to_ndarray() for f in Decoder(str(path))}
    spoil(path, number, random.Random(number), how)
    decoder = Decoder(str(path), threads)
    frames = list(decoder)
    ((start, end),) = decoder.info.damage
    first = number - number % 12  # of the group of pictures
    assert first / 25 - 0.17 <= start <= end
    assert end <= (first + 24 if threads == 1 else first + 36) / 25 + 1e-6
    offset = 0.0 if number else (60 - len(frames)) / 25  # without its first pictures the video begins later
    for frame in frames:
        damaged = start <= frame.time < end
        assert damaged or frame.damaged_from is None
        if not damaged:
            assert np.array_equal(frame.picture.to_ndarray(), sound[round(frame.time + offset, 3)])


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
@pytest.mark.parametrize("where", [0.2, 0.5, 0.6, 0.76])
def test_a_hole_in_the_file_costs_what_lay_in_it(tmp_path, write_video, suffix, where):
    """2000 bytes of noise across packets and their headers."""
    wide = texture(12, 120, 320)
    path = write_video(tmp_path / f"hole{suffix}", [wide[:, i : i + 160] for i in range(150)])
    sound = {round(f.time, 2): f.picture.to_ndarray() for f in Decoder(str(path))}
    data = bytearray(path.read_bytes())
    at = int(len(data) * where)
    data[at : at + 2000] = random.Random(1).randbytes(2000)
    path.write_bytes(data)
    decoder = Decoder(str(path))
    frames = list(decoder)
    (damage,) = decoder.info.damage
    assert damage[1] - damage[0] < 1.5
    assert frames[-1].time == pytest.approx(149 / 25, abs=2e-3)
    for frame in frames:
        if not damage[0] <= frame.time < damage[1]:
            assert np.array_equal(frame.picture.to_ndarray(), sound[round(frame.time, 2)])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mpg"])  # MPEG-PS has frames without a time stamp
@pytest.mark.parametrize("noise", [1, 40, 2000])
def test_what_is_damaged_does_not_depend_on_the_number_of_threads(tmp_path, write_video, suffix, noise):
    wide = texture(12, 120, 320)
    path = write_video(tmp_path / f"noise{suffix}", [wide[:, i : i + 160] for i in range(150)])
    sound = path.read_bytes()
    told = 0
    for seed in range(4):
        rng = random.Random(seed)
        data = bytearray(sound)
        at = rng.randrange(len(data) // 4, len(data) * 9 // 10)
        data[at : at + noise] = rng.randbytes(noise)
        path.write_bytes(data)
        passes = []
        for threads in (1, 2, 4, 7):
            decoder = Decoder(str(path), threads)
            frames = [(f.index, f.time, f.keyframe, f.damaged_from) for f in decoder]
            passes.append((frames, decoder.info))
        assert all(seen == passes[0] for seen in passes[1:])
        told += bool(passes[0][1].damage)
    assert told >= 1 + (noise == 2000)


@pytest.mark.parametrize(
    ("name", "codec", "hole"), [("a.mkv", "libx265", 1500), ("a.webm", "libvpx-vp9", 1500), ("a.mkv", "ffv1", 20)]
)
def test_what_libav_tells_of_and_does_not_mark_is_damage(tmp_path, write_video, name, codec, hole):
    wide = texture(12, 120, 320)
    options = {"x265-params": "keyint=12:log-level=none"} if codec == "libx265" else {}
    path = write_video(tmp_path / name, [wide[:, i : i + 160] for i in range(100)], codec=codec, options=options)
    sound = {round(f.time, 2): f.picture.to_ndarray() for f in Decoder(str(path))}
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at : at + hole] = bytes(hole)
    path.write_bytes(data)
    passes = []
    for threads in (1, 4):
        decoder = Decoder(str(path), threads)
        frames = [(f.time, f.damaged_from, f.picture.to_ndarray()) for f in decoder]
        ((start, end),) = decoder.info.damage
        assert 0 < start < end < 4
        kept = [(round(time, 2), picture) for time, damaged_from, picture in frames if not start <= time < end]
        assert all(np.array_equal(picture, sound[time]) for time, picture in kept)
        gaps = [b - a for (a, _, _), (b, _, _) in itertools.pairwise(frames) if not start - 0.05 <= a < end]
        assert max(gaps) < 0.05
        passes.append([(time, damaged_from) for time, damaged_from, _ in frames])
    assert passes[0] == passes[1]


def test_streams_that_appear_on_the_way_cost_nothing(two_shots, monkeypatch):
    """PyAV then asks at the end for streams that it does not know."""

    class Surprised:
        def __init__(self, real):
            self.real = real

        def __getattr__(self, name):
            return getattr(self.real, name)

        def demux(self, stream):
            yield from self.real.demux(stream)
            raise IndexError("list index out of range")

    whole = [f.time for f in Decoder(str(two_shots))]
    real = av.open
    monkeypatch.setattr(av, "open", lambda *a, **k: Surprised(real(*a, **k)))
    decoder = Decoder(str(two_shots))
    assert [f.time for f in decoder] == whole
    assert decoder.info.damage == []


def test_a_damaged_video_can_be_left_anywhere(tmp_path, write_video):
    """While threads of libav tell of errors, which takes Python's lock."""
    path = write_video(tmp_path / "noise.mp4", [np.roll(texture(5), 4 * i, axis=1) for i in range(60)])
    for number in range(13, 60, 3):
        spoil(path, number, random.Random(number))
    for count in range(1, len(list(Decoder(str(path), 1))) + 1):
        assert len(list(itertools.islice(Decoder(str(path), 4), count))) == count


def test_a_sound_video_has_no_damage(two_shots):
    decoder = Decoder(str(two_shots))
    assert all(f.damaged_from is None for f in decoder)
    assert decoder.info.damage == []


@pytest.mark.parametrize("threads", [1, 4])
def test_avi_which_knows_no_presentation_times_gives_every_picture(tmp_path, threads):
    """Of H.264 with B pictures; as Matroska the same packets' pictures are the oracle."""
    for kind in ("avi", "mkv"):
        with av.open(str(tmp_path / f"b.{kind}"), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"x264-params": "keyint=12:bframes=3"})
            stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
            for i in range(60):
                picture = np.ascontiguousarray(np.roll(texture(5), 4 * i, axis=1))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    avi, mkv = (Decoder(str(tmp_path / f"b.{kind}"), threads) for kind in ("avi", "mkv"))
    expected = [(f.time, f.picture.to_ndarray()) for f in mkv]
    frames = list(avi)
    assert avi.info.hidden == 0
    assert [f.time for f in frames] == pytest.approx([time for time, _ in expected], abs=2e-3)
    assert all(np.array_equal(f.picture.to_ndarray(), p) for f, (_, p) in zip(frames, expected, strict=True))


def test_pictures_that_are_coded_out_of_order_come_in_order(tmp_path, write_video):
    """With B pictures; the edit list of an MP4 takes the decoder's delay off."""
    pictures = [np.roll(texture(6), 5 * i, axis=1) for i in range(40)]
    path = write_video(tmp_path / "b.mp4", pictures, options={"preset": "medium", "bf": "3"})
    with av.open(str(path)) as container:
        decoded_in_order = [p.pts for p in container.demux(video=0) if p.pts is not None]
    assert decoded_in_order != sorted(decoded_in_order)
    frames = list(Decoder(str(path)))
    assert [f.time for f in frames] == pytest.approx([i / 25 for i in range(40)], abs=1e-3)
    for frame, made in zip(frames, pictures, strict=True):
        assert np.abs(frame.rgb(640).astype(int) - made).mean() < 6


def test_an_edit_list_that_begins_late_moves_no_time(tmp_path, write_video):
    times = [5 + i / 25 for i in range(30)]
    path = write_video(tmp_path / "late.mp4", [texture(i) for i in range(30)], times=times)
    with av.open(str(path)) as container:
        assert container.streams.video[0].start_time > 0
    frames = list(Decoder(str(path)))
    assert [f.time for f in frames] == pytest.approx([i / 25 for i in range(30)], abs=1e-3)


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_frames_that_no_header_counts_are_counted(tmp_path, write_video, suffix):
    path = write_video(tmp_path / f"a{suffix}", [texture(i % 7) for i in range(33)])
    decoder = Decoder(str(path))
    assert decoder.info.frames is None
    with av.open(str(path)) as container:
        expected = [float(f.pts * f.time_base) for f in container.decode(video=0)]
    assert [f.time for f in decoder] == pytest.approx([t - expected[0] for t in expected], abs=1e-9)
    assert decoder.info.frames == 33
    assert decoder.info.duration == pytest.approx(33 / 25, abs=2e-3)


@pytest.mark.parametrize(("rotation", "size"), [(90, (120, 160)), (180, (160, 120)), (270, (120, 160))])
def test_rotation_is_undone(tmp_path, write_video, rotation, size):
    decoder = Decoder(str(write_video(tmp_path / "r.mp4", [texture(2)] * 3, rotation=rotation)))
    frame = next(iter(decoder))
    assert (frame.width, frame.height) == size
    upright = np.rot90(texture(2), rotation // 90)
    assert np.abs(frame.rgb(640).astype(int) - upright).mean() < 6
    assert frame.geometry.orientation == Orientation(rotation)


@pytest.mark.parametrize(("codec", "pix_fmt"), [("libx264", "yuv420p10le"), ("libx265", "yuv422p10le")])
def test_ten_bits_are_eight_to_those_who_look(tmp_path, write_video, codec, pix_fmt):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = write_video(tmp_path / "ten.mp4", [texture(7)] * 4, codec=codec, pix_fmt=pix_fmt, options=options)
    frame = next(iter(Decoder(str(path))))
    assert frame.picture.format.name == pix_fmt
    assert np.abs(frame.rgb(640).astype(int) - texture(7)).mean() < 7
    gray = cv2.resize(cv2.cvtColor(texture(7), cv2.COLOR_RGB2GRAY), (80, 60), interpolation=cv2.INTER_AREA)
    assert np.abs(frame.gray(60).astype(int) - (16 + gray * (219 / 255))).mean() < 3


@pytest.mark.parametrize("depth", [1, 4])
def test_reading_ahead_changes_nothing_and_stops_when_told(two_shots, depth):
    alone = [(f.index, f.time) for f in Decoder(str(two_shots))]
    assert [(f.index, f.time) for f in prefetch(Decoder(str(two_shots)), depth)] == alone
    reading = prefetch(Decoder(str(two_shots)), depth)
    assert next(reading).index == 0
    running = threading.active_count()
    reading.close()
    assert threading.active_count() == running - 1


def test_an_error_of_the_reading_thread_reaches_the_reader(two_shots):
    def broken():
        yield from itertools.islice(Decoder(str(two_shots)), 3)
        raise OSError("the store went away")

    reading = prefetch(broken())
    assert [next(reading).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="went away"):
        next(reading)


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


@pytest.mark.parametrize(
    "content",
    [
        b"ffconcat version 1.0\nfile neighbour.mp4\n",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nneighbour.mp4\n#EXT-X-ENDLIST\n",
    ],
)
@pytest.mark.parametrize("name", ["list.mp4", "list.ts", "list.m3u8"])
def test_a_list_of_other_files_is_not_followed(tmp_path, two_shots, name, content):
    (tmp_path / "neighbour.mp4").write_bytes(two_shots.read_bytes())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableVideo, match="not a video"):
        Decoder(str(tmp_path / name))


def test_a_photograph_is_no_video(tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), texture(1))
    with pytest.raises(UnreadableVideo, match="not a video"):
        Decoder(str((tmp_path / "a.jpg").rename(tmp_path / "a.mp4")))


@pytest.mark.parametrize("side", [9000, 65535])
def test_a_canvas_of_gigabytes_is_refused(tmp_path, side):
    """A GIF of one pixel a frame: 60 bytes, of which libav would make a picture of hundreds of megabytes."""
    head = b"GIF89a" + side.to_bytes(2, "little") * 2 + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    (tmp_path / "a.gif").write_bytes(head + b"\x2c\0\0\0\0\1\0\1\0\0\x02\x02\x44\x01\0" * 2 + b"\x3b")
    with pytest.raises(UnreadableVideo, match="claims an unsupported size|no frame|not a video"):
        list(Decoder(str(tmp_path / "a.gif")))


def test_time_stamps_that_leap_are_damage_and_what_follows_is_kept(tmp_path, write_video):
    times = [i / 25 for i in range(50)] + [1e6 + i / 25 for i in range(50)]
    decoder = Decoder(str(write_video(tmp_path / "leap.mkv", [texture(9)] * 100, times=times)), threads=1)
    frames = list(decoder)
    ((start, end),) = decoder.info.damage
    assert start == pytest.approx(2.0, abs=2e-3)
    assert 1e6 <= end < 1e6 + 1.0
    assert [f.time for f in frames] == pytest.approx(times, abs=2e-3)
    assert [f.damaged_from is not None for f in frames] == [start <= f.time < end for f in frames]


def test_frames_of_days_do_not_make_a_film_of_years(tmp_path, write_video):
    times = [i * 200_000.0 for i in range(10)]
    decoder = Decoder(str(write_video(tmp_path / "slow.mkv", [texture(9)] * 10, times=times)))
    frames = list(decoder)
    assert frames[0].damaged_from is None
    assert all(f.damaged_from == pytest.approx(frames[0].duration) for f in frames[1:])
    assert all(f.duration <= 3600 for f in frames)


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
    assert turned.geometry.orientation == Orientation(90)
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


def test_a_decoder_that_hangs_is_left_behind_after_its_patience():
    never = threading.Event()

    def frames():
        yield 1
        never.wait()

    reading = prefetch(frames(), patience_s=0.2)
    assert next(reading) == 1
    with pytest.raises(UnreadableVideo, match=r"no frame came for 0\.2 s") as raised:
        next(reading)
    assert raised.value.step == "decode"
    never.set()


def test_libav_has_more_threads_than_cores_but_one_where_there_is_one() -> None:
    assert [threads_for(cores) for cores in (0, 1, 2, 8, 200)] == [1, 1, 4, 10, 16]


def test_frames_that_share_a_time_stamp_are_counted(tmp_path, write_video):
    path = write_video(tmp_path / "still.mkv", [texture(9)] * 10, times=[0.0] * 9 + [1.0], codec="ffv1")
    decoder = Decoder(str(path))
    assert [frame.time for frame in decoder] == [0.0, 1.0]
    assert decoder.info.hidden == 8
