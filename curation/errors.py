"""What a user can mend, said in one line."""

TO_DISK = "selections, exports and reports are written to disk; name a folder there"
"""Why a place on an object store is refused, for messages."""


class CurationError(Exception):
    """Bad input or an unusable machine. The message names the file or field and the remedy; no traceback is owed."""


class UnreadableVideo(CurationError):  # noqa: N818 - a state of the file, not of the program
    """A file that is no readable video. `step` says where reading stopped: open, probe or decode."""

    def __init__(self, message: str, step: str = "open") -> None:
        super().__init__(message)
        self.step = step


def in_words(error: BaseException) -> str:
    """What an error says, without the error number that operating systems and libav put before it."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    place = getattr(error, "filename", None)
    return f"{reason}: {place}" if isinstance(place, str) and place not in reason else str(reason)
