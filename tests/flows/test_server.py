"""What Prefect's application does not serve. The whole server is in tests/end_to_end."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from flows.server import WithoutReference, settings


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/redoc", "/api/docs", "/api/redoc", "/docs/oauth2-redirect"])
def test_pages_that_load_scripts_from_another_host_are_not_served(path: str):
    app = Starlette(routes=[Route("/{rest:path}", lambda _: PlainTextResponse("a page"))])
    client = TestClient(WithoutReference(app))
    assert client.get(path).status_code == 404
    assert client.get("/dashboard").text == "a page"


def test_cors_allows_the_servers_own_origin_only():
    assert settings(4300)["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4300"
