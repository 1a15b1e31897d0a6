"""Token by token, the decoder says what open_clip's CoCa says of the whole caption."""

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.scores.coca_decoder import CocaDecoder, check
from curation.scores.openclip import OpenClip

BEAMS, LONGEST = 2, 12
BANG = 0  # the number of "!" is that of padding, too


@pytest.fixture(scope="module")
def net(coca_folder):
    return OpenClip(coca_folder).net.float().cpu()


@pytest.mark.parametrize("correct_mask", [False, True])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), length=st.integers(2, LONGEST))
def test_logits_are_those_of_open_clips_forward(net, correct_mask, seed, length):
    """Captions that change rows on the way, as beams do, with padding's number among their tokens."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda high, *shape: torch.randint(high, shape, generator=generator)  # noqa: E731
    net.text.correct_cls_mask = correct_mask
    pixels = torch.randn(3, 3, 32, 32, generator=generator)
    with torch.inference_mode():
        states = net(pixels)["image_embs"]
        decoder = CocaDecoder(net, states, BEAMS, LONGEST)
        said = torch.zeros(3 * BEAMS, 0, dtype=torch.long)
        for _ in range(length):
            rows = torch.arange(3 * BEAMS) // BEAMS * BEAMS + draw(BEAMS, 3 * BEAMS)
            newest = torch.where(draw(4, 3 * BEAMS) == 0, BANG, draw(49408, 3 * BEAMS))
            if not said.shape[1]:
                newest[:] = 49406  # a caption starts with the start, which is no padding
            said = torch.cat([said[rows], newest[:, None]], dim=1)
            ours = decoder.step(newest, rows)
        theirs = net(
            None, said, image_latent=torch.zeros(6, 32), image_embs=states.repeat_interleave(BEAMS, 0),
            output_labels=False,
        )["logits"][:, -1]  # fmt: skip
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)


def test_a_text_tower_that_looks_ahead_is_refused(coca_folder):
    net = OpenClip(coca_folder).net
    check(net)
    net.text.attn_mask = None
    with pytest.raises(ValueError, match="token by token"):
        check(net)


def test_a_text_tower_of_other_blocks_is_refused(coca_folder):
    net = OpenClip(coca_folder).net
    block = open_clip.transformer.CustomResidualAttentionBlock(32, 2)
    net.text.transformer.resblocks[0] = block
    with pytest.raises(ValueError, match="token by token"):
        check(net)
