"""Color of a video frame: read its tags, and convert HDR and wide-gamut frames to SDR.

Scores, training and re-encoding all expect SDR with BT.709 primaries. Ordinary SDR frames need only the matrix of
their tags. PQ, HLG, BT.2020 and P3 frames are converted in linear light. See docs/color.md.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation

from curation.errors import UnreadableVideo

# ffprobe's names of the code points in ITU-T H.273
_PRIMARIES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020", 10: "smpte428",
    11: "smpte431", 12: "smpte432", 22: "ebu3213",
}  # fmt: skip
_TRANSFERS = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "linear", 9: "log100", 10: "log316",
    11: "iec61966-2-4", 12: "bt1361e", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084",
    17: "smpte428", 18: "arib-std-b67",
}  # fmt: skip
_MATRICES = {
    0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco", 9: "bt2020nc",
    10: "bt2020c", 11: "smpte2085", 12: "chroma-derived-nc", 13: "chroma-derived-c", 14: "ictcp", 15: "ipt-c2",
    16: "ycgco-re", 17: "ycgco-ro",
}  # fmt: skip

_UNTAGGED = 2
_MATRIX_NUMBER = {name: number for number, name in _MATRICES.items()}

_RED_BLUE = {
    "bt709": (0.2126, 0.0722), "fcc": (0.30, 0.11), "bt470bg": (0.299, 0.114), "smpte170m": (0.299, 0.114),
    "smpte240m": (0.212, 0.087), "bt2020nc": (0.2627, 0.0593),
}  # fmt: skip
"""Weights of red and blue in luma (ITU-T H.273, table 4)."""

_SWSCALE = {
    "bt709": Colorspace.ITU709, "fcc": Colorspace.FCC, "bt470bg": Colorspace.ITU601, "smpte170m": Colorspace.ITU601,
    "smpte240m": Colorspace.SMPTE240M, "bt2020nc": Colorspace.BT2020,
}  # fmt: skip
"""The YUV matrices that swscale converts."""

_D65, _DCI = (0.3127, 0.3290), (0.314, 0.351)
_CHROMATICITIES = {  # red, green, blue, white as CIE 1931 (x, y); ITU-T H.273, table 2
    "bt709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    "smpte431": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _DCI),
    "smpte432": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
}
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_WIDE = frozenset(_CHROMATICITIES) - {"bt709"}
_HDR = frozenset({"smpte2084", "arib-std-b67"})
_MATRIX_OF_PRIMARIES = {"bt709": "bt709", "bt470bg": "bt470bg", "smpte170m": "smpte170m", "bt2020": "bt2020nc"}
_PRIMARIES_OF_MATRIX = {"bt709": "bt709", "bt470bg": "bt470bg", "smpte240m": "smpte240m", "bt2020nc": "bt2020"}

_REFUSED = {
    "bt2020c": "BT.2020 constant luminance",
    "smpte2085": "Y'D'zD'x",
    "chroma-derived-nc": "a matrix derived from these primaries",
    "chroma-derived-c": "chromaticity-derived constant luminance",
    "ictcp": "ICtCp",
    "ipt-c2": "Dolby Vision profile 5",
    "ycgco-re": "reversible YCgCo",
    "ycgco-ro": "reversible YCgCo",
}

_WHITE_NITS = 203.0
"""Luminance of HDR diffuse white, which is mapped to SDR white (ITU-R BT.2408, table 1)."""
_HLG_NITS = 1000.0
_GAMMA = 2.4
_KNEE = 0.9
"""Tone mapping does not change light below this fraction of SDR white."""
_PEAK = 1000.0 / _WHITE_NITS
"""Linear light that is mapped to SDR white. Most footage is graded on displays with a peak of 1000 nits."""
_STEPS = 65535
_STRIP = 32_768
"""Number of pixels converted at a time, so that intermediate arrays stay in the CPU cache."""
_TINY = np.float32(1e-6)
_CLIPPED = np.float32(0.02)
"""Components out of gamut by at most this much are clipped: they are mostly codec noise."""
_ACCURATE = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True)
class Color:
    """Color description of a frame, in ffprobe's names, with untagged values resolved (see `color_of`)."""

    primaries: str
    transfer: str
    matrix: str
    full_range: bool

    @property
    def is_hdr(self) -> bool:
        return self.transfer in _HDR

    @property
    def is_wide_gamut(self) -> bool:
        return self.primaries in _WIDE

    @property
    def is_plain_sdr(self) -> bool:
        """Whether the matrix and range alone give SDR RGB, as in ffmpeg's conversion to rgb24."""
        return not (self.is_hdr or self.is_wide_gamut or self.transfer in {"linear", "log100", "log316"})


def color_of(frame: VideoFrame) -> Color:
    """Return the color description of a frame, from its tags.

    Untagged values are resolved as follows:

    - matrix: gbr for RGB formats; bt2020nc where the transfer is PQ or HLG or the primaries are BT.2020; otherwise
      smpte170m (BT.601) at every size, as swscale does. A gbr tag on a YUV format counts as untagged.
    - transfer: bt709.
    - primaries: those of the matrix; bt2020 where the transfer is PQ or HLG; otherwise smpte170m, or bt709 for RGB.
    - range: full for RGB, yuvj and grey formats, otherwise video range.

    Raises UnreadableVideo for a matrix that is not supported.
    """
    if _is_dolby_profile_5(frame):
        raise _refused("Dolby Vision profile 5")
    name = frame.format.name
    transfer = _TRANSFERS.get(frame.color_trc, "bt709")
    primaries = _PRIMARIES.get(frame.color_primaries)
    is_rgb = frame.format.is_rgb or frame.format.has_palette
    matrix = "gbr" if is_rgb else _MATRICES.get(frame.colorspace)
    if matrix == "chroma-derived-nc":
        matrix = _MATRIX_OF_PRIMARIES.get(primaries or "", matrix)
    if matrix is None or (matrix == "gbr" and not is_rgb):
        matrix = "bt2020nc" if transfer in _HDR or primaries == "bt2020" else "smpte170m"
    if matrix in _REFUSED:
        raise _refused(f"{_REFUSED[matrix]} (matrix {matrix})")
    if primaries is None:
        fallback = "bt709" if matrix == "gbr" else "smpte170m"
        primaries = "bt2020" if transfer in _HDR else _PRIMARIES_OF_MATRIX.get(matrix, fallback)
    tagged = frame.color_range
    full = name.startswith("yuvj") or tagged == ColorRange.JPEG
    if name.startswith("gray"):
        full = tagged != ColorRange.MPEG
    return Color(primaries, transfer, matrix, full or matrix == "gbr")


def rgb_of(luma: np.ndarray, cb: np.ndarray | None, cr: np.ndarray | None, color: Color, depth: int = 8) -> np.ndarray:
    """Convert planes of equal size to SDR RGB uint8 (h, w, 3) with BT.709 primaries.

    `luma`, `cb`, `cr` are (h, w), uint8 for `depth` 8 and uint16 for 9 to 16 bits; `cb` and `cr` are None for grey.
    For matrix gbr they are the planes G, B, R (ITU-T H.273, 8.3).
    """
    if cb is None or cr is None:
        cb = cr = np.full_like(luma, 1 << (depth - 1))
    merged = cv2.merge([luma, cb, cr])
    if color.is_plain_sdr:
        if depth == 8:
            return cv2.transform(merged, _to_rgb(color.matrix, color.full_range, 8, 255))
        return cv2.convertScaleAbs(_coded(merged, color, depth), alpha=255 / _STEPS)
    out = np.empty(merged.shape, np.uint8)
    rows = max(1, _STRIP // merged.shape[1])
    for top in range(0, merged.shape[0], rows):
        out[top : top + rows] = _converted(merged[top : top + rows], color, depth)
    return out


def to_sdr_rgb(frame: VideoFrame, width: int | None = None, height: int | None = None) -> np.ndarray:
    """Convert a frame of any pixel format to SDR RGB uint8 (h, w, 3) with BT.709 primaries.

    `width` and `height`, if given, are the size to scale to, before rotation. The function does not apply rotation and
    pixel aspect ratio. Raises UnreadableVideo as `color_of` does.
    """
    color = color_of(frame)
    shrinks = (width or frame.width) < frame.width or (height or frame.height) < frame.height
    flags = (Interpolation.AREA if shrinks else Interpolation.BICUBIC) | _ACCURATE
    if _swscale_suffices(color):
        matrix = _SWSCALE.get(color.matrix)
        if (width or frame.width, height or frame.height) == (frame.width, frame.height):
            flags = Interpolation.BICUBIC  # ffmpeg's own conversion
        return frame.reformat(width, height, "rgb24", matrix, None, flags, threads=1).to_ndarray()
    name, depth = _planar_format(frame)
    # one matrix and one range on both sides, so that swscale changes neither
    matrix, value_range = Colorspace.ITU709, ColorRange.JPEG if color.full_range else ColorRange.MPEG
    same = frame.reformat(width, height, name, matrix, matrix, flags, value_range, value_range, threads=1)
    planes = _planes(same, depth)
    return rgb_of(planes[0], planes[1], planes[2], color, depth)


def sdr_yuv420(frame: VideoFrame, width: int | None = None, height: int | None = None) -> VideoFrame:
    """Convert a frame to 8-bit 4:2:0 in video range, for an SDR encoder.

    `width` and `height`, if given, are the size to scale to, before rotation. Plain SDR YUV keeps its matrix, primaries
    and transfer tags, or stays untagged. RGB and converted frames become BT.709 and are tagged as BT.709. Raises
    UnreadableVideo as `color_of` does.
    """
    color = color_of(frame)
    flags, limited = Interpolation.BICUBIC | _ACCURATE, ColorRange.MPEG
    if color.matrix in _SWSCALE and color.is_plain_sdr:
        matrix = _SWSCALE[color.matrix]
        made = frame.reformat(width, height, "yuv420p", matrix, matrix, flags, dst_color_range=limited, threads=1)
        keeps = frame.colorspace == _UNTAGGED or _MATRICES.get(frame.colorspace) in _SWSCALE
        made.colorspace = frame.colorspace if keeps else _MATRIX_NUMBER[color.matrix]
        return made
    rgb = frame if _swscale_suffices(color) else VideoFrame.from_ndarray(to_sdr_rgb(frame, width, height))
    made = rgb.reformat(width, height, "yuv420p", None, Colorspace.ITU709, flags, dst_color_range=limited, threads=1)
    made.color_primaries, made.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    made.pts = frame.pts
    if frame.time_base is not None:
        made.time_base = frame.time_base
    return made


def _refused(what: str) -> UnreadableVideo:
    return UnreadableVideo(f"color: {what} is not supported; convert the video to BT.709 SDR first", "decode")


def _is_dolby_profile_5(frame: VideoFrame) -> bool:
    """Whether the frame is Dolby Vision profile 5, whose base layer only Dolby Vision players can show.

    Profiles 7 and 8 tag their base layer as PQ, HLG or SDR; profile 5 leaves it untagged. The profile cannot be read
    directly, because PyAV does not expose the stream's configuration record.
    """
    if frame.color_trc != ColorTrc.UNSPECIFIED or _bits(frame) < 10:
        return False
    try:
        return any(data.type.name.startswith("DOVI") for data in cast(Iterable[SideData], frame.side_data))
    except ValueError:  # PyAV does not know every type of side data
        return False


def _swscale_suffices(color: Color) -> bool:
    """Whether swscale alone converts such a frame to correct SDR RGB."""
    return color.is_plain_sdr and (color.matrix == "gbr" or color.matrix in _SWSCALE)


def _planar_format(frame: VideoFrame) -> tuple[str, int]:
    """Return a planar 4:4:4 format that holds every bit of the frame, and its depth."""
    depth = next((d for d in (8, 10, 12, 14) if _bits(frame) <= d), 16)
    family = "gbrp" if frame.format.is_rgb or frame.format.has_palette else "yuv444p"
    return (family if depth == 8 else f"{family}{depth}le"), depth


def _bits(frame: VideoFrame) -> int:
    return max((component.bits for component in frame.format.components), default=0)


def _planes(frame: VideoFrame, depth: int) -> list[np.ndarray]:
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        samples = rows if depth == 8 else rows.view("<u2")
        planes.append(samples[:, : plane.width])
    return planes


def _converted(merged: np.ndarray, color: Color, depth: int) -> np.ndarray:
    """Convert merged planes to SDR RGB uint8 (h, w, 3) in linear light."""
    linear = _light(merged, color, depth)
    if color.is_hdr:
        linear = _tone_mapped(linear)
    if color.primaries in _CHROMATICITIES:
        linear = _in_gamut(cv2.transform(linear, _to_bt709(color.primaries)))
    encoded = cv2.pow(np.maximum(linear, 0), 1 / _GAMMA)  # the inverse EOTF of ITU-R BT.1886
    return cv2.convertScaleAbs(encoded, alpha=255)


def _coded(merged: np.ndarray, color: Color, depth: int) -> np.ndarray:
    """Nonlinear R'G'B' as uint16 (h, w, 3), 0 to `_STEPS`."""
    return cv2.transform(merged.astype(np.uint16, copy=False), _to_rgb(color.matrix, color.full_range, depth, _STEPS))


@functools.cache
def _to_rgb(matrix: str, full_range: bool, depth: int, top: int) -> np.ndarray:
    """The affine map (3, 4) from samples of `depth` bits to R'G'B' of 0 to `top` (ITU-T H.273, 8.3)."""
    if matrix == "gbr":
        rows = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    elif matrix == "ycgco":
        rows = np.array([[1.0, -1, 1], [1, 1, 0], [1, -1, -1]])
    else:
        red, blue = _RED_BLUE[matrix]
        green = 1 - red - blue
        b, r = 2 - 2 * blue, 2 - 2 * red
        rows = np.array([[1, 0, r], [1, -b * blue / green, -r * red / green], [1, b, 0]])
    step = 1 << (depth - 8)
    chroma_zero = 0 if matrix == "gbr" else 128 * step
    offset = np.array([0 if full_range else 16 * step, chroma_zero, chroma_zero])
    span = np.full(3, (1 << depth) - 1) if full_range else np.array([219, 224, 224]) * step
    if matrix == "gbr" and not full_range:
        offset, span = np.full(3, 16 * step), np.full(3, 219 * step)
    rows = rows * top / span
    return np.column_stack([rows, -rows @ offset]).astype(np.float32 if top == 255 else np.float64)


@functools.cache
def _linear(transfer: str) -> np.ndarray:
    """Lookup table from coded value to linear display light, float32 (65536,); 1 is SDR white."""
    return _TO_LINEAR.get(transfer, _power)(np.arange(_STEPS + 1) / _STEPS).astype(np.float32)


def _pq(coded: np.ndarray) -> np.ndarray:
    """EOTF of SMPTE ST 2084 (ITU-R BT.2100, table 4)."""
    power = coded ** (1 / 78.84375)
    ratio = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
    return ratio ** (1 / 0.1593017578125) * (10_000 / _WHITE_NITS)


def _hlg(coded: np.ndarray) -> np.ndarray:
    """Inverse OETF of ARIB STD-B67, and system gamma 1.2 for a display of 1000 nits (ITU-R BT.2100, table 5).

    The gamma is applied to each component, as zscale does and as SDR displays do; BT.2100 applies it to luminance.
    """
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)
    return scene**1.2 * (_HLG_NITS / _WHITE_NITS)


def _power(coded: np.ndarray) -> np.ndarray:
    return coded**_GAMMA


_TO_LINEAR: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "smpte2084": _pq,
    "arib-std-b67": _hlg,
    "linear": lambda coded: coded,
    "log100": lambda coded: np.where(coded > 0, 10 ** (2 * (coded - 1)), 0),
    "log316": lambda coded: np.where(coded > 0, 10 ** (2.5 * (coded - 1)), 0),
}


def _light(merged: np.ndarray, color: Color, depth: int) -> np.ndarray:
    """Linear display light, float32 (h, w, 3), in the primaries of the frame; 1 is SDR white."""
    return np.take(_linear(color.transfer), _coded(merged, color, depth))


def _tone_mapped(linear: np.ndarray) -> np.ndarray:
    """Scale the light of each pixel so that its largest component is at most 1; hue and saturation do not change.

    The curve is the identity up to the knee. Above it is t (1 + t / p^2) / (1 + t), which maps p to 1 (Reinhard et al.
    2002, equation 4), scaled to the rest of the range. The curve is the same for every frame: a curve that
    followed each frame's own peak would make a video flicker.
    """
    red, green, blue = cv2.split(linear)
    largest = cv2.max(cv2.max(red, green), blue)
    room, white = 1 - _KNEE, (_PEAK - _KNEE) / (1 - _KNEE)
    above = np.maximum(largest - np.float32(_KNEE), 0) * np.float32(1 / room)
    shoulder = np.minimum(above * (1 + above * np.float32(white**-2)) / (1 + above), 1)
    mapped = np.minimum(largest, np.float32(_KNEE)) + np.float32(room) * shoulder
    return _times(linear, mapped / np.maximum(largest, _TINY))


def _in_gamut(linear: np.ndarray) -> np.ndarray:
    """Move colors outside of 0 to 1 towards the grey of their luminance until they are inside."""
    red, green, blue = cv2.split(linear)
    low, high = cv2.min(cv2.min(red, green), blue) + _CLIPPED, cv2.max(cv2.max(red, green), blue) - _CLIPPED
    inside = (low >= 0) & (high <= 1)
    if inside.all():
        return linear
    luminance = np.clip(cv2.transform(linear, _luminance_weights("bt709")), 0, 1)
    share = luminance / np.maximum(luminance - np.minimum(low, 0), _TINY)
    share = np.minimum(share, (1 - luminance) / np.maximum(np.maximum(high, 1) - luminance, _TINY))
    share[inside] = 1
    grey = luminance * (1 - share)
    return _times(linear, share) + cv2.merge([grey, grey, grey])


def _times(linear: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Multiply (h, w, 3) by (h, w). OpenCV does it several times faster than NumPy broadcasting."""
    return cv2.multiply(linear, cv2.merge([factor, factor, factor]))


@functools.cache
def _to_bt709(primaries: str) -> np.ndarray:
    """Matrix (3, 3) from linear RGB of these primaries to linear BT.709 RGB, with Bradford white point adaptation."""
    if primaries not in _CHROMATICITIES:
        return np.eye(3, dtype=np.float32)
    source, target = _to_xyz(primaries), _to_xyz("bt709")
    adapt = np.diag((_BRADFORD @ target.sum(axis=1)) / (_BRADFORD @ source.sum(axis=1)))
    return (np.linalg.inv(target) @ np.linalg.inv(_BRADFORD) @ adapt @ _BRADFORD @ source).astype(np.float32)


def _to_xyz(primaries: str) -> np.ndarray:
    """Matrix (3, 3) from linear RGB to CIE XYZ; white has luminance 1 (SMPTE RP 177)."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in _CHROMATICITIES[primaries]]).T
    return columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3])


@functools.cache
def _luminance_weights(primaries: str) -> np.ndarray:
    """Weights (1, 3) of linear R, G and B in luminance."""
    return _to_xyz(primaries if primaries in _CHROMATICITIES else "bt709")[1:2].astype(np.float32)
