"""What a stage starts from: its network, of its parent's weights, and which of its parameters it trains."""

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from models.backbones.unet import UNetConfig
from models.systems.recipe import everything, temporal_only
from training.checkpoint import Checkpoint, Lineage
from training.config import ModelSettings, TrainStageConfig
from training.errors import TrainingError
from training.names import Stage, SystemName, Trainable
from training.networks import PARTS, is_grown, rebuilt, taken_apart
from training.recipes import rule
from training.selection import Selection


def shape_of(config: TrainStageConfig, parent: Lineage | None) -> tuple[SystemName, UNetConfig]:
    """The system and the sizes of the network that a stage starts from. Of an image network's system, the sizes alone.

    Raises TrainingError where stage, formulation or system cannot go on from the parent, or the pictures do not fit the
    network."""
    wanted = config.model.system
    if parent is None:
        system, sizes = taken_apart(config.model.model_dump())
    else:
        system, sizes = taken_apart(parent.network)
        _check_parent(config, system, sizes)
        _check_formulation(config, parent)
        system = system if sizes.temporal else wanted
    height, width = config.data.height, config.data.width
    if height % sizes.multiple or width % sizes.multiple:
        raise TrainingError(f"data: height and width, {height}x{width}, must be multiples of {sizes.multiple}")
    return system, sizes


def _check_parent(config: TrainStageConfig, system: SystemName, sizes: UNetConfig) -> None:
    wanted = config.model.system
    if sizes.temporal:
        if wanted == SystemName.control_video:
            raise TrainingError(f"parent: {config.parent} is a network of video; control_video takes an image stage")
        if config.stage == Stage.image_pretrain:
            raise TrainingError(
                f"parent: {config.parent} is a network of video, which image_pretrain does not train; take --stage "
                "finetune to go on with it, or start from an image stage"
            )
        # the default is taken for not named: a configuration that has been a file has all of its fields
        if wanted not in (system, ModelSettings().system):
            raise TrainingError(
                f"model.system: {wanted} cannot go on from {config.parent}, a network of video of {system}'s; leave it "
                "away, or take --stage video_pretrain and an image stage"
            )
    elif system == SystemName.control_video and wanted != system:
        raise TrainingError(f"parent: {config.parent} is a control branch; start from the image stage below it")
    elif PARTS[system].image is not PARTS[wanted].image:
        other = system if PARTS[system].image is not PARTS[SystemName.make_a_video].image else wanted
        raise TrainingError(
            f"model.system: {wanted} cannot go on from {config.parent}, an image stage of {system}'s; {other} has an "
            f"image network of its own, so name it in all stages"
        )
    elif config.stage == Stage.finetune:
        raise TrainingError(
            f"parent: {config.parent} is an image stage; take --stage video_pretrain, which makes a network of video "
            "of it, and finetune that"
        )


def _check_formulation(config: TrainStageConfig, parent: Lineage) -> None:
    """Raises TrainingError where the parent's weights predict something else than the stage would have them do."""
    before = parent.config.get("formulation", config.formulation)
    if before != config.formulation:
        raise TrainingError(
            f"formulation: {config.formulation} cannot go on from {config.parent}, which was trained by {before}; take "
            f"--formulation {before}"
        )


def check_motion(config: TrainStageConfig, selection: Selection, parent: Lineage | None) -> None:
    """Raises TrainingError for a motion score of another definition, which would mean something else to the network
    than what it learned."""
    if parent is None or parent.motion_definition is None or selection.motion_definition is None:
        return
    if parent.motion_definition != selection.motion_definition:
        raise TrainingError(
            f"selection: its motion score is {selection.motion_definition}, the parent {config.parent} was trained on "
            f"{parent.motion_definition}; curate with the parent's settings"
        )


def sizes_after(stage: Stage, sizes: UNetConfig) -> UNetConfig:
    """The sizes of the network that the stage trains: after an image stage, one of video where it was one before."""
    return sizes if stage == Stage.image_pretrain else replace(sizes, temporal=True)


def networks(
    config: TrainStageConfig, system: SystemName, sizes: UNetConfig, start: Checkpoint | None
) -> tuple[nn.Module, nn.Module]:
    """(a new network, the one the stage starts from), both grown where the stage needs the system's own.

    Raises TrainingError where there is no network of the sizes."""
    before = taken_apart(start.lineage.network)[0] if start else system
    grow = PARTS[system].grow if is_grown(system, sizes_after(config.stage, sizes)) else None
    try:
        untrained, network = rebuilt(before, sizes, config.seed), rebuilt(before, sizes)
        network.load_state_dict(start.ema if start else untrained.state_dict())
        if grow is None or is_grown(before, sizes):
            return untrained, network
        return grow(untrained, config.seed), grow(network, config.seed)
    except ValueError as error:
        raise TrainingError(f"model: {error}; choose another width or head_dim") from error


def trainable(config: TrainStageConfig, system: SystemName, network: nn.Module) -> list[nn.Parameter]:
    """Freeze what the stage does not train and return the rest. Raises TrainingError where that is nothing."""
    wanted = config.optim.trainable
    rules: dict[Trainable, Callable[[str], bool]] = {
        Trainable.auto: rule(system, config.stage),
        Trainable.temporal: temporal_only,
        Trainable.all: rule(system, Stage.image_pretrain) if config.stage == Stage.image_pretrain else everything,
    }
    if config.stage == Stage.image_pretrain and wanted == Trainable.temporal:
        raise TrainingError("optim.trainable: images pass no temporal layer; use auto or all")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(rules[wanted](name))
    if trained := [p for p in network.parameters() if p.requires_grad]:
        return trained
    raise TrainingError(f"optim.trainable: {system}'s network has no temporal layers of its own; use auto or all")
