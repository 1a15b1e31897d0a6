"""The embedding of what a backbone is told."""

import pytest
import torch

from models.backbones.conditioned import Conditioned
from models.layers.basics import fourier_features

NET = Conditioned(16, 4).double()
for layer in (NET.fps, NET.motion):  # as if it had learned what they say
    torch.nn.init.normal_(layer.weight, std=0.3)
NOISE = torch.tensor([0.3, -0.2], dtype=torch.float64)
TEXT = torch.randn(2, 3, 4, dtype=torch.float64)


def test_no_text_is_no_token():
    text, mask = NET.tokens_of(None, None, NOISE)
    assert text.shape == (2, 0, 4)
    assert mask.shape == (2, 0)
    torch.testing.assert_close(NET.embedding(NOISE, text, mask), NET.noise(fourier_features(NOISE, 16)))


def test_the_text_is_the_mean_of_its_own_tokens():
    mask = torch.tensor([[True, True, False], [True, True, True]])
    changed = TEXT.clone()
    changed[0, 2] = 9.0  # behind the mask
    assert torch.equal(NET.embedding(NOISE, TEXT, mask), NET.embedding(NOISE, changed, mask))
    alone = NET.embedding(NOISE[:1], TEXT[:1, :2], mask[:1, :2])
    torch.testing.assert_close(NET.embedding(NOISE, TEXT, mask)[:1], alone)


def test_rate_and_motion_say_nothing_when_new_and_can_be_learned():
    """A network of pictures is shown video with most of it frozen: a rate must not disturb what it has learned."""
    new = Conditioned(16, 4)
    text, mask = new.tokens_of(TEXT.float(), None, NOISE.float())
    plain, told = (new.embedding(NOISE.float(), text, mask, *known) for known in ((), (torch.full((2,), 24.0),) * 2))
    assert torch.equal(plain, told)
    told.sum().backward()
    assert min(new.fps.weight.grad.abs().max(), new.motion.weight.grad.abs().max()) > 0


def test_what_is_unknown_leaves_the_embedding_alone():
    text, mask = NET.tokens_of(TEXT, None, NOISE)
    plain = NET.embedding(NOISE, text, mask)
    fps = torch.tensor([24.0, float("nan")], dtype=torch.float64)
    told = NET.embedding(NOISE, text, mask, fps, torch.full_like(fps, float("nan")))
    assert (told[0] - plain[0]).abs().max() > 1e-3
    assert torch.equal(told[1], plain[1])


def test_weights_in_bfloat16_take_numbers_as_exact_as_they_come():
    net = Conditioned(16, 4).bfloat16()
    text, mask = net.tokens_of(None, None, TEXT.bfloat16())
    near, far = (net.embedding(torch.tensor([x, x]), text, mask, torch.tensor([24.0, 25.0])) for x in (2.0, 2.002))
    assert near.dtype is torch.bfloat16
    assert not torch.equal(near, far)  # in bfloat16 the two labels are one


def test_text_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"text of width 5; the network takes one of 4"):
        NET.tokens_of(torch.zeros(2, 3, 5, dtype=torch.float64), None, NOISE)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", ["noise", "fps", "motion"])
def test_one_number_is_not_silently_all_rows(name, rows):
    """One row would broadcast over the batch, more would only fail somewhere inside."""
    text, mask = NET.tokens_of(TEXT, None, NOISE)
    told = {"noise": NOISE, "fps": NOISE, "motion": NOISE} | {name: torch.ones(rows, dtype=torch.float64)}
    with pytest.raises(ValueError, match=f"a batch of 2 needs 2 of {name}, not shape"):
        NET.embedding(told["noise"], text, mask, told["fps"], told["motion"])


@pytest.mark.parametrize("which", ["noise", "fps", "motion", "labels"])
def test_features_are_of_the_number_as_it_is_given(which):
    """A bfloat16 number is embedded as the same number in float32, and a neighbour in float32 differs from it."""
    net = Conditioned(16, 4, labels=("level",)).bfloat16()
    for layer in (net.fps, net.motion):
        torch.nn.init.normal_(layer.weight, std=0.3)
    text, mask = net.tokens_of(None, None, TEXT.bfloat16())

    def embedding(number):
        told = {"noise": torch.zeros(2), which: {"level": number} if which == "labels" else number}
        return net.embedding(text=text, mask=mask, **told)

    rounded = torch.tensor([1.5, 24.0])
    assert torch.equal(embedding(rounded.bfloat16()), embedding(rounded))
    assert not torch.equal(embedding(torch.tensor([1.502, 23.976])), embedding(rounded))


def test_no_text_is_of_the_weights_kind_whatever_the_number_s():
    """`DiT.packed` has labels in float32 beside weights in bfloat16."""
    assert Conditioned(16, 4).bfloat16().tokens_of(None, None, torch.zeros(2))[0].dtype is torch.bfloat16
