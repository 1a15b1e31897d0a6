"""Read frames at exact presentation times, decoded as in curation: upright, deinterlaced, in SDR.

Times are seconds since a video's first frame. The frame at time t is the last frame that starts at or before t.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from curation.errors import CurationError
from curation.video.decoder import Decoder
from curation.video.frame import Frame
from curation.video.reader import Origin, Reader
from training.errors import TrainingError

TOLERANCE_S = 6e-4  # a frame at most this late counts as shown: Matroska rounds to milliseconds


@dataclass
class FrameReader:
    """Reads frames as RGB uint8 of one size: scaled to cover `height` x `width`, cropped at the center."""

    height: int
    width: int
    _reader: Reader = field(default_factory=Reader, repr=False)

    def at(self, uri: str, times: np.ndarray, aspect: float, origin: Origin = (0.0, None)) -> np.ndarray:
        """Return the frames shown at `times` (n,), in increasing seconds: uint8 (n, height, width, 3).

        `aspect` is the display width over the display height. `origin` is a time and its time stamp, from the manifest;
        with a stamp, a seek replaces reading the file from its beginning. Raises TrainingError if the file cannot be
        read.
        """
        out = np.empty((len(times), self.height, self.width, 3), np.uint8)
        filled = 0
        shown: Frame | None = None
        for frame in self._frames(uri, float(times[0]) + TOLERANCE_S, float(times[-1]) + 2 * TOLERANCE_S, origin):
            due = int(np.searchsorted(times, frame.time - TOLERANCE_S, "left"))
            if shown is not None and due > filled:
                out[filled:due] = self._fit(shown.full_rgb(), aspect)
                filled = due
            shown = frame
        if shown is None:
            raise TrainingError(f"{uri}: no frame at {times[0]:.3f} s; select again without this video")
        if filled < len(times):
            out[filled:] = self._fit(shown.full_rgb(), aspect)
        return out

    def span(
        self, uri: str, start: float, end: float, aspect: float, origin: Origin = (0.0, None)
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return every frame that starts in [start, end), uint8 (n, height, width, 3), and the start times (n,).

        If no frame starts there, return the frame on screen at `start`. Raises TrainingError if the file cannot be
        read.
        """
        pixels: list[np.ndarray] = []
        times: list[float] = []
        for frame in self._frames(uri, start, end, origin):
            if times and times[0] < start - TOLERANCE_S:
                pixels, times = [], []  # drop the frame on screen at `start`, which began earlier
            pixels.append(self._fit(frame.full_rgb(), aspect))
            times.append(frame.time)
        if not times:
            raise TrainingError(f"{uri}: no frame in {start:.3f} to {end:.3f} s; select again without this video")
        return np.stack(pixels), np.array(times)

    def _frames(self, uri: str, start: float, end: float, origin: Origin) -> Iterator[Frame]:
        try:
            yield from self._reader.read(uri, start, end, origin)
        except CurationError as error:
            raise TrainingError(f"{error}; select again without this video") from error

    def _fit(self, pixels: np.ndarray, aspect: float) -> np.ndarray:
        """Scale to square pixels and crop, in one resampling."""
        h, w = pixels.shape[:2]
        target = self.width / self.height
        box_w, box_h = (w * target / aspect, h) if aspect > target else (w, h * aspect / target)
        left, top = (w - box_w) / 2, (h - box_h) / 2
        size, box = (self.width, self.height), (left, top, left + box_w, top + box_h)
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, box))


def aspect_of(uri: str) -> float:
    """Return display width over display height of a video's first frame. Raises TrainingError if it cannot be read."""
    try:
        frame = next(iter(Decoder(uri, threads=1)))
    except CurationError as error:
        raise TrainingError(str(error)) from error
    return frame.width / frame.height
