"""Which columns a policy looks at, and reading them: of the manifest, and of its table of duplicates."""

import pyarrow as pa

from curation import store
from curation.config import DuplicateSettings, Policy, Rule, SelectConfig
from curation.duplicates import table as duplicates
from curation.errors import CurationError
from curation.manifest import Manifest
from curation.progress import Progress
from curation.selection.expressions import columns_of, hint

KINDS = {"exact": "exact duplicate", "perceptual": "duplicate", "semantic": "semantic duplicate"}
"""Kinds of duplicates, each with the reason that a clip falls for."""


def place(policy: Policy, field: str) -> str:
    """Where in a policy something stands, for errors."""
    return f"policy {policy.name!r}: {field}"


def rule_columns(rule: Rule, schema: pa.Schema, policy: Policy) -> list[str]:
    """The columns that a rule looks at. Raises CurationError for one that is not there or is no number."""
    if rule.where is not None:
        return columns_of(rule.where, schema, place(policy, "where"))
    return [_number(rule.score, schema), *(_present(name, schema, place(policy, "per")) for name in rule.per)]


def read(manifest: Manifest, policy: Policy, settings: DuplicateSettings, progress: Progress) -> pa.Table:
    """The columns the policy looks at, one row a clip. Raises CurationError as `rule_columns` does, and where the
    manifest has a column of a name that the policy adds."""
    schema, of_groups = manifest.schema("clips"), duplicates.schema(settings)
    adds = {"split": policy.validation, "weight": policy.weight}
    if taken := [name for name, asked in adds.items() if asked is not None and name in schema.names]:
        raise CurationError(f"policy: the manifest has a column {taken[0]!r} already, and the selection would have two")
    asked = _asked(policy, pa.schema([*schema, *of_groups]))
    dropped = _kinds(policy, schema)
    if not _repeats_others(manifest, settings):  # within a manifest nothing has the same bytes: not worth reading
        dropped = [kind for kind in dropped if kind != "exact"]
    linked = _linked(policy, schema)
    kinds = [
        k
        for k in KINDS
        if k in {*dropped, *linked} or any(s.startswith(f"{k}_") and s in of_groups.names for s in asked)
    ]
    wanted = dict.fromkeys(["clip_id", *(s for s in asked if s in schema.names)])
    if not kinds:
        return manifest.read("clips", list(wanted))
    ranking = duplicates.ranking_columns(schema) if dropped else []
    table = manifest.read("clips", list(wanted | dict.fromkeys(ranking)))
    needed = [s for s in asked if s in of_groups.names]
    needed += [f"{kind}_{what}" for kind in dropped for what in ("group", "representative", "size")]
    needed += [f"{kind}_{what}" for kind in linked for what in ("group", "size")]
    groups = duplicates.groups_of(manifest, settings, kinds, list(dict.fromkeys(needed)), progress)
    for column in groups.schema:
        table = table.append_column(column, groups[column.name])
    return table


def _asked(policy: Policy, known: pa.Schema) -> list[str]:
    asked = [column for rule in policy.rules for column in rule_columns(rule, known, policy)]
    if policy.best_by:
        asked.append(_number(policy.best_by, known))
    if policy.max_clips_per_video or policy.validation:
        asked.append("video_id")
    if policy.weight is not None:
        asked += columns_of(policy.weight, known, place(policy, "weight"))
    return list(dict.fromkeys(asked))


def _number(name: str, known: pa.Schema) -> str:
    if name not in known.names:
        raise CurationError(
            f"policy: the manifest has no score {name!r}; {hint(name, [f.name for f in known if _is_number(f.type)])}"
        )
    if not _is_number(known.field(name).type):
        raise CurationError(f"policy: {name!r} is {known.field(name).type}, not a number; rules compare numbers")
    return name


def _present(name: str, known: pa.Schema, what: str) -> str:
    if name not in known.names:
        raise CurationError(f"{what}: the manifest has no column {name!r}; {hint(name, known.names)}")
    kind = known.field(name).type
    if not (_is_number(kind) or pa.types.is_string(kind) or pa.types.is_boolean(kind)):
        raise CurationError(f"{what}: {name!r} is {kind}, which nothing is grouped by")
    return name


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _kinds(policy: Policy, schema: pa.Schema) -> list[str]:
    """The kinds of duplicates that fall. Raises CurationError where they cannot be told."""
    if policy.duplicate_similarity and "embedding" not in schema.names:
        raise CurationError("policy: duplicate_similarity needs embeddings, and the manifest has none")
    if not policy.drop_duplicates:
        return []
    wanted = {"exact": True, "perceptual": "phash" in schema.names, "semantic": bool(policy.duplicate_similarity)}
    return [kind for kind in KINDS if wanted[kind]]


def _repeats_others(manifest: Manifest, settings: DuplicateSettings) -> bool:
    """Whether there is another manifest whose bytes these clips may have."""
    return any(store.named(m.root) != store.named(manifest.root) for m in duplicates.others(settings))


def _linked(policy: Policy, schema: pa.Schema) -> list[str]:
    """The kinds of duplicates that keep videos on one side of the split."""
    if policy.validation is None:
        return []
    wanted = {"perceptual": "phash" in schema.names, "semantic": bool(policy.duplicate_similarity)}
    return [kind for kind in wanted if wanted[kind]]


def duplicate_settings(config: SelectConfig, policy: Policy, manifest: Manifest) -> DuplicateSettings:
    """What this policy takes for a duplicate, and of which manifests: those that the curation was given, if none."""
    alone = DuplicateSettings(
        bits=policy.duplicate_bits,
        mirrored=policy.duplicate_mirrored,
        similarity=policy.duplicate_similarity or DuplicateSettings().similarity,
    )
    of_groups = duplicates.schema(alone)
    known = pa.schema([*manifest.schema("clips"), *of_groups])
    asked = any(column in of_groups.names[1:] for column in _asked(policy, known))
    if not policy.drop_duplicates and policy.validation is None and not asked:
        return alone  # nobody asks: other manifests may be gone
    against = config.against
    if not against:
        against = list((duplicates.made_of(manifest) or {}).get("against", []))
        if gone := [folder for folder in against if not (store.place(folder) / "clips").is_dir()]:
            raise CurationError(
                f"against: {str(manifest.root)!r} was compared with {', '.join(map(repr, gone))}, where there is no "
                "manifest any more; restore it, name another with --against, or run `rushes curate` again without "
                "--duplicates.against, which measures nothing again"
            )
    return alone.model_copy(update={"against": against})
