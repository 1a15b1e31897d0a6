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
