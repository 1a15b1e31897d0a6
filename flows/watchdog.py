"""End the processes that a killed `rushes serve` leaves behind.

Every process that a server starts inherits the environment variable `MARK`. Its value is the server's home folder and a
random token of this start.
A watchdog process reads a pipe that only the server holds open. However the server ends, the pipe closes, and the
watchdog ends all processes that still carry the mark.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

MARK = "RUSHES_SERVE"
GRACE_S = 10.0


@contextlib.contextmanager
def watched(home: Path) -> Iterator[Path]:
    """Mark the processes started in this block and end them when this process ends, even by SIGKILL.

    Yields:
        A scratch folder with a short path. The watchdog removes it when all of these processes have ended.
    """
    mark = f"{_prefix(home)}{secrets.token_hex(8)}"
    scratch = tempfile.mkdtemp(prefix="rushes-serve-")
    command = [sys.executable, "-m", "flows.watchdog", mark, scratch]
    # Start a new session, so that Ctrl-C in the terminal does not reach the watchdog.
    watchdog = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    os.environ[MARK] = mark
    os.environ["SPT_NOENV"] = "1"  # setproctitle would overwrite the environment, which `marked` reads
    try:
        yield Path(scratch)
    finally:
        os.environ.pop(MARK)
        with contextlib.suppress(BrokenPipeError):
            watchdog.communicate()


def end_leftovers(home: Path) -> None:
    """End the processes of earlier servers of this home. Call this only while no other server uses it."""
    if marked(_prefix(home)):
        print("ending the processes that a killed server left behind", flush=True)
        end(_prefix(home))


def marked(mark: str) -> set[psutil.Process]:
    """Find the processes whose mark starts with `mark`, and descendants, except this process and its ancestors."""
    own = psutil.Process()
    spared = {own, *own.parents()}
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process not in spared and process.environ().get(MARK, "").startswith(mark):
                found |= {process, *process.children(recursive=True)}
    return {process for process in found - spared if _runs(process)}


def end(mark: str, grace_s: float = GRACE_S) -> None:
    """End marked processes: SIGTERM, which lets a trainer write its checkpoint, then SIGKILL after `grace_s`."""
    left, asked = marked(mark), set[psutil.Process]()
    kill_at = time.monotonic() + grace_s
    give_up_at = kill_at + grace_s
    while left and time.monotonic() < give_up_at:
        insist = time.monotonic() > kill_at
        for process in left if insist else left - asked:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL if insist else signal.SIGTERM)
        asked |= left
        psutil.wait_procs(left, timeout=0.2)
        left = {process for process in asked if _runs(process)} | marked(mark)


def _prefix(home: Path) -> str:
    return f"{home.resolve()}#"


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def main(mark: str, scratch: str) -> None:
    """Wait until the server's end of the pipe closes, then clean up."""
    sys.stdin.buffer.read()
    end(mark)
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
