"""The flow `curate`: videos become a manifest of scored clips."""

import pyarrow as pa
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from curation.config import CurateConfig
from curation.plan import CurationSummary
from curation.plan import curate as run_curation
from flows.artifacts import MAX_ROWS, FlowProgress, escape, image, publish, table
from flows.environment import prepare

SAMPLE_ROWS = 20
SHEET_CLIPS = 24


@task(name="curate", cache_policy=NO_CACHE, task_run_name="curate")
def curate_videos(config: CurateConfig) -> CurationSummary:
    """Find cuts, make clips and measure them on Ray. What the manifest holds already is not measured again."""
    summary = run_curation(config, FlowProgress("curation-progress"))
    get_run_logger().info(
        "%d videos (%d read now, %d before, %d failed), %d shots, %d clips, %d errors: %s",
        summary.videos,
        summary.measured,
        summary.already_done,
        summary.videos_failed,
        summary.shots,
        summary.clips,
        summary.errors,
        summary.manifest,
    )
    for message in summary.messages:
        get_run_logger().warning("%s", message)
    return summary


@task(name="show the manifest", cache_policy=NO_CACHE, task_run_name="show the manifest")
def show_manifest(summary: CurationSummary) -> None:
    """Publish the summary, a sample of the rows, a contact sheet and the errors."""
    from curation.inspect import open_table
    from curation.pictures import contact_sheet

    table_of_clips = open_table(summary.manifest, "clips")
    columns = [f.name for f in table_of_clips.schema if f.name not in {"clip_id", "video_id"} and is_plain(f.type)]
    clips = table_of_clips.head(SHEET_CLIPS, columns=[*columns, "preview"]).to_pylist()
    errors = open_table(summary.manifest, "errors").head(MAX_ROWS, columns=["uri", "step", "error", "message"])
    counts = {
        "videos": summary.videos,
        "failed": summary.videos_failed,
        "skipped": sum(summary.skipped.values()),
        "shots": summary.shots,
        "clips": summary.clips,
        "errors": summary.errors,
        "seconds": round(summary.seconds, 1),
    }
    parts = [f"# Manifest\n\n{escape(summary.manifest)}\n", table([counts])]
    parts += ["## Clips (a sample)\n", table(clips[:SAMPLE_ROWS], columns)]
    if summary.skipped:
        counts = [{"reason": reason, "files and folders": many} for reason, many in summary.skipped.items()]
        parts += ["## Skipped\n", table(counts)]
    if errors.num_rows:
        parts += ["## Errors\n", table(errors.to_pylist())]
    publish("manifest", "\n".join(parts), "Manifest sample")
    shown = [clip for clip in clips if clip.get("preview")]
    if shown:
        labels = [f"{clip['uri'].rpartition('/')[2]} {clip['start']:.1f}s" for clip in shown]
        sheet = contact_sheet([clip["preview"] for clip in shown], labels)
        publish("manifest-clips", image(sheet, "clips of the manifest"), "Clips of the manifest")


def is_plain(kind: pa.DataType) -> bool:
    """Does a value of this type fit into a cell of a table: a number, a text or a flag?"""
    return pa.types.is_primitive(kind) or pa.types.is_string(kind)


@flow(name="curate", validate_parameters=True)
def curate(config: CurateConfig) -> CurationSummary:
    """Turn videos into a manifest of scored clips.

    **Give** a folder, a file or a list of paths as `videos`, and a folder as `out`.
    **Get** `out/manifest`: one row a clip with its scores, and error rows for what could not be read or measured.

    Running it again on the same `out` measures only what is new; a schedule on a folder that grows is safe.
    Look at [the manifest](/artifacts/key/manifest) and [its clips](/artifacts/key/manifest-clips).
    """
    prepare()
    summary = curate_videos(config)
    show_manifest(summary)
    return summary
