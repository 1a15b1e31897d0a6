"""Real pictures and clips made of them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from curation.scores.base import ClipFrames


@pytest.fixture(scope="session")
def picture():
    """A photograph by name, RGB uint8, long side at most `side`; they come with scikit-image, which EasyOCR needs."""

    def load(name: str, side: int = 640) -> np.ndarray:
        import skimage

        (path,) = (Path(skimage.__file__).parent / "data").glob(f"{name}.*")
        frame = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        scale = side / max(frame.shape[:2])
        return cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else frame

    return load


@pytest.fixture(scope="session")
def clip_of():
    """A clip of the given frames, flow, hashes and frames spread over it."""

    def build(
        *frames: np.ndarray, clip_id: str = "c", flow=None, flow_size=(256, 144), hashes=(), uniform=()
    ) -> ClipFrames:
        frames = frames or (np.zeros((36, 64, 3), np.uint8),)
        height, width = frames[0].shape[:2]
        return ClipFrames(
            clip_id=clip_id,
            video_id="v",
            uri="v.mp4",
            start=0.0,
            end=2.0,
            fps=25.0,
            width=width,
            height=height,
            frames=frames,
            frame_times=tuple(float(i) for i in range(len(frames))),
            flow=np.zeros((1, 16, 28, 2), np.float16) if flow is None else flow,
            flow_size=flow_size,
            hashes=np.asarray(hashes, np.uint64),
            uniform=tuple(uniform),
        )

    return build


def _open_clip_folder(folder: Path, config: dict) -> Path:
    """A randomly initialised open_clip model, saved as its hub folders are."""
    import json

    import open_clip
    import torch
    from safetensors.torch import save_file

    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    net = open_clip.create_model(f"local-dir:{folder}")
    for matrix in (p for p in net.parameters() if p.ndim > 1):
        torch.nn.init.normal_(matrix, std=0.2)  # open_clip leaves some at zero: every picture would get one caption
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """A CLIP of 32 features, as small as one can be."""
    vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 16}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    return _open_clip_folder(tmp_path_factory.mktemp("clip"), {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text})


@pytest.fixture(scope="session")
def coca_folder(tmp_path_factory):
    """A CoCa with the published one's parts: attentional pooling, a class token in the text, a decoder."""
    vision = {
        "image_size": 32, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16, "attentional_pool": True,
        "attn_pooler_heads": 2, "attn_pooler_queries": 8, "output_tokens": True,
    }  # fmt: skip
    text = {
        "context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2, "embed_cls": True,
        "output_tokens": True,
    }  # fmt: skip
    decoder = {
        "context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2, "attn_pooler_heads": 2,
    }  # fmt: skip
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text, "multimodal_cfg": decoder, "custom_text": True}
    return _open_clip_folder(tmp_path_factory.mktemp("coca"), config)


WORDS = "a the cat dog runs sits on under red blue table street and in it is while two people walk".split()


def _save_tokenizer(folder: Path, start: str | None = None, chat_template: str | None = None) -> int:
    """A word-level tokenizer, `</s>` its end and, if so wanted, its start; returns its size."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<pad>", "<unk>", "</s>", *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    if start:
        raw.post_processor = processors.TemplateProcessing(single=f"{start} $A", special_tokens=[(start, 2)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>", eos_token="</s>", chat_template=chat_template
    )
    tokenizer.save_pretrained(folder)
    return len(vocabulary)


def _lively(net) -> None:
    """transformers starts its matrices so near zero that no input would change an answer."""
    import torch

    torch.manual_seed(0)
    for matrix in (p for p in net.parameters() if p.ndim > 1):
        torch.nn.init.normal_(matrix, std=0.3)


@pytest.fixture(scope="session")
def blip_folder(tmp_path_factory):
    """A BLIP-2 with an OPT inside, as small as one can be."""
    import transformers as hf

    folder = tmp_path_factory.mktemp("blip")
    words = _save_tokenizer(folder, start="</s>")
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 16}  # fmt: skip
    queries = {"vocab_size": 8, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
               "intermediate_size": 64, "encoder_hidden_size": 32, "cross_attention_frequency": 1}  # fmt: skip
    text = hf.OPTConfig(
        vocab_size=words + 1, hidden_size=32, word_embed_proj_dim=32, num_hidden_layers=2, ffn_dim=64,
        num_attention_heads=2, max_position_embeddings=128, bos_token_id=2, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    config = hf.Blip2Config(
        vision_config=vision, qformer_config=queries, text_config=text.to_dict(), num_query_tokens=4,
        image_token_index=words,
    )  # fmt: skip
    net = hf.Blip2ForConditionalGeneration(config)
    _lively(net)
    net.save_pretrained(folder)
    hf.BlipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llm_folder(tmp_path_factory):
    """A Qwen2 with a chat template, as small as one can be. It would rather sample, as the published ones."""
    import transformers as hf

    folder = tmp_path_factory.mktemp("llm")
    template = (
        "{% for m in messages %}{{ m['role'] }} </s> {{ m['content'] }} </s> {% endfor %}"
        "{% if add_generation_prompt %}the {% endif %}"
    )
    words = _save_tokenizer(folder, chat_template=template)
    config = hf.Qwen2Config(
        vocab_size=words, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, bos_token_id=2, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    net = hf.Qwen2ForCausalLM(config)
    _lively(net)
    net.generation_config = hf.GenerationConfig(
        do_sample=True, temperature=1.5, top_k=50, repetition_penalty=1.3, eos_token_id=2, pad_token_id=0
    )
    net.save_pretrained(folder)
    return folder
