"""The inspector's HTTP: previews by row number, and videos by their content's hash with range requests."""

import mimetypes
import re
import socket

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response, StreamingResponse

from curation import store
from curation.browse.clips import Clips, Videos
from curation.browse.guard import LocalOnly
from curation.errors import CurationError

HOST = "127.0.0.1"
_PART = 4 << 20
_MIME = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"RIFF": "image/webp"}


def application(clips: Clips, videos: Videos) -> FastAPI:
    """The application without a page: /preview/{row} and /video/{video_id}. Nothing else of the disk can be reached."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(LocalOnly)

    @app.get("/preview/{row}")
    def preview(row: int) -> Response:
        try:
            picture = clips.preview(row) or b""
        except IndexError:
            return Response("no such clip", 404)
        mime = next((m for magic, m in _MIME.items() if picture.startswith(magic)), None)
        if mime is None:
            return Response("no preview", 404)
        return Response(picture, media_type=mime, headers={"cache-control": "private, max-age=3600"})

    @app.api_route("/video/{video_id}", methods=["GET", "HEAD"])
    def video(video_id: str, request: Request) -> Response:
        where = videos.where(video_id)
        if where is None:
            return Response("no such video, or its file is gone or has changed", 404)
        mime = mimetypes.guess_type(where)[0] or ""
        mime = mime if mime.startswith("video/") else "application/octet-stream"
        if "://" in where:
            return _from_store(where, mime, request)
        return FileResponse(where, media_type=mime)

    return app


def _from_store(uri: str, mime: str, request: Request) -> Response:
    """An object, or of the range that was asked for at most 4 MiB: players ask for more when they need it."""
    size, read = store.pieces(store.place(uri))
    asked = request.headers.get("range")
    if asked is None:
        parts = (read(at, min(size, at + _PART)) for at in range(0, size, _PART))
        whole = {"accept-ranges": "bytes", "content-length": str(size)}
        return StreamingResponse(() if request.method == "HEAD" else parts, media_type=mime, headers=whole)
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
    start, last = (int(wanted[1]), int(wanted[2] or size - 1)) if wanted else (size, 0)
    if not start <= last or start >= size:
        return Response(status_code=416, headers={"content-range": f"bytes */{size}"})
    end = min(last + 1, size, start + _PART)
    headers = {"accept-ranges": "bytes", "content-range": f"bytes {start}-{end - 1}/{size}"}
    if request.method == "HEAD":
        return Response(status_code=206, media_type=mime, headers=headers | {"content-length": str(end - start)})
    return Response(read(start, end), 206, media_type=mime, headers=headers)


def run(app: FastAPI, port: int) -> None:
    """Serve on 127.0.0.1 until interrupted. Raises CurationError if the port is taken."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError as error:
            raise CurationError(f"port: {port} is taken ({error.strerror}); name another with --port") from error
        listening.listen(128)
        print(f"http://{HOST}:{listening.getsockname()[1]}  (Ctrl-C ends it)", flush=True)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[listening])
