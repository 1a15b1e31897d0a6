"""Which scorers run together, in how many copies and in what batches: a run's arithmetic, before anything starts.

Scorers that want no card share one process, of which there are copies; those that want one share a process on each
card, as far as their shares allow. A scorer comes after those whose columns it requires, so stages may alternate.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from curation.config import CurateConfig
from curation.errors import CurationError
from curation.scores.base import PIXELS, ClipFrames, Resources, Scorer

# Ray's books, not real load: how many readers and scorers run is set by their pools. Ray Data reserves only half of a
# machine for what an operator needs at least, and hangs where that does not fit.
BOOKED = 0.2  # of a CPU, for each core that is really used
RESERVED = 2  # times what is booked has to be there
DECODER_SHARE = 0.02  # of a card, for a reader that decodes there: a circuit of its own, but it takes some memory
CPU_BATCH = 4  # clips: a few seconds of work, so that progress is seen
CARD_BATCH = 64  # clips, of whatever videos: what fills a card
BATCH_MB = 1000  # a batch travels as one Arrow array, which ends at 2 GB
PROCESS_GB = 0.5  # a process that has imported its libraries
PLENTY = 10_000


@dataclass(frozen=True, slots=True)
class Node:
    """What a machine of the cluster has."""

    cpus: float
    gpus: float
    memory_gb: float


@dataclass(frozen=True, slots=True)
class Stage:
    """Scorers that run one after another in one process, `copies` of which exist.

    `needs` is what one copy occupies; `keeps` names the fields of a clip's pixels that later stages look at.
    """

    scorers: tuple[Scorer, ...]
    needs: Resources
    copies: int
    batch: int
    keeps: frozenset[str]

    @property
    def booked(self) -> float:
        """CPUs of Ray's books that one copy takes."""
        return BOOKED * self.needs.cpus

    @property
    def title(self) -> str:
        """Its scorers' names."""
        return " + ".join(s.name for s in self.scorers)


def stages_for(
    scorers: Sequence[Scorer],
    nodes: Sequence[Node],
    config: CurateConfig,
    cpus: int,
    videos: int,
    given: Collection[str] = (),
) -> list[Stage]:
    """The stages in order, none without scorers. `cpus` cores may be used; of `videos` at most so many are read at a
    time; columns `given` are known already.

    Pools are as large as cores, cards and memory allow: at most one copy of a stage on each card, and no more copies
    without a card than cores or videos. Without any card no stage asks for one. Raises CurationError with the
    arithmetic if one copy of every stage and a reader do not fit, ValueError if a required column is nobody's.
    """
    cards = sum(int(n.gpus) for n in nodes)
    stages = []
    groups = _groups(scorers, cards > 0, given)
    for at, group in enumerate(groups):
        needs = _needs(group, cards > 0)
        later = frozenset(field for g in groups[at + 1 :] for s in g for field in s.sees)
        stages.append(Stage(tuple(group), needs, 1, _batch(config) if needs.gpus else CPU_BATCH, later))
    room = _Room(nodes)
    reader = reader_share(config)
    if not (room.read(reader) and all(room.take(stage) for stage in stages)):
        raise CurationError(_refusal(stages, reader, nodes))
    return _grown(stages, room, cards, max(1, min(cpus, videos)))


def reader_share(config: CurateConfig) -> float:
    """The share of a card that a reader asks for."""
    return DECODER_SHARE if config.decoder == "nvdec" else 0.0


def trimmed(clip: ClipFrames, keep: frozenset[str]) -> ClipFrames:
    """The clip without the pixels that nobody looks at any more: they are what is heavy to hand over."""
    return replace(clip, **{name: getattr(clip, name)[:0] for name in PIXELS if name not in keep})


def _groups(scorers: Sequence[Scorer], cards: bool, given: Collection[str]) -> list[list[Scorer]]:
    """Scorers by process, those with and without a card in turn, each after those whose columns it requires."""
    waiting, made, groups, on_card, idle = list(scorers), set(given), [], False, 0
    while waiting:
        group: list[Scorer] = []
        share, ready = 0.0, set(made)
        for scorer in list(waiting):
            wants = scorer.resources.gpus if cards else 0.0
            if bool(wants) != on_card or not ready.issuperset(scorer.requires):
                continue
            if group and round(share + wants, 4) > 1:
                continue
            group.append(scorer)
            waiting.remove(scorer)
            share += wants
            ready |= {c.name for c in scorer.columns}
        made, on_card, idle = ready, not on_card, 0 if group else idle + 1
        groups += [group] if group else []
        if idle > 1:
            lacking = {s.name: sorted(set(s.requires) - made) for s in waiting}
            raise ValueError(f"nobody makes the columns that these scorers require: {lacking}")
    return groups


def _needs(group: Sequence[Scorer], cards: bool) -> Resources:
    """What one process occupies. Weights that go to a card lie in host memory only while they are loaded, in turn."""
    each = [s.resources for s in group]
    gpus = round(sum(r.gpus for r in each), 4) if cards else 0.0
    weights = [r.memory_gb for r in each]
    memory = max(weights) if gpus else sum(weights)
    return Resources(max((r.cpus for r in each), default=1.0), gpus, round(PROCESS_GB + memory, 3))


def _batch(config: CurateConfig) -> int:
    """Clips in a batch for a card: fewer where thumbnails are large."""
    pictures = 3 + (8 if config.profile == "svd" else 0)
    clip_mb = pictures * 3 * config.thumbnail_px**2 / 1e6
    return max(1, min(CARD_BATCH, int(BATCH_MB / clip_mb)))


class _Room:
    """What is still free on each machine. A card is filled before the next is begun."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._cpus = [n.cpus / RESERVED for n in nodes]
        self._memory = [n.memory_gb for n in nodes]
        self._cards = [[1.0] * int(n.gpus) for n in nodes]

    def read(self, share: float) -> bool:
        """Place a reader, which asks for this share of a card."""
        return self._place(BOOKED, share, 0.0)

    def take(self, stage: Stage) -> bool:
        """Place a copy of the stage. False, and nothing is taken, if it fits on no machine."""
        return self._place(stage.booked, stage.needs.gpus, stage.needs.memory_gb)

    def _place(self, cpus: float, gpus: float, memory_gb: float) -> bool:
        for at, cards in enumerate(self._cards):
            card = next((i for i, free in enumerate(cards) if free + 1e-6 >= gpus), None)
            if self._cpus[at] + 1e-6 < cpus or self._memory[at] + 1e-6 < memory_gb or (gpus and card is None):
                continue
            self._cpus[at] -= cpus
            self._memory[at] -= memory_gb
            if gpus and card is not None:
                cards[card] -= gpus
            return True
        return False


def _grown(stages: Sequence[Stage], room: _Room, cards: int, cores: int) -> list[Stage]:
    """More copies, one of each stage in turn, until the cores, the cards or the room are used up."""
    copies = [1] * len(stages)
    most = [cards if s.needs.gpus else max(1, int(cores / max(s.needs.cpus, 1))) for s in stages]
    growing = set(range(len(stages)))
    while growing:
        for i in sorted(growing):
            if copies[i] >= most[i] or not room.take(stages[i]):
                growing.discard(i)
            else:
                copies[i] += 1
    return [replace(stage, copies=n) for stage, n in zip(stages, copies, strict=True)]


def _refusal(stages: Sequence[Stage], reader: float, nodes: Sequence[Node]) -> str:
    """What is needed, what there is, and what to change, for each resource that alone does not suffice."""
    booked = [f"{s.booked:g} ({s.title})" for s in stages]
    cpus = RESERVED * (BOOKED + sum(s.booked for s in stages))
    have = sum(n.cpus for n in nodes)
    on_cards = [s for s in stages if s.needs.gpus]
    lines = []
    if not _fits(stages, reader, nodes, lambda n: replace(n, gpus=PLENTY, memory_gb=PLENTY)):
        lines.append(
            f"cpus: the plan needs {cpus:g} CPUs of Ray's books ({RESERVED} times a reader's {BOOKED:g} and "
            f"{' and '.join(booked)}) and Ray has {have:g}; give Ray more CPUs (--cpus) or enlarge the cluster"
        )
    if not _fits(stages, reader, nodes, lambda n: replace(n, cpus=PLENTY, memory_gb=PLENTY)):
        shares = [f"decoder nvdec {reader:g}"] if reader else []
        shares += [
            " + ".join(f"{s.name} {s.resources.gpus:g}" for s in stage.scorers) + f" = {stage.needs.gpus:g}"
            for stage in on_cards
        ]
        lines.append(
            f"gpus: shares of a card are held at the same time ({'; '.join(shares)}), none of them can be split, and "
            f"Ray has {sum(n.gpus for n in nodes):g}; add a card, take decoder cpu, or let a server fuse the captions "
            "(weights.caption_llm)"
        )
    if not _fits(stages, reader, nodes, lambda n: replace(n, cpus=PLENTY, gpus=PLENTY)):
        sums = "; ".join(f"{s.title} {s.needs.memory_gb:g} GB" for s in stages)
        largest = max((n.memory_gb for n in nodes), default=0.0)
        lines.append(
            f"memory: one process of each stage needs {sum(s.needs.memory_gb for s in stages):g} GB ({sums}) and Ray "
            f"has {sum(n.memory_gb for n in nodes):.3g} GB, the largest machine {largest:.3g}; take one with more, "
            "smaller models (weights), or the embedded profile"
        )
    return "\n".join(lines) or (
        "resources: CPUs, cards and memory suffice each, but no machine has enough of all for one stage: "
        + "; ".join(
            f"{s.title} needs {s.booked:g} CPUs, {s.needs.gpus:g} of a card and {s.needs.memory_gb:g} GB"
            for s in stages
        )
    )


def _fits(stages: Sequence[Stage], reader: float, nodes: Sequence[Node], widened: Callable[[Node], Node]) -> bool:
    room = _Room([widened(n) for n in nodes])
    return room.read(reader) and all(room.take(stage) for stage in stages)
