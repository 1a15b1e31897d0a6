"""`rushes curate` with every scorer: over all of the labelled footage."""

import subprocess
import sys
from pathlib import Path

import pytest

from curation.manifest import Manifest

pytestmark = [pytest.mark.slow, pytest.mark.needs_videos, pytest.mark.timeout(1800)]
SHARED = Path(__file__).parents[3] / "shared" / "videos"
RUSHES = [sys.executable, "-m", "flows.cli"]


@pytest.fixture(scope="module")
def videos() -> Path:
    if not (SHARED / "truth.json").is_file():
        pytest.skip(f"the labelled footage is not at {SHARED}")
    return SHARED


def curate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUSHES, "curate", *map(str, arguments)], capture_output=True, text=True, check=False)


def test_all_42_files(videos, tmp_path):
    done = curate(videos, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    manifest = Manifest.find(tmp_path)
    rows = {str(Path(r["uri"]).relative_to(videos)): r for r in manifest.read("videos").to_pylist()}
    assert len(rows) == 42
    failed = {name: row["message"] for name, row in rows.items() if row["status"] == "failed"}
    assert {Path(n).name for n in failed} == {
        "zero_bytes.mp4",
        "text_named.mp4",
        "truncated_no_moov.mp4",
        "audio_only.mp4",
    }
    assert "no video stream" in failed["odd/audio_only.mp4"]
    assert (rows["odd/rotate90_metadata.mp4"]["width"], rows["odd/rotate90_metadata.mp4"]["height"]) == (272, 640)
    assert (rows["odd/anamorphic_sar.mp4"]["width"], rows["odd/anamorphic_sar.mp4"]["height"]) == (853, 272)
    assert rows["odd/vfr.mp4"]["variable_rate"]
    with_clips = {Path(r["uri"]).name for r in manifest.read("clips").to_pylist()}
    reasons = {Path(r["uri"]).name: r["reason"] for r in manifest.read("shots").to_pylist() if r["reason"]}
    for name, row in rows.items():
        assert row["status"] == "failed" or Path(name).name in with_clips or reasons[Path(name).name]

    again = curate(videos, "--out", tmp_path)
    assert again.returncode == 0
    assert "read before" in again.stdout
    assert manifest.shards() == Manifest.find(tmp_path).shards()
