"""Run Prefect's API and UI on 127.0.0.1, confined to this computer. `rushes serve` starts this as a child process."""

import sys
from typing import Any

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from curation.browse.guard import LocalOnly

HOST = "127.0.0.1"
# FastAPI's API reference loads its scripts from another host.
_REFERENCE = {f"{base}/{page}" for base in ("", "/api") for page in ("docs", "redoc", "docs/oauth2-redirect")}


class WithoutReference:
    """ASGI middleware that answers 404 for the API reference pages."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].rstrip("/") in _REFERENCE:
            answer = PlainTextResponse("the API reference is disabled; the API's schema is at /openapi.json", 404)
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)


def application() -> ASGIApp:
    """Build Prefect's application behind `LocalOnly`, with the classic UI and without UI v2.

    UI v2 starts an analytics client in every page, and no setting turns that off. If UI v2 is missing, Prefect
    redirects its addresses to the classic UI.
    """
    import prefect

    _hide_logos()
    from prefect.server.api.server import create_app

    ui: Any = prefect
    ui.__ui_v2_static_path__ = prefect.__ui_v2_static_path__ / "disabled"
    return LocalOnly(WithoutReference(create_app(final=True)))


def _hide_logos() -> None:
    """Hide the logos of block types, which the UI would load from other hosts. Call this before importing the API."""
    from prefect.server.schemas import core

    core.BlockType.model_fields["logo_url"].exclude = True
    for model in (core.BlockType, core.BlockSchema, core.BlockDocument):
        model.model_rebuild(force=True)


def settings(port: int) -> dict[str, str]:
    """Return the environment variables that the server needs on this port."""
    return {
        "PREFECT_UI_API_URL": "/api",  # relative, so that http://localhost works too
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port}",
        # `LocalOnly` checks the origin of each request, so clients need no token.
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "false",
    }


def main(port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    uvicorn.run(application(), host=HOST, port=port, log_level="warning", timeout_graceful_shutdown=2)


if __name__ == "__main__":
    main(int(sys.argv[1]))
