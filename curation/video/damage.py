"""Detect damage in a video, and how far it reaches."""

import threading
from collections import deque
from types import TracebackType
from typing import ClassVar, Self

import av.logging
from av.video.frame import PictureType, VideoFrame

_LONGEST_B_RUN = 16  # frames; H.264 and HEVC hold back at most this many to reorder them

MARKING = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v3", "h263", "flv"})
"""Decoders that set `is_corrupt` on damaged frames. Other decoders only log the error and still return the frame."""


class Damage:
    """Track damage from its first sign to the next keyframe that was decoded after it.

    Damage that neither the container nor the decoder reports is not found: a flipped bit that is still valid syntax, or
    packets that are missing in an AVI. When twenty bytes are overwritten, HEVC decoders miss six cases in seven, VP8
    and VP9 decoders all, H.264 and MPEG-2 decoders none. Unreported damage in HEVC may decode differently in each
    multi-threaded run.
    """

    def __init__(self, stretches: list[tuple[float, float]], codec: str, last: float = 0.0) -> None:
        self._stretches = stretches
        self._marking = codec in MARKING
        self._last = last  # presentation time of the previous frame
        self._since: float | None = None
        self._lost = False
        self._pictures = 0  # frames since the last sign of damage
        self._b_run: deque[float] = deque(maxlen=_LONGEST_B_RUN)  # times of the B-frames just before

    def lose(self) -> None:
        """Record a packet that gave no frame."""
        self._lost, self._pictures = True, 0

    def leap(self, end: float) -> None:
        """Record that the time stamps jump away from `end`, the end of the previous frame."""
        self._since = end if self._since is None else self._since
        self._pictures = -1  # the frame after the jump does not count as undamaged yet

    def see(self, picture: VideoFrame, time: float, end: float, delay: int) -> float | None:
        """Record a decoded frame. Return the time from which frames are damaged, or None if this frame is undamaged.

        `end` is the end of the previous frame. `delay` is the largest number of frames that the decoder may hold back.
        """
        if self._since is None and self._lost:
            # the loss may begin in the previous packet, which not every decoder reports
            self._since = min(time, end if self._marking else self._last)
        elif self._since is None and picture.is_corrupt:
            # B-frames shown before this frame may have been predicted from it
            self._since = self._b_run[0] if self._b_run else time
        self._lost, self._last = False, time
        self._pictures = 0 if picture.is_corrupt else self._pictures + 1
        if picture.pict_type == PictureType.B:
            self._b_run.append(time)
        else:
            self._b_run.clear()
        # an earlier keyframe may have been decoded before the damage although it is shown after it
        if self._since is not None and picture.key_frame and self._pictures > delay:
            self._stretches.append((self._since, time))
            self._since = None
        return self._since

    def finish(self, end: float) -> None:
        """Record the end of the video."""
        if self._since is not None or self._lost:
            self._stretches.append((end if self._since is None else self._since, end))


class LibavErrors:
    """Context manager that collects libav's messages about errors and concealed errors, from all threads.

    With several threads, `is_corrupt` of a frame is not reliable: H.264's decoder returns the frame object while a
    thread may still be decoding it. When the frame reaches the caller that thread has finished and has logged its
    errors. While a listener is active, libav's messages are not printed. A libav thread may wait for Python's GIL to
    log a message, so flush a decoder before it is freed.
    """

    _lock: ClassVar = threading.Lock()
    _listeners: ClassVar[int] = 0
    _messages: ClassVar = av.logging.Capture(local=False)
    _before: ClassVar[tuple[int | None, bool]] = None, True

    def __enter__(self) -> Self:
        shared = LibavErrors
        with shared._lock:
            if shared._listeners == 0:
                shared._before = av.logging.get_level(), av.logging.get_skip_repeated()
                av.logging.set_skip_repeated(False)  # else an error equal to the previous video's last one is dropped
                shared._messages.__enter__()
                av.logging.set_level(av.logging.INFO)
            shared._listeners += 1
            self._read = len(shared._messages.logs)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        shared = LibavErrors
        with shared._lock:
            shared._listeners -= 1
            if shared._listeners == 0:
                level, skip = shared._before
                av.logging.set_level(level)
                av.logging.set_skip_repeated(skip)
                shared._messages.__exit__(None, None, None)
                shared._messages.logs.clear()

    def told(self) -> set[str]:
        """Return the components of libav (h264, mpegts) that logged errors since the last call."""
        messages = LibavErrors._messages.logs
        since, self._read = self._read, len(messages)
        if since == self._read:
            return set()
        parts = {part for level, part, text in messages[since : self._read] if _tells_of_an_error(level, text)}
        if LibavErrors._listeners == 1:  # a badly damaged video logs a million messages
            del messages[: self._read]
            self._read = 0
        return parts


def _tells_of_an_error(level: int, message: str) -> bool:
    return level <= av.logging.ERROR or message.startswith("concealing ")
