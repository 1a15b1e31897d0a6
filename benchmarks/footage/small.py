"""Small sound videos, made on the spot, and where things lie in an MP4."""

import struct
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

WIDTH, HEIGHT, FPS, SHOT_FRAMES = 160, 120, 25, 50
GOOD = {".mp4": "libx264", ".mkv": "libx264", ".ts": "libx264", ".mov": "mpeg4", ".avi": "mpeg4", ".webm": "libvpx"}


def footage(seed: int, suffix: str = ".mp4", size: tuple[int, int] = (WIDTH, HEIGHT), **options: str) -> bytes:
    """Two shots of two seconds, each a camera that pans over a texture of its own, as a file of this suffix."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"film{suffix}"  # moving the index to the front needs a name
        _write(file, seed, size, options)
        return file.read_bytes()


def _write(file: Path, seed: int, size: tuple[int, int], options: dict[str, str]) -> None:
    width, height = size
    numbers, codec = np.random.default_rng(seed), GOOD[file.suffix]
    with av.open(str(file), "w", options={"fflags": "+bitexact"} | options) as out:
        stream = cast(VideoStream, out.add_stream(codec, rate=FPS))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = 12
        # the same bytes every time: x264's macroblock tree is not reproducible with AVX-512
        quick = {"preset": "veryfast", "crf": "22", "bf": "2", "threads": "1", "x264-params": "mbtree=0"}
        stream.codec_context.options = quick if codec == "libx264" else {"deadline": "good", "cpu-used": "5"}
        stream.bit_rate = 400_000
        for shot in range(2):
            coarse, fine = (numbers.integers(0, 256, (n, n, 3), np.uint8) for n in (9, 60))
            wide = (width + SHOT_FRAMES, height)
            scene = cv2.addWeighted(cv2.resize(coarse, wide), 0.7, cv2.resize(fine, wide), 0.3, 0)
            for i in range(SHOT_FRAMES):
                frame = av.VideoFrame.from_ndarray(
                    np.ascontiguousarray(scene[:, i : i + width], np.uint8), format="bgr24"
                )
                frame.pts, frame.time_base = shot * SHOT_FRAMES + i, Fraction(1, FPS)
                out.mux(stream.encode(frame))
        out.mux(stream.encode())


def box(data: bytes | bytearray, *path: str) -> tuple[int, int]:
    """Where the content of an MP4 box begins and ends, by the names of the boxes that hold it. Raises KeyError."""
    start, end = 0, len(data)
    for name in path:
        at = start
        while at < end:
            size = int.from_bytes(data[at : at + 4], "big")
            if data[at + 4 : at + 8] == name.encode():
                start, end = at + 8, at + size
                break
            at += max(size, 8)
        else:
            raise KeyError(f"no box {name} in {path}")
    return start, end


TABLE = ("moov", "trak", "mdia", "minf", "stbl")


def patched(data: bytes, at: int, *numbers: int) -> bytes:
    """32-bit numbers written over what lies at `at`."""
    words = struct.pack(f">{len(numbers)}I", *numbers)
    return data[:at] + words + data[at + len(words) :]
