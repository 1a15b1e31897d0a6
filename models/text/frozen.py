"""A frozen text encoder in a folder of `transformers`' format: found, checked, loaded offline, and asked for states.

The folder is one model's own, with configuration, weights and tokenizer in it, or a whole pipeline's of `diffusers`,
with those in `text_encoder` and `tokenizer`. Nothing is downloaded.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import safe_open
from torch import Tensor, nn

from models.text.checks import listed, naming, read_json
from models.text.minilm import TokenStates

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


class FrozenEncoder(nn.Module):
    """Captions to token states; no parameter has a gradient, and there is no dropout. Subclasses say which model."""

    kinds: ClassVar[tuple[str, ...]]  # `model_type` in config.json
    architecture: ClassVar[str]  # the class in transformers
    foreign: ClassVar[str]  # pattern of the tensors in a whole model's file that are not the text encoder's
    tokenizer_files: ClassVar[tuple[tuple[str, ...], ...]]  # any of these sets of files

    def __init__(self, folder: str | Path, max_tokens: int, dtype: torch.dtype = torch.float32) -> None:
        """Raises FileNotFoundError naming the folder and what it lacks, ValueError where it holds another model, a
        damaged file, or weights that are not those of its configuration."""
        super().__init__()
        import transformers

        model, words = self._places(Path(folder))
        self.max_tokens = max_tokens
        for path in words[0].parent.glob("*token*.json"):
            read_json(path)
        with naming(*words):
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(words[0].parent, local_files_only=True)
        for path in _weights(model):
            with naming(path), safe_open(path, "pt"):
                pass  # opening it reads its header and compares the file's size with it
        with naming(model / "config.json"):
            network, report = getattr(transformers, self.architecture).from_pretrained(
                model, local_files_only=True, use_safetensors=True, dtype=dtype, output_loading_info=True
            )
        if missing := sorted(report["missing_keys"]):
            raise ValueError(f"{model}: the weights lack {len(missing)} tensors, such as {missing[0]}")
        if stray := sorted(key for key in report["unexpected_keys"] if not re.match(self.foreign, key)):
            raise ValueError(
                f"{model}: the weights have {len(stray)} tensors that config.json does not speak of, such as {stray[0]}"
            )
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
        """States (b, n, dim), float32, and mask (b, n); captions beyond `max_tokens` are cut.

        Raises ValueError for no captions, and for a text in place of a list.
        """
        ids, mask = self.tokens(captions)
        states = self.network(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float()
        return TokenStates(states * mask[..., None], mask)

    def tokens(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids (b, n) and mask (b, n), True where there is a token; n is the longest caption's."""
        device = next(self.network.parameters()).device
        given = self._tokenized(listed(captions))
        return given["input_ids"].to(device), given["attention_mask"].bool().to(device)

    def _tokenized(self, captions: list[str]) -> Any:
        return self.tokenizer(
            captions, padding="longest", truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )

    def _places(self, folder: Path) -> tuple[Path, list[Path]]:
        """The model's folder and the tokenizer's files, both complete."""
        model, tokenizer = folder, folder
        if (folder / "text_encoder").is_dir():
            model, tokenizer = folder / "text_encoder", folder / "tokenizer"
        lacking = [] if (model / "config.json").is_file() else [f"{model / 'config.json'}"]
        lacking += _weights_lacking(model)
        sets = [[tokenizer / name for name in names] for names in self.tokenizer_files]
        whole = [files for files in sets if all(file.is_file() for file in files)]
        if not whole:
            lacking.append(f"a tokenizer in {tokenizer} ({' or '.join(' + '.join(n) for n in self.tokenizer_files)})")
        if lacking:
            name = type(self).__name__
            raise FileNotFoundError(f"{folder}: no complete {name} text encoder; it lacks {', '.join(lacking)}")
        kind = read_json(model / "config.json").get("model_type")
        if kind not in self.kinds:
            raise ValueError(f"{model}: config.json is that of a {kind}, not of a {' or '.join(self.kinds)}")
        return model, whole[0]


def _weights(folder: Path) -> list[Path]:
    """The files of weights: one, or the shards that an index names. Raises ValueError for an index that is none."""
    if (folder / WEIGHTS).is_file() or not (folder / INDEX).is_file():
        return [folder / WEIGHTS]
    index = read_json(folder / INDEX)
    with naming(folder / INDEX):
        return [folder / name for name in sorted(set(index["weight_map"].values()))]


def _weights_lacking(folder: Path) -> list[str]:
    """The files of weights that are not there, and what is there instead."""
    lacking = [f"{path}" for path in _weights(folder) if not path.is_file()]
    if lacking == [f"{folder / WEIGHTS}"]:
        variants = sorted(path.name for path in folder.glob("model.*.safetensors"))
        lacking[0] += f" (there is the variant {' and '.join(variants)}: rename it so)" if variants else ""
    return lacking
