"""A video file that sampling is given: decoded and resized as training's clips are."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.errors import TrainingError
from training.frames import TOLERANCE_S, FrameReader, aspect_of


def read_source(field: str, path: str, frames: int, fps: float, height: int, width: int) -> Tensor:
    """The first `frames` frames of a file at `fps`, (1, 3, t, height, width) in [-1, 1].

    Raises TrainingError, naming the configuration's `field`, where the file cannot be read or has fewer frames.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise TrainingError(f"{field}: {path} is no file; name a video")
    times = np.arange(frames) / fps
    try:
        aspect = aspect_of(str(file))
        pixels, starts = FrameReader(height, width).span(str(file), 0.0, times[-1] + 2 * TOLERANCE_S, aspect)
    except TrainingError as error:
        raise TrainingError(f"{field}: {path} is no video that can be read ({error.__cause__ or error})") from error
    shown = np.searchsorted(starts, times + TOLERANCE_S, "right") - 1
    if (different := len(set(shown))) < frames:
        raise TrainingError(
            f"{field}: {path} shows {different} different frames in {frames} at {fps:g} a second; ask for fewer frames "
            "or another fps"
        )
    return torch.from_numpy(pixels[shown]).movedim(-1, 0)[None].float() / 127.5 - 1
