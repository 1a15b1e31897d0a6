"""The command `rushes`. Nothing heavy is imported before a command is known and its options are right."""

import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flows import environment


@dataclass(frozen=True)
class Command:
    """A subcommand. `model` and `run` are `module:name`, imported when the command is called."""

    name: str
    summary: str
    about: str
    example: str
    model: str
    run: str
    positional: str | None = None
    resume: str = "Run the same command again."


DIRECT = "Runs here and now, without Prefect; in the UI of `rushes serve` it is the flow of the same name."

COMMANDS = {
    c.name: c
    for c in (
        Command(
            "demo",
            "from real footage to a sampled video, in one command",
            "Make the demo's footage (or take yours), run the flow `pipeline` on it and say what came out.",
            "rushes demo\nrushes demo --videos ~/films --out runs/mine",
            "flows.config:DemoConfig",
            "flows.demo:demo",
            resume="Run the same command again: finished work is not repeated.",
        ),
        Command(
            "preflight",
            "is everything here that a run needs?",
            "Look for weights, output folder and machine before any video is touched. Reads no network.",
            "rushes preflight\nrushes preflight --profile svd",
            "flows.config:PreflightConfig",
            "flows.commands:preflight",
            positional="videos",
        ),
        Command(
            "curate",
            "turn videos into a manifest of scored clips",
            f"Find cuts, make clips, measure them. Running again does only what is missing.\n{DIRECT}",
            "rushes curate ~/films --out runs/films\nrushes curate ~/films --motion.fps 4 --no-text.enabled",
            "curation.config:CurateConfig",
            "flows.commands:curate",
            positional="videos",
            resume="Finished shards are kept; run the same command again and it goes on from there.",
        ),
        Command(
            "select",
            "apply a policy to a manifest",
            f"Say which clips stay, and for every other one why it falls.\n{DIRECT}",
            "rushes select runs/films --out runs/films/selection\n"
            "rushes select runs/films --policy strict.yaml --dry-run\n"
            "rushes select runs/films --sweep motion=12.5,25,50 --out runs/films/levels",
            "curation.config:SelectConfig",
            "flows.commands:select",
            positional="manifest",
            resume="Finished selections are kept; run the same command again and it goes on from there.",
        ),
        Command(
            "diff",
            "what differs between two selections?",
            "Compare two selections: manifests, policies rule by rule, and the clips that are in one of them alone.",
            "rushes diff runs/films/levels/motion-25 runs/films/levels/motion-50\n"
            "rushes diff runs/films/selection runs/films/strict --out diff.parquet",
            "flows.config:DiffConfig",
            "flows.commands:diff",
            positional="a b",
        ),
        Command(
            "export",
            "write clips as files or WebDataset shards",
            "Cut the clips of a selection, or of a whole manifest, out of the videos, with captions and scores.\n"
            "A clip is copied where that is exact, else re-encoded. Running again writes only what is missing.\n"
            f"Ends with status 1 if a clip could not be written.\n{DIRECT}",
            "rushes export runs/films/selection --out clips\n"
            "rushes export runs/films/selection --format webdataset --audio --out shards",
            "curation.config:ExportConfig",
            "flows.commands:export",
            positional="selection",
            resume="What is written is kept; run the same command again and it goes on from there.",
        ),
        Command(
            "inspect",
            "look into a manifest",
            "Show what a manifest holds, ask it in SQL, or browse it on a local page.",
            "rushes inspect runs/films\n"
            'rushes inspect runs/films --sql "SELECT uri, count(*) FROM clips GROUP BY uri"\n'
            "rushes inspect runs/films --serve --selection runs/films/selection",
            "flows.config:InspectConfig",
            "flows.commands:inspect",
            positional="manifest",
        ),
        Command(
            "report",
            "write a page with funnel, histograms and contact sheets",
            "Write one HTML file that needs no other.",
            "rushes report runs/films --selection runs/films/selection --out films.html",
            "flows.config:ReportConfig",
            "flows.commands:report",
            positional="manifest",
        ),
        Command(
            "train",
            "train one stage, or all three in sequence",
            "Without --stage: image_pretrain, video_pretrain and finetune, each from the one before.\n"
            f"With --stage: that one alone, from --parent (see `rushes train --stage finetune --help`).\n{DIRECT}",
            "rushes train runs/films/selection --out runs/films/training\n"
            "rushes train runs/films/selection --stage video_pretrain "
            "--parent runs/films/training/image_pretrain --out runs/films/video",
            "training.config:TrainStagedConfig",
            "flows.commands:train",
            positional="selection",
            resume="A checkpoint was written; run the same command again and it goes on from there.",
        ),
        Command(
            "sample",
            "sample videos from a checkpoint",
            "Write for each prompt an MP4 and a GIF, and their frames side by side as a PNG.\n"
            "Several prompts: --prompts once for each.",
            'rushes sample runs/demo/training/finetune --prompts "a ball, panning left" --out ball\n'
            'rushes sample runs/demo/training --prompts "a street" --prompts "a dog" --out two',
            "training.config:SampleConfig",
            "flows.commands:sample",
            positional="checkpoint",
        ),
        Command(
            "models",
            "the video diffusion systems that there are",
            "List every system with its parameters at the published size, and how it is trained and sampled by name.\n"
            "With a name: its inputs, its networks, and each of its training stages.",
            "rushes models\nrushes models video_ldm",
            "flows.config:ModelsConfig",
            "flows.commands:models",
            positional="system",
        ),
        Command(
            "pipeline",
            "curate, select, train and sample as one Prefect flow",
            "Run the flow `pipeline`, the same that the UI launches. It shows in the UI of a running `rushes serve`;\n"
            "without one, Prefect starts a server of its own for the time of the run (about 20 s).",
            "rushes pipeline ~/films --out runs/films\nrushes pipeline --config films.yaml",
            "flows.config:PipelineConfig",
            "flows.commands:pipeline",
            positional="videos",
            resume="Run the same command again: finished work is not repeated.",
        ),
        Command(
            "serve",
            "Prefect's UI with the flows and their schedules",
            "Start Prefect's server (SQLite), one local Ray and the flows, on 127.0.0.1. Ctrl-C ends all of it.\n"
            "Data lie in PREFECT_HOME, or runs/.prefect here.",
            "rushes serve\nrushes serve --config infra/serve.yaml --port 4300",
            "flows.config:ServeConfig",
            "flows.commands:serve",
            resume="Stopped. Runs that were going on can be started again from the UI.",
        ),
    )
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status.

    0: the work is done. 1: a run failed. 2: bad input, said in a line for each fault. 130: interrupted.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in {"-h", "--help", "help"}:
        print(usage())
        return 0 if args else 2
    if args[0] == "--version":
        from importlib.metadata import version

        print(f"rushes {version('rushes')}")
        return 0
    command = COMMANDS.get(args[0])
    if command is None:
        from flows.options import closest

        return _complain(f"there is no command {args[0]!r}{closest(args[0], list(COMMANDS))} (see `rushes --help`)", 2)
    environment.prepare()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        return run(command, args[1:])
    except KeyboardInterrupt:
        print(f"\ninterrupted. {command.resume}", file=sys.stderr)
        return 130


def _interrupt(*_: object) -> None:
    """Being asked to end is like Ctrl-C: what runs below is ended too, and a trainer writes its checkpoint."""
    raise KeyboardInterrupt


def run(command: Command, args: list[str]) -> int:
    """Read the command's options and do it. Errors become one line each, with a traceback under --debug only."""
    from curation.errors import CurationError
    from flows import options
    from flows.serve import StartError
    from training.errors import TrainingError

    model, args = _model(command, args)
    debug = options.glance(args).debug
    try:
        parsed = options.parse(
            model,
            args,
            prog=f"rushes {command.name}",
            about=command.about,
            example=command.example,
            positional=command.positional,
        )
        return _load(command.run)(parsed.config)
    except BrokenPipeError:
        # The reader (head, less) has gone; without this, Python complains once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except options.UsageError as error:
        return _complain("\nerror: ".join(str(error).splitlines()), 2)
    except (CurationError, TrainingError) as error:
        if debug:
            traceback.print_exc()
        return _complain(str(error), 2)
    except Exception as error:  # noqa: BLE001 - the outermost frame: nothing may end in a bare traceback
        if debug:
            traceback.print_exc()
            return 1
        if isinstance(error, StartError):
            return _complain(str(error), 1)
        if isinstance(error, OSError) and error.strerror:
            return _complain(f"{error.filename or command.name}: {error.strerror}", 1)
        text = str(error).strip().partition("\n")[0]
        return _complain(f"{type(error).__name__}: {text} (--debug shows where)", 1)


def usage() -> str:
    """The help of `rushes` itself."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: rushes COMMAND [options]",
            "",
            "From raw footage to a video diffusion model.",
            "",
            *lines,
            "",
            "Every command shows its options and an example with --help, reads a YAML file with --config, and shows",
            "the traceback of an error with --debug.",
        ]
    )


def _model(command: Command, args: list[str]) -> tuple[type, list[str]]:
    """The command's model. `train` has two: that of a single stage if a stage is named, on the line or in the file."""
    if command.name != "train":
        return _load(command.model), args
    from flows.options import glance
    from training.config import TrainStageConfig

    # Stages are written with dashes in names and with underscores in files; accept both.
    args = [a.replace("-", "_") if before == "--stage" else a for before, a in zip(["", *args], args, strict=False)]
    args = [f"--stage={a[8:].replace('-', '_')}" if a.startswith("--stage=") else a for a in args]
    given = glance(args, "--stage")
    named = given.stage is not None or (given.config is not None and _names_stage(given.config))
    return (TrainStageConfig if named else _load(command.model)), args


def _names_stage(config: str) -> bool:
    """Whether a configuration file names a stage. An unreadable file names none: `parse` reports it."""
    from pathlib import Path

    from flows.options import UsageError, read_yaml

    try:
        return "stage" in read_yaml(Path(config))
    except UsageError:
        return False


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _complain(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
