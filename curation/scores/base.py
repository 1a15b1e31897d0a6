"""What a scorer is, and what it may look at.

A scorer is a plain object. It declares its columns with their definitions and its resources; the engine owns
ids, batching, retries and where the numbers go. To score one clip at a prompt:

    >>> from curation.engine import open_clips
    >>> from curation.scores.motion import Motion
    >>> Motion().score_one(open_clips("film.mp4")[0])
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curation.errors import CurationError


@dataclass(frozen=True, slots=True, repr=False)
class ClipFrames:
    """What the one decode leaves of a clip: all that a scorer may look at.

    `frames` are the first, middle and last sampled frames, RGB uint8 (h, w, 3), upright, square pixels, long side
    at most the configured thumbnail size; a very short clip repeats one. `flow` holds one flow map per pair of
    neighbouring 2 fps samples that both lie inside the clip: float16 (pairs, h, w, 2), reduced to 16 px on the short
    side *after* the flow was computed, x right and y down, in pixels of `flow_size` (width, height) per sampling
    interval. `hashes` are 64-bit difference hashes of those samples, uint64 (samples,). Times are seconds on the
    video's own clock (presentation time stamps, first frame at 0). `uniform` are eight frames like `frames`, spread
    evenly over the clip's samples (repeated where it has fewer), for scorers that watch the clip; only the svd profile
    has one, and elsewhere it is empty. `cut_doubt` is the probability that the cut cascade overlooked a transition in
    the clip. `samples` are the grey pictures (h, w) uint8 of `flow_size` at the flow's rate,
    taken at `sample_times`; they stand in for `flow` where a network measures it, and elsewhere there are none.
    """

    clip_id: str
    video_id: str
    uri: str
    start: float
    end: float
    fps: float
    width: int
    height: int
    frames: tuple[np.ndarray, ...]
    frame_times: tuple[float, ...]
    flow: np.ndarray
    flow_size: tuple[int, int]
    hashes: np.ndarray
    uniform: tuple[np.ndarray, ...] = ()
    cut_doubt: float = 0.0
    samples: tuple[np.ndarray, ...] = ()
    sample_times: tuple[float, ...] = ()

    def __repr__(self) -> str:
        """One line: which clip, when, and how large its pictures are; never the pixels."""
        pictures = {f"{picture.shape[1]}x{picture.shape[0]}" for picture in self.frames}
        return (
            f"ClipFrames({self.clip_id!r}, {self.uri!r}, {self.start:.2f} to {self.end:.2f} s, "
            f"{self.width}x{self.height} at {self.fps:g} fps, {len(self.frames)} frames"
            f"{f' of {min(pictures)}' if len(pictures) == 1 else ''}, {len(self.flow)} flow maps)"
        )


# What is heavy in a clip: left out once no later scorer `sees` it.
PIXELS = ("frames", "uniform", "flow", "samples", "hashes")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the manifest: its Arrow type and, in words, what it says and in which unit."""

    name: str
    type: pa.DataType
    description: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Resources:
    """What one copy of a scorer occupies: cores it keeps busy, a share of a card, weights and work in memory, in GB.

    Where there is no card nobody asks for one, and the scorer runs on its cores.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gb: float = 0.1


@dataclass(frozen=True, slots=True)
class Failure:
    """A clip that a scorer could not measure: its columns stay null and this goes to the error table."""

    step: str
    error: str
    message: str
    attempts: int = 1


@dataclass(slots=True)
class Scored:
    """Columns measured on one clip, and what failed."""

    values: dict[str, Any] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


class Scorer(ABC):
    """Measures clips. Subclasses are cheap to build and pickle; `load` brings the weights, once per process."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ()  # columns of earlier scorers that `score` reads from `known`
    sees: ClassVar[tuple[str, ...]] = PIXELS  # fields of a clip that `score` looks at, of those that are heavy
    resources: Resources = Resources()
    batch_size: int = 8

    @property
    @abstractmethod
    def columns(self) -> Sequence[Column]:
        """The columns this scorer fills."""

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """All that a number depends on besides the pixels (method, size, model, ...): the column metadata."""
        return {}

    @property
    def options(self) -> Mapping[str, Any]:
        """The options of the configuration that the settings follow from, as a user names them: `motion.method`."""
        return {}

    @property
    def definition(self) -> dict[str, str | int | float | bool]:
        """Name, version and settings; two scores compare only if their definitions are equal."""
        return {"scorer": self.name, "version": self.version, **self.settings}

    def load(self) -> None:  # noqa: B027 - most scorers have nothing to load
        """Bring weights into memory. Called once in the process that scores, before the first batch."""

    @abstractmethod
    def score(self, clips: Sequence[ClipFrames], known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Measure a batch. `known[i]` holds the columns already measured on `clips[i]`. One dict a clip, in order.

        Raises whatever went wrong: the caller narrows it down to the clip and records it.
        """

    def score_one(self, clip: ClipFrames, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Load if need be and measure one clip: for prompts and notebooks. `known` holds what the scorers before it
        gave of the clip, merged.

        Raises CurationError, naming columns and who measures them, where `known` lacks some that the scorer requires.
        """
        if missing := _missing(self, known or {}):
            raise CurationError(
                f"{self.name}: `known` lacks {_by_scorer(self, missing)}; give what they measured first"
            )
        self.load()
        return self.score([clip], [known or {}])[0]


def run_scorer(scorer: Scorer, clips: Sequence[ClipFrames], scored: Sequence[Scored]) -> None:
    """Fill `scored` in place. A batch that fails is retried clip by clip, so one bad clip costs no neighbour.

    A clip that lacks a column the scorer requires (because that one failed) is not guessed at: it fails too.
    """
    ready = []
    for i, state in enumerate(scored):
        if missing := _missing(scorer, state.values):
            state.failures.append(Failure(scorer.name, "MissingInput", f"needs {', '.join(missing)}, which failed"))
        else:
            ready.append(i)
    for at in range(0, len(ready), scorer.batch_size):
        batch = ready[at : at + scorer.batch_size]
        try:
            _score_into(scorer, batch, clips, scored)
        except Exception:
            for i in batch:
                try:
                    _score_into(scorer, [i], clips, scored)
                except Exception as error:
                    scored[i].failures.append(Failure(scorer.name, type(error).__name__, str(error)[:500]))


def _missing(scorer: Scorer, known: Mapping[str, Any]) -> list[str]:
    return [c for c in scorer.requires if known.get(c) is None]


def _by_scorer(scorer: Scorer, columns: Sequence[str]) -> str:
    """Columns with the scorers of its profile that measure them: "camera of Motion; embedding of Tags"."""
    from curation.scores import makers  # which imports every scorer, and they this

    found, groups = makers(scorer), dict[str, list[str]]()
    for column in columns:
        groups.setdefault(found.get(column, "a scorer before it"), []).append(column)
    return "; ".join(f"{', '.join(names)} of {maker}" for maker, names in groups.items())


def _score_into(scorer: Scorer, batch: Sequence[int], clips: Sequence[ClipFrames], scored: Sequence[Scored]) -> None:
    rows = scorer.score([clips[i] for i in batch], [scored[i].values for i in batch])
    names = {c.name for c in scorer.columns}
    if len(rows) != len(batch) or any(set(row) != names for row in rows):
        raise RuntimeError(f"scorer {scorer.name} must return one dict a clip with exactly the columns {sorted(names)}")
    for i, row in zip(batch, rows, strict=True):
        scored[i].values.update(row)


def columns_of(scorers: Iterable[Scorer]) -> list[tuple[Column, dict[str, str | int | float | bool]]]:
    """Every column of the given scorers with its definition. Raises ValueError if two claim one name."""
    seen: dict[str, str] = {}
    out = []
    for scorer in scorers:
        for column in scorer.columns:
            if column.name in seen:
                raise ValueError(f"column {column.name} is claimed by {seen[column.name]} and {scorer.name}")
            seen[column.name] = scorer.name
            out.append((column, scorer.definition))
    return out
