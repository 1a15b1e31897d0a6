"""A video that took its worker along is measured once more, in a process of its own, within limits.

The process tells on stderr what it is doing; if it dies, the last of that and what killed it become the video's error
row: its last words. Nothing here knows Ray.
"""

import contextlib
import faulthandler
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curation.collect import Task, clip_row, end_of
from curation.config import CurateConfig
from curation.engine import VideoPass
from curation.errors import CurationError, UnreadableVideo, in_words
from curation.scores.base import Failure, Scorer, run_scorer

ATTEMPTS = 2  # the one that took a worker along, and this one
_DOING = "at work:"
_LOOK_S = 0.2  # between two looks at the memory
_WORDS = 600  # characters of last words that are kept
_NOT_LOADED = 3  # exit status: the scorers could not be loaded, which is no video's fault


@contextlib.contextmanager
def limited(memory_gb: float) -> Iterator[None]:
    """End this process, with a word on stderr, should it come to hold more than this meanwhile: better this one than
    whichever the kernel would choose."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK_S):
            if _held_gb() > memory_gb:
                os.write(2, f"more than {memory_gb:g} GB of memory\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _held_gb() -> float:
    """Memory that this process alone holds."""
    resident, shared = map(int, Path("/proc/self/statm").read_text().split()[1:3])
    return (resident - shared) * os.sysconf("SC_PAGESIZE") / 1e9


def measure_alone(video: Task, config: CurateConfig, scorers: Sequence[Scorer]) -> list[Any]:
    """The video's rows, as `Collector.add` takes them: those of its clips and its end. If the process that reads it
    dies, or is not done within `alone_minutes`, the end alone, with its last words. Raises CurationError if the
    scorers cannot be loaded."""
    with tempfile.TemporaryDirectory(prefix="rushes-") as folder:
        told, made = Path(folder) / "words", Path(folder) / "rows"
        (Path(folder) / "task").write_bytes(pickle.dumps((video, config, scorers)))
        command = [sys.executable, "-m", "curation.alone", folder]
        with told.open("wb") as words:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=words, stderr=words)
        try:
            status = process.wait(config.alone_minutes * 60)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            process.kill()
            process.wait()
        if status == 0:
            return pickle.loads(made.read_bytes())
        said = _last_words(told)
    if status == _NOT_LOADED:
        raise CurationError(f"the scorers could not be loaded: {said}")
    how = f"not done within {config.alone_minutes:g} minutes" if status is None else _ending(status)
    failure = Failure("alone", "KilledItsWorker", f"{video.source.uri}: {how}; last words: {said}", ATTEMPTS)
    return [end_of(video, None, [(None, failure)], 0)]


def _ending(status: int) -> str:
    with contextlib.suppress(ValueError):
        return f"ended by {signal.Signals(-status).name}"
    return f"exit status {status}"


def _last_words(file: Path) -> str:
    """From the last thing that it said it was doing on, on one line."""
    lines = [line for line in file.read_text(errors="replace").splitlines() if not line.startswith("Extension modules")]
    told = [i for i, line in enumerate(lines) if line.startswith(_DOING)]
    words = " ".join(" ".join(lines[told[-1] :] if told else lines[-5:]).split())
    return words[:_WORDS] or "none"


def _load(scorers: Sequence[Scorer]) -> None:
    for scorer in scorers:
        try:
            scorer.load()
        except Exception as error:  # noqa: BLE001 - whatever a library raises, it ends this process with its words
            print(f"{scorer.name}: {error}", file=sys.stderr)
            sys.exit(_NOT_LOADED)


def _measured(video: Task, config: CurateConfig, scorers: Sequence[Scorer]) -> list[Any]:
    rows: list[Any] = []
    reading: VideoPass | None = None
    failures: list[tuple[str | None, Failure]] = []
    with limited(config.memory_gb + sum(s.resources.memory_gb for s in scorers)):
        try:
            _say("opening")
            reading = VideoPass(video.source.uri, config, video.video_id)
            for clip in reading:
                scored = video.scored(clip.frames.clip_id)
                for scorer in scorers:
                    _say(f"{scorer.name} of the clip at {clip.frames.start:.2f} s")
                    run_scorer(scorer, [clip.frames], [scored])
                rows.append(clip_row(clip, scored))
                _say(f"reading on from {clip.frames.end:.2f} s")
        except UnreadableVideo as error:
            failures = [(None, Failure(error.step, type(error).__name__, str(error), ATTEMPTS))]
        except Exception as error:  # noqa: BLE001 - a decoder may raise anything; it becomes this video's error row
            failures = [
                (
                    None,
                    Failure("decode", type(error).__name__, f"{video.source.uri}: {in_words(error)}"[:500], ATTEMPTS),
                )
            ]
    return [*rows, end_of(video, reading, failures, len(rows))]


def _say(what: str) -> None:
    print(f"{_DOING} {what}", file=sys.stderr, flush=True)


def _end_with(parent: int) -> None:
    """End this process when whoever started it, and holds its time limit, is gone."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path) -> None:
    """Measure the task of the folder and leave its rows there."""
    faulthandler.enable(all_threads=False)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    video, config, scorers = pickle.loads((folder / "task").read_bytes())
    _load(scorers)
    rows = _measured(video, config, scorers)
    unfinished = folder / "rows.tmp"
    unfinished.write_bytes(pickle.dumps(rows, protocol=5))
    unfinished.replace(folder / "rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
