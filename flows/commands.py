"""What each command does once its configuration is known, and what it prints. Each returns its exit status."""

from typing import TYPE_CHECKING

from flows import display

if TYPE_CHECKING:
    from curation.config import CurateConfig, SelectConfig
    from curation.plan import CurationSummary
    from curation.policy import SelectionSummary
    from flows.config import InspectConfig, PreflightConfig, ReportConfig, ServeConfig


def preflight(config: "PreflightConfig") -> int:
    """Say what is there and what is missing; 1 if a curation could not start."""
    from curation.weights import preflight as look

    report = look(config)
    print(report.render())
    return 0 if report.ok else 1


def curate(config: "CurateConfig") -> int:
    """Make or complete a manifest."""
    from curation.plan import curate as run

    with display.progress() as progress:
        summary = run(config, progress)
    show_curation(summary)
    return 0


def show_curation(summary: "CurationSummary") -> None:
    """Print what a curation found, failures included."""
    if summary.nothing_to_do:
        print(f"Nothing to do: all {summary.already_done} videos are in {summary.manifest}.")
    rows = [
        ("videos", summary.videos),
        ("  measured now", summary.measured),
        ("  measured before", summary.already_done),
        ("  failed", summary.videos_failed),
        ("  copies of another one", summary.duplicates),
        ("shots", summary.shots),
        ("clips", summary.clips),
        ("errors", summary.errors),
    ]
    display.table(f"{summary.manifest}, in {summary.seconds:.1f} s", [r for r in rows if r[1] or r[0][0] != " "])
    for message in summary.messages:
        print(message)
    if summary.errors:
        print(f'The errors: rushes inspect {summary.out} --sql "SELECT uri, step, message FROM errors"')


def select(config: "SelectConfig") -> int:
    """Apply a policy; 2 if nothing stays on a dry run (else the selection itself refuses)."""
    from curation.policy import select as run

    with display.progress() as progress:
        summary = run(config, progress)
    show_selection(summary, dry_run=config.dry_run)
    return 0 if summary.kept else 2


def show_selection(summary: "SelectionSummary", *, dry_run: bool = False) -> None:
    """Print the funnel and the reasons."""
    if summary.already_done:
        print(f"Nothing to do: {summary.out} is this very selection.")
    funnel = [(step.rule, step.before, step.after, step.after - step.before) for step in summary.funnel]
    display.table(f"{summary.kept} of {summary.clips} clips stay", funnel, ("rule", "before", "after", "change"))
    if summary.rejected_by_reason:
        display.table("Rejected, each under all of its reasons", list(summary.rejected_by_reason.items()))
    print("Nothing was written: this was a dry run." if dry_run else f"The selection: {summary.out}")


def inspect(config: "InspectConfig") -> int:
    """Print a summary of a manifest, or a query's rows."""
    from curation import inspect as look

    if not config.sql:
        print(look.summarise(config.manifest), end="")
        return 0
    found = look.sql(config.manifest, config.sql)
    rows = [[look.printable(_cell(v), 80) for v in row.values()] for row in found.slice(0, 1000).to_pylist()]
    display.table(f"{found.num_rows} rows", rows, found.column_names)
    return 0


def _cell(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def report(config: "ReportConfig") -> int:
    """Write the page."""
    from curation.report import write_report

    print(f"The report: {write_report(config.manifest, config.selection, config.out)}")
    return 0


def serve(config: "ServeConfig") -> int:
    """Serve until interrupted."""
    from flows.serve import serve as run

    run(config)
    return 0
