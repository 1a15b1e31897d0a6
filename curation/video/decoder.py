"""Decode a video once and yield upright frames with their presentation times.

Times are seconds since the first frame; `timeline` derives them from time stamps. Frame numbers count the frames that
are shown. Sizes are display sizes: rotated upright, with square pixels.
"""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import av
import av.container
import av.error
from av.codec.context import Flags
from av.codec.hwaccel import HWAccel
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curation.errors import UnreadableVideo
from curation.video import nvdec
from curation.video.color import Color, color_of
from curation.video.container import (
    MAX_PIXELS,
    MAX_SIDE_PX,
    Frames,
    claimed_duration,
    clock_may_jump,
    opened,
)
from curation.video.damage import MARKING, Damage, LibavErrors
from curation.video.frame import Frame
from curation.video.geometry import Geometry, Shape
from curation.video.timeline import LONGEST_STILL_S, Placed, Stamped, Timeline

READER = 2
"""Version of the reader. Increase it when the same footage gives different frames, times or colors."""
_EARLIER_S = 1.0  # seek this much earlier: transport streams seek by decoding time, which precedes presentation
_MOST_THREADS = 16  # libav's own limit; each thread holds frames in memory
_GIF_LEAST_TICKS, _GIF_DEFAULT_TICKS = 2, 10  # browsers show a GIF frame of less than 20 ms for 100 ms


@dataclass(slots=True)
class VideoInfo:
    """Properties of a video: taken from its header until the decode has ended, exact afterwards.

    - `width`, `height`: display size (upright, square pixels) of the first frame, derived from `geometry`.
    - `fps`: average frame rate.
    - `duration` (seconds), `frames`: taken from the container until the decode has ended. `duration_is_claimed` is
      false if no header states the duration and libav estimated it from time stamps.
    - `first_pts`: time stamp of the first frame, in units of the stream's time base (`time_base_num` / `time_base_den`
      seconds). None until the first frame is decoded, and if stamps are missing or wrong, so that a seek cannot find
      frames.
    - `color`: color of the first frame; None until it is decoded.
    - `interlaced`: whether any frame is interlaced.
    - `damage`: intervals (start, end) in seconds with packets that could not be decoded, or frames that depend on them.
    - `hidden`: number of frames with no display time.
    - `unread`: number of packets of another video stream that begins where this one ends, as in concatenated files.
    """

    uri: str
    container: str
    codec: str
    pix_fmt: str
    geometry: Geometry
    fps: float
    duration: float | None
    frames: int | None
    duration_is_claimed: bool = True
    time_base_num: int | None = None
    time_base_den: int | None = None
    first_pts: int | None = None
    variable_rate: bool = False
    color: Color | None = None
    interlaced: bool = False
    damage: list[tuple[float, float]] = field(default_factory=list)
    hidden: int = 0
    unread: int = 0

    @property
    def width(self) -> int:
        """Display width of the first frame, in pixels."""
        return self.geometry.width

    @property
    def height(self) -> int:
        """Display height of the first frame, in pixels."""
        return self.geometry.height


def threads_for(cores: int) -> int:
    """Number of libav threads for this many cores: one more than libav's default, which was faster on two cores."""
    return min(cores + 2, _MOST_THREADS) if cores > 1 else 1


@dataclass(slots=True)
class _Place:
    """Position of a decode: `ordinal` frames decoded, of which `index` are shown and `hidden` are not.

    `gaps` are the smallest and largest time between two shown frames. `pts` is the time stamp of the next frame if the
    decode can resume there; otherwise None.
    """

    timeline: Timeline
    ordinal: int = 0
    index: int = 0
    hidden: int = 0
    last: float = -1.0
    gaps: tuple[float, float] = math.inf, 0.0
    pts: int | None = None

    def copy(self) -> "_Place":
        """Copy this position, to resume from it later."""
        return replace(self, timeline=self.timeline.copy())


@dataclass(slots=True)
class _Seen:
    """A decoded frame, its geometry, and whether a packet before it could not be decoded."""

    picture: VideoFrame
    geometry: Geometry
    lost: bool


class _SuspicionError(Exception):
    """A frame after this position may be damaged."""

    def __init__(self, place: _Place) -> None:
        super().__init__()
        self.place = place


class _MissedError(Exception):
    """A seek did not lead to the position."""


class Decoder:
    """Decode a video once, from its first to its last frame.

    `info` is available at once. Its `frames`, `duration`, `variable_rate`, `interlaced`, `damage` and `hidden` are
    exact when iteration has ended. Packets that cannot be decoded are skipped, and frames that depend on them have
    `damaged_from` set. At the first sign of damage, the decoder seeks the keyframe before it and decodes the rest in
    one thread, so that the damaged frames do not depend on the number of threads.

    Args:
        uri: A local path or an fsspec URL.
        threads: Number of libav threads; 0 for `threads_for` all cores.
        decoder: "cpu" or "nvdec".

    Raises:
        UnreadableVideo: the file has no frame that can be decoded.
        CurationError: nvdec, and this machine has no usable GPU.
    """

    def __init__(self, uri: str, threads: int = 0, decoder: str = "cpu") -> None:
        self.uri = uri
        self.threads = threads or threads_for(os.cpu_count() or 1)
        self.decoder = decoder
        with opened(uri) as (container, stream):
            self.info = _info(uri, container, stream)
            self._start = Timeline(float(stream.time_base or 0), self.info.fps, clock_may_jump(container))
        if self.info.codec == "vp8":  # it reports no damage, and its damaged frames depend on the threads
            self.threads = 1

    def __iter__(self) -> Iterator[Frame]:
        place, given = self._beginning(), 0
        for threads, seek in ((self.threads, False), (1, True), (1, False)):
            try:
                for frame in self._frames(threads, place, seek):
                    if frame.index >= given:
                        given = frame.index + 1
                        yield frame
                return
            except _SuspicionError as suspicion:
                place = suspicion.place
            except _MissedError:
                continue

    def _beginning(self) -> _Place:
        return _Place(self._start.copy())

    def _frames(self, threads: int, place: _Place, seek: bool) -> Iterator[Frame]:
        """Yield the frames from this position on, reached by a seek or by decoding from the beginning.

        Raises _MissedError if the seek fails, and, with several threads, _SuspicionError before the first frame that
        may be damaged.
        """
        info, at, undamaged = self.info, place.copy(), place
        damage = Damage(info.damage, info.codec, max(0.0, place.last))
        acceleration = nvdec.acceleration() if self.decoder == "nvdec" else None
        with decoding(self.uri, threads, acceleration) as (container, stream, errors):
            context = stream.codec_context
            frames = Frames(container, stream)
            pictures = _pictures_from(place, seek, frames, container, stream, errors)
            shape = Shape(stream, self.uri)
            watched = _Watched(pictures, shape, errors, suspicious=threads > 1)
            before_it, end = at.timeline.copy(), at.timeline.end
            try:
                for placed in at.timeline.place(
                    _stamped(watched, info), lambda: context.reorder_depth, lambda: frames.in_decoding_order
                ):
                    picture = placed.item.picture
                    before = replace(at, timeline=before_it, pts=picture.pts) if picture.key_frame else None
                    before_it = at.timeline.copy()
                    at.ordinal += 1
                    if placed.item.lost:
                        damage.lose()
                    if placed.time is None:
                        at.hidden += 1  # a repeated or disordered time stamp
                        continue
                    geometry = self._see(placed, first=at.index == 0)
                    if placed.leaped:
                        damage.leap(end)
                    elif at.index:
                        at.gaps = min(at.gaps[0], placed.time - at.last), max(at.gaps[1], placed.time - at.last)
                    damaged_from = damage.see(picture, placed.time, end, context.reorder_depth + context.thread_count)
                    if before and damaged_from is None:
                        undamaged = self._beginning() if at.timeline.repaired else before
                    yield Frame(
                        index=at.index,
                        time=placed.time,
                        duration=placed.duration,
                        keyframe=bool(picture.key_frame),
                        damaged_from=damaged_from,
                        picture=picture,
                        geometry=geometry,
                    )
                    at.index, at.last, end = at.index + 1, placed.time, placed.time + placed.duration
                if threads > 1 and errors.told():
                    raise _DoubtError
            except _DoubtError:
                raise _SuspicionError(undamaged) from None
        if at.index == 0:
            raise UnreadableVideo(f"{self.uri}: no frame could be decoded", step="decode")
        if watched.lost:
            damage.lose()
        damage.finish(end)
        info.unread = frames.unread
        self._conclude(at, end, by_stamps=not at.timeline.repaired and not shape.inherited)

    def _conclude(self, at: _Place, end: float, by_stamps: bool) -> None:
        """Record what is known at the end. `by_stamps`: a seek to a frame's stamp finds the frame, upright."""
        info = self.info
        info.frames, info.hidden = at.index, at.hidden
        info.duration = end
        info.fps = at.index / end
        # stamps of a constant rate vary by a millisecond or two, because they are rounded to the time base
        info.variable_rate = at.index > 2 and at.gaps[1] - at.gaps[0] > max(0.004, 0.1 * at.gaps[0])
        if not by_stamps:
            info.first_pts = None

    def _see(self, placed: Placed[_Seen], first: bool) -> Geometry:
        """Record the properties of a frame in `info`, and return its geometry."""
        info, picture, geometry = self.info, placed.item.picture, placed.item.geometry
        info.interlaced |= bool(picture.interlaced_frame)
        if first:
            info.first_pts = picture.pts
            info.geometry = geometry
            info.pix_fmt = picture.format.name
            try:
                info.color = color_of(picture)
            except UnreadableVideo as error:
                raise UnreadableVideo(f"{self.uri}: {error}", error.step) from error
        return geometry


class _DoubtError(Exception):
    """The next frame may be damaged."""


class _Watched:
    """Iterate over decoded frames, and record for each whether a packet before it was lost.

    `lost` says whether packets after the last frame were lost. With `suspicious`, _DoubtError is raised before the
    first frame that may be damaged.
    """

    def __init__(
        self, pictures: Iterable[VideoFrame | None], shape: Shape, errors: LibavErrors, suspicious: bool
    ) -> None:
        self.lost = False
        self._pictures, self._shape, self._errors, self._suspicious = pictures, shape, errors, suspicious

    def __iter__(self) -> Iterator[_Seen]:
        for picture in self._pictures:
            told = self._errors.told()
            if self._suspicious and (picture is None or picture.is_corrupt or told):
                raise _DoubtError
            self.lost |= picture is None or bool(told - MARKING)
            if picture is not None:
                yield _Seen(nvdec.planar(picture), self._shape.geometry_of(picture), self.lost)
                self.lost = False


def _stamped(seen: Iterable[_Seen], info: VideoInfo) -> Iterator[Stamped[_Seen]]:
    """Yield each frame with its stamp and duration. For a GIF they follow from its delays, as in browsers."""
    for one in seen:
        stamp, duration = one.picture.pts, one.picture.duration or None
        if info.container == "gif":
            stamp = None
            duration = duration if duration and duration >= _GIF_LEAST_TICKS else _GIF_DEFAULT_TICKS
        yield Stamped(one, stamp, duration, one.picture.dts)


@contextmanager
def decoding(
    uri: str, threads: int, acceleration: HWAccel | None = None
) -> Iterator[tuple[av.container.InputContainer, VideoStream, LibavErrors]]:
    """Open a file for decoding. Yield its container, its main video stream and libav's errors."""
    with opened(uri, acceleration) as (container, stream), LibavErrors() as errors:
        context = stream.codec_context
        stream.thread_type = "AUTO"
        context.thread_count = threads
        context.options = {"max_pixels": str(MAX_PIXELS)}
        context.flags |= Flags.unaligned  # else a crop at the left is rounded down
        try:
            yield container, stream, errors
        finally:
            context.flush_buffers()


def _info(uri: str, container: av.container.InputContainer, stream: VideoStream) -> VideoInfo:
    context = stream.codec_context
    sides = context.width, context.height
    if min(sides) < 1 or max(sides) > MAX_SIDE_PX or context.width * context.height > MAX_PIXELS:
        raise UnreadableVideo(
            f"{uri}: the header claims an unsupported size of {context.width}x{context.height}; re-encode it",
            step="probe",
        )
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return VideoInfo(
        uri=uri,
        container=container.format.name,
        codec=context.codec.canonical_name,
        pix_fmt=context.pix_fmt or "",
        geometry=Geometry(context.width, context.height),
        fps=float(rate) if rate and rate * LONGEST_STILL_S > 1 else 25.0,
        duration=claimed_duration(container, stream),
        frames=stream.frames or None,
        duration_is_claimed=not clock_may_jump(container),  # such containers have no header with a duration
        time_base_num=stream.time_base.numerator if stream.time_base else None,
        time_base_den=stream.time_base.denominator if stream.time_base else None,
    )


def _pictures_from(
    place: _Place,
    seek: bool,
    frames: Frames,
    container: av.container.InputContainer,
    stream: VideoStream,
    errors: LibavErrors,
) -> Iterator[VideoFrame | None]:
    """Yield the decoded frames from this position on. Raises _MissedError if a seek does not lead there."""
    pictures = iter(frames)
    if seek:
        # after a seek in concatenated Ogg files, libav omits the later files
        if place.pts is None or place.hidden or container.format.name == "ogg":
            raise _MissedError
        try:
            container.seek(place.pts - round(_EARLIER_S / (stream.time_base or 1)), stream=stream)
        except av.error.FFmpegError as error:
            raise _MissedError from error
        for picture in pictures:
            if picture is not None and picture.pts is not None and picture.pts >= place.pts:
                if picture.pts > place.pts:
                    break
                yield picture
                yield from pictures
                return
            errors.told()  # discard errors of earlier frames: some cannot be decoded after the seek
        raise _MissedError
    passed = 0
    for picture in pictures:
        if passed >= place.ordinal:
            yield picture
        passed += picture is not None
