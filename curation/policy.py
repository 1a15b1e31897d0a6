"""A policy over a manifest gives a selection: the clips that stay, and for every other one the reasons why it fell."""

import difflib
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from curation.config import DuplicateSettings, Policy, Profile, Rule, SelectConfig
from curation.duplicates import table as duplicates
from curation.errors import CurationError
from curation.manifest import Manifest, make_folder, writing
from curation.progress import Progress, silent
from curation.remarks import why_no_clip

_BATCH_ROWS = 4096
KINDS = {"exact": "exact duplicate", "perceptual": "duplicate", "semantic": "semantic duplicate"}
"""Kinds of duplicates, each with the reason that a clip falls for."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A rule with its percentiles turned into values; `source` is the rule in words."""

    score: str
    min: float | None
    max: float | None
    source: str


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """How many clips were left before and after a rule, in the policy's order."""

    rule: str
    before: int
    after: int


@dataclass(slots=True)
class SelectionSummary:
    """What a selection kept and why the rest fell. `rejected_by_reason` counts a clip under each of its reasons."""

    out: str
    clips: int
    kept: int
    policy: dict
    thresholds: list[Threshold]
    funnel: list[FunnelStep]
    rejected_by_reason: dict[str, int]
    manifest: str
    manifest_hash: str
    policy_hash: str
    selection_hash: str
    already_done: bool = field(default=False)


def load_policy(config: SelectConfig, manifest: Manifest) -> Policy:
    """The policy that the configuration names. Raises CurationError naming the file and the field at fault."""
    if config.inline_policy is not None:
        return config.inline_policy
    if config.policy:
        path, name = Path(config.policy).expanduser(), config.policy
        if not path.is_file():
            raise CurationError(f"policy: the file {config.policy!r} does not exist")
        text = path.read_text(encoding="utf-8", errors="replace")
    else:
        profile = (manifest.config() or {}).get("profile", Profile.embedded)
        name = f"{profile}.yaml"
        text = files("curation").joinpath("policies", name).read_text()
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CurationError(f"policy: {name!r} is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise CurationError(f"policy: {name!r} must hold `name:` and `rules:`")
    try:
        policy = Policy.model_validate(content)
    except ValidationError as error:
        raise CurationError(f"policy: {name!r}: {'; '.join(map(_fault, error.errors()))}") from error
    if config.policy:
        return policy
    # the default asks for nothing that this manifest was told not to measure
    measured = manifest.schema("clips").names
    return policy.model_copy(update={"rules": [r for r in policy.rules if r.score in measured]})


def _fault(error: ErrorDetails) -> str:
    """The field, if there is one, and what is wrong with it."""
    field = ".".join(map(str, error["loc"]))
    return f"{field}: " * bool(field) + error["msg"].removeprefix("Value error, ")


def select(config: SelectConfig, progress: Progress = silent) -> SelectionSummary:
    """Apply a policy and write the selection folder as a whole (or, on a dry run, write nothing).

    The folder holds clips.parquet (what stays, all columns), rejected.parquet (clip_id, reasons) and selection.json.
    Raises CurationError for a policy over unknown scores and for a selection that keeps nothing.
    """
    manifest = Manifest.find(config.manifest)
    policy = load_policy(config, manifest)
    policy_text = policy.model_dump_json()
    policy_hash = hashlib.blake2b(policy_text.encode(), digest_size=8).hexdigest()
    manifest_hash = manifest.hash()
    settings = _duplicate_settings(config, policy, manifest)
    known = "".join(m.hash() for m in duplicates.others(settings))
    selection_hash = hashlib.blake2b(f"{manifest_hash}{policy_hash}{known}".encode(), digest_size=8).hexdigest()
    out = Path(config.out).expanduser()
    if not config.dry_run and (done := _finished(out, selection_hash)):
        return done
    progress("reading scores", 0, None)
    table = _scores(manifest, policy, settings, progress)
    if not table.num_rows:
        raise CurationError(f"manifest: {str(manifest.root)!r} holds no clip to select from: {why_no_clip(manifest)}")
    verdict = judge(table, policy)
    kept = verdict.keep.sum()
    summary = SelectionSummary(
        out=str(out),
        clips=table.num_rows,
        kept=int(kept),
        policy=json.loads(policy_text),
        thresholds=verdict.thresholds,
        funnel=verdict.funnel,
        rejected_by_reason=verdict.counts(),
        manifest=str(manifest.root.absolute()),
        manifest_hash=manifest_hash,
        policy_hash=policy_hash,
        selection_hash=selection_hash,
    )
    if config.dry_run:
        return summary
    if not kept:
        steps = "; ".join(f"{s.rule}: {s.before} -> {s.after}" for s in verdict.funnel)
        raise CurationError(f"policy: no clip of {table.num_rows} survives ({steps}); loosen it and select again")
    progress("writing the selection", 0, int(kept))
    _write(out, manifest, verdict, summary, table["clip_id"])
    progress("writing the selection", int(kept), int(kept))
    return summary


@dataclass(slots=True)
class Verdict:
    """Which clips stay (bool per clip), and the reasons per clip as bits over `reasons`."""

    keep: np.ndarray
    bits: np.ndarray
    reasons: list[str]
    duplicate_of: np.ndarray  # id of the clip it repeats, None for none
    thresholds: list[Threshold]
    funnel: list[FunnelStep]

    def counts(self) -> dict[str, int]:
        """Clips by reason."""
        found = {r: int(((self.bits >> i) & 1).sum()) for i, r in enumerate(self.reasons)}
        return {r: n for r, n in found.items() if n}


def judge(table: pa.Table, policy: Policy) -> Verdict:
    """Apply the rules to a table of scores (one row a clip). Percentiles are over all measured clips, each rule alone;
    duplicates are looked for among what the rules leave."""
    rows = table.num_rows
    keep, bits = np.ones(rows, bool), np.zeros(rows, np.uint64)
    reasons: list[str] = []
    thresholds, funnel = [], []
    for rule in policy.rules:
        values = table[rule.score].to_numpy().astype(np.float64)
        missing = np.isnan(values)
        threshold = _threshold(rule, values[~missing])
        thresholds.append(threshold)
        low = values < threshold.min if threshold.min is not None else np.zeros(rows, bool)
        high = values > threshold.max if threshold.max is not None else np.zeros(rows, bool)
        gone = missing if rule.missing == "reject" else np.zeros(rows, bool)
        for fell, reason in (
            (low, f"{rule.score} below {_short(threshold.min)}"),
            (high, f"{rule.score} above {_short(threshold.max)}"),
            (gone, f"{rule.score} not measured"),
        ):
            if fell.any():
                bits |= fell.astype(np.uint64) << np.uint64(len(reasons))
                reasons.append(reason)
        before = int(keep.sum())
        keep &= ~(low | high | gone)
        funnel.append(FunnelStep(threshold.source, before, int(keep.sum())))
    duplicate_of = np.full(rows, None, object)
    for kind in KINDS if policy.drop_duplicates else ():
        if f"{kind}_group" not in table.column_names:
            continue
        before = int(keep.sum())
        fell = _drop_duplicates(table, kind, keep, duplicate_of)
        if fell.any():
            bits |= fell.astype(np.uint64) << np.uint64(len(reasons))
            reasons.append(KINDS[kind])
        if fell.any() or kind != "exact":  # within a manifest there are none
            funnel.append(FunnelStep(f"no {KINDS[kind]}", before, int(keep.sum())))
    return Verdict(keep, bits, reasons, duplicate_of, thresholds, funnel)


def _drop_duplicates(table: pa.Table, kind: str, keep: np.ndarray, duplicate_of: np.ndarray) -> np.ndarray:
    """Of each group's clips that are left, keep the best one, or none where the representative is in another manifest.
    Changes `keep` and `duplicate_of` in place and returns which clips fell, bool (n,)."""
    sizes = table[f"{kind}_size"].fill_null(1).to_numpy()
    rows = np.flatnonzero(keep & (sizes > 1))  # a tenth of millions of clips, or fewer
    left = table.take(pa.array(rows))
    names, group = np.unique(left[f"{kind}_group"].to_numpy().astype(str), return_inverse=True)
    ids = left["clip_id"].to_numpy().astype(str)
    rank = duplicates.rank_of(left)
    order = np.lexsort((rank, group))
    best = order[np.searchsorted(group[order], np.arange(len(names)))]  # position of each group's best in `rows`
    represents = table.filter(pa.array((sizes > 1) & (table[f"{kind}_representative"].fill_null(0).to_numpy() == 1)))
    known = ~np.isin(names, represents["clip_id"].to_numpy().astype(str))  # the very same clip has the same id there
    stays = np.where(known, names, ids[best])
    falls = known[group] | (ids != stays[group])
    fell = np.zeros(len(keep), bool)
    fell[rows[falls]] = True
    duplicate_of[fell] = stays[group][falls]
    keep &= ~fell
    return fell


def _duplicate_settings(config: SelectConfig, policy: Policy, manifest: Manifest) -> DuplicateSettings:
    """What this policy takes for a duplicate, and of which manifests: those that the curation was given, if none."""
    alone = DuplicateSettings(
        bits=policy.duplicate_bits,
        mirrored=policy.duplicate_mirrored,
        similarity=policy.duplicate_similarity or DuplicateSettings().similarity,
    )
    of_groups = duplicates.schema(alone).names
    if not policy.drop_duplicates and not any(rule.score in of_groups for rule in policy.rules):
        return alone  # nobody asks: other manifests may be gone
    against = config.against
    if not against:
        against = list((duplicates.made_of(manifest) or {}).get("against", []))
        if gone := [folder for folder in against if not Path(folder, "clips").is_dir()]:
            raise CurationError(
                f"against: {str(manifest.root)!r} was compared with {', '.join(map(repr, gone))}, where there is no "
                "manifest any more; restore it, name another with --against, or run `rushes curate` again without "
                "--duplicates.against, which measures nothing again"
            )
    return alone.model_copy(update={"against": against})


def _scores(manifest: Manifest, policy: Policy, settings: DuplicateSettings, progress: Progress) -> pa.Table:
    """The columns the policy looks at. Raises CurationError for one that is not there or is no number."""
    schema, of_groups = manifest.schema("clips"), duplicates.schema(settings)
    known = pa.schema([*schema, *of_groups])
    for rule in policy.rules:
        if rule.score not in known.names:
            numeric = [f.name for f in known if _is_number(f.type)]
            close = difflib.get_close_matches(rule.score, numeric, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(numeric)}"
            raise CurationError(f"policy: the manifest has no score {rule.score!r}; {hint}")
        if not _is_number(known.field(rule.score).type):
            kind = known.field(rule.score).type
            raise CurationError(f"policy: {rule.score!r} is {kind}, not a number; rules compare numbers")
    asked = dict.fromkeys(r.score for r in policy.rules)
    dropped = _kinds(policy, schema)
    kinds = [k for k in KINDS if k in dropped or any(s.startswith(f"{k}_") and s in of_groups.names for s in asked)]
    wanted = dict.fromkeys(["clip_id", *(s for s in asked if s in schema.names)])
    if not kinds:
        return manifest.read("clips", list(wanted))
    table = manifest.read("clips", list(wanted | dict.fromkeys(duplicates.ranking_columns(schema))))
    needed = [s for s in asked if s in of_groups.names]
    needed += [f"{kind}_{what}" for kind in dropped for what in ("group", "representative", "size")]
    groups = duplicates.groups_of(manifest, settings, kinds, list(dict.fromkeys(needed)), progress)
    for column in groups.schema:
        table = table.append_column(column, groups[column.name])
    return table


def _kinds(policy: Policy, schema: pa.Schema) -> list[str]:
    """The kinds of duplicates that fall. Raises CurationError where they cannot be told."""
    if not policy.drop_duplicates:
        return []
    if policy.duplicate_similarity and "embedding" not in schema.names:
        raise CurationError("policy: duplicate_similarity needs embeddings, and the manifest has none")
    wanted = {"exact": True, "perceptual": "phash" in schema.names, "semantic": bool(policy.duplicate_similarity)}
    return [kind for kind in KINDS if wanted[kind]]


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _threshold(rule: Rule, measured: np.ndarray) -> Threshold:
    words, low, high = [], rule.min, rule.max
    if rule.min is not None:
        words.append(f">= {_short(rule.min)}")
    if rule.max is not None:
        words.append(f"<= {_short(rule.max)}")
    if rule.min_percentile is not None:
        words.append(f"not in the lowest {_short(rule.min_percentile)} %")
        value = float(np.percentile(measured, rule.min_percentile)) if len(measured) else None
        low = value if low is None else low if value is None else max(low, value)
    if rule.max_percentile is not None:
        words.append(f"not in the highest {_short(100 - rule.max_percentile)} %")
        value = float(np.percentile(measured, rule.max_percentile)) if len(measured) else None
        high = value if high is None else high if value is None else min(high, value)
    return Threshold(rule.score, low, high, f"{rule.score} {' and '.join(words)}")


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _finished(out: Path, selection_hash: str) -> SelectionSummary | None:
    """The summary of a selection that is already there; refuses a folder that is something else."""
    record = out / "selection.json"
    if out.exists() and not record.is_file():
        if not out.is_dir() or any(out.iterdir()):
            raise CurationError(f"out: {str(out)!r} exists and is no selection; choose another folder with --out")
        return None
    if not record.is_file():
        return None
    done = read_summary(out)
    return done if done.selection_hash == selection_hash else None


def read_summary(selection: str | Path) -> SelectionSummary:
    """What selection.json says. Raises CurationError if the folder is no selection."""
    record = Path(selection) / "selection.json"
    try:
        raw = json.loads(record.read_text())
        thresholds = [Threshold(**t) for t in raw.pop("thresholds")]
        funnel = [FunnelStep(**f) for f in raw.pop("funnel")]
        return SelectionSummary(**raw | {"thresholds": thresholds, "funnel": funnel, "already_done": True})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CurationError(f"selection: {str(selection)!r} is no selection; make one with `rushes select`") from error


def _write(out: Path, manifest: Manifest, verdict: Verdict, summary: SelectionSummary, ids: pa.ChunkedArray) -> None:
    """Write into a hidden folder beside `out` and swap it in."""
    make_folder(out.parent)
    fresh, old = (out.with_name(f".{out.name}.{os.getpid()}.{kind}") for kind in ("new", "old"))
    try:
        make_folder(fresh)
        _write_kept(fresh / "clips.parquet", manifest, verdict.keep)
        with writing(fresh / "rejected.parquet") as path:
            pq.write_table(_rejected(verdict, ids), path, compression="zstd")
        record = asdict(summary)
        record.pop("already_done")
        with writing(fresh / "selection.json") as path:
            path.write_text(json.dumps(record, indent=2) + "\n")
        if out.exists():
            out.rename(old)
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if not out.exists() and old.exists():
            old.rename(out)
        shutil.rmtree(old, ignore_errors=True)


def _write_kept(path: Path, manifest: Manifest, keep: np.ndarray) -> None:
    schema, at = manifest.schema("clips"), 0
    with writing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for batch in ds.dataset(manifest.fragments("clips"), schema=schema).to_batches(batch_size=_BATCH_ROWS):
            mask = keep[at : at + batch.num_rows]
            at += batch.num_rows
            if mask.any():
                writer.write_batch(batch.filter(pa.array(mask)))


def _rejected(verdict: Verdict, ids: pa.ChunkedArray) -> pa.Table:
    rows = np.flatnonzero(~verdict.keep)
    combinations, which = np.unique(verdict.bits[rows], return_inverse=True)
    texts = [[r for i, r in enumerate(verdict.reasons) if int(c) >> i & 1] for c in combinations]
    return pa.table(
        {
            "clip_id": ids.take(pa.array(rows)),
            "reasons": pa.array(texts, pa.list_(pa.string())).take(pa.array(which)),
            "duplicate_of": pa.array(verdict.duplicate_of[rows], pa.string()),
        }
    )
