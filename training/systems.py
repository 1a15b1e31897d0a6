"""What can be said of the systems in `models` to who chooses one."""

from collections.abc import Iterator

from models import registry
from models.systems.recipe import System
from training.config import SystemName
from training.errors import TrainingError

Row = tuple[str, ...]
HEAD: Row = ("system", "parameters", "inputs", "stages", "status")


def table() -> Iterator[Row]:
    """A row of `HEAD` for each system; counting takes a moment."""
    for name in registry.NAMES:
        system = registry.system(name)
        total = sum(registry.sizes(system).values())
        stages = ", ".join(stage.name for stage in system.stages) or "none: it needs no training"
        yield name, _millions(total), ", ".join(system.inputs), stages, status(system)


def status(system: System) -> str:
    """How the system is used: which of its training is a command, and which is Python."""
    if system.name in set(SystemName):
        return f"rushes train --model.system {system.name}"
    return (
        "samples with any image network, in Python" if not system.stages else "network, recipe and sampler, in Python"
    )


def about(name: str) -> tuple[str, list[Row], list[Row]]:
    """A system's words, its networks (name, parameters, published) and its stages (name, network, trained, data,
    parent). Raises TrainingError for a name that there is not."""
    try:
        system = registry.system(name)
    except ValueError as error:
        raise TrainingError(f"system: {error}") from error
    sizes = registry.sizes(system)
    networks = [
        (network, _millions(size), _millions(system.published[network]) if network in system.published else "")
        for network, size in sizes.items()
    ]
    tiny = system.tiny()
    stages = []
    for stage in system.stages:
        network = tiny[stage.network]
        trained, every = stage.parameters(network), list(network.parameters())
        what = "all" if len(trained) == len(every) else f"{len(trained)} of {len(every)} tensors"
        stages.append((stage.name, stage.network, what, ", ".join(stage.data), stage.parent or ""))
    words = "\n".join(filter(None, [system.paper, system.description, system.unpublished, status(system)]))
    return words, networks, stages


def _millions(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"
