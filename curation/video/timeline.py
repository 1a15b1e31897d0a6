"""Derive the presentation time of each frame, in seconds since the first frame, from stamps that may be wrong.

The decoder returns frames in presentation order, but their time stamps may disagree with it. All decisions depend on
the stamps of neighbouring frames, never on the name of a codec or container:

- If stamps repeatedly decrease while decoding times increase, the container stores decoding times instead of
  presentation times. Frames are then placed by decoding times, which are evenly spaced.
- A frame without a stamp begins where the previous frame ends.
- A single outlier is replaced, and so is a repeated stamp where a stamp is missing.
- If stamps restart, or jump in a container whose clock may jump, times continue from the end of the previous frame.
- A frame with a repeated stamp is never shown if there is no gap for it before the next frame.
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
"""Longest plausible duration of a frame. A larger gap means that a time stamp is wrong."""
_RESTART_S = 0.25  # stamps that decrease by less are out of order, not restarted
_JUMP_S = 10.0  # ffmpeg also treats such a jump as a new clock (dts_delta_threshold)
_EARLY_S = 1e-6
_CROWDED = 0.25  # of the usual frame interval: a last frame closer to its predecessor has a guessed stamp
_LEAST = 1e-3  # smallest distance between two frames, in ticks
_MOST_FALLS = 2  # decreases before decoding times are used; one suffices if the stamps of all packets increase
_RECENT = 9  # frame intervals whose median is the usual one


@dataclass(slots=True)
class Stamped(Generic[T]):
    """A frame with its stamp, its duration and the decoding time of the packet that made the decoder return it.

    All are in ticks of the time base; None if missing.
    """

    item: T
    stamp: int | None
    duration: int | None
    decoding_time: int | None = None


@dataclass(frozen=True, slots=True)
class Placed(Generic[T]):
    """A frame with its presentation time and duration, in seconds.

    `time` is None for a frame that is never shown. `leaped` marks a frame whose stamp is more than LONGEST_STILL_S
    after the previous frame.
    """

    item: T
    time: float | None
    duration: float
    leaped: bool = False


@dataclass(slots=True)
class Timeline:
    """Assigns presentation times to frames.

    - `tick`: length of the time base in seconds.
    - `fps`: average frame rate according to the container.
    - `jumps`: whether the container's clock may jump (AVFMT_TS_DISCONT).
    - `repaired`: set once a time differs from the frame's stamp. Frames then cannot be found by their stamps.
    - `first`: stamp of time 0; the stamp of the first frame unless it is given.
    - `first_look`: number of frames decoded before the first is placed, if the decoder reorders frames. They show
      whether stamps or decoding times are in order.
    - `end`: end of the previous frame, in seconds.
    """

    tick: float
    fps: float
    jumps: bool = False
    repaired: bool = False
    first: int | None = None
    first_look: int = 12
    end: float = 0.0
    _last: float | None = None  # stamp of the previous frame, in ticks
    _origin: float = 0.0  # stamp of time 0
    _hid: bool = False
    _decoding_delay: float | None = None  # decoding time minus stamp, in ticks; None while stamps are used
    _last_delay: float = 0.0
    _falls: int = 0
    _steps: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def copy(self) -> "Timeline":
        """Copy the state, to resume from it later."""
        made = copy.copy(self)
        made._steps = self._steps.copy()
        return made

    def place(
        self, frames: Iterable[Stamped[T]], reordered: Callable[[], int], in_decoding_order: Callable[[], bool]
    ) -> Iterator[Placed[T]]:
        """Yield the frames in their order, each with its time.

        `reordered` returns how many frames the decoder may hold back to reorder them; it sets the lookahead.
        `in_decoding_order` returns whether the stamps of all packets so far increased from packet to packet.
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
        """The usual frame interval, in ticks."""
        return median(self._steps) if self._steps else 1 / (self.fps * self.tick)

    @property
    def _is_even(self) -> bool:
        """Whether the recent frame intervals are equal, within 10 %."""
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
        """Use decoding times from here on if the stamps of the next frames are not in presentation order."""
        falls = [_falls(a, b) for a, b in pairwise(ahead)]
        self._falls += sum(falls) if self._last is None else sum(falls[:1])
        if (packets_rise and any(falls)) or self._falls >= _MOST_FALLS:
            self._decoding_delay, self.repaired = self._last_delay, True

    def _read(self, frame: Stamped[T]) -> float | None:
        """The frame's stamp, or its replacement from the decoding time; None if missing."""
        if self._decoding_delay is None:
            return frame.stamp
        return None if frame.decoding_time is None else frame.decoding_time - self._decoding_delay

    def _begin(self, frame: Stamped[T], stamp: float | None, ahead: deque[Stamped[T]]) -> Placed[T]:
        """Place the first frame: at time 0, or relative to `first` if that was given."""
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
        """Return the corrected stamp, and whether it leaps (see `Placed`). The stamp is None for a frame never shown.

        `following` is the next known stamp.
        """
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
        """Correct a stamp that is not after the previous one."""
        last, step = self._last or 0.0, self._step
        back = (last - stamp) * self.tick
        least = 0.0 if self.jumps else max(_RESTART_S, 5 * step * self.tick)
        if back > least and (stamp < following <= last if following is not None else back > _RESTART_S):
            return self._restart(stamp)
        if following is None or following - last > 1.5 * step:
            return None if self._hid else self._between(last, following, last + step)
        return None

    def _continued(self, last: float, following: float | None) -> float:
        """Fill in a missing stamp: the end of the previous frame, or earlier if the next frame begins before it."""
        end = max(self._origin + self.end / self.tick, last + _LEAST)
        return end if following is None or following > end else self._between(last, following, end)

    def _between(self, last: float, following: float | None, wanted: float) -> float:
        """Make up a stamp: `wanted`, or the midpoint of `last` and `following` if `following` is not after `wanted`."""
        self.repaired = True
        wanted = max(wanted, last + _LEAST)
        return wanted if following is None or not last < following <= wanted else (last + following) / 2

    def _restart(self, stamp: float) -> float:
        """Map this stamp to the end of the previous frame."""
        self.repaired = True
        self._origin = stamp - self.end / self.tick
        self._last = stamp - self._step
        return float(stamp)


def stamp_at(seconds: float, first: int, tick: Fraction) -> int:
    """Return the first time stamp at or after `seconds`, on a clock whose time 0 has the stamp `first`.

    A stamp that is early by at most a microsecond, or half a tick if that is less, counts as on time.
    """
    early = min(_EARLY_S / float(tick), 0.5)
    return first + math.ceil(seconds * tick.denominator / tick.numerator - early)


def first_stamp(seconds: float, stamp: int, tick: Fraction) -> int:
    """Invert `stamp_at`: return the stamp of time 0, given that `stamp` stands for `seconds`."""
    return stamp - stamp_at(seconds, 0, tick)


def _falls(one: Stamped[T], other: Stamped[T]) -> bool:
    """Whether the stamp decreases or is missing while the decoding time increases."""
    if one.stamp is None or one.decoding_time is None or other.decoding_time is None:
        return False
    return one.decoding_time < other.decoding_time and (other.stamp is None or other.stamp < one.stamp)
