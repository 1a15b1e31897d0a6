"""Every row of the table: manifest, preview, training frames, copied and re-encoded clip against the independent
reader."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from curation.clip_source import ClipError
from curation.collect import clip_row
from curation.config import ClipSettings, CurateConfig, ExportConfig, ExportMode
from curation.engine import Clip, VideoPass
from curation.errors import UnreadableVideo
from curation.export import cut_out
from curation.scores.base import Scored
from curation.video.decoder import Decoder
from tests.formats.conftest import Bench
from tests.formats.oracle import Shown, show
from tests.formats.pattern import UPRIGHT, comb, corners_of, numbers_of, psnr
from tests.formats.table import ROWS, Row
from training.errors import TrainingError
from training.frames import FrameReader

READ = [row for row in ROWS if not row.refused]
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


def expected(bench: Bench, row: Row) -> Expected:
    shown = bench.shown(row)
    times = [row.time(n) for n in range(row.frames)] if row.times or row.rate else shown.times
    return Expected(times, list(row.shows[: row.frames]) if row.shows is not None else None, shown)


@cache
def passed(path: str) -> tuple[VideoPass, list[Clip]]:
    config = CurateConfig(videos=path, clips=ClipSettings(min_length_s=0.5))
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
    assert not [f for f in frames if f[3] is not None]
    assert (info.codec, info.frames) == (row.codec, row.frames)
    assert list(dict.fromkeys(f[2] for f in frames)) == list(row.sizes)
    assert all(duration > 0 for _, duration, *_ in frames)


@rows(READ)
def test_the_manifest_says_what_is_shown(bench: Bench, row: Row):
    facts = expected(bench, row)
    reading, clips = passed(str(bench.file(row)))
    assert [f for _, f in reading.failures] == []
    if not row.clips:
        return
    assert sum(clip.frame_count for clip in clips) == row.frames
    assert list(dict.fromkeys((clip.frames.width, clip.frames.height) for clip in clips)) == list(row.sizes)
    for clip in clips:
        place = facts.at(clip.frames.start)
        assert clip.start_frame == place
        assert clip.frames.start == pytest.approx(facts.times[place], abs=0.003)
        for time, frame in zip(clip.frames.frame_times, clip.frames.frames, strict=True):
            assert frame.shape[1::-1] == (clip.frames.width, clip.frames.height)
            check_frame(frame, row, facts, facts.at(time), f"frame at {time:.3f} s")
        assert clip.preview is not None
        preview = cv2.imdecode(np.frombuffer(clip.preview, np.uint8), cv2.IMREAD_COLOR)
        assert preview is not None
        middle = facts.at(clip.frames.frame_times[1])
        check_frame(preview[..., ::-1], replace(row, psnr=min(row.psnr, 24)), facts, middle, "preview")


@rows(READ)
def test_training_reads_the_frames_that_are_shown(bench: Bench, row: Row):
    facts, path = expected(bench, row), str(bench.file(row))
    rng = np.random.default_rng(0)
    for size in row.sizes[:1]:
        width, height = size
        reader, aspect = FrameReader(height, width), width / height
        ends = [*facts.times[1:], facts.times[-1] + 0.04]
        for share in (0.0, 0.0, 0.5, 0.9):
            places = np.sort(rng.integers(0, len(facts.times), 4)).tolist()
            times = np.array([facts.times[p] + share * (ends[p] - facts.times[p]) for p in places])
            for place, frame in zip(places, reader.at(path, times, aspect), strict=True):
                check_frame(frame, row, facts, place, f"at {times} of them {place}")
            start, end = np.sort(rng.choice(facts.times, 2, replace=False)) if len(facts.times) > 1 else (0.0, 1.0)
            end = min(end, start + 1.0) if len(facts.times) > 1 else end
            frames, starts = reader.span(path, float(start), float(end), aspect)
            inside = [n for n, t in enumerate(facts.times) if start - 2e-3 <= t < end - 2e-3]
            inside = inside or [facts.at(float(start))]
            assert starts == pytest.approx([facts.times[n] for n in inside], abs=max(0.002, row.tolerance))
            for place, frame in zip(inside, frames, strict=True):
                check_frame(frame, row, facts, place, f"span [{start:.3f}, {end:.3f}), frame {place}")


def exported(bench: Bench, row: Row, mode: ExportMode) -> Iterator[tuple[Clip, Path, str]]:
    """Each clip, written as a file."""
    _, clips = passed(str(bench.file(row)))
    for i, clip in enumerate(clips):
        made = cut_out(clip_row(clip, Scored())[0], ExportConfig(selection="none", mode=mode, preset="veryfast", crf=12))
        path = bench.folder / f"{row.name}_{i}_{mode.value}.mp4"
        path.write_bytes(made.data)
        yield clip, path, made.codec


def check_clip(row: Row, facts: Expected, clip: Clip, path: Path, least: int, how: str) -> None:
    size = clip.frames.width, clip.frames.height
    there = show(path, size)
    first = facts.at(clip.frames.start)
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
            check_clip(replace(row, interlaced=False, psnr=-99) if row.interlaced or row.hdr else row, facts, clip, path, 4, "copied")
    except ClipError as error:
        pytest.skip(f"not copied: {error}")


@rows([row for row in ROWS if row.refused])
def test_what_cannot_be_read_is_refused_with_its_reason(bench: Bench, row: Row):
    path = str(bench.file(row))
    with pytest.raises(UnreadableVideo, match=row.refused):
        list(VideoPass(path, CurateConfig(videos=path)))
    with pytest.raises(TrainingError, match=row.refused):
        FrameReader(120, 160).at(path, np.array([0.0]), 4 / 3)
