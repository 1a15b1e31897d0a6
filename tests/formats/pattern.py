"""The test pattern: coloured corners, a frame number along the top, and a texture that moves by one pixel a frame.

The corners are red (top left), green (top right), blue (bottom left) and white (bottom right). The number has 12 bits,
the lowest first. All proportions are those of the files in ../shared/faults, so that one reader serves both.
"""

import functools
from collections.abc import Sequence

import cv2
import numpy as np

CORNERS = {"top left": (255, 0, 0), "top right": (0, 255, 0), "bottom left": (0, 0, 255), "bottom right": (255,) * 3}
_BITS = 12
_LEFT, _BIT_WIDTH, _HEIGHT, _CORNER = 60 / 320, 13 / 320, 20 / 240, 1 / 8
_LIGHT, _DARK = 230, 20


@functools.cache
def _texture(width: int, height: int) -> np.ndarray:
    """A texture that continues at its right edge where it began at its left one: uint8 (height, width, 3)."""
    noise = np.random.default_rng(7).standard_normal((height, width, 3)).astype(np.float32)
    tiled = np.concatenate([noise] * 3, axis=1)
    smooth = cv2.GaussianBlur(tiled, (0, 0), 6, borderType=cv2.BORDER_REFLECT)[:, width : 2 * width]
    return np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def draw(number: int, width: int = 160, height: int = 120, fields: int = 0) -> np.ndarray:
    """The frame with this number: RGB uint8 (height, width, 3).

    `fields` of 1 and -1 give an interlaced frame, whose top or bottom field comes first: the texture of its second
    field has moved on.
    """
    texture = _texture(2 * width, height)
    speed = 8 if fields else 1
    frame = np.roll(texture, -speed * number, axis=1)[:, :width].copy()
    if fields:
        later = np.roll(texture, -speed * number - speed // 2, axis=1)[:, :width]
        second = 1 if fields > 0 else 0
        frame[second::2] = later[second::2]
    x = round(width * _CORNER)
    y = round(width * _CORNER) if width < height else x
    for (vertical, horizontal), colour in zip((k.split() for k in CORNERS), CORNERS.values(), strict=True):
        rows = slice(None, y) if vertical == "top" else slice(-y, None)
        frame[rows, slice(None, x) if horizontal == "left" else slice(-x, None)] = colour
    for bit in range(_BITS):
        left, right = (round(width * (_LEFT + _BIT_WIDTH * (bit + edge))) for edge in (0, 1))
        frame[: round(height * _HEIGHT), left:right] = _LIGHT if number >> bit & 1 else _DARK
    return frame


def number_of(frame: np.ndarray) -> int:
    """The number along the top of an upright RGB frame of any size."""
    height, width = frame.shape[:2]
    gray = frame.astype(np.float32).mean(axis=2)
    rows = slice(max(1, round(height * _HEIGHT * 0.3)), max(2, round(height * _HEIGHT * 0.75)))
    white = _corner(frame, "bottom right").mean()
    number = 0
    for bit in range(_BITS):
        left, right = (width * (_LEFT + _BIT_WIDTH * (bit + edge)) for edge in (0.3, 0.7))
        level = gray[rows, int(left) : max(int(left) + 1, round(right))].mean()
        number |= int(level > 0.45 * white) << bit
    return number


def numbers_of(frames: Sequence[np.ndarray] | np.ndarray) -> list[int]:
    """The numbers of several frames."""
    return [number_of(frame) for frame in frames]


def corners_of(frame: np.ndarray) -> dict[str, str]:
    """The colour that each corner of an RGB frame shows: red, green, blue, white or other."""
    return {name: _name(_corner(frame, name)) for name in CORNERS}


UPRIGHT = {"top left": "red", "top right": "green", "bottom left": "blue", "bottom right": "white"}
"""The corners of an upright frame."""


def _corner(frame: np.ndarray, name: str) -> np.ndarray:
    """The mean colour in the middle of a corner."""
    height, width = frame.shape[:2]
    vertical, horizontal = name.split()
    y, x = height * 0.06, width * 0.05
    cy, cx = (y if vertical == "top" else height - y), (x if horizontal == "left" else width - x)
    part = frame[int(cy - y / 3) : int(cy + y / 3) + 1, int(cx - x / 3) : int(cx + x / 3) + 1]
    return part.reshape(-1, 3).astype(np.float32).mean(axis=0)


def _name(colour: np.ndarray) -> str:
    red, green, blue = (bool(c > 0.5 * colour.max()) for c in colour)
    named = {(True, False, False): "red", (False, True, False): "green", (False, False, True): "blue"}
    if red and green and blue and colour.min() > 100:
        return "white"
    return named.get((red, green, blue), "other")


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 arrays of one shape, in dB; 99 where they are equal."""
    error = float(np.mean((a.astype(np.float32) - b.astype(np.float32)) ** 2))
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


def comb(frame: np.ndarray) -> float:
    """How much stronger neighbouring rows differ than rows two apart: about 0.5 without a comb, 1 and more with one."""
    rows = frame[frame.shape[0] // 5 : -frame.shape[0] // 5, frame.shape[1] // 6 : -frame.shape[1] // 6]
    rows = rows.astype(np.float32)
    return float(np.abs(rows[1:-1] - rows[2:]).mean() / (np.abs(rows[:-2] - rows[2:]).mean() + 1.0))
