"""The single pass: clips, thumbnails and flow against footage whose truth is known."""

import random
import threading
import tracemalloc

import numpy as np
import pytest

from curation import engine
from curation.config import ClipSettings, CurateConfig, CutSettings
from curation.engine import VideoPass, open_clips
from curation.scores.duplicates import difference_hash
from curation.video.decoder import Decoder
from tests.curation.conftest import texture
from tests.curation.video.test_decoder import spoil


def config(**more) -> CurateConfig:
    return CurateConfig(videos="unused", **more)


def test_two_shots_give_two_clips_with_the_right_pictures(two_shots):
    reading = VideoPass(str(two_shots), config())
    clips = list(reading)
    assert [(s.start, round(s.end, 3), s.begins_with, s.ends_with) for s in reading.shots] == [
        (0, 2.0, "start", "cut"),
        (2.0, 4.0, "cut", "end"),
    ]
    assert [(c.start_frame, c.frame_count, c.shot) for c in clips] == [(0, 50, 0), (60, 40, 1)]
    pictures = {round(f.time, 3): f.rgb(640) for f in Decoder(str(two_shots))}
    for clip in clips:
        for time, picture in zip(clip.frames.frame_times, clip.frames.frames, strict=True):
            assert clip.frames.start <= time < clip.frames.end
            assert np.array_equal(picture, pictures[round(time, 3)])


def test_the_svd_profile_gets_eight_frames_spread_over_the_clip(two_shots):
    clips = open_clips(str(two_shots), config(profile="svd"))
    pictures = {f.index: f.rgb(640) for f in Decoder(str(two_shots))}
    # keyframes, every 12th frame, are kept beside the 2 fps grid; the second clip has seven samples: one comes twice
    expected = [[0, 12, 13, 24, 25, 36, 38, 48], [60, 63, 72, 75, 75, 84, 88, 96]]
    for clip, indices in zip(clips, expected, strict=True):
        for picture, index in zip(clip.uniform, indices, strict=True):
            assert np.array_equal(picture, pictures[index])
    assert all(c.uniform == () for c in open_clips(str(two_shots), config()))


def test_no_flow_straddles_the_cut_and_drift_is_measured(two_shots):
    """Half a pixel a frame at 25 fps is 6.25 px in half a second. (Farneback follows some 8 px at this size.)"""
    first, second = open_clips(str(two_shots))
    assert first.flow.shape[1:] == (16, 21, 2)
    assert len(first.flow) == 3
    assert np.median(first.flow[..., 0]) == pytest.approx(6.25, abs=0.5)
    assert abs(np.median(first.flow[..., 1])) < 1
    assert len(second.flow) == 2
    assert np.median(second.flow[..., 1]) == pytest.approx(3.125, abs=0.4)


@pytest.mark.parametrize(
    ("clips", "least"),
    [(ClipSettings(min_length_s=3), r"min_length_s \(3 s\)"), (ClipSettings(stride_s=2.5), r"stride_s \(2\.5 s\)")],
)
def test_a_film_that_is_too_short_for_a_clip_says_so(two_shots, clips, least):
    with pytest.raises(ValueError, match=rf"lasts 4\.00 s, its longest shot 2\.00 s.*clips\.{least}"):
        open_clips(str(two_shots), config(clips=clips))


def test_hashes_are_those_of_the_sampled_frames(two_shots):
    first, _ = open_clips(str(two_shots))
    frames = [f for f in Decoder(str(two_shots)) if f.time < 2 and f.index in (0, 13, 25, 38)]
    assert [int(h) for h in first.hashes] == [int(difference_hash(f.gray(144))) for f in frames]


def test_a_short_shot_is_recorded_with_its_reason(tmp_path, write_video):
    pictures = [texture(1)] * 40 + [texture(2)] * 12 + [texture(3)] * 40
    reading = VideoPass(str(write_video(tmp_path / "a.mp4", pictures)), config())
    clips = list(reading)
    assert [s.clips for s in reading.shots] == [1, 0, 1]
    assert reading.shots[1].reason == "0.48 s is shorter than clips.min_length_s (1 s)"
    assert [c.shot for c in clips] == [0, 2]


def test_a_long_shot_is_split_and_memory_stays_small(tmp_path, write_video):
    wide = texture(1, 120, 160 + 600)
    path = write_video(tmp_path / "long.mp4", [wide[:, i : i + 160] for i in range(600)])
    reading = VideoPass(str(path), config(clips=ClipSettings(max_length_s=2.0)))
    held, spans = 0, []
    for clip in reading:
        held = max(held, len(reading._samples))
        spans.append((clip.frames.start, clip.frames.end))
    assert len(spans) >= 9
    assert all(b - a <= 2.0 + 1e-9 for a, b in spans)
    assert held < 40
    assert len(reading.shots) == 1


def test_a_one_frame_video_is_a_shot_without_a_clip(tmp_path, write_video):
    reading = VideoPass(str(write_video(tmp_path / "one.mp4", [texture(1)])), config())
    assert list(reading) == []
    assert "shorter than" in reading.shots[0].reason


def test_the_preview_can_be_left_out(two_shots):
    assert all(c.preview is None for c in VideoPass(str(two_shots), config(preview_px=0)))
    assert all(c.preview[:2] == b"\xff\xd8" for c in VideoPass(str(two_shots), config()))


@pytest.mark.needs_videos
def test_a_truncated_file_gives_what_is_there_and_says_what_is_not(shared_videos):
    reading = VideoPass(str(shared_videos / "odd" / "truncated_faststart.mp4"), config())
    clips = list(reading)
    assert clips[0].frames.start == 0
    assert clips[-1].frames.end > 5
    assert "ends at 5.68 s of the 10.00 s" in reading.failures[0][1].message


@pytest.mark.needs_videos
def test_a_file_with_spoilt_units_keeps_what_is_sound(shared_videos):
    """corrupted_nal.mp4 has a single keyframe: all is lost from the first spoilt unit on, and nothing before it."""
    reading = VideoPass(str(shared_videos / "odd" / "corrupted_nal.mp4"), config())
    (clip,) = reading
    assert (clip.frames.start, clip.start_frame) == (0.0, 0)
    assert clip.frames.end == pytest.approx(reading.info.damage[0][0])
    assert clip.frames.end > 2.5
    assert [(s.begins_with, s.ends_with) for s in reading.shots] == [("start", "damage")]
    assert "damaged packets or time stamps: the footage from 2.80" in reading.failures[0][1].message


@pytest.mark.parametrize("number", [40, 52, 75])
def test_footage_on_both_sides_of_damage_survives(tmp_path, write_video, number):
    """5 s with a keyframe every 12 frames: what rests on the spoilt packet is left out, and all else is as it was."""
    wide = texture(11, 120, 320)
    path = write_video(tmp_path / "a.mp4", [wide[:, i // 2 : i // 2 + 160] for i in range(125)])
    sound = {round(f.time, 3): f.rgb(640) for f in Decoder(str(path))}
    spoil(path, number, random.Random(number))
    # no dissolves: drifting noise may look like one to the network
    reading = VideoPass(str(path), config(cuts=CutSettings(gradual_threshold=50)))
    before, after = reading
    ((start, end),) = reading.info.damage
    assert (number - number % 12) / 25 - 0.17 <= start < end <= (number - number % 12 + 24) / 25
    assert (before.frames.start, before.frames.end) == (0, pytest.approx(start))
    assert (after.frames.start, after.frames.end) == (pytest.approx(end), pytest.approx(5.0))
    assert (after.start_frame, after.frame_count) == (reading.info.frames - after.frame_count, round((5 - end) * 25))
    assert after.starts_on_keyframe
    assert [(s.begins_with, s.ends_with) for s in reading.shots] == [("start", "damage"), ("damage", "end")]
    assert [f.message for _, f in reading.failures] == [
        f"damaged packets or time stamps: the footage from {start:.2f} to {end:.2f} s is left out"
    ]
    for clip in (before, after):
        for time, picture in zip(clip.frames.frame_times, clip.frames.frames, strict=True):
            assert np.array_equal(picture, sound[round(time, 3)])
        assert np.median(clip.frames.flow[..., 0]) == pytest.approx(-6.25, abs=0.6)  # half a pixel a frame


def test_a_cut_after_damage_is_found(tmp_path, write_video):
    pictures = [texture(1)] * 60 + [texture(2)] * 40
    path = write_video(tmp_path / "a.mp4", pictures)
    spoil(path, 13, random.Random(1))
    reading = VideoPass(str(path), config())
    clips = list(reading)
    ((_, end),) = reading.info.damage
    shots = [(s.begins_with, s.ends_with, round(s.end, 2)) for s in reading.shots]
    assert shots[1:] == [("damage", "cut", 2.4), ("cut", "end", 4.0)]
    assert [(c.frames.start, c.shot) for c in clips] == [(pytest.approx(end), 1), (pytest.approx(2.4), 2)]


def test_memory_does_not_grow_with_the_file(tmp_path, write_video):
    """One shot of 20 s and one of 80 s hold as much at most."""
    wide = texture(1, 120, 160 + 250)
    peaks = []
    for name, frames in (("short.mp4", 500), ("long.mp4", 2000)):
        there_and_back = [*range(250), *range(250, 0, -1)]
        pictures = (wide[:, (at := there_and_back[i % 500]) : at + 160] for i in range(frames))
        path = write_video(tmp_path / name, pictures)
        tracemalloc.start()
        spans = [(c.frames.start, c.frames.end) for c in VideoPass(str(path), config())]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(spans) == frames / 250
    assert peaks[1] < 1.2 * peaks[0]


def test_windows_of_a_fixed_stride_fill_each_shot(two_shots):
    reading = VideoPass(str(two_shots), config(clips=ClipSettings(stride_s=0.8)))
    spans = [(c.frames.start, c.frames.end, c.frame_count) for c in reading]
    assert spans == [(pytest.approx(a), pytest.approx(a + 0.8), 20) for a in (0, 0.8, 2.0, 2.8)]
    short = VideoPass(str(two_shots), config(clips=ClipSettings(stride_s=2.5)))
    assert list(short) == []
    assert [s.reason for s in short.shots] == ["2.00 s is shorter than clips.stride_s (2.5 s)"] * 2


def test_without_flow_everything_else_is_the_same(two_shots):
    with_flow = list(VideoPass(str(two_shots), config()))
    without = list(VideoPass(str(two_shots), config(), flow=False))
    for a, b in zip(with_flow, without, strict=True):
        assert b.frames.flow.size == 0
        assert (a.frames.clip_id, a.preview, list(a.frames.hashes)) == (
            b.frames.clip_id,
            b.preview,
            list(b.frames.hashes),
        )


def test_an_error_while_a_clip_is_finished_is_raised(two_shots, monkeypatch):
    def broken(*pictures):
        raise FloatingPointError("no flow today")

    monkeypatch.setattr(engine, "flow_map", broken)
    with pytest.raises(FloatingPointError, match="no flow today"):
        list(VideoPass(str(two_shots), config()))


def test_a_reader_who_stops_early_leaves_no_thread(two_shots):
    running = threading.active_count()
    reading = iter(VideoPass(str(two_shots), config()))
    next(reading)
    reading.close()
    assert threading.active_count() == running


def test_a_frame_that_is_shown_for_half_an_hour_is_no_damage(tmp_path, write_video):
    """No frame begins in the clips that would lie within it, so there are none."""
    times = [i / 25 for i in range(50)] + [1800 + i / 25 for i in range(50)]
    path = write_video(tmp_path / "still.mkv", [texture(8)] * 100, times=times)
    reading = VideoPass(str(path), CurateConfig(videos=str(path)))
    assert 2 <= len(list(reading)) <= 4
    assert reading.failures == []


def test_frames_without_a_time_of_their_own_are_told(tmp_path, write_video):
    path = write_video(tmp_path / "still.mkv", [texture(9)] * 10, times=[0.0] * 9 + [1.0], codec="ffv1")
    reading = VideoPass(str(path), config())
    for _ in reading:
        pass
    assert [f.message.split(":")[0] for _, f in reading.failures] == ["8 of 10 frames are left out"]


def test_a_time_lapse_has_no_damage_and_no_clip_without_a_frame(tmp_path, write_video):
    path = write_video(tmp_path / "lapse.mp4", [texture(i) for i in range(12)], times=[20.0 * i for i in range(12)])
    reading = VideoPass(str(path), config())
    assert all(clip.frame_count >= 1 for clip in reading)
    assert reading.failures == []


def test_a_new_frame_size_ends_the_shot_and_each_clip_has_its_own(tmp_path, write_video):
    parts = [
        write_video(tmp_path / f"{i}.ts", [texture(i, *size)] * 60) for i, size in enumerate(((96, 128), (64, 48)))
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    reading = VideoPass(str(path), config())
    clips = list(reading)
    assert [(c.frames.width, c.frames.height, c.frame_count) for c in clips] == [(128, 96, 60), (48, 64, 60)]
    assert [c.frames.frames[0].shape[:2] for c in clips] == [(96, 128), (64, 48)]
    assert [(s.begins_with, s.ends_with) for s in reading.shots] == [("start", "format"), ("format", "end")]
    assert reading.failures == []


def test_a_clip_after_a_held_frame_begins_with_its_own_first_frame(tmp_path, write_video):
    """A frame is held from 2 to 15 s, across the end of the first clip."""
    times = [i / 25 for i in range(51)] + [15 + i / 25 for i in range(100)]
    path = write_video(tmp_path / "slides.mkv", [texture(8)] * len(times), times=times)
    clips = list(VideoPass(str(path), CurateConfig(videos=str(path))))
    assert [(c.frames.start, c.frame_count) for c in clips[:1]] == [(0.0, 51)]
    for clip in clips[1:]:
        assert clip.frames.start == pytest.approx(times[clip.start_frame], abs=2e-3)
        assert clip.frames.fps == pytest.approx(25, rel=0.1)
