"""What may be a transition: three PySceneDetect detectors at three frame rates, and our own cue.

Stable Video Diffusion runs three detectors at three rates and thresholds so that slow changes are seen as well as hard
cuts (arXiv 2311.15127, appendix C); it does not publish the values. Ours: the adaptive detector on every frame, the
content detector at 6 fps, the histogram detector at 2 fps, all sensitive.
"""

import cv2
import numpy as np
from scenedetect.common import FrameTimecode
from scenedetect.detector import SceneDetector
from scenedetect.detectors import AdaptiveDetector, ContentDetector, HistogramDetector

from curation.config import CutSettings
from curation.cuts.footage import OpenFootage
from curation.cuts.transitions import difference, likeness

_TICK = 4  # frames from one look of our own cue to the next
_LAGS = (16, 40)  # frames between which our own cue looks for slow change


class Suspects:
    """Collects the stretches, in positions of kept frames, that the network is to look at."""

    def __init__(self, settings: CutSettings, fps: float) -> None:
        self.spans: list[tuple[int, int]] = []  # first and last position
        self.content = 0.0  # HSV difference (0-255) of the last frame to the one before
        self._fps = fps
        self._adaptive = _Adaptive(
            adaptive_threshold=settings.hard_threshold, min_scene_len=1, min_content_val=settings.hard_min_content
        )
        self._slow = [
            _Slow(ContentDetector(threshold=settings.medium_threshold, min_scene_len=0), settings.medium_fps),
            _Slow(HistogramDetector(threshold=settings.slow_threshold, min_scene_len=0), settings.slow_fps),
        ]

    def detect(self, position: int, time: float, bgr: np.ndarray) -> list[int]:
        """Show the next frame to the detectors. Returns the positions at which it reveals a hard cut."""
        timecode = FrameTimecode(position, self._fps)
        hits = [hit.frame_num for hit in self._adaptive.process_frame(timecode, bgr)]
        self.content = self._adaptive.content
        self.spans += [(at, at) for at in hits]
        for slow in self._slow:
            if seen := slow.push(timecode, time, bgr):
                self.spans.append(seen)
        return hits

    def look_back(self, footage: OpenFootage) -> None:
        """Our own cue on the last frame: blank frames, and change that is too slow for the detectors."""
        at = footage.end - 1
        now = footage[at].signature
        if now.blank or footage[at].suspect is not None:
            self.spans.append((at, at))
        if at % _TICK == 0:
            for lag in _LAGS:
                if at - lag >= footage.first:
                    then = footage[at - lag].signature
                    if difference(now.colour, then.colour) >= 4 and likeness(now.luma, then.luma) < 0.9:
                        self.spans.append((at - lag, at))

    def forget_before(self, position: int) -> None:
        self.spans = [span for span in self.spans if span[1] >= position]


class _Adaptive(AdaptiveDetector):
    """PySceneDetect's detector with its score from one pass over the frame instead of nine: the weights of hue,
    saturation and value are equal, so the mean of their three mean differences is that of all bytes."""

    _last: np.ndarray | None = None

    @property
    def content(self) -> float:
        """HSV difference (0-255) of the last frame to the one before."""
        return self._frame_score or 0.0

    def _calculate_frame_score(self, timecode: FrameTimecode, frame_img: np.ndarray) -> float:
        last, self._last = self._last, cv2.cvtColor(frame_img, cv2.COLOR_BGR2HSV)
        return 0.0 if last is None else cv2.norm(last, self._last, cv2.NORM_L1) / last.size


class _Slow:
    """A detector that sees the video at its own frame rate."""

    def __init__(self, detector: SceneDetector, fps: float) -> None:
        self.detector = detector
        self.fps = fps
        self._next = 0.0
        self._last: int | None = None

    def push(self, frame: FrameTimecode, time: float, bgr: np.ndarray) -> tuple[int, int] | None:
        """The two frames between which it saw a change, if it did."""
        if time + 1e-6 < self._next:
            return None
        self._next = (np.floor(time * self.fps + 1e-6) + 1) / self.fps
        before, self._last = self._last, frame.frame_num
        hits = self.detector.process_frame(frame, bgr)
        return (before, frame.frame_num) if hits and before is not None else None
