"""Where a video is damaged: signs of it, and how far it reaches."""

import threading
from collections import deque
from types import TracebackType
from typing import ClassVar, Self

import av.logging
from av.video.frame import PictureType, VideoFrame

_LONGEST_B_RUN = 16  # pictures; what H.264 and HEVC may keep back to bring them in order

MARKING = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v3", "h263", "flv"})
"""Decoders whose errors are on their pictures: `is_corrupt`. Others tell of them and hand over what came of it."""


class Damage:
    """Follows damage from its first sign to the next keyframe that was decoded after it. What neither the container
    nor the decoder notices (a flipped bit that is valid syntax, packets that AVI lost) shows no sign: of twenty bytes
    overwritten in HEVC six in seven go unnoticed, in VP8 and VP9 all, in H.264 and MPEG-2 none. What libav's
    threads then make of HEVC may differ from reading to reading."""

    def __init__(self, stretches: list[tuple[float, float]], codec: str, last: float = 0.0) -> None:
        self._stretches = stretches
        self._marking = codec in MARKING
        self._last = last  # when the picture before is shown
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
            # what is lost may begin within the packet before, which not every decoder notices
            self._since = min(time, end if self._marking else self._last)
        elif self._since is None and picture.is_corrupt:
            # B pictures shown before it may have been predicted from it
            self._since = self._b_run[0] if self._b_run else time
        self._lost, self._last = False, time
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


class LibavErrors:
    """What libav tells of errors, or of having concealed them, in any thread of this process, from entry to exit.

    With several threads a picture's own mark is not to be relied on: H.264's decoder hands a picture over with the
    errors noted so far, and the thread that decodes it may not be done. By the time that it reaches the caller that
    thread is done, and has told. Libav's messages go nowhere else meanwhile. Its threads may wait for Python's lock to
    tell: flush a decoder before it is freed.
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
                av.logging.set_skip_repeated(False)  # it would leave out what ended the video before
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
        """The parts of libav (h264, mpegts) that did since this was asked last."""
        messages = LibavErrors._messages.logs
        since, self._read = self._read, len(messages)
        if since == self._read:
            return set()
        parts = {part for level, part, text in messages[since : self._read] if _tells_of_an_error(level, text)}
        if LibavErrors._listeners == 1:  # a badly damaged video has a million of them
            del messages[: self._read]
            self._read = 0
        return parts


def _tells_of_an_error(level: int, message: str) -> bool:
    return level <= av.logging.ERROR or message.startswith("concealing ")
