"""`rushes demo`: footage, the flow `pipeline`, and a summary of what came out."""

import time
from pathlib import Path

from curation.discovery import find
from flows.commands import run_pipeline, show_pipeline
from flows.config import DemoConfig, PipelineConfig


def demo(config: DemoConfig) -> int:
    """Run the demo and print what it made. Run again, it repeats no finished work."""
    began = time.monotonic()
    out = Path(config.out)
    if config.videos:
        find(config.videos)  # a wrong path is said before Prefect starts
    videos = config.videos or footage(out / "videos")
    summary = run_pipeline(PipelineConfig.model_validate({"videos": videos, "out": str(out)}))
    show_pipeline(summary)
    print(f"All of it took {time.monotonic() - began:.0f} s. Look at {summary.report} and {summary.samples[0]['mp4']}.")
    return 0


def footage(folder: Path) -> str:
    """Make the demo's clips, where they are not there yet, and name their folder."""
    from curation.demo_footage import prepare

    print(f"making the demo's footage in {folder}", flush=True)
    print(f"{len(prepare(folder))} videos", flush=True)
    return str(folder)
