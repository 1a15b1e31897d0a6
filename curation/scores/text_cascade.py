"""CRAFT where it is needed: two cheap looks at a frame say where text may be, and only there CRAFT measures it.

1. A frame that looks like an earlier one of its clip has that one's boxes.
2. PP-OCR's detector (DB, Liao et al. 2020) looks at the frame in small. It sees small text well and cheaply, and sees
   text where there is none: a large find counts only if a second, smaller look agrees.
3. Where it sees nothing, CRAFT itself glances at the frame in very small, for large and blurred letters that DB misses.
4. CRAFT measures what was found, each region at a size at which its letters are of moderate height. A region that
   looked the same to DB in an earlier frame of the clip has that one's boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from curation.scores.craft import Craft
from curation.scores.text_light import without_subnormals

# All of these belong to the score's definition.
CASCADE = {
    "look_px": 416,  # long side at which DB looks
    "second_look_px": 320,  # and looks again, where it found much
    "look_threshold": 0.3,  # DB's own binarisation threshold
    "second_look_threshold": 0.1,
    "much": 0.003,  # share of the frame from which a find needs the second look
    "glance_px": 128,  # long side at which CRAFT glances
    "glance_threshold": 0.3,
    "considerable": 0.2,  # of a region's largest find, the area from which a find's height counts
    "letter_px": 24,  # height to which larger letters are reduced
    "least_scale": 0.25,
    "doubtful_scale": 0.5,  # what is found at less, or is larger than this share of the frame, is measured unreduced
    "doubtful_share": 0.03,
    "margin_px": 10,  # of context around a find
    "growth": 0.6,  # DB marks the core of a line: about half of its height is missing
    "same_px_levels": 4,  # two frames are alike if no 5x5 px of one differ more, in grey levels
    "same_region": 0.9,  # intersection over union of what DB saw, from which two regions are alike
}


class Region(NamedTuple):
    """A part of a frame in pixels, x1 and y1 excluded, and the height of the lowest letters that may be in it."""

    x0: int
    y0: int
    x1: int
    y1: int
    letters: float


class TextFinder:
    """PP-OCR's text detector, run by ONNX Runtime."""

    def __init__(self, weights: Path, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        self._session = ort.InferenceSession(without_subnormals(weights), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def look(self, frame: np.ndarray, long_side: int) -> np.ndarray:
        """How surely each pixel is the core of a line of text, in 0..1, on an RGB uint8 frame (h, w, 3) in small.

        Returns float32 (h', w'), sides rounded to multiples of 32.
        """
        height, width = frame.shape[:2]
        scale = min(1.0, long_side / max(height, width))
        size = [max(32, round(side * scale / 32) * 32) for side in (width, height)]
        small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)[..., ::-1]
        pixels = small.transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1
        return np.asarray(self._session.run(None, {self._input: pixels})[0])[0, 0]


@dataclass(slots=True)
class _Seen:
    """What was found on one frame."""

    tiny: np.ndarray  # what makes it alike to another frame
    mask: np.ndarray  # bool: DB's finds
    regions: list[tuple[Region, np.ndarray]] = field(default_factory=list)  # with CRAFT's boxes

    @property
    def boxes(self) -> list[np.ndarray]:
        return [box for _, boxes in self.regions for box in boxes]


class TextCascade:
    """Finds the boxes that CRAFT would find, for a fraction of its time."""

    def __init__(self, finder: TextFinder, craft: Craft) -> None:
        self.finder, self.craft = finder, craft

    def __call__(self, frames: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Boxes on the frames of one clip, RGB uint8 (h, w, 3) of one size; each int32 (4, 2): corners x, y."""
        seen: list[_Seen] = []
        for frame in frames:
            tiny = _tiny(frame)
            alike = next((s for s in seen if _alike(s.tiny, tiny)), None)
            seen.append(alike or self._measure(frame, tiny, seen))
        return [s.boxes for s in seen]

    def _measure(self, frame: np.ndarray, tiny: np.ndarray, before: Sequence[_Seen]) -> _Seen:
        look = self.finder.look(frame, CASCADE["look_px"])
        mask = look > CASCADE["look_threshold"]
        if mask.mean() > CASCADE["much"]:
            mask = _confirmed(mask, self.finder.look(frame, CASCADE["second_look_px"]))
        now = _Seen(tiny, mask)
        regions = find_regions(mask, frame.shape)
        if mask.mean() <= CASCADE["much"]:
            regions = _joined([*regions, *self._glance(frame)], frame.shape)
        for region in regions:
            boxes = _known(region, mask, frame.shape, before)
            now.regions.append((region, self._look_closely(frame, region) if boxes is None else boxes))
        return now

    def _glance(self, frame: np.ndarray) -> list[Region]:
        """Where CRAFT suspects text in a very small picture of the frame."""
        height, width = frame.shape[:2]
        scale = min(1.0, CASCADE["glance_px"] / max(height, width))
        size = [max(16, round(side * scale)) for side in (width, height)]
        heat = self.craft.heat([cv2.resize(frame, size, interpolation=cv2.INTER_AREA)])[0]
        # a whole word hangs together by its links
        return find_regions(heat.max(-1) > CASCADE["glance_threshold"], frame.shape, core=1.0)

    def _look_closely(self, frame: np.ndarray, region: Region) -> np.ndarray:
        """CRAFT's boxes in a region, int32 (n, 4, 2) in the frame's pixels."""
        scale = float(np.clip(CASCADE["letter_px"] / region.letters, CASCADE["least_scale"], 1))
        heat, zoom, origin = self._heat(frame, region, scale)
        suspected = heat.max(-1) > CASCADE["glance_threshold"]
        if scale < CASCADE["doubtful_scale"] and not suspected.any():
            scale *= 2  # lines that DB has run together are less high than they seem
            heat, zoom, origin = self._heat(frame, region, scale)
            suspected = heat.max(-1) > CASCADE["glance_threshold"]
        if not suspected.any():
            return np.zeros((0, 4, 2), np.int32)
        boxes = self.craft.boxes(heat)
        share = sum(cv2.contourArea(box) for box in boxes) * zoom.prod() / frame[..., 0].size
        if scale < CASCADE["doubtful_scale"] or (scale < 1 and share > CASCADE["doubtful_share"]):
            # CRAFT's margins are relatively wider in a smaller picture, and DB may have run lines together.
            (x0, y0), (x1, y1) = (f(np.argwhere(suspected)[:, ::-1], axis=0) for f in (np.min, np.max))
            corners = (np.array([[x0, y0], [x1 + 1, y1 + 1]]) * 2 * zoom + origin).round().astype(int)
            x0, y0 = np.maximum(corners[0] - 3 * CASCADE["margin_px"], 0)
            x1, y1 = np.minimum(corners[1] + 3 * CASCADE["margin_px"], frame.shape[1::-1])
            part = int(x0), int(y0), int(x1), int(y1)
            heat, zoom, origin = self._heat(frame, Region(*part, region.letters), 1.0)
            boxes = self.craft.boxes(heat)
        return np.round(boxes * zoom + origin).astype(np.int32)

    def _heat(self, frame: np.ndarray, region: Region, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """CRAFT's scores in a region at a scale; the frame's pixels per pixel (x, y), and where they begin (x, y)."""
        x0, x1 = _grown(region.x0, region.x1, frame.shape[1], scale)
        y0, y1 = _grown(region.y0, region.y1, frame.shape[0], scale)
        part = frame[y0:y1, x0:x1]
        if scale < 1:
            size = (max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale)))
            part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        zoom = np.array([(x1 - x0) / part.shape[1], (y1 - y0) / part.shape[0]])
        return self.craft.heat([part])[0], zoom, np.array([x0, y0])


def find_regions(mask: np.ndarray, shape: tuple[int, ...], core: float = 0.5) -> list[Region]:
    """Upright rectangles of a frame (h, w, ...) around what a small mask (h', w') marks; none touches another.

    `core` is the share of a line's height that is marked.
    """
    height, width = shape[:2]
    sx, sy = width / mask.shape[1], height / mask.shape[0]
    count, _, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    finds = []
    covered = np.zeros((height, width), np.uint8)
    for x, y, w, h, area in boxes[1:count]:
        if area < 4:
            continue
        grow = CASCADE["growth"] * min(w, h)
        x0, y0 = (
            max(0, int((x - grow) * sx - CASCADE["margin_px"])),
            max(0, int((y - grow) * sy - CASCADE["margin_px"])),
        )
        x1, y1 = int((x + w + grow) * sx + CASCADE["margin_px"]), int((y + h + grow) * sy + CASCADE["margin_px"])
        covered[y0:y1, x0:x1] = 1
        finds.append((x0, y0, min(w * sx, h * sy) / core, area))
    regions = []
    for x, y, w, h in _rectangles(covered):
        inside = [(letters, area) for x0, y0, letters, area in finds if x <= x0 < x + w and y <= y0 < y + h]
        # specks beside a headline must not decide how closely the headline is looked at
        least = CASCADE["considerable"] * max(area for _, area in inside)
        regions.append(Region(x, y, x + w, y + h, float(min(height for height, area in inside if area >= least))))
    return regions


def _joined(regions: Sequence[Region], shape: tuple[int, ...]) -> list[Region]:
    """The regions, those that touch made one."""
    covered = np.zeros(shape[:2], np.uint8)
    for x0, y0, x1, y1, _ in regions:
        covered[y0:y1, x0:x1] = 1
    return [
        Region(x, y, x + w, y + h, min(r.letters for r in regions if x <= r.x0 < x + w and y <= r.y0 < y + h))
        for x, y, w, h in _rectangles(covered)
    ]


def _rectangles(covered: np.ndarray) -> list[tuple[int, int, int, int]]:
    """x, y, width, height of the rectangles around the parts of a mask, joined until none touches another."""
    while True:
        count, _, boxes, _ = cv2.connectedComponentsWithStats(covered, connectivity=8)
        for x, y, w, h, _ in boxes[1:count]:
            covered[y : y + h, x : x + w] = 1
        if count - 1 == 0 or int(boxes[1:count, cv2.CC_STAT_AREA].sum()) == int(covered.sum()):
            return [(int(x), int(y), int(w), int(h)) for x, y, w, h, _ in boxes[1:count]]


def _confirmed(mask: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The mask without its larger parts that a second look does not see at all."""
    second = cv2.resize(second, mask.shape[::-1])
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    kept = np.zeros(count, bool)
    for i, (x, y, w, h, area) in enumerate(boxes[1:count], 1):
        near = second[max(0, y - 2) : y + h + 2, max(0, x - 2) : x + w + 2]
        kept[i] = area < CASCADE["much"] * mask.size or near.max() > CASCADE["second_look_threshold"]
    return kept[labels.astype(int)]


def _known(region: Region, mask: np.ndarray, shape: tuple[int, ...], before: Sequence[_Seen]) -> np.ndarray | None:
    """The boxes of an earlier frame's region, if DB saw there just what it sees here now."""
    for seen in before:
        for old, boxes in seen.regions:
            x0, y0, x1, y1 = (f(a, b) for f, a, b in zip((min, min, max, max), region[:4], old[:4], strict=True))
            rows = slice(y0 * mask.shape[0] // shape[0], -(-y1 * mask.shape[0] // shape[0]))
            columns = slice(x0 * mask.shape[1] // shape[1], -(-x1 * mask.shape[1] // shape[1]))
            one, other = mask[rows, columns], seen.mask[rows, columns]
            union = np.count_nonzero(one | other)
            if union and np.count_nonzero(one & other) >= CASCADE["same_region"] * union:
                return boxes
    return None


def _grown(start: int, end: int, limit: int, scale: float) -> tuple[int, int]:
    """The span widened within 0..limit so that it has a multiple of 16 pixels at that scale."""
    wanted = min(limit, round(-(-(end - start) * scale // 16) * 16 / scale))
    start = min(max(0, start - (wanted - (end - start)) // 2), limit - wanted)
    return start, start + wanted


def _tiny(frame: np.ndarray) -> np.ndarray:
    """A fifth of the frame: int16, so that two can be subtracted."""
    size = [max(1, side // 5) for side in frame.shape[1::-1]]
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.int16)


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and int(np.abs(one - other).max()) <= CASCADE["same_px_levels"]
