"""The histogram's picture: heights that can be read back."""

import re

import numpy as np

from curation.browse.panel import bars_svg
from curation.browse.scores import BARS


def test_bars_are_as_high_as_their_counts() -> None:
    every, kept = np.zeros(BARS, np.int64), np.zeros(BARS, np.int64)
    every[[3, 4, 5]] = [1000, 500, 1]
    kept[3] = 250
    paths = re.findall(r' d="([^"]*)"', bars_svg(every, kept))
    bars = [re.findall(r"M(\d+)\.1 36v-([\d.]+)h", path) for path in paths]
    assert [[(int(i), float(h)) for i, h in path] for path in bars] == [[(3, 36.0), (4, 18.0), (5, 1.0)], [(3, 9.0)]]
    assert re.findall(r' d="([^"]*)"', bars_svg(kept * 0, kept * 0)) == ["", ""]
