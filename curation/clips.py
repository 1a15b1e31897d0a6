"""From shots to clips: bounded in length, starting on a keyframe that does not cross the cut."""

import hashlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from curation.config import ClipSettings
from curation.video.timeline import stamp_at

_SAME_TIME_S = 1e-4


@dataclass(frozen=True, slots=True)
class Span:
    """`[start, end)` in seconds, and whether `start` is a keyframe."""

    start: float
    end: float
    starts_on_keyframe: bool


def clip_id(video_id: str, start: float, end: float) -> str:
    """24 hex digits that name this stretch of this content, whatever the file is called."""
    text = f"{video_id}:{round(start * 1e6)}:{round(end * 1e6)}"
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def stamps(clip: Mapping[str, Any], video: Mapping[str, Any]) -> dict[str, int | None]:
    """The ends of a clip (its row) on its stream's own clock, from the video's row: `start_pts` and `end_pts`.

    Frames of the clip are those whose time stamps p have start_pts <= p < end_pts. None where frames cannot be found by
    their stamps, because these are missing or wrong.
    """
    first, num, den = video.get("first_pts"), video.get("time_base_num"), video.get("time_base_den")
    if first is None or not num or not den:
        return {"start_pts": None, "end_pts": None}
    return {f"{end}_pts": stamp_at(clip[end], first, Fraction(num, den)) for end in ("start", "end")}


def bounds(clip: Mapping[str, Any], shot: Mapping[str, Any] | None) -> dict[str, str | None]:
    """What lies before and after a clip, from its shot's row: what bounds the shot, or `shot` where the shot goes on.

    None where the shot is not known, because its video ended in a failure.
    """
    if shot is None:
        return {"begins_with": None, "ends_with": None}
    first, last = clip["start"] < shot["start"] + _SAME_TIME_S, clip["end"] > shot["end"] - _SAME_TIME_S
    return {
        "begins_with": shot["begins_with"] if first else "shot",
        "ends_with": shot["ends_with"] if last else "shot",
    }


class Splitter:
    """Cuts one shot into clips while its end is still unknown.

    A clip starts on the first keyframe at or after the previous clip's end (the cut, for the first one) when that
    skips at most `max_snap_s`; otherwise exactly there. Pieces are `max_length_s` long but the last; a last piece
    under `min_length_s` is left out. With a fixed stride the clips are windows of that length from the shot's first
    frame on, wherever keyframes lie, and a remainder is left out.
    """

    def __init__(self, start: float, settings: ClipSettings) -> None:
        self.start = start
        self._from = start
        self._settings = settings
        self._windows = 0

    @property
    def oldest_needed(self) -> float:
        """Nothing before this time can still become part of a clip."""
        return self._from

    def take(self, keyframes: Sequence[float], known_until: float, final: bool) -> list[Span]:
        """The clips that are certain when the shot is known to last until `known_until` (`final`: to end there).

        `keyframes` are the ascending times of keyframes from the last clip's end on.
        """
        if self._settings.stride_s is not None:
            return self._windows_until(self._settings.stride_s, keyframes, known_until, final)
        longest, out = self._settings.max_length_s, []
        while True:
            need = longest if not final else self._settings.min_length_s
            reach = 0.0 if final else self._settings.max_snap_s
            if known_until - self._from < need + reach - _SAME_TIME_S:
                break
            start, on_keyframe = self._snap(keyframes, known_until)
            end = min(start + longest, known_until)
            out.append(Span(start, end, on_keyframe))
            self._from = end
        return out

    def _windows_until(self, length: float, keyframes: Sequence[float], known_until: float, final: bool) -> list[Span]:
        out = []
        while (end := self.start + (self._windows + 1) * length) <= known_until + final * _SAME_TIME_S:
            at = bisect_left(keyframes, self._from - _SAME_TIME_S)
            on_keyframe = at < len(keyframes) and keyframes[at] <= self._from + _SAME_TIME_S
            out.append(Span(self._from, min(end, known_until), on_keyframe))
            self._windows += 1
            self._from = end
        return out

    def _snap(self, keyframes: Sequence[float], known_until: float) -> tuple[float, bool]:
        latest = min(self._from + self._settings.max_snap_s, known_until - self._settings.min_length_s)
        at = bisect_left(keyframes, self._from - _SAME_TIME_S)
        if at < len(keyframes) and keyframes[at] <= latest + _SAME_TIME_S:
            return max(keyframes[at], self.start), True
        return self._from, False
