"""What every entry point sets before Prefect or Ray is imported, and how it finds a running `rushes serve`.

Both libraries read the environment once, at import: call `prepare` first. Whatever the user has set stays.
"""

import json
import os
import urllib.error
import urllib.request
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass
from pathlib import Path

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # Prefect's default lets the pages of every site read the API of an ephemeral server.
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1",
    # An ephemeral server takes 17 s on an idle laptop and much more on a busy one; Prefect gives up after 20.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # else a thread of Ray's that outlives an interrupted run starts another Ray
    # Off, Ray stays on 127.0.0.1; on (its default under Linux), it replaces that by the machine's public address.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True, slots=True)
class Served:
    """Where a running `rushes serve` is reached: Prefect's API, Ray's address and its token, and the process."""

    api: str
    ray: str | None
    ray_token_file: str | None
    pid: int


def prepare(environ: MutableMapping[str, str] = os.environ) -> Path:
    """Fill in the defaults and return Prefect's home, `runs/.prefect` here unless PREFECT_HOME names another."""
    for name, value in DEFAULTS.items():
        environ.setdefault(name, value)
    return Path(environ.setdefault("PREFECT_HOME", str(Path("runs/.prefect").absolute())))


def attach(home: Path, environ: MutableMapping[str, str] = os.environ) -> Served | None:
    """Point Prefect and Ray at the `rushes serve` of this home, if one answers; None if there is none.

    A PREFECT_API_URL or RAY_ADDRESS that the user has set wins over what is served here.
    """
    served = find_served(home)
    if served is None:
        return None
    environ.setdefault("PREFECT_API_URL", served.api)
    if served.ray and served.ray_token_file and "RAY_ADDRESS" not in environ:
        environ["RAY_ADDRESS"] = served.ray
        use_ray_token(Path(served.ray_token_file), environ)
    return served


def use_ray_token(file: Path, environ: MutableMapping[str, str] = os.environ) -> None:
    """Let Ray processes started from here authenticate each other by the token in `file`."""
    environ["RAY_AUTH_MODE"] = "token"
    environ["RAY_AUTH_TOKEN_PATH"] = str(file)


def find_served(home: Path, timeout_s: float = 2.0) -> Served | None:
    """Read what `rushes serve` left in its home and ask whether it still answers."""
    try:
        served = Served(**json.loads((home / "serve.json").read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None
    return served if answers(served.api, timeout_s) else None


def answers(api: str, timeout_s: float = 2.0) -> bool:
    """Does a Prefect server answer at this API address?"""
    # No proxy: the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{api}/health", timeout=timeout_s) as reply:
            return reply.status == 200 and reply.read().strip() == b"true"
    except (urllib.error.URLError, OSError):
        return False


def announce(home: Path, served: Served) -> None:
    """Leave word in `home` for other `rushes` commands of where the server is."""
    home.mkdir(parents=True, exist_ok=True)
    part = home / "serve.json.part"
    part.write_text(json.dumps(asdict(served)))
    part.replace(home / "serve.json")


def withdraw(home: Path) -> None:
    """Remove the word that `announce` left."""
    (home / "serve.json").unlink(missing_ok=True)
