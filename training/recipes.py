"""How the staged trainer trains each system: the recipes of `models.systems`, on pixels and captions.

Which parameters a stage trains is the published recipe's rule; what noise it trains at is the configuration's
formulation. What is given here beside them is a row of a table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from models import registry
from models.diffusion.losses import Loss
from models.systems.recipe import everything, temporal_only
from training import structure
from training.conditioning import Tell, as_it_is
from training.names import Stage, SystemName

Rule = Callable[[str], bool]
"""Whether the parameter of that name is trained."""


@dataclass(frozen=True)
class Recipe:
    """A system's stages in the staged trainer: the published ones' names, none where it has none of that kind.

    `tell` is what the network is told beside text, fps and motion, or in their place; `loss` makes of the formulation's
    loss the system's. Without `captions`, videos are trained on with the empty caption, as the published stage's data
    say; images always have their captions.
    """

    video_pretrain: str = ""
    finetune: str = ""
    one_clip: bool = False  # on video, trained on one clip
    captions: bool = True
    tell: Tell = as_it_is
    loss: Callable[[Loss], Loss] = lambda loss: loss


RECIPES: Mapping[SystemName, Recipe] = {
    SystemName.vdm: Recipe("joint", "joint"),
    SystemName.imagen_video: Recipe("base", "base"),
    SystemName.dit: Recipe("pretrain", "finetune"),
    SystemName.make_a_video: Recipe("decoder-video", captions=False),
    SystemName.tune_a_video: Recipe("one-shot", "one-shot", one_clip=True),
    SystemName.gen1: Recipe("blur", "blur", tell=structure.edited, loss=structure.AtAnyBlur),
    SystemName.video_ldm: Recipe("keyframes"),
    SystemName.svd: Recipe("video_pretrain", "finetune_text"),
    SystemName.lumiere: Recipe("base-video"),
    SystemName.control_video: Recipe(tell=structure.controlled),
}


def rule(system: SystemName, stage: Stage) -> Rule:
    """What `optim.trainable: auto` trains.

    Images pass no layers over time, so these stay as they are in image_pretrain; a control branch is trained beside its
    image network, which stays. Where the system has published no second run on video, finetune trains everything."""
    if system == SystemName.control_video:
        return lambda name: name.startswith("control.")
    if stage == Stage.image_pretrain:
        return lambda name: not temporal_only(name)
    published = getattr(RECIPES[system], stage.value)
    return registry.system(system.value).stage(published).trainable if published else everything
