import numpy as np
import pytest

from tests.training.conftest import write_video
from training.errors import TrainingError
from training.source import read_source


def test_frames_are_those_at_their_times(footage):
    """Grey brightens by 8 levels a frame of 12 a second."""
    video = read_source("source", footage.rows[0]["uri"], 4, 6.0, 12, 16)
    assert video.shape == (1, 3, 4, 12, 16)
    grey = (video[0, :, :, 0].mean((0, 2)) + 1) * 127.5
    assert np.allclose(grey, [20 + 16 * i for i in range(4)], atol=4)


def test_the_picture_is_cropped_and_not_squeezed(tmp_path):
    write_video(tmp_path / "v.mp4", (255, 0, 0), 2)  # a square of 16 x 16 in 64 x 48
    (red,) = read_source("source", str(tmp_path / "v.mp4"), 1, 1.0, 48, 48)[0, 0] > 0.5
    rows, columns = red.any(1).sum(), red.any(0).sum()
    assert rows == 16
    assert columns in (8, 9)  # its left half is outside of the middle 48 columns


@pytest.mark.parametrize(
    ("frames", "fps", "message"),
    [(40, 12.0, "24 different frames in 40"), (8, 24.0, "ask for fewer frames or another")],
)
def test_too_few_frames_are_said(footage, frames, fps, message):
    with pytest.raises(TrainingError, match=message):
        read_source("source", footage.rows[0]["uri"], frames, fps, 12, 16)


def test_what_is_no_video_is_said_with_its_field(tmp_path):
    (tmp_path / "x.mp4").write_text("no video")
    with pytest.raises(TrainingError, match=r"control: .*x\.mp4 is no video that can be read"):
        read_source("control", str(tmp_path / "x.mp4"), 2, 8.0, 12, 16)
    with pytest.raises(TrainingError, match="source: .* is no file"):
        read_source("source", str(tmp_path), 2, 8.0, 12, 16)
