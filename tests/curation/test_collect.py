"""A video's rows, gathered from a real pass over it, against the time stamps that PyAV reads in the same file."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pyarrow as pa
import pytest

from curation import sources
from curation.clips import bounds
from curation.collect import Collector, Task, clip_row, end_of
from curation.config import ClipSettings, CurateConfig
from curation.engine import VideoPass
from curation.manifest import Shard
from curation.schema import CLIP_IDENTITY, SHOTS, VIDEOS
from curation.scores.base import Failure, Scored
from tests.curation.conftest import texture


def collected(path: Path, broken: bool = False, **settings) -> Shard:
    """The shard of one video; `broken`: its pass ended in a failure before its shots were known."""
    task = Task("s", sources.at(path), "v")
    waiting = Collector([task])
    reading = VideoPass(str(path), CurateConfig(videos=str(path), **settings), "v")
    clips = [clip_row(clip, Scored()) for clip in reading]
    for clip in clips:
        assert waiting.add(str(path), clip) == []
    if broken:
        reading.shots.clear()
    failures = [(None, Failure("decode", "RuntimeError", "boom"))] if broken else []
    (shard,) = waiting.add(str(path), end_of(task, reading, failures, len(clips)))
    return shard


def stamps_in(path: Path) -> Iterator[tuple[int, Fraction]]:
    """Every frame's time stamp and its stream's time base."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.pts, frame.time_base


@pytest.fixture
def three_shots(tmp_path, write_video):
    """6 s whose clock begins at 1.48 s, as MPEG-TS has it: cuts after 2 s and 4 s, keyframes every half a second."""
    pictures = [texture(seed) for seed in (1, 2, 3) for _ in range(50)]
    return write_video(tmp_path / "late.ts", pictures, options={"bf": "2"})


@pytest.mark.parametrize(
    "clips",
    [
        ClipSettings(max_length_s=2.0),
        ClipSettings(max_length_s=1.3),  # ends between keyframes
        ClipSettings(stride_s=0.51),  # ends between frames
    ],
)
def test_a_clip_is_the_frames_between_its_time_stamps(three_shots, clips):
    shard = collected(three_shots, clips=clips)
    (video,) = shard.videos
    frames = list(stamps_in(three_shots))
    assert {base for _, base in frames} == {Fraction(video["time_base_num"], video["time_base_den"])}
    assert video["first_pts"] == frames[0][0] > 0
    assert len(shard.clips) > 2
    for clip in shard.clips:
        inside = [i for i, (pts, _) in enumerate(frames) if clip["start_pts"] <= pts < clip["end_pts"]]
        assert inside == list(range(clip["start_frame"], clip["start_frame"] + clip["frames"]))
        if clips.stride_s is None:
            assert clip["start_pts"] == frames[inside[0]][0]


def test_a_variable_rate_changes_nothing(tmp_path, write_video):
    times = [i / 25 + (0.017 if i % 3 else 0) for i in range(75)]
    path = write_video(tmp_path / "wild.mkv", [texture(1)] * 75, times=times)
    shard = collected(path, clips=ClipSettings(max_length_s=1.1))
    frames = [pts for pts, _ in stamps_in(path)]
    assert len(shard.clips) == 2
    for clip in shard.clips:
        assert sum(clip["start_pts"] <= pts < clip["end_pts"] for pts in frames) == clip["frames"]


def test_a_clip_says_what_lies_before_and_after_it(three_shots):
    shard = collected(three_shots, clips=ClipSettings(stride_s=1.0))
    assert [(s["begins_with"], s["ends_with"]) for s in shard.shots] == [
        ("start", "cut"),
        ("cut", "cut"),
        ("cut", "end"),
    ]
    assert [(c["start"], c["begins_with"], c["ends_with"]) for c in shard.clips] == [
        (0.0, "start", "shot"), (1.0, "shot", "cut"),
        (2.0, "cut", "shot"), (3.0, "shot", "cut"),
        (4.0, "cut", "shot"), (5.0, "shot", "end"),
    ]  # fmt: skip


def test_where_the_shot_is_not_known_nothing_is_guessed(three_shots):
    shard = collected(three_shots, broken=True)
    assert shard.videos[0]["status"] == "failed"
    assert {(c["begins_with"], c["ends_with"]) for c in shard.clips} == {(None, None)}
    assert all(c["start_pts"] is not None for c in shard.clips)
    assert bounds({"start": 0.0, "end": 1.0}, None) == {"begins_with": None, "ends_with": None}


def test_rows_have_every_column_of_the_schema_and_no_other(three_shots):
    shard = collected(three_shots)
    for rows, schema in ((shard.videos, VIDEOS), (shard.shots, SHOTS), (shard.clips, pa.schema(CLIP_IDENTITY))):
        assert all(set(row) == set(schema.names) for row in rows)


@pytest.mark.parametrize("keeps_times", [False, True])
def test_a_file_that_changes_while_it_is_decoded_has_no_id_and_no_clips(tmp_path, three_shots, keeps_times):
    source, video_id = sources.read(str(three_shots))
    task = Task("s", source, video_id)
    waiting = Collector([task])
    reading = VideoPass(source.uri, CurateConfig(videos=source.uri), video_id)
    clips = [clip_row(clip, Scored()) for clip in reading]
    with three_shots.open("r+b") as file:
        file.write(b"x")
    if keeps_times:
        os.utime(three_shots, ns=(0, source.modified_ns))
    for clip in clips:
        assert waiting.add(source.uri, clip) == []
    (shard,) = waiting.add(source.uri, end_of(task, reading, [], len(clips)))
    assert len(clips) > 0
    assert (shard.clips, shard.shots) == ([], [])
    (video,) = shard.videos
    assert (video["status"], video["video_id"], video["clips"]) == ("failed", None, 0)
    (error,) = shard.errors
    assert (error["error"], error["video_id"]) == ("ChangedFile", None)
    assert error["message"].endswith("the file changed while it was read; run again when it is complete")


def test_a_file_that_changes_and_cannot_be_decoded_is_a_changed_one(three_shots):
    source, video_id = sources.read(str(three_shots))
    task = Task("s", source, video_id)
    three_shots.write_bytes(b"half")
    end = end_of(task, None, [(None, Failure("open", "UnreadableVideo", "not a video"))], 0)
    assert end.video["video_id"] is None
    assert end.failures[0][1].error == "ChangedFile"


def test_a_file_whose_attributes_change_while_it_is_decoded_keeps_its_clips(three_shots):
    source, video_id = sources.read(str(three_shots))
    task = Task("s", source, video_id)
    reading = VideoPass(source.uri, CurateConfig(videos=source.uri), video_id)
    clips = [clip_row(clip, Scored()) for clip in reading]
    three_shots.chmod(0o600)
    end = end_of(task, reading, [], len(clips))
    assert (end.video["status"], end.video["video_id"], end.video["revision"]) == ("ok", video_id, source.revision)
