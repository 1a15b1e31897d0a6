"""A decoded frame and its downscaled images.

Frames are downscaled on their coded planes, before color conversion. Images for the cut detectors, for optical flow and
for thumbnails share one pyramid of halved sizes. Downscaled images of an interlaced frame use only its first field, so
that they show no combing.
"""

import functools
import re
from dataclasses import dataclass, field
from typing import cast

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation

from curation.video.color import Color, color_of, rgb_of, sdr_yuv420, to_sdr_rgb
from curation.video.geometry import Geometry, Orientation
from curation.video.interlace import progressive

_PLANAR = re.compile(r"(yuvj?4\d\dp|gray)(9|10|12|14|16)?(le)?")
_TO_VIDEO_RANGE = np.round(16 + np.arange(256) * 219 / 255).astype(np.uint8)
_ACCURATE = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True, slots=True)
class Still:
    """A frame at thumbnail size. It keeps its coded planes until `rgb` is called, which takes half the memory of RGB.

    `planes` are luma (h, w) and two chroma planes of half that size (none for a grey frame), with `depth` bits per
    sample. Where `color` is None, `planes` holds one RGB array (h, w, 3). The planes are not rotated upright yet.
    """

    planes: tuple[np.ndarray, ...]
    color: Color | None
    depth: int
    orientation: Orientation

    def rgb(self) -> np.ndarray:
        """RGB uint8 (h, w, 3), upright, SDR."""
        pixels, *chroma = self.planes
        if self.color is not None:
            size = pixels.shape[::-1]
            chroma = [cv2.resize(c, size, interpolation=cv2.INTER_LINEAR) for c in chroma] or [
                np.full_like(pixels, 1 << (self.depth - 1))
            ] * 2
            pixels = rgb_of(pixels, chroma[0], chroma[1], self.color, self.depth)
        return np.ascontiguousarray(self.orientation.upright(pixels))


@dataclass(slots=True)
class Frame:
    """A decoded frame: `index` in presentation order, `time` and `duration` in seconds; the first frame is at 0.

    `damaged_from` is None for an undamaged frame; otherwise the time (seconds) from which frames, including this one,
    may be damaged. `picture` is libav's frame as it is coded. Every method returns upright SDR images, with square
    pixels unless the method says otherwise.
    """

    index: int
    time: float
    duration: float
    keyframe: bool
    damaged_from: float | None
    picture: VideoFrame
    geometry: Geometry
    color: Color = field(init=False)
    _levels: dict[tuple[int, int], np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.color = color_of(self.picture)

    @property
    def width(self) -> int:
        """Display width, in pixels."""
        return self.geometry.width

    @property
    def height(self) -> int:
        """Display height, in pixels."""
        return self.geometry.height

    def small_bgr(self, width: int) -> np.ndarray:
        """BGR uint8 (h, w, 3) of about `width` columns (never enlarged), for the cut detectors."""
        w, h = self._scaled(min(1.0, width / self.width))
        w, h = max(2, w & ~1), max(2, h & ~1)
        if not self.color.is_plain_sdr:
            return np.ascontiguousarray(self._still(w, h).rgb()[..., ::-1])
        planes = self._i420(*self._stored(w, h))
        return self.geometry.orientation.upright(cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420))

    def gray(self, short_side: int) -> np.ndarray:
        """Luma uint8 (h, w), scaled to `short_side` (never enlarged), for optical flow."""
        w, h = self._scaled(min(1.0, short_side / min(self.width, self.height)))
        if not self.color.is_plain_sdr:
            return cv2.LUT(cv2.cvtColor(self._still(w, h).rgb(), cv2.COLOR_RGB2GRAY), _TO_VIDEO_RANGE)
        small = self._reduced(0, *self._stored(w, h), cv2.INTER_LINEAR)
        return np.ascontiguousarray(self.geometry.orientation.upright(small))

    def still(self, long_side: int) -> Still:
        """The frame with its long side at most `long_side` (never enlarged)."""
        return self._still(*self._scaled(min(1.0, long_side / max(self.width, self.height))))

    def rgb(self, long_side: int) -> np.ndarray:
        """RGB uint8 (h, w, 3), long side at most `long_side` (never enlarged)."""
        return self.still(long_side).rgb()

    def full_rgb(self) -> np.ndarray:
        """RGB uint8 (h, w, 3) at the stored resolution, upright and deinterlaced; pixels are not square yet."""
        pixels = to_sdr_rgb(progressive(self.picture))
        return np.ascontiguousarray(self.geometry.orientation.upright(pixels))

    def yuv420(self, width: int, height: int) -> VideoFrame:
        """The frame as 8-bit 4:2:0 in video range, upright and deinterlaced, scaled to an even `width` x `height`."""
        orientation = self.geometry.orientation
        w, h = (height, width) if orientation.swaps_sides else (width, height)
        flat = sdr_yuv420(progressive(self.picture), w, h)
        if orientation == Orientation():
            return flat
        planes = flat.to_ndarray()
        parts = [planes[:h], *planes[h:].reshape(2, h // 2, w // 2)]
        turned = np.concatenate([orientation.upright(part).reshape(-1) for part in parts])
        made = VideoFrame.from_ndarray(turned.reshape(height * 3 // 2, width), format="yuv420p")
        made.color_range, made.colorspace = flat.color_range, flat.colorspace
        made.color_primaries, made.color_trc = flat.color_primaries, flat.color_trc
        return made

    def _still(self, width: int, height: int) -> Still:
        w, h = self._stored(width, height)
        orientation = self.geometry.orientation
        depth = _depth(self.picture.format.name)
        if depth is None and self.color.is_plain_sdr:
            picture = self.picture.reformat(width=w, height=h, format="rgb24", interpolation=_ACCURATE, threads=1)
            return Still((picture.to_ndarray(),), None, 8, orientation)
        if depth is None:
            return Still((to_sdr_rgb(progressive(self.picture), w, h),), None, 8, orientation)
        sizes = [(w, h), ((w + 1) // 2, (h + 1) // 2), ((w + 1) // 2, (h + 1) // 2)][: self._planes()]
        depth = 8 if self.color.is_plain_sdr else depth  # tone mapping needs every bit
        planes = tuple(self._reduced(i, *size, cv2.INTER_AREA, depth).copy() for i, size in enumerate(sizes))
        return Still(planes, self.color, depth, orientation)

    def _scaled(self, factor: float) -> tuple[int, int]:
        return max(1, round(self.width * factor)), max(1, round(self.height * factor))

    def _stored(self, width: int, height: int) -> tuple[int, int]:
        """Convert an upright (width, height) to the size in the unrotated frame."""
        return (height, width) if self.geometry.orientation.swaps_sides else (width, height)

    def _i420(self, width: int, height: int) -> np.ndarray:
        """The frame scaled to an even (width, height) as planar YUV 4:2:0 in video range, (h * 3 / 2, w)."""
        out = np.full((height * 3 // 2, width), 128, np.uint8)
        luma = self._reduced(0, width, height, cv2.INTER_LINEAR)
        out[:height] = cv2.LUT(luma, _TO_VIDEO_RANGE) if self.color.full_range else luma
        chroma = out[height:].reshape(2, height // 2, width // 2)
        for i in range(1, self._planes()):
            chroma[i - 1] = self._reduced(i, width // 2, height // 2, cv2.INTER_LINEAR)
        return out

    def _planes(self) -> int:
        """Read the planes on the first call, and return how many there are."""
        if not self._levels:
            picture = self.picture
            if _depth(picture.format.name) is None:
                picture = picture.reformat(format="yuv420p", threads=1)
            wide = _depth(picture.format.name) != 8
            fields = 2 if picture.interlaced_frame else 1
            for i, plane in enumerate(picture.planes):
                rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
                samples = rows.view("<u2") if wide else rows
                self._levels[i, 0] = samples[::fields, : plane.width]
        return 3 if (2, 0) in self._levels else 1

    def _reduced(self, plane: int, width: int, height: int, interpolation: int, bits: int = 8) -> np.ndarray:
        """Downscale a plane, to 8 bits per sample or, with `bits` above 8, at its full depth.

        The plane is halved as often as possible and then interpolated. In OpenCV, halving is several times faster than
        one area average by a fractional factor. The halved planes are kept for later calls.
        """
        self._planes()
        level, pixels = 0, self._levels[plane, 0]
        while pixels.shape[0] >= 2 * height and pixels.shape[1] >= 2 * width:
            level += 1
            if (plane, level) not in self._levels:
                w, h = pixels.shape[1] // 2, pixels.shape[0] // 2
                self._levels[plane, level] = cv2.resize(pixels[: 2 * h, : 2 * w], (w, h), interpolation=cv2.INTER_AREA)
            pixels = self._levels[plane, level]
        if pixels.shape != (height, width):
            pixels = cv2.resize(pixels, (width, height), interpolation=interpolation)
        if pixels.dtype == np.uint8 or bits > 8:
            return pixels
        depth = cast(int, _depth(self.picture.format.name))
        return cv2.convertScaleAbs(pixels, alpha=2.0 ** (8 - depth))


@functools.cache
def _depth(pixel_format: str) -> int | None:
    """Bits per sample of a planar YUV or grey format; None for other formats (packed, RGB, semi-planar)."""
    match = _PLANAR.fullmatch(pixel_format)
    return int(match[2] or 8) if match else None
