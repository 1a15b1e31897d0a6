"""`rushes serve`: Prefect's server and UI, one local Ray and the flows, on 127.0.0.1 and nowhere else.

Three things run: the server (SQLite in PREFECT_HOME) and Ray as children in process groups of their own, and in this
process Prefect's runner, which starts flow runs. Leaving ends exactly these and whatever they started.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from flows import environment
from flows.config import FlowName, Schedule, ServeConfig
from flows.options import UsageError, explain
from flows.process import ProcessGroup

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment

HOST = "127.0.0.1"
RAY_ATTEMPTS = 3
DEPLOYMENT = "local"
FLOWS = {
    FlowName.curate: "flows.curate:curate",
    FlowName.select: "flows.select:select",
    FlowName.export: "flows.export:export",
    FlowName.train_stage: "flows.train:train_stage",
    FlowName.train_staged: "flows.train:train_staged",
    FlowName.pipeline: "flows.pipeline:pipeline",
}


class StartError(Exception):
    """The server or Ray did not come up. The message names the log that says why."""


def serve(config: ServeConfig) -> None:
    """Run until interrupted.

    Raises:
        UsageError: The port is taken, this home is served already, or a schedule's configuration is wrong.
        StartError: The server or Ray did not start, or died later.
    """
    home = environment.prepare()
    running = environment.find_served(home)
    if running:
        raise UsageError(
            f"already served at {running.api.removesuffix('/api')} by process {running.pid}; stop it first"
        )
    check_port_free(config.port)
    # Before Prefect is imported, which checking the schedules does: it reads both once.
    home.mkdir(parents=True, exist_ok=True)
    api = os.environ["PREFECT_API_URL"] = f"http://{HOST}:{config.port}/api"
    check_schedules(config.schedules)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_sigterm_interrupts())
        server = stack.enter_context(_server(config.port, home, config.start_timeout_s))
        ray, address, token = None, None, None
        if config.ray:
            token = _write_token(home)
            ray, address = stack.enter_context(_ray(config, home, token))
        served = environment.Served(api, address, str(token) if token else None, os.getpid())
        if address and token:
            os.environ["RAY_ADDRESS"] = address
            environment.use_ray_token(token)
        environment.announce(home, served)
        stack.callback(environment.withdraw, home)
        _run_deployments(config, {"server": server, **({"ray": ray} if ray else {})}, home)


def check_port_free(port: int) -> None:
    """Raise UsageError if something listens on the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UsageError(f"port {port} is taken ({error.strerror}); choose another with --port") from error


def check_schedules(schedules: list[Schedule]) -> None:
    """Raise UsageError, a line a fault, if a schedule's clock or configuration would fail when its time comes."""
    lines = []
    for schedule in schedules:
        try:
            _clock(schedule, {})
        except ValueError as error:
            lines.append(f"schedule {schedule.name}: {error}".splitlines()[0])
        model = config_model(schedule.flow)
        try:
            model.model_validate(schedule.config)
        except ValidationError as error:
            lines += [f"schedule {schedule.name}: {line}" for line in explain(error, model, {})]
    if lines:
        raise UsageError("\n".join(lines))


def load_flow(name: FlowName) -> "Flow[..., Any]":
    """Import the Prefect flow of this name."""
    module, attribute = FLOWS[name].split(":")
    return getattr(import_module(module), attribute)


def config_model(name: FlowName) -> Any:
    """The pydantic model that a flow takes as its `config`."""
    return load_flow(name).fn.__annotations__["config"]


def deployments(config: ServeConfig) -> "list[RunnerDeployment]":
    """One deployment a flow, named `local`, with the schedules that name this flow."""
    from prefect.types.entrypoint import EntrypointType

    made = []
    for name in FLOWS:
        schedules = [_clock(s, {"config": s.config}) for s in config.schedules if s.flow == name]
        flow = load_flow(name)
        made.append(
            flow.to_deployment(
                name=DEPLOYMENT,
                schedules=schedules,
                paused=False,  # the last shutdown paused it
                description=flow.description,
                tags=["rushes"],
                entrypoint_type=EntrypointType.MODULE_PATH,
            )
        )
    return made


def _clock(schedule: Schedule, parameters: dict[str, Any]) -> Any:
    from prefect.schedules import Cron, Interval

    if schedule.cron is not None:
        return Cron(
            schedule.cron,
            timezone=schedule.timezone,
            active=schedule.active,
            parameters=parameters,
            slug=schedule.name,
        )
    if schedule.interval_s is None:
        raise ValueError("needs either cron or interval_s")
    return Interval(schedule.interval_s, active=schedule.active, parameters=parameters, slug=schedule.name)


def _run_deployments(config: ServeConfig, children: dict[str, ProcessGroup], home: Path) -> None:
    """Serve the deployments until interrupted. Raises StartError when a child dies meanwhile."""
    from prefect.runner import Runner

    dead: list[str] = []
    made = deployments(config)

    async def run() -> None:
        loop, main, stopping = asyncio.get_running_loop(), asyncio.current_task(), []

        class StoppableRunner(Runner):
            """Prefect's own handler forgets to wait for the runs that it cancels."""

            def handle_sigterm(self, *args: Any, **kwargs: Any) -> None:
                loop.call_soon_threadsafe(stop)

        runner = StoppableRunner(limit=config.concurrent_runs, pause_on_shutdown=True)

        def stop() -> None:
            """Cancel the runs, which lets training write its checkpoint; asked again, insist."""
            if stopping and main:
                main.cancel()
            print("stopping", flush=True)
            stopping.append(loop.create_task(runner.astop()))

        async def watch() -> None:
            while not dead:
                await asyncio.sleep(2.0)
                dead.extend(name for name, child in children.items() if child.process.poll() is not None)
            stop()

        for deployment in made:
            await runner.aadd_deployment(deployment)
        print(f"Rushes is served at http://{HOST}:{config.port} (logs in {home}); Ctrl-C stops it", flush=True)
        loop.add_signal_handler(signal.SIGINT, stop)
        watcher = loop.create_task(watch())
        try:
            await runner.start()
        finally:
            watcher.cancel()

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(run())
    if dead:
        raise StartError(f"{dead[0]} ended by itself; see {home / dead[0]}.log")


@contextlib.contextmanager
def _server(port: int, home: Path, timeout_s: float) -> Iterator[ProcessGroup]:
    api = f"http://{HOST}:{port}/api"
    env = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | {"PREFECT_UI_API_URL": api}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    with ProcessGroup(command, env=env, log=home / "server.log", grace_s=10.0) as server:
        print("starting Prefect's server (up to half a minute the first time)", flush=True)
        _wait(server, lambda: environment.answers(api), timeout_s, "Prefect's server")
        yield server


@contextlib.contextmanager
def _ray(config: ServeConfig, home: Path, token: Path) -> Iterator[tuple[ProcessGroup, str]]:
    env = dict(os.environ)
    env.pop("RAY_ADDRESS", None)
    environment.use_ray_token(token, env)
    print("starting Ray", flush=True)
    for attempt in range(1, RAY_ATTEMPTS + 1):  # its start has a fixed wait of 30 s that a busy machine can exceed
        port = free_port()
        with contextlib.ExitStack() as stack:
            # Unix socket paths are limited to 107 bytes, so the session cannot live in a deep home.
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="rushes-ray-", ignore_cleanup_errors=True))
            command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
            command += [f"--node-ip-address={HOST}", f"--port={port}", "--include-dashboard=false"]
            command += ["--disable-usage-stats", f"--temp-dir={scratch}"]
            command += [f"--num-cpus={config.cpus}"] if config.cpus else []
            log = home / "ray.log"
            ray = stack.enter_context(ProcessGroup(command, env=env, log=log, grace_s=3.0))
            try:
                _wait(ray, lambda log=log: "Ray runtime started" in log.read_text(), config.start_timeout_s, "Ray")
            except StartError:
                if attempt == RAY_ATTEMPTS:
                    raise
                print("Ray did not start; trying again", flush=True)
                continue
            yield ray, f"{HOST}:{port}"
            return


def _wait(child: ProcessGroup, ready: Any, timeout_s: float, what: str) -> None:
    until = time.monotonic() + timeout_s
    while not ready():
        if child.process.poll() is not None:
            raise StartError(f"{what} ended with status {child.process.returncode}; see {child.log}")
        if time.monotonic() > until:
            raise StartError(f"{what} did not come up within {timeout_s:.0f} s; see {child.log}")
        time.sleep(0.25)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _write_token(home: Path) -> Path:
    """A fresh secret that only this user can read: without it no process of the machine may use this Ray."""
    home.mkdir(parents=True, exist_ok=True)
    file = home / "ray-token"
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(secrets.token_hex(32))
    return file


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Until the runner has its own handler, SIGTERM must end the children too: take it for Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
