"""Read an interval of a video: exactly the frames that a decode from its beginning gives.

A seek can go wrong: containers may seek to a different position than requested, and frames right after a seek may
depend on frames that were not decoded. The result of a seek is therefore used only if all of these conditions hold;
otherwise the file is read from its beginning:

- The manifest says that the video's frames can be found by their time stamps (`start_pts` is not null).
- A keyframe was decoded at or before the start of the interval. Frames shown before this keyframe are not used.
- From that keyframe on, libav reports no error, no frame is marked as damaged, and time stamps need no repair.
"""

import math
from collections.abc import Callable, Iterator

import av.container
import av.error
from av.container.core import Flags as ContainerFlags
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curation.video.container import Frames, clock_may_jump
from curation.video.damage import LibavErrors
from curation.video.decoder import Decoder, decoding
from curation.video.frame import Frame
from curation.video.geometry import Shape
from curation.video.timeline import Stamped, Timeline, first_stamp

SAME_TIME_S = 1e-4
"""Times that differ by less than this are treated as equal."""
Origin = tuple[float, int | None]
"""A time in seconds and its time stamp; the stamp is None if frames cannot be found by their stamps."""
_LEADS_S = (0.0, 1.0, 10.0)  # seek this much before the interval, in turn: transport streams seek too late


def _go_on() -> None:
    """Default check: never stop the read."""


class _MissedError(Exception):
    """The frames after a seek do not meet the conditions of this module."""


class Reader:
    """Reads intervals of videos, and remembers the files in which seeking failed.

    `threads` is the number of libav threads for reading from the beginning; after a seek one thread decodes.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._leads: dict[str, int] = {}

    def read(
        self, uri: str, start: float, end: float, origin: Origin = (0.0, None), check: Callable[[], None] = _go_on
    ) -> Iterator[Frame]:
        """Yield the frame on screen at `start`, and every frame that begins between `start` and `end`, in seconds.

        If `start` lies after the last frame, the last frame is returned.

        Args:
            uri: A local path or an fsspec URL.
            start: Start of the interval, in seconds since the first frame.
            end: End of the interval, exclusive.
            origin: A time and its time stamp from the manifest (a clip's `start` and `start_pts`). Without a stamp the
                file is read from its beginning.
            check: Called for every decoded frame, also for skipped ones. It may raise to stop the read.

        Raises:
            UnreadableVideo: the file cannot be read.
        """
        given = -1.0
        for frame in self._all(uri, start, end, origin, check):
            if frame.time > given:
                given = frame.time
                yield frame

    def _all(self, uri: str, start: float, end: float, origin: Origin, check: Callable[[], None]) -> Iterator[Frame]:
        """As `read`, but if a seek proves wrong after some frames, start over and yield frames a second time."""
        time, stamp = origin
        if stamp is not None:
            for attempt in range(self._leads.get(uri, 0), len(_LEADS_S)):
                try:
                    yield from _between(_sought(uri, start, (time, stamp), _LEADS_S[attempt]), start, end, check)
                    return
                except _MissedError:
                    self._leads[uri] = attempt + 1
        yield from _between(Decoder(uri, self.threads), start, end, check)


def _between(frames: Iterator[Frame] | Decoder, start: float, end: float, check: Callable[[], None]) -> Iterator[Frame]:
    on_screen: Frame | None = None
    for frame in frames:
        check()
        if frame.time <= start + SAME_TIME_S:
            on_screen = frame
            continue
        if frame.time >= end - SAME_TIME_S:
            break
        if on_screen is not None:
            yield on_screen
            on_screen = None
        yield frame
    if on_screen is not None:
        yield on_screen


def _sought(uri: str, start: float, origin: tuple[float, int], lead_s: float) -> Iterator[Frame]:
    """Seek and yield frames from a keyframe at or before `start`. Raises _MissedError as soon as a condition fails."""
    with decoding(uri, 1) as (container, stream, errors):
        base, context = stream.time_base, stream.codec_context
        if not base:
            raise _MissedError
        if clock_may_jump(container):  # some frames may lack stamps here, and libav's guesses would depend on the seek
            container.flags |= ContainerFlags.no_fillin.value
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        first = first_stamp(*origin, base)
        timeline = Timeline(float(base), rate, clock_may_jump(container), first=first, first_look=0)
        wanted = first + math.floor((start + SAME_TIME_S) / base)
        place = wanted - round(lead_s / base)
        frames = _trusted(container, stream, errors, wanted, place if place > first else None)
        shape = Shape(stream, uri)
        stamped = (Stamped((f, shape.geometry_of(f)), f.pts, f.duration or None, f.dts) for f in frames)
        placed_frames = timeline.place(stamped, lambda: context.reorder_depth, lambda: False)
        for index, placed in enumerate(placed_frames):
            picture, geometry = placed.item
            if timeline.repaired or placed.time is None or picture.pts is None:
                raise _MissedError
            yield Frame(
                index=index,
                time=placed.time,
                duration=placed.duration,
                keyframe=bool(picture.key_frame),
                damaged_from=None,
                picture=picture,
                geometry=geometry,
            )


def _trusted(
    container: av.container.InputContainer, stream: VideoStream, errors: LibavErrors, wanted: int, place: int | None
) -> Iterator[VideoFrame]:
    """Seek to `place`, or the file's beginning if it is None, and yield frames from the first decoded keyframe on.

    Raises _MissedError if that keyframe lies after `wanted`. `place` and `wanted` are time stamps.
    """
    if place is not None:
        try:
            container.seek(place, stream=stream)
        except av.error.FFmpegError as error:
            raise _MissedError from error
    begun = False
    for picture in Frames(container, stream):
        told = errors.told()
        if not begun:
            if picture is None or not picture.key_frame or picture.is_corrupt or picture.pts is None:
                continue
            if picture.pts > wanted:
                raise _MissedError
            begun = True
        elif picture is None or picture.is_corrupt or told:
            raise _MissedError
        yield picture
    if not begun:
        raise _MissedError
