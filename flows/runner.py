"""Run Prefect's runner, which starts the flow runs of `rushes serve`, and stop it cleanly."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(
    deployments: "list[RunnerDeployment]", *, limit: int, ready: Callable[[], None], failed: Callable[[], str | None]
) -> str | None:
    """Serve deployments until SIGINT, SIGTERM or a failure. Return the failure.

    The first signal cancels the flow runs, which lets training write its checkpoint. The second one abandons them.

    Args:
        deployments: The deployments whose flow runs the runner starts.
        limit: The largest number of concurrent flow runs.
        ready: Called when every deployment is registered.
        failed: Polled while the runner runs. Any value other than None is the failure, and stops the runner.
    """
    failures: list[str] = []
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(_run(deployments, limit, ready, failed, failures))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return failures[0] if failures else None


async def _run(
    deployments: "list[RunnerDeployment]",
    limit: int,
    ready: Callable[[], None],
    failed: Callable[[], str | None],
    failures: list[str],
) -> None:
    from prefect.runner import Runner

    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    assert main
    stopping: list[asyncio.Task[None]] = []

    class StoppableRunner(Runner):
        """Replaces Prefect's signal handler, which does not wait for the flow runs that it cancels."""

        def handle_sigterm(self, *args: Any, **kwargs: Any) -> None:
            loop.call_soon_threadsafe(stop)

    runner = StoppableRunner(limit=limit, pause_on_shutdown=True)

    async def end_runs() -> None:
        try:
            await runner.astop()
        except Exception:
            main.cancel()
            raise

    def stop() -> None:
        print("stopping", flush=True)
        if runner.started and not stopping:
            stopping.append(loop.create_task(end_runs()))
        else:  # no flow run has started, or this is the second signal
            main.cancel()

    async def watch() -> None:
        while (failure := failed()) is None:
            await asyncio.sleep(2.0)
        failures.append(failure)
        stop()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    for deployment in deployments:
        await runner.aadd_deployment(deployment)
    ready()
    watcher = loop.create_task(watch())
    try:
        await runner.start()
    finally:
        watcher.cancel()
