"""A stage from its configuration to its checkpoint; three of them make a model."""

import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from models.backbones.unet import UNetConfig
from models.diffusion.losses import EDMLoss, Loss, VLoss
from models.systems import dit
from training import checkpoint as checkpoints
from training.checkpoint import Lineage
from training.conditioning import Conditioner
from training.config import TrainStageConfig, TrainStagedConfig
from training.curve import draw_curve
from training.data import ClipData, fits, longest
from training.ema import EMA
from training.errors import TrainingError
from training.evaluate import denoising_error
from training.names import Device, Formulation, Stage, SystemName
from training.networks import described
from training.recipes import RECIPES
from training.resume import CURVE, METRICS, RESULT, alone, identity_of, refuse_other_run, resume
from training.selection import Clip, Selection, best, drawn, read_selection, split_holdout
from training.start import check_motion, networks, shape_of, sizes_after, trainable
from training.trainer import OnEvent, TrainState, train

_SPLITS = {  # of which something is to be said
    "by policy": "held-out clips are those that the policy's split sets aside",
    "by clip": "held-out clips are split by clip: the selection has one video",
    "none": "no clip is held out: the errors will be those of training clips",
}


class Stopped(Exception):  # noqa: N818 - an ordinary exit, not an error
    """Training was asked to stop; its checkpoint is written and the same configuration resumes it."""


@dataclass(frozen=True)
class StageResult:
    """What a finished stage leaves. Errors are held-out denoising errors by noise level, and on average ("mean")."""

    stage: str
    out: str
    checkpoint: str
    checkpoint_hash: str
    identity: str
    selection_hash: str
    parent_hash: str
    samples: int
    seconds: float  # of this run: less than the whole where it was resumed
    loss_first: float | None  # mean over the first quarter of the samples: single ones are noisy; None for one step
    loss_last: float | None  # and over the last quarter
    clips: int
    held_out_clips: int
    split: str  # how clips were held out: by policy, video or clip, or none (then the errors are of training clips)
    error_untrained: dict[str, float]  # a new network of the same sizes
    error_start: dict[str, float]  # what the stage began with
    error_trained: dict[str, float]  # the averaged weights at its end
    parameters: int
    trained_parameters: int
    system: str = ""  # whose network it is; empty in results from before it was recorded
    reused: bool = False  # the stage was finished before, and this is its recorded result


def run_stage(
    config: TrainStageConfig, on_event: OnEvent = lambda event: None, stop: Callable[[], bool] = lambda: False
) -> StageResult:
    """Train one stage into `config.out`, resume it, or return the recorded result of the very same stage.

    A folder that holds a different run (other settings, selection or parent) is refused, or with `config.replace`
    trained anew, and an event says what differs. Raises TrainingError for what the user can mend, before any work where
    that can be, and Stopped when `stop` said so.
    """
    out = Path(config.out)
    selection = _selection(config)
    parent = checkpoints.locate(config.parent) if config.parent else None
    parent_hash = checkpoints.file_hash(parent) if parent else ""
    identity = identity_of(config, selection, parent_hash)

    if done := _recorded(out, identity):
        on_event({"event": "phase", "stage": config.stage, "phase": "finished before", "out": config.out})
        on_event({"event": "result", **asdict(done)})
        return done
    from_lineage = checkpoints.read_lineage(parent) if parent else None
    check_motion(config, selection, from_lineage)
    system, sizes = shape_of(config, from_lineage)
    # what is recorded is the system that is trained, which may be the parent's
    config = config.model_copy(update={"model": config.model.model_copy(update={"system": system})})
    _check_frames(config, selection)
    refuse_other_run(config, identity, selection.content_hash, parent_hash)
    pick_device(config.device, config.cpu_threads)
    with alone(out):
        refuse_other_run(config, identity, selection.content_hash, parent_hash)  # who was there has gone on meanwhile
        return _train_stage(config, (system, sizes), out, selection, parent, parent_hash, identity, on_event, stop)


def run_staged(
    config: TrainStagedConfig, on_event: OnEvent = lambda event: None, stop: Callable[[], bool] = lambda: False
) -> list[StageResult]:
    """Train the three stages in sequence. Finished ones are not repeated; raises as `run_stage`."""
    stages = config.stages()
    with alone(Path(config.out)) if check_staged(stages) else nullcontext():
        return [run_stage(stage, on_event, stop) for stage in stages]


def check_staged(stages: Sequence[TrainStageConfig]) -> bool:
    """Whether any of a model's stages is yet to be trained. Raises TrainingError, before the first begins, where the
    folder of one holds another run, its clips are too short or its device is not there."""
    parent_hash, left = "", False
    for config in stages:
        selection = _selection(config)
        identity = identity_of(config, selection, parent_hash)
        if done := _recorded(Path(config.out), identity):
            parent_hash = done.checkpoint_hash
            continue
        _check_frames(config, selection)
        refuse_other_run(config, identity, selection.content_hash, parent_hash)
        pick_device(config.device, config.cpu_threads)
        left, parent_hash = True, "yet to come"
    return left


def make_loss(config: TrainStageConfig) -> Loss:
    """The loss, and with it the schedule and parameterization, that a stage trains."""
    if config.formulation == Formulation.edm:
        return EDMLoss(config.optim.p_mean, config.optim.p_std)
    return VLoss() if config.formulation == Formulation.v else dit.LOSS


def pick_device(device: Device, cpu_threads: int = 0) -> torch.device:
    """The torch device; sets the CPU threads too. Raises TrainingError for a GPU that is not there."""
    if device == Device.cuda and not torch.cuda.is_available():
        raise TrainingError("device: cuda is not available here; use auto or cpu")
    torch.set_num_threads(cpu_threads or max(1, (os.cpu_count() or 1) // 2))
    return torch.device("cuda" if device != Device.cpu and torch.cuda.is_available() else "cpu")


def _selection(config: TrainStageConfig) -> Selection:
    return read_selection(config.selection, config.optim.best_by if config.optim.best_fraction < 1 else "")


def _split(config: TrainStageConfig, selection: Selection) -> tuple[list[Clip], list[Clip], str]:
    """(clips to train on, held-out clips, how they were held out)."""
    training, held, split = split_holdout(selection.clips, config.data.holdout_share)
    training = drawn(training)
    if config.optim.best_fraction < 1:
        training = best(training, config.optim.best_fraction)
    return training, held, split


def _check_frames(config: TrainStageConfig, selection: Selection) -> None:
    """Raises TrainingError where no clip is as long as the stage's videos."""
    clips, frames = _split(config, selection)[0], config.data.frames
    if config.stage != Stage.image_pretrain and not any(fits(clip, frames, config.data.fps) for clip in clips):
        raise TrainingError(
            f"data.frames: none of the {len(clips)} clips has {frames} different frames; the longest has "
            f"{max(map(longest, clips))}, take no more"
        )


def _train_stage(
    config: TrainStageConfig,
    shape: tuple[SystemName, UNetConfig],
    out: Path,
    selection: Selection,
    parent: Path | None,
    parent_hash: str,
    identity: str,
    on_event: OnEvent,
    stop: Callable[[], bool],
) -> StageResult:
    began = time.monotonic()

    def say(phase: str, **more: Any) -> None:
        on_event({"event": "phase", "stage": config.stage, "phase": phase, **more})

    start = checkpoints.load(parent) if parent else None
    system, sizes = shape
    recipe = RECIPES[system]

    say("reading clips")
    training, held, split = _split(config, selection)
    one = _one(training, config) if recipe.one_clip and config.stage != Stage.image_pretrain else None
    if one:
        training = [one]
        say("tuning on one clip", clip=one.clip_id, uri=one.uri)
    if split in _SPLITS:
        say(_SPLITS[split])
    cache = Path(config.data.cache) if config.data.cache else out / "cache"
    frames = None if config.stage == Stage.image_pretrain else config.data.frames

    def warn(message: str) -> None:
        on_event({"event": "warning", "stage": config.stage, "message": message})

    data = ClipData(training, config.data, frames, cache, config.seed, warn)
    try:
        evaluation = ClipData(held, config.data, frames, cache, config.seed, warn) if held else data
    except TrainingError:
        evaluation, split = data, "none"
        warn("no held-out clip is usable: the errors are those of training clips")
    examples = evaluation.fixed()

    say("building the network")
    device = pick_device(config.device, config.cpu_threads)
    captions = recipe.captions or config.stage == Stage.image_pretrain
    conditioner, loss = Conditioner(device, recipe.tell, captions=captions), recipe.loss(make_loss(config))
    untrained, network = networks(config, system, sizes, start)
    untrained, network = untrained.to(device), network.to(device)
    error_untrained = denoising_error(loss, untrained, examples, conditioner)
    error_start = denoising_error(loss, network, examples, conditioner)
    del untrained
    trained = trainable(config, system, network)
    optimizer = torch.optim.AdamW(
        trained, lr=config.optim.lr, weight_decay=config.optim.weight_decay, betas=(0.9, 0.99)
    )
    state = TrainState(network, EMA(network, config.optim.ema_half_life), optimizer)

    lineage = Lineage(
        identity=identity,
        stage=config.stage,
        config=config.model_dump(mode="json"),
        network=described(system, sizes_after(config.stage, sizes)),
        selection={
            "content_hash": selection.content_hash,
            **selection.made_from,
            **({"clip": one.clip_id} if one else {}),
        },
        parent_hash=parent_hash,
        motion_definition=selection.motion_definition,
        ancestors=[*start.lineage.ancestors, {"stage": start.lineage.stage, "hash": parent_hash}] if start else [],
        code=checkpoints.code_version(),
    )
    path = out / checkpoints.FILE
    resume(path, lineage, state, device, say)
    del start

    def save() -> None:
        checkpoints.save(
            path, replace(lineage, samples=state.samples, quarters=state.quarters), network, state.ema, optimizer
        )
        on_event({"event": "checkpoint", "stage": config.stage, "samples": state.samples, "path": str(path)})

    say("training", clips=len(data), held_out=len(examples), split=split, samples=config.optim.samples)
    with (out / METRICS).open("a") as metrics:

        def log(event: dict[str, Any]) -> None:
            line = {**event, "stage": config.stage}
            metrics.write(json.dumps({k: v for k, v in event.items() if k != "event"}) + "\n")
            metrics.flush()
            on_event(line)

        finished = train(
            state, loss, data, conditioner, config.optim, config.seed,
            save=save, on_event=log, stop=stop, log_seconds=config.log_seconds,
        )  # fmt: skip
    draw_curve(out / METRICS, out / CURVE, title=config.stage.replace("_", "-"))
    if not finished:
        say("stopped", samples=state.samples)
        raise Stopped(f"{config.stage} stopped after {state.samples} samples; run it again to resume")

    say("evaluating")
    network.load_state_dict(state.ema.weights)
    first, last = state.ends() or (None, None)
    result = StageResult(
        stage=config.stage,
        out=config.out,
        checkpoint=str(path),
        checkpoint_hash=checkpoints.file_hash(path),
        identity=identity,
        selection_hash=selection.hash,
        parent_hash=parent_hash,
        samples=state.samples,
        seconds=time.monotonic() - began,
        loss_first=first,
        loss_last=last,
        clips=len(data),
        held_out_clips=len(examples) if split != "none" else 0,
        split=split,
        error_untrained=error_untrained,
        error_start=error_start,
        error_trained=denoising_error(loss, network, examples, conditioner),
        parameters=sum(p.numel() for p in network.parameters()),
        trained_parameters=sum(p.numel() for p in trained),
        system=system,
    )
    checkpoints.write_atomic(out / RESULT, lambda temporary: temporary.write_text(json.dumps(asdict(result), indent=1)))
    on_event({"event": "result", **asdict(result)})
    return result


def _one(clips: Sequence[Clip], config: TrainStageConfig) -> Clip:
    """The clip that one-shot tuning takes: of those that are long enough the one of the highest rank, where
    `best_fraction` asks for ranks, or else the first."""
    long = [clip for clip in clips if fits(clip, config.data.frames, config.data.fps)]
    return best(long or clips, 0.0)[0]


def _recorded(out: Path, identity: str) -> StageResult | None:
    """The result in `out` if it is this run's and its checkpoint is still the one it tells of."""
    try:
        known = {f.name for f in fields(StageResult)}  # a result of an older version may have more
        recorded = json.loads((out / RESULT).read_text())
        result = StageResult(**{name: value for name, value in recorded.items() if name in known})
        same = result.identity == identity and checkpoints.file_hash(out / checkpoints.FILE) == result.checkpoint_hash
    except (OSError, ValueError, TypeError):  # none, or not ours: the stage runs
        return None
    return replace(result, reused=True, out=str(out), checkpoint=str(out / checkpoints.FILE)) if same else None
