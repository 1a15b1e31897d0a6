"""Child processes that leave nobody behind: each in a process group of its own, ended as a whole."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self


class ProcessGroup:
    """A command in its own process group. Leaving the `with` block ends every process of it.

    Ending is SIGTERM first, so that a trainer can write a checkpoint, and SIGKILL after `grace_s` seconds. The wait is
    for the whole group: children that outlive the command itself (Ray's, torchrun's) are ended too.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        grace_s: float = 20.0,
    ) -> None:
        self.command = list(command)
        self.env = env
        self.log = log
        self.grace_s = grace_s
        self._process: subprocess.Popen[str] | None = None
        self._log_file: IO[str] | None = None

    def __enter__(self) -> Self:
        if self.log:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self._log_file = self.log.open("w")
        self._process = subprocess.Popen(
            self.command,
            env=None if self.env is None else dict(self.env),
            stdin=subprocess.DEVNULL,
            stdout=self._log_file or subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            bufsize=1,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def process(self) -> "subprocess.Popen[str]":
        """The command itself, leader of its group."""
        if self._process is None:
            raise RuntimeError("the process group has not been started: use it in a `with` block")
        return self._process

    @property
    def alive(self) -> bool:
        """Does any process of the group still run?"""
        self.process.poll()  # reaps the leader, which would otherwise stay in the group as a zombie
        try:
            os.killpg(self.process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def lines(self) -> Iterator[str]:
        """Output lines as they come, stdout and stderr together, until the command closes them."""
        if self.process.stdout is None:
            raise RuntimeError("the output goes to a log file")
        for line in self.process.stdout:
            yield line.rstrip("\n")

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the command itself and return its exit status, negative for a signal."""
        return self.process.wait(timeout_s)

    def stop(self) -> None:
        """End the group: ask, wait, insist. Returns when no process of it is left."""
        try:
            for number, patience_s in ((signal.SIGTERM, self.grace_s), (signal.SIGKILL, 10.0)):
                if not self.alive:
                    break
                os.killpg(self.process.pid, number)
                until = time.monotonic() + patience_s
                while self.alive and time.monotonic() < until:
                    time.sleep(0.05)
        except ProcessLookupError:
            return  # it ended between the look and the signal
        finally:
            if self.process.stdout:
                self.process.stdout.close()
            if self._log_file:
                self._log_file.close()
            self.process.wait(10.0)
