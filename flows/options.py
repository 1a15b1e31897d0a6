"""Command-line options made from a pydantic model, merged over a YAML file, with errors a person can act on.

The model's fields become options (`--motion.fps`, `--videos-per-shard`, `--no-text.enabled`), by pydantic-settings' own
machinery; one field may be positional. What is given on the command line wins over `--config FILE.yaml`, which wins
over the defaults.
"""

import argparse
import difflib
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, NoReturn, TypeVar, cast

from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, CliPositionalArg, CliSettingsSource, SettingsError

from curation.yaml_text import load


class UsageError(Exception):
    """Bad input on the command line or in a configuration file: one clear line for each fault."""


Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Parsed(Generic[Model]):
    """A validated configuration, and whether tracebacks are wanted."""

    config: Model
    debug: bool


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line and names the closest option, instead of printing the usage."""

    given: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        """Raise UsageError where argparse would print its usage and exit."""
        unknown = re.match(r"unrecognized arguments: (.*)", message)
        if unknown:
            first = unknown[1].split()[0]
            known = [name for name in self._option_string_actions if name.startswith("--")]
            message = f"unknown argument {first}"
            if listed := self._list_before(first):
                message += f"; give {listed} once for each: {listed} A {listed} B"
            else:
                message += closest(first.partition("=")[0], known)
        raise UsageError(f"{message} (see `{self.prog} --help`)")

    def _list_before(self, word: str) -> str:
        """The option that takes several values, if it is the last one before this word, which is none; else nothing."""
        given = [arg.partition("=")[0] for arg in self.given]
        options = [arg for arg in given[: given.index(word)] if arg.startswith("--")] if word in given else []
        action = self._option_string_actions.get(options[-1]) if options and not word.startswith("-") else None
        return options[-1] if action and str(action.metavar).startswith("list") else ""


def closest(word: str, known: Sequence[str]) -> str:
    """`; did you mean X?` if one of the known words is near, else what there is, if that is little."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; known: {', '.join(sorted(known))}" if 0 < len(known) <= 12 else ""


def parse(
    model: type[Model],
    args: Sequence[str],
    *,
    prog: str,
    about: str,
    example: str,
    positional: str | None = None,
) -> Parsed[Model]:
    """Read a model from a command line.

    Args:
        model: What is to be filled in.
        args: The arguments after the command's name.
        prog: How the command is called, for the help.
        about: What it does, for the help.
        example: Command lines shown under the help.
        positional: The field that needs no option name; several, in order, stand with blanks between them.

    Raises:
        UsageError: Something is unknown, missing or out of range; the message has a line for each.
        SystemExit: Help was asked for and printed.
    """
    parser = Parser(
        prog=prog,
        usage=f"{prog} {' '.join(f'[{p.upper()}]' for p in positional.split())} [options]"
        if positional
        else f"{prog} [options]",
        description=about,
        epilog=f"Example:\n{_indent(example)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_general(parser)
    try:
        source = _source(model, parser, positional)
        parser.given = [_kebab(a) for a in args]
        given = vars(parser.parse_args(parser.given))
        file, debug = given.pop("config"), given.pop("debug")
        given = {
            name: [_whole(v) for v in value] if isinstance(value, list) else value for name, value in given.items()
        }
        options = source(parsed_args=given)()
    except SettingsError as error:
        raise UsageError(f"{error} (see `{prog} --help`)") from error
    from_file = {} if file is None else read_yaml(Path(file))
    try:
        return Parsed(model.model_validate(merge(from_file, options)), debug)
    except ValidationError as error:
        origins = {"on the command line": options, **({} if file is None else {str(file): from_file})}
        raise UsageError("\n".join(explain(error, model, origins, positional))) from error


def glance(args: Sequence[str], *names: str) -> argparse.Namespace:
    """Read `--config`, `--debug` and the options `names` before the command's model is known.

    Every spelling that `parse` accepts counts. Other arguments are ignored, and so are errors: `parse` reports them.
    """
    parser = Parser(add_help=False, allow_abbrev=False)
    _add_general(parser)
    for name in names:
        parser.add_argument(name)
    try:
        return parser.parse_known_args([_kebab(a) for a in args])[0]
    except UsageError:
        return parser.parse_args([])


def _add_general(parser: Parser) -> None:
    """Add the options that every command has."""
    general = parser.add_argument_group("general")
    general.add_argument("--config", metavar="FILE.yaml", help="read fields from a YAML file; options here win over it")
    general.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _source(model: type[BaseModel], parser: Parser, positional: str | None) -> CliSettingsSource[Parser]:
    fields: dict[str, Any] = {}
    for name in (positional or "").split():
        # It may come from the file instead, so the command line must not insist on it: validation does.
        info = model.model_fields[name]
        fields[name] = (CliPositionalArg[info.annotation], Field(None, description=info.description))
    settings = create_model(model.__name__, __base__=(model, BaseSettings), **fields)
    source = CliSettingsSource(
        cast(type[BaseSettings], settings),
        root_parser=parser,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_implicit_flags=True,
        cli_kebab_case=True,
        cli_use_class_docs_for_groups=True,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for action in parser._actions:
        if action.help:
            action.help = action.help.removesuffix("(default: None)").removesuffix("(default: )").rstrip()
    return source


def _whole(value: Any) -> Any:
    """One element of a list option: a comma separates numbers, but is a comma in a text."""
    if not isinstance(value, str) or value.lstrip().startswith(("[", '"')):
        return value
    try:
        [float(part) for part in value.split(",")]
    except ValueError:
        return json.dumps([value])
    return value


def _kebab(arg: str) -> str:
    """Accept --videos_per_shard for --videos-per-shard; values stay as they are."""
    name, equals, value = arg.partition("=")
    return name.replace("_", "-") + equals + value if re.fullmatch(r"--[\w.-]+", name) else arg


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file. Raises UsageError, with the line of broken syntax or of a key given twice.

    The shell expands `~` in `--config ~/job.yaml`, but not in `--config=~/job.yaml`; so it is expanded here.
    """
    try:
        path = path.expanduser()
        content = load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; give --config the path of a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"{path}: cannot be read: {reason}") from error
    except ValueError as error:
        raise UsageError(f"{path}, {error}") from error
    except RuntimeError as error:  # `~someone` without such a user
        raise UsageError(f"{path}: cannot be read: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path}: must be a mapping, `field: value` lines, but is a {type(content).__name__}")
    return content


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one nested mapping over another; whatever is no mapping on both sides is replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def explain(
    error: ValidationError,
    model: type[BaseModel],
    origins: Mapping[str, Mapping[str, Any]],
    positional: str | None = None,
) -> list[str]:
    """One line a fault: where it was given, which field, what is wrong with it and what would be right.

    `origins` maps a place in words (a file's name) to what was given there; the first that holds the field is blamed.
    """
    lines = []
    faults = [(fault, _keys(fault, model)) for fault in error.errors(include_url=False)]
    faults.sort(key=lambda f: f[0]["type"] != "extra_forbidden")  # a misspelt field explains why another is missing
    for fault, keys in faults:
        if any(len(other) > len(keys) and other[: len(keys)] == keys for _, other in faults) and keys:
            continue  # the simple members of a union complain too; the fault further in says more
        field = ".".join(str(k) for k in keys)
        at = next((f"{place}: " for place, given in origins.items() if _holds(given, keys)), "")
        if fault["type"] == "missing":
            how = (
                f"give {field.upper()} or "
                if field in (positional or "").split()
                else f"give --{field.replace('_', '-')} or "
            )
            what = f"{field} is missing; {how}`{field}: ...` in the file of --config"
        elif fault["type"] == "extra_forbidden":
            owner = _owner(model, keys)
            what = f"unknown field {field}" + closest(str(keys[-1]), list(owner.model_fields) if owner else [])
        else:
            message = fault["msg"].removeprefix("Value error, ")
            shown = repr(fault["input"])
            got = f" (got {shown})" if len(shown) <= 60 and not isinstance(fault["input"], Mapping) else ""
            what = f"{field}: {message}{got}" if field else message
        lines.append(at + what)
    return list(dict.fromkeys(lines))


def _keys(fault: ErrorDetails, model: type[BaseModel]) -> list[int | str]:
    """A fault's location without the names that pydantic adds for the members of a union."""
    keys: list[int | str] = []
    scopes: list[type[BaseModel]] = [model]
    for key in fault["loc"]:
        owners = [s for s in scopes if key in s.model_fields]
        scopes = [m for s in owners for m in _models_in(s.model_fields[str(key)].annotation)] or scopes
        if owners or isinstance(key, int):
            keys.append(key)
    if fault["type"] == "extra_forbidden":
        keys.append(fault["loc"][-1])
    return keys


def _owner(model: type[BaseModel], keys: Sequence[int | str]) -> type[BaseModel] | None:
    """The model that the last key was looked for in."""
    scopes: list[type[BaseModel]] = [model]
    for key in keys[:-1]:
        if isinstance(key, str):
            scopes = [m for s in scopes if key in s.model_fields for m in _models_in(s.model_fields[key].annotation)]
    return scopes[0] if scopes else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        if typing.get_origin(annotation) is Literal:
            return []
        return [m for part in typing.get_args(annotation) for m in _models_in(part)]
    return []


def _holds(given: Any, keys: Sequence[int | str]) -> bool:
    for key in keys:
        entries = dict(enumerate(given)) if isinstance(given, list) else given
        if not isinstance(entries, Mapping) or key not in entries:
            return False
        given = cast(Mapping[Any, Any], entries)[key]
    return bool(keys)


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines())
