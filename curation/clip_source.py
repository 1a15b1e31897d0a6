"""How a clip leaves its source file: the packets from its keyframe on, or its frames one by one.

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

_MAX_REORDERED = 16  # H.264 and HEVC let no more packets come before one that is shown earlier
_LEAD_S = 1.0  # copies look for their keyframe from so far ahead: demuxers seek by decoding time


class ClipError(CurationError):
    """This clip cannot be made into a file, or not in this way; the message says why."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What to cut out: `[start, end)` of a file, with `frames` frames of display size `width` x `height`.

    `start_pts` and `end_pts` are the time stamps that stand for its ends, None where frames cannot be found by their
    stamps.
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
    """Raised between two frames by whoever has the work stopped."""


Check = Callable[[], None]
"""Called between frames. It raises Stopped where the clip is not wanted any more."""


def wanted() -> None:
    """The check of a clip that is wanted to the end."""


@contextmanager
def source_of(piece: Piece) -> Iterator[tuple[av.container.InputContainer, VideoStream]]:
    """The piece's file, opened, and its film. Raises ClipError, also for what goes wrong inside the block."""
    try:
        with opened(piece.uri) as (container, stream):
            yield container, stream
    except (UnreadableVideo, av.error.FFmpegError, OSError) as error:
        raise ClipError(f"the file cannot be cut: {in_words(error)}") from error


def packets_of(container: av.container.InputContainer, stream: VideoStream, start: int, end: int) -> list[Packet]:
    """The packets from the keyframe at `start` on, in decoding order, as far as one before `end` can follow.

    Both are time stamps. Raises ClipError where the container does not say where the clip's packets are.
    """
    place = start - round(_LEAD_S / (stream.time_base or 1))
    if stream.start_time is None or place > stream.start_time:  # else the clip is near the file's beginning
        try:
            container.seek(place, stream=stream)
        except av.error.FFmpegError as error:
            raise ClipError("the container cannot be sought") from error
    packets: list[Packet] = []
    beyond = 0
    for packet in container.demux(stream):
        if not packet.size or beyond > _MAX_REORDERED:
            break
        if packet.pts is None or packet.is_discard:
            raise ClipError("its packets lack time stamps, or an edit list hides some")
        beyond = beyond + 1 if packet.pts >= end else 0
        if packets and packet.pts > start:
            packets.append(packet)  # one before the start is a leading frame of an open group: not of this clip
        elif packet.pts == start:
            if not packet.is_keyframe:
                raise ClipError("the container knows of no keyframe at its start")
            packets.append(packet)
    if not packets:
        raise ClipError("the container knows of no packet at its start")
    return packets


def frames_of(piece: Piece, check: Check = wanted) -> Iterator[Frame]:
    """The clip's frames. Raises ClipError where the file cannot be read."""
    try:
        for frame in Reader().read(piece.uri, piece.start, piece.end, (piece.start, piece.start_pts), check):
            if frame.time >= piece.start - SAME_TIME_S:
                yield frame
    except UnreadableVideo as error:
        raise ClipError(f"the file cannot be cut: {error}") from error


def first_frame(piece: Piece) -> Frame:
    """The frame at the clip's start. Raises ClipError if there is none."""
    frame = next(frames_of(piece), None)
    if frame is None or abs(frame.time - piece.start) > SAME_TIME_S:
        raise ClipError("the source shows no frame at its start")
    return frame


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
