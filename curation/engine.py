"""The single pass over a video: detectors, flow and thumbnails all live off one decode.

Memory is bounded by the footage that is not yet settled: a few seconds of thumbnails at the sampling rate, never the
file. A clip leaves as soon as nothing more can change it.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from curation.clips import Span, Splitter, clip_id
from curation.config import CurateConfig, Profile
from curation.cuts.cascade import Cascade
from curation.cuts.transitions import Transition
from curation.decode import Decoder, Frame, VideoInfo, ahead
from curation.scores.base import ClipFrames, Failure
from curation.scores.duplicates import difference_hash
from curation.scores.motion import flow_map
from curation.sources import identify

_KEYFRAME_THUMBNAIL_GAP_S = 0.25  # intra-only codecs make every frame a keyframe
_UNIFORM_FRAMES = 8  # that VideoBLIP looks at


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


@dataclass(slots=True)
class _Sample:
    time: float
    rgb: np.ndarray
    on_grid: bool  # a sample at the flow's rate, not an extra one on a keyframe
    hash: np.uint64
    flow: np.ndarray | None  # from the previous sample on the grid
    flow_from: float


class VideoPass:
    """Iterate to decode the video once and get its clips in order.

    `info` is known from the start and exact at the end; `shots` and `failures` are complete when iteration has ended.
    Raises UnreadableVideo where the file is no video.
    """

    def __init__(self, uri: str, config: CurateConfig, video_id: str | None = None, threads: int = 0) -> None:
        self.uri = uri
        self.config = config
        self.video_id = video_id or identify(uri)
        self.decoder = Decoder(uri, threads)
        self.info: VideoInfo = self.decoder.info
        self.claimed_duration = self.info.duration
        self.shots: list[Shot] = []
        self.failures: list[tuple[str | None, Failure]] = []
        self._times: deque[float] = deque()  # presentation times of frames that a clip may still need
        self._dropped = 0  # frames that have left `_times`
        self._keyframes: deque[float] = deque()
        self._samples: deque[_Sample] = deque()
        self._next_sample = 0.0
        self._last_gray: tuple[float, np.ndarray] | None = None
        self._flow_size = (0, 0)
        self._open = Splitter(0.0, config.clips)
        self._begins_with = "start"
        self._clips_in_shot = 0

    def __iter__(self) -> Iterator[Clip]:
        config = self.config
        cascade = Cascade(config.cuts, self.info.fps)
        end = 0.0
        for frame in ahead(self.decoder):
            self._remember(frame)
            end = frame.time + frame.duration
            for transition in cascade.push(frame.index, frame.time, frame.small_bgr(config.cuts.width_px)):
                yield from self._close(transition)
            yield from self._take(cascade.settled_until, final=False)
            self._forget()
        for transition in cascade.flush():
            yield from self._close(transition)
        yield from self._close(Transition("cut", end, end, self._dropped, self._dropped), last=True)
        self._note_truncation(end)

    def _remember(self, frame: Frame) -> None:
        self._times.append(frame.time)
        if frame.keyframe:
            self._keyframes.append(frame.time)
        on_grid = frame.time + 1e-6 >= self._next_sample
        last = self._samples[-1].time if self._samples else -np.inf
        if not on_grid and not (frame.keyframe and frame.time - last >= _KEYFRAME_THUMBNAIL_GAP_S):
            return
        sample = _Sample(
            frame.time, frame.rgb(self.config.thumbnail_px), on_grid, np.uint64(0), flow=None, flow_from=frame.time
        )
        if on_grid:
            fps = self.config.motion.fps
            self._next_sample = (np.floor(frame.time * fps + 1e-6) + 1) / fps
            gray = frame.gray(self.config.motion.size_px)
            sample.hash = difference_hash(gray)
            if self._last_gray is not None:
                sample.flow_from, previous = self._last_gray
                # scaled to one sampling interval, so that a gap in a variable-rate file is not mistaken for speed
                gap = (frame.time - sample.flow_from) * fps
                sample.flow = flow_map(previous, gray) / np.float16(gap)
            self._last_gray = frame.time, gray
            self._flow_size = gray.shape[1], gray.shape[0]
        self._samples.append(sample)

    def _forget(self) -> None:
        oldest = self._open.oldest_needed
        while self._samples and self._samples[0].time < oldest - 1e-6:
            self._samples.popleft()
        while self._keyframes and self._keyframes[0] < oldest - 1e-3:
            self._keyframes.popleft()
        while self._times and self._times[0] < oldest - 1e-3:
            self._times.popleft()
            self._dropped += 1

    def _close(self, transition: Transition, last: bool = False) -> Iterator[Clip]:
        """End the open shot where the transition starts, and open the next where it ends."""
        start, end = self._open.start, transition.start
        if end > start:
            yield from self._take(end, final=True)
            shortest = self.config.clips.min_length_s
            reason = None
            if not self._clips_in_shot:
                reason = f"{end - start:.2f} s is shorter than clips.min_length_s ({shortest:g} s)"
                if end - start >= shortest:
                    reason = "its clips could not be decoded"
            ends_with = "end" if last else transition.kind
            self.shots.append(
                Shot(len(self.shots), start, end, self._begins_with, ends_with, self._clips_in_shot, reason)
            )
        self._open = Splitter(max(transition.end, start), self.config.clips)
        self._begins_with = transition.kind
        self._clips_in_shot = 0

    def _take(self, known_until: float, final: bool) -> Iterator[Clip]:
        for span in self._open.take(self._keyframes, known_until, final):
            clip = self._clip(span)
            if clip is not None:
                self._clips_in_shot += 1
                yield clip

    def _clip(self, span: Span) -> Clip | None:
        """The clip of this span; None, with the failure noted, where its pictures are damaged or missing."""
        name = clip_id(self.video_id, span.start, span.end)
        inside = [s for s in self._samples if span.start - 1e-6 <= s.time < span.end - 1e-6]
        damaged = [t for t in self.info.damage if span.start <= t < span.end]
        if damaged or not inside:
            what = f"damaged packets near {damaged[0]:.2f} s" if damaged else "no picture between its ends"
            message = f"{what}; clip {span.start:.2f} to {span.end:.2f} s left out"
            self.failures.append((name, Failure("decode", "DamagedVideo", message)))
            return None
        middle = min(inside, key=lambda s: abs(s.time - (span.start + span.end) / 2))
        three = (inside[0], middle, inside[-1])
        grid = [s for s in inside if s.on_grid]
        flows = [s.flow for s in grid if s.flow is not None and s.flow_from >= span.start - 1e-6]
        first, past = bisect_left(self._times, span.start - 1e-6), bisect_left(self._times, span.end - 1e-6)
        info = self.info
        frames = ClipFrames(
            clip_id=name,
            video_id=self.video_id,
            uri=self.uri,
            start=span.start,
            end=span.end,
            fps=(past - first) / (span.end - span.start),
            width=info.width,
            height=info.height,
            frames=tuple(s.rgb for s in three),
            frame_times=tuple(s.time for s in three),
            flow=np.stack(flows) if flows else np.zeros((0, 0, 0, 2), np.float16),
            flow_size=self._flow_size,
            hashes=np.array([s.hash for s in grid], np.uint64),
            uniform=tuple(s.rgb for s in _spread(inside)) if self.config.profile is Profile.svd else (),
        )
        return Clip(
            frames=frames,
            shot=len(self.shots),
            start_frame=self._dropped + first,
            frame_count=past - first,
            starts_on_keyframe=span.starts_on_keyframe,
            preview=_jpeg(middle.rgb, self.config.preview_px),
        )

    def _note_truncation(self, end: float) -> None:
        claimed = self.claimed_duration
        if claimed and claimed - end > max(1.0, 0.1 * claimed):
            message = f"the picture ends at {end:.2f} s of the {claimed:.2f} s that the header claims"
            self.failures.append((None, Failure("decode", "TruncatedVideo", message)))


def open_clips(uri: str, config: CurateConfig | None = None) -> list[ClipFrames]:
    """The clips of one video with all that scorers look at: for prompts and notebooks (holds them in memory)."""
    return [clip.frames for clip in VideoPass(uri, config or CurateConfig(videos=uri))]


def _spread(samples: list[_Sample]) -> list[_Sample]:
    """Eight samples, evenly spread from the first to the last; fewer are repeated."""
    return [samples[i] for i in np.linspace(0, len(samples) - 1, _UNIFORM_FRAMES).round().astype(int)]


def _jpeg(rgb: np.ndarray, long_side: int) -> bytes | None:
    if not long_side:
        return None
    factor = min(1.0, long_side / max(rgb.shape[:2]))
    size = max(1, round(rgb.shape[1] * factor)), max(1, round(rgb.shape[0] * factor))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return data.tobytes() if ok else None
