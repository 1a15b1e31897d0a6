"""Real pictures and clips made of them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from curation.scores.base import ClipFrames


@pytest.fixture(scope="session")
def picture():
    """A photograph by name, RGB uint8, long side at most `side`; they come with scikit-image, which EasyOCR needs."""

    def load(name: str, side: int = 640) -> np.ndarray:
        import skimage

        (path,) = (Path(skimage.__file__).parent / "data").glob(f"{name}.*")
        frame = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        scale = side / max(frame.shape[:2])
        return cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else frame

    return load


@pytest.fixture(scope="session")
def clip_of():
    """A clip of the given frames, flow and hashes."""

    def build(*frames: np.ndarray, clip_id: str = "c", flow=None, flow_size=(256, 144), hashes=()) -> ClipFrames:
        frames = frames or (np.zeros((36, 64, 3), np.uint8),)
        height, width = frames[0].shape[:2]
        return ClipFrames(
            clip_id=clip_id,
            video_id="v",
            uri="v.mp4",
            start=0.0,
            end=2.0,
            fps=25.0,
            width=width,
            height=height,
            frames=frames,
            frame_times=tuple(float(i) for i in range(len(frames))),
            flow=np.zeros((1, 16, 28, 2), np.float16) if flow is None else flow,
            flow_size=flow_size,
            hashes=np.asarray(hashes, np.uint64),
        )

    return build
