"""A frozen text encoder in a folder of `transformers`' format: found, checked, loaded offline, and asked for states.

The folder is one model's own, with configuration, weights and tokenizer in it, or a whole pipeline's of `diffusers`,
with those in `text_encoder` and `tokenizer`. Nothing is downloaded.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from models.text.minilm import TokenStates

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


class FrozenEncoder(nn.Module):
    """Captions to token states; no parameter has a gradient, and there is no dropout. Subclasses say which model."""

    kinds: ClassVar[tuple[str, ...]]  # `model_type` in config.json
    architecture: ClassVar[str]  # the class in transformers
    tokenizer_files: ClassVar[tuple[tuple[str, ...], ...]]  # any of these sets of files

    def __init__(self, folder: str | Path, max_tokens: int, dtype: torch.dtype = torch.float32) -> None:
        """Raises FileNotFoundError naming the folder and what it lacks, ValueError where it holds another model."""
        super().__init__()
        import transformers

        model, tokenizer = self._places(Path(folder))
        self.max_tokens = max_tokens
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
        network, report = getattr(transformers, self.architecture).from_pretrained(
            model, local_files_only=True, use_safetensors=True, dtype=dtype, output_loading_info=True
        )
        if missing := sorted(report["missing_keys"]):
            raise ValueError(f"{model}: the weights lack {len(missing)} tensors, such as {missing[0]}")
        self.network = network.eval().requires_grad_(False)

    @property
    def dim(self) -> int:
        """The width of a token's state."""
        return self.network.config.hidden_size

    def train(self, mode: bool = True) -> Self:
        """Never: it is frozen, dropout included."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, captions: Sequence[str]) -> TokenStates:
        """States (b, n, dim), float32, and mask (b, n); captions beyond `max_tokens` are cut."""
        ids, mask = self.tokens(captions)
        states = self.network(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float()
        return TokenStates(states * mask[..., None], mask)

    def tokens(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids (b, n) and mask (b, n), True where there is a token; n is the longest caption's."""
        device = next(self.network.parameters()).device
        given = self._tokenized(list(captions))
        return given["input_ids"].to(device), given["attention_mask"].bool().to(device)

    def _tokenized(self, captions: list[str]) -> Any:
        return self.tokenizer(
            captions, padding="longest", truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )

    def _places(self, folder: Path) -> tuple[Path, Path]:
        """Where model and tokenizer are, both complete."""
        model, tokenizer = folder, folder
        if (folder / "text_encoder").is_dir():
            model, tokenizer = folder / "text_encoder", folder / "tokenizer"
        lacking = [] if (model / "config.json").is_file() else [f"{model / 'config.json'}"]
        lacking += _weights_lacking(model)
        if not any(all((tokenizer / name).is_file() for name in names) for names in self.tokenizer_files):
            lacking.append(f"a tokenizer in {tokenizer} ({' or '.join(' + '.join(n) for n in self.tokenizer_files)})")
        if lacking:
            name = type(self).__name__
            raise FileNotFoundError(f"{folder}: no complete {name} text encoder; it lacks {', '.join(lacking)}")
        kind = json.loads((model / "config.json").read_text()).get("model_type")
        if kind not in self.kinds:
            raise ValueError(f"{model}: config.json is that of a {kind}, not of a {' or '.join(self.kinds)}")
        return model, tokenizer


def _weights_lacking(folder: Path) -> list[str]:
    """The files of weights that are not there: of one file, or of the shards that an index names."""
    if (folder / WEIGHTS).is_file():
        return []
    if not (folder / INDEX).is_file():
        return [f"{folder / WEIGHTS}"]
    shards = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
    return [f"{folder / name}" for name in shards if not (folder / name).is_file()]
