"""What can be said of the systems in `models` to who chooses one."""

from collections.abc import Iterator

import torch

from models import registry
from models.systems.recipe import System, count
from training.config import SystemName
from training.errors import TrainingError

Row = tuple[str, ...]
HEAD: Row = ("system", "parameters, all networks", "inputs", "stages", "status")


def table() -> Iterator[Row]:
    """A row of `HEAD` for each system; counting takes a moment."""
    for name in registry.NAMES:
        system = registry.system(name)
        total = sum(registry.sizes(system).values())
        stages = ", ".join(stage.name for stage in system.stages) or "none: it needs no training"
        yield name, _millions(total), ", ".join(system.inputs), stages, status(system)


def status(system: System) -> str:
    """How the system is used: what of its training is a command, and what is Python."""
    if system.name in set(SystemName):
        return f"its temporal layers: rushes train --model.system {system.name}; all of it in Python"
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
    with torch.device("meta"):
        made = system.paper_size()
    networks = [
        (key, _millions(count(network)), _millions(system.published[key]) if key in system.published else "")
        for key, network in made.items()
    ]
    stages = []
    for stage in system.stages:
        trained = sum(p.numel() for p in stage.parameters(made[stage.network]))
        what = "all" if trained == count(made[stage.network]) else _millions(trained)
        stages.append((stage.name, stage.network, what, ", ".join(stage.data), stage.parent or ""))
    words = "\n".join(filter(None, [system.paper, system.description, system.unpublished, status(system)]))
    return words, networks, stages


def _millions(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} B" if parameters >= 1e9 else f"{parameters / 1e6:.1f} M"
