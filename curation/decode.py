"""One decode of a video: upright frames with their presentation times, cheap to look at in small.

Everything downstream sees time as seconds since the first frame, from presentation time stamps; frame numbers only
count decoded frames. Sizes are display sizes: rotated upright, with square pixels.
"""

import math
import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction

import av
import av.container
import av.error
import cv2
import fsspec.core
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curation.errors import UnreadableVideo

_PLANAR_8BIT = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray"}
_FULL_RANGE = {"yuvj420p", "yuvj422p", "yuvj444p"}
_TO_VIDEO_RANGE = np.round(16 + np.arange(256) * 219 / 255).astype(np.uint8)
_MAX_SIDE_PX = 16384


@dataclass(slots=True)
class VideoInfo:
    """What a file says of itself, and after the decode what was really there.

    `width` and `height` are the display size (upright, square pixels); `fps` is the average rate. `duration` (seconds)
    and `frames` are the container's claims until the decode has ended. `damage` holds times near which packets could
    not be decoded.
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
    variable_rate: bool = False
    damage: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Frame:
    """A decoded frame: `index` in presentation order, `time` and `duration` in seconds, first frame at 0."""

    index: int
    time: float
    duration: float
    keyframe: bool
    picture: VideoFrame
    rotation: int
    width: int
    height: int

    def small_bgr(self, width: int) -> np.ndarray:
        """BGR uint8 (h, w, 3) of about `width` columns (never enlarged), straight from the planes; for detectors."""
        w, h = self._scaled(min(1.0, width / self.width))
        w, h = max(2, w & ~1), max(2, h & ~1)
        return _upright(cv2.cvtColor(self._i420(*self._stored(w, h)), cv2.COLOR_YUV2BGR_I420), self.rotation)

    def gray(self, short_side: int) -> np.ndarray:
        """Luma uint8 (h, w), scaled to `short_side` (never enlarged), for optical flow."""
        w, h = self._scaled(min(1.0, short_side / min(self.width, self.height)))
        small = _reduced(self._planes()[0], *self._stored(w, h))
        return np.ascontiguousarray(_upright(small, self.rotation))

    def rgb(self, long_side: int) -> np.ndarray:
        """RGB uint8 (h, w, 3), long side at most `long_side` (never enlarged)."""
        w, h = self._stored(*self._scaled(min(1.0, long_side / max(self.width, self.height))))
        picture = self.picture.reformat(width=w, height=h, format="rgb24", interpolation="AREA")
        return np.ascontiguousarray(_upright(picture.to_ndarray(), self.rotation))

    def _scaled(self, factor: float) -> tuple[int, int]:
        return max(1, round(self.width * factor)), max(1, round(self.height * factor))

    def _stored(self, width: int, height: int) -> tuple[int, int]:
        """Upright (width, height) as it lies in the unrotated picture."""
        return (height, width) if self.rotation % 180 else (width, height)

    def _planes(self) -> list[np.ndarray]:
        picture = self.picture
        if picture.format.name not in _PLANAR_8BIT:
            picture = picture.reformat(format="yuv420p")
        return [
            np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
            for plane in picture.planes
        ]

    def _i420(self, width: int, height: int) -> np.ndarray:
        """The picture scaled to an even (width, height) as planar YUV 4:2:0 in video range, (h * 3 / 2, w)."""
        planes = self._planes()
        luma = _reduced(planes[0], width, height)
        if self.picture.format.name in _FULL_RANGE or self.picture.format.name == "gray":
            luma = cv2.LUT(luma, _TO_VIDEO_RANGE)
        out = np.full((height * 3 // 2, width), 128, np.uint8)
        out[:height] = luma
        chroma = out[height:].reshape(2, height // 2, width // 2)
        for i, plane in enumerate(planes[1:3]):
            chroma[i] = _reduced(plane, width // 2, height // 2)
        return out


class Decoder:
    """Decodes a video once, from first to last frame.

    `info` is known at once; its `frames`, `duration`, `variable_rate` and `damage` are exact when iteration has ended.
    Packets that cannot be decoded are skipped and noted in `info.damage`; a file without one good frame raises
    UnreadableVideo.
    """

    def __init__(self, uri: str, threads: int = 0) -> None:
        self.uri = uri
        self.threads = threads
        with _opened(uri) as (container, stream):
            self.info = _info(uri, container, stream)

    def __iter__(self) -> Iterator[Frame]:
        info = self.info
        with _opened(self.uri) as (container, stream):
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = self.threads
            index, last, gaps = 0, None, (math.inf, 0.0)
            for picture, origin in _pictures(container, stream, info.damage):
                time = _seconds(picture)
                if time is None:
                    time = last.time + last.duration if last else 0.0
                else:
                    time -= origin
                if last is not None and time <= last.time:
                    continue  # a frame shown for no time: a repeated or disordered time stamp
                if index == 0:
                    info.rotation = round(picture.rotation) % 360
                    info.width, info.height = _display_size(stream, picture, info.rotation)
                    info.pix_fmt = picture.format.name
                elif last is not None:
                    gaps = min(gaps[0], time - last.time), max(gaps[1], time - last.time)
                last = Frame(
                    index=index,
                    time=time,
                    duration=_duration(picture, info.fps),
                    keyframe=bool(picture.key_frame),
                    picture=picture,
                    rotation=info.rotation,
                    width=info.width,
                    height=info.height,
                )
                yield last
                index += 1
        if last is None:
            raise UnreadableVideo(f"{self.uri}: no frame could be decoded", step="decode")
        info.frames = index
        info.duration = last.time + last.duration
        info.fps = index / info.duration
        # time stamps of a constant rate wobble by rounding to the time base, at most a millisecond or two
        info.variable_rate = index > 2 and gaps[1] - gaps[0] > max(0.004, 0.1 * gaps[0])


@contextmanager
def _opened(uri: str) -> Iterator[tuple[av.container.InputContainer, VideoStream]]:
    """Open `uri` (a local path, or any fsspec URL) for reading. Raises UnreadableVideo with a readable reason."""
    handle = None
    try:
        if "://" in uri:
            store, path = fsspec.core.url_to_fs(uri)
            handle = store.open(path, "rb")
        container = av.open(handle or uri, "r", metadata_errors="ignore")
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
    if isinstance(error, av.error.InvalidDataError):
        return "not a video that can be read (damaged, truncated before its index, or not a video at all)"
    return str(error)


def _info(uri: str, container: av.container.InputContainer, stream: VideoStream) -> VideoInfo:
    context = stream.codec_context
    if context is None:
        raise UnreadableVideo(f"{uri}: no decoder for its codec", step="probe")
    if not 0 < context.width <= _MAX_SIDE_PX or not 0 < context.height <= _MAX_SIDE_PX:
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
        fps=float(rate) if rate else 25.0,
        duration=duration,
        frames=stream.frames or None,
    )


def ahead(frames: Iterable[Frame], depth: int = 4) -> Iterator[Frame]:
    """The same frames, decoded by a thread of its own up to `depth` frames ahead: libav works while Python does."""
    waiting: queue.Queue[Frame | BaseException | None] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: Frame | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for frame in frames:
                if not put(frame):
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - raised again by the reader
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _pictures(
    container: av.container.InputContainer, stream: VideoStream, damage: list[float]
) -> Iterator[tuple[VideoFrame, float]]:
    """Every picture that decodes, with the time of the first; undecodable packets are noted in `damage`."""
    origin, now = None, 0.0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError:
            damage.append(now)
            return
        try:
            pictures = packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            damage.append(now)
            continue
        for picture in pictures:
            time = _seconds(picture)
            if origin is None:
                origin = time or 0.0
            if time is not None:
                now = time - origin
            if picture.is_corrupt:
                damage.append(now)
            yield picture, origin


def _seconds(picture: VideoFrame) -> float | None:
    if picture.pts is None or picture.time_base is None:
        return None
    return float(picture.pts * picture.time_base)


def _duration(picture: VideoFrame, fps: float) -> float:
    if picture.duration and picture.time_base is not None:
        return float(picture.duration * picture.time_base)
    return 1.0 / fps


def _display_size(stream: VideoStream, picture: VideoFrame, rotation: int) -> tuple[int, int]:
    aspect = stream.sample_aspect_ratio or Fraction(1)
    width = max(1, round(picture.width * float(aspect))) if aspect > 0 else picture.width
    return (picture.height, width) if rotation % 180 else (width, picture.height)


def _reduced(plane: np.ndarray, width: int, height: int) -> np.ndarray:
    """The plane at a smaller size: halved as often as it goes, which OpenCV does several times faster than one mean
    over odd areas, then bilinear."""
    while plane.shape[0] >= 2 * height and plane.shape[1] >= 2 * width:
        half = plane.shape[1] // 2, plane.shape[0] // 2
        plane = cv2.resize(plane[: 2 * half[1], : 2 * half[0]], half, interpolation=cv2.INTER_AREA)
    return cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)


def _upright(pixels: np.ndarray, rotation: int) -> np.ndarray:
    """Turn stored pixels upright. `rotation` is PyAV's: degrees counter-clockwise that the picture must be turned."""
    return np.rot90(pixels, k=rotation // 90) if rotation else pixels
