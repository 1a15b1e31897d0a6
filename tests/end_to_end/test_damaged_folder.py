"""A folder of sound and of damaged, lying and hostile files: the sound ones give what they give alone, every other
gives its reason, nothing hangs, and no process takes more than a stated amount of memory."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from curation.stages import PROCESS_GB

MEMORY_MB = (
    1500  # of one process; a worker that has imported everything takes 400, the smallest bomb asks for a GB more
)
RAY_GB = 1.0  # its own processes, and idle ones that it keeps ready
LOOK_EVERY_S = 0.3
SCORERS = (TechnicalQuality(), Motion(), PerceptualHash())


@dataclass
class Memory:
    """The most that a run's processes held, in MB: each by the kernel's own mark, and all of them at one moment, where
    what they share counts once."""

    each: dict[int, float] = field(default_factory=dict)
    together: float = 0.0


@contextmanager
def watched() -> Iterator[Memory]:
    """Look at this process's descendants."""
    done, most = threading.Event(), Memory()

    def held(process: psutil.Process) -> float:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            if marks := [line for line in status.splitlines() if line.startswith("VmHWM")]:
                most.each[process.pid] = int(marks[0].split()[1]) / 1024
            return process.memory_full_info().pss / 2**20
        except (OSError, psutil.Error):
            return 0.0  # it has ended

    def look() -> None:
        while not done.wait(LOOK_EVERY_S):
            most.together = max(most.together, sum(map(held, psutil.Process().children(recursive=True))))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()


def curate(videos: Path, out: Path) -> Manifest:
    return Manifest.find(plan.curate(config_of(videos, out)).manifest)


def config_of(videos: Path, out: Path) -> CurateConfig:
    text = TextSettings(enabled=False)
    return CurateConfig(videos=str(videos), out=str(out), text=text, cpus=2, no_progress_minutes=3, memory_gb=1.0)


def owed_mb(config: CurateConfig) -> float:
    """What a run may take in all: on each core a video that is read, as far as the configuration lets it, and a process
    with the scorers, by their own word; and Ray."""
    scorers = PROCESS_GB + sum(s.resources.memory_gb for s in SCORERS)
    return 1000 * ((config.cpus or 1) * (config.memory_gb + scorers) + RAY_GB)


def clips_by_name(manifest: Manifest) -> dict[str, list[dict]]:
    """Rows of clips by the name of their file, without what says where it lies."""
    out: dict[str, list[dict]] = {}
    for row in sorted(manifest.read("clips").to_pylist(), key=lambda r: r["start"]):
        out.setdefault(Path(row.pop("uri")).name, []).append(row)
    return out


@pytest.mark.parametrize("good", [20, pytest.param(160, marks=pytest.mark.slow)])
def test_every_good_clip_is_there_and_every_bad_file_has_its_reason(tmp_path, monkeypatch, good):
    monkeypatch.setattr(plan, "scorers_for", lambda config: list(SCORERS))
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

    print(f"most memory: {max(most.each.values()):.0f} MB in one process, {most.together:.0f} MB in all")
    assert len(most.each) > 3  # processes were seen
    assert max(most.each.values()) < MEMORY_MB, most
    assert most.together < owed_mb(config_of(mixed, tmp_path / "out")), most
