"""Rotation, mirroring and pixel aspect ratio of stored frames."""

import functools
import math
import struct
from dataclasses import dataclass, replace

import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curation.errors import UnreadableVideo

_TOLERANCE_DEGREES = 1.0  # the tolerance of ffmpeg's autorotate
_MOST_STRETCHED = 10.0  # the widest pixel aspect in use is 32:11; a value beyond ten is a broken header


@dataclass(frozen=True, slots=True)
class Orientation:
    """Turn a stored frame counter-clockwise by `rotation` (0, 90, 180 or 270 degrees), then mirror left and right."""

    rotation: int = 0
    mirrored: bool = False

    @property
    def swaps_sides(self) -> bool:
        """Whether the rotation swaps width and height."""
        return self.rotation % 180 == 90

    def upright(self, pixels: np.ndarray) -> np.ndarray:
        """Return an upright view of `pixels` (h, w, ...)."""
        if self.rotation:
            pixels = np.rot90(pixels, k=self.rotation // 90)
        return pixels[:, ::-1] if self.mirrored else pixels


@dataclass(frozen=True, slots=True)
class Geometry:
    """The stored size of a frame, its pixel aspect ratio, and its orientation."""

    coded_width: int
    coded_height: int
    aspect: float = 1.0
    orientation: Orientation = Orientation()

    @property
    def width(self) -> int:
        """Display width: upright, square pixels."""
        return self._display[1] if self.orientation.swaps_sides else self._display[0]

    @property
    def height(self) -> int:
        """Display height: upright, square pixels."""
        return self._display[0] if self.orientation.swaps_sides else self._display[1]

    @property
    def _display(self) -> tuple[int, int]:
        return max(1, round(self.coded_width * self.aspect)), self.coded_height


class Shape:
    """Geometry of a stream's frames, which may change within the stream.

    The container's aspect ratio is used until the codec's aspect ratio changes. The decoder reports the change before
    the first frame with the new ratio is returned, so the new value is used from the next keyframe on. A display
    matrix holds until another one comes: H.264 and HEVC may send it once. `inherited` is set once a frame is turned by
    the matrix of an earlier one. Call `geometry_of` for every frame, as soon as it is decoded.
    """

    def __init__(self, stream: VideoStream, uri: str) -> None:
        self.inherited = False
        self._context, self._uri = stream.codec_context, uri
        self._aspect = float(stream.sample_aspect_ratio or 0)
        self._coded: float | None = None
        self._orientation = Orientation()

    def geometry_of(self, frame: VideoFrame) -> Geometry:
        """The geometry of the next decoded frame. Raises UnreadableVideo as the function `geometry_of` does."""
        coded = float(self._context.sample_aspect_ratio or 0)
        if self._coded is None:
            self._coded = coded
        if coded != self._coded and frame.key_frame:
            self._aspect = self._coded = coded
        geometry = geometry_of(frame, self._aspect, self._uri)
        if frame.side_data.get("DISPLAYMATRIX") is not None:
            self._orientation = geometry.orientation
        elif self._orientation != Orientation():
            self.inherited = True
            geometry = replace(geometry, orientation=self._orientation)
        return geometry


def geometry_of(frame: VideoFrame, aspect: float | None, uri: str) -> Geometry:
    """Return the geometry of a decoded frame. `aspect` is its pixel aspect ratio; None and 0 mean square pixels.

    Raises UnreadableVideo for an aspect ratio that no format uses, and for a display matrix whose rotation is not a
    multiple of 90 degrees.
    """
    aspect = aspect if aspect and aspect > 0 else 1.0
    if not 1 / _MOST_STRETCHED <= aspect <= _MOST_STRETCHED:
        raise UnreadableVideo(
            f"{uri}: the header claims pixels {aspect:g} times as wide as high; re-encode the file with the right "
            "sample aspect ratio",
            step="probe",
        )
    matrix = frame.side_data.get("DISPLAYMATRIX")
    orientation = Orientation() if matrix is None else _orientation(bytes(matrix), uri)
    return Geometry(frame.width, frame.height, aspect, orientation)


@functools.lru_cache(maxsize=64)
def _orientation(matrix: bytes, uri: str) -> Orientation:
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    # the matrix maps the stored point (x, y), y down, to (a x + c y, b x + d y) on the display
    straight, crossed = math.hypot(a, d), math.hypot(b, c)
    slack = math.tan(math.radians(_TOLERANCE_DEGREES))
    if crossed <= slack * straight and a and d:
        mirrored, flipped = a < 0, d < 0
        return Orientation(180 if flipped else 0, mirrored != flipped)
    if straight <= slack * crossed and b and c:
        return Orientation(90 if b < 0 else 270, (b < 0) == (c < 0))
    raise UnreadableVideo(
        f"{uri}: its display matrix turns frames by {math.degrees(math.atan2(b, a)):.0f} degrees; only multiples of 90 "
        "degrees are supported; re-encode the file upright",
        step="probe",
    )
