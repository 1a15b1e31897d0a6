"""A decoded frame and its small pictures.

Everything is reduced on the planes as they are coded, before any colour conversion: a detector's picture, the grey one
for optical flow and a thumbnail come from one chain of halvings. Interlaced pictures are looked at one field at a time,
so that nothing shows a comb.
"""

import functools
import re
from dataclasses import dataclass, field
from typing import cast

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation

_PLANAR = re.compile(r"(yuvj?4\d\dp|gray)(9|10|12|14|16)?(le)?")
_TO_VIDEO_RANGE = np.round(16 + np.arange(256) * 219 / 255).astype(np.uint8)
_FULL_RANGE, _VIDEO_RANGE = int(ColorRange.JPEG), int(ColorRange.MPEG)
_ACCURATE = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
# shares of red and blue in luma, by libav's number of the colorspace (ITU-T H.273, table 4); all others are BT.601
_RED_BLUE = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
_BT601 = (0.299, 0.114)


@dataclass(frozen=True, slots=True)
class Still:
    """A frame at thumbnail size, kept as it was coded until its colours are wanted: half the memory of RGB.

    `planes` are luma (h, w) and two of chroma of half that size (none for a grey picture), with `to_rgb`, (3, 4), as
    their conversion; or one of RGB (h, w, 3), and `to_rgb` is None. None of them is turned upright yet.
    """

    planes: tuple[np.ndarray, ...]
    to_rgb: np.ndarray | None
    rotation: int

    def rgb(self) -> np.ndarray:
        """RGB uint8 (h, w, 3), upright."""
        pixels, *chroma = self.planes
        if self.to_rgb is not None:
            size = pixels.shape[::-1]
            chroma = [cv2.resize(c, size, interpolation=cv2.INTER_LINEAR) for c in chroma] or [
                np.full_like(pixels, 128)
            ] * 2
            pixels = cv2.transform(cv2.merge([pixels, *chroma]), self.to_rgb)
        return np.ascontiguousarray(_upright(pixels, self.rotation))


@dataclass(slots=True)
class Frame:
    """A decoded frame: `index` in presentation order, `time` and `duration` in seconds, first frame at 0.

    `damaged_from` is None for a sound frame; else the time (seconds) from which pictures cannot be trusted, this one
    included. `width` and `height` are the display size: rotated upright, with square pixels.
    """

    index: int
    time: float
    duration: float
    keyframe: bool
    damaged_from: float | None
    picture: VideoFrame
    rotation: int
    width: int
    height: int
    _levels: dict[tuple[int, int], np.ndarray] = field(default_factory=dict, repr=False)

    def small_bgr(self, width: int) -> np.ndarray:
        """BGR uint8 (h, w, 3) of about `width` columns (never enlarged), straight from the planes; for detectors."""
        w, h = self._scaled(min(1.0, width / self.width))
        planes = self._i420(*self._stored(max(2, w & ~1), max(2, h & ~1)))
        return _upright(cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420), self.rotation)

    def gray(self, short_side: int) -> np.ndarray:
        """Luma uint8 (h, w), scaled to `short_side` (never enlarged), for optical flow."""
        w, h = self._scaled(min(1.0, short_side / min(self.width, self.height)))
        small = self._reduced(0, *self._stored(w, h), cv2.INTER_LINEAR)
        return np.ascontiguousarray(_upright(small, self.rotation))

    def still(self, long_side: int) -> Still:
        """The frame with its long side at most `long_side` (never enlarged)."""
        w, h = self._stored(*self._scaled(min(1.0, long_side / max(self.width, self.height))))
        if _depth(self.picture.format.name) is None:
            picture = self.picture.reformat(width=w, height=h, format="rgb24", interpolation=_ACCURATE, threads=1)
            return Still((picture.to_ndarray(),), None, self.rotation)
        sizes = [(w, h), ((w + 1) // 2, (h + 1) // 2), ((w + 1) // 2, (h + 1) // 2)][: self._planes()]
        planes = tuple(self._reduced(i, *size, cv2.INTER_AREA).copy() for i, size in enumerate(sizes))
        return Still(planes, _to_rgb(self.picture.colorspace, self._full_range()), self.rotation)

    def rgb(self, long_side: int) -> np.ndarray:
        """RGB uint8 (h, w, 3), long side at most `long_side` (never enlarged)."""
        return self.still(long_side).rgb()

    def _scaled(self, factor: float) -> tuple[int, int]:
        return max(1, round(self.width * factor)), max(1, round(self.height * factor))

    def _stored(self, width: int, height: int) -> tuple[int, int]:
        """Upright (width, height) as it lies in the unrotated picture."""
        return (height, width) if self.rotation % 180 else (width, height)

    def _full_range(self) -> bool:
        name, tagged = self.picture.format.name, self.picture.color_range
        # libav takes grey pictures for full range unless told otherwise
        return tagged == _FULL_RANGE or name.startswith("yuvj") or (name.startswith("gray") and tagged != _VIDEO_RANGE)

    def _i420(self, width: int, height: int) -> np.ndarray:
        """The picture scaled to an even (width, height) as planar YUV 4:2:0 in video range, (h * 3 / 2, w)."""
        out = np.full((height * 3 // 2, width), 128, np.uint8)
        luma = self._reduced(0, width, height, cv2.INTER_LINEAR)
        out[:height] = cv2.LUT(luma, _TO_VIDEO_RANGE) if self._full_range() else luma
        chroma = out[height:].reshape(2, height // 2, width // 2)
        for i in range(1, self._planes()):
            chroma[i - 1] = self._reduced(i, width // 2, height // 2, cv2.INTER_LINEAR)
        return out

    def _planes(self) -> int:
        """How many planes there are; they are read once."""
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

    def _reduced(self, plane: int, width: int, height: int, interpolation: int) -> np.ndarray:
        """The plane, uint8, at a smaller size: halved as often as it goes, which OpenCV does several times faster than
        one mean over odd areas, then interpolated. Halves are kept for the next who asks."""
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
        if pixels.dtype == np.uint8:
            return pixels
        depth = cast(int, _depth(self.picture.format.name))
        return cv2.convertScaleAbs(pixels, alpha=2.0 ** (8 - depth))


@functools.cache
def _depth(pixel_format: str) -> int | None:
    """Bits of a sample where the planes can be read as they are; None for anything else (packed, RGB, semi-planar)."""
    match = _PLANAR.fullmatch(pixel_format)
    return int(match[2] or 8) if match else None


@functools.cache
def _to_rgb(colorspace: int, full_range: bool) -> np.ndarray:
    """The affine map from YCbCr to RGB, all of 0 to 255, as (3, 4) (ITU-T H.273, 8.3)."""
    red, blue = _RED_BLUE.get(colorspace, _BT601)
    green = 1 - red - blue
    cb, cr = 2 - 2 * blue, 2 - 2 * red
    matrix = np.array([[1, 0, cr], [1, -cb * blue / green, -cr * red / green], [1, cb, 0]])
    offset = np.array([0.0 if full_range else 16.0, 128, 128])
    if not full_range:
        matrix *= [255 / 219, 255 / 224, 255 / 224]
    return np.column_stack([matrix, -matrix @ offset]).astype(np.float32)


def _upright(pixels: np.ndarray, rotation: int) -> np.ndarray:
    """Turn stored pixels upright. `rotation` is PyAV's: degrees counter-clockwise that the picture must be turned."""
    return np.rot90(pixels, k=rotation // 90) if rotation else pixels
