"""The flows `train-stage` and `train-staged`, and the tasks that train and sample in a process of their own."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.artifacts import FlowProgress, escape, image, publish, table
from flows.launch import Event, launch, numbers, tell
from training.config import SampleConfig, TrainStageConfig, TrainStagedConfig

NUMBERS_EVERY_S = 10.0


@task(name="train", cache_policy=NO_CACHE, task_run_name="train {config.stage.value}")
def train_one(config: TrainStageConfig) -> Event:
    """Train one stage, resume it, or find it finished; publish its losses. Cancelling writes a checkpoint."""
    name = config.stage.value.replace("_", "-")
    result = _launch(config, f"{name}-progress")[-1]
    show_stage(result)
    return result


def show_stage(result: Event) -> None:
    """Publish a stage's loss curve and its errors, on held-out clips where there are some."""
    name = str(result["stage"]).replace("_", "-")
    numbers = {
        "samples": result["samples"],
        "seconds": result["seconds"],
        "first loss": result["loss_first"],
        "last loss": result["loss_last"],
        "parameters": result["parameters"],
        "of these trained": result["trained_parameters"],
        "clips": result["clips"],
        "held out": result["held_out_clips"],
    }
    errors = [
        {
            "noise level": level,
            "untrained": result["error_untrained"][level],
            "at the start": result["error_start"].get(level),
            "trained": result["error_trained"][level],
        }
        for level in result["error_untrained"]
    ]
    lineage = {
        "checkpoint": result["checkpoint_hash"],
        "selection": result["selection_hash"],
        "parent": result["parent_hash"] or None,
    }
    parts = [f"# {escape(name)}\n\n{escape(result['out'])}\n", table([numbers])]
    curve = Path(result["out"]) / "loss.png"
    if curve.is_file():
        parts.append(image(curve.read_bytes(), f"loss of {name}"))
    held = "training" if result["split"] == "none" else "held-out"
    parts += [f"## Denoising error on {held} clips\n", table(errors), "## Lineage\n", table([lineage])]
    publish(f"training-{name}", "\n".join(parts), f"Training: {name}")


@task(name="sample", cache_policy=NO_CACHE, task_run_name="sample")
def sample_videos(config: SampleConfig) -> list[Event]:
    """Sample the prompts and show the frames. The same prompts from the same checkpoint are not sampled again."""
    results = sample_once(config, lambda: _launch(config, "sampling-progress"))
    parts = ["# Samples\n"]
    for result in results:
        parts += [f"\n{escape(result['prompt'] or 'without a prompt')}: {escape(result['mp4'])}\n"]
        parts.append(image(Path(result["strip"]).read_bytes(), f"frames of {result['prompt']}"))
    publish("samples", "\n".join(parts), "Sampled frames")
    return results


def sample_once(config: SampleConfig, run: Any) -> list[Event]:
    """What `run` returns, or what it returned before for this configuration, checkpoint, source and control, if its
    files are there."""
    record = Path(f"{config.out}.json")
    identity = {
        "config": config.model_dump(mode="json"),
        "checkpoint": _hash(config.checkpoint),
        "given": [_hash(path) for path in (config.source, config.control) if path],
    }
    try:
        known = json.loads(record.read_text())
        if known["identity"] == identity and all(Path(r["mp4"]).is_file() for r in known["results"]):
            return known["results"]
    except (OSError, ValueError, KeyError, TypeError):
        known = None  # nothing was sampled here, or by something else: sample
    results = run()
    part = record.with_name(record.name + ".part")
    part.write_text(json.dumps({"identity": identity, "results": results}, indent=1))
    part.replace(record)
    return results


def _hash(checkpoint: str) -> str:
    """A checkpoint's hash: that of the stage's record if it is a folder, else of the file."""
    path = Path(checkpoint)
    path = path / "result.json" if path.is_dir() else path
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _launch(config: TrainStageConfig | SampleConfig, progress_key: str) -> list[Event]:
    logger = get_run_logger()
    progress = FlowProgress(progress_key)
    said = [float("-inf")]

    def on_event(event: Event) -> None:
        if event["event"] == "warning":
            logger.warning("%s", event.get("message"))
        elif event["event"] == "checkpoint":
            logger.info("checkpoint after %s samples: %s", event.get("samples"), event.get("path"))
        elif told := tell(event):
            progress(*told)
        if event["event"] == "step" and time.monotonic() - said[0] >= NUMBERS_EVERY_S:
            said[0] = time.monotonic()
            logger.info("%s", numbers(event))

    return launch(config, on_event, lambda line: logger.info("%s", line))


@flow(name="train-stage", validate_parameters=True)
def train_stage(config: TrainStageConfig) -> Event:
    """Train one stage on a selection.

    **Give** a selection, and the `parent` checkpoint for every stage but image_pretrain.
    **Get** `out` with a checkpoint that records its lineage, metrics and a loss curve.

    Cancelling writes a checkpoint; running the same configuration again resumes it.
    """
    return train_one(config)


@flow(name="train-staged", validate_parameters=True)
def train_staged(config: TrainStagedConfig) -> list[Event]:
    """Train image-pretrain, video-pretrain and finetune in sequence, each from the checkpoint of the one before.

    **Give** a selection. **Get** `out` with a folder for each stage.

    Finished stages are not repeated, and another run's are left alone unless `replace` is set. Look at
    [images](/artifacts/key/training-image-pretrain),
    [video](/artifacts/key/training-video-pretrain) and [finetuning](/artifacts/key/training-finetune).
    """
    from training.stages import check_staged

    stages = config.stages()
    check_staged(stages)
    return [train_one(stage) for stage in stages]
