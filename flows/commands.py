"""What each command does once its configuration is known, and what it prints. Each returns its exit status."""

import shlex
import sys
import textwrap
from typing import TYPE_CHECKING

from flows import display, environment

if TYPE_CHECKING:
    from pydantic import BaseModel

    from curation.config import CurateConfig, ExportConfig, SelectConfig
    from curation.export import ExportSummary
    from curation.plan import CurationSummary
    from curation.policy import SelectionSummary
    from curation.progress import Progress
    from curation.selection.diff import Difference
    from flows.config import (
        DiffConfig,
        InspectConfig,
        ModelsConfig,
        PipelineConfig,
        PreflightConfig,
        ReportConfig,
        ServeConfig,
    )
    from flows.launch import Event
    from flows.pipeline import PipelineSummary
    from training.config import SampleConfig, TrainStageConfig, TrainStagedConfig

ROWS_SHOWN = 1000  # of a query


def preflight(config: "PreflightConfig") -> int:
    """Say what is there and what is missing; 1 if a curation could not start."""
    from curation.weights import preflight as look

    report = look(config)
    print(report.render())
    return 0 if report.ok else 1


def curate(config: "CurateConfig") -> int:
    """Make or complete a manifest; 1 if none of its videos could be measured."""
    from curation.plan import curate as run

    with display.progress() as progress:
        summary = run(config, progress)
    show_curation(summary)
    return int(summary.videos_failed == summary.videos)


def show_curation(summary: "CurationSummary") -> None:
    """Print what a curation found, failures included."""
    if summary.nothing_to_do:
        print(f"Nothing to do: all {summary.already_done} videos are in {summary.manifest}.")
    rows = [
        ("videos", summary.videos),
        ("  read now", summary.measured),
        ("  read before", summary.already_done),
        ("  failed", summary.videos_failed),
        ("  copies of another one", summary.duplicates),
        ("  files and folders skipped", sum(summary.skipped.values())),
        ("shots", summary.shots),
        ("clips", summary.clips),
        ("errors", summary.errors),
    ]
    display.table(f"{summary.manifest}, in {summary.seconds:.1f} s", [r for r in rows if r[1] or r[0][0] != " "])
    for message in summary.messages:
        print(message)
    if summary.errors and summary.shots:  # without a shot a message has said so
        print(
            f'The errors: rushes inspect {shlex.quote(str(summary.out))} --sql "SELECT uri, step, message FROM errors"'
        )


def select(config: "SelectConfig") -> int:
    """Apply a policy, or several in a sweep; 2 if nothing stays on a dry run (else the selection itself refuses)."""
    from curation.policy import levels
    from curation.policy import select as run

    with display.progress() as progress:
        summaries = [run(level, progress) for level in levels(config)]
    if config.sweep:
        show_sweep(summaries, dry_run=config.dry_run)
    else:
        show_selection(summaries[0], dry_run=config.dry_run)
    if all(summary.kept for summary in summaries):
        return 0
    print("error: policy: no clip would stay; loosen it", file=sys.stderr)
    return 2


def show_selection(summary: "SelectionSummary", *, dry_run: bool = False) -> None:
    """Print the funnel, what each rule costs alone, the reasons, and on a dry run clips that fell."""
    from curation.inspect import printable

    if summary.already_done:
        print(f"Nothing to do: {summary.out} is this very selection.")
    funnel = [
        (step.rule, step.before, step.after, step.after - step.before, "" if step.alone is None else f"+{step.alone}")
        for step in summary.funnel
    ]
    header = ("rule", "before", "after", "change", "without it")
    display.table(f"{summary.kept} of {summary.clips} clips stay", funnel, header)
    if dry_run:
        rows = [
            [printable(step.rule), e["clip_id"], printable(e["uri"], 80), f"{e['start']:.2f}", printable(e["value"])]
            for step in summary.funnel
            for e in step.examples
        ]
        header = ("fell by", "clip", "video", "second", "value")
        display.records("Some of the clips that fell", rows, header, [c == "second" for c in header])
    if summary.rejected_by_reason:
        display.table("Rejected, each under all of its reasons", list(summary.rejected_by_reason.items()))
    if summary.split:
        display.table("Split", list(summary.split.items()))
    print("Nothing was written: this was a dry run." if dry_run else f"The selection: {summary.out}")


def show_sweep(summaries: "list[SelectionSummary]", *, dry_run: bool = False) -> None:
    """Print how many clips stay at each level."""
    rows = [
        (s.out, s.kept, s.clips, f"{s.kept / s.clips:.1%}", "made before" if s.already_done else "") for s in summaries
    ]
    display.table("The sweep", rows, ("selection", "stay", "of", "share", ""))
    if dry_run:
        print("Nothing was written: this was a dry run.")


def diff(config: "DiffConfig") -> int:
    """Say what differs between two selections."""
    from curation.selection.diff import compare

    found = compare(config.a, config.b, config.out)
    show_difference(found)
    if config.out:
        print(f"The clips: {config.out}")
    return 0


def show_difference(found: "Difference") -> None:
    """Print what two selections were made from, and the clips that are in one alone."""
    from curation.inspect import printable

    rows = [[printable(cell) for cell in fact] for fact in found.facts]
    display.records("Made from", rows, ("", "A", "B"), [False] * 3)
    counts = [("in both", found.both), ("only in A", found.only_a), ("only in B", found.only_b)]
    if found.moved:
        counts.append(("for training in one, for validation in the other", found.moved))
    display.table("Clips that stay", counts)
    if found.only:
        other = {"A": "B", "B": "A"}
        lines = [
            [f"only in {o.side}", str(o.clips), f"{other[o.side]}: {printable(o.reason)}", ", ".join(o.examples)]
            for o in found.only
        ]
        header = ("where", "clips", "why not in the other", "such as")
        display.records("Only in one, under all reasons of the other", lines, header, [c == "clips" for c in header])


def export(config: "ExportConfig") -> int:
    """Write clips; 1 if some could not be written."""
    from curation.export import export as run

    with display.progress() as progress:
        summary = run(config, progress)
    show_export(summary)
    return 1 if summary.failed else 0


def show_export(summary: "ExportSummary") -> None:
    """Print how many clips were copied, re-encoded and lost, and why they were lost."""
    from curation.inspect import printable

    if summary.nothing_to_do:
        print(f"Nothing to do: {summary.already_done} of {summary.clips} clips are in {summary.out}.")
    rows = [
        ("clips", summary.clips),
        ("  copied", summary.copied),
        ("  re-encoded", summary.reencoded),
        ("  written before", summary.already_done),
        ("  failed", summary.failed),
        ("megabytes written", f"{summary.bytes / 1e6:.1f}" if summary.bytes else 0),
    ]
    display.table(f"{summary.out}, in {summary.seconds:.1f} s", [r for r in rows if r[1] or r[0] == "clips"])
    if summary.failed:
        first = summary.failures[0]
        print(f"{summary.failed} of {summary.clips} clips failed: {summary.out}/export_errors.json says why.")
        print(f"The first: {first['clip_id']} of {printable(first['uri'], 80)}: {printable(first['message'], 200)}")
        print("The same command with --retry-failed tries them again.")


def inspect(config: "InspectConfig") -> int:
    """Print a summary of a manifest, or a query's rows, or serve a page until interrupted."""
    if config.serve:
        from curation.browse.page import serve as serve_page

        serve_page(config.manifest, selection=config.selection, policy=config.policy, port=config.port)
        return 0
    from curation import inspect as look

    if not config.sql:
        print(look.summarise(config.manifest), end="")
        return 0
    import pyarrow.types as kinds

    found = look.sql(config.manifest, config.sql)
    rows = [[_cell(v) for v in row.values()] for row in found.slice(0, ROWS_SHOWN).to_pylist()]
    title = f"{found.num_rows} rows" + f", the first {ROWS_SHOWN} of them" * (found.num_rows > ROWS_SHOWN)
    numeric = [kinds.is_floating(f.type) or kinds.is_integer(f.type) for f in found.schema]
    display.records(title, rows, found.column_names, numeric)
    return 0


def _cell(value: object) -> str:
    from curation.inspect import printable

    if value is None:
        return "null"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, list | dict):
        return printable(value, 80)  # hashes, an embedding
    return f"{value:.6g}" if isinstance(value, float) else printable(value)


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


def pipeline(config: "PipelineConfig") -> int:
    """Run the flow `pipeline` and print what it made."""
    show_pipeline(run_pipeline(config))
    return 0


def run_pipeline(config: "PipelineConfig") -> "PipelineSummary":
    """Run the flow: on the server of a running `rushes serve`, else on one that lives as long as the run."""
    home = environment.prepare()
    home.mkdir(parents=True, exist_ok=True)
    served = environment.attach(home)
    where = served.api.removesuffix("/api") if served else ""
    print(f"running the flow `pipeline`, shown at {where}" if where else "starting Prefect (about 20 s)", flush=True)
    from flows.pipeline import pipeline as run

    return run(config)


def show_pipeline(summary: "PipelineSummary") -> None:
    """Print what a pipeline made: counts, reasons, losses, errors and where the files are."""
    show_curation(summary.curation)
    show_selection(summary.selection)
    show_stages(summary.stages)
    files = [
        ("manifest", summary.curation.manifest),
        ("selection", summary.selection.out),
        ("report", summary.report),
        *((str(s["stage"]).replace("_", "-"), s["checkpoint"]) for s in summary.stages),
        *(("sample", s["mp4"]) for s in summary.samples),
    ]
    print("\nFiles", *(f"  {what:<16} {path}" for what, path in files), sep="\n")


def show_stages(stages: "list[Event]") -> None:
    """Print losses and errors of trained stages, and say of which clips the errors are."""
    kinds = ["training" if s["split"] == "none" else "held-out" for s in stages]
    same = len(set(kinds)) == 1
    rows = [
        (
            str(s["stage"]).replace("_", "-"),
            s["samples"],
            "-" if s["loss_first"] is None else f"{s['loss_first']:.4f} -> {s['loss_last']:.4f}",
            f"{s['error_untrained']['mean']:.4f} -> {s['error_trained']['mean']:.4f}" + f" ({kind})" * (not same),
            "before" if s["reused"] else f"{s['seconds']:.0f} s",
        )
        for s, kind in zip(stages, kinds, strict=True)
    ]
    error = f"{kinds[0]} error" if same else "error"
    display.table("Training", rows, ("stage", "samples", "loss", f"{error}, untrained -> trained", "trained"))


def train(config: "TrainStageConfig | TrainStagedConfig") -> int:
    """Train one stage or all three."""
    with display.progress() as progress:
        results = _launch(config, progress)
    show_stages(results)
    show_next(results[-1])
    return 0


def show_next(stage: "Event") -> None:
    """Print where a stage's checkpoint is, and a command that samples from it."""
    from training.names import Stage, SystemName

    words = ["rushes", "sample", stage["out"]]
    if stage["stage"] != Stage.image_pretrain and stage["system"] and SystemName(stage["system"]).edits:
        words += ["--source", "VIDEO"]
    words += ["--prompts", "what it shows", "--out", f"{stage['out']}/sample"]
    print(f"The checkpoint: {stage['out']}\nTo sample from it: {shlex.join(words)}")


def sample(config: "SampleConfig") -> int:
    """Sample each prompt."""
    with display.progress() as progress:
        results = _launch(config, progress)
    display.table("Samples", [(r["prompt"] or "(no prompt)", r["mp4"]) for r in results])
    return 0


def models(config: "ModelsConfig") -> int:
    """List the systems, or tell of one."""
    from training import systems

    if not config.system:
        rows = []
        with display.progress() as progress:
            progress("counting parameters", 0, systems.COUNT)
            for row in systems.by_name():
                rows.append(row)
                progress("counting parameters", len(rows), systems.COUNT)
        display.records("Systems", rows, systems.BY_NAME, [i == 1 for i in range(len(systems.BY_NAME))])
        print("\nWhat a sample is made of, and stages:")
        for line in systems.takes():
            print(textwrap.fill(line, 90, initial_indent="  ", subsequent_indent="      "))
        print("\nrushes models NAME tells of one: networks, stages, and what its commands need besides.")
        return 0
    words, networks, stages = systems.about(config.system)
    print(words)
    display.records(
        "Networks, at the published size", networks, ("network", "parameters", "published"), [False, True, True]
    )
    if stages:
        display.records("Stages", stages, ("stage", "network", "trained", "data", "parent"), [False] * 5)
    return 0


def _launch(config: "BaseModel", progress: "Progress") -> "list[Event]":
    from flows.launch import launch, tell

    def on_event(event: "Event") -> None:
        if event["event"] == "warning":
            print(f"warning: {event.get('message')}", file=sys.stderr)
        elif told := tell(event):
            progress(*told)

    return launch(config, on_event, lambda line: print(line, file=sys.stderr))
