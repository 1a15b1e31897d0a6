"""How long work tells the person who waits what it is doing."""

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""Called as `progress(what, done, total)`: a phase in words, how many of its units are done, and of how many (None
when that is not known yet). Called often: an implementation must be cheap, and must not raise."""


def silent(what: str, done: int, total: int | None) -> None:
    """Tell nobody."""


def in_words(what: str, done: int, total: int | None) -> str:
    """A progress as a line. What cannot be counted is only named."""
    if total is None:
        return f"{what}: {done}" if done else what
    return f"{what}: {done}/{total}"
