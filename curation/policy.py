"""A policy over a manifest gives a selection: the clips that stay, and for every other one the reasons why it fell."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from curation.config import DuplicateSettings, Policy, Profile, Rule, SelectConfig
from curation.duplicates import table as duplicates
from curation.errors import CurationError
from curation.manifest import Manifest
from curation.progress import Progress, silent
from curation.remarks import why_no_clip
from curation.selection.chance import SIDES
from curation.selection.columns import duplicate_settings, read
from curation.selection.expressions import hint
from curation.selection.folder import SelectionSummary, finished, read_summary, rows_at, write
from curation.selection.rules import FunnelStep, Verdict, judge
from curation.selection.steps import Threshold
from curation.store import make_folder, named
from curation.yaml_text import load

__all__ = ["FunnelStep", "SelectionSummary", "Threshold", "judge", "levels", "load_policy", "read_summary", "select"]


def load_policy(config: SelectConfig, manifest: Manifest) -> Policy:
    """The policy that the configuration names. Raises CurationError naming the file and the field at fault."""
    if config.inline_policy is not None:
        return config.inline_policy
    if config.policy:
        path, name = Path(config.policy).expanduser(), config.policy
        if path.is_dir():
            raise CurationError(f"policy: {config.policy!r} is a folder, not a file of rules")
        if not path.is_file():
            raise CurationError(f"policy: the file {config.policy!r} does not exist")
        text = path.read_text(encoding="utf-8", errors="replace")
    else:
        profile = (manifest.config() or {}).get("profile", Profile.embedded)
        name = f"{profile}.yaml"
        text = files("curation").joinpath("policies", name).read_text()
    try:
        content = load(text)
    except ValueError as error:
        raise CurationError(f"policy: {name!r}, {error}") from error
    if not isinstance(content, dict):
        raise CurationError(f"policy: {name!r} must be a mapping, with `name:` and `rules:`")
    rules = content.get("rules")
    for i, rule in enumerate(rules if isinstance(rules, list) else []):
        if empty := [key for key, value in rule.items() if value is None] if isinstance(rule, dict) else []:
            raise CurationError(f"policy: {name!r}: rules.{i}.{empty[0]} is empty; give it a value, or leave it away")
    try:
        policy = Policy.model_validate(content)
    except ValidationError as error:
        raise CurationError(f"policy: {name!r}: {'; '.join(map(_fault, error.errors()))}") from error
    if config.policy:
        for i, rule in enumerate(policy.rules):
            for what, low, high in (
                ("", rule.min, rule.max),
                ("_percentile", rule.min_percentile, rule.max_percentile),
            ):
                if low is not None and high is not None and low > high:
                    raise CurationError(f"policy: {name!r}: rules.{i}: min{what} {low:g} is above max{what} {high:g}")
        return policy
    # the default asks for nothing that this manifest was told not to measure
    measured = manifest.schema("clips").names
    return policy.model_copy(update={"rules": [r for r in policy.rules if r.score in measured]})


def _fault(error: ErrorDetails) -> str:
    """The field, if there is one, and what is wrong with it; of an unknown one, the nearest that there is."""
    field = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        *rule, key = error["loc"]
        return f"unknown key {field}; {hint(str(key), list((Rule if rule else Policy).model_fields))}"
    return f"{field}: " * bool(field) + error["msg"].removeprefix("Value error, ")


def levels(config: SelectConfig) -> Iterator[SelectConfig]:
    """The selections of a sweep, each as a configuration of its own; without one, the configuration as it is.

    Raises CurationError where `out` is something that a selection, or those of the sweep, cannot take the place of: on
    a dry run too, which is to end as the selection itself would.
    """
    if not config.sweep:
        _refuse_others(config.out)
        yield config
        return
    out = Path(config.out).expanduser()
    if (out / "selection.json").is_file():
        raise CurationError(f"out: {config.out!r} is a selection; choose a folder for those of the sweep with --out")
    policy = load_policy(config, Manifest.find(config.manifest))
    score, _, percentiles = config.sweep.partition("=")
    for percentile in percentiles.split(","):
        name = f"{score}-{percentile}"
        level = policy.model_copy(
            update={
                "name": f"{policy.name[: 63 - len(name)]}-{name}",
                "rules": _raised(policy, score, float(percentile)),
            }
        )
        _refuse_others(str(out / name))
        own = {
            "out": str(out / name),
            "policy": "",
            "inline_policy": Policy.model_validate(level.model_dump()),
            "sweep": "",
        }
        yield config.model_copy(update=own)


def _refuse_others(out: str) -> None:
    finished(Path(out).expanduser(), "")


def _raised(policy: Policy, score: str, percentile: float) -> list[Rule]:
    """The rules with the lowest percentile of a score replaced; one more where none has bounds for it."""
    rules = list(policy.rules)
    of_score = [i for i, rule in enumerate(rules) if rule.score == score and not rule.top]
    with_percentile = [i for i in of_score if rules[i].min_percentile is not None]
    for i in (with_percentile or of_score)[:1]:
        rules[i] = rules[i].model_copy(update={"min_percentile": percentile})
        return rules
    return [*rules, Rule(score=score, min_percentile=percentile)]


def select(config: SelectConfig, progress: Progress = silent) -> SelectionSummary:
    """Apply a policy and write the selection folder as a whole (or, on a dry run, write nothing).

    The folder holds clips.parquet (what stays, all columns, and those that the policy adds), rejected.parquet (clip_id,
    reasons) and selection.json. Raises CurationError for a policy that the manifest cannot answer and for a selection
    that keeps nothing. A sweep is taken apart by `levels`.
    """
    if config.sweep:
        raise CurationError("sweep: this makes one selection; `levels` tells those of a sweep")
    manifest = Manifest.find(config.manifest)
    policy = load_policy(config, manifest)
    policy_hash = _digest(policy.model_dump_json(exclude_none=True))
    manifest_hash = manifest.hash()
    settings = duplicate_settings(config, policy, manifest)
    known = "".join(m.hash() for m in duplicates.others(settings))
    selection_hash = _digest(f"{manifest_hash}{policy_hash}{known}")
    out = Path(config.out).expanduser()
    if not config.dry_run and (done := finished(out, selection_hash)):
        return done
    if not config.dry_run:
        make_folder(out.parent)  # said before the work, where nothing can be written there
    progress("reading scores", 0, None)
    table = read(manifest, policy, settings, progress)
    if not table.num_rows:
        raise CurationError(f"manifest: {str(manifest.root)!r} holds no clip to select from: {why_no_clip(manifest)}")
    progress("applying the policy", 0, None)
    verdict = judge(table, policy)
    kept = int(verdict.keep.sum())
    if not kept and not config.dry_run:
        steps = "; ".join(f"{s.rule}: {s.before} -> {s.after}" for s in verdict.funnel)
        raise CurationError(f"policy: no clip of {table.num_rows} survives ({steps}); loosen it and select again")
    summary = SelectionSummary(
        out=str(out),
        clips=table.num_rows,
        kept=kept,
        policy=policy.model_dump(mode="json", exclude_none=True),
        thresholds=verdict.thresholds,
        funnel=_with_examples(manifest, table, verdict, settings),
        rejected_by_reason=verdict.reasons,
        manifest=named(manifest.root),
        manifest_hash=manifest_hash,
        policy_hash=policy_hash,
        selection_hash=selection_hash,
        split=_sides(verdict),
    )
    if not config.dry_run:
        progress("writing the selection", 0, kept)
        write(out, manifest, verdict, summary, table)
        progress("writing the selection", kept, kept)
    return summary


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _sides(verdict: Verdict) -> dict[str, int]:
    """Clips that stay on each side of the split; empty where there is none."""
    if "split" not in verdict.added:
        return {}
    side = verdict.added["split"].filter(pa.array(verdict.keep)).to_numpy(zero_copy_only=False)
    return {name: int((side == name).sum()) for name in SIDES}


def _with_examples(
    manifest: Manifest, table: pa.Table, verdict: Verdict, settings: DuplicateSettings
) -> list[FunnelStep]:
    """The funnel, each step with some of the clips that fell by it."""
    rows = np.unique(np.concatenate([np.zeros(0, np.int64), *(fallen.rows for fallen in verdict.fallen)]))
    found = dict(zip(rows.tolist(), rows_at(manifest, rows, ["clip_id", "uri", "start"]), strict=True))
    repeated, elsewhere = verdict.duplicate_of(rows).to_pylist(), verdict.repeats_another_manifest(rows)
    homes = _homes({name for name, other in zip(repeated, elsewhere, strict=True) if other}, manifest, settings)
    repeats = {
        row: f"repeats {name}" + f" of {homes.get(name, 'another manifest')}" * bool(other)
        for row, name, other in zip(rows.tolist(), repeated, elsewhere, strict=True)
    }

    def value(row: int, shown: list[str]) -> str:
        return ", ".join(f"{c} {_in_words(table[c][row].as_py())}" for c in shown) or repeats[row]

    return [
        replace(step, examples=[{**found[row], "value": value(row, fallen.shown)} for row in fallen.rows.tolist()])
        for step, fallen in zip(verdict.funnel, verdict.fallen, strict=True)
    ]


def _homes(ids: set[str], manifest: Manifest, settings: DuplicateSettings) -> dict[str, str]:
    """The first of the other manifests that has each of these clips."""
    homes: dict[str, str] = {}
    for other in duplicates.others(settings) if ids else ():
        if named(other.root) == named(manifest.root):
            continue
        there = other.read("clips", ["clip_id"])["clip_id"]
        found = there.filter(pc.is_in(there, pa.array(sorted(ids), pa.string())))  # type: ignore[attr-defined]
        homes = dict.fromkeys(found.to_pylist(), named(other.root)) | homes
    return homes


def _in_words(value: Any) -> str:
    text = "null" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else text[:39] + "…"
