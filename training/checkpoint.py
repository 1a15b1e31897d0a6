"""Checkpoints: one safetensors file with weights, averaged weights, optimizer state and lineage; written atomically."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from training.ema import EMA
from training.errors import TrainingError
from training.names import Stage

FILE, RESULT = "checkpoint.safetensors", "result.json"
FORMAT = 1


@dataclass(frozen=True)
class Lineage:
    """Where a checkpoint comes from: enough to say what was trained on what, and whether a run is the same run."""

    identity: str  # hash of all that decides the result: stage configuration, selection, parent
    stage: str
    config: dict[str, Any]
    network: dict[str, Any]  # as `networks.described` gives it
    selection: dict[str, str]  # content_hash, and the hashes of manifest, policy and selection where recorded
    parent_hash: str
    motion_definition: dict[str, Any] | None = None
    samples: int = 0
    quarters: list[list[float]] = field(default_factory=list)  # sum and number of the losses of each, see TrainState
    ancestors: list[dict[str, Any]] = field(default_factory=list)  # stage and hash of each parent, oldest first
    code: str = ""
    format: int = FORMAT


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory. `optimizer` holds AdamW's tensors by parameter name."""

    lineage: Lineage
    weights: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, dict[str, Tensor]]


def save(path: Path, lineage: Lineage, network: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> None:
    """Write `path` so that it holds the old or the new checkpoint at any moment, whatever kills the process."""
    names = {id(p): name for name, p in network.named_parameters()}
    tensors = {f"model.{name}": t for name, t in network.state_dict().items()}
    tensors |= {f"ema.{name}": t for name, t in ema.weights.items()}
    for parameter, state in optimizer.state.items():
        tensors |= {f"optim.{key}.{names[id(parameter)]}": value for key, value in state.items()}
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    write_atomic(path, lambda temporary: save_file(tensors, temporary, {"rushes": json.dumps(asdict(lineage))}))


def load(source: str | Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint file, or the one in a stage's folder. Raises TrainingError if it is none of ours."""
    path = locate(source)
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            lineage = _lineage(path, file.metadata())
            groups: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optim": {}}
            for key in file.keys():  # noqa: SIM118 - not a mapping
                group, name = key.split(".", 1)
                groups[group][name] = _with_dimensions(key, file.get_tensor(key))
    except (SafetensorError, OSError, KeyError) as error:
        raise TrainingError(f"{path}: not a readable checkpoint ({error})") from error
    optimizer: dict[str, dict[str, Tensor]] = {}
    for key, tensor in groups["optim"].items():
        kind, name = key.split(".", 1)
        optimizer.setdefault(name, {})[kind] = tensor
    return Checkpoint(lineage, groups["model"], groups["ema"], optimizer)


def read_lineage(source: str | Path) -> Lineage:
    """Only the lineage: reads the header, not the tensors. Raises TrainingError if it is none of ours."""
    path = locate(source)
    try:
        with safe_open(path, "pt") as file:
            return _lineage(path, file.metadata())
    except (SafetensorError, OSError) as error:
        raise TrainingError(f"{path}: not a readable checkpoint ({error})") from error


def restore_optimizer(
    optimizer: torch.optim.Optimizer, network: nn.Module, states: dict[str, dict[str, Tensor]]
) -> None:
    """Give a fresh AdamW the state it was saved with."""
    by_name = dict(network.named_parameters())
    for name, state in states.items():
        # AdamW keeps its step counter on the CPU
        optimizer.state[by_name[name]] = {
            key: value if key == "step" else value.to(by_name[name].device) for key, value in state.items()
        }


def locate(source: str | Path) -> Path:
    """The checkpoint file that `source` names: itself, or the one in a stage's folder. Raises TrainingError."""
    path = Path(source)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise TrainingError(f"checkpoint: {path} does not exist; train that stage first")
    return path


def last_finished(folder: str) -> str:
    """Of the folder of three stages that of the last one that is finished; any other path as it is.

    Raises TrainingError where none of the three is finished."""
    path = Path(folder)
    begun = [path / stage for stage in Stage if (path / stage / FILE).is_file()]
    if (path / FILE).is_file() or not begun:
        return folder
    for stage in reversed(begun):
        if (stage / RESULT).is_file():
            return str(stage)
    raise TrainingError(f"checkpoint: {folder} holds no finished stage; finish its training, or name {begun[-1]}")


def file_hash(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def code_version() -> str:
    """The package's version and a hash of the sources that decide a training's result."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted([*root.glob("models/**/*.py"), *root.glob("training/**/*.py")]):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    try:
        release = version("rushes")
    except PackageNotFoundError:  # run from a source tree that was not installed
        release = "source"
    return f"{release}+{digest.hexdigest()[:12]}"


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path beside `path`, force it to disk and move it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _with_dimensions(key: str, tensor: Tensor) -> Tensor:
    """No parameter is 0-dim, but `Mix.factor` is in older checkpoints. AdamW's step counter is 0-dim."""
    return tensor if tensor.ndim or key.startswith("optim.step.") else tensor.reshape(1)


def _lineage(path: Path, metadata: dict[str, str] | None) -> Lineage:
    if not metadata or "rushes" not in metadata:
        raise TrainingError(f"{path}: a safetensors file, but not a checkpoint of this project")
    fields = json.loads(metadata["rushes"])
    if fields.get("format") != FORMAT:
        raise TrainingError(f"{path}: checkpoint format {fields.get('format')}, this version reads {FORMAT}")
    return Lineage(**fields)
