"""Cards seen without torch; batches that halve where memory does not suffice."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curation.scores import accelerator
from curation.scores.accelerator import Halving, cards, half


@given(st.lists(st.integers(), max_size=40), st.integers(1, 16), st.integers(1, 16))
def test_halving_gives_every_result_in_order(items, size, fits):
    tried = []

    def run(batch):
        tried.append(len(batch))
        if len(batch) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [-i for i in batch]

    halving = Halving(size)
    assert halving(run, items) == [-i for i in items]
    assert max(tried, default=0) <= size
    assert halving.size <= max(fits, 1) or len(items) <= fits or size <= fits
    tried.clear()
    halving(run, items)
    assert all(n <= fits for n in tried)  # what did not fit once is not tried again


def test_one_item_that_does_not_fit_is_an_error():
    def run(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        Halving(4)(run, [1, 2, 3])


def test_other_errors_are_not_retried():
    calls = []

    def run(batch):
        calls.append(batch)
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape"):
        Halving(4)(run, [1, 2, 3])
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("visible", "seen"), [(None, 2), ("", 0), ("-1", 0), ("0", 1), ("0,1", 2), ("0,1,2", 2), ("GPU-1a", 1)]
)
def test_cards_are_those_of_the_driver_that_may_be_seen(tmp_path, monkeypatch, visible, seen):
    for card in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / card).mkdir()
    monkeypatch.setattr(accelerator, "_DRIVER", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert cards() == seen


def test_a_machine_without_a_driver_has_no_card(tmp_path, monkeypatch):
    monkeypatch.setattr(accelerator, "_DRIVER", tmp_path / "absent")
    assert cards() == 0
    assert half(torch.device("cpu")) == torch.float32
