"""The flow `select`: a policy over a manifest gives a selection."""

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from curation.config import SelectConfig
from curation.policy import SelectionSummary, levels
from curation.policy import select as run_selection
from flows.artifacts import FlowProgress, escape, image, publish, table

SHEET_CLIPS = 24


@task(name="select", cache_policy=NO_CACHE, task_run_name="select")
def select_clips(config: SelectConfig) -> SelectionSummary:
    """Apply the policy. The manifest stays as it is; a selection that is there already is not made again."""
    summary = run_selection(config, FlowProgress("selection-progress"))
    get_run_logger().info("%d of %d clips stay: %s", summary.kept, summary.clips, summary.out)
    return summary


@task(name="show the selection", cache_policy=NO_CACHE, task_run_name="show the selection")
def show_selection(summary: SelectionSummary) -> None:
    """Publish the funnel, clips that fell, the reasons for each rejection, and a contact sheet of what stays."""
    from curation.pictures import contact_sheet

    funnel = [
        {"rule": s.rule, "before": s.before, "after": s.after, "fell": s.before - s.after, "more without it": s.alone}
        for s in summary.funnel
    ]
    fell = [
        {"fell by": s.rule, "clip": e["clip_id"], "video": e["uri"], "second": e["start"], "value": e["value"]}
        for s in summary.funnel
        for e in s.examples
    ]
    reasons = [{"reason": reason, "clips": count} for reason, count in summary.rejected_by_reason.items()]
    parts = [
        f"# {summary.kept} of {summary.clips} clips stay\n\n{escape(summary.out)}\n",
        "## Funnel\n",
        table(funnel),
        "## Some of the clips that fell\n",
        table(fell),
        "## Rejected, each under all of its reasons\n",
        table(reasons),
        *(["## Split\n", table([summary.split])] if summary.split else []),
        f"\nmanifest {escape(summary.manifest_hash)}, policy {escape(summary.policy_hash)}, "
        f"selection {escape(summary.selection_hash)}\n",
    ]
    publish("selection-funnel", "\n".join(parts), "Funnel of the selection")
    kept = Path(summary.out) / "clips.parquet"
    if not kept.is_file():
        return  # a dry run writes nothing
    import pyarrow.parquet as pq

    rows = pq.read_table(kept, columns=["uri", "start", "preview"]).slice(0, SHEET_CLIPS).to_pylist()
    rows = [row for row in rows if row["preview"]]
    if rows:
        labels = [f"{row['uri'].rpartition('/')[2]} {row['start']:.1f}s" for row in rows]
        sheet = contact_sheet([row["preview"] for row in rows], labels)
        publish("selection-clips", image(sheet, "clips that stay"), "Clips that stay")


@task(name="show the sweep", cache_policy=NO_CACHE, task_run_name="show the sweep")
def show_sweep(summaries: list[SelectionSummary]) -> None:
    """Publish how many clips stay at each level."""
    rows = [{"selection": s.out, "stay": s.kept, "of": s.clips, "share": s.kept / s.clips} for s in summaries]
    publish("selection-sweep", "# The sweep\n\n" + table(rows), "Selections of the sweep")


@flow(name="select", validate_parameters=True)
def select(config: SelectConfig) -> list[SelectionSummary]:
    """Apply a policy of thresholds to a manifest.

    **Give** a manifest and a policy: a YAML file, or rules right here. `dry_run` shows the funnel and writes nothing.
    **Get** a folder with the clips that stay and, for every other one, the reasons why it fell. With `sweep`, such a
    folder for each level.

    The manifest is never changed: thresholds can be tried as often as you like without touching a pixel.
    Look at [the funnel](/artifacts/key/selection-funnel) and [the clips](/artifacts/key/selection-clips), or at
    [the sweep](/artifacts/key/selection-sweep).
    """
    summaries = []
    for level in levels(config):
        summaries.append(select_clips(level))
        show_selection(summaries[-1])
    if config.sweep:
        show_sweep(summaries)
    return summaries
