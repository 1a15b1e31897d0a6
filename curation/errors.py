"""Errors that the user can fix, with one-line messages."""

TO_DISK = "selections, exports and reports are written to disk; name a folder there"
"""Reason and remedy for messages that refuse a URL of an object store."""


class CurationError(Exception):
    """Bad input or an unusable machine. The message names the file or field and the remedy; no traceback is shown."""


class UnreadableVideo(CurationError):  # noqa: N818 - a state of the file, not of the program
    """A file that cannot be read as a video. `step` is where reading failed: open, probe or decode."""

    def __init__(self, message: str, step: str = "open") -> None:
        super().__init__(message)
        self.step = step


def in_words(error: BaseException) -> str:
    """Return the message of an error, without the error number that operating systems and libav put before it."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    place = getattr(error, "filename", None)
    return f"{reason}: {place}" if isinstance(place, str) and place not in reason else str(reason)
