"""HTTP as a browser or a stranger speaks it: ranges, unknown videos, foreign hosts and origins."""

import socket

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from curation import store
from curation.browse import server
from curation.browse.clips import Clips, Videos
from curation.errors import CurationError

BASE = "http://127.0.0.1:4280"


@pytest.fixture
def client(made) -> TestClient:
    app = server.application(Clips(str(made.folder)), Videos(str(made.folder)))

    @app.websocket("/socket")
    async def socket_route(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")

    return TestClient(app, base_url=BASE)


@pytest.mark.parametrize("which", ["plain", "nasty"])
def test_parts_of_a_video(client: TestClient, made, which: str) -> None:
    content = getattr(made, which).read_bytes()
    address, size = f"/video/{made.ids[which]}", len(content)
    whole = client.get(address)
    assert (whole.status_code, whole.headers["content-type"], whole.content) == (200, "video/mp4", content)
    assert whole.headers["accept-ranges"] == "bytes"
    for asked, start, stop in (("0-99", 0, 100), (f"{size - 5}-", size - 5, size), ("-7", size - 7, size)):
        part = client.get(address, headers={"range": f"bytes={asked}"})
        assert (part.status_code, part.content) == (206, content[start:stop])
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    beyond = client.get(address, headers={"range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    same = {"range": "bytes=0-9", "if-range": whole.headers["etag"]}
    assert client.get(address, headers=same).status_code == 206
    assert client.get(address, headers=same | {"if-range": '"other"'}).content == content
    assert client.head(address).headers["content-length"] == str(size)


def test_parts_of_a_video_on_an_object_store(made, request, monkeypatch) -> None:
    request.getfixturevalue("server")  # the store's, by a name that a module has here
    content = made.plain.read_bytes()
    where = store.place(f"s3://bucket/{made.folder.name}/street.mp4")
    store.write_bytes(content, where)
    videos = Videos(str(made.folder))
    monkeypatch.setattr(videos, "_uris", {made.ids["plain"]: [str(where)], made.ids["nasty"]: [str(where)]})
    monkeypatch.setattr(server, "_PART", 1000)
    client = TestClient(server.application(Clips(str(made.folder)), videos), base_url=BASE)
    address, size = f"/video/{made.ids['plain']}", len(content)
    for asked, start, stop in (
        ("0-99", 0, 100),
        (f"{size - 5}-", size - 5, size),
        ("0-", 0, 1000),
        ("7-9999", 7, 1007),
    ):
        part = client.get(address, headers={"range": f"bytes={asked}"})
        assert (part.status_code, part.content) == (206, content[start:stop])
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        assert part.headers["content-type"] == "video/mp4"
    for asked in (f"{size}-", "9-3", "x"):
        assert client.get(address, headers={"range": f"bytes={asked}"}).status_code == 416
    head = client.head(address, headers={"range": "bytes=0-"})
    assert (head.headers["content-length"], head.content) == ("1000", b"")
    whole = client.get(address)
    assert (whole.status_code, whole.content) == (200, content)
    head = client.head(address)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(size), b"")
    assert client.get(f"/video/{made.ids['nasty']}").status_code == 404  # another content than was curated


@pytest.mark.parametrize(
    "path",
    [
        "/video/nobody",
        "/video/",
        "/video/..%2f..%2f..%2fetc%2fpasswd",
        "/video/%2fetc%2fpasswd",
        "/video/None",
        "/preview/6",
        "/preview/-1",
        "/preview/2",
        "/docs",
        "/openapi.json",
    ],
)
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_a_path_is_no_video_id(client: TestClient, made) -> None:
    assert client.get(f"/video/{made.plain}").status_code == 404
    assert client.get(f"/video/{str(made.plain).replace('/', '%2F')}").status_code == 404
    made.plain.write_bytes(b"something else")
    assert client.get(f"/video/{made.ids['plain']}").status_code == 404


def test_a_preview_is_a_picture(client: TestClient) -> None:
    reply = client.get("/preview/0")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "image/jpeg")
    assert reply.content.startswith(b"\xff\xd8\xff")
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    assert client.get("/preview/zero").status_code == 422


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "", "[", "0.0.0.0"]
)
def test_a_rebound_name_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/preview/0", headers={"host": host}).status_code == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (BASE, 200),
        ("http://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1:1", 403),
        ("https://127.0.0.1:4280", 403),
    ],
)
def test_another_sites_script_is_refused(client: TestClient, origin: str, status: int) -> None:
    assert client.get("/preview/0", headers={"origin": origin}).status_code == status


def test_another_sites_socket_is_refused(client: TestClient) -> None:
    with client.websocket_connect(f"{BASE.replace('http', 'ws')}/socket", headers={"origin": BASE}) as connection:
        assert connection.receive_text() == "hello"
    for headers in ({"origin": "http://evil.example"}, {"host": "evil.example"}):
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect(f"{BASE.replace('http', 'ws')}/socket", headers=headers),
        ):
            pass


def test_a_taken_port_is_said(made) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        app = server.application(Clips(str(made.folder)), Videos(str(made.folder)))
        with pytest.raises(CurationError, match="name another with --port"):
            server.run(app, taken.getsockname()[1])
