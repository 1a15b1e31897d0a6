import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.text.clip import CLIPText

CAPTIONS = ["a red car", "", "the dog rides down the hill", "red"]


@pytest.fixture(scope="module")
def encoder(clip_folder):
    torch.set_num_threads(1)
    return CLIPText(clip_folder)


def direct(folder):
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    peer = CLIPTextModel.from_pretrained(folder, local_files_only=True).eval()
    tokens = tokenizer(CAPTIONS, padding="max_length", truncation=True, max_length=12, return_tensors="pt")
    return tokens, peer


def test_states_are_those_that_stable_diffusions_pipelines_give_their_network(encoder, clip_folder):
    tokens, peer = direct(clip_folder)
    with torch.no_grad():
        expected = peer(tokens.input_ids).last_hidden_state  # those pipelines give no mask
    states, mask = encoder(CAPTIONS)
    assert mask.all()
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-6)
    assert states.shape == (4, 12, encoder.dim) == (4, 12, 16)
    assert (states[0] - states[3]).abs().max() > 0.01


def test_padding_may_be_masked(clip_folder):
    tokens, peer = direct(clip_folder)
    with torch.no_grad():
        expected = peer(**tokens).last_hidden_state * tokens["attention_mask"][..., None]
    states, mask = CLIPText(clip_folder, see_padding=False)(CAPTIONS)
    assert torch.equal(mask, tokens["attention_mask"].bool())
    assert mask.sum(1).tolist()[1] == 2  # the empty caption is its two boundary tokens
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-6)


def test_long_captions_are_cut_and_keep_their_end(encoder):
    ids, mask = encoder.tokens(["the dog rides down the very long hill"])
    assert ids.shape == (1, 12)
    assert mask.all()
    assert ids[0, -1] == encoder.network.config.eos_token_id


def test_frozen_and_without_dropout(encoder):
    assert not any(p.requires_grad for p in encoder.parameters())
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not encoder(["a dog"]).states.requires_grad


def test_a_whole_clips_text_half(clip_folder, encoder, tmp_path):
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    shutil.copytree(clip_folder, tmp_path, dirs_exist_ok=True)
    text = CLIPTextConfig.from_pretrained(clip_folder)
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4
    )
    whole = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8))
    inner = getattr(whole.text_model, "text_model", whole.text_model)
    ours = encoder.network.state_dict()
    inner.load_state_dict({key.removeprefix("text_model."): value for key, value in ours.items()})
    whole.save_pretrained(tmp_path)
    assert torch.equal(CLIPText(tmp_path)(CAPTIONS).states, encoder(CAPTIONS).states)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_what_is_missing_is_named_with_its_folder(clip_folder, tmp_path, name):
    shutil.copytree(clip_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=name) as caught:
        CLIPText(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_weights_with_more_layers_than_the_configuration_are_refused(clip_folder, tmp_path):
    shutil.copytree(clip_folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(ValueError, match=r"does not speak of, such as .*encoder\.layers\.1"):
        CLIPText(tmp_path)


def test_a_table_of_places_in_old_files_is_no_fault(clip_folder, encoder, tmp_path):
    shutil.copytree(clip_folder, tmp_path, dirs_exist_ok=True)
    state = load_file(tmp_path / "model.safetensors")
    state["text_model.embeddings.position_ids"] = torch.arange(12)[None]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    assert torch.equal(CLIPText(tmp_path)(CAPTIONS).states, encoder(CAPTIONS).states)


@pytest.mark.parametrize("captions", ["a red car", []])
def test_what_is_no_list_of_captions_is_refused(encoder, captions):
    with pytest.raises(ValueError, match="captions"):
        encoder(captions)


def test_another_model_is_refused(t5_folder):
    with pytest.raises(ValueError, match="t5"):
        CLIPText(t5_folder)
