import io
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.text.t5 import T5

CAPTIONS = ["a red car", "", "the dog rides down the very long hill " * 9, "xyz?"]


@pytest.fixture(scope="module")
def encoder(t5_folder):
    torch.set_num_threads(1)
    return T5(t5_folder, max_tokens=20)


def test_states_are_those_of_transformers(encoder, t5_folder):
    from transformers import AutoTokenizer, T5EncoderModel

    tokenizer = AutoTokenizer.from_pretrained(t5_folder, local_files_only=True)
    peer = T5EncoderModel.from_pretrained(t5_folder, local_files_only=True).eval()
    tokens = tokenizer(CAPTIONS, padding=True, truncation=True, max_length=20, return_tensors="pt")
    with torch.no_grad():
        expected = peer(**tokens).last_hidden_state * tokens["attention_mask"][..., None]
    states, mask = encoder(CAPTIONS)
    assert torch.equal(mask, tokens["attention_mask"].bool())
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-6)
    assert (states[0, 0] - states[2, 0]).abs().max() > 0.01


def test_shapes_mask_and_cut(encoder):
    states, mask = encoder(CAPTIONS)
    assert states.shape == (4, 20, encoder.dim) == (4, 20, 16)
    assert states.dtype == torch.float32
    assert mask.sum(1).tolist() == [4, 1, 20, 6]  # the end is a token too; ▁ x y z ?
    assert states[0, 4:].abs().max() == 0


def test_padding_does_not_change_a_caption(encoder):
    alone, among = encoder(["a red car"]), encoder(["a red car", CAPTIONS[2]])
    torch.testing.assert_close(among.states[0, :4], alone.states[0], rtol=0, atol=1e-6)


def test_frozen_and_without_dropout(encoder):
    assert not any(p.requires_grad for p in encoder.parameters())
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert torch.equal(encoder(["a dog"]).states, encoder(["a dog"]).states)
    assert not encoder(["a dog"]).states.requires_grad


def test_the_decoder_of_a_whole_checkpoint_is_left_out(encoder, t5_folder):
    assert any(name.startswith("decoder.") for name in load_file(t5_folder / "model.safetensors"))
    assert not any("decoder" in name for name, _ in encoder.named_parameters())


def test_in_bfloat16_states_are_still_float32(t5_folder, encoder):
    low = T5(t5_folder, max_tokens=20, dtype=torch.bfloat16)
    assert {p.dtype for p in low.parameters()} == {torch.bfloat16}
    states = low(CAPTIONS).states
    assert states.dtype == torch.float32
    assert (states - encoder(CAPTIONS).states).std() < 0.05 * encoder(CAPTIONS).states.std()


def test_the_folder_of_a_pipeline(encoder, t5_folder, tmp_path):
    for part, names in (("text_encoder", ("config", "model")), ("tokenizer", ("tokenizer",))):
        (tmp_path / part).mkdir()
        for path in t5_folder.iterdir():
            if path.name.startswith(names):
                shutil.copy(path, tmp_path / part)
    assert torch.equal(T5(tmp_path, max_tokens=20)(CAPTIONS).states, encoder(CAPTIONS).states)


def test_word_pieces_of_a_folder_with_spiece_model_alone(t5_folder, tmp_path):
    """As T5 v1.1 is published; sentencepiece itself is the oracle."""
    import sentencepiece

    pieces, ends = io.BytesIO(), {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    lines = iter(["a red car rides", "the dog rides down the hill", "a very long word"] * 20)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines, model_writer=pieces, vocab_size=40, hard_vocab_limit=False, minloglevel=2, **ends
    )
    for name in ("config.json", "model.safetensors"):
        shutil.copy(t5_folder / name, tmp_path)
    (tmp_path / "spiece.model").write_bytes(pieces.getvalue())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 2}))
    processor = sentencepiece.SentencePieceProcessor(model_proto=pieces.getvalue())
    ids, mask = T5(tmp_path).tokens(["a red car", "the dog?"])
    given = [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)]
    assert given == [[*processor.encode(caption), 1] for caption in ("a red car", "the dog?")]


def test_shards(encoder, t5_folder, tmp_path):
    from transformers import T5EncoderModel

    shutil.copytree(t5_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    T5EncoderModel.from_pretrained(t5_folder).save_pretrained(tmp_path, max_shard_size="4KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert torch.equal(T5(tmp_path, max_tokens=20)(CAPTIONS).states, encoder(CAPTIONS).states)
    shards[1].unlink()
    with pytest.raises(FileNotFoundError, match=shards[1].name):
        T5(tmp_path)


def set_config(folder, **changed):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_what_is_missing_is_named_with_its_folder(t5_folder, tmp_path, name):
    shutil.copytree(t5_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=name) as caught:
        T5(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_no_folder_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.*config\.json.*model\.safetensors.*tokenizer"):
        T5(tmp_path / "nowhere")


def test_weights_that_lack_a_tensor_are_refused_not_drawn_at_random(t5_folder, tmp_path):
    shutil.copytree(t5_folder, tmp_path, dirs_exist_ok=True)
    state = load_file(tmp_path / "model.safetensors")
    del state["encoder.block.1.layer.0.SelfAttention.q.weight"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"SelfAttention\.q\.weight"):
        T5(tmp_path)


def test_another_model_is_refused(t5_folder, tmp_path):
    shutil.copytree(t5_folder, tmp_path, dirs_exist_ok=True)
    set_config(tmp_path, model_type="bert")
    with pytest.raises(ValueError, match="bert"):
        T5(tmp_path)


def test_umt5_whose_layers_each_have_a_position_bias_is_refused(t5_folder, tmp_path):
    from transformers import UMT5Config, UMT5EncoderModel

    shutil.copytree(t5_folder, tmp_path, dirs_exist_ok=True)
    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4, "vocab_size": 50}
    UMT5EncoderModel(UMT5Config(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="that of a umt5, not of a t5"):
        T5(tmp_path)
    set_config(tmp_path, model_type="t5")  # its weights betray it all the same
    with pytest.raises(ValueError, match=r"block\.1\.layer\.0\.SelfAttention\.relative_attention_bias"):
        T5(tmp_path)


def test_weights_with_more_layers_than_the_configuration_are_refused(t5_folder, tmp_path):
    shutil.copytree(t5_folder, tmp_path, dirs_exist_ok=True)
    set_config(tmp_path, num_layers=1)
    with pytest.raises(ValueError, match=r"does not speak of, such as encoder\.block\.1"):
        T5(tmp_path)


def test_what_only_a_whole_t5_has_is_no_fault(encoder, t5_folder, tmp_path):
    shutil.copytree(t5_folder, tmp_path, dirs_exist_ok=True)
    state = load_file(tmp_path / "model.safetensors")
    shared = state["shared.weight"]
    state |= {name: shared.clone() for name in ("encoder.embed_tokens.weight", "lm_head.weight")}
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    assert torch.equal(T5(tmp_path, max_tokens=20)(CAPTIONS).states, encoder(CAPTIONS).states)


def test_shapes_that_are_not_the_configurations_are_refused(t5_folder, tmp_path):
    shutil.copytree(t5_folder, tmp_path, dirs_exist_ok=True)
    set_config(tmp_path, d_ff=64)
    with pytest.raises(ValueError, match=r"config\.json"):
        T5(tmp_path)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3438167540\n"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [POINTER, b"", None], ids=["pointer", "empty", "half"])
def test_a_damaged_file_is_named(t5_folder, tmp_path, name, content):
    shutil.copytree(t5_folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)
    with pytest.raises(ValueError, match=name) as caught:
        T5(tmp_path)
    assert str(path) in str(caught.value)


def test_a_tokenizer_that_is_none_is_named(t5_folder, tmp_path):
    shutil.copytree(t5_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        T5(tmp_path)


def test_word_pieces_that_are_none_are_named(t5_folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(t5_folder / name, tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 2}))
    (tmp_path / "spiece.model").write_bytes(POINTER)
    with pytest.raises(ValueError, match=r"spiece\.model"):
        T5(tmp_path)


def test_an_index_without_a_map_is_named(t5_folder, tmp_path):
    shutil.copytree(t5_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json.*weight_map"):
        T5(tmp_path)


def test_weights_of_a_variant_alone_are_named_as_such(t5_folder, tmp_path):
    shutil.copytree(t5_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").rename(tmp_path / "model.fp16.safetensors")
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors \(there is the variant model\.fp16\.safetensors"):
        T5(tmp_path)


@pytest.mark.parametrize("captions", ["a red car", [], [3]])
def test_what_is_no_list_of_captions_is_refused(encoder, captions):
    with pytest.raises(ValueError, match="captions"):
        encoder(captions)


@pytest.mark.parametrize("max_tokens", [0, -1])
def test_no_tokens_are_refused(t5_folder, max_tokens):
    with pytest.raises(ValueError, match="max_tokens"):
        T5(t5_folder, max_tokens)
