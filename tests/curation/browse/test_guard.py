"""Which requests `LocalOnly` passes on."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from curation.browse.guard import LocalOnly

BASE = "http://127.0.0.1:4200"


@pytest.fixture
def client() -> TestClient:
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("hello"), methods=["GET", "POST"])])
    return TestClient(LocalOnly(app), base_url=BASE)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:4200", "localhost:4200", "LOCALHOST", "[::1]:4200"])
def test_names_of_this_computer_pass(client: TestClient, host: str):
    assert client.post("/", headers={"host": host}).text == "hello"
    assert client.post("/", headers={"host": host, "origin": f"http://{host}"}).text == "hello"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example@127.0.0.1", "localhost.evil.example", "127.0.0.2"]
)
def test_other_names_are_refused(client: TestClient, host: str):
    assert client.get("/", headers={"host": host}).status_code == 403
    assert client.get("/", headers={"host": host, "origin": f"http://{host}"}).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://localhost:4200", "http://127.0.0.1"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_other_origins_are_refused(client: TestClient, method: str, origin: str):
    reply = client.request(method, "/", headers={"origin": origin})
    assert reply.status_code == 403
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_may_link_to_a_page_and_do_nothing_else(client: TestClient, site: str):
    link = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/", headers=link).status_code == 200
    assert client.post("/", headers=link).status_code == 403
    assert client.get("/", headers=link | {"sec-fetch-mode": "no-cors"}).status_code == 403
