"""Training and sampling as a process of its own: what both the flows and the command line start.

`python -m training CONFIG.yaml` runs in its own process group and tells what it does in JSON lines. However the caller
leaves, by cancellation, by Ctrl-C or by an exception, the whole group is asked to stop (the trainer then writes a
checkpoint) and is ended.
"""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from flows.process import ProcessGroup
from training.errors import TrainingError

Event = dict[str, Any]
STOP_GRACE_S = 30.0  # a step and a checkpoint, with room


class LaunchError(Exception):
    """Training ended without doing its work. The message holds its last words."""


def launch(
    config: BaseModel,
    on_event: Callable[[Event], None] = lambda event: None,
    on_line: Callable[[str], None] = lambda line: None,
) -> list[Event]:
    """Run training or sampling with this configuration and return its `result` events.

    `on_event` gets every event, `on_line` whatever else was printed.

    Raises:
        TrainingError: The configuration or its inputs are at fault; the message is the trainer's own.
        LaunchError: It ended in another way: out of memory, killed, stopped from outside.
    """
    results: list[Event] = []
    other: list[str] = []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rushes-train-"))
        file = Path(folder) / "config.yaml"
        file.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
        command = [sys.executable, "-m", "training", str(file)]
        env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
        group = stack.enter_context(ProcessGroup(command, env=env, grace_s=STOP_GRACE_S))
        for line in group.lines():
            event = read_event(line)
            if event is None:
                other = [*other[-49:], line]
                if not line.startswith("error: "):  # the caller hears that one as the exception
                    on_line(line)
                continue
            if event["event"] == "result":
                results.append(event)
            on_event(event)
        status = group.wait()
    if status == 0:
        return results
    complaint = next((line for line in reversed(other) if line.startswith("error: ")), None)
    if status == 2 and complaint:
        raise TrainingError(complaint.removeprefix("error: ").replace(f"{file}: ", ""))
    ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    raise LaunchError(f"training {ended}" + (f": {other[-1]}" if other else ""))


def read_event(line: str) -> Event | None:
    """The event on a line of output; None if the line is something else."""
    if not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except json.JSONDecodeError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def tell(event: Event) -> tuple[str, int, int | None] | None:
    """An event as the arguments of a `Progress`; None if it moves nothing. The numbers of a step are for `numbers`."""
    stage = str(event.get("stage", "")).replace("_", "-")
    match event["event"]:
        case "phase":
            return " ".join(x for x in (stage, str(event.get("phase", ""))) if x), 0, None
        case "step":
            return f"{stage} training", event["samples"], event["of"]
        case "sampling":
            return "sampling", event["step"], event["of"]
        case _:
            return None


def numbers(event: Event) -> str:
    """A step's numbers as a line of a log."""
    shown = ("loss", "grad_norm", "lr", "samples_per_s")
    return f"{event['samples']} samples: " + ", ".join(f"{k} {event[k]:.4g}" for k in shown if k in event)
