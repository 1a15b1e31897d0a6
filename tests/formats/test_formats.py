"""Every row of the table: manifest, preview, training frames, copied and re-encoded clip against the independent
reader."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from curation.clip_source import ClipError
from curation.clips import stamps
from curation.collect import Task, clip_row, end_of
from curation.config import ClipSettings, CurateConfig, ExportConfig, ExportMode
from curation.engine import Clip, VideoPass
from curation.errors import UnreadableVideo
from curation.export import cut_out
from curation.scores.base import Scored
from curation.sources import Source
from curation.video.decoder import Decoder
from tests.formats.conftest import Bench
from tests.formats.oracle import Shown, show
from tests.formats.pattern import UPRIGHT, comb, corners_of, numbers_of, psnr
from tests.formats.row import Row
from tests.formats.table import ROWS
from training.errors import TrainingError
from training.frames import FrameReader

READ = [row for row in ROWS if not row.refused]
HDR_TRANSFERS = {"smpte2084", "arib-std-b67"}
MOST_COMB = 0.62  # a woven frame of the pattern has 0.7 and more


def rows(table: Sequence[Row]) -> pytest.MarkDecorator:
    marks = [pytest.param(row, id=row.name, marks=[pytest.mark.slow] if row.slow else []) for row in table]
    return pytest.mark.parametrize("row", marks)


@dataclass(frozen=True)
class Expected:
    """The facts of a row, as the independent reader confirms them."""

    times: list[float]
    numbers: list[int] | None
    shown: Shown

    def at(self, time: float) -> int:
        """The place of the frame that is on screen at a time."""
        return max(0, int(np.searchsorted(self.times, time + 2e-3, "right")) - 1)

    def first(self, start: float) -> int:
        """The place of the first frame that begins at a time or after it."""
        return int(np.searchsorted(self.times, start - 2e-3, "left"))


def expected(bench: Bench, row: Row) -> Expected:
    shown = bench.shown(row)
    times = [row.time(n) for n in range(row.frames)] if row.times or row.rate else shown.times
    return Expected(times, list(row.shows[: row.frames]) if row.shows is not None else None, shown)


@lru_cache(2)
def passed(path: str) -> tuple[VideoPass, list[Clip]]:
    config = CurateConfig(videos=path, clips=ClipSettings(min_length_s=0.5, max_snap_s=0))
    reading = VideoPass(path, config)
    return reading, list(reading)


def check_frame(frame: np.ndarray, row: Row, facts: Expected, place: int, what: str) -> None:
    """The frame is the one at this place: its number, its corners, its pixels."""
    if facts.numbers is not None:
        assert numbers_of([frame]) == [facts.numbers[place]], what
        if row.upright:
            assert corners_of(frame) == UPRIGHT, what
    if len(row.sizes) == 1 and place < len(facts.shown.frames) and (row.independent or row.shows is not None):
        theirs = facts.shown.frames[place]
        if frame.shape != theirs.shape:
            frame = cv2.resize(frame, theirs.shape[1::-1], interpolation=cv2.INTER_AREA)
        agreement = psnr(frame, theirs)
        assert agreement >= row.psnr, f"{what}: {agreement:.1f} dB of agreement"
    if row.interlaced:
        assert comb(frame) < MOST_COMB, what


@rows([row for row in READ if row.independent])
def test_the_independent_reader_shows_the_row(bench: Bench, row: Row):
    facts = expected(bench, row)
    shown = facts.shown
    assert shown.codec == row.codec
    assert len(shown.frames) == row.frames
    assert shown.times == pytest.approx(facts.times, abs=row.tolerance)
    assert shown.aspects[0] == pytest.approx(row.sizes[0][0] / row.sizes[0][1], rel=0.02)
    if facts.numbers is not None:
        assert numbers_of(shown.frames) == facts.numbers


@rows(READ)
def test_the_decoder_gives_every_frame_at_its_time(bench: Bench, row: Row):
    facts = expected(bench, row)
    decoder = Decoder(str(bench.file(row)))
    frames = [(f.time, f.duration, (f.width, f.height), f.damaged_from) for f in decoder]
    info = decoder.info
    assert [f[0] for f in frames] == pytest.approx(facts.times, abs=row.tolerance)
    assert row.reported or not [f for f in frames if f[3] is not None]
    assert (info.codec, info.frames) == (row.codec, row.frames)
    assert list(dict.fromkeys(f[2] for f in frames)) == list(row.sizes)
    assert all(duration > 0 for _, duration, *_ in frames)


@rows(READ)
def test_the_manifest_says_what_is_shown(bench: Bench, row: Row):
    facts = expected(bench, row)
    reading, clips = passed(str(bench.file(row)))
    said = [f"{failure.error}: {failure.message}" for _, failure in reading.failures]
    assert [bool(row.reported and re.search(row.reported, words)) for words in said] == [True] * bool(row.reported), (
        said
    )
    assert not row.interlaced or reading.info.interlaced
    assert not row.hdr or (reading.info.color and reading.info.color.transfer in HDR_TRANSFERS)
    if not row.clips:
        return
    assert sum(clip.frame_count for clip in clips) == row.frames or row.cuts or row.reported
    assert list(dict.fromkeys((clip.frames.width, clip.frames.height) for clip in clips)) == list(row.sizes)
    for clip in clips:
        assert clip.start_frame == facts.first(clip.frames.start)
        for time, frame in zip(clip.frames.frame_times, clip.frames.frames, strict=True):
            assert frame.shape[1] / frame.shape[0] == pytest.approx(clip.frames.width / clip.frames.height, rel=0.02)
            check_frame(frame, row, facts, facts.at(time), f"frame at {time:.3f} s")
        assert clip.preview is not None
        preview = cv2.imdecode(np.frombuffer(clip.preview, np.uint8), cv2.IMREAD_COLOR)
        assert preview is not None
        middle = facts.at(clip.frames.frame_times[1])
        check_frame(preview[..., ::-1], replace(row, psnr=min(row.psnr, 24)), facts, middle, "preview")


def manifest_rows(path: str) -> list[dict[str, Any]]:
    """The clips as the manifest has them, and under `middle` where a clip would start that begins in their middle."""
    reading, clips = passed(path)
    video = end_of(Task("shard", Source(path, 1, 0), reading.video_id), reading, [], len(clips)).video
    rows = [clip_row(clip, Scored())[0] for clip in clips]
    for fields in rows:
        fields.update(stamps(fields, video))
        half = {"start": (fields["start"] + fields["end"]) / 2, "end": fields["end"]}
        fields["middle"] = half["start"], stamps(half, video)["start_pts"]
    return rows


@rows(READ)
def test_training_reads_the_frames_that_are_shown(bench: Bench, row: Row):
    facts, path = expected(bench, row), str(bench.file(row))
    whole = {
        "start": 0.0,
        "start_pts": None,
        "middle": (0.0, None),
        "frames": row.frames,
        "width": row.sizes[0][0],
        "height": row.sizes[0][1],
    }
    rng = np.random.default_rng(0)
    for clip in manifest_rows(path) if row.clips else [whole]:
        first, width, height = facts.first(clip["start"]), clip["width"], clip["height"]
        reader = FrameReader(height, width)
        for place, time, frame in read(reader, path, facts, clip, range(first, first + clip["frames"]), rng):
            check_frame(frame, row, facts, place, f"the frame at {time:.4f} s, origin {clip['start_pts']}")


def read(
    reader: FrameReader, path: str, facts: Expected, clip: dict[str, Any], places: range, rng: np.random.Generator
) -> Iterator[tuple[int, float, np.ndarray]]:
    """Frames of a clip, from its manifest's stamps and from the beginning of the file, at times and of spans: the place
    of the frame that is due, the time that was asked for, and the frame."""
    aspect, times = clip["width"] / clip["height"], facts.times
    ends = [*times[1:], times[-1] + 0.04]
    for n, share in enumerate((0.0, 0.5, 0.9, 0.0)):
        origin = [(clip["start"], None), *[(clip["start"], clip["start_pts"])] * 2, clip["middle"]][n]
        chosen = np.sort(rng.choice(places, 3))
        at = np.array([min(times[p] + share * (ends[p] - times[p]), max(times[p], ends[p] - 1.5e-3)) for p in chosen])
        yield from zip(chosen, at, reader.at(path, at, aspect, origin), strict=True)
        first, last = int(chosen[0]), min(int(chosen[-1]), int(chosen[0]) + 12)
        last = max(last, first + 1)
        begin, end = (
            (times[n - 1] + (times[n] if n < len(times) else ends[-1])) / 2 if n else 0.0 for n in (first, last)
        )
        frames, starts = reader.span(path, begin, end, aspect, origin)
        inside = range(first, last)
        assert starts == pytest.approx([times[p] for p in inside], abs=2e-3)
        yield from zip(inside, starts, frames, strict=True)


def exported(bench: Bench, row: Row, mode: ExportMode) -> Iterator[tuple[Clip, Path, str]]:
    """Each clip, written as a file."""
    path = str(bench.file(row))
    for i, (clip, fields) in enumerate(zip(passed(path)[1], manifest_rows(path), strict=True)):
        made = cut_out(fields, ExportConfig(selection="none", mode=mode, preset="veryfast", crf=12))
        written = bench.folder / f"{row.name}_{i}_{mode.value}.mp4"
        written.write_bytes(made.data)
        yield clip, written, made.codec


def check_clip(row: Row, facts: Expected, clip: Clip, path: Path, least: int, how: str) -> None:
    size = clip.frames.width, clip.frames.height
    there = show(path, size, hdr=row.hdr and how == "copied")
    first = facts.first(clip.frames.start)
    assert clip.frame_count - least <= len(there.frames) <= clip.frame_count
    times = np.array(facts.times[first : first + len(there.frames)])
    assert there.times == pytest.approx(list(times - times[0]), abs=max(0.002, row.tolerance))
    assert there.aspects[0] == pytest.approx(size[0] / size[1], rel=0.02)
    for i, frame in enumerate(there.frames):
        check_frame(frame, replace(row, psnr=min(row.psnr - 3, 26)), facts, first + i, f"{how} clip, frame {i}")


@rows([row for row in READ if row.clips])
def test_the_reencoded_clip_shows_the_same_frames(bench: Bench, row: Row):
    facts = expected(bench, row)
    for clip, path, codec in exported(bench, row, ExportMode.reencode):
        assert codec == "h264"
        check_clip(row, facts, clip, path, 0, "re-encoded")
        assert not show(path, (160, 120)).interlaced


@rows([row for row in READ if row.clips])
def test_the_copied_clip_shows_the_same_frames(bench: Bench, row: Row):
    facts = expected(bench, row)
    try:
        for clip, path, codec in exported(bench, row, ExportMode.copy):
            assert codec == row.codec
            check_clip(
                replace(row, interlaced=False, psnr=0) if row.interlaced else row, facts, clip, path, 4, "copied"
            )
    except ClipError:  # a copy that would not be exact is refused; the clip is re-encoded instead
        if row.copies:
            raise


@rows([row for row in ROWS if row.refused])
def test_what_cannot_be_read_is_refused_with_its_reason(bench: Bench, row: Row):
    path = str(bench.file(row))
    with pytest.raises(UnreadableVideo, match=row.refused):
        list(VideoPass(path, CurateConfig(videos=path)))
    with pytest.raises(TrainingError, match=row.refused):
        FrameReader(120, 160).at(path, np.array([0.0]), 4 / 3)
