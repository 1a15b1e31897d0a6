"""When each frame is shown: seconds since the first frame, from stamps that may be wrong.

Frames leave the decoder in the order in which they are shown; their time stamps may say otherwise. Every decision is
taken from the stamps of neighbouring frames, never from the name of a codec or container:

- Where stamps of frames keep going back while decoding times rise, the container stores when frames are decoded, not
  when they are shown; frames then take the decoding times, which pass evenly.
- A missing stamp continues where the frame before it ended.
- One stamp that leaves its neighbours and returns, or that repeats where a stamp is missing, is replaced.
- Stamps that start again, or that jump in a container whose clock may jump, continue where the footage ended.
- A stamp that repeats with no room for another frame belongs to a frame that is shown for no time.
"""

import copy
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import Generic, TypeVar

T = TypeVar("T")

LONGEST_STILL_S = 3600.0
"""A frame that is shown for longer has a wrong time stamp."""
_RESTART_S = 0.25  # stamps that go back by less are disordered, not restarted
_JUMP_S = 10.0  # ffmpeg takes such a jump for a new clock, too (dts_delta_threshold)
_EARLY_S = 1e-6
_CROWDED = 0.25  # of the usual distance: a last frame that is so close to the one before it has a guessed stamp
_LEAST = 1e-3  # ticks between two frames
_MOST_FALLS = 2  # stamps that go back before decoding times are used, unless those of all packets rise
_RECENT = 9  # frames that tell the usual distance between two


@dataclass(slots=True)
class Stamped(Generic[T]):
    """A frame with the stamp and the duration that the decoder gives it, and the decoding time of the packet at which
    the decoder gave it; in ticks, None where there is none."""

    item: T
    stamp: int | None
    duration: int | None
    decoding_time: int | None = None


@dataclass(frozen=True, slots=True)
class Placed(Generic[T]):
    """A frame and when it is shown, in seconds. `time` is None for a frame that is shown for no time; `leaped` marks a
    frame whose stamp leaves the footage before it by more than LONGEST_STILL_S."""

    item: T
    time: float | None
    duration: float
    leaped: bool = False


@dataclass(slots=True)
class Timeline:
    """Places frames in time. `tick` is the length of a stamp's unit in seconds and `fps` the average rate that the
    container claims; `jumps` says whether the container's clock may jump (AVFMT_TS_DISCONT). Where the decoder
    reorders, `first_look` frames are decoded before the first is placed, to see which clock is in order.

    `first` is the stamp of time 0, that of the first frame unless it is given. `repaired` is set once a time differs
    from what the frame's stamp says: frames can then not be found by their stamps.
    """

    tick: float
    fps: float
    jumps: bool = False
    repaired: bool = False
    first: int | None = None
    first_look: int = 12
    end: float = 0.0  # of the frame before, in seconds
    _last: float | None = None  # stamp of the frame before, in ticks
    _origin: float = 0.0  # the stamp that stands for time 0
    _hid: bool = False
    _decoding_delay: float | None = None  # from showing a frame to its decoding time; None while stamps are used
    _last_delay: float = 0.0
    _falls: int = 0
    _steps: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def copy(self) -> "Timeline":
        """The same state, to go on from it later."""
        made = copy.copy(self)
        made._steps = self._steps.copy()
        return made

    def place(
        self, frames: Iterable[Stamped[T]], reordered: Callable[[], int], in_decoding_order: Callable[[], bool]
    ) -> Iterator[Placed[T]]:
        """The frames in their order, each with its time.

        `reordered` says how many frames the decoder may hold back to put them in order; so many are looked at ahead.
        `in_decoding_order` says whether the stamps of all packets so far rose from packet to packet.
        """
        ahead: deque[Stamped[T]] = deque()
        for frame in frames:
            ahead.append(frame)
            if self._last is None and reordered() and len(ahead) < self.first_look:
                continue
            while len(ahead) > max(1, reordered()) + 1:
                yield self._next(ahead, bool(reordered()), in_decoding_order())
        while ahead:
            yield self._next(ahead, bool(reordered()), in_decoding_order())

    @property
    def _step(self) -> float:
        """The usual distance between two frames, in ticks."""
        return median(self._steps) if self._steps else 1 / (self.fps * self.tick)

    @property
    def _is_even(self) -> bool:
        """Whether the last frames are equally far apart."""
        return len(self._steps) == _RECENT and max(self._steps) - min(self._steps) <= 0.1 * self._step

    def _next(self, ahead: deque[Stamped[T]], reordered: bool, packets_rise: bool) -> Placed[T]:
        if reordered and self._decoding_delay is None:
            self._choose_clock(ahead, packets_rise)
        frame = ahead.popleft()
        following = next((stamp for other in ahead if (stamp := self._read(other)) is not None), None)
        stamp = self._read(frame)
        if frame.stamp is not None and frame.decoding_time is not None:
            self._last_delay = frame.decoding_time - frame.stamp
        if self._last is None:
            return self._begin(frame, stamp, ahead)
        stamp, leaped = self._stamp(stamp, following)
        self._hid = stamp is None
        if stamp is None:
            return Placed(frame.item, None, 0.0)
        if not leaped:
            self._steps.append(stamp - self._last)
        self._last = stamp
        return self._shown(frame, (stamp - self._origin) * self.tick, leaped)

    def _choose_clock(self, ahead: deque[Stamped[T]], packets_rise: bool) -> None:
        """Use decoding times from here on, if the stamps of the frames ahead are not in the order of display."""
        falls = [_falls(a, b) for a, b in pairwise(ahead)]
        self._falls += sum(falls) if self._last is None else sum(falls[:1])
        if (packets_rise and any(falls)) or self._falls >= _MOST_FALLS:
            self._decoding_delay, self.repaired = self._last_delay, True

    def _read(self, frame: Stamped[T]) -> float | None:
        """The frame's stamp, or what stands for it."""
        if self._decoding_delay is None:
            return frame.stamp
        return None if frame.decoding_time is None else frame.decoding_time - self._decoding_delay

    def _begin(self, frame: Stamped[T], stamp: float | None, ahead: deque[Stamped[T]]) -> Placed[T]:
        """Place the first frame: at time 0, or where its stamp lies after `first`, if that is known beforehand."""
        if stamp is None:
            self.repaired = True
            known = ((i, self._read(other)) for i, other in enumerate(ahead, 1))
            stamp = next((other - i * self._step for i, other in known if other is not None), 0.0)
        if self.first is None:
            self.first, self._origin = frame.stamp, float(stamp)
        else:
            self._origin = float(self.first)
        self._last = float(stamp)
        return self._shown(frame, (self._last - self._origin) * self.tick)

    def _shown(self, frame: Stamped[T], time: float, leaped: bool = False) -> Placed[T]:
        duration = (frame.duration or 0) * self.tick
        if not 0 < duration <= LONGEST_STILL_S:
            duration = min(self._step * self.tick, LONGEST_STILL_S)
        self.end = time + duration
        return Placed(frame.item, time, duration, leaped)

    def _stamp(self, stamp: float | None, following: float | None) -> tuple[float | None, bool]:
        """The stamp that holds, None for a frame that is shown for no time; and whether it leaps out of the footage.
        `following` is the next stamp."""
        last, step = self._last or 0.0, self._step
        if stamp is None:
            return self._continued(last, following), False
        if stamp <= last:
            return self._not_later(stamp, following), False
        if following is not None and last < following < stamp and stamp - last > 2 * step:
            return self._between(last, following, last + step), False
        if following is None and stamp - last < _CROWDED * step and self._is_even:
            return self._between(last, None, last + step), False
        gap = (stamp - last) * self.tick
        if self.jumps and gap > max(_JUMP_S, 3 * step * self.tick):
            return self._restart(stamp), False
        return float(stamp), gap > LONGEST_STILL_S

    def _not_later(self, stamp: float, following: float | None) -> float | None:
        """For a stamp that does not lie after the one before it."""
        last, step = self._last or 0.0, self._step
        back = (last - stamp) * self.tick
        least = 0.0 if self.jumps else max(_RESTART_S, 5 * step * self.tick)
        if back > least and (stamp < following <= last if following is not None else back > _RESTART_S):
            return self._restart(stamp)
        if following is None or following - last > 1.5 * step:
            return None if self._hid else self._between(last, following, last + step)
        return None

    def _continued(self, last: float, following: float | None) -> float:
        """For a missing stamp: the end of the frame before, if that leaves the next frame its place."""
        end = max(self._origin + self.end / self.tick, last + _LEAST)
        return end if following is None or following > end else self._between(last, following, end)

    def _between(self, last: float, following: float | None, wanted: float) -> float:
        """A stamp of our own: the one wanted, or half way to the next where that comes sooner."""
        self.repaired = True
        wanted = max(wanted, last + _LEAST)
        return wanted if following is None or not last < following <= wanted else (last + following) / 2

    def _restart(self, stamp: float) -> float:
        """Let this stamp stand for the end of the footage before it."""
        self.repaired = True
        self._origin = stamp - self.end / self.tick
        self._last = stamp - self._step
        return float(stamp)


def stamp_at(seconds: float, first: int, tick: Fraction) -> int:
    """The first time stamp that is not before `seconds`, on a clock whose time 0 is stamped `first`.

    A frame up to a microsecond early counts as being there, half a tick where ticks are finer.
    """
    early = min(_EARLY_S / float(tick), 0.5)
    return first + math.ceil(seconds * tick.denominator / tick.numerator - early)


def first_stamp(seconds: float, stamp: int, tick: Fraction) -> int:
    """The stamp of time 0, where `stamp_at` gave `stamp` for `seconds`."""
    return stamp - stamp_at(seconds, 0, tick)


def _falls(one: Stamped[T], other: Stamped[T]) -> bool:
    """Whether the stamp goes back, or ends, where the decoding time rises."""
    if one.stamp is None or one.decoding_time is None or other.decoding_time is None:
        return False
    return one.decoding_time < other.decoding_time and (other.stamp is None or other.stamp < one.stamp)
