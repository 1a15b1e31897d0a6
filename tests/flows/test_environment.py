"""Environment defaults, and finding a server: a real one is small enough to start here."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import environment
from flows.environment import Served


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"true" if self.path == "/api/health" else b"false"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def api() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


def test_defaults_are_set_and_the_users_own_stay():
    mine = {"DO_NOT_TRACK": "0", "PREFECT_HOME": "/elsewhere"}
    assert environment.prepare(mine) == Path("/elsewhere")
    assert mine["DO_NOT_TRACK"] == "0"
    assert mine["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert mine["RAY_USAGE_STATS_ENABLED"] == "0"
    assert mine["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] == "180"


def test_prefects_home_is_under_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert environment.prepare({}) == tmp_path / "runs" / ".prefect"


def test_a_running_server_is_found_and_used(tmp_path: Path, api: str):
    served = Served(api, "127.0.0.1:6379", str(tmp_path / "token"), 1)
    environment.announce(tmp_path, served)
    environ: dict[str, str] = {}
    assert environment.attach(tmp_path, environ) == served
    assert environ == {
        "PREFECT_API_URL": api,
        "RAY_ADDRESS": "127.0.0.1:6379",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"),
    }


def test_what_the_user_has_set_wins(tmp_path: Path, api: str):
    environment.announce(tmp_path, Served(api, "127.0.0.1:6379", "token", 1))
    environ = {"PREFECT_API_URL": "http://mine/api", "RAY_ADDRESS": "mine:1"}
    before = dict(environ)
    environment.attach(tmp_path, environ)
    assert environ == before


@pytest.mark.parametrize("content", [None, "", "{}", '{"api": 3', '{"bogus": 1}'])
def test_no_or_broken_word_of_a_server_is_no_server(tmp_path: Path, content: str | None):
    if content is not None:
        (tmp_path / "serve.json").write_text(content)
    assert environment.attach(tmp_path, {}) is None


def test_a_server_that_has_died_is_no_server(tmp_path: Path):
    environment.announce(tmp_path, Served("http://127.0.0.1:9/api", None, None, 1))
    environ: dict[str, str] = {}
    assert environment.attach(tmp_path, environ) is None
    assert environ == {}


def test_another_service_on_the_port_is_no_server(api: str):
    assert environment.answers(api)
    assert not environment.answers(api + "/other")


def test_withdrawing_twice_is_fine(tmp_path: Path):
    environment.announce(tmp_path, Served("http://127.0.0.1:9/api", None, None, 1))
    environment.withdraw(tmp_path)
    environment.withdraw(tmp_path)
    assert list(tmp_path.iterdir()) == []
