"""`rushes serve` is interrupted or killed at several moments: it ends, leaves no process, and starts again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from flows.serve import free_port
from tests.end_to_end.test_browser import bikes

pytestmark = pytest.mark.timeout(600)

PATIENCE_S = 40  # a machine that runs other tests too


class Serve:
    """A `rushes serve` whose processes are recognized by their PREFECT_HOME."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        self.home, self.log = folder / "home", folder / "serve.log"
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "RAY_", "RUSHES_"))}
        command = [sys.executable, "-m", "flows.cli", "serve", "--port", str(port), *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env={**env, "PREFECT_HOME": str(self.home)}, stdout=log, stderr=log
            )

    def wait_for(self, words: str) -> None:
        until = time.monotonic() + 240
        while words not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)

    def left(self) -> list[str]:
        """The command lines of its processes, without those that are ending within our patience."""
        until = time.monotonic() + PATIENCE_S
        while (found := self.running()) and time.monotonic() < until:
            time.sleep(0.2)
        return found

    def running(self) -> list[str]:
        """The command lines of its processes."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("PREFECT_HOME") == str(self.home) and process.status() != "zombie":
                    found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_S)


def test_ctrl_c_right_after_the_start_ends_it(tmp_path: Path):
    serve = Serve(tmp_path, free_port(), "--no-ray")
    serve.wait_for("is served")
    assert serve.end() == 0
    assert serve.left() == []
    assert "Traceback" not in serve.log.read_text()


def test_a_start_after_sigkill_replaces_what_was_left(tmp_path: Path):
    port = free_port()
    killed = Serve(tmp_path, port, "--no-ray")
    killed.wait_for("is served")
    killed.process.kill()
    killed.process.wait()
    again = Serve(tmp_path, port, "--no-ray")
    again.wait_for("is served")
    assert again.end() == 0
    assert again.left() == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["starting Prefect", "starting Ray", "is served"])
@pytest.mark.parametrize("delay_s", [0.0, 1.5])
def test_any_moment(tmp_path: Path, number: signal.Signals, moment: str, delay_s: float):
    serve = Serve(tmp_path, free_port(), "--cpus", "1")
    serve.wait_for(moment)
    time.sleep(delay_s)
    serve.process.send_signal(number)
    serve.process.wait(PATIENCE_S)
    assert serve.left() == []


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.3, 0.8, 1.5, 2.5, 4.0, 6.0, 8.0])
def test_ctrl_c_at_any_time(tmp_path: Path, delay_s: float):
    serve = Serve(tmp_path, free_port(), "--no-ray")
    time.sleep(delay_s)
    assert serve.end() in {0, 130, -signal.SIGINT}
    assert serve.left() == []


@pytest.mark.slow
def test_sigkill_ends_a_flow_run_too(tmp_path: Path):
    port = free_port()
    serve = Serve(tmp_path, port, "--cpus", "1")
    serve.wait_for("is served")
    api = f"http://127.0.0.1:{port}/api/deployments"
    made = httpx.get(f"{api}/name/curate/local", timeout=60).json()
    config = {"videos": str(bikes()), "out": str(tmp_path / "out")}
    reply = httpx.post(f"{api}/{made['id']}/create_flow_run", json={"parameters": {"config": config}}, timeout=60)
    assert reply.status_code == 201
    serve.wait_for("Beginning flow run")
    assert any("prefect" in command for command in serve.running())
    serve.process.kill()
    serve.process.wait()
    assert serve.left() == []
