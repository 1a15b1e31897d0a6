"""How long work tells the person who waits what it is doing."""

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""Called as `progress(what, done, total)`: a phase in words, how many of its units are done, and of how many (None
when that is not known yet). Called often: an implementation must be cheap, and must not raise. What follows the phase's
name in `detailed` words may change while the phase lasts."""

_DETAIL = " · "


def detailed(phase: str, detail: str) -> str:
    """The words for a phase with a detail that changes, such as a rate."""
    return f"{phase}{_DETAIL}{detail}"


def phase_of(what: str) -> str:
    """The phase's name without its detail: the same as long as the phase lasts."""
    return what.partition(_DETAIL)[0]


def silent(what: str, done: int, total: int | None) -> None:
    """Tell nobody."""


def in_words(what: str, done: int, total: int | None) -> str:
    """A progress as a line. What cannot be counted is only named."""
    if total is None:
        return f"{what}: {done}" if done else what
    return f"{what}: {done}/{total}"
