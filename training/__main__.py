"""Run a stage, all stages or sampling from a YAML file:  python -m training CONFIG.yaml

The file's keys say which: `prompts` or `checkpoint` is sampling, `stage` is one stage, anything else all three.
Events go to stdout, one JSON object a line. SIGTERM and Ctrl-C write a checkpoint and exit with 143 and 130; bad
input is one line on stderr and 2.
"""

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from training.config import SampleConfig, TrainStageConfig, TrainStagedConfig
from training.errors import TrainingError


def read_config(path: str) -> SampleConfig | TrainStageConfig | TrainStagedConfig:
    """The configuration in a YAML file. Raises TrainingError, naming the file and the field."""
    try:
        fields = yaml.safe_load(Path(path).read_text()) or {}
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(fields, dict):
        raise TrainingError(f"{path}: must hold fields (key: value), not a {type(fields).__name__}")
    kind: type[BaseModel] = TrainStagedConfig
    if "prompts" in fields or "checkpoint" in fields:
        kind = SampleConfig
    elif "stage" in fields:
        kind = TrainStageConfig
    try:
        return kind.model_validate(fields)  # type: ignore[return-value] - one of the three
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise TrainingError(f"{path}: {field + ': ' if field else ''}{first['msg']}") from error


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    received: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        received.append(number)

    def emit(event: dict[str, Any]) -> None:
        print(json.dumps(event), flush=True)

    # threads that spin while they wait take a busy machine's cores from those they wait for; before torch is loaded
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        config = read_config(arguments[0])
        # torch is imported after the configuration is known to be good: a typo answers at once
        from training.sample import run_sample
        from training.stages import Stopped, run_stage, run_staged

        try:
            if isinstance(config, SampleConfig):
                run_sample(config, emit, lambda: bool(received))
            elif isinstance(config, TrainStageConfig):
                run_stage(config, emit, lambda: bool(received))
            else:
                run_staged(config, emit, lambda: bool(received))
        except Stopped as stopped:
            emit({"event": "stopped", "message": str(stopped)})
            return 128 + (received[0] if received else signal.SIGTERM)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


if __name__ == "__main__":
    sys.exit(main())
