"""`rushes curate` with every scorer: over all of the labelled footage, and killed in the middle."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from curation.manifest import Manifest
from curation.schema import TABLES

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


def content(manifest: Manifest, table: str) -> list[str]:
    """Rows as text, floats rounded: two runs may batch differently, which moves the last bits."""

    def plain(value):
        if isinstance(value, float):
            return float(f"{value:.3g}")
        if isinstance(value, list):
            return [plain(v) for v in value]
        return value

    return sorted(str({k: plain(v) for k, v in row.items()}) for row in manifest.read(table).to_pylist())


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
    assert "measured before" in again.stdout
    assert manifest.shards() == Manifest.find(tmp_path).shards()


def test_a_killed_run_is_finished_by_the_next(videos, tmp_path):
    """kill -9 of driver and workers at a random moment; the next run's manifest equals an undisturbed one's."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("bikes.mp4", "nasa_launch.webm", "three_colours.mp4", "odd/vfr.mp4", "odd/zero_bytes.mp4"):
        (folder / Path(name).name).write_bytes((videos / name).read_bytes())
    shared = ("--videos-per-shard", "1", "--no-text.enabled")
    began = time.monotonic()
    assert curate(folder, "--out", tmp_path / "calm", *shared).returncode == 0
    whole = time.monotonic() - began
    moment = random.Random()
    for _ in range(3):
        child = subprocess.Popen(
            [*RUSHES, "curate", str(folder), "--out", str(tmp_path / "killed"), *shared], start_new_session=True
        )
        time.sleep(moment.uniform(0.3, 1.0) * whole)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    assert curate(folder, "--out", tmp_path / "killed", *shared).returncode == 0
    killed, calm = Manifest.find(tmp_path / "killed"), Manifest.find(tmp_path / "calm")
    for table in TABLES:
        assert content(killed, table) == content(calm, table)
