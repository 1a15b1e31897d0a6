"""Frozen T5 token states (Raffel et al. 2020; v1.1 and XXL of it), as Imagen and Imagen Video read them.

Saharia et al. 2022 (Imagen) and Ho et al. 2022 (Imagen Video) condition on the states of T5-XXL's encoder, 4096 wide.
"""

from pathlib import Path

import torch

from models.text.checks import at_least_one
from models.text.frozen import FrozenEncoder

MAX_TOKENS = 256  # captions beyond it are cut; T5 itself knows distances, not positions, and has no limit


class T5(FrozenEncoder):
    """Captions to the states of T5's encoder; of a whole T5's checkpoint the decoder is left where it is.

    In bfloat16 XXL takes 9.5 GB; float16 overflows in T5's feed-forward layers.
    """

    kinds = ("t5",)  # UMT5 has position biases in every layer, which T5 would not read
    architecture = "T5EncoderModel"
    foreign = r"(decoder|shared|lm_head)\.|encoder\.embed_tokens\."
    tokenizer_files = (("tokenizer.json",), ("spiece.model",))

    def __init__(self, folder: str | Path, max_tokens: int = MAX_TOKENS, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(folder, at_least_one(max_tokens), dtype)
