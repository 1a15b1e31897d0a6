"""A folder of sound and of damaged, lying and hostile files: the sound ones give what they give alone, every other
gives its reason, nothing hangs, and no process takes more than a stated amount of memory."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from benchmarks.damaged_footage import KINDS, PLACES, make
from curation import plan
from curation.config import CurateConfig, TextSettings
from curation.manifest import Manifest
from curation.scores.aesthetics import TechnicalQuality
from curation.scores.duplicates import PerceptualHash
from curation.scores.motion import Motion

MEMORY_MB = (
    1500  # of one process; a worker that has imported everything takes 400, the smallest bomb asks for a GB more
)
LOOK_EVERY_S = 0.3


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """The kernel's marks of the most memory that this process's descendants held, in MB."""
    done = threading.Event()
    most: dict[str, float] = {}

    def look() -> None:
        while not done.wait(LOOK_EVERY_S):
            for process in psutil.Process().children(recursive=True):
                try:
                    status = Path(f"/proc/{process.pid}/status").read_text()
                except OSError:
                    continue  # it has ended
                if marks := [line for line in status.splitlines() if line.startswith("VmHWM")]:
                    most[str(process.pid)] = int(marks[0].split()[1]) / 1024

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()


def curate(videos: Path, out: Path) -> Manifest:
    config = CurateConfig(
        videos=str(videos), out=str(out), text=TextSettings(enabled=False), cpus=2, no_progress_minutes=3
    )
    return Manifest.find(plan.curate(config).manifest)


def clips_by_name(manifest: Manifest) -> dict[str, list[dict]]:
    """Rows of clips by the name of their file, without what says where it lies."""
    out: dict[str, list[dict]] = {}
    for row in sorted(manifest.read("clips").to_pylist(), key=lambda r: r["start"]):
        out.setdefault(Path(row.pop("uri")).name, []).append(row)
    return out


@pytest.mark.parametrize("good", [20, pytest.param(160, marks=pytest.mark.slow)])
def test_every_good_clip_is_there_and_every_bad_file_has_its_reason(tmp_path, monkeypatch, good):
    monkeypatch.setattr(
        plan, "scorers_for", lambda config: [TechnicalQuality(), Motion(config.motion), PerceptualHash()]
    )
    mixed, sound = tmp_path / "mixed", tmp_path / "sound"
    owed = make(mixed, good)
    assert len(owed) == len(KINDS) + len(PLACES) >= 30
    sound.mkdir()
    for path in mixed.glob("good_*"):
        shutil.copy(path, sound / path.name)

    with plan._ray(CurateConfig(videos="unused", cpus=2)):
        with watched() as most:
            manifest = curate(mixed, tmp_path / "out")
        alone = clips_by_name(curate(sound, tmp_path / "alone"))

    assert len(alone) == good
    assert all(len(rows) == 2 for rows in alone.values())
    together = clips_by_name(manifest)
    assert {name: rows for name, rows in together.items() if name.startswith("good_")} == alone

    videos = {Path(r["uri"]).name: r for r in manifest.read("videos").to_pylist()}
    told = {Path(r["uri"]).name for r in manifest.read("errors").to_pylist() if r["message"]}
    shots = {Path(r["uri"]).name for r in manifest.read("shots").to_pylist()}
    for name, due in owed.items():
        if due["owed"] == "nothing":
            assert name not in videos
            continue
        row = videos[name]
        assert name in told or due["owed"] == "any", name
        if due["owed"] == "failed":
            assert (row["status"], row["clips"], name in together) == ("failed", 0, False), name
            assert row["message"], name
        else:
            assert row["status"] == "failed" or name in shots, name
            assert (row["duration"] or 0) < 60 or "times" in name, name
    assert len(told) <= len(owed)
    assert "/etc/passwd" not in json.dumps([r["message"] for r in manifest.read("errors").to_pylist()])

    assert len(most) > 3  # processes were seen
    assert max(most.values()) < MEMORY_MB, most
