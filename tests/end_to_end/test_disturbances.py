"""`rushes curate` on a machine that misbehaves: a full or read-only disk, a store that fails now and then, a clock that
jumps, files from the past and the future. Only the scorers without weights run, on a real Ray."""

import contextlib
import errno
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.footage.small import footage
from curation import plan, weights
from curation.config import CurateConfig
from curation.errors import CurationError
from curation.manifest import Manifest
from curation.scores.aesthetics import TechnicalQuality
from curation.scores.duplicates import PerceptualHash
from curation.scores.motion import Motion
from flows import cli
from tests.manifests import files, part_of, same

pytestmark = pytest.mark.timeout(1800)
SOUND = ("a.mp4", "b.webm", "c.mkv")
UNREADABLE = "empty.mp4"
SHARDS = len(SOUND) + 1
PAGE = 4096  # bytes that a file on a disk in memory takes at least
DAY_S = 86400
YEAR_S = 365 * DAY_S


@pytest.fixture(scope="module", autouse=True)
def engine() -> Iterator[None]:
    """One Ray, and light scorers, for all of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "scorers_for", lambda config: [TechnicalQuality(), Motion(config.motion), PerceptualHash()])
        with plan._ray(CurateConfig(videos="unused", cpus=2)):
            yield


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(SOUND):
        (folder / name).write_bytes(footage(seed, Path(name).suffix))
    (folder / UNREADABLE).touch()
    return folder


@pytest.fixture
def curate(capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str]]:
    """`curate(videos, out, *options)`: the exit status, and the complaint if there is one."""

    def run(videos: Path, out: Path, *options: str) -> tuple[int, str]:
        status = cli.main(command(videos, out, *options))
        return status, "".join(capsys.readouterr().err.partition("error:")[1:])

    return run


def command(videos: Path, out: Path, *options: str) -> list[str]:
    return ["curate", str(videos), "--out", str(out), "--videos-per-shard", "1", "--no-text.enabled", *options]


@pytest.fixture(scope="module")
def calm(engine: None, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The manifest of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("calm")
    assert cli.main(command(videos, out)) == 0
    manifest = Manifest.find(out)
    assert len(manifest.shards()) == SHARDS
    assert {Path(r["uri"]).name for r in manifest.read("errors").to_pylist()} == {UNREADABLE}
    return manifest


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def leave(disk: Path, room: int) -> None:
    """Fill the disk so that `room` bytes are free."""
    with (disk / "ballast").open("ab", buffering=0) as file:
        file.truncate(0)
        file.write(bytes(shutil.disk_usage(disk).free - room))


@pytest.mark.needs_mount
def test_a_disk_that_is_full_in_the_middle(videos, calm, disk, curate, monkeypatch):
    """What was written stays, nothing half-written does, and with enough space the same command completes."""
    monkeypatch.setattr(weights, "MIN_FREE_BYTES", 0)  # the disk has filled since that was looked at
    whole, kept = sum(-(-p.stat().st_size // PAGE) * PAGE for p in files(calm.root)), set[str]()
    for room in (0, int(0.45 * whole), int(0.45 * whole)):  # twice for a shard or two
        leave(disk, room)
        status, told = curate(videos, disk / "out")
        assert status == 2
        assert told.startswith(f"error: out: the disk is full while writing '{disk / 'out'}"), told
        assert told.endswith("; free some space and run the same command again\n"), told
        if room:
            manifest = Manifest.find(disk / "out")
            assert kept < set(manifest.shards())  # it went on
            kept = set(manifest.shards())
            part_of(manifest, calm)
    (disk / "ballast").unlink()
    assert curate(videos, disk / "out") == (0, "")
    same(Manifest.find(disk / "out"), calm)


@pytest.mark.needs_mount
def test_a_folder_that_is_read_only(videos, calm, disk, curate, tmp_path):
    """Videos are read from one, beside which nothing can be written; as --out it is refused in a line."""
    for path in files(videos):
        shutil.copyfile(path, disk / path.name)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert curate(disk, tmp_path / "out") == (0, "")
    same(Manifest.find(tmp_path / "out"), calm, but={"uri", "modified_ns", "revision", "message"})
    status, told = curate(videos, disk / "out")
    assert status == 2
    assert f"{disk} cannot be written to (Read-only file system); choose another folder" in told


class FailingStore:
    """Every 7th write below a folder fails, and leaves half a file where it was one of a table."""

    def __init__(self) -> None:
        self.folder = os.devnull
        self.kind = ""
        self.calls = self.failures = 0

    def call(self, kind: str, path: object) -> None:
        """Count a call of that kind, and fail if its turn has come."""
        if kind != self.kind or not str(path).startswith(self.folder):
            return
        self.calls += 1
        if self.calls % 7 == 0:
            self.failures += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    def audit(self, event: str, arguments: tuple) -> None:
        """Python tells what it is about to do, and what is raised here takes its place."""
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            self.call("write", arguments[0])
        elif event == "os.rename":
            self.call("rename", arguments[1])


@pytest.fixture(scope="module")
def store() -> FailingStore:
    """One for the module: an audit hook stays for ever."""
    store = FailingStore()
    sys.addaudithook(store.audit)
    return store


@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        ("write", 0),
        pytest.param("write", 5, id="first the lock"),
        ("rename", 0),
    ],
)
def test_a_store_that_fails_every_7th_write(videos, calm, store, curate, tmp_path, monkeypatch, kind, calls):
    """Each failure ends the run with a line, what was committed stays, and the same command completes in the end."""
    real = pq.ParquetWriter.write_table

    def write_table(writer: pq.ParquetWriter, *arguments, **options) -> None:
        real(writer, *arguments, **options)
        store.call("write", writer.where)  # pyarrow opens files behind Python's back

    monkeypatch.setattr(pq.ParquetWriter, "write_table", write_table)
    monkeypatch.setattr(store, "folder", str(tmp_path / "out"))
    monkeypatch.setattr(store, "kind", kind)
    store.calls, store.failures = calls, 0
    status, runs = 2, 0
    while status:
        runs += 1
        assert runs <= 2 * SHARDS
        before = store.failures
        status, told = curate(videos, tmp_path / "out")
        if status:
            assert store.failures == before + 1
            assert told.startswith(f"error: out: '{tmp_path / 'out'}"), told
            assert "Input/output error" in told
            assert "run the same command again" in told
            assert told.count("\n") == 1
            left = [p.name for p in files(tmp_path / "out") if p.name.endswith(".tmp") or p.name.startswith(".probe")]
            assert left == []
            with contextlib.suppress(CurationError):  # where not even the first could be written
                part_of(Manifest.find(tmp_path / "out"), calm)
    assert store.failures > 1
    same(Manifest.find(tmp_path / "out"), calm)


def test_a_clock_that_jumps(videos, calm, curate, tmp_path, monkeypatch):
    """A day forward or back at any look at it: limits count by another clock, so nothing ends early or hangs."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    dice, jumps = random.Random(seed), []

    def jumping(real: Callable[[], int | float], second: int) -> Callable[[], int | float]:
        def now() -> int | float:
            jumps.append(dice.choice([-DAY_S, 0, 0, DAY_S]))
            return real() + jumps[-1] * second

        return now

    monkeypatch.setattr(time, "time", jumping(time.time, 1))
    monkeypatch.setattr(time, "time_ns", jumping(time.time_ns, 10**9))
    limits = ("--no-progress-minutes", "60", "--alone-minutes", "60")  # shorter than a day
    assert curate(videos, tmp_path / "out", *limits) == (0, "")
    assert len(set(jumps)) == 3
    monkeypatch.undo()
    same(Manifest.find(tmp_path / "out"), calm)
    assert curate(videos, tmp_path / "out") == (0, "")


@pytest.mark.parametrize(
    "years",
    [
        pytest.param((0, -30, 80, 130), id="1970, 1940, 2050, 2100"),
        pytest.param((300, 300, 300, 300), id="2270: nanoseconds of more than 63 bits"),
    ],
)
def test_files_from_the_past_and_the_future(videos, calm, curate, tmp_path, years):
    """Their times name no content: the same rows, and nothing to do the next time."""
    for path, year in zip(files(videos), years, strict=True):
        os.utime(path, (year * YEAR_S, year * YEAR_S))
    assert curate(videos, tmp_path / "out") == (0, "")
    manifest = Manifest.find(tmp_path / "out")
    same(manifest, calm, but={"modified_ns", "revision"})
    written = {path: path.stat().st_mtime_ns for path in manifest.root.rglob("*.parquet")}
    assert curate(videos, tmp_path / "out") == (0, "")
    assert {path: path.stat().st_mtime_ns for path in files(manifest.root) if path.suffix == ".parquet"} == written
