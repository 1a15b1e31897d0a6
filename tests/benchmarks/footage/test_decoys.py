"""Decoys stay inside the shot and are what they say."""

import numpy as np
import pytest

from benchmarks.footage.decoys import DECOYS
from tests.curation.conftest import texture

HEIGHT, WIDTH = 72, 128


def shot() -> np.ndarray:
    wide = texture(1, HEIGHT, WIDTH + 160)
    return np.stack([wide[:, 2 * i : 2 * i + WIDTH] for i in range(80)])


@pytest.mark.parametrize("name", DECOYS)
@pytest.mark.parametrize("seed", range(4))
def test_only_the_frames_that_are_told_change(name, seed):
    before = shot()
    after, first, last = DECOYS[name](before, np.random.default_rng(seed))
    assert after.shape == before.shape
    assert after.dtype == np.uint8
    assert 0 <= first < last <= len(before)
    np.testing.assert_array_equal(after[last + 1 :], before[last + 1 :]) if name not in {"zoom", "whip"} else None
    if name != "zoom":  # it may begin close and open up
        np.testing.assert_array_equal(after[:first], before[:first])
    assert (after != before).any()


def test_what_is_stuck_stands_still_and_leaps():
    after, first, last = DECOYS["stuck"](shot(), np.random.default_rng(0))
    assert (after[first:last] == after[first]).all()
    assert (after[last] != after[last - 1]).any()
