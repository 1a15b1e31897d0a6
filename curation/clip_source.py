"""Read a clip from its source file, either as packets from its keyframe on or as decoded frames.

Times are seconds on the video's own clock (first frame at 0), as in the manifest.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import av
import av.container
import av.error
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from curation.errors import CurationError, UnreadableVideo, in_words
from curation.video.container import opened
from curation.video.frame import Frame
from curation.video.reader import SAME_TIME_S, Reader

_MAX_REORDERED = 16  # H.264 and HEVC reorder at most this many frames
_LEAD_S = 1.0  # seek this much before the keyframe: demuxers seek by decoding time


class ClipError(CurationError):
    """This clip cannot be exported, or not in this mode; the message says why."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The interval `[start, end)` of a file to cut out, with `frames` frames of display size `width` x `height`.

    `start_pts` and `end_pts` are the time stamps of its start and end; None if frames cannot be found by their stamps.
    """

    uri: str
    start: float
    end: float
    frames: int
    fps: float
    width: int
    height: int
    starts_on_keyframe: bool
    start_pts: int | None = None
    end_pts: int | None = None


class Stopped(Exception):  # noqa: N818 - nothing went wrong: the clip is not wanted any more
    """Raised by a check to cancel the export of a clip."""


Check = Callable[[], None]
"""Called between frames. It raises Stopped to cancel the clip."""


def wanted() -> None:
    """Default check: never cancel."""


@contextmanager
def source_of(piece: Piece) -> Iterator[tuple[av.container.InputContainer, VideoStream]]:
    """Open the piece's file, and yield its container and main video stream.

    Raises ClipError if the file cannot be opened, and for reading errors inside the `with` block.
    """
    try:
        with opened(piece.uri) as (container, stream):
            yield container, stream
    except (UnreadableVideo, av.error.FFmpegError, OSError) as error:
        raise ClipError(f"the file cannot be cut: {in_words(error)}") from error


def packets_of(container: av.container.InputContainer, stream: VideoStream, start: int, end: int) -> list[Packet]:
    """Return the packets from the keyframe at `start` on, in decoding order.

    The result also holds packets after `end`, as far as reordering may put a frame of the clip behind them. `start` and
    `end` are time stamps. Raises ClipError if the container does not show where the clip's packets are.
    """
    place = start - round(_LEAD_S / (stream.time_base or 1))
    if stream.start_time is None or place > stream.start_time:  # near the beginning, no seek is needed
        try:
            container.seek(place, stream=stream)
        except av.error.FFmpegError as error:
            raise ClipError("the container does not support seeking; re-encode the clip") from error
    packets: list[Packet] = []
    beyond = 0
    for packet in container.demux(stream):
        if not packet.size or beyond > _MAX_REORDERED:
            break
        if packet.pts is None or packet.is_discard:
            raise ClipError("its packets lack time stamps, or an edit list hides some of them; re-encode the clip")
        beyond = beyond + 1 if packet.pts >= end else 0
        if packets and packet.pts > start:
            packets.append(packet)  # packets with an earlier pts are leading frames of an open GOP
        elif packet.pts == start:
            if not packet.is_keyframe:
                raise ClipError("the container has no keyframe at its start; re-encode the clip")
            packets.append(packet)
    if not packets:
        raise ClipError("the container has no packet at its start; re-encode the clip")
    return packets


def frames_of(piece: Piece, check: Check = wanted) -> Iterator[Frame]:
    """Yield the clip's frames. Raises ClipError if the file cannot be read."""
    try:
        for frame in Reader().read(piece.uri, piece.start, piece.end, (piece.start, piece.start_pts), check):
            if frame.time >= piece.start - SAME_TIME_S:
                yield frame
    except UnreadableVideo as error:
        raise ClipError(f"the file cannot be cut: {error}") from error


def first_frame(piece: Piece) -> Frame:
    """Return the frame at the clip's start. Raises ClipError if there is none."""
    frame = next(frames_of(piece), None)
    if frame is None or abs(frame.time - piece.start) > SAME_TIME_S:
        raise ClipError("the source has no frame at its start")
    return frame


def closed_prefix(times: Sequence[int], end: int) -> tuple[int, int]:
    """Return the length of the longest closed prefix before `end`, and the time of the first frame after it.

    `times` are presentation times in decoding order. A prefix is closed if all of its times precede all other times.
    Such a prefix can be decoded without later packets, and no frame is missing within it.
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
