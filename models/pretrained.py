"""Weights that users have downloaded: a folder in diffusers' format, read into a network of ours.

Such a folder holds `config.json` and `diffusion_pytorch_model.safetensors`, or shards of it with an index, each perhaps
in a variant ("fp16"). Our networks carry the same parameter names, so that nothing is renamed and every key is checked.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Protocol, Self, TypeVar, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

STEM = "diffusion_pytorch_model"
CONFIG = "config.json"


class PretrainedError(ValueError):
    """A folder of weights is not what the network needs; the message says what to do."""


class Configured(Protocol):
    """A network that can be made of a folder's configuration."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A network of this configuration. Raises PretrainedError for settings it does not know (`settings`)."""
        ...


Network = TypeVar("Network", bound=Configured)
Config = TypeVar("Config")


def load(
    network: type[Network],
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    variant: str | None = None,
    rename: Callable[[str], str] = lambda key: key,
) -> Network:
    """The network of `folder` with its weights, in training mode, as a new network is.

    `dtype` and `device` default to the file's own and the CPU; `variant` is the "fp16" of
    `diffusion_pytorch_model.fp16.safetensors`. `rename` gives a file's key its present name, for files of an old
    format. Memory holds the weights once: the network is made on the meta device, tensors are read one by one.

    Raises PretrainedError for a folder without weights or configuration, settings that `network` does not know or
    cannot have, keys or shapes that are not exactly its own, and a `dtype` that weights cannot have.
    """
    folder = Path(folder)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise PretrainedError(f"dtype = {dtype!r} for {folder}: weights need one of floats, such as torch.float16")
    config = read_config(folder)
    try:
        with torch.device("meta"):
            made = network.from_config(config)
    except (ValueError, RuntimeError) as error:  # torch's own too, of sizes that nothing has
        raise PretrainedError(f"{folder / CONFIG}: {error}") from error
    assert isinstance(made, nn.Module)
    wanted = {key: tuple(tensor.shape) for key, tensor in made.state_dict().items()}
    if unheld := [name for name, _ in made.named_buffers() if name not in wanted]:
        raise TypeError(f"{network.__name__} has buffers that no file holds: {unheld}")
    files = weight_files(folder, variant)
    _check_keys(folder, wanted, {rename(key): shape for key, shape in _shapes(files)})
    state = {rename(key): _moved(tensor, device, dtype) for key, tensor in _tensors(files)}
    made.load_state_dict(state, assign=True)
    return made


def read_config(folder: str | Path) -> dict[str, Any]:
    """What `config.json` says. Raises PretrainedError where it is missing or no JSON object."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        parts = sorted(p.parent.name for p in Path(folder).glob(f"*/{CONFIG}"))
        remedy = f"give one of its folders: {', '.join(parts)}" if parts else "give the folder of one network"
        raise PretrainedError(f"{path} is missing: {remedy}, downloaded whole")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise PretrainedError(f"{path} is no JSON ({error}): download it again") from error
    if not isinstance(config, dict):
        raise PretrainedError(f"{path} holds no settings by name: download it again")
    return config


def settings(
    config: Mapping[str, Any],
    known: type[Config],
    class_name: str,
    fixed: Mapping[str, Any],
    ignored: Iterable[str] = (),
) -> Config:
    """`config`, as `config.json` has it, as the dataclass `known`, whose defaults stand for what is not said.

    `class_name` is the format's name for the network. `fixed` are settings of which only one value is supported (a
    tuple: any of these); `ignored` say nothing about what is computed. Lists become tuples, and names that begin with
    an underscore are the format's own. Raises PretrainedError naming every setting that is unknown, unsupported or not
    of its type in `known`; whole numbers are sizes, at least 1, and lists are not empty.
    """
    kind = config.get("_class_name", class_name)
    if kind != class_name:
        raise PretrainedError(f"{CONFIG} is that of {_a(kind)}, not of {_a(class_name)}: give the folder of the latter")
    hints, values, wrong = get_type_hints(known), {}, []
    for name, given in config.items():
        value = tuples(given)
        if name in hints:
            values[name] = value
            if not _is(value, hints[name]):
                wrong.append(f"{name} = {given!r} (must be {_said(hints[name])})")
        elif name in fixed:
            allowed = fixed[name] if isinstance(fixed[name], tuple) else (fixed[name],)
            if value not in allowed:
                wrong.append(f"{name} = {given!r} (supported: {', '.join(map(repr, allowed))})")
        elif not name.startswith("_") and name not in ignored:
            wrong.append(f"{name} (unknown)")
    if wrong:
        raise PretrainedError(f"{_a(class_name)} with settings that are not supported here: {'; '.join(wrong)}")
    try:
        return known(**values)
    except ValueError as error:
        raise PretrainedError(f"{_a(class_name)} whose {CONFIG} does not fit together: {error}") from error


def check_parts(name: str, parts: str, widths: Sequence[int], numbers: Sequence[int]) -> None:
    """Raises ValueError, with the setting's name, where a level's channels do not divide into its number of parts."""
    for width, number in zip(widths, numbers, strict=True):
        if number < 1 or width % number:
            raise ValueError(f"{name}: {width} channels do not give {number} {parts}")


def _a(name: str) -> str:
    return f"{'an' if str(name)[:1] in set('AEIO') else 'a'} {name}"


def _is(value: Any, hint: Any) -> bool:
    """Whether a setting is of its type, and of a size that there is."""
    if isinstance(hint, UnionType):
        return any(_is(value, kind) for kind in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and bool(value) and all(_is(item, get_args(hint)[0]) for item in value)
    if hint is int:
        return type(value) is int and value >= 1
    if hint is float:
        return type(value) in {int, float} and math.isfinite(value)
    return isinstance(value, hint)


def _said(hint: Any) -> str:
    """A setting's type in words."""
    if isinstance(hint, UnionType):
        return " or ".join(map(_said, get_args(hint)))
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list, each {_said(get_args(hint)[0])}"
    words = {int: "a whole number, at least 1", float: "a number", str: "a text", bool: "true or false"}
    return words.get(hint, "null")


def tuples(value: Any) -> Any:
    """JSON's lists as tuples, at any depth."""
    return tuple(tuples(item) for item in value) if isinstance(value, list | tuple) else value


def weight_files(folder: str | Path, variant: str | None = None) -> list[Path]:
    """The safetensors files of a folder: one, or the shards that its index names.

    Raises PretrainedError where there are none, or not all, and says what there is instead.
    """
    folder = Path(folder)
    middle = f".{variant}" if variant else ""
    whole, index = folder / f"{STEM}{middle}.safetensors", folder / f"{STEM}.safetensors.index{middle}.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        if any(folder.glob(f"{STEM}{middle}-*-of-*.safetensors")):
            raise PretrainedError(f"{folder} has shards but lacks their index: download {index.name} too")
        raise PretrainedError(f"neither {whole.name} nor {index.name} is in {folder}: {_instead(folder)}")
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise PretrainedError(f"{index} is no index of shards: download it again") from error
    files = [folder / Path(name).name for name in names]
    if missing := [file.name for file in files if not file.is_file()]:
        raise PretrainedError(f"{folder} lacks {len(missing)} of {len(files)} shards: download {', '.join(missing)}")
    return files


def _instead(folder: Path) -> str:
    """What to do about a folder without the weights that were asked for."""
    names = " ".join(sorted(path.name for path in folder.glob(f"{STEM}*")))
    if re.search(rf"{STEM}\.safetensors(\.index\.json)?\b(?!\.)", names):
        return "there are weights without a variant; leave it out"
    if variants := re.findall(rf"{STEM}(?:\.safetensors\.index)?\.(\w+)(?:-\d+-of-\d+)?\.(?:safetensors|json)", names):
        return f"there are weights of variant {' or '.join(sorted(set(variants)))}; ask for it"
    if ".bin" in names:
        return "pickled weights (.bin) can run code and are not read; download the safetensors"
    return "download the weights too"


def _check_keys(folder: Path, wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    faults = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "of another shape": [
            f"{key} {found[key]} for {wanted[key]}"
            for key in sorted(wanted.keys() & found.keys())
            if found[key] != wanted[key]
        ],
    }
    if any(faults.values()):
        said = "; ".join(f"{len(keys)} {kind}: {_few(keys)}" for kind, keys in faults.items() if keys)
        raise PretrainedError(
            f"the weights in {folder} are not those of its {CONFIG}: {said}. Take both from the same download; weights "
            "of another format (a single .ckpt, LoRA, EMA only) must be converted to diffusers' first"
        )


def _few(keys: list[str], shown: int = 5) -> str:
    return ", ".join(keys[:shown]) + (f" and {len(keys) - shown} more" if len(keys) > shown else "")


def _shapes(files: Iterable[Path]) -> Iterator[tuple[str, tuple[int, ...]]]:
    for path in files:
        with _opened(path) as file:
            for key in file.keys():  # noqa: SIM118 - a handle, not a mapping
                yield key, tuple(file.get_slice(key).get_shape())


def _tensors(files: Iterable[Path]) -> Iterator[tuple[str, Tensor]]:
    for path in files:
        with _opened(path) as file:
            for key in file.keys():  # noqa: SIM118
                yield key, file.get_tensor(key)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        handle = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise PretrainedError(
            f"{path} is no whole safetensors file ({error}): download it again (a small text file is git-lfs's pointer)"
        ) from error
    with handle as file:
        yield file


def _moved(tensor: Tensor, device: torch.device | str, dtype: torch.dtype | None) -> Tensor:
    """A copy in memory of its own: what is read is a view of the file, which may go or change."""
    return tensor.to(device, dtype if tensor.is_floating_point() else None, copy=True)
