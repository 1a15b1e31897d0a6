"""The single pass over a video: detectors, flow and thumbnails all live off one decode.

One thread decodes ahead, the caller's looks for cuts, and a third makes the pictures and the flow of clips whose ends
are known; all three leave Python's lock for nearly all of their work. Memory is bounded by the footage that is not yet
settled: a few seconds of thumbnails at the sampling rate, never the file. A clip leaves as soon as nothing more can
change it.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np

from curation.clips import Span, Splitter, clip_id
from curation.config import CurateConfig, Profile
from curation.cuts.cascade import Cascade
from curation.cuts.transitions import Transition
from curation.scores.base import ClipFrames, Failure
from curation.scores.duplicates import difference_hash
from curation.scores.motion import flow_map
from curation.sources import identify
from curation.video.container import other_streams_end
from curation.video.decoder import Decoder, VideoInfo
from curation.video.frame import Frame, Still
from curation.video.geometry import Geometry
from curation.video.prefetch import prefetch

_KEYFRAME_THUMBNAIL_GAP_S = 0.25  # intra-only codecs make every frame a keyframe
_UNIFORM_FRAMES = 8  # that VideoBLIP looks at
_AHEAD_BYTES = 32 << 20  # of decoded frames, so that libav goes on while the cascade thinks over a block of them
_FEW = 0.05  # of the frames may have no time of their own before that is told
_SOME_PACKETS = 25  # of another video stream: fewer come from the way in which streams are interleaved
_HELD_S = 0.25  # of a clip may pass before its first frame
_UNFINISHED_CLIPS = 3  # whose flow may be outstanding before the pass itself waits


@dataclass(frozen=True, slots=True)
class Shot:
    """What lies between two transitions, in seconds; `reason` says why it gave no clip, if it gave none."""

    index: int
    start: float
    end: float
    begins_with: str
    ends_with: str
    clips: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip as the decode leaves it: what identifies it, and what the scorers look at."""

    frames: ClipFrames
    shot: int
    start_frame: int
    frame_count: int
    starts_on_keyframe: bool
    preview: bytes | None


@dataclass(frozen=True, slots=True)
class _Sample:
    """A frame that is kept. Those at the flow's rate have a grey picture; the others are extra ones on keyframes."""

    time: float
    still: Still
    gray: np.ndarray | None


@dataclass(frozen=True, slots=True)
class _Draft:
    """A clip whose pictures and flow are still to be made."""

    span: Span
    shot: int
    start_frame: int
    frame_count: int
    samples: list[_Sample]
    cut_doubt: float
    size: tuple[int, int]  # display width and height


class VideoPass:
    """Iterate to decode the video once and get its clips in order.

    `info` is known from the start and exact at the end; `shots` and `failures` are complete when iteration has ended.
    Without `flow` the clips have none. Raises UnreadableVideo where the file is no video.
    """

    def __init__(
        self, uri: str, config: CurateConfig, video_id: str | None = None, threads: int = 0, flow: bool = True
    ) -> None:
        self.uri = uri
        self.config = config
        self.video_id = video_id or identify(uri)
        self.decoder = Decoder(uri, threads, config.decoder)
        self.info: VideoInfo = self.decoder.info
        self.claimed_duration = self.info.duration if self.info.duration_is_claimed else None
        self.shots: list[Shot] = []
        self.failures: list[tuple[str | None, Failure]] = []
        self._flow = flow
        self._size = self.info.width, self.info.height  # of the frames that are being looked at
        self._times: deque[float] = deque()  # presentation times of frames that a clip may still need
        self._dropped = 0  # frames that have left `_times`
        self._keyframes: deque[float] = deque()
        self._samples: deque[_Sample] = deque()
        self._next_sample = 0.0
        self._open = Splitter(0.0, config.clips)
        self._begins_with = "start"
        self._clips_in_shot = 0
        self._cascade = Cascade(config.cuts, self.info.fps)

    def __iter__(self) -> Iterator[Clip]:
        outstanding: deque[Future[Clip]] = deque()
        worker = ThreadPoolExecutor(1, "clips")
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)  # its own wait for work by spinning, and take the time from libav's
        try:
            for draft in self._drafts():
                outstanding.append(worker.submit(self._finish, draft))
                while outstanding[0].done() or len(outstanding) > _UNFINISHED_CLIPS:
                    yield outstanding.popleft().result()
                    if not outstanding:
                        break
            while outstanding:
                yield outstanding.popleft().result()
        finally:
            worker.shutdown(cancel_futures=True)
            cv2.setNumThreads(threads)

    def _drafts(self) -> Iterator[_Draft]:
        """Decode and find the clips."""
        end, first, sound = 0.0, 0, True
        patience = self.config.no_progress_minutes * 60 / 3  # the run itself waits longer
        stored = self.info.geometry
        frame_bytes = stored.coded_width * stored.coded_height * 3 // 2
        known: tuple[Geometry, bool] | None = None
        for frame in prefetch(self.decoder, min(16, max(4, _AHEAD_BYTES // max(1, frame_bytes))), patience):
            end = frame.time + frame.duration
            if frame.damaged_from is not None:
                if sound:
                    yield from self._end(frame.damaged_from, "damage")
                sound = False
                continue
            if sound and known not in {None, (frame.geometry, frame.color.is_hdr)}:
                yield from self._end(frame.time, "format")
                self._resume(frame, "format")
                first = frame.index
            elif not sound:
                self._resume(frame, "damage")
                first, sound = frame.index, True
            known, self._size = (frame.geometry, frame.color.is_hdr), (frame.width, frame.height)
            self._remember(frame)
            bgr = frame.small_bgr(self.config.cuts.width_px)
            for transition in self._cascade.push(frame.index - first, frame.time, bgr):
                yield from self._cross(transition)
            yield from self._take(self._cascade.settled_until, final=False)
            self._forget()
        if sound:
            yield from self._end(end, "end")
        self._note_what_is_missing(end)

    def _resume(self, frame: Frame, begins_with: str) -> None:
        """Begin anew with the first frame after damage, or of another size."""
        self._dropped = frame.index
        self._next_sample = frame.time
        self._begin(frame.time, begins_with)
        self._cascade = Cascade(self.config.cuts, self.info.fps)

    def _remember(self, frame: Frame) -> None:
        self._times.append(frame.time)
        if frame.keyframe:
            self._keyframes.append(frame.time)
        on_grid = frame.time + 1e-6 >= self._next_sample
        last = self._samples[-1].time if self._samples else -np.inf
        if not on_grid and not (frame.keyframe and frame.time - last >= _KEYFRAME_THUMBNAIL_GAP_S):
            return
        gray = None
        if on_grid:
            fps = self.config.motion.fps
            self._next_sample = (np.floor(frame.time * fps + 1e-6) + 1) / fps
            gray = frame.gray(self.config.motion.size_px)
        self._samples.append(_Sample(frame.time, frame.still(self.config.thumbnail_px), gray))

    def _forget(self) -> None:
        oldest = self._open.oldest_needed
        while self._samples and self._samples[0].time < oldest - 1e-6:
            self._samples.popleft()
        while self._keyframes and self._keyframes[0] < oldest - 1e-3:
            self._keyframes.popleft()
        while self._times and self._times[0] < oldest - 1e-3:
            self._times.popleft()
            self._dropped += 1

    def _begin(self, start: float, begins_with: str) -> None:
        self._open = Splitter(start, self.config.clips)
        self._begins_with = begins_with
        self._clips_in_shot = 0

    def _cross(self, transition: Transition) -> Iterator[_Draft]:
        """End the open shot where the transition starts, and begin the next where it ends."""
        start = self._open.start
        yield from self._end_shot(transition.start, transition.kind)
        self._begin(max(transition.end, start), transition.kind)

    def _end(self, at: float, ends_with: str) -> Iterator[_Draft]:
        """End the stretch of sound footage that the cascade has looked at."""
        for transition in self._cascade.flush():
            if transition.start < at:
                yield from self._cross(transition)
        yield from self._end_shot(at, ends_with)
        self._times.clear()
        self._keyframes.clear()
        self._samples.clear()

    def _end_shot(self, end: float, ends_with: str) -> Iterator[_Draft]:
        start = self._open.start
        if end <= start:
            return
        yield from self._take(end, final=True)
        reason = None
        if not self._clips_in_shot:
            reason = self.config.clips.too_short(end - start) or "a frame is shown for longer than a clip"
        self.shots.append(Shot(len(self.shots), start, end, self._begins_with, ends_with, self._clips_in_shot, reason))

    def _take(self, known_until: float, final: bool) -> Iterator[_Draft]:
        for span in self._open.take(self._keyframes, known_until, final):
            draft = self._draft(span)
            if draft is not None:
                self._clips_in_shot += 1
                yield draft

    def _draft(self, span: Span) -> _Draft | None:
        """The clip of this span; None where no frame begins in it, because one is shown for longer than a clip."""
        inside = [s for s in self._samples if span.start - 1e-6 <= s.time < span.end - 1e-6]
        if not inside:
            return None
        first, past = bisect_left(self._times, span.start - 1e-6), bisect_left(self._times, span.end - 1e-6)
        if self._times[first] - span.start > _HELD_S and self.config.clips.stride_s is None:
            # an earlier frame is held across the start: the clip begins with its own first frame
            span = replace(span, start=self._times[first])
            if span.end - span.start < self.config.clips.min_length_s:
                return None
        doubt = self._cascade.doubt(span.start, span.end)
        return _Draft(span, len(self.shots), self._dropped + first, past - first, inside, doubt, self._size)

    def _finish(self, draft: _Draft) -> Clip:
        """Make the pictures and the flow. Runs in a thread of its own."""
        span, samples = draft.span, draft.samples
        middle = min(samples, key=lambda s: abs(s.time - (span.start + span.end) / 2))
        three = (samples[0], middle, samples[-1])
        rgb = {id(s): s.still.rgb() for s in three}
        uniform: tuple[np.ndarray, ...] = ()
        if self.config.profile is Profile.svd:
            chosen = [samples[i] for i in np.linspace(0, len(samples) - 1, _UNIFORM_FRAMES).round().astype(int)]
            rgb |= {id(s): s.still.rgb() for s in chosen if id(s) not in rgb}
            uniform = tuple(rgb[id(s)] for s in chosen)
        grid = [(s.time, s.gray) for s in samples if s.gray is not None]
        motion = self.config.motion
        by_network = motion.method == "raft"
        frames = ClipFrames(
            clip_id=clip_id(self.video_id, span.start, span.end),
            video_id=self.video_id,
            uri=self.uri,
            start=span.start,
            end=span.end,
            fps=draft.frame_count / (span.end - span.start),
            width=draft.size[0],
            height=draft.size[1],
            frames=tuple(rgb[id(s)] for s in three),
            frame_times=tuple(s.time for s in three),
            flow=_flow(grid if self._flow and not by_network else [], motion.fps, motion.method),
            flow_size=grid[0][1].shape[::-1] if grid else (0, 0),
            hashes=np.array([difference_hash(gray) for _, gray in grid], np.uint64),
            uniform=uniform,
            cut_doubt=draft.cut_doubt,
            samples=tuple(gray for _, gray in grid) if by_network else (),
            sample_times=tuple(time for time, _ in grid) if by_network else (),
        )
        return Clip(
            frames=frames,
            shot=draft.shot,
            start_frame=draft.start_frame,
            frame_count=draft.frame_count,
            starts_on_keyframe=span.starts_on_keyframe,
            preview=_jpeg(rgb[id(middle)], self.config.preview_px),
        )

    def _note_what_is_missing(self, end: float) -> None:
        claimed = self.claimed_duration
        if claimed and _falls_short(end, claimed) and _falls_short(other_streams_end(self.uri), claimed):
            message = f"the video ends at {end:.2f} s of the {claimed:.2f} s that the header claims"
            self.failures.append((None, Failure("decode", "TruncatedVideo", message)))
        hidden, shown = self.info.hidden, self.info.frames or 0
        if hidden > _FEW * shown:  # a few that repeat cost an undamaged file next to nothing
            message = f"{hidden} of {hidden + shown} frames are left out: their time stamps repeat or go back"
            self.failures.append((None, Failure("decode", "DamagedVideo", message)))
        if self.info.unread > _SOME_PACKETS:
            message = (
                f"another video stream begins where this one ends, at {end:.2f} s, and is not read; split the file"
            )
            self.failures.append((None, Failure("decode", "UnreadStream", message)))
        for since, until in self.info.damage:
            message = f"damaged packets or time stamps: the footage from {since:.2f} to {until:.2f} s is left out"
            self.failures.append((None, Failure("decode", "DamagedVideo", message)))


def _falls_short(end: float, claimed: float) -> bool:
    return claimed - end > max(1.0, 0.1 * claimed)


def open_clips(uri: str, config: CurateConfig | None = None) -> list[ClipFrames]:
    """The clips of one video with all that scorers look at: for prompts and notebooks (holds them in memory).

    Raises ValueError for a video that gives none.
    """
    config = config or CurateConfig(videos=uri)
    reading = VideoPass(uri, config)
    clips = [clip.frames for clip in reading]
    if not clips:
        rules = config.clips
        least = f"stride_s ({rules.stride_s:g} s)" if rules.stride_s else f"min_length_s ({rules.min_length_s:g} s)"
        longest = max((shot.end - shot.start for shot in reading.shots), default=0.0)
        raise ValueError(
            f"{uri} gives no clip: it lasts {reading.info.duration or 0:.2f} s, its longest shot {longest:.2f} s, and "
            f"a clip is no shorter than clips.{least}"
        )
    return clips


def _flow(grid: Sequence[tuple[float, np.ndarray]], fps: float, method: str) -> np.ndarray:
    """Flow maps between neighbouring samples, scaled to one sampling interval each, so that a gap in a variable-rate
    file is not mistaken for speed."""
    maps = [flow_map(a, b, method) / np.float16((later - sooner) * fps) for (sooner, a), (later, b) in pairwise(grid)]
    return np.stack(maps) if maps else np.zeros((0, 0, 0, 2), np.float16)


def _jpeg(rgb: np.ndarray, long_side: int) -> bytes | None:
    if not long_side:
        return None
    factor = min(1.0, long_side / max(rgb.shape[:2]))
    size = max(1, round(rgb.shape[1] * factor)), max(1, round(rgb.shape[0] * factor))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return data.tobytes() if ok else None
