"""Classifier-free guidance by a text: captions dropped in training, and both halves in one call when sampling."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from models.diffusion.guidance import Guided, same_rows


def drop_text(seen: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """`seen` (b, n), bool, the text's mask, with all tokens of a random `share` of the batch hidden: the network then
    learns to do without (Ho and Salimans 2022)."""
    kept = torch.rand(len(seen), generator=generator, device=generator.device) >= share
    return seen & kept.to(seen.device)[:, None]


def guided_by_text(
    denoise: Callable[..., Tensor],
    text: Tensor | None,
    seen: Tensor | None = None,
    scale: float = 1.0,
    **conditioning: Any,
) -> Callable[[Tensor, Tensor], Tensor]:
    """`denoise(z, t)` given `text` (b, n, d) with its mask `seen` (b, n), at `scale` 1 the text's own estimate; above,
    away from the estimate without text. What else is known, tensors with batch first, both halves are told.

    Raises ValueError for a scale without text and, when called, where a tensor has not a row for each of z's."""
    if text is None:
        if scale != 1:
            raise ValueError(f"guidance of {scale:g} needs a text to guide by")

        def plain(z: Tensor, t: Tensor) -> Tensor:
            same_rows(len(z), conditioning)
            return denoise(z, t, **conditioning)

        return plain
    if seen is None:
        seen = text.new_ones(text.shape[:2], dtype=torch.bool)
    cond = {"text": text, "text_mask": seen, **conditioning}
    return Guided(denoise, cond, {**cond, "text_mask": torch.zeros_like(seen)}, scale)
