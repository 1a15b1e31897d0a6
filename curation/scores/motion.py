"""How much and how a clip moves: mean optical flow (Blattmann et al. 2023, appendix C) and what the camera does.

Flow between neighbouring 2 fps frames; each flow map is reduced to 16 px on the short side, and the magnitude is then
averaged over time and space, in this order: opposite motions inside one cell cancel. No pair straddles a cut.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from curation.config import MotionSettings
from curation.scores.base import ClipFrames, Column, Resources, Scorer
from curation.scores.raft import UPDATES, Raft
from curation.weights import Resolved, raft_model, resolve

# Farneback's parameters are part of the score's definition: another window or depth gives other magnitudes.
FARNEBACK = {
    "pyr_scale": 0.5,
    "levels": 5,
    "winsize": 15,
    "iterations": 3,
    "poly_n": 5,
    "poly_sigma": 1.2,
    "flags": 0,
}
DIS = {"dis_preset": "fast"}
# As far as shifts of 144 px pictures were measured (benchmarks/motion.py); it reads far too little beyond.
HOLDS = {"farneback": "; holds to 12 px", "dis": "; holds to 32 px"}
DIS_LEAST = 16  # px; below, OpenCV raises or crashes
SHORT_SIDE = 16
STILL = 1.0  # percent of the short side per second below which the camera stands still
AGREEMENT = 0.5  # share of the picture that has to follow the camera model
PERCENTILES = (5, 50, 95)
BUCKET_FULL = 100.0  # percent of the short side per second that fills the last bucket


def flow_map(
    previous: np.ndarray, current: np.ndarray, method: str = "farneback", short_side: int = SHORT_SIDE
) -> np.ndarray:
    """Optical flow from `previous` to `current` by Farneback (2003) or DIS (Kroeger et al. 2016), reduced in space.

    Both are uint8 grey pictures (h, w) of one size. Returns float16 (h', w', 2) as `reduced` does. Raises ValueError on
    pictures that do not fit together.
    """
    if previous.ndim != 2 or previous.shape != current.shape or previous.dtype != np.uint8 or current.dtype != np.uint8:
        raise ValueError(
            f"flow needs two uint8 grey pictures of one size, not {previous.shape} {previous.dtype} "
            f"and {current.shape} {current.dtype}"
        )
    if method == "dis":
        if min(previous.shape) < DIS_LEAST:
            raise ValueError(f"DIS needs pictures of {DIS_LEAST} px or more, not {previous.shape}")
        # One for each call: it keeps buffers, which threads must not share.
        dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        try:
            flow = dis.calc(np.ascontiguousarray(previous), np.ascontiguousarray(current), None)  # type: ignore[call-overload]
        except cv2.error as error:  # its coarsest scale has no rows left
            raise ValueError(f"DIS cannot work on frames of {previous.shape}; set motion.method farneback") from error
    elif method == "farneback":
        flow = cv2.calcOpticalFlowFarneback(previous, current, None, **FARNEBACK)  # type: ignore[call-overload]
    else:
        raise ValueError(f"{method} is no method of the single pass")
    return reduced(flow, short_side)


def reduced(flow: np.ndarray, short_side: int = SHORT_SIDE) -> np.ndarray:
    """A flow map (h, w, 2) as float16 (h', w', 2) whose short side is `short_side` cells (or its own, if smaller).

    Displacement x right and y down, still in pixels of the pictures that the flow was computed on.
    """
    size = reduced_size(flow.shape[1], flow.shape[0], short_side)
    return cv2.resize(flow, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], 2).astype(np.float16)


def reduced_size(width: int, height: int, short_side: int = SHORT_SIDE) -> tuple[int, int]:
    """(width, height) in cells of the reduced map of a flow of this size."""
    scale = min(1.0, short_side / min(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def camera_motion(flow: np.ndarray, flow_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Fit translation and zoom to each flow map, robustly: what moves by itself should not move the camera.

    The content at (x, y) from the picture's centre moves by (-dx + zoom x, -dy + zoom y), where the camera turned or
    travelled by (dx, dy); so a camera that pans right has dx > 0 although the picture's content goes left.

    `flow` is (pairs, h, w, 2) in pixels of `flow_size` (width, height). Returns (pairs, 3): dx, dy in those pixels and
    zoom as relative growth, all per interval; and (pairs,): the share of cells that agree with the fit.
    Iteratively reweighted least squares with Cauchy weights (Holland and Welsch 1977).
    """
    pairs, rows, columns, _ = flow.shape
    width, height = flow_size
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float64)
    x = (x.ravel() + 0.5) * (width / columns) - width / 2
    y = (y.ravel() + 0.5) * (height / rows) - height / 2
    one, zero = np.ones_like(x), np.zeros_like(x)
    # Unknowns: content shift in x and y, zoom. Rows: all horizontal, then all vertical equations.
    design = np.concatenate([np.stack([one, zero, x], 1), np.stack([zero, one, y], 1)])
    products = (design[:, :, None] * design[:, None, :]).reshape(-1, 9)
    tolerance = 0.005 * min(width, height)
    targets = flow.astype(np.float64).transpose(0, 3, 1, 2).reshape(pairs, 2 * rows * columns)
    # The median is the start: from the mean, a large object could pull the fit to itself.
    shift = np.median(targets.reshape(pairs, 2, rows * columns), axis=-1)
    fit = np.concatenate([shift, np.zeros((pairs, 1))], axis=1)
    for _ in range(12):  # all pairs at once
        residual = np.linalg.norm((targets - fit @ design.T).reshape(pairs, 2, rows * columns), axis=1)
        weight = np.tile(1 / (1 + (residual / tolerance) ** 2), 2)
        normal = (weight @ products).reshape(pairs, 3, 3) + 1e-9 * np.eye(3)
        fit = np.linalg.solve(normal, ((weight * targets) @ design)[..., None])[..., 0]
    residual = np.linalg.norm((targets - fit @ design.T).reshape(pairs, 2, rows * columns), axis=1)
    speed = np.linalg.norm((fit @ design.T).reshape(pairs, 2, rows * columns), axis=1)
    agreement = np.mean(residual < 2 * tolerance + 0.25 * speed, axis=1)
    return fit * [-1, -1, 1], agreement


def name_camera(vectors: np.ndarray, agreement: np.ndarray, flow_size: tuple[int, int], fps: float) -> str:
    """One word for the camera over a clip.

    static | pan left | pan right | tilt up | tilt down | zoom in | zoom out | shake (moves to and fro) |
    complex (no pan, tilt and zoom explains half of the picture in most pairs). A zoom weighs as far as it moves the
    picture's edge: zoom times half the short side.
    """
    if np.median(agreement) < AGREEMENT:
        return "complex"
    short = min(flow_size)
    speeds = vectors * np.array([1, 1, short / 2]) * (100 * fps / short)  # percent of the short side per second
    mean = speeds.mean(0)
    if np.abs(mean).max() >= STILL and np.linalg.norm(mean) >= 0.4 * np.linalg.norm(speeds, axis=1).mean():
        axis = int(np.abs(mean).argmax())
        names = (("pan left", "pan right"), ("tilt up", "tilt down"), ("zoom out", "zoom in"))
        return names[axis][int(mean[axis] > 0)]
    return "shake" if np.abs(speeds).max(1).mean() >= STILL else "static"


def motion_bucket(motion: float, flow_size: tuple[int, int], fps: float) -> int:
    """Motion as a whole number 0..255, to condition a model on.

    With r = motion in percent of the short side per second, bucket = round(255 ln(1 + r) / ln(1 + 100)), at most 255:
    fine steps where little moves, the last bucket at one short side per second. Independent of flow size and rate.
    """
    rate = 100 * motion * fps / min(flow_size)
    return min(255, round(255 * float(np.log1p(rate) / np.log1p(BUCKET_FULL))))


class Motion(Scorer):
    """Flow magnitude and camera motion, from the flow maps that decoding left or, with RAFT, from its grey samples."""

    name = "motion"
    version = 1

    def __init__(self, settings: MotionSettings | None = None, folder: str = "") -> None:
        self.config = settings or MotionSettings()
        self.folder = folder
        self._raft: Raft | None = None
        raft = self.config.method == "raft"
        self.sees = ("samples",) if raft else ("flow",)  # type: ignore[misc]
        self.resources = Resources(cpus=1, gpus=0.1, memory_gb=3) if raft else Resources()
        self.batch_size = 64 if raft else type(self).batch_size  # several of the network's batches

    @property
    def columns(self) -> Sequence[Column]:
        unit = "px of flow size / interval"
        held = HOLDS.get(self.config.method, "")
        return [
            Column("motion", pa.float32(), f"mean flow magnitude over time and space{held}", unit),
            *(
                Column(f"motion_p{p:02d}", pa.float32(), f"{p}th percentile of it over time and space", unit)
                for p in PERCENTILES
            ),
            Column("camera", pa.string(), "static, pan, tilt or zoom with its direction, shake or complex"),
            Column("camera_vector", pa.list_(pa.float32()), "mean camera motion: dx right, dy down, zoom", unit),
            Column("motion_bucket", pa.int32(), "255 ln(1 + r) / ln(101), r = percent of the short side per second"),
        ]

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        said: dict[str, str | int | float | bool] = {
            "method": self.config.method,
            "fps": self.config.fps,
            "size_px": self.config.size_px,
            "short_side": SHORT_SIDE,
            "camera_still_percent_per_s": STILL,
            "camera_agreement": AGREEMENT,
            "bucket_full_percent_per_s": BUCKET_FULL,
        }
        if self.config.method == "farneback":
            return said | FARNEBACK
        if self.config.method == "dis":
            return said | DIS
        return said | {"raft_updates": UPDATES, "pixels": "luma"} | self._weights().identity("raft")

    @property
    def options(self) -> Mapping[str, Any]:
        return {f"motion.{name}": value for name, value in self.config}

    def load(self) -> None:
        """RAFT's weights, where it is the method. Raises MissingWeightsError."""
        if self.config.method == "raft" and self._raft is None:
            self._raft = Raft(self._weights().file())

    def score(self, clips: Sequence[ClipFrames], known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Raises ValueError for a clip without a pair of samples: no motion seen is not no motion."""
        if self.config.method != "raft":
            return [self._measure(clip.flow, clip.flow_size) for clip in clips]
        # One by one as they come: a card computes the next flow while the camera is fitted to this one.
        rows = {i: self._measure(maps, clips[i].flow_size) for i, maps in self._by_raft(clips)}
        return [rows[i] for i in range(len(clips))]

    def _by_raft(self, clips: Sequence[ClipFrames]) -> Iterator[tuple[int, np.ndarray]]:
        """(place, flow maps like those that decoding leaves). Clips of one size share the network's batches."""
        if self._raft is None:
            raise RuntimeError("load() comes first")
        sizes = [clip.flow_size if len(clip.samples) > 1 else None for clip in clips]
        for size in dict.fromkeys(sizes):
            alike = [i for i, s in enumerate(sizes) if s == size]
            if size is None:
                yield from ((i, np.zeros((0, 0, 0, 2), np.float16)) for i in alike)
                continue
            flows = self._raft.maps([p for i in alike for p in pairwise(clips[i].samples)], reduced_size(*size))
            for i in alike:
                gaps = np.diff(clips[i].sample_times) * self.config.fps  # in sampling intervals: the rate may vary
                yield i, np.stack([(next(flows) / gap).astype(np.float16) for gap in gaps])

    def _measure(self, maps: np.ndarray, flow_size: tuple[int, int]) -> dict[str, Any]:
        if len(maps) == 0:
            raise ValueError(f"no pair of {self.config.fps:g} fps samples lies inside the clip")
        flow = maps.astype(np.float32)
        if not np.isfinite(flow).all():
            raise ValueError("the flow holds values that are not finite")
        magnitude = np.linalg.norm(flow, axis=-1)
        motion = float(magnitude.mean())
        vectors, agreement = camera_motion(flow, flow_size)
        percentiles = np.percentile(magnitude, PERCENTILES)
        return {
            "motion": motion,
            **{f"motion_p{p:02d}": float(v) for p, v in zip(PERCENTILES, percentiles, strict=True)},
            "camera": name_camera(vectors, agreement, flow_size, self.config.fps),
            "camera_vector": [float(v) for v in vectors.mean(0)],
            "motion_bucket": motion_bucket(motion, flow_size, self.config.fps),
        }

    def _weights(self) -> Resolved:
        return resolve(raft_model(self.config.raft_weights), self.folder)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_raft": None}
