"""RAFT against direct calls of torchvision, with random weights: the real ones are no package of their own."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.optical_flow import raft_large, raft_small

from curation.scores import raft as module
from curation.scores.raft import UPDATES, Raft, area_weights, renamed


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 255, (3, 130, 141)).astype(np.uint8))


@pytest.fixture(scope="module", params=[raft_small, raft_large], ids=["small", "large"])
def net(request):
    torch.manual_seed(0)
    return request.param().eval()


@pytest.fixture(scope="module")
def weights(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("raft") / "raft.pth"
    torch.save(net.state_dict(), path)
    return path


def test_flow_equals_a_direct_call(net, weights, pictures):
    flows = Raft(weights)([(pictures[0], pictures[1]), (pictures[1], pictures[2])])
    filled = torch.from_numpy(np.stack([np.pad(p, ((0, 6), (0, 3)), "edge") for p in pictures])).float() / 127.5 - 1
    pixels = filled[:, None].repeat(1, 3, 1, 1)
    with torch.inference_mode():
        expected = net(pixels[:2], pixels[1:], num_flow_updates=UPDATES)[-1][:, :, :130, :141]
    for flow, direct in zip(flows, expected, strict=True):
        assert flow.shape == (130, 141, 2)
        assert flow == pytest.approx(direct.permute(1, 2, 0).numpy(), abs=1e-3)


def test_maps_are_the_flow_reduced_by_opencv(weights, pictures, monkeypatch):
    """Also where pairs share pictures, and over several batches of which one does not fit in memory at once."""
    monkeypatch.setattr(module, "_BATCH", 2)
    raft = Raft(weights)
    whole, encoded = raft.flow, []

    def small_card(pixels, first, second):
        if len(first) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        encoded.append(len(pixels))
        return whole(pixels, first, second)

    pairs = [*pairwise(pictures), (pictures[2], pictures[2]), (pictures[0], pictures[2])]
    flows = raft(pairs)
    monkeypatch.setattr(raft, "flow", small_card)
    maps = list(raft.maps(pairs, (17, 16)))
    assert encoded == [2, 2, 1, 2]  # a picture is encoded once a batch
    for reduced, flow in zip(maps, flows, strict=True):
        expected = cv2.resize(flow, (17, 16), interpolation=cv2.INTER_AREA)
        assert (reduced.shape, reduced.dtype) == ((16, 17, 2), np.float32)
        assert reduced == pytest.approx(expected, abs=2e-3)  # as the flows themselves in batches of other sizes


@given(st.integers(1, 40), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_area_weights_are_opencv_s_reduction(cells, more, seed):
    length = cells + more
    signal = np.random.default_rng(seed).standard_normal((3, length)).astype(np.float32)
    weights = area_weights(length, cells, torch.device("cpu")).numpy()
    assert weights.sum(1) == pytest.approx(1, abs=1e-5)
    assert signal @ weights.T == pytest.approx(cv2.resize(signal, (cells, 3), interpolation=cv2.INTER_AREA), abs=1e-5)


def test_pictures_that_do_not_fit(weights, pictures):
    raft = Raft(weights)
    assert raft([]) == []
    with pytest.raises(ValueError, match="128"):
        raft([(pictures[0], pictures[1][:, :-1])])
    with pytest.raises(ValueError, match="128"):
        list(raft.maps([(pictures[0][:100], pictures[1][:100])], (16, 16)))


def test_the_authors_names_are_torchvision_s():
    """A few of each part, named by hand after the authors' checkpoint."""
    theirs = {
        "module.fnet.conv1.weight": "feature_encoder.convnormrelu.0.weight",
        "module.cnet.norm1.running_mean": "context_encoder.convnormrelu.1.running_mean",
        "module.cnet.layer2.0.norm2.bias": "context_encoder.layer2.0.convnormrelu2.1.bias",
        "module.fnet.layer3.0.downsample.0.bias": "feature_encoder.layer3.0.downsample.0.bias",
        "module.fnet.conv2.bias": "feature_encoder.conv.bias",
        "module.update_block.encoder.convc2.weight": "update_block.motion_encoder.convcorr2.0.weight",
        "module.update_block.encoder.convf1.weight": "update_block.motion_encoder.convflow1.0.weight",
        "module.update_block.encoder.conv.bias": "update_block.motion_encoder.conv.0.bias",
        "module.update_block.gru.convq2.weight": "update_block.recurrent_block.convgru2.convq.weight",
        "module.update_block.flow_head.conv1.weight": "update_block.flow_head.conv1.weight",
        "module.update_block.mask.0.bias": "mask_predictor.convrelu.0.bias",
        "module.update_block.mask.2.weight": "mask_predictor.conv.weight",
    }
    own = raft_large().state_dict()
    assert set(theirs.values()) <= set(own)
    state = {name: own[to] for name, to in theirs.items()} | {"module.cnet.layer2.0.norm3.weight": torch.zeros(1)}
    assert set(renamed(state)) == set(theirs.values())
    assert renamed(own) is own
