"""The network in numpy against the same layers in torch, and on pictures whose truth is known."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.cuts.network import REACH, Network, fitted
from curation.cuts.transitions import Signature
from tests.curation.conftest import texture

DILATIONS = {"t1": (1, 2, 4, 8), "t2": (1, 2, 4, 8, 16), "t3": (1, 4, 8, 16)}


def in_torch(w: dict[str, torch.Tensor], pictures: np.ndarray) -> np.ndarray:
    """The forward pass as the fitting script has it, channels first."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255

    def over_time(name: str, y: torch.Tensor) -> torch.Tensor:
        n, c, h, width = y.shape
        rows = y.permute(2, 3, 1, 0).reshape(h * width, c, n)
        parts = [
            F.conv1d(rows, w[f"{name}.{i}.weight"], w[f"{name}.{i}.bias"], padding=d, dilation=d)
            for i, d in enumerate(DILATIONS[name])
        ]
        return F.relu(torch.cat(parts, 1)).reshape(h, width, -1, n).permute(3, 2, 0, 1)

    def band(v: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(len(v), 2 * REACH + 1)
        for i in range(len(v)):
            for k in range(-REACH, REACH + 1):
                if 0 <= i + k < len(v):
                    out[i, k + REACH] = v[i] @ v[i + k]
        return out

    luma = torch.einsum("nchw,c->nhw", x, torch.tensor([0.114, 0.587, 0.299])).flatten(1)
    luma = luma - luma.mean(1, keepdim=True)
    luma = luma / torch.sqrt(luma.square().sum(1, keepdim=True) + 0.01)
    y = F.relu(F.conv2d(x - 0.4, w["c1.weight"], w["c1.bias"], 2, 1))
    y = F.relu(F.conv2d(over_time("t1", y), w["c2.weight"], w["c2.bias"], 2, 1))
    seen = F.linear(y.flatten(1), w["emb.weight"], w["emb.bias"])
    seen = seen / torch.sqrt(seen.square().sum(1, keepdim=True) + 1e-4)
    y = F.relu(F.conv2d(over_time("t2", y), w["c3.weight"], w["c3.bias"], 2, 1))
    y = F.relu(F.linear(over_time("t3", y).flatten(1), w["d1.weight"], w["d1.bias"]))
    alike = F.relu(F.linear(torch.cat([band(seen), band(luma)], 1), w["sim.weight"], w["sim.bias"]))
    y = torch.cat([y, alike], 1).T[None]
    y = F.relu(F.conv1d(y, w["h1.weight"], w["h1.bias"], padding=2))
    y = F.relu(F.conv1d(y, w["h2.weight"], w["h2.bias"], padding=8, dilation=4))
    return F.linear(y[0].T, w["out.weight"], w["out.bias"]).numpy()


@pytest.mark.parametrize("frames", [1, 7, 120])
def test_numpy_equals_torch(frames):
    network = fitted()
    pictures = (np.random.default_rng(frames).random((frames, 18, 32, 3)) * 255).astype(np.float32)
    weights = {k: torch.from_numpy(v) for k, v in network._w.items()}
    np.testing.assert_allclose(network(pictures), in_torch(weights, pictures), atol=1e-3)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.integers(60, 100))
def test_what_is_far_away_does_not_matter(seed, at):
    """The answer for a frame depends on a bounded neighbourhood: that is what blocks with a margin rely on."""
    rng = np.random.default_rng(seed)
    pictures = (rng.random((260, 18, 32, 3)) * 255).astype(np.float32)
    other = pictures.copy()
    other[at + 100 :] = 0
    np.testing.assert_allclose(fitted()(pictures)[: at - 60], fitted()(other)[: at - 60], atol=1e-4)


def colours(pictures) -> np.ndarray:
    return np.stack([Signature.of(i / 25, np.ascontiguousarray(p)).colour for i, p in enumerate(pictures)])


def test_it_tells_a_cut_from_a_dissolve_from_a_pan():
    wide, other = texture(1, 120, 400), texture(2, 120, 400)
    old, new = [wide[:, i : i + 160] for i in range(60)], [other[:, i : i + 160] for i in range(60)]
    cut = fitted()(colours(old + new))
    assert int(cut[:, 0].argmax()) == 60
    assert cut[60, 0] > 0
    weights = np.linspace(0, 1, 30)
    mix = [(x * (1 - w) + y * w).astype(np.uint8) for x, y, w in zip(old[30:], new[:30], weights, strict=True)]
    dissolve = fitted()(colours(old[:30] + mix + new[30:]))
    assert dissolve[38:52, 1].min() > 0 > dissolve[:20, 1].max()
    pan = fitted()(colours([wide[:, i : i + 160] for i in range(0, 240, 2)]))
    assert pan.max() < 0


def test_weights_are_what_they_claim():
    assert sum(w.size for w in fitted()._w.values()) == 241_790
    assert Network(fitted()._w)(np.zeros((3, 18, 32, 3), np.float32)).shape == (3, 2)
