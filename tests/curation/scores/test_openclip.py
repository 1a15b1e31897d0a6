"""open_clip's networks: pixels, features and captions against open_clip, LAION's MLP and transformers' beam search."""

import re

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from curation.scores.openclip import OpenClip, PictureCaptioner, aesthetic_head, beam_search

DIM = 32
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket"])
def test_pixels_are_open_clips_own_but_for_rounding(clip_folder, picture, name):
    frame = picture(name)
    model = OpenClip(clip_folder)
    theirs = image_transform_v2(PreprocessCfg(**model.preprocessing), is_train=False)
    difference = (model.pixels([frame])[0].float().cpu() - theirs(Image.fromarray(frame))).abs()
    grey_level = 1 / 255 / min(model.preprocessing["std"])
    assert difference.max() <= 3 * grey_level
    assert difference.mean() <= 0.1 * grey_level


def test_frames_of_several_sizes_make_one_batch(clip_folder, picture):
    model = OpenClip(clip_folder)
    frames = [picture("astronaut"), picture("coffee", 200), np.zeros((20, 300, 3), np.uint8)]
    together = model.picture_features(frames)
    assert together.shape == (3, DIM)
    for one, frame in zip(together, frames, strict=True):
        torch.testing.assert_close(one, model.picture_features([frame])[0], atol=1e-5, rtol=0)


def test_text_features_are_a_direct_call(clip_folder):
    texts = ["a cat", "two dogs on a beach, at night"]
    net = open_clip.create_model(f"local-dir:{clip_folder}").eval()
    with torch.no_grad():
        theirs = net.encode_text(open_clip.tokenize(texts, context_length=16), normalize=True)
    ours = OpenClip(clip_folder).text_features(texts).cpu()
    torch.testing.assert_close(ours, theirs, atol=2e-3 if torch.cuda.is_available() else 1e-6, rtol=0)


def test_the_linear_head(tmp_path):
    head = nn.Linear(DIM, 1)
    torch.save(head.state_dict(), tmp_path / "sa_0_4_linear.pth")
    x = torch.randn(5, DIM)
    torch.testing.assert_close(aesthetic_head(tmp_path / "sa_0_4_linear.pth", DIM)(x), head(x))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_the_published_mlp(tmp_path, suffix):
    """Written out as it was published, dropouts and all."""
    mlp = nn.Module()
    mlp.layers = nn.Sequential(
        nn.Linear(DIM, 1024), nn.Dropout(0.2), nn.Linear(1024, 128), nn.Dropout(0.2), nn.Linear(128, 64),
        nn.Dropout(0.1), nn.Linear(64, 16), nn.Linear(16, 1),
    )  # fmt: skip
    mlp.eval()
    state = mlp.state_dict()
    file = tmp_path / f"head.{suffix}"
    save_file(state, file) if suffix == "safetensors" else torch.save(state, file)
    x = torch.randn(5, DIM)
    torch.testing.assert_close(aesthetic_head(file, DIM)(x), mlp.layers(x))


@pytest.mark.parametrize(
    "state",
    [
        {"weight": torch.zeros(1, DIM + 1), "bias": torch.zeros(1)},  # other features
        {"weight": torch.zeros(2, DIM), "bias": torch.zeros(2)},  # not one score
        {"weight": torch.zeros(1, DIM), "bias": torch.zeros(1), "scale": torch.zeros(1)},  # something else besides
        {"layers.0.weight": torch.zeros(8, DIM), "layers.0.bias": torch.zeros(8)},  # ends early
        {"scale": torch.zeros(1)},
    ],
)
def test_another_checkpoint_is_no_head(tmp_path, state):
    torch.save(state, tmp_path / "head.pth")
    with pytest.raises(ValueError, match=r"head\.pth is no chain of linear layers from 32 numbers"):
        aesthetic_head(tmp_path / "head.pth", DIM)


def small_language_model(seed: int, vocabulary: int = 12):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=32, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=1,
        pad_token_id=2, initializer_range=1.0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def whole(next_logits):
    """A step that keeps nothing but the tokens and looks at all of them each time."""
    said = []

    def step(newest, rows):
        said[:] = [torch.cat([said[0][rows], newest[:, None]], dim=1) if said else newest[:, None]]
        return next_logits(said[0])

    return step


@pytest.mark.parametrize("beams", [1, 2, 4])
@pytest.mark.parametrize("seed", range(6))
def test_beam_search_finds_what_transformers_finds(seed, beams):
    net = small_language_model(seed)
    with torch.no_grad():
        theirs = net.generate(
            torch.tensor([[0]]), num_beams=beams, do_sample=False, min_length=4, max_length=12, length_penalty=1.0,
            early_stopping=False, pad_token_id=2,
        )[0, 1:].tolist()  # fmt: skip
        ours = beam_search(
            whole(lambda t: net(t).logits[:, -1]), 1, start=0, end=1, beams=beams, min_length=4, max_length=12, on=CPU
        )[0]
    assert ours == (theirs[: theirs.index(1)] if 1 in theirs else theirs)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_a_beam_as_wide_as_the_tree_finds_the_best_sequence(seed):
    """Four tokens after the start, a vocabulary of three: all 3^4 sequences are walked for the best mean."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(5, 3, 3, generator=generator).log_softmax(-1)  # by position and last token

    best = (-np.inf, [])
    unfinished = [(0.0, [0])]
    for length in range(1, 5):
        grown = []
        for total, ids in unfinished:
            for token in range(3):
                score = total + float(table[length, ids[-1], token])
                if token == 1 and length >= 2:
                    best = max(best, (score / length, ids[1:]))
                elif token != 1:
                    grown.append((score, [*ids, token]))
        unfinished = grown
    best = max([best, *((t / 4, ids[1:]) for t, ids in unfinished)])

    found = beam_search(
        whole(lambda t: table[t.shape[1]][t[:, -1]]), 1, start=0, end=1, beams=30, min_length=2, max_length=5, on=CPU
    )
    assert found[0] == best[1]


def test_no_caption_depends_on_its_neighbours():
    nets = [small_language_model(seed) for seed in range(4)]
    options = {"start": 0, "end": 1, "beams": 3, "min_length": 3, "max_length": 14, "on": CPU}

    def together(tokens):
        return torch.cat([net(part).logits[:, -1] for net, part in zip(nets, tokens.chunk(4), strict=True)])

    with torch.no_grad():
        alone = [beam_search(whole(lambda t, net=net: net(t).logits[:, -1]), 1, **options)[0] for net in nets]
        assert beam_search(whole(together), 4, **options) == alone
    assert len({len(ids) for ids in alone}) > 1  # else nobody finished early


@pytest.mark.skipif(torch.cuda.is_available(), reason="half precision makes ties, which both break in their own way")
def test_greedy_captions_are_open_clips_own(coca_folder, picture, monkeypatch):
    """open_clip's greedy search needs only classes that transformers still has; its import asks for one more."""
    import transformers
    from open_clip import coca_model

    names = ("LogitsProcessorList", "MinLengthLogitsProcessor", "RepetitionPenaltyLogitsProcessor",
             "MaxLengthCriteria", "StoppingCriteriaList")  # fmt: skip
    for name in names:
        monkeypatch.setattr(coca_model, name, getattr(transformers, name), raising=False)
    monkeypatch.setattr(coca_model, "_has_transformers", True)
    monkeypatch.setitem(coca_model.GENERATION_TYPES, "top_k", transformers.TopKLogitsWarper)

    ours = PictureCaptioner(coca_folder)
    frames = [picture("astronaut"), picture("coffee"), picture("rocket")]
    with torch.no_grad():
        theirs = ours.model.net.generate(
            ours.model.pixels(frames), generation_type="top_k", top_k=1, seq_len=12, min_seq_len=5
        )
    texts = [open_clip.decode(ids).split("<end_of_text>")[0].replace("<start_of_text>", "") for ids in theirs]
    captions = ours.caption(frames, beams=1, min_length=5, max_length=12)
    # Theirs forces an end as the twelfth token where ours takes the likeliest one.
    assert [c[: len(t)] for c, t in zip(captions, (" ".join(t.split()) for t in texts), strict=True)] == [
        " ".join(t.split()) for t in texts
    ]
    assert all(re.search(r"\w", t) for t in texts)
    assert len(set(texts)) > 1


def test_a_clip_without_a_decoder_is_no_captioner(clip_folder):
    with pytest.raises(ValueError, match="no multimodal_cfg"):
        PictureCaptioner(clip_folder)
