"""Frames at exact presentation times: decord where it can, PyAV where it must, the same pixels from both.

Time is seconds since a video's first frame. The frame at time t is the last one that starts at or before t.
"""

import importlib.util
import logging
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import av
import av.container
import av.error
import fsspec
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from training.errors import TrainingError

log = logging.getLogger(__name__)
TOLERANCE_S = 1e-3  # decord's time stamps are float32: 0.2 ms off after an hour
_OPEN_READERS = 8


@dataclass
class FrameReader:
    """Reads frames as RGB uint8 of one size: scaled to cover `height` x `width`, cropped at the centre.

    `failures` counts, per reason, the reads that decord could not do and PyAV did.
    """

    height: int
    width: int
    decord: bool = field(default_factory=lambda: importlib.util.find_spec("decord") is not None)
    failures: Counter[str] = field(default_factory=Counter)
    _readers: OrderedDict[str, tuple[Any, np.ndarray]] = field(default_factory=OrderedDict, repr=False)

    def at(self, uri: str, times: np.ndarray, aspect: float) -> np.ndarray:
        """Frames shown at `times` (n,), rising seconds: uint8 (n, height, width, 3).

        `aspect` is the display width over the display height. Raises TrainingError where the file cannot be read.
        """
        if self.decord and "://" not in uri:
            try:
                return self._fit(self._decord(uri, times), aspect)
            except Exception as error:  # noqa: BLE001 - a C++ library's errors; PyAV says what is really wrong
                self._readers.pop(uri, None)
                reason = type(error).__name__
                self.failures[reason] += 1
                log.warning("decord could not read %s (%s), PyAV takes over", uri, reason)
        frames, starts = _pyav_span(uri, float(times[0]), float(times[-1]) + 2 * TOLERANCE_S)
        return self._fit([frames[i] for i in _shown(starts, times)], aspect)

    def span(self, uri: str, start: float, end: float, aspect: float) -> tuple[np.ndarray, np.ndarray]:
        """Every frame that starts in [start, end): uint8 (n, height, width, 3) and start times (n,), one pass.

        Raises TrainingError where the file cannot be read.
        """
        frames, starts = _pyav_span(uri, start, end, fit=lambda rgb: self._fit([rgb], aspect)[0])
        inside = [i for i, t in enumerate(starts) if t > start - TOLERANCE_S] or [len(starts) - 1]
        return np.stack([frames[i] for i in inside]), np.array([starts[i] for i in inside])

    def _decord(self, uri: str, times: np.ndarray) -> list[np.ndarray]:
        if uri not in self._readers:
            from decord import VideoReader, cpu

            reader = VideoReader(uri, ctx=cpu(0), num_threads=1)
            starts = reader.get_frame_timestamp(range(len(reader)))[:, 0].astype(np.float64)
            self._readers[uri] = reader, starts - starts[0]
            if len(self._readers) > _OPEN_READERS:
                self._readers.popitem(last=False)
        self._readers.move_to_end(uri)
        reader, starts = self._readers[uri]
        return list(reader.get_batch(_shown(starts, times)).asnumpy())

    def _fit(self, frames: list[np.ndarray], aspect: float) -> np.ndarray:
        """Scale and crop in one resampling, undoing non-square pixels on the way."""
        out = np.empty((len(frames), self.height, self.width, 3), np.uint8)
        target = self.width / self.height
        for i, frame in enumerate(frames):
            h, w = frame.shape[:2]
            box_w, box_h = (w * target / aspect, h) if aspect > target else (w, h * aspect / target)
            left, top = (w - box_w) / 2, (h - box_h) / 2
            picture = Image.fromarray(frame).resize(
                (self.width, self.height), Image.Resampling.BICUBIC, (left, top, left + box_w, top + box_h)
            )
            out[i] = np.asarray(picture)
        return out


def aspect_of(uri: str) -> float:
    """Display width over display height of a video's first picture, upright. Raises TrainingError where it has none."""
    try:
        with _opened(uri) as (container, stream):
            picture = next(_decode(container, stream), None)
            if picture is None:
                raise ValueError("no picture decodes")
            aspect = picture.width * float(stream.sample_aspect_ratio or 1) / picture.height
            return 1 / aspect if round(picture.rotation / 90) % 2 else aspect
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise TrainingError(f"{uri}: cannot be read ({error})") from error


def _shown(starts: Any, times: np.ndarray) -> list[int]:
    """Index of the frame that is on screen at each time."""
    return list(np.maximum(np.searchsorted(np.asarray(starts), np.asarray(times) + TOLERANCE_S, "right") - 1, 0))


def _pyav_span(uri: str, start: float, end: float, fit: Any = None) -> tuple[list[np.ndarray], list[float]]:
    """Upright frames, through `fit`, from the one shown at `start` to the last that starts before `end`."""
    try:
        for seek in (True, False):
            frames, starts = [], []
            with _opened(uri) as (container, stream):
                for time, picture in _pictures(container, stream, start if seek else None):
                    if not starts and seek and time > start + TOLERANCE_S:
                        break  # an index that lies: read from the beginning
                    if frames and time <= start + TOLERANCE_S:
                        frames, starts = [], []  # still ahead of what is wanted
                    if starts and time >= end - TOLERANCE_S:
                        return frames, starts
                    rgb = np.rot90(picture.to_ndarray(format="rgb24"), round(picture.rotation / 90) % 4)
                    rgb = np.ascontiguousarray(rgb)
                    frames.append(fit(rgb) if fit else rgb)
                    starts.append(time)
            if frames:
                return frames, starts
    except (av.error.FFmpegError, OSError, ValueError, ImportError) as error:
        raise TrainingError(f"{uri}: cannot be read ({error}); select again without it") from error
    raise TrainingError(f"{uri}: no frame between {start:.3f} s and {end:.3f} s; select again without it")


def _pictures(
    container: av.container.InputContainer, stream: VideoStream, seek: float | None
) -> Iterator[tuple[float, VideoFrame]]:
    """(seconds since the first frame, picture) in order, from a keyframe at or before `seek` where that is given."""
    stream.thread_type = "SLICE"  # frame threads answer late, which costs more than it gives after a seek
    origin, step = None, 1 / float(stream.average_rate or 25)
    last: float | None = None
    for picture in _decode(container, stream):
        if origin is None:
            origin = picture.time or 0.0
            if seek is not None and seek > step and picture.time is not None and stream.time_base:
                container.seek(int((origin + seek) / stream.time_base), stream=stream)
                break
        time = picture.time - origin if picture.time is not None else (last or 0.0) + step
        if last is None or time > last:  # repeated or disordered stamps show nothing
            yield time, picture
            last = time
    else:
        return
    for picture in _decode(container, stream):
        if picture.time is not None and (last is None or picture.time - origin > last):
            last = picture.time - origin
            yield last, picture


def _decode(container: av.container.InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Every picture that decodes; packets that do not are skipped, as curation skips them."""
    packets, context = container.demux(stream), stream.codec_context
    # AVI says in which order pictures are coded, not when they are shown: decoding times serve, as in curation
    no_times = container.format.name == "avi" and context.name in {"h264", "hevc"} and context.reorder_depth > 0
    while True:
        try:
            packet = next(packets)
        except (StopIteration, IndexError, av.error.FFmpegError):  # IndexError: streams have appeared on the way
            return
        try:
            for picture in packet.decode():
                if no_times:
                    picture.pts = picture.dts
                yield picture
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            continue


@contextmanager
def _opened(uri: str) -> Iterator[tuple[av.container.InputContainer, VideoStream]]:
    with fsspec.open(uri, "rb") if "://" in uri else open(uri, "rb") as handle:  # noqa: PTH123
        container = av.open(handle, "r", metadata_errors="ignore")
        try:
            if not container.streams.video:
                raise ValueError("no video stream")
            yield container, container.streams.video[0]
        finally:
            container.close()
