"""The language models that transformers runs: BLIP-2 over the frames of a clip, and any chat model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoImageProcessor, AutoModelForCausalLM, AutoTokenizer, Blip2ForConditionalGeneration

from curation.scores.accelerator import device, half, uploaded

# Checkpoints bring sampling settings of their own: these leave nothing to chance.
_DETERMINISTIC = {
    "do_sample": False, "temperature": None, "top_k": None, "top_p": None, "repetition_penalty": 1.0,
}  # fmt: skip


def load_network(kind: Any, folder: Path, on: torch.device) -> Any:
    """A transformers network in evaluation, in half precision on a card. Raises ValueError if weights are lacking.

    transformers itself would fill the gaps with random numbers and only warn.
    """
    net, found = kind.from_pretrained(folder, dtype=half(on), local_files_only=True, output_loading_info=True)
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{folder.name} lacks weights that {type(net).__name__} has: {', '.join(missing[:5])}")
    return net.to(on).eval()


class VideoBlip:
    """BLIP-2 (Li et al. 2023) over several frames, as VideoBLIP extends it.

    Each frame goes through the vision tower alone; the patch features of all frames, one after another, are what the
    Q-Former attends to; its few query tokens stand before the prompt of the language model. The weights are those of a
    `Blip2ForConditionalGeneration`, with which one frame gives the same caption.
    """

    def __init__(self, folder: Path) -> None:
        self.device = device()
        self.net = load_network(Blip2ForConditionalGeneration, folder, self.device)
        self.processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    @torch.inference_mode()
    def queries(self, clips: Sequence[Sequence[np.ndarray]]) -> Tensor:
        """Clips of one or more RGB uint8 frames (h, w, 3) -> (clips, query tokens, language model's hidden size)."""
        return self.watch(self.pixels([frame for clip in clips for frame in clip]), [len(clip) for clip in clips])

    def pixels(self, frames: Sequence[np.ndarray]) -> Tensor:
        """RGB uint8 frames (h, w, 3) of any sizes -> (n, 3, height, width) as the checkpoint's processor makes them."""
        pictures: list[Any] = [None] * len(frames)
        for shape in {frame.shape for frame in frames}:  # those of one size travel together
            at = [i for i, frame in enumerate(frames) if frame.shape == shape]
            for i, picture in zip(at, uploaded([frames[i] for i in at], self.device).permute(0, 3, 1, 2), strict=True):
                pictures[i] = picture
        seen = self.processor(images=pictures, input_data_format="channels_first", return_tensors="pt")
        return seen["pixel_values"].to(self.net.vision_model.dtype)

    @torch.inference_mode()
    def watch(self, pixels: Tensor, frames: Sequence[int]) -> Tensor:
        """`queries` from the pixels of all clips, clip i having `frames[i]` of them."""
        net = self.net
        states = net.vision_model(pixels).last_hidden_state
        each = [part.flatten(0, 1) for part in states.split(list(frames))]
        features = pad_sequence(each, batch_first=True)
        seen = pad_sequence([e.new_ones(len(e), dtype=torch.long) for e in each], batch_first=True)
        # The Q-Former stays in fp32 where the rest is fp16.
        found = net.qformer(
            query_embeds=net.query_tokens.expand(len(frames), -1, -1),
            encoder_hidden_states=features.to(net.qformer.dtype),
            encoder_attention_mask=seen,
        ).last_hidden_state
        return net.language_projection(found.to(net.language_projection.weight.dtype))

    @torch.inference_mode()
    def caption(self, clips: Sequence[Sequence[np.ndarray]], prompt: str, beams: int, max_new_tokens: int) -> list[str]:
        """One caption a clip; `prompt` is what the language model continues, "" for its start token alone."""
        return self.say(self.queries(clips), prompt, beams, max_new_tokens)

    @torch.inference_mode()
    def say(self, queries: Tensor, prompt: str, beams: int, max_new_tokens: int) -> list[str]:
        """`caption` from the queries (clips, query tokens, hidden size)."""
        ids = self.tokenizer(prompt)["input_ids"] or [self.net.config.text_config.bos_token_id]
        words = self.net.get_input_embeddings()(torch.tensor([ids], device=self.device)).expand(len(queries), -1, -1)
        inputs = torch.cat([queries.to(words.dtype), words], dim=1)
        tokens = self.net.language_model.generate(
            inputs_embeds=inputs,
            attention_mask=torch.ones(inputs.shape[:2], dtype=torch.long, device=self.device),
            max_new_tokens=max_new_tokens,
            num_beams=beams,
            **_DETERMINISTIC,
        )
        return [" ".join(t.split()) for t in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)]


class ChatModel:
    """A causal language model with a chat template. Raises ValueError for one without."""

    def __init__(self, folder: Path) -> None:
        self.device = device()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
        if not self.tokenizer.chat_template:
            raise ValueError(f"{folder.name} has no chat template: an instruction model is needed")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.net = load_network(AutoModelForCausalLM, folder, self.device)

    @torch.inference_mode()
    def reply(self, prompts: Sequence[str], max_new_tokens: int) -> list[str]:
        """The likeliest token each time (greedy), one answer a prompt, special tokens left out."""
        talks = [[{"role": "user", "content": prompt}] for prompt in prompts]
        inputs = self.tokenizer.apply_chat_template(
            talks,
            add_generation_prompt=True,
            padding=True,
            return_dict=True,
            return_tensors="pt",
            enable_thinking=False,  # models that think aloud take this as "answer at once", others do not look at it
        ).to(self.device)
        tokens = self.net.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            num_beams=1,
            pad_token_id=self.tokenizer.pad_token_id,
            **_DETERMINISTIC,
        )
        new = tokens[:, inputs["input_ids"].shape[1] :]
        return self.tokenizer.batch_decode(new, skip_special_tokens=True)
