"""What a user can mend, said in one line."""


class TrainingError(Exception):
    """Bad input or an unusable machine. The message names the file or field and the remedy; no traceback is owed."""
