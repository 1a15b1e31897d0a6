import json

import numpy as np
from PIL import Image

from training.curve import draw_curve


def test_the_picture_shows_the_losses_that_are_returned(tmp_path):
    metrics, picture = tmp_path / "m.jsonl", tmp_path / "loss.png"
    metrics.write_text("".join(json.dumps({"samples": 4 * i, "loss": 1 / (i + 1)}) + "\n" for i in range(30)))
    assert draw_curve(metrics, picture, "image-pretrain") == [1 / (i + 1) for i in range(30)]
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    red = (pixels[..., 0] > 150) & (pixels[..., 1] < 100) & (pixels[..., 2] < 100)
    rows, columns = np.nonzero(red)
    # the smoothed curve falls from upper left to lower right
    assert rows[columns < np.quantile(columns, 0.1)].mean() < rows[columns > np.quantile(columns, 0.9)].mean() - 50


def test_no_losses_yet_is_an_empty_picture(tmp_path):
    (tmp_path / "m.jsonl").write_text("")
    assert draw_curve(tmp_path / "m.jsonl", tmp_path / "loss.png", "x") == []
    assert (tmp_path / "loss.png").stat().st_size > 0
