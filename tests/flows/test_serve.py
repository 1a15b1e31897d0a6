"""What `rushes serve` refuses before it starts anything. A whole server is in tests/end_to_end."""

import contextlib
import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from flows import serve
from flows.config import Schedule
from flows.options import UsageError


def schedule(**fields: object) -> Schedule:
    return Schedule.model_validate(
        {"name": "nightly", "flow": "curate", "cron": "0 3 * * *", "config": {"videos": "v"}, **fields}
    )


def test_a_port_that_is_taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} is taken .* --port"):
            serve.check_port_free(port)
    serve.check_port_free(port)


def test_a_free_port_can_be_bound():
    serve.check_port_free(serve.free_port())


def test_good_schedules_pass():
    serve.check_schedules([schedule(), schedule(name="often", cron=None, interval_s=60)])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cron": "every night"}, ["schedule nightly: "]),
        ({"config": {}}, ["schedule nightly: videos is missing"]),
        ({"config": {"videos": "v", "motion": {"fsp": 3}}}, ["unknown field motion.fsp", "did you mean fps?"]),
        ({"flow": "select", "config": {"videos": "v"}}, ["unknown field videos", "manifest is missing"]),
    ],
)
def test_a_schedule_that_would_fail_at_night_is_refused_by_day(fields: dict, words: list[str]):
    with pytest.raises(UsageError) as caught:
        serve.check_schedules([schedule(**fields)])
    for word in words:
        assert word in str(caught.value)


def test_the_token_is_fresh_and_only_for_this_user(tmp_path: Path):
    first = serve._write_token(tmp_path / "home")
    text = first.read_text()
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert len(text) == 64
    assert serve._write_token(tmp_path / "home").read_text() != text


def test_a_home_is_held_by_one_process_and_a_stale_number_does_not_matter(tmp_path: Path):
    (tmp_path / "serve.lock").write_text("1")  # process 1 runs, and never held the lock
    taken = f"already served from {tmp_path} by process {os.getpid()}; stop it"
    with serve.hold(tmp_path), pytest.raises(UsageError, match=taken):
        serve.hold(tmp_path).__enter__()
    with serve.hold(tmp_path):
        pass


def test_an_interrupt_that_a_library_swallows_is_raised_again():
    with serve.Interrupts() as interrupts:
        interrupts.check()
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


def test_deployments_carry_their_schedules():
    from flows.config import ServeConfig

    made = {d.flow_name: d for d in serve.deployments(ServeConfig(schedules=[schedule(active=False)]))}
    assert set(made) == {"curate", "select", "export", "train-stage", "train-staged", "pipeline"}
    (planned,) = made["curate"].schedules or []
    assert planned.slug == "nightly"
    assert planned.active is False
    assert planned.parameters == {"config": {"videos": "v"}}
    assert made["curate"].entrypoint == "flows.curate.curate"
    assert not made["pipeline"].schedules
