"""A stage from its configuration to its checkpoint; three of them make a model."""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
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
from training.data import ClipData, fits
from training.ema import EMA
from training.errors import TrainingError
from training.evaluate import denoising_error
from training.names import Device, Formulation, Stage, SystemName
from training.networks import described
from training.recipes import RECIPES
from training.resume import CURVE, METRICS, RESULT, identity_of, refuse_other_stage, resume
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
    loss_first: float  # mean of the first quarter of the logged losses: single ones are noisy
    loss_last: float  # and of the last quarter
    clips: int
    held_out_clips: int
    split: str  # how clips were held out: by policy, video or clip, or none (then the errors are of training clips)
    error_untrained: dict[str, float]  # a new network of the same sizes
    error_start: dict[str, float]  # what the stage began with
    error_trained: dict[str, float]  # the averaged weights at its end
    parameters: int
    trained_parameters: int
    decord_failures: int
    reused: bool = False  # the stage was finished before, and this is its recorded result


def run_stage(
    config: TrainStageConfig, on_event: OnEvent = lambda event: None, stop: Callable[[], bool] = lambda: False
) -> StageResult:
    """Train one stage into `config.out`, resume it, or return the recorded result of the very same stage.

    A folder that holds a different run (other settings, selection or parent) is trained anew, and an event says what
    differs. Raises TrainingError for what the user can mend, and Stopped when `stop` said so.
    """
    out = Path(config.out)
    rank_by = config.optim.best_by if config.optim.best_fraction < 1 else ""
    selection = read_selection(config.selection, rank_by)
    parent = checkpoints.locate(config.parent) if config.parent else None
    parent_hash = checkpoints.file_hash(parent) if parent else ""
    identity = identity_of(config, selection, parent_hash)

    if done := _recorded(out, identity):
        on_event({"event": "phase", "stage": config.stage, "phase": "finished before", "out": config.out})
        on_event({"event": "result", **asdict(done)})
        return done
    refuse_other_stage(config, out)
    from_lineage = checkpoints.read_lineage(parent) if parent else None
    check_motion(config, selection, from_lineage)
    shape = shape_of(config, from_lineage)
    try:
        out.mkdir(parents=True, exist_ok=True)
        return _train_stage(config, shape, out, selection, parent, parent_hash, identity, on_event, stop)
    except OSError as error:
        raise TrainingError(f"out: {config.out} cannot be written ({error.strerror or error})") from error


def run_staged(
    config: TrainStagedConfig, on_event: OnEvent = lambda event: None, stop: Callable[[], bool] = lambda: False
) -> list[StageResult]:
    """Train the three stages in sequence. Finished ones are not repeated; raises as `run_stage`."""
    return [run_stage(stage, on_event, stop) for stage in config.stages()]


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
    training, held, split = split_holdout(selection.clips, config.data.holdout_share)
    training = drawn(training)
    if config.optim.best_fraction < 1:
        training = best(training, config.optim.best_fraction)
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
    conditioner, loss = Conditioner(device, recipe.tell), recipe.loss(make_loss(config))
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
        checkpoints.save(path, replace(lineage, samples=state.samples), network, state.ema, optimizer)
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
    losses = draw_curve(out / METRICS, out / CURVE, title=config.stage.replace("_", "-"))
    if not finished:
        say("stopped", samples=state.samples)
        raise Stopped(f"{config.stage} stopped after {state.samples} samples; run it again to resume")

    say("evaluating")
    network.load_state_dict(state.ema.weights)
    quarter = max(1, len(losses) // 4)
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
        loss_first=sum(losses[:quarter]) / quarter,
        loss_last=sum(losses[-quarter:]) / quarter,
        clips=len(data),
        held_out_clips=len(examples) if split != "none" else 0,
        split=split,
        error_untrained=error_untrained,
        error_start=error_start,
        error_trained=denoising_error(loss, network, examples, conditioner),
        parameters=sum(p.numel() for p in network.parameters()),
        trained_parameters=sum(p.numel() for p in trained),
        decord_failures=sum(d.reader.failures.total() for d in {id(data): data, id(evaluation): evaluation}.values()),
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
        result = StageResult(**json.loads((out / RESULT).read_text()))
        same = result.identity == identity and checkpoints.file_hash(out / checkpoints.FILE) == result.checkpoint_hash
    except (OSError, ValueError, TypeError):  # none, or not ours: the stage runs
        return None
    return replace(result, reused=True, out=str(out), checkpoint=str(out / checkpoints.FILE)) if same else None
