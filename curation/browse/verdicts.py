"""Why a clip falls: by a selection that was made, else by the thresholds of a policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from curation.browse.clips import Clips
from curation.browse.filters import Bound, from_policy, reasons
from curation.config import Policy, Rule, SelectConfig
from curation.errors import CurationError
from curation.inspect import readable
from curation.manifest import Manifest
from curation.policy import load_policy, read_summary, select


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """What falls. `fell`, int64 (clips,), is a clip's row in `rejected`, -1 where it stays; None by a policy alone."""

    name: str
    bounds: Mapping[str, Bound]
    fell: np.ndarray | None = None
    rejected: ds.Dataset | None = None

    @classmethod
    def of_policy(cls, clips: Clips, policy: str = "") -> "Verdicts":
        """By the bounds in a policy file, or in the default of the manifest's profile. What a policy asks besides (no
        duplicates, the best of a group) only a selection can tell.

        Raises:
            CurationError: it is no policy, or asks for scores that the manifest lacks.
        """
        asked = load_policy(SelectConfig(manifest=str(clips.root), policy=policy), Manifest(clips.root))
        measured = [r for r in asked.rules if r.score in clips.schema.names or policy]
        rules = [r for r in measured if _bounded(r)]
        if not rules or not len(clips):
            return cls(f"policy {asked.name}", {})
        plain = Policy(name=asked.name, rules=rules, drop_duplicates=False)
        done = select(SelectConfig(manifest=str(clips.root), inline_policy=plain, dry_run=True))
        return cls(f"policy {asked.name}", from_policy(plain, done.thresholds))

    @classmethod
    def of_selection(cls, clips: Clips, folder: str) -> "Verdicts":
        """By a selection.

        Raises:
            CurationError: it cannot be read, or was made from another manifest, or from this one before it grew.
        """
        summary = read_summary(folder)
        if summary.manifest_hash != Manifest(clips.root).hash():
            raise CurationError(
                f"selection: {folder!r} was made from {summary.manifest!r}, which is another manifest or has changed "
                "since; select again"
            )
        with readable(folder):
            rejected = ds.dataset(Path(folder) / "rejected.parquet")
            numbers = clips.numbers_of(rejected.to_table(columns=["clip_id"])["clip_id"])
        fell = np.full(len(clips), -1, np.int64)
        fell[numbers[numbers >= 0]] = np.flatnonzero(numbers >= 0)
        bounds = {t.score: Bound(t.min, t.max) for t in summary.thresholds}
        return cls(f"selection by {summary.policy['name']}", bounds, fell, rejected)

    def reasons(self, number: int, row: Mapping[str, Any]) -> list[str]:
        """Why the clip in this row of the manifest falls; empty if it stays."""
        if self.fell is None or self.rejected is None:
            return reasons(self.bounds, row)
        if self.fell[number] < 0:
            return []
        (found,) = self.rejected.take(pa.array([self.fell[number]])).to_pylist()
        repeated = found.get("duplicate_of")
        return [*found["reasons"], *([f"repeats clip {repeated}"] if repeated else [])]


def _bounded(rule: Rule) -> bool:
    return any(b is not None for b in (rule.min, rule.max, rule.min_percentile, rule.max_percentile))
