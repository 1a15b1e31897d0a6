"""Token by token, the decoder says what open_clip's CoCa says of the whole caption."""

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.scores.coca_decoder import CocaDecoder, check
from curation.scores.openclip import OpenClip, PictureCaptioner

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
        decoder = CocaDecoder(net, 3, BEAMS, LONGEST)
        for forgotten in (torch.randn_like(states), states):
            decoder.begin(forgotten)
            if forgotten is not states:
                decoder.step(draw(49408, 3 * BEAMS), torch.arange(3 * BEAMS))
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA card")
def test_a_recorded_step_is_the_step(coca_folder):
    net = OpenClip(coca_folder, on_card="pure_bf16").net
    decoders = [CocaDecoder(net, 3, BEAMS, LONGEST) for _ in range(2)]
    generator = torch.Generator("cuda").manual_seed(0)
    with torch.inference_mode():
        states = net(torch.randn(3, 3, 32, 32, device="cuda", generator=generator).to(torch.bfloat16))["image_embs"]
        for decoder in decoders:
            decoder.begin(states)
        decoders[0].record()
        decoders[0].begin(states)
        for _ in range(LONGEST):
            tokens = torch.randint(49408, (6,), device="cuda", generator=generator)
            rows = torch.tensor([1, 0, 2, 2, 5, 4], device="cuda")
            recorded, run = (decoder.step(tokens, rows) for decoder in decoders)
            torch.testing.assert_close(recorded, run, atol=2e-2, rtol=2e-2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA card")
def test_rows_that_idle_change_no_caption(coca_folder, picture):
    frames = [picture(name) for name in ("astronaut", "coffee", "rocket")]
    captioner = PictureCaptioner(coca_folder)
    whole = captioner.caption(frames, 2, 5, 12)
    assert [captioner.caption([f], 2, 5, 12)[0] for f in frames] == whole


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
