"""What is wrong with a text encoder's files or with what it is asked, said with the file's name."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def naming(*files: str | Path) -> Iterator[None]:
    """Turns what a library says of `files` into a ValueError that names them; a file that is missing stays that."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # tokenizers raises Exception itself, transformers whatever comes up
        names, said = " and ".join(map(str, files)), f"{error}".strip().partition("\n")[0]
        raise ValueError(
            f"{names}: cannot be used ({type(error).__name__}: {said}); download it again, whole (a small text file "
            "is git-lfs's pointer)"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises FileNotFoundError, and ValueError where it holds none."""
    with naming(path):
        held = json.loads(path.read_text())
        if not isinstance(held, dict):
            raise ValueError("no JSON object")
        return held


def listed(captions: Sequence[str]) -> list[str]:
    """The captions of a batch. Raises ValueError for none, and for a text, whose letters would be the captions."""
    if isinstance(captions, str) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError(f"captions are a list of texts, not {captions!r:.80}")
    if not captions:
        raise ValueError("no captions: give at least one (the empty text is one too)")
    return list(captions)


def at_least_one(max_tokens: int) -> int:
    """`max_tokens` itself. Raises ValueError where it leaves no token."""
    if max_tokens < 1:
        raise ValueError(f"max_tokens = {max_tokens}: at least 1")
    return max_tokens
