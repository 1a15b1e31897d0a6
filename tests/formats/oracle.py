"""The independent reader: the ffmpeg binary of the package imageio-ffmpeg, as a program of its own.

Times are seconds since the first frame. Frames are RGB, upright, with square pixels, as the program itself converts
them.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np

_SCALED = "scale={}:{}:flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
_TONE_MAPPED = (
    "zscale=transfer=linear:npl=203,format=gbrpf32le,zscale=primaries=bt709,tonemap=clip:desat=0,"
    "zscale=transfer=bt709:matrix=bt709:range=tv,format=yuv444p"
)
_SHOWN = re.compile(r"pts_time:(\S+).* sar:(\d+)/(\d+) s:(\d+)x(\d+) i:(\w) iskey:(\d)")


@dataclass(frozen=True)
class Shown:
    """What the program shows of a video stream. `aspects` are width over height of each frame on the screen."""

    codec: str
    times: list[float]
    frames: np.ndarray
    aspects: list[float]
    keyframes: list[bool]
    interlaced: bool


def ffmpeg(*args: str | Path, data: bytes | None = None) -> tuple[bytes, str]:
    """Run the program. Returns its output and its log; raises RuntimeError with the log where it fails."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-y", *map(str, args)]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    log = done.stderr.decode(errors="replace")
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, args))}\n{log[-1500:]}")
    return done.stdout, log


def codec_of(path: Path, stream: int = 0) -> str:
    """The codec's name, as the program prints it."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(path)]
    log = subprocess.run(command, capture_output=True, check=False).stderr.decode(errors="replace")
    return re.findall(r"Video: (\w+)", log)[stream]


def show(path: Path, size: tuple[int, int], stream: int = 0, *, hdr: bool = False, deinterlace: bool = False) -> Shown:
    """Decode a video stream from its first frame to its last, scaled to one size (width, height)."""
    filters = ["showinfo=checksum=0", *(["bwdif=mode=send_frame"] if deinterlace else []), _SCALED.format(*size)]
    filters += [_TONE_MAPPED] if hdr else []
    raw, log = ffmpeg(
        "-loglevel", "info", "-i", path, "-map", f"0:v:{stream}", "-vf", ",".join(filters),
        "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-",
    )  # fmt: skip
    seen = [match.groups() for match in _SHOWN.finditer(log)]
    times = [float(time) if time != "NOPTS" else float("nan") for time, *_ in seen]
    return Shown(
        codec_of(path, stream),
        [t - times[0] for t in times],
        np.frombuffer(raw, np.uint8).reshape(-1, size[1], size[0], 3),
        [int(w) * (int(a) / int(b) if int(a) and int(b) else 1) / int(h) for _, a, b, w, h, *_ in seen],
        [key == "1" for *_, key in seen],
        any(kind != "P" for *_, kind, _ in seen),
    )
