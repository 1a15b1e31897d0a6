"""Process groups against real processes."""

import os
import sys
import time
from pathlib import Path

import pytest

from flows.process import ProcessGroup

# A child that starts a grandchild, says both ids, and waits. With STUBBORN both ignore SIGTERM.
FAMILY = """
import os, signal, subprocess, sys, time
if {stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
{then}
"""


def family(*, stubborn: bool = False, then: str = "time.sleep(600)") -> list[str]:
    return [sys.executable, "-c", FAMILY.format(stubborn=stubborn, then=then)]


def runs(pid: int) -> bool:
    """A zombie does not run: it only waits for somebody to read its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids: list[int], within_s: float = 5.0) -> bool:
    until = time.monotonic() + within_s
    while any(map(runs, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(runs, pids))


@pytest.mark.parametrize("stubborn", [False, True])
def test_leaving_ends_children_and_grandchildren(stubborn: bool):
    with ProcessGroup(family(stubborn=stubborn), grace_s=1.0) as group:
        pids = [int(p) for p in next(group.lines()).split()]
        assert all(map(runs, pids))
    assert gone(pids)


def test_an_exception_ends_them_too():
    pids: list[int] = []

    def fails() -> None:
        with ProcessGroup(family(), grace_s=1.0) as group:
            pids.extend(int(p) for p in next(group.lines()).split())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert len(pids) == 2
    assert gone(pids)


def test_orphans_of_a_command_that_has_ended_are_ended():
    with ProcessGroup(family(then="sys.exit(3)"), grace_s=1.0) as group:
        child, grandchild = (int(p) for p in next(group.lines()).split())
        assert group.wait(5.0) == 3
        assert runs(grandchild)
        assert group.alive
    assert gone([child, grandchild])


def test_a_command_may_use_its_grace_to_save(tmp_path: Path):
    saved = tmp_path / "saved"
    code = (
        "import pathlib, signal, sys, time\n"
        f"def save(*_): time.sleep(.3); pathlib.Path({str(saved)!r}).write_text('all'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save); print('ready', flush=True); time.sleep(600)"
    )
    with ProcessGroup([sys.executable, "-c", code], grace_s=10.0) as group:
        assert next(group.lines()) == "ready"
    assert saved.read_text() == "all"
    assert group.wait() == 0


def test_lines_of_both_streams_and_bytes_that_are_no_text():
    code = r"import sys; print('out', flush=True); sys.stderr.buffer.write(b'err \xff\n')"
    with ProcessGroup([sys.executable, "-c", code]) as group:
        assert sorted(group.lines()) == ["err �", "out"]
        assert group.wait() == 0


def test_output_to_a_log(tmp_path: Path):
    log = tmp_path / "deep" / "log"
    with ProcessGroup([sys.executable, "-c", "print('told')"], log=log) as group:
        assert group.wait(10.0) == 0
    assert log.read_text() == "told\n"


def test_a_group_of_its_own():
    with ProcessGroup([sys.executable, "-c", "import os; print(os.getpgid(0))"]) as group:
        assert int(next(group.lines())) == group.process.pid != os.getpgid(0)
