"""What the network is told about a batch: the caption's token states, fps and motion."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.text.minilm import MiniLM
from training.data import Batch
from training.errors import TrainingError

Told = dict[str, Tensor]
Tell = Callable[[Told, Tensor], Told]
"""Text, fps and motion, and the pixels (b, 3, [t,] h, w), to what a system's network is told."""


def as_it_is(told: Told, pixels: Tensor) -> Told:
    """Text, fps and motion are all that it is told."""
    return told


class Conditioner:
    """Turns a batch's captions and numbers into the network's keyword arguments. Captions are encoded once each.

    `tell` makes of them what a system's network is told (`recipes`). Without `captions`, every batch is conditioned on
    the empty caption.
    """

    def __init__(
        self, device: torch.device, tell: Tell = as_it_is, remember: int = 4096, captions: bool = True
    ) -> None:
        self.device, self.tell, self.captions = device, tell, captions
        try:
            self.encoder = MiniLM().to(device)
        except FileNotFoundError as error:
            raise TrainingError(str(error)) from error
        # one caption at a time: its states then do not depend on what it was batched with
        self._states = lru_cache(remember)(lambda caption: self.encoder([caption]).states[0])

    def __call__(self, batch: Batch) -> Told:
        """Keyword arguments of the network for `batch`."""
        captions = batch.captions if self.captions else [""] * len(batch.captions)
        return self.tell(self.of(captions, batch.fps, batch.motion), batch.pixels.to(self.device))

    def of(self, captions: Sequence[str], fps: Tensor, motion: Tensor) -> Told:
        """`text` (b, n, 384) padded to the longest caption, `text_mask` (b, n), `fps` and `motion` (b,)."""
        states = [self._states(caption) for caption in captions]
        lengths = torch.tensor([len(s) for s in states], device=self.device)
        text = pad_sequence(states, batch_first=True)
        mask = torch.arange(text.shape[1], device=self.device) < lengths[:, None]
        return {"text": text, "text_mask": mask, "fps": fps.to(self.device), "motion": motion.to(self.device)}
