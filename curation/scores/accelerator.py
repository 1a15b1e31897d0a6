"""The card, if there is one: seen without torch, used in half precision, and asked for less when its memory is full."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # torch takes seconds to import: only the process that scores pays for it
    import numpy as np
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
COMPUTE = "fp32 on the CPU, half precision on a card"  # part of every definition: the last digits depend on it
_DRIVER = Path("/proc/driver/nvidia/gpus")


def cards() -> int:
    """NVIDIA cards that this process may use: those of the driver, as far as CUDA_VISIBLE_DEVICES lets them be seen."""
    present = len(list(_DRIVER.iterdir())) if _DRIVER.is_dir() else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return present
    return min(present, len([v for v in visible.split(",") if v.strip() not in {"", "-1"}]))


def device() -> "torch.device":
    """Where networks run in this process."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half(on: "torch.device") -> "torch.dtype":
    """bfloat16 on cards that have it, float16 on older ones, float32 on a CPU."""
    import torch

    if on.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def uploaded(frames: "Sequence[np.ndarray]", on: "torch.device") -> "torch.Tensor":
    """uint8 frames of one shape (h, w, 3) -> (n, h, w, 3) where networks run.

    To a card they go by way of pinned memory, without waiting: it may still compute what came before.
    """
    import torch

    batch = torch.empty((len(frames), *frames[0].shape), dtype=torch.uint8, pin_memory=on.type == "cuda")
    for row, frame in zip(batch.numpy(), frames, strict=True):
        row[:] = frame
    return batch.to(on, non_blocking=True)


class Halving:
    """Runs a function over batches of at most `size`. Where memory does not suffice, `size` is halved for good.

    A function that leaves its results on the card lets the host prepare the next batch meanwhile.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, run: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]) -> list[Result]:
        """`run` maps a batch to one result an item. Raises torch.OutOfMemoryError if a single item does not fit."""
        out: list[Result] = []
        while len(out) < len(items):
            batch = items[len(out) : len(out) + self.size]
            results = self._attempt(run, batch)
            if results is None:
                self.size = len(batch) // 2
            else:
                out += results
        return out

    def _attempt(self, run: Callable[[Sequence[Item]], Sequence[Result]], batch: Sequence[Item]) -> list[Result] | None:
        import torch

        try:
            return list(run(batch))
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        # Only here, outside the handler, are the frames gone that held the failed batch's tensors.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None
