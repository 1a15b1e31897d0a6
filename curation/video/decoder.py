"""One decode of a video: upright frames with their presentation times, cheap to look at in small.

Everything downstream sees time as seconds since the first frame, from presentation time stamps; frame numbers only
count decoded frames. Sizes are display sizes: rotated upright, with square pixels.
"""

import math
import os
import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction

import av
import av.container
import av.error
import fsspec.core
from av.codec.hwaccel import HWAccel
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curation.errors import UnreadableVideo
from curation.video import nvdec
from curation.video.damage import MARKING, Damage, LibavErrors
from curation.video.frame import Frame

_MAX_SIDE_PX = 16384
_MAX_PIXELS = 1 << 26  # 8192 x 8192: a picture takes 200 MB and more, and a decoder holds several
_LONGEST_STILL_S = 3600.0  # a picture that is shown for longer has a wrong time stamp
# A playlist, a list of files or a session description would have libav read what its author chose, for ever if he so
# chose; of pictures and texts it makes videos of one frame.
_OPTIONS = {
    "format_whitelist": "asf,avi,dv,flv,gif,h264,hevc,ivf,m4v,matroska,mov,mpeg,mpegts,mpegvideo,mxf,nut,obu,ogg,rm,"
    "wtv,yuv4mpegpipe",
    "protocol_whitelist": "file",
    "max_pixels": str(_MAX_PIXELS),
}
_EARLIER_S = 1.0  # a transport stream is sought by when packets come, which is before their pictures are shown
_MOST_THREADS = 16  # libav's, as it limits itself: each holds pictures


@dataclass(slots=True)
class VideoInfo:
    """What a file says of itself, and after the decode what was really there.

    `width` and `height` are the display size (upright, square pixels); `fps` is the average rate. `duration` (seconds)
    and `frames` are the container's claims until the decode has ended. `first_pts` is the first frame's time stamp, in
    units of the stream's time base (`time_base_num` / `time_base_den` seconds); None until it is decoded, and where it
    has none. `damage` holds the stretches, (start, end) in seconds, in which packets could not be decoded or pictures
    rest on ones that could not.
    """

    uri: str
    container: str
    codec: str
    pix_fmt: str
    width: int
    height: int
    coded_width: int
    coded_height: int
    rotation: int
    fps: float
    duration: float | None
    frames: int | None
    time_base_num: int | None = None
    time_base_den: int | None = None
    first_pts: int | None = None
    variable_rate: bool = False
    damage: list[tuple[float, float]] = field(default_factory=list)
    hidden: int = 0


def threads_for(cores: int) -> int:
    """How many threads of libav are for so many cores: one more than it takes by itself, with which the pass was faster
    on two cores."""
    return min(cores + 2, _MOST_THREADS) if cores > 1 else 1


@dataclass(slots=True)
class _Place:
    """How far a reading has come: `ordinal` pictures decoded, of which `index` are frames and `hidden` are shown for no
    time. The last frame is shown from `last` to `end`, in seconds; `gaps` are the least and the most seconds between
    two. `pts` is the time stamp of the picture that comes next, where the reading may go on from it."""

    ordinal: int = 0
    index: int = 0
    hidden: int = 0
    last: float = -1.0
    end: float = 0.0
    gaps: tuple[float, float] = math.inf, 0.0
    pts: int | None = None


class _SuspicionError(Exception):
    """One of the pictures after this place may be damaged."""

    def __init__(self, place: _Place) -> None:
        super().__init__()
        self.place = place


class _MissedError(Exception):
    """The container does not find the place."""


class Decoder:
    """Decodes a video once, from first to last frame.

    `info` is known at once; its `frames`, `duration`, `variable_rate`, `damage` and `hidden`, the number of frames that
    are shown for no time, are exact when iteration has ended.
    Packets that cannot be decoded are skipped: the frames that depend on them come with `damaged_from` set. A file
    without one picture raises UnreadableVideo. `threads` are libav's, 0 those of `threads_for` all cores; `decoder` is
    cpu or nvdec, which raises CurationError where there is no card. At the first sign of damage the keyframe before it
    is sought, and what follows is decoded in one thread: what is damaged does not depend on their number.
    """

    def __init__(self, uri: str, threads: int = 0, decoder: str = "cpu") -> None:
        self.uri = uri
        self.threads = threads or threads_for(os.cpu_count() or 1)
        self.decoder = decoder
        with _opened(uri) as (container, stream):
            self.info = _info(uri, container, stream)
        if self.info.codec == "vp8":  # says nothing of damage, and then gives other pictures with other threads
            self.threads = 1

    def __iter__(self) -> Iterator[Frame]:
        place, given = _Place(), 0
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

    def _frames(self, threads: int, place: _Place, seek: bool) -> Iterator[Frame]:
        """The frames from this place on, which is sought, or else counted from the beginning.

        Raises _MissedError where it is not to be sought, and, with several threads, _SuspicionError before the first
        frame that may be damaged.
        """
        info, at, sound = self.info, replace(place), place
        damage = Damage(info.damage, info.codec, max(0.0, place.last))
        acceleration = nvdec.acceleration() if self.decoder == "nvdec" else None
        with _decoding(self.uri, threads, acceleration) as (container, stream, errors):
            tick = float(stream.time_base or 0)
            for picture in _pictures_from(place, seek, container, stream, errors):
                told = errors.told()
                if threads > 1 and (picture is None or picture.is_corrupt or told):
                    raise _SuspicionError(sound)
                if picture is None or told - MARKING:
                    damage.lose()
                if picture is None:
                    continue
                picture = nvdec.planar(picture)  # noqa: PLW2901 - the same picture
                if at.index == 0:
                    self._see_first(picture, stream)
                time = at.end if picture.pts is None else (picture.pts - (info.first_pts or 0)) * tick
                before = replace(at, pts=picture.pts) if picture.key_frame else None
                at.ordinal += 1
                if time <= at.last:
                    at.hidden += 1  # a repeated or disordered time stamp
                    continue
                if time - at.end > _LONGEST_STILL_S:
                    damage.leap(at.end)
                elif at.index:
                    at.gaps = min(at.gaps[0], time - at.last), max(at.gaps[1], time - at.last)
                duration = picture.duration * tick
                if not 0 < duration <= _LONGEST_STILL_S:
                    duration = 1.0 / info.fps
                context = stream.codec_context
                damaged_from = damage.see(picture, time, at.end, context.reorder_depth + context.thread_count)
                if before and damaged_from is None:
                    sound = before
                yield Frame(
                    index=at.index,
                    time=time,
                    duration=duration,
                    keyframe=bool(picture.key_frame),
                    damaged_from=damaged_from,
                    picture=picture,
                    rotation=info.rotation,
                    width=info.width,
                    height=info.height,
                )
                at.index, at.last, at.end = at.index + 1, time, time + duration
            if threads > 1 and errors.told():
                raise _SuspicionError(sound)
        if at.index == 0:
            raise UnreadableVideo(f"{self.uri}: no frame could be decoded", step="decode")
        damage.finish(at.end)
        info.frames, info.hidden = at.index, at.hidden
        info.duration = at.end
        info.fps = at.index / at.end
        # time stamps of a constant rate wobble by rounding to the time base, at most a millisecond or two
        info.variable_rate = at.index > 2 and at.gaps[1] - at.gaps[0] > max(0.004, 0.1 * at.gaps[0])

    def _see_first(self, picture: VideoFrame, stream: VideoStream) -> None:
        info = self.info
        info.first_pts = picture.pts
        info.rotation = round(picture.rotation) % 360
        info.width, info.height = _display_size(stream, picture, info.rotation)
        info.pix_fmt = picture.format.name


def ahead(frames: Iterable[Frame], depth: int = 4, patience_s: float | None = None) -> Iterator[Frame]:
    """The same frames, decoded by a thread of its own up to `depth` frames ahead: libav works while Python does.

    Raises UnreadableVideo when a frame takes longer than `patience_s`, and leaves the thread to itself.
    """
    ready: queue.SimpleQueue[Frame | BaseException | None] = queue.SimpleQueue()
    room = threading.Semaphore(depth)
    stop = threading.Event()

    def work() -> None:
        try:
            for frame in frames:
                room.acquire()
                if stop.is_set():
                    return
                ready.put(frame)
            ready.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again by the reader
            ready.put(error)

    thread, stalled = threading.Thread(target=work, daemon=True), False
    thread.start()
    try:
        while (item := ready.get(timeout=patience_s)) is not None:
            if isinstance(item, BaseException):
                raise item
            room.release()
            yield item
    except queue.Empty:
        stalled = True
        raise UnreadableVideo(f"no frame came for {patience_s:g} s", step="decode") from None
    finally:
        stop.set()
        room.release()
        if not stalled:
            thread.join()


@contextmanager
def _opened(uri: str, acceleration: HWAccel | None = None) -> Iterator[tuple[av.container.InputContainer, VideoStream]]:
    """Open `uri` (a local path, or any fsspec URL) for reading. Raises UnreadableVideo with a readable reason."""
    handle = None
    try:
        if "://" in uri:
            store, path = fsspec.core.url_to_fs(uri)
            handle = store.open(path, "rb")
        container = av.open(handle or uri, "r", metadata_errors="ignore", hwaccel=acceleration, options=_OPTIONS)
    except (av.error.FFmpegError, OSError, ValueError, ImportError) as error:
        if handle is not None:
            handle.close()
        raise UnreadableVideo(f"{uri}: {_reason(error)}", step="open") from error
    try:
        if not container.streams.video:
            kinds = sorted({s.type for s in container.streams}) or ["nothing"]
            raise UnreadableVideo(f"{uri}: no video stream (the file holds {' and '.join(kinds)})", step="probe")
        yield container, container.streams.video[0]
    finally:
        container.close()
        if handle is not None:
            handle.close()


@contextmanager
def _decoding(
    uri: str, threads: int, acceleration: HWAccel | None
) -> Iterator[tuple[av.container.InputContainer, VideoStream, LibavErrors]]:
    """The same, to be decoded by so many threads, and what libav tells of errors."""
    with _opened(uri, acceleration) as (container, stream), LibavErrors() as errors:
        context = stream.codec_context
        stream.thread_type = "AUTO"
        context.thread_count = threads
        context.options = {"max_pixels": _OPTIONS["max_pixels"]}
        try:
            yield container, stream, errors
        finally:
            context.flush_buffers()


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, av.error.EOFError):
        return "the file is empty or ends too early"
    if isinstance(error, av.error.InvalidDataError | av.error.ArgumentError):
        return "not a video that can be read (damaged, truncated before its index, or not a video at all)"
    return str(error)


def _info(uri: str, container: av.container.InputContainer, stream: VideoStream) -> VideoInfo:
    context = stream.codec_context
    if context is None:
        raise UnreadableVideo(f"{uri}: no decoder for its codec", step="probe")
    sides = context.width, context.height
    if min(sides) < 1 or max(sides) > _MAX_SIDE_PX or context.width * context.height > _MAX_PIXELS:
        raise UnreadableVideo(f"{uri}: the header claims a size of {context.width}x{context.height}", step="probe")
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    duration = None
    if stream.duration is not None and stream.time_base is not None:
        duration = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        duration = container.duration / av.time_base
    return VideoInfo(
        uri=uri,
        container=container.format.name,
        codec=context.name,
        pix_fmt=context.pix_fmt or "",
        width=context.width,
        height=context.height,
        coded_width=context.width,
        coded_height=context.height,
        rotation=0,
        fps=float(rate) if rate and rate * _LONGEST_STILL_S > 1 else 25.0,
        duration=duration,
        frames=stream.frames or None,
        time_base_num=stream.time_base.numerator if stream.time_base else None,
        time_base_den=stream.time_base.denominator if stream.time_base else None,
    )


def pictures_of(container: av.container.InputContainer, stream: VideoStream) -> Iterator[VideoFrame | None]:
    """Every picture that decodes, in the order in which they are shown; None in place of a packet that does not."""
    packets, no_times = container.demux(stream), says_no_times(container, stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, IndexError):  # PyAV's at the end, where streams have appeared on the way
            return
        except av.error.FFmpegError:
            yield None
            return
        if packet.is_corrupt:
            yield None  # the container missed a piece of it
        try:
            for picture in packet.decode():
                if no_times:
                    picture.pts = picture.dts
                yield picture
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            yield None


def says_no_times(container: av.container.InputContainer, stream: VideoStream) -> bool:
    """Whether the container says in which order pictures are coded, and not when they are shown.

    So it is with AVI. Where B pictures are coded out of order, H.264's decoder then gives times out of order; the
    decoding times that it hands on pass evenly, and serve.
    """
    context = stream.codec_context
    return container.format.name == "avi" and context.name in {"h264", "hevc"} and context.reorder_depth > 0


def _pictures_from(
    place: _Place, seek: bool, container: av.container.InputContainer, stream: VideoStream, errors: LibavErrors
) -> Iterator[VideoFrame | None]:
    """The same, from this place on. Raises _MissedError where seeking does not lead there."""
    pictures = pictures_of(container, stream)
    if seek:
        if place.pts is None or place.hidden:
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
            errors.told()  # of pictures before the place, some of which cannot be decoded from where seeking led
        raise _MissedError
    passed = 0
    for picture in pictures:
        if passed >= place.ordinal:
            yield picture
        passed += picture is not None


def _display_size(stream: VideoStream, picture: VideoFrame, rotation: int) -> tuple[int, int]:
    aspect = stream.sample_aspect_ratio or Fraction(1)
    width = max(1, round(picture.width * float(aspect))) if aspect > 0 else picture.width
    return (picture.height, width) if rotation % 180 else (width, picture.height)
