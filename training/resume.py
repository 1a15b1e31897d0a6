"""A stage's folder: whether the run in it is this very one, how it goes on, and who is at work there."""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from training import checkpoint as checkpoints
from training.checkpoint import RESULT, Lineage
from training.config import TrainStageConfig
from training.errors import TrainingError
from training.names import Structure
from training.selection import Selection
from training.trainer import TrainState

METRICS, CURVE, LOCK = "metrics.jsonl", "loss.png", "lock"
# of a stage's configuration, what cannot change its result
_INCIDENTAL = dict.fromkeys(("selection", "out", "replace", "parent", "device", "cpu_threads", "log_seconds"), True)
# settings that came later: at these values a run is the one that it was before there were any
_LATER: dict[str, Any] = {"structure": Structure.blurred_brightness.value}


def identity_of(config: TrainStageConfig, selection: Selection, parent_hash: str) -> str:
    """The hash of all that decides a stage's result."""
    fields = config.model_dump(mode="json", exclude=_INCIDENTAL | {"data": {"cache", "cache_gb"}})
    fields["model"] = {key: value for key, value in fields["model"].items() if _LATER.get(key) != value}
    ranks = [str(clip.rank) for clip in selection.clips]
    text = json.dumps([fields, selection.content_hash, ranks, parent_hash], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def resume(path: Path, lineage: Lineage, state: TrainState, device: torch.device, say: Callable[..., None]) -> None:
    """Take up the checkpoint at `path` if it is this very run's; else start anew, and say what differs.

    Another run's is lost: `refuse_other_run` goes before."""
    for half in path.parent.glob(f".{path.name}.*.tmp"):  # of a run that was killed while it wrote
        half.unlink()
    metrics = path.with_name(METRICS)
    old = checkpoints.load(path) if path.exists() else None
    if old and old.lineage.identity == lineage.identity:
        state.network.load_state_dict(old.weights)
        state.ema.weights = {name: tensor.to(device) for name, tensor in old.ema.items()}
        checkpoints.restore_optimizer(state.optimizer, state.network, old.optimizer)
        state.samples, state.quarters = old.lineage.samples, old.lineage.quarters
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["samples"] <= state.samples]
        checkpoints.write_atomic(metrics, lambda temporary: temporary.write_text("".join(f"{x}\n" for x in kept)))
        say("resuming", samples=state.samples)
        return
    if old:
        say("starting anew: the folder holds another run", differs=_differences(old.lineage, lineage))
    for stale in (path, metrics, path.with_name(RESULT), path.with_name(CURVE)):
        stale.unlink(missing_ok=True)


def refuse_other_run(config: TrainStageConfig, identity: str, content_hash: str, parent_hash: str) -> None:
    """Raises TrainingError where training would destroy what is in `config.out`: the parent, another stage, or, unless
    `config.replace`, a run with other settings that has samples behind it."""
    out = Path(config.out)
    path = out / checkpoints.FILE
    if not path.is_file():
        return
    old = checkpoints.read_lineage(path)
    if old.identity == identity or not old.samples:
        return
    if old.stage != config.stage:
        finished = "a finished" if (out / RESULT).is_file() else "an unfinished"
        raise TrainingError(f"out: {out} holds {finished} stage {old.stage}; choose another folder with --out")
    parent = Path(config.parent)
    if config.parent and path.resolve() in (parent.resolve(), (parent / checkpoints.FILE).resolve()):
        raise TrainingError(f"out: {out} holds the parent; choose another folder with --out")
    if not config.replace:
        new = Lineage(identity, config.stage, config.model_dump(mode="json"), {}, {"content_hash": content_hash}, "")
        differs = ", ".join(_differences(old, replace(new, parent_hash=parent_hash))) or "ranks of clips"
        raise TrainingError(
            f"out: {out} holds another run of {old.stage}, after {old.samples} samples (it differs in {differs}); "
            "choose another folder with --out, or lose that run with --replace"
        )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep `folder`, made where it is not there, from other trainings. The system lets go of it when the process dies.

    Raises TrainingError where another process is at work there, or nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK).open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise TrainingError(
                    f"out: {folder} is in use by process {file.read() or 'unknown'}; wait for it, or choose another "
                    "folder with --out"
                ) from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield
    except OSError as error:
        raise TrainingError(f"out: {folder} cannot be written ({error.strerror or error})") from error


def _differences(old: Lineage, new: Lineage) -> list[str]:
    fields = ["selection"] if old.selection["content_hash"] != new.selection["content_hash"] else []
    fields += ["parent"] if old.parent_hash != new.parent_hash else []
    before, after = {f"model.{key}": value for key, value in _LATER.items()} | _flat(old.config), _flat(new.config)
    apart = {*_INCIDENTAL, "data.cache", "data.cache_gb"}
    return fields + [key for key in sorted(before | after) if key not in apart and before.get(key) != after.get(key)]


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in config.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out
