"""The transformer: what it is when new, that an image is a video of one frame, and that packing changes nothing."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from models.backbones.dit import Block, DiT, DiTConfig
from models.layers.patches import pack

TINY = DiTConfig(width=48, depth=2, head_dim=12, channels=3, text_dim=8)


def numbers(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(config=TINY):
    """Random weights everywhere: what starts at zero would hide what does not work."""
    net, generator = DiT(config).double(), torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return net


CONDITIONS = {
    "text": numbers(2, 5, 8, seed=3),
    "text_mask": torch.tensor([[True] * 5, [True, True, False, False, False]]),
    "fps": torch.tensor([24.0, float("nan")]).double(),
    "motion": torch.tensor([3.0, 1.0]).double(),
}


def test_a_new_network_gives_exactly_nothing():
    x = numbers(2, 3, 4, 4, 6)
    assert torch.equal(DiT(TINY).double()(x, torch.zeros(2).double(), **CONDITIONS), torch.zeros_like(x))
    block = Block(TINY, 48).double()
    tokens = numbers(1, 7, 48)
    seen = torch.ones(1, 1, 5, dtype=torch.bool)
    assert torch.equal(block(tokens, numbers(1, 1, 48), torch.zeros(7, 3), None, numbers(1, 5, 8), seen), tokens)


def test_an_image_is_a_video_of_one_frame():
    net, x = network(), numbers(2, 3, 4, 6)
    noise = torch.tensor([0.1, -0.4]).double()
    image, video = net(x, noise, **CONDITIONS), net(x[:, :, None], noise, **CONDITIONS)
    assert torch.equal(image, video[:, :, 0])
    assert image.shape == x.shape


def test_frames_interact_in_both_directions():
    x = numbers(1, 3, 3, 2, 2).requires_grad_()
    out = network()(x, torch.zeros(1).double())
    for frame in range(3):
        (gradient,) = torch.autograd.grad(out[:, :, frame].sum(), x, retain_graph=True)
        assert (gradient.abs().amax((0, 1, 3, 4)) > 1e-9).all()


@pytest.mark.parametrize("what", ["noise", "text", "text_mask", "fps", "motion"])
def test_every_condition_matters_and_an_unknown_one_does_not(what):
    net, x = network(), numbers(2, 3, 2, 4, 4)
    given = {"noise": torch.tensor([0.1, -0.4]).double(), **CONDITIONS}
    other = dict(given)
    other[what] = ~given[what] if what == "text_mask" else given[what].nan_to_num() + 0.7
    assert (net(x, **given) - net(x, **other)).abs().amax((1, 2, 3, 4)).min() > 1e-6
    unknown = torch.full((2,), float("nan")).double()
    assert torch.equal(net(x, **(given | {"fps": unknown, "motion": unknown})),
                       net(x, given["noise"], given["text"], given["text_mask"]))  # fmt: skip


@pytest.mark.parametrize("length", [None, 40])
def test_a_packed_batch_is_its_samples_one_by_one(length):
    net, noise = network(), torch.tensor([0.1, -0.4]).double()
    videos = [numbers(3, 3, 4, 6, seed=1).requires_grad_(), numbers(3, 1, 8, 4, seed=2).requires_grad_()]
    packed = pack(videos, TINY.patch, length)
    out = packed.unpack(net.packed(packed, noise, **CONDITIONS), TINY.patch)
    for i, (video, together) in enumerate(zip(videos, out, strict=True)):
        alone = net(video[None], noise[i : i + 1], **{k: v[i : i + 1] for k, v in CONDITIONS.items()})
        torch.testing.assert_close(together, alone[0], rtol=1e-10, atol=1e-10)
    gradients = torch.autograd.grad(out[0].square().sum(), videos)
    assert gradients[0].abs().max() > 0
    assert gradients[1].abs().max() == 0


@torch.no_grad()  # flex attention has no gradient on a CPU
def test_flex_attention_is_attention_with_the_mask():
    net, noise = network(), torch.tensor([0.1, -0.4]).double()
    packed = pack([numbers(3, 3, 4, 6, seed=1), numbers(3, 1, 8, 4, seed=2)], TINY.patch, 40)
    masked, flexible = (net.packed(packed, noise, **CONDITIONS, flex=flex) for flex in (False, True))
    torch.testing.assert_close(flexible, masked, rtol=1e-10, atol=1e-10)


def test_the_shift_of_all_positions_changes_nothing():
    """Positions are relative: a crop of noise elsewhere on an endless grid is the same crop."""
    block = network().blocks[0]
    x, embedding, places = numbers(1, 12, 48), numbers(1, 1, 48), torch.randint(0, 9, (12, 3))
    text, seen = numbers(1, 5, 8), torch.ones(1, 1, 5, dtype=torch.bool)
    here = block(x, embedding, places, None, text, seen)
    there = block(x, embedding, places + torch.tensor([3, 5, 7]), None, text, seen)
    torch.testing.assert_close(here, there, rtol=1e-10, atol=1e-10)


def test_checkpointing_compiling_and_bfloat16():
    net, x, noise = network(), numbers(2, 3, 2, 4, 4), torch.tensor([0.1, -0.4]).double()
    out = net(x, noise, **CONDITIONS)
    torch.testing.assert_close(checkpoint(net, x, noise, *CONDITIONS.values(), use_reentrant=False), out)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, noise, **CONDITIONS), out)
    half = CONDITIONS | {"text": CONDITIONS["text"].bfloat16()}  # numbers keep their digits
    low = net.bfloat16()(x.bfloat16(), noise, **half)
    assert low.dtype is torch.bfloat16
    assert (low - out).abs().mean() < 0.05 * out.abs().mean()


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="no whole patches"):
        DiT(TINY)(torch.zeros(1, 3, 3, 4), torch.zeros(1))
    with pytest.raises(ValueError, match="50 channels"):
        DiT(DiTConfig(width=50, head_dim=12))
