"""Frozen token states of CLIP's text encoder (Radford et al. 2021), as Stable Diffusion reads them.

Rombach et al. 2022's released networks attend to all 77 states, those of the padding too: that is what they were
trained with, so it is the default here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.text.frozen import FrozenEncoder
from models.text.minilm import TokenStates


class CLIPText(FrozenEncoder):
    """Captions to CLIP's last states, always as many as it has positions (77).

    `see_padding`: the mask is True everywhere, as Stable Diffusion wants it; False masks what follows the caption's
    end, whose states are then zero.
    """

    kinds = ("clip_text_model", "clip")
    architecture = "CLIPTextModel"
    foreign = r"(vision_model|visual_projection|text_projection|logit_scale)\b|.*\.position_ids$"
    tokenizer_files = (("tokenizer.json",), ("vocab.json", "merges.txt"))

    def __init__(self, folder: str | Path, see_padding: bool = True, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(folder, 0, dtype)
        self.see_padding = see_padding
        self.max_tokens = self.network.config.max_position_embeddings

    @torch.no_grad()
    def forward(self, captions: Sequence[str]) -> TokenStates:
        """States (b, 77, dim), float32, and mask (b, 77)."""
        if not self.see_padding:
            return super().forward(captions)
        ids, _ = self.tokens(captions)
        # nor does the encoder itself get a mask: the padding's states depend on it
        return TokenStates(self.network(input_ids=ids).last_hidden_state.float(), torch.ones_like(ids).bool())

    def _tokenized(self, captions: list[str]) -> Any:
        return self.tokenizer(
            captions, padding="max_length", truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
