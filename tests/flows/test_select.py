"""The flow `select`, run by Prefect against a server of its own, its artifacts read back."""

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness

from curation.config import Policy, Rule, SelectConfig
from curation.manifest import Manifest, Shard
from curation.schema import CLIP_IDENTITY, score_field
from flows.select import select


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def config(tmp_path: Path) -> SelectConfig:
    """A selection from a manifest of ten clips whose motion goes from 0 to 9."""
    rows = [
        {
            "clip_id": f"c{i}",
            "video_id": f"v{i % 3}",
            "uri": "/**bold** | film.mp4",
            "start": i + 0.5,
            "motion": float(i),
        }
        for i in range(10)
    ]
    schema = pa.schema([*CLIP_IDENTITY, score_field("motion", pa.float32(), "flow", "px", {"scorer": "motion"})])
    Manifest(tmp_path / "m").commit(Shard("a", [], [], [], rows), schema)
    policy = Policy(rules=[Rule(score="motion", min=5), Rule(where="motion != 7")], validation=0.3)
    return SelectConfig(manifest=str(tmp_path / "m"), out=str(tmp_path / "out"), inline_policy=policy)


def artifact(key: str) -> list[list[str]]:
    """The cells of an artifact's lines, as they read."""
    with get_client(sync_client=True) as client:
        newest = client.request("GET", "/artifacts/{key}/latest", path_params={"key": key}).json()
    text = re.sub(r"\\([^\w\s])", "\0\\1", newest["data"])  # a mark of its own stays apart from a column's border
    return [[c.replace("\0", "").strip() for c in re.split(r"(?<!\0)\|", line)[1:-1]] for line in text.splitlines()]


@pytest.mark.usefixtures("prefect")
def test_a_dry_run_shows_rules_and_clips_that_fell(config: SelectConfig):
    (summary,) = select(config.model_copy(update={"dry_run": True}))
    assert summary.kept == 4
    lines = artifact("selection-funnel")
    assert ["motion >= 5", "10", "5", "5", "5"] in lines
    assert ["motion != 7", "5", "4", "1", "1"] in lines
    assert ["motion != 7", "c7", "/**bold** | film.mp4", "7.5", "motion 7"] in lines
    assert not Path(config.out).exists()


@pytest.mark.usefixtures("prefect")
def test_a_sweep_shows_its_levels(config: SelectConfig):
    made = select(config.model_copy(update={"sweep": "motion=60,80"}))
    assert [Path(s.out).name for s in made] == ["motion-60", "motion-80"]
    assert [line[1:3] for line in artifact("selection-sweep") if len(line) == 4][2:] == [
        [str(s.kept), "10"] for s in made
    ]
