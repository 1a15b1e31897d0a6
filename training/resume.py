"""A stage's folder: whether the run in it is this very one, and how it goes on."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from training import checkpoint as checkpoints
from training.checkpoint import Lineage
from training.config import TrainStageConfig
from training.errors import TrainingError
from training.names import Structure
from training.selection import Selection
from training.trainer import TrainState

RESULT, METRICS, CURVE = "result.json", "metrics.jsonl", "loss.png"
# of a stage's configuration, what cannot change its result
_INCIDENTAL = {"selection": True, "out": True, "parent": True, "device": True, "cpu_threads": True, "log_seconds": True}
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


def refuse_other_stage(config: TrainStageConfig, out: Path) -> None:
    """A finished stage is replaced by itself under other settings, never by another stage."""
    try:
        stage = json.loads((out / RESULT).read_text())["stage"]
    except (OSError, ValueError, TypeError, KeyError):
        return
    if stage != config.stage:
        raise TrainingError(f"out: {config.out} holds a finished stage {stage}; choose another folder with --out")


def _differences(old: Lineage, new: Lineage) -> list[str]:
    fields = ["selection"] if old.selection["content_hash"] != new.selection["content_hash"] else []
    fields += ["parent"] if old.parent_hash != new.parent_hash else []
    before, after = {f"model.{key}": value for key, value in _LATER.items()} | _flat(old.config), _flat(new.config)
    return fields + [
        key for key in sorted(before | after) if key not in _INCIDENTAL and before.get(key) != after.get(key)
    ]


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in config.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out
