"""`rushes curate` and kill -9: of the driver, of one of Ray's workers, of all, at random moments, over real footage.

RUSHES_SEED=N draws the moments of a failed test again; when they come is up to the machine.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from curation.manifest import Manifest
from tests.manifests import part_of, same

pytestmark = [pytest.mark.needs_videos, pytest.mark.timeout(3600)]
SHARED = Path(__file__).parents[3] / "shared" / "videos"
SOUND = ("three_colours.mp4", "bikes.mp4", "odd/vfr.mp4", "odd/gray.mp4")
UNREADABLE = ("odd/zero_bytes.mp4", "odd/text_named.mp4")
READING, SCORING = "ray::FlatMap", "ray::MapWorker"
MOMENTS = ("begun", "reading", "scoring", "written")
LATER_S = 2.0  # a moment is one of these and up to so much later
LOOK_EVERY_S = 0.05
PATIENCE_S = 1200.0  # for a run on a machine that has much else to do
LEAVING_S = 150.0  # for Ray's processes, once their driver is gone
LATE = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")  # these of Ray's notice after a minute only


class Run:
    """A `rushes curate` in a session of its own, whose processes bear a mark in their environment."""

    def __init__(self, videos: Path, out: Path) -> None:
        self.out, self._mark = out, uuid.uuid4().hex
        options = ["--videos-per-shard", "1", "--no-text.enabled", "--no-progress-minutes", "10"]
        self._log = out.with_suffix(".log").open("a+")
        self._before = self._fragments()
        self.driver = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "curate", str(videos), "--out", str(out), *options],
            stdout=self._log,
            stderr=self._log,
            env=os.environ | {"RUSHES_TEST_RUN": self._mark},
            start_new_session=True,
        )
        self._process = psutil.Process(self.driver.pid)
        self._known = {self._process}

    def reached(self, moment: str) -> bool:
        """Has it come so far?"""
        title = {"reading": READING, "scoring": SCORING}.get(moment)
        if title:
            return bool(self.workers(title))
        return moment == "begun" or bool(self._fragments() - self._before)

    def workers(self, *titles: str) -> list[psutil.Process]:
        """Ray's processes that do such work now."""
        self._known |= (below := _descendants(self._process))
        return sorted((p for p in below if _title(p).startswith(titles)), key=lambda p: p.pid)

    def processes(self) -> set[psutil.Process]:
        """What it started and what still runs of it, whoever is the parent now."""
        marked = {p for p in psutil.process_iter() if _environment(p).get("RUSHES_TEST_RUN") == self._mark}
        self._known |= marked.union(*(_descendants(p) for p in marked))
        return {p for p in self._known if _runs(p)}

    def left(self, but: tuple[str, ...] = ()) -> list[str]:
        """Titles of its processes that do not end soon, save some."""
        until = time.monotonic() + LEAVING_S
        while found := [t for t in map(_title, self.processes()) if t and not t.startswith(but)]:
            if time.monotonic() > until:
                return found
            time.sleep(10 * LOOK_EVERY_S)  # every process of the machine is asked
        return []

    def wait(self) -> tuple[int, str]:
        """Its exit status and what it has said."""
        status = self.driver.wait(PATIENCE_S)
        self._log.seek(0)
        return status, self._log.read()

    def end(self) -> None:
        """Leave nothing of it behind."""
        for process in [self.driver, *self.processes()]:
            process.kill()
        self.driver.wait()
        self._log.close()

    def _fragments(self) -> set[Path]:
        return set(self.out.rglob("*.parquet"))


T = TypeVar("T")


def _asked(question: Callable[[], T], otherwise: T) -> T:
    try:
        return question()
    except psutil.Error:
        return otherwise  # it has ended


def _title(process: psutil.Process) -> str:
    return " ".join(_asked(process.cmdline, []))


def _environment(process: psutil.Process) -> dict[str, str]:
    return _asked(process.environ, {})


def _descendants(process: psutil.Process) -> set[psutil.Process]:
    return set(_asked(lambda: process.children(recursive=True), []))


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and _asked(process.status, psutil.STATUS_ZOMBIE) != psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short videos, one of them twice, and two files that are none."""
    folder = tmp_path_factory.mktemp("videos")
    for name in (*SOUND, *UNREADABLE):
        shutil.copyfile(SHARED / name, folder / Path(name).name)
    shutil.copyfile(folder / "bikes.mp4", folder / "bikes_again.mp4")
    return folder


@pytest.fixture
def start(videos: Path) -> Iterator[Callable[[Path], Run]]:
    """`start(out)`: a run, of which nothing is left after the test."""
    runs: list[Run] = []
    yield lambda out: runs.append(Run(videos, out)) or runs[-1]
    for run in runs:
        run.end()


@pytest.fixture(scope="module")
def calm(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The manifest of a run that nobody disturbed."""
    run = Run(videos, tmp_path_factory.mktemp("calm") / "out")
    try:
        status, said = run.wait()
        assert status == 0, said
        assert run.left() == []
    finally:
        run.end()
    manifest = Manifest.find(run.out)
    assert sorted(Path(r["uri"]).name for r in manifest.read("errors").to_pylist()) == [
        "text_named.mp4",
        "zero_bytes.mp4",
    ]
    assert {Path(r["uri"]).name for r in manifest.read("clips").to_pylist()} == {Path(name).name for name in SOUND}
    return manifest


def strike(run: Run, whom: str, dice: random.Random) -> str | None:
    """Kill the driver, a worker or all at a random moment, and say which; None if the run had ended before."""
    moment = dice.choice(MOMENTS if whom != "worker" else ("reading", "scoring"))
    later = dice.uniform(0, LATER_S)
    while not run.reached(moment) and run.driver.poll() is None:
        time.sleep(LOOK_EVERY_S)
    time.sleep(later)
    run.processes()  # they are known before their parents are gone
    if run.driver.poll() is not None:
        return None
    if whom == "worker":
        if not (at_work := run.workers(READING, SCORING)):
            return None
        chosen = dice.choice(at_work)
        whom = f"{whom} {_title(chosen)}"
        chosen.kill()
    else:
        (os.killpg if whom == "all" else os.kill)(run.driver.pid, signal.SIGKILL)
        run.driver.wait()
    return f"{whom} killed {later:.2f} s after: {moment}"


ONE_OF_EACH = ["driver", "all", "worker"]


ROUNDS = [pytest.param((*ONE_OF_EACH, None, None), marks=pytest.mark.slow, id=f"round {i}") for i in range(1, 5)]


@pytest.mark.parametrize("victims", [("all", "worker"), *ROUNDS])
def test_whoever_is_killed_the_manifest_becomes_that_of_an_undisturbed_run(calm, start, tmp_path, request, victims):
    """No row is lost, doubled or half there, and no process stays. A worker that is killed alone ends no run."""
    seed = int(os.environ.get("RUSHES_SEED", random.SystemRandom().randrange(10**6)))
    print(f"RUSHES_SEED={seed}")  # pytest shows it where the test fails
    dice = random.Random(seed)
    outs = (tmp_path / f"out{i}" for i in count())
    out = next(outs)
    for whom in (v or dice.choice(ONE_OF_EACH) for v in victims):
        struck = None
        while struck is None:
            run = start(out)
            struck = strike(run, whom, dice)
            print(f"{out.name}: {struck or 'had ended before'}")
            if struck is None or whom == "worker":
                completed(run, calm)
                out = next(outs)
            elif (out / "manifest" / "clips").is_dir():
                part_of(Manifest.find(out), calm)
            assert run.left(but=LATE if request.node.get_closest_marker("slow") is None else ()) == []
    if out.exists():
        completed(start(out), calm)


def completed(run: Run, calm: Manifest) -> None:
    """It ends well, and its manifest is as if nothing had happened."""
    status, said = run.wait()
    assert status == 0, said
    same(Manifest.find(run.out), calm)
