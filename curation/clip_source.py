"""A clip's way out of its source file: the packets from its keyframe on, or its frames one by one.

Times are seconds on the video's own clock (presentation time stamps, first frame at 0), as in the manifest.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import av
import av.container
import av.error
import fsspec
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curation.errors import CurationError
from curation.video.decoder import Decoder, pictures_of, says_no_times

SAME_TIME_S = 1e-4
_MAX_REORDERED = 16  # H.264 and HEVC let no more packets come before one that is shown earlier
_LEAD_S = 1.0  # copies look for their keyframe from so far ahead: demuxers seek by decoding time


class ClipError(CurationError):
    """This clip cannot be made into a file, or not in this way; the message says why."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What to cut out: `[start, end)` of a file, with `frames` frames of display size `width` x `height`."""

    uri: str
    start: float
    end: float
    frames: int
    fps: float
    width: int
    height: int
    starts_on_keyframe: bool


class Stopped(Exception):  # noqa: N818 - nothing went wrong: the clip is not wanted any more
    """Raised between two frames by whoever has the work stopped."""


Check = Callable[[], None]
"""Called between frames. It raises Stopped where the clip is not wanted any more."""


def wanted() -> None:
    """The check of a clip that is wanted to the end."""


class Missed(Exception):  # noqa: N818 - a turn in the road, never seen outside: the source is then read differently
    """Seeking led past the clip's first frame."""


@contextmanager
def opened(uri: str) -> Iterator[tuple[av.container.InputContainer, VideoStream, VideoFrame]]:
    """The file, its video stream and its first picture, whose time is the video's 0.

    Raises ClipError, also for what goes wrong with the file inside the block.
    """
    try:
        with (
            fsspec.open(uri, "rb") if "://" in uri else nullcontext(uri) as file,
            av.open(file, "r", metadata_errors="ignore") as container,
        ):
            if not container.streams.video or container.streams.video[0].codec_context is None:
                raise ClipError("the file holds no video that can be decoded")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            first = next(_pictures(container, stream), None)
            if first is None:
                raise ClipError("no frame of the file can be decoded")
            yield container, stream, first
    except (av.error.FFmpegError, OSError) as error:
        raise ClipError(f"the file cannot be cut: {getattr(error, 'strerror', None) or error}") from error


def _pictures(container: av.container.InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Every picture that decodes from here on; packets that do not are skipped, as curation skips them."""
    return (picture for picture in pictures_of(container, stream) if picture is not None)


def _rewind(container: av.container.InputContainer, stream: VideoStream, origin: int, ticks: int) -> None:
    """Go to a keyframe well before `ticks`, or to the first."""
    container.seek(max(origin, ticks - round(_LEAD_S / (stream.time_base or 1))), stream=stream)


def packets_of(
    container: av.container.InputContainer, stream: VideoStream, origin: int, start: int, end: int
) -> list[Packet]:
    """The packets from the keyframe at `start` on, in decoding order, as far as one before `end` can follow.

    `origin` is the first picture's time; all three in the stream's ticks. Raises ClipError where the container does not
    say where the clip's packets are.
    """
    if says_no_times(container, stream):
        raise ClipError("AVI does not say when its pictures are shown")
    _rewind(container, stream, origin, start)
    packets: list[Packet] = []
    beyond = 0
    for packet in container.demux(stream):
        if not packet.size or beyond > _MAX_REORDERED:
            break
        if packet.pts is None or packet.is_discard:
            raise ClipError("its packets lack time stamps, or an edit list hides some")
        beyond = beyond + 1 if packet.pts >= end else 0
        if packets and packet.pts > start:
            packets.append(packet)  # one before the start is a leading picture of an open group: not of this clip
        elif packet.pts == start:
            if not packet.is_keyframe:
                raise ClipError("the container knows of no keyframe at its start")
            packets.append(packet)
    if not packets:
        raise ClipError("the container knows of no packet at its start")
    return packets


def picture_at(
    container: av.container.InputContainer, stream: VideoStream, origin: int, start: int, check: Check = wanted
) -> VideoFrame:
    """The picture shown from `start` (in ticks) on, decoded from the source. Raises ClipError if there is none."""
    _rewind(container, stream, origin, start)
    for picture in _pictures(container, stream):
        check()
        if picture.pts is not None and picture.pts >= start:
            if picture.pts == start:
                return picture
            break
    raise ClipError("the source shows no frame at its start")


def frames_of(piece: Piece, seek: bool, check: Check = wanted) -> Iterator[tuple[float, VideoFrame]]:
    """(time, picture) of the clip's frames: from where the container seeks to, else read from the file's beginning.

    Raises Missed where seeking goes wrong, ClipError where the file cannot be read.
    """
    low, high = piece.start - SAME_TIME_S, piece.end - SAME_TIME_S
    if not seek:
        for frame in Decoder(piece.uri, threads=1):
            check()
            if frame.time >= high:
                return
            if frame.time >= low:
                yield frame.time, frame.picture
        return
    with opened(piece.uri) as (container, stream, first):
        if first.pts is None or stream.time_base is None:
            raise Missed
        container.seek(first.pts + round(piece.start / stream.time_base), stream=stream)
        last = -math.inf
        for i, picture in enumerate(_pictures(container, stream)):
            check()
            if picture.pts is None:
                raise Missed
            time = float((picture.pts - first.pts) * stream.time_base)
            if i == 0 and time > piece.start + SAME_TIME_S:
                raise Missed
            if time >= high:
                return
            if time >= low and time > last:
                yield time, picture
                last = time


def closed_prefix(times: Sequence[int], end: int) -> tuple[int, int]:
    """How many packets stand on their own before `end`, and the time at which the frame after them is due.

    `times` are presentation times in decoding order. A prefix is closed when all of its times precede all of the
    others': whatever it refers to lies within it, and it has no gap.
    """
    rest = [*np.minimum.accumulate(np.array([*times, end], np.int64)[::-1])[::-1].tolist()]
    kept, until, latest = 0, end, -math.inf
    for i, time in enumerate(times):
        latest = max(latest, time)
        if latest < rest[i + 1]:
            kept, until = i + 1, min(rest[i + 1], end)
        if latest >= end:
            break
    return kept, until
