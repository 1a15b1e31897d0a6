"""`rushes serve`: Prefect's server and UI, one local Ray and the flows, on 127.0.0.1 and nowhere else.

Three things run: the server (SQLite in PREFECT_HOME) and Ray as children in process groups of their own, and in this
process Prefect's runner, which starts flow runs. Leaving ends exactly these and whatever they started.
"""

import contextlib
import fcntl
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from flows import environment, watchdog
from flows import server as prefect_server
from flows.config import FlowName, Schedule, ServeConfig
from flows.options import UsageError, explain
from flows.process import ProcessGroup

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment

HOST = prefect_server.HOST
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
    home.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        stack.enter_context(hold(home))
        watchdog.end_leftovers(home)
        check_port_free(config.port)
        # Before Prefect is imported, which checking the schedules does: it reads both once.
        api = os.environ["PREFECT_API_URL"] = f"http://{HOST}:{config.port}/api"
        check_schedules(config.schedules)
        interrupts.check()
        scratch = stack.enter_context(watchdog.watched(home))
        server = stack.enter_context(_server(config.port, home, config.start_timeout_s))
        interrupts.check()
        ray, address, token = None, None, None
        if config.ray:
            token = _write_token(home)
            ray, address = stack.enter_context(_ray(config, home, token, scratch))
        served = environment.Served(api, address, str(token) if token else None, os.getpid())
        if address and token:
            os.environ["RAY_ADDRESS"] = address
            environment.use_ray_token(token)
        environment.announce(home, served)
        stack.callback(environment.withdraw, home)
        interrupts.check()
        _run_deployments(config, {"server": server, **({"ray": ray} if ray else {})}, home)


class Interrupts:
    """SIGINT and SIGTERM raise KeyboardInterrupt, and `check` raises it again where a library has swallowed it."""

    def __enter__(self) -> Self:
        self._asked = False
        self._before = {number: signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has come."""
        if self._asked:
            raise KeyboardInterrupt

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        raise KeyboardInterrupt


@contextlib.contextmanager
def hold(home: Path) -> Iterator[None]:
    """Lock the home for this process. The kernel releases the lock when the process ends in any way.

    Raises:
        UsageError: another process holds it.
    """
    with (home / "serve.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            running = environment.find_served(home)
            where = f"served from {home}" if running is None else f"served at {running.api.removesuffix('/api')}"
            raise UsageError(f"already {where} by process {file.read()}; stop it first") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


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
    from flows import runner

    def dead() -> str | None:
        return next((name for name, child in children.items() if child.process.poll() is not None), None)

    def ready() -> None:
        print(f"Rushes is served at http://{HOST}:{config.port} (logs in {home}); Ctrl-C stops it", flush=True)

    failed = runner.run(deployments(config), limit=config.concurrent_runs, ready=ready, failed=dead)
    if failed:
        raise StartError(f"{failed} ended by itself; see {home / failed}.log")


@contextlib.contextmanager
def _server(port: int, home: Path, timeout_s: float) -> Iterator[ProcessGroup]:
    api = f"http://{HOST}:{port}/api"
    env = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | prefect_server.settings(port)
    command = [sys.executable, "-m", "flows.server", str(port)]
    with ProcessGroup(command, env=env, log=home / "server.log", grace_s=10.0) as child:
        print("starting Prefect's server (up to half a minute the first time)", flush=True)
        _wait(child, lambda: environment.answers(api), timeout_s, "Prefect's server")
        yield child


@contextlib.contextmanager
def _ray(config: ServeConfig, home: Path, token: Path, scratch: Path) -> Iterator[tuple[ProcessGroup, str]]:
    env = dict(os.environ)
    env.pop("RAY_ADDRESS", None)
    environment.use_ray_token(token, env)
    print("starting Ray", flush=True)
    for attempt in range(1, RAY_ATTEMPTS + 1):  # its start has a fixed wait of 30 s that a busy machine can exceed
        port = free_port()
        with contextlib.ExitStack() as stack:
            command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
            command += [f"--node-ip-address={HOST}", f"--port={port}", "--include-dashboard=false"]
            command += ["--disable-usage-stats", f"--temp-dir={scratch / str(attempt)}"]
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
