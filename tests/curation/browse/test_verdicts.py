"""The reasons that the page shows are those of the selection itself."""

import pyarrow.parquet as pq
import pytest

from curation.browse.clips import Clips
from curation.browse.filters import Bound
from curation.browse.verdicts import Verdicts
from curation.config import Policy, SelectConfig
from curation.errors import CurationError
from curation.policy import select

POLICY = "name: mine\nrules:\n- {score: motion, min_percentile: 50}\n- {score: faces, max: 4, missing: keep}\n"


def test_a_selection_and_its_policy_give_the_same_reasons(made, tmp_path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(POLICY)
    select(SelectConfig(manifest=str(made.folder), policy=str(file), out=str(tmp_path / "s")))
    clips = Clips(str(made.folder))
    written = {r["clip_id"]: r["reasons"] for r in pq.read_table(tmp_path / "s" / "rejected.parquet").to_pylist()}
    assert written
    by_selection = Verdicts.of_selection(clips, str(tmp_path / "s"))
    by_policy = Verdicts.of_policy(clips, str(file))
    for n, row in enumerate(clips.rows(range(len(clips)))):
        assert by_selection.reasons(n, row) == written.get(row["clip_id"], [])
        assert by_policy.reasons(n, row) == written.get(row["clip_id"], [])
    assert by_policy.bounds == {"motion": Bound(2.75), "faces": Bound(max=4, keep_missing=True)}


def test_a_selection_of_another_manifest_is_refused(made, tmp_path) -> None:
    everything = Policy(name="all", drop_duplicates=False)
    select(SelectConfig(manifest=str(made.folder), inline_policy=everything, out=str(tmp_path / "s")))
    clips = Clips(str(made.folder))
    assert Verdicts.of_selection(clips, str(tmp_path / "s")).reasons(0, {}) == []
    (made.folder / "manifest" / "clips" / "b.parquet").unlink()
    with pytest.raises(CurationError, match="another manifest or has changed"):
        Verdicts.of_selection(Clips(str(made.folder)), str(tmp_path / "s"))
    with pytest.raises(CurationError, match="is no selection"):
        Verdicts.of_selection(clips, str(made.folder))


def test_a_policy_over_an_unknown_score_is_refused(made, tmp_path) -> None:
    (tmp_path / "p.yaml").write_text("rules: [{score: motoin, min: 1}]")
    with pytest.raises(CurationError, match="motion"):
        Verdicts.of_policy(Clips(str(made.folder)), str(tmp_path / "p.yaml"))
