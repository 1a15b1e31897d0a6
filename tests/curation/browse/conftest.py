"""A small manifest over two real files, one of them with a name that is out to do harm."""

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curation.manifest import Manifest, Shard
from curation.schema import CLIP_IDENTITY, score_field
from curation.sources import identify

NASTY = "\"'><img src=x onerror=alert(1)>\n\u202egnp.🎬" + "long " * 30 + ".mp4"
HTML = "<script>alert(1)</script> {{ 7*7 }} </textarea><b>bold</b> ../../etc " + "x" * 300
MOTION = [4.0, 1.0, None, 2.5, float("nan"), 3.0]
SCHEMA = pa.schema(
    [
        *CLIP_IDENTITY,
        score_field("motion", pa.float32(), "mean <flow>", "px", {"scorer": "motion", "version": 1}),
        score_field("faces", pa.int32(), "faces", "", {"scorer": "faces", "version": 1}),
        score_field("camera", pa.string(), "camera", "", {"scorer": "motion", "version": 1}),
        score_field("caption_fused", pa.string(), "caption", "", {"scorer": "captions", "version": 3}),
    ]
)


@dataclass
class Made:
    """Where the manifest lies, and its two videos by id."""

    folder: Path
    plain: Path
    nasty: Path
    ids: dict[str, str]


def jpeg(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 18), (shade, 90, 90)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def made(tmp_path: Path, two_shots: Path, write_video: Callable[..., Path]) -> Made:
    """A manifest that a test may spoil."""
    return _make(tmp_path, two_shots, write_video)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, two_shots: Path, write_video: Callable[..., Path]) -> Made:
    """The same for all tests of a module."""
    return _make(tmp_path_factory.mktemp("inspected"), two_shots, write_video)


def _make(folder: Path, two_shots: Path, write_video: Callable[..., Path]) -> Made:
    """Six clips in two shards; motion and faces each with gaps; an error; a failed video."""
    films = folder / "films"
    films.mkdir()
    plain, nasty = films / "street.mp4", films / NASTY
    shutil.copy(two_shots, plain)
    noise = np.random.default_rng(0).integers(0, 255, (50, 64, 96, 3), np.uint8)
    write_video(films / "noise.mp4", noise).rename(nasty)
    ids = {"plain": identify(str(plain)), "nasty": identify(str(nasty))}
    clips = [
        {
            "clip_id": f"c{i}",
            "video_id": ids["plain" if i < 4 else "nasty"],
            "uri": str(plain if i < 4 else nasty),
            "shot": i,
            "start": 0.5 * (i % 4),
            "end": 0.5 * (i % 4) + 1,
            "frames": 25,
            "fps": 25.0,
            "width": 160,
            "height": 120,
            "preview": None if i == 2 else jpeg(i),
            "motion": motion,
            "faces": None if i == 1 else i,
            "camera": "static",
            "caption_fused": HTML if i == 5 else "a Street",
        }
        for i, motion in enumerate(MOTION)
    ]
    videos = [{"uri": str(p), "video_id": i, "status": "ok"} for p, i in ((plain, ids["plain"]), (nasty, ids["nasty"]))]
    videos.append({"uri": "/etc/hostname", "status": "failed", "message": "no video"})
    error = {"uri": str(plain), "video_id": ids["plain"], "step": "motion", "error": "ValueError", "message": HTML}
    manifest = Manifest(folder / "out" / "manifest")
    manifest.commit(Shard("a", videos, [], [error | {"clip_id": "c2", "attempts": 2}], clips[:3]), SCHEMA)
    manifest.commit(Shard("b", [], [], [], clips[3:]), SCHEMA)
    return Made(folder / "out", plain, nasty, ids)
