"""Whether the chosen system can sample from a checkpoint, and what it is told there."""

from functools import partial

from models.backbones.unet import UNetConfig
from training import structure
from training.conditioning import Tell, as_it_is
from training.config import SampleConfig
from training.errors import TrainingError
from training.names import SampleSystem, SystemName
from training.networks import PARTS, is_grown, transformer


def check(config: SampleConfig, system: SystemName, sizes: UNetConfig) -> None:
    """Raises TrainingError, with the remedy, for what does not go together: the first of these that is so."""
    chosen, of, default = config.system, config.checkpoint, SampleConfig()
    untrained = chosen != SampleSystem.auto
    edits = system.edits and sizes.temporal and not untrained
    follows = system == SystemName.control_video and chosen != SampleSystem.text2video_zero
    train = "rushes train --stage image_pretrain --model.system control_video --parent"
    for wrong, message in (
        (
            untrained and sizes.temporal,
            f"system: {chosen} makes video of an image network, and {of} is a network of video; name an image stage's "
            "checkpoint, or take auto",
        ),
        (
            untrained and PARTS[system].image is transformer,
            f"system: {chosen} changes a U-Net's attention, and {of} is {system}'s transformer; name an image stage's "
            "checkpoint of another system",
        ),
        (
            chosen == SampleSystem.text2video_zero and config.steps < 3,
            f"steps: text2video_zero moves what the first steps make, and {config.steps} are too few; take 3 or more",
        ),
        (edits and not config.source, f"source: {system} makes a video anew; name its file with source"),
        (
            bool(config.source) and not edits,
            f"source: {system if not untrained else chosen} makes no video anew of {of}; leave source empty, or name a "
            "video checkpoint of gen1 or tune_a_video",
        ),
        (
            bool(config.control) and not follows,
            f"control: {of} has no control branch that {chosen} uses; leave control empty, or sample by control_video "
            f"from what `{train} CHECKPOINT` trains",
        ),
        (
            config.strength != default.strength and chosen != SampleSystem.text2video_zero,
            "strength: only text2video_zero moves its picture by it; leave it away, or take system text2video_zero",
        ),
        (
            config.blur != default.blur and not (edits and system == SystemName.gen1),
            "blur: only gen1 blurs its source by it; leave it away, or name a video checkpoint of gen1",
        ),
    ):
        if wrong:
            raise TrainingError(message)


def makes_video(config: SampleConfig, system: SystemName, sizes: UNetConfig) -> bool:
    """Whether there are frames: of an image network by itself they would have nothing to do with one another."""
    return is_grown(system, sizes) or config.system != SampleSystem.auto


def tell_of(config: SampleConfig, system: SystemName, sizes: UNetConfig) -> Tell:
    """What the network is told of prompts and, (b, 3, [t,] h, w), of the video that is made anew or followed."""
    if system == SystemName.gen1 and not sizes.temporal:
        return lambda told, pixels: structure.edited(told, pixels[:, :, 0] if pixels.ndim == 5 else pixels)
    if system == SystemName.gen1:
        return partial(structure.edited, level=config.blur)
    return structure.controlled if config.control else as_it_is
