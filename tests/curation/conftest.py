"""Footage made on the spot, and the labelled footage where it is at hand."""

import functools
import json
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import settings

from curation import store

settings.register_profile("curation", deadline=None, max_examples=25)
settings.load_profile("curation")

SHARED = Path(__file__).parents[3] / "shared" / "videos"


@pytest.fixture(scope="session")
def shared_videos() -> Path:
    """Folder of the labelled footage; tests that need it skip, saying so, where it is absent."""
    if not (SHARED / "truth.json").is_file():
        pytest.skip(f"the labelled footage is not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def truth(shared_videos: Path) -> dict:
    return json.loads((shared_videos / "truth.json").read_text())


@functools.cache
def texture(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    """A random picture with coarse and fine structure, RGB uint8: unlike any other seed's."""
    noise = np.random.default_rng(seed).standard_normal((3, height, width)).astype(np.float32)
    out = np.zeros((height, width, 3), np.float32)
    for sigma, weight in ((12, 60), (3, 25)):
        blurred = np.stack([cv2.GaussianBlur(c, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for c in noise], axis=-1)
        out += weight * blurred / blurred.std()
    return np.clip(128 + out, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """`write_video(path, frames, fps=25, times=None, codec="libx264", options=...)`: RGB pictures to a file.

    `times` (seconds) makes the rate variable; `gop` is the keyframe interval, `rotation` in degrees counter-clockwise.
    """

    def write(
        path: Path,
        frames: Iterable[np.ndarray],
        fps: int = 25,
        times: Iterable[float] | None = None,
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        gop: int = 12,
        sar: Fraction | None = None,
        rotation: int = 0,
        options: dict[str, str] | None = None,
    ) -> Path:
        frames = list(frames)
        height, width = frames[0].shape[:2]
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=fps)
            stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
            stream.codec_context.gop_size = gop
            stream.codec_context.time_base = Fraction(1, 1000)
            if codec == "libx264":
                stream.options = {"crf": "18", "preset": "veryfast", "x264-params": "scenecut=0"}
            stream.options = stream.options | (options or {})
            if rotation:
                stream.set_display_rotation(rotation)
            if sar is not None:
                stream.codec_context.sample_aspect_ratio = sar
            at = list(times) if times is not None else [i / fps for i in range(len(frames))]
            for picture, time in zip(frames, at, strict=True):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture(scope="session")
def two_shots(tmp_path_factory: pytest.TempPathFactory, write_video: Callable[..., Path]) -> Path:
    """4 s at 25 fps, 160x120: a picture that moves right by half a pixel a frame, and from frame 50 on another that
    moves down by a quarter."""
    first, second = texture(1, 120, 260), texture(2, 220, 160)
    frames = [first[:, 60 - i // 2 : 220 - i // 2] for i in range(50)] + [
        second[60 - i // 4 : 180 - i // 4] for i in range(50)
    ]
    return write_video(tmp_path_factory.mktemp("footage") / "two_shots.mp4", frames)


@pytest.fixture(scope="session")
def server():
    """An S3 on this machine, moto's, with one bucket; boto finds it by its environment."""
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as patch:
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }.items():  # fmt: skip
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("bucket")
        yield
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


@pytest.fixture
def bucket(server, tmp_path):
    """A place of one's own on an object store: its URL, and what writes files below it."""
    where = store.place(f"s3://bucket/{tmp_path.name}")
    return str(where), lambda name, content: store.write_bytes(content, where / name)
