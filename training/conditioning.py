"""What the network is told about a batch: the caption's token states, fps and motion."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.text.minilm import MiniLM
from training.data import Batch
from training.errors import TrainingError


class Conditioner:
    """Turns a batch's captions and numbers into the network's keyword arguments. Captions are encoded once each."""

    def __init__(self, device: torch.device, remember: int = 4096) -> None:
        self.device = device
        try:
            self.encoder = MiniLM().to(device)
        except FileNotFoundError as error:
            raise TrainingError(str(error)) from error
        # one caption at a time: its states then do not depend on what it was batched with
        self._states = lru_cache(remember)(lambda caption: self.encoder([caption]).states[0])

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Keyword arguments of the network for `batch`."""
        return self.of(batch.captions, batch.fps, batch.motion)

    def of(self, captions: Sequence[str], fps: Tensor, motion: Tensor) -> dict[str, Tensor]:
        """`text` (b, n, 384) padded to the longest caption, `text_mask` (b, n), `fps` and `motion` (b,)."""
        states = [self._states(caption) for caption in captions]
        lengths = torch.tensor([len(s) for s in states], device=self.device)
        text = pad_sequence(states, batch_first=True)
        mask = torch.arange(text.shape[1], device=self.device) < lengths[:, None]
        return {"text": text, "text_mask": mask, "fps": fps.to(self.device), "motion": motion.to(self.device)}
