"""Protect a server on 127.0.0.1 from requests of other websites, and keep its own pages from loading other hosts."""

import re

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOCAL_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self'; font-src 'self' data:; connect-src 'self'; "
        "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


class LocalOnly:
    """ASGI middleware that refuses requests and WebSockets from other sites, and sets security headers.

    It detects three kinds of foreign requests:

    - DNS rebinding: a foreign page lets its own host name resolve to 127.0.0.1. The Host header then has that name.
    - Cross-site requests: the Origin header differs from the Host header.
    - Cross-site loads without an Origin header (images, scripts): the Sec-Fetch headers report them.

    Clients that are not browsers send neither Origin nor Sec-Fetch headers; they need only a local Host header.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        if not _is_local(scope):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await Response("refused: request from another site; open this server's own address instead", 403)(
                    scope, receive, send
                )
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self.app(scope, receive, guarded)


def _is_local(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    if len(hosts) != 1 or not _LOCAL_HOST.fullmatch(hosts[0]):
        return False
    if any(origin != f"http://{hosts[0]}" for origin in origins):
        return False
    # A link on another site may open a page here. Other sites may not embed pages, load data or write.
    opens_page = scope.get("method") in {"GET", "HEAD"} and headers.get("sec-fetch-mode") == "navigate"
    return headers.get("sec-fetch-site", "none") in {"none", "same-origin"} or opens_page
