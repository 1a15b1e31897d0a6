"""A stage from its configuration to its checkpoint; three of them make a model."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from models.backbones.unet import UNet, UNetConfig
from models.diffusion.losses import EDMLoss, Loss, VLoss
from training import checkpoint as checkpoints
from training.checkpoint import Checkpoint, Lineage
from training.conditioning import Conditioner
from training.config import Device, Formulation, Stage, SystemName, Trainable, TrainStageConfig, TrainStagedConfig
from training.curve import draw_curve
from training.data import ClipData
from training.ema import EMA
from training.errors import TrainingError
from training.evaluate import denoising_error
from training.networks import described, inflated, rebuilt, taken_apart
from training.selection import Selection, best, drawn, read_selection, split_holdout
from training.trainer import OnEvent, TrainState, train

RESULT, METRICS, CURVE = "result.json", "metrics.jsonl", "loss.png"
# of a stage's configuration, what cannot change its result
_INCIDENTAL = {"selection": True, "out": True, "parent": True, "device": True, "cpu_threads": True, "log_seconds": True}

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
    identity = _identity(config, selection, parent_hash)

    if done := _recorded(out, identity):
        on_event({"event": "phase", "stage": config.stage, "phase": "finished before", "out": config.out})
        on_event({"event": "result", **asdict(done)})
        return done
    _refuse_other_stage(config, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        return _train_stage(config, out, selection, parent, parent_hash, identity, on_event, stop)
    except OSError as error:
        raise TrainingError(f"out: {config.out} cannot be written ({error.strerror or error})") from error


def run_staged(
    config: TrainStagedConfig, on_event: OnEvent = lambda event: None, stop: Callable[[], bool] = lambda: False
) -> list[StageResult]:
    """Train the three stages in sequence. Finished ones are not repeated; raises as `run_stage`."""
    return [run_stage(stage, on_event, stop) for stage in config.stages()]


def make_loss(config: TrainStageConfig) -> Loss:
    """The loss, and with it the schedule and parameterization, that a stage trains."""
    optim = config.optim
    return EDMLoss(optim.p_mean, optim.p_std) if config.formulation == Formulation.edm else VLoss()


def pick_device(device: Device, cpu_threads: int = 0) -> torch.device:
    """The torch device; sets the CPU threads too. Raises TrainingError for a GPU that is not there."""
    if device == Device.cuda and not torch.cuda.is_available():
        raise TrainingError("device: cuda is not available here; use auto or cpu")
    torch.set_num_threads(cpu_threads or max(1, (os.cpu_count() or 1) // 2))
    return torch.device("cuda" if device != Device.cpu and torch.cuda.is_available() else "cpu")


def _train_stage(
    config: TrainStageConfig,
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
    _check_parent(config, selection, start)
    system, size = _shape(config, start)
    if config.data.height % size.multiple or config.data.width % size.multiple:
        raise TrainingError(
            f"data: height and width, {config.data.height}x{config.data.width}, must be multiples of {size.multiple}"
        )

    say("reading clips")
    training, held, split = split_holdout(selection.clips, config.data.holdout_share)
    training = drawn(training)
    if config.optim.best_fraction < 1:
        training = best(training, config.optim.best_fraction)
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
    conditioner, loss = Conditioner(device), make_loss(config)
    untrained, network = _networks(config, system, size, start)
    untrained, network = untrained.to(device), network.to(device)
    error_untrained = denoising_error(loss, untrained, examples, conditioner)
    error_start = denoising_error(loss, network, examples, conditioner)
    del untrained
    trained = _trainable(config, network)
    optimizer = torch.optim.AdamW(
        trained, lr=config.optim.lr, weight_decay=config.optim.weight_decay, betas=(0.9, 0.99)
    )
    state = TrainState(network, EMA(network, config.optim.ema_half_life), optimizer)

    lineage = Lineage(
        identity=identity,
        stage=config.stage,
        config=config.model_dump(mode="json"),
        network=described(network, system),
        selection={"content_hash": selection.content_hash, **selection.made_from},
        parent_hash=parent_hash,
        motion_definition=selection.motion_definition,
        ancestors=[*start.lineage.ancestors, {"stage": start.lineage.stage, "hash": parent_hash}] if start else [],
        code=checkpoints.code_version(),
    )
    path = out / checkpoints.FILE
    _resume(path, lineage, state, device, say)
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


def _shape(config: TrainStageConfig, start: Checkpoint | None) -> tuple[SystemName, UNetConfig]:
    """The system and the sizes of the stage's network. Of a parent that is an image network, the sizes alone."""
    if start is None:
        return taken_apart(config.model.model_dump())
    system, size = taken_apart(start.lineage.network)
    return system if size.temporal else config.model.system, size


def _networks(
    config: TrainStageConfig, system: SystemName, size: UNetConfig, start: Checkpoint | None
) -> tuple[UNet, UNet]:
    """(a new network, the one the stage starts from), both with temporal layers where the stage needs them."""
    description = {"system": system, **asdict(size)}
    untrained, network = rebuilt(description, config.seed), rebuilt(description)
    network.load_state_dict(start.ema if start else untrained.state_dict())
    if config.stage == Stage.image_pretrain or size.temporal:
        return untrained, network
    return inflated(untrained, system, config.seed), inflated(network, system, config.seed)


def _trainable(config: TrainStageConfig, network: UNet) -> list[torch.nn.Parameter]:
    """Freeze what the stage does not train and return the rest."""
    wanted = config.optim.trainable
    if wanted == Trainable.auto:
        wanted = Trainable.temporal if config.stage == Stage.video_pretrain else Trainable.all
    if config.stage == Stage.image_pretrain and wanted == Trainable.temporal:
        raise TrainingError("optim.trainable: images pass no temporal layer; use auto or all")
    if wanted == Trainable.temporal:
        network.requires_grad_(False)
        for parameter in network.temporal_parameters():
            parameter.requires_grad_(True)
    elif config.stage == Stage.image_pretrain:
        for parameter in network.temporal_parameters():
            parameter.requires_grad_(False)
    return [p for p in network.parameters() if p.requires_grad]


def _check_parent(config: TrainStageConfig, selection: Selection, start: Checkpoint | None) -> None:
    """A motion score of another definition would mean something else to the network than what it learned."""
    if start is None or start.lineage.motion_definition is None or selection.motion_definition is None:
        return
    if start.lineage.motion_definition != selection.motion_definition:
        raise TrainingError(
            f"selection: its motion score is {selection.motion_definition}, the parent {config.parent} was trained on "
            f"{start.lineage.motion_definition}; curate with the parent's settings"
        )


def _resume(path: Path, lineage: Lineage, state: TrainState, device: torch.device, say: Callable[..., None]) -> None:
    """Take up the checkpoint at `path` if it is this very run's; else start anew, and say what differs."""
    for half in path.parent.glob(f".{path.name}.*.tmp"):  # of a run that was killed while it wrote
        half.unlink()
    metrics = path.with_name(METRICS)
    old = checkpoints.load(path) if path.exists() else None
    if old and old.lineage.identity == lineage.identity:
        state.network.load_state_dict(old.weights)
        state.ema.weights = {name: tensor.to(device) for name, tensor in old.ema.items()}
        checkpoints.restore_optimizer(state.optimizer, state.network, old.optimizer)
        state.samples = old.lineage.samples
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["samples"] <= state.samples]
        checkpoints.write_atomic(metrics, lambda temporary: temporary.write_text("".join(f"{x}\n" for x in kept)))
        say("resuming", samples=state.samples)
        return
    if old:
        say("starting anew: the folder holds another run", differs=_differences(old.lineage, lineage))
    for stale in (path, metrics, path.with_name(RESULT), path.with_name(CURVE)):
        stale.unlink(missing_ok=True)


def _differences(old: Lineage, new: Lineage) -> list[str]:
    fields = ["selection"] if old.selection["content_hash"] != new.selection["content_hash"] else []
    fields += ["parent"] if old.parent_hash != new.parent_hash else []
    before, after = _flat(old.config), _flat(new.config)
    return fields + [
        key for key in sorted(before | after) if key not in _INCIDENTAL and before.get(key) != after.get(key)
    ]


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in config.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


def _identity(config: TrainStageConfig, selection: Selection, parent_hash: str) -> str:
    fields = config.model_dump(mode="json", exclude=_INCIDENTAL | {"data": {"cache", "cache_gb"}})
    ranks = [str(clip.rank) for clip in selection.clips]
    text = json.dumps([fields, selection.content_hash, ranks, parent_hash], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse_other_stage(config: TrainStageConfig, out: Path) -> None:
    """A finished stage is replaced by itself under other settings, never by another stage."""
    try:
        stage = json.loads((out / RESULT).read_text())["stage"]
    except (OSError, ValueError, TypeError, KeyError):
        return
    if stage != config.stage:
        raise TrainingError(f"out: {config.out} holds a finished stage {stage}; choose another folder with --out")


def _recorded(out: Path, identity: str) -> StageResult | None:
    """The result in `out` if it is this run's and its checkpoint is still the one it tells of."""
    try:
        result = StageResult(**json.loads((out / RESULT).read_text()))
        same = result.identity == identity and checkpoints.file_hash(out / checkpoints.FILE) == result.checkpoint_hash
    except (OSError, ValueError, TypeError):  # none, or not ours: the stage runs
        return None
    return replace(result, reused=True, out=str(out), checkpoint=str(out / checkpoints.FILE)) if same else None
