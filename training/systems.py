"""What can be said of the systems in `models` to who chooses one."""

from collections.abc import Iterator

import torch

from models import registry
from models.systems.recipe import System, count
from training.errors import TrainingError
from training.names import SampleSystem, SystemName
from training.recipes import RECIPES

Row = tuple[str, ...]
_NO_STAGE = ("none: it needs no training", "none published; by name, a control branch")
HEAD: Row = ("system", "parameters, all networks", "inputs", "stages", "status")
COUNT = len(registry.NAMES)
BY_NAME: Row = ("system", "parameters", "rushes train SELECTION", "rushes sample CHECKPOINT")


def table() -> Iterator[Row]:
    """A row of `HEAD` for each system; counting takes a moment."""
    for name in registry.NAMES:
        system = registry.system(name)
        total = sum(registry.sizes(system).values())
        yield name, _millions(total), ", ".join(system.inputs), _stages(system), status(system)


def takes() -> Iterator[str]:
    """A line for each system: what a sample is made of, and its stages."""
    for system in map(registry.system, registry.NAMES):
        yield f"{system.name}: {', '.join(system.inputs)}. Stages: {_stages(system)}."


def by_name() -> Iterator[Row]:
    """A row of `BY_NAME` for each system: what the two commands are told beside selection and checkpoint."""
    for name in registry.NAMES:
        total = _millions(sum(registry.sizes(registry.system(name)).values()))
        sampled = "as it is"
        if name in set(SampleSystem):
            sampled = f"--system {name}"
        elif SystemName(name).edits:
            sampled = "--source VIDEO"
        yield name, total, f"--model.system {name}" if name in set(SystemName) else "nothing to train", sampled


def status(system: System) -> str:
    """How the system is used: its commands, on pixels and captions, and all that was published of it in Python."""
    said = []
    if system.name in set(SystemName):
        one = "--stage image_pretrain --parent IMAGES " if system.name == SystemName.control_video else ""
        said.append(f"rushes train SELECTION {one}--model.system {system.name}")
        if SystemName(system.name).edits:
            said.append("rushes sample CHECKPOINT --source VIDEO")
    if system.name in set(SampleSystem):
        said.append(f"rushes sample IMAGES --system {system.name}")
    return "; ".join([*said, "all of it in Python"])


def stages_here(system: System) -> str:
    """Which of its stages those of `rushes train` are; nothing where it has none on video."""
    if system.name not in set(SystemName) or system.name == SystemName.control_video:
        return ""
    recipe = RECIPES[SystemName(system.name)]
    finetune = f"as {recipe.finetune}" if recipe.finetune else "everything"
    one = ", on one clip" if recipe.one_clip else ""
    blind = "" if recipe.captions else ", both without captions"
    return f"rushes train: video_pretrain trains as {recipe.video_pretrain}, finetune {finetune}{one}{blind}"


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
    said = [system.paper, system.description, system.unpublished, status(system), stages_here(system)]
    words = "\n".join(filter(None, said))
    return words, networks, stages


def _stages(system: System) -> str:
    return ", ".join(stage.name for stage in system.stages) or _NO_STAGE[system.name in set(SystemName)]


def _millions(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} B" if parameters >= 1e9 else f"{parameters / 1e6:.1f} M"
