"""The flow `export`: the clips of a selection become files or WebDataset shards."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from curation.config import ExportConfig
from curation.export import ExportSummary
from curation.export import export as run_export
from flows.artifacts import MAX_ROWS, FlowProgress, escape, publish, table

SAMPLE_ROWS = 20


@task(name="export", cache_policy=NO_CACHE, task_run_name="export")
def export_clips(config: ExportConfig) -> ExportSummary:
    """Cut the clips out. What the folder holds already is not written again; a clip that fails costs no other one."""
    summary = run_export(config, FlowProgress("export-progress"))
    logger = get_run_logger()
    logger.info(
        "%d clips (%d copied and %d re-encoded now, %d before, %d failed): %s",
        summary.clips,
        summary.copied,
        summary.reencoded,
        summary.already_done,
        summary.failed,
        summary.out,
    )
    if summary.failed:
        logger.warning("%d of %d clips are missing; retry_failed tries them again", summary.failed, summary.clips)
    return summary


@task(name="show the export", cache_policy=NO_CACHE, task_run_name="show the export")
def show_export(summary: ExportSummary) -> None:
    """Publish the counts, a sample of what was written, and why each missing clip is missing."""
    counts = {
        "clips": summary.clips,
        "copied": summary.copied,
        "re-encoded": summary.reencoded,
        "written before": summary.already_done,
        "failed": summary.failed,
        "megabytes written": round(summary.bytes / 1e6, 1),
        "seconds": round(summary.seconds, 1),
    }
    parts = [f"# Export\n\n{escape(summary.out)}\n", table([counts])]
    parts += ["## Written (a sample)\n", table(written(Path(summary.out)))]
    if summary.failures:
        failures = summary.failures[: MAX_ROWS + 1]
        parts += ["## Missing\n", table(failures, ["clip_id", "uri", "error", "message"])]
    publish("export", "\n".join(parts), "Export")


def written(out: Path, rows: int = SAMPLE_ROWS) -> list[dict[str, Any]]:
    """The first rows of what an export holds: its shards, else its clips with how each was made."""
    index = out / "index.json"
    if index.is_file():
        shards = json.loads(index.read_text(encoding="utf-8"))["shardlist"][:rows]
        return [{"shard": s["url"], "clips": s["nsamples"], "megabytes": s["filesize"] / 1e6} for s in shards]
    found = []
    for video in islice((v for v in sorted(out.glob("*.mp4")) if v.with_suffix(".json").is_file()), rows):
        said = json.loads(video.with_suffix(".json").read_text(encoding="utf-8"))
        captions = [c for c in said["captions"].values() if c]
        made = {k: said["file"][k] for k in ("how", "codec", "frames", "seconds")}
        found.append({"file": video.name, **made, "source": said["source"]["uri"], "caption": next(iter(captions), "")})
    return found


@flow(name="export", validate_parameters=True)
def export(config: ExportConfig) -> ExportSummary:
    """Write the clips of a selection, or of a whole manifest, as MP4 files or WebDataset shards.

    **Give** a selection, and a folder as `out`. A clip is copied where that is exact, else re-encoded.
    **Get** each clip with its captions and scores beside it, and `export_errors.json` for what could not be written.

    Running it again on the same `out` writes only what is missing; a run that was stopped is finished by the next.
    Look at [what was written](/artifacts/key/export).
    """
    summary = export_clips(config)
    show_export(summary)
    return summary
