"""VideoBLIP and chat models against direct calls of transformers on tiny checkpoints."""

import json

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from safetensors.torch import load_file, save_file

from curation.scores.language_models import ChatModel, VideoBlip

BLUE = "the dog runs under the blue table"
RED = "a red cat sits"


@pytest.fixture(scope="module")
def blip(blip_folder):
    return VideoBlip(blip_folder)


@pytest.fixture(scope="module")
def published(blip_folder):
    """BLIP-2 as transformers ships it; with `frames` > 1, its vision tower shows the features of them all at once."""
    net = hf.Blip2ForConditionalGeneration.from_pretrained(blip_folder).eval()
    processor = hf.BlipImageProcessor.from_pretrained(blip_folder)
    tokenizer = hf.AutoTokenizer.from_pretrained(blip_folder)
    tower = net.vision_model.forward

    def caption(frames, prompt="", **options):
        pixels = processor(images=[Image.fromarray(f) for f in frames], return_tensors="pt")["pixel_values"]

        def all_frames(_, **kwargs):
            out = tower(pixels, **kwargs)
            out.last_hidden_state = torch.cat(list(out.last_hidden_state), dim=0)[None]
            return out

        net.vision_model.forward = all_frames
        ids = torch.tensor([[net.config.image_token_index] * 4 + tokenizer(prompt)["input_ids"]])
        out = net.generate(pixel_values=pixels[:1], input_ids=ids, do_sample=False, **options)
        return " ".join(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).split())

    return caption


@pytest.fixture
def frames(picture):
    return [picture(name, 120) for name in ("astronaut", "coffee", "rocket", "chelsea")]


@pytest.mark.parametrize("prompt", ["", "the dog"])
@pytest.mark.parametrize("count", [1, 3])
def test_captions_are_those_of_blip2_on_all_frames(blip, published, frames, count, prompt):
    theirs = published(frames[:count], prompt, num_beams=4, max_new_tokens=12)
    assert blip.caption([frames[:count]], prompt, beams=4, max_new_tokens=12) == [theirs]
    assert theirs


def test_clips_of_different_numbers_of_frames_share_a_batch(blip, frames):
    clips = [frames[:3], frames[3:], frames[1:]]
    together = blip.queries(clips)
    assert together.shape == (3, 4, 32)
    for clip, queries in zip(clips, together, strict=True):
        torch.testing.assert_close(queries, blip.queries([clip])[0], atol=1e-4, rtol=1e-4)
    assert blip.caption(clips, "", 2, 8) == [blip.caption([clip], "", 2, 8)[0] for clip in clips]


def test_every_frame_counts(blip, frames):
    one, two = blip.queries([[frames[0], frames[1]], [frames[0], frames[2]]])
    assert (one - two).abs().max() > 1e-3


def test_answers_are_the_greedy_ones_of_a_direct_call(llm_folder):
    """Whatever sampling the checkpoint's own generation_config asks for."""
    net = hf.Qwen2ForCausalLM.from_pretrained(llm_folder).eval()
    tokenizer = hf.AutoTokenizer.from_pretrained(llm_folder)
    chat = ChatModel(llm_folder)
    for prompt in (BLUE, RED):
        text = f"user </s> {prompt} </s> the"
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        answer = []
        with torch.no_grad():
            for _ in range(10):
                token = int(net(ids).logits[0, -1].argmax())
                if token == 2:
                    break
                answer.append(token)
                ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
        assert chat.reply([prompt], 10) == [tokenizer.decode(answer, skip_special_tokens=True)]
    assert chat.reply([BLUE], 10) != chat.reply([RED], 10)


def test_an_answer_does_not_depend_on_its_batch(llm_folder):
    chat = ChatModel(llm_folder)
    assert chat.reply([BLUE, RED, "it is"], 10) == [chat.reply([p], 10)[0] for p in (BLUE, RED, "it is")]


def test_a_model_without_a_chat_template_is_refused(llm_folder, tmp_path):
    for file in llm_folder.iterdir():
        if "template" not in file.name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "chat_template"}))
    with pytest.raises(ValueError, match="no chat template"):
        ChatModel(tmp_path)


def test_a_checkpoint_with_a_hole_is_refused_and_not_filled_with_noise(blip_folder, tmp_path):
    for file in blip_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    del state["language_projection.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks weights .*language_projection\.weight"):
        VideoBlip(tmp_path)


def test_frames_of_any_size_are_seen(blip):
    tall = np.zeros((200, 40, 3), np.uint8)
    wide = np.full((40, 300, 3), 255, np.uint8)
    assert blip.queries([[tall, wide]]).isfinite().all()
