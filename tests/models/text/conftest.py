"""Tiny checkpoints of transformers, random weights and tokenizers included, made on the spot."""

import pytest
import torch

WORDS = "a red car dog rides down the hill very long word".split()


@pytest.fixture(scope="session")
def t5_folder(tmp_path_factory):
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

    folder = tmp_path_factory.mktemp("t5")
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), *((f"▁{word}", -2.0) for word in WORDS), ("▁", -4.0)]
    tokenizer = T5Tokenizer(vocab=[*pieces, *((letter, -6.0) for letter in "abcdefghijklmnopqrstuvwxyz")], extra_ids=2)
    tokenizer.save_pretrained(folder)
    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
    config = T5Config(vocab_size=len(tokenizer), feed_forward_proj="gated-gelu", **sizes)
    torch.manual_seed(0)
    T5ForConditionalGeneration(config).save_pretrained(folder)  # a whole T5, as they are published
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    letters = sorted(set("".join(WORDS)))
    names = [*letters, *(f"{letter}</w>" for letter in letters), "re", "red</w>", "<|startoftext|>", "<|endoftext|>"]
    vocab = {name: i for i, name in enumerate(names)}
    CLIPTokenizer(vocab=vocab, merges=[("r", "e"), ("re", "d</w>")]).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": vocab["<|startoftext|>"], "eos_token_id": vocab["<|endoftext|>"]}
    config = CLIPTextConfig(
        vocab_size=len(vocab), max_position_embeddings=12, pad_token_id=ends["eos_token_id"], **sizes, **ends
    )
    torch.manual_seed(0)
    CLIPTextModel(config).save_pretrained(folder)
    return folder
