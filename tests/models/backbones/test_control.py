import copy

import pytest
import torch

from models.backbones.control import ControlBranch
from models.backbones.unet import UNet, UNetConfig

TINY = UNetConfig(width=16, multipliers=(1, 2), blocks=2, attention_levels=(1,), text_dim=12, head_dim=8)
NOISE = torch.tensor([-0.3, 0.6], dtype=torch.float64)


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def network():
    net = UNet(TINY).double()
    for i, parameter in enumerate(net.parameters()):
        parameter.data = 0.15 * draw(*parameter.shape, seed=i)
    return net


def controlled(network, branch, x, picture, **more):
    down, mid = branch(x, NOISE, picture, **more)
    return network(x, NOISE, down_residuals=down, mid_residual=mid)


@pytest.mark.parametrize("shape", [(8, 12), (3, 8, 12)])
def test_a_new_branch_changes_nothing(network, shape):
    x, picture = draw(2, 3, *shape), draw(2, 5, *shape, seed=1)
    assert torch.equal(controlled(network, ControlBranch(network, 5), x, picture), network(x, NOISE))


def test_it_wakes_up_and_leaves_the_network_alone(network):
    branch, x, picture = ControlBranch(network), draw(2, 3, 8, 12), draw(2, 3, 8, 12, seed=1)
    before = copy.deepcopy(network.state_dict())
    optimizer = torch.optim.AdamW(branch.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (controlled(network, branch, x, picture) - picture).square().mean().backward()
        optimizer.step()
    idle = {name for name, p in branch.named_parameters() if p.grad is None or p.grad.abs().max() == 0}
    # what was not told, and a text's queries where there is only the null token
    assert all(any(part in name for part in (".fps.", ".motion.", ".text", "norm")) for name in idle), idle
    other = controlled(network, branch, x, -picture)
    assert (controlled(network, branch, x, picture) - other).abs().max() > 1e-4
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_frames_are_controlled_one_by_one(network):
    branch, x, picture = ControlBranch(network), draw(2, 3, 3, 8, 12), draw(2, 3, 3, 8, 12, seed=1)
    for i, parameter in enumerate(branch.parameters()):
        parameter.data = 0.15 * draw(*parameter.shape, seed=100 + i)
    video = controlled(network, branch, x, picture)
    for i in range(3):
        alone = controlled(network, branch, x[:, :, i], picture[:, :, i])
        torch.testing.assert_close(video[:, :, i], alone, rtol=0, atol=1e-11)


def test_the_scale_multiplies_all(network):
    branch, x = ControlBranch(network), draw(2, 3, 8, 12)
    for i, parameter in enumerate(branch.parameters()):
        parameter.data = 0.15 * draw(*parameter.shape, seed=100 + i)
    (down, mid), (twice, mid_twice) = branch(x, NOISE, x), branch(x, NOISE, x, scale=2.0)
    assert torch.equal(2 * mid, mid_twice)
    assert all(torch.equal(2 * one, two) for one, two in zip(down, twice, strict=True))


def test_residuals_that_are_not_one_a_skip_are_refused(network):
    x = draw(2, 3, 8, 12)
    down, mid = ControlBranch(network)(x, NOISE, x)
    with pytest.raises(ValueError, match="5 residuals for 6 skips"):
        network(x, NOISE, down_residuals=down[1:], mid_residual=mid)
