"""Stable Diffusion's U-Net, small, inflated: its own weights kept, its pictures unchanged, its frames mixed."""

import pytest
import torch

from models.backbones import sd_video
from models.backbones.sd_unet import SDUNet
from models.layers.temporal import Inflation, Pseudo3D, TemporalConv
from tests.models.systems.image_networks import SD

TIMES = torch.tensor([3.0, 700.0], dtype=torch.float64)


def draw(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Everywhere(Pseudo3D):
    """Also behind the blocks."""

    def block(self, channels):
        return TemporalConv(channels)


@pytest.fixture
def image():
    network = SDUNet(SD).double()
    for i, parameter in enumerate(network.parameters()):
        parameter.data = 0.15 * draw(*parameter.shape, seed=i)
    return network


def test_new_layers_change_nothing_of_distinct_frames(image):
    video, frames, text = sd_video.inflate(image, Everywhere(8)), draw(6, 4, 8, 8), draw(2, 5, 12, seed=2)
    alone = [
        image(frame, t, c)
        for frame, t, c in zip(
            frames.split(1), TIMES.repeat_interleave(3).split(1), text.repeat_interleave(3, 0).split(1), strict=True
        )
    ]
    torch.testing.assert_close(video(frames, TIMES, text), torch.cat(alone), rtol=0, atol=1e-10)


def test_weights_keep_their_names_and_new_ones_follow_from_the_seed(image):
    new, old = sd_video.inflate(image, Everywhere(8)).state_dict(), image.state_dict()
    assert {name for name in new if "temporal" not in name} == old.keys()
    assert all(torch.equal(new[name], value) for name, value in old.items())
    state = torch.random.get_rng_state()
    again, other = (sd_video.inflate(image, Everywhere(8), seed).state_dict() for seed in (0, 1))
    assert all(torch.equal(value, again[name]) for name, value in new.items())
    assert any(not torch.equal(value, other[name]) for name, value in new.items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_every_block_has_what_the_inflation_says(image):
    seen = []

    class Watched(Inflation):
        def conv(self, channels):
            seen.append(("conv", channels))

        def block(self, channels):
            seen.append(("block", channels))

        def attention(self, channels, level):
            seen.append((f"attention {level}", channels))

    plain = sd_video.inflate(image, Watched())
    assert sorted(set(seen)) == [
        ("attention 0", 16),
        ("attention 1", 32),
        ("block", 16),
        ("block", 32),
        ("conv", 16),
        ("conv", 32),
    ]
    assert len([kind for kind, _ in seen if kind == "conv"]) == 2 * len([k for k, _ in seen if k == "block"]) == 16
    assert len([kind for kind, _ in seen if kind.startswith("attention")]) == 4
    assert plain.state_dict().keys() == image.state_dict().keys()


def test_each_layer_wakes_up_and_frames_of_one_video_mix(image):
    video, x, text = sd_video.inflate(image, Everywhere(8)), draw(6, 4, 8, 8), draw(2, 5, 12, seed=2)
    added = {name: p for name, p in video.named_parameters() if "temporal" in name}
    optimizer = torch.optim.AdamW(added.values(), lr=1e-2, weight_decay=0)
    before = {name: p.detach().clone() for name, p in added.items()}
    for _ in range(3):
        optimizer.zero_grad()
        (video(x, TIMES, text) - x.roll(1, 0)).square().mean().backward()
        optimizer.step()
    assert [name for name, p in added.items() if torch.equal(p, before[name])] == []
    x.requires_grad_()
    (slope,) = torch.autograd.grad(video(x, TIMES, text)[0].square().sum(), x)
    reached = slope.abs().amax((1, 2, 3)) > 1e-9
    assert reached.tolist() == [True, True, True, False, False, False]


def test_more_input_channels_count_for_nothing_when_new(image):
    video, x, text = sd_video.inflate(image, Inflation(), extra_channels=3), draw(2, 4, 8, 8), draw(2, 5, 12, seed=2)
    more = torch.cat([x, draw(2, 3, 8, 8, seed=9)], dim=1)
    torch.testing.assert_close(video(more, TIMES, text), image(x, TIMES, text), rtol=0, atol=1e-11)
    video(more, TIMES, text).square().mean().backward()
    assert video.conv_in.weight.grad[:, 4:].abs().max() > 0
