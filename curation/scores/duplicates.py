"""What a picture looks like in 64 bits: a difference hash of its live area, for every sample of a clip."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from curation.scores.base import ClipFrames, Column, Scorer
from curation.scores.live_area import Box, live_area

CELLS = (3, 8, 9)  # frames, rows and columns of grey levels in a `look`; three of colour follow
MIN_INFORMATION = 6  # bits by which a hash must differ from those of flat frames, plain gradients and vignettes
MARGIN = 1.0  # grey levels a neighbour must be brighter by, so that noise in flat areas codes nothing
FLAT = 6.0  # grey levels of standard deviation up to which a frame does not tell its borders
GROUND = 3.0  # grey levels by which a line may differ from the picture's ground and belong to it
LIVE_AREA_PX = 144  # short side at which frames are looked at for borders
_PLAIN = np.array([0, 0xF0F0F0F0F0F0F0F0], np.uint64)  # flat, and brighter to the right; their complements too


def difference_hash(gray: np.ndarray) -> np.uint64:
    """64-bit difference hash of a uint8 grey picture (h, w), borders taken off.

    The live area is averaged over 9x8 cells, so scaling and re-encoding leave all but a few bits. A bit says whether,
    of two cells side by side, the one nearer to the vertical middle line is brighter: so the hash of the mirrored
    picture is the same bits in another order (see `mirrored`). First row first, left to right, highest bit first.
    """
    if gray.ndim != 2 or gray.size == 0:
        raise ValueError(f"a difference hash needs a grey picture (h, w), not {gray.shape}")
    top, bottom, left, right = live_area(gray)
    picture = gray[top:bottom, left:right].astype(np.float32)
    # INTER_AREA only averages when shrinking; tiny pictures are first enlarged by whole factors.
    grow = (-(-8 // picture.shape[0]), -(-9 // picture.shape[1]))
    if max(grow) > 1:
        picture = np.kron(picture, np.ones(grow, np.float32))
    cells = cv2.resize(picture, (9, 8), interpolation=cv2.INTER_AREA)
    inward = np.diff(cells, axis=1)
    inward[:, 4:] *= -1
    return np.uint64(int.from_bytes(np.packbits(inward > MARGIN).tobytes(), "big"))


def mirrored(hashes: np.ndarray) -> np.ndarray:
    """The hashes, uint64, of the same pictures seen in a mirror: each row's eight bits in reverse. Its own inverse."""
    words = np.ascontiguousarray(hashes, np.uint64)
    bits = np.unpackbits(words.view(np.uint8).reshape(-1, 8), axis=1).reshape(-1, 8, 8)
    return np.packbits(bits[:, :, ::-1].reshape(-1, 64), axis=1).view(np.uint64).reshape(words.shape)


def hash_distance(a: np.ndarray | np.uint64, b: np.ndarray | np.uint64) -> np.ndarray:
    """Bits in which two hashes differ, elementwise (Hamming distance)."""
    return np.bitwise_count(np.bitwise_xor(a, b))


def information(hashes: np.ndarray) -> np.ndarray:
    """Bits by which each hash differs from the nearest of those of flat frames, plain gradients and vignettes."""
    ones = np.bitwise_count(hashes[..., None] ^ _PLAIN)
    return np.minimum(ones, 64 - ones).min(axis=-1)


def informative(hashes: np.ndarray) -> np.ndarray:
    """Whether a hash says more than that the frame is flat or a plain gradient, elementwise."""
    return information(hashes) >= MIN_INFORMATION


class PerceptualHash(Scorer):
    """Keeps the difference hashes of a clip's samples, by which `curation.duplicates` groups what looks the same, and
    what three frames look like, for what hashes cannot tell."""

    name = "perceptual_hash"
    version = 3

    @property
    def columns(self) -> Sequence[Column]:
        return [
            Column("phash", pa.list_(pa.uint64()), "64-bit difference hash of each sample, in order of time"),
            Column("live_area", pa.float32(), "share of the picture inside bars and borders, median of three frames"),
            Column(
                "look",
                pa.list_(pa.uint8()),
                "8x9 grey levels of first, middle and last frame, their mean red, green, blue",
            ),
        ]

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        return {
            "method": "inward dhash 9x8 of the live area, area averaged",
            "margin": MARGIN,
            "flat": FLAT,
            "ground": GROUND,
        }

    def score(self, clips: Sequence[ClipFrames], known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The hashes as they are, live area and look of the frames. Raises ValueError for a clip without samples."""
        if any(len(clip.hashes) == 0 for clip in clips):
            raise ValueError("no sample lies inside the clip")
        rows = []
        for clip in clips:
            size = _small_size(clip.frames[0].shape)  # the others' too, where a file changes its size
            small = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in clip.frames]
            grays = [cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) for rgb in small]
            boxes = [live_area(gray) for gray in grays]
            row = {"phash": [int(h) for h in clip.hashes]}
            shares = [
                (bottom - top) * (right - left) / gray.size
                for (top, bottom, left, right), gray in zip(boxes, grays, strict=True)
            ]
            rows.append(row | {"live_area": float(np.median(shares)), "look": _look(small, grays, boxes).tolist()})
        return rows


def _small_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Width and height of a frame (h, w, ...) whose short side is LIVE_AREA_PX at most."""
    factor = min(1.0, LIVE_AREA_PX / min(shape[:2]))
    return max(1, round(shape[1] * factor)), max(1, round(shape[0] * factor))


def _look(frames: Sequence[np.ndarray], grays: Sequence[np.ndarray], boxes: Sequence[Box]) -> np.ndarray:
    """Mean grey levels of a clip's frames in cells of one live area, frame by frame, row by row, then their mean
    colour: uint8 (219,).

    A border is there all the time: what is live in one frame is live. Frames that are nearly flat do not tell. What has
    the colour of the ground that the picture lies on is no border: there the edge is a title's, and found by chance.
    """
    told = [box for gray, box in zip(grays, boxes, strict=True) if gray.std() >= FLAT] or boxes
    top, left = (min(box[i] for box in told) for i in (0, 2))
    bottom, right = (max(box[i] for box in told) for i in (1, 3))
    still = np.median(grays, axis=0)
    ground = np.median(still[top:bottom, left:right])
    of_ground = [np.abs(np.median(lines, axis=1) - ground) <= GROUND for lines in (still, still.T)]
    top, bottom = _extended(of_ground[0], top, bottom)
    left, right = _extended(of_ground[1], left, right)
    size = CELLS[:0:-1]
    cells = [cv2.resize(g[top:bottom, left:right], size, interpolation=cv2.INTER_AREA) for g in grays]
    colour = np.mean([f[top:bottom, left:right].mean(axis=(0, 1)) for f in frames], axis=0)
    return np.append(np.stack(cells), np.round(colour).astype(np.uint8))


def _extended(ground: np.ndarray, start: int, end: int) -> tuple[int, int]:
    """The span with the lines beside it that are `ground`, bool (n,)."""
    while start > 0 and ground[start - 1]:
        start -= 1
    while end < len(ground) and ground[end]:
        end += 1
    return start, end
