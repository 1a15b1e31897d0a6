"""One decode of a video: upright frames with their presentation times, cheap to look at in small.

Everything downstream sees time as seconds since the first frame, from presentation time stamps; frame numbers only
count decoded frames. Sizes are display sizes: rotated upright, with square pixels.
"""

import math
import os
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction

import av
import av.container
import av.error
import fsspec.core
from av.codec.hwaccel import HWAccel
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from curation import nvdec
from curation.errors import UnreadableVideo
from curation.frame import Frame

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
_MOST_THREADS = 16  # libav's, as it limits itself: each holds pictures
_LONGEST_B_RUN = 16  # pictures; what H.264 and HEVC may keep back to bring them in order


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
    """How many threads of libav are for so many cores: as many as it takes by itself.

    One more is faster on two cores. But then more signs of damage are missed: see `_Damage`.
    """
    return min(cores + 1, _MOST_THREADS) if cores > 1 else 1


class Decoder:
    """Decodes a video once, from first to last frame.

    `info` is known at once; its `frames`, `duration`, `variable_rate`, `damage` and `hidden`, the number of frames that
    are shown for no time, are exact when iteration has ended.
    Packets that cannot be decoded are skipped: the frames that depend on them come with `damaged_from` set. A file
    without one picture raises UnreadableVideo. `threads` are libav's, 0 those of `threads_for` all cores; `decoder` is
    cpu or nvdec, which raises CurationError where there is no card.
    """

    def __init__(self, uri: str, threads: int = 0, decoder: str = "cpu") -> None:
        self.uri = uri
        self.threads = threads or threads_for(os.cpu_count() or 1)
        self.decoder = decoder
        with _opened(uri) as (container, stream):
            self.info = _info(uri, container, stream)

    def __iter__(self) -> Iterator[Frame]:
        info = self.info
        damage = _Damage(info.damage)
        acceleration = nvdec.acceleration() if self.decoder == "nvdec" else None
        with _opened(self.uri, acceleration) as (container, stream):
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = self.threads
            stream.codec_context.options = {"max_pixels": _OPTIONS["max_pixels"]}
            tick = float(stream.time_base or 0)
            index, origin, end, last, gaps = 0, 0.0, 0.0, -1.0, (math.inf, 0.0)
            for picture in _pictures(container, stream):
                if picture is None:
                    damage.lose()
                    continue
                picture = nvdec.planar(picture)  # noqa: PLW2901 - the same picture
                if index == 0:
                    origin = (picture.pts or 0) * tick
                    info.first_pts = picture.pts
                    info.rotation = round(picture.rotation) % 360
                    info.width, info.height = _display_size(stream, picture, info.rotation)
                    info.pix_fmt = picture.format.name
                time = end if picture.pts is None else picture.pts * tick - origin
                if time <= last:
                    info.hidden += 1  # a frame shown for no time: a repeated or disordered time stamp
                    continue
                if time - end > _LONGEST_STILL_S:
                    damage.leap(end)
                elif index:
                    gaps = min(gaps[0], time - last), max(gaps[1], time - last)
                duration = picture.duration * tick
                if not 0 < duration <= _LONGEST_STILL_S:
                    duration = 1.0 / info.fps
                context = stream.codec_context
                yield Frame(
                    index=index,
                    time=time,
                    duration=duration,
                    keyframe=bool(picture.key_frame),
                    damaged_from=damage.see(picture, time, end, context.reorder_depth + context.thread_count),
                    picture=picture,
                    rotation=info.rotation,
                    width=info.width,
                    height=info.height,
                )
                index, last, end = index + 1, time, time + duration
        if index == 0:
            raise UnreadableVideo(f"{self.uri}: no frame could be decoded", step="decode")
        damage.finish(end)
        info.frames = index
        info.duration = end
        info.fps = index / end
        # time stamps of a constant rate wobble by rounding to the time base, at most a millisecond or two
        info.variable_rate = index > 2 and gaps[1] - gaps[0] > max(0.004, 0.1 * gaps[0])


class _Damage:
    """Follows damage from its first sign to the next keyframe that was decoded after it. What neither the container
    nor the decoder notices (a flipped bit that is valid syntax, packets that AVI lost) shows no sign.

    What the decoder notices may be missed as well where it has several threads: probably a picture is handed over with
    the errors noted so far while another thread still decodes it. Of 120 passes over a file with a hole, on a loaded
    machine, none was without a sign with one thread or two, one with three, eleven with four."""

    def __init__(self, stretches: list[tuple[float, float]]) -> None:
        self._stretches = stretches
        self._since: float | None = None
        self._lost = False
        self._pictures = 0  # seen since the last sign
        self._b_run: deque[float] = deque(maxlen=_LONGEST_B_RUN)  # times of the B pictures just before

    def lose(self) -> None:
        """A packet gave no picture."""
        self._lost, self._pictures = True, 0

    def leap(self, end: float) -> None:
        """The time stamps leave the place that they had come to by `end`."""
        self._since = end if self._since is None else self._since
        self._pictures = -1  # the picture that leapt is no sound one yet

    def see(self, picture: VideoFrame, time: float, end: float, delay: int) -> float | None:
        """The time from which pictures are damaged, this one included; None if it is sound. `end` is when the picture
        before it ended, `delay` how many pictures may lie between their packet and their turn."""
        if self._since is None and self._lost:
            self._since = min(time, end)
        elif self._since is None and picture.is_corrupt:
            # B pictures shown before it may have been predicted from it
            self._since = self._b_run[0] if self._b_run else time
        self._lost = False
        self._pictures = 0 if picture.is_corrupt else self._pictures + 1
        if picture.pict_type == PictureType.B:
            self._b_run.append(time)
        else:
            self._b_run.clear()
        # a keyframe that comes sooner may have been decoded before the damage, and only be shown after it
        if self._since is not None and picture.key_frame and self._pictures > delay:
            self._stretches.append((self._since, time))
            self._since = None
        return self._since

    def finish(self, end: float) -> None:
        """The video ends here."""
        if self._since is not None or self._lost:
            self._stretches.append((end if self._since is None else self._since, end))


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


def _pictures(container: av.container.InputContainer, stream: VideoStream) -> Iterator[VideoFrame | None]:
    """Every picture that decodes, in the order in which they are shown; None in place of a packet that does not."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError:
            yield None
            return
        if packet.is_corrupt:
            yield None  # the container missed a piece of it
        try:
            yield from packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            yield None


def _display_size(stream: VideoStream, picture: VideoFrame, rotation: int) -> tuple[int, int]:
    aspect = stream.sample_aspect_ratio or Fraction(1)
    width = max(1, round(picture.width * float(aspect))) if aspect > 0 else picture.width
    return (picture.height, width) if rotation % 180 else (width, picture.height)
