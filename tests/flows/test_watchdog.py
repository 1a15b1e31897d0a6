"""The watchdog against real processes that are killed."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from flows import watchdog

# Starts a child in a session of its own, which starts a grandchild, and prints both numbers and the scratch folder.
SERVER = """
import subprocess, sys, time
from pathlib import Path
from flows.watchdog import watched
child = ("import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
         "start_new_session=True); print(p.pid, flush=True); time.sleep(600)")
with watched(Path(sys.argv[1])) as scratch:
    p = subprocess.Popen([sys.executable, "-c", child], start_new_session=True, stdout=subprocess.PIPE, text=True)
    print(p.pid, p.stdout.readline().strip(), scratch, flush=True)
    if len(sys.argv) < 3:
        time.sleep(600)
"""


def start(home: Path, *args: str) -> tuple[subprocess.Popen[str], list[psutil.Process], Path]:
    command = [sys.executable, "-c", SERVER, str(home), *args]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    child, grandchild, scratch = server.stdout.readline().split()
    started = []
    for pid in (child, grandchild):
        try:
            started.append(psutil.Process(int(pid)))
        except psutil.NoSuchProcess:
            assert args  # the server has ended it already
    return server, started, Path(scratch)


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=30)[1]


def test_sigkill_leaves_no_process_and_no_scratch_folder(tmp_path: Path):
    server, started, scratch = start(tmp_path)
    (guard,) = [p for p in psutil.Process(server.pid).children() if "flows.watchdog" in p.cmdline()]
    assert scratch.is_dir()
    server.kill()
    server.wait()
    assert gone([*started, guard])
    assert not scratch.exists()


def test_an_ordinary_end_waits_for_all_of_them(tmp_path: Path):
    server, started, scratch = start(tmp_path, "end")
    assert server.wait(30) == 0
    assert gone(started)
    assert not scratch.exists()


def test_the_next_start_ends_what_even_the_watchdog_left(tmp_path: Path):
    mine, mine_started, scratch = start(tmp_path / "mine")
    other, other_started, _ = start(tmp_path / "other")
    for guard in psutil.Process(mine.pid).children():
        if "flows.watchdog" in guard.cmdline():
            guard.kill()
    mine.kill()
    mine.wait()
    assert all(p.is_running() for p in mine_started)
    watchdog.end_leftovers(tmp_path / "mine")
    scratch.rmdir()  # only the watchdog removes it
    assert gone(mine_started)
    assert all(p.is_running() for p in other_started)
    other.kill()
    other.wait()
    assert gone(other_started)


def test_a_process_that_ignores_sigterm_is_killed():
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    mark = "/home#test_a_process_that_ignores_sigterm"
    env = {**os.environ, watchdog.MARK: mark}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    watchdog.end(mark, grace_s=0.5)
    assert not psutil.pid_exists(process.pid)
    assert watchdog.marked(mark) == set()
