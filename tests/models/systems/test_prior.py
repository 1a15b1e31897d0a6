from dataclasses import replace

import pytest
import torch

from models.systems.prior import Block, Prior, PriorConfig
from tests.models.systems.checks import (
    cast,
    compiles,
    noise,
    randomised,
    runs_in_bf16,
    same_when_checkpointed,
    stays_in_bf16,
)

CONFIG = PriorConfig(width=16, depth=2, head_dim=8, embed=12, vocabulary=20, length=6)
TOKENS = torch.tensor([[1, 5, 7, 0], [3, 2, 9, 4]])
SEEN = torch.tensor([[True, True, True, False], [True, True, True, True]])
LABEL = torch.tensor([-0.3, 0.6], dtype=torch.float64)
GIVEN = {"tokens": TOKENS, "text": noise(2, 12, seed=3), "seen": SEEN}
Z = noise(2, 12)


@pytest.fixture(scope="module")
def prior():
    return randomised(Prior(CONFIG), scale=0.3)


@pytest.mark.parametrize("key", ["tokens", "text", "seen"])
def test_everything_told_changes_the_embedding(prior, key):
    other = {"tokens": (TOKENS + 1) % 20, "text": -GIVEN["text"], "seen": ~SEEN}[key]
    assert (prior(Z, LABEL, **{**GIVEN, key: other}) - prior(Z, LABEL, **GIVEN))[0].abs().max() > 1e-4
    assert (prior(Z, LABEL + 0.3, **GIVEN) - prior(Z, LABEL, **GIVEN)).abs().max() > 1e-4
    assert (prior(-Z, LABEL, **GIVEN) - prior(Z, LABEL, **GIVEN)).abs().max() > 1e-4


def test_padding_does_not_matter(prior):
    other = TOKENS.clone()
    other[0, 3] = 11
    torch.testing.assert_close(prior(Z, LABEL, **{**GIVEN, "tokens": other}), prior(Z, LABEL, **GIVEN))


def test_a_place_does_not_see_what_comes_after():
    prior = randomised(Prior(CONFIG), scale=0.3)
    seen = []
    prior.norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    handle = prior.blocks[-1].register_forward_hook(lambda *args: seen.append(args[2]))
    prior(Z, LABEL, **GIVEN)
    prior(-Z, LABEL, **GIVEN)
    handle.remove()
    before, after = seen[0], seen[2]
    assert torch.equal(before[:, :-2], after[:, :-2])
    assert (before[:, -2:] - after[:, -2:]).abs().min(dim=2).values.max() > 1e-4


def test_samples_of_a_batch_do_not_touch(prior):
    alone = prior(Z[:1], LABEL[:1], **{k: v[:1] for k, v in GIVEN.items()})
    torch.testing.assert_close(prior(Z, LABEL, **GIVEN)[:1], alone, rtol=0, atol=1e-12)


def test_gradients_reach_all_parameters():
    prior = randomised(Prior(replace(CONFIG, length=4)), scale=0.3)
    prior(Z, LABEL, **GIVEN).square().mean().backward()
    assert [n for n, p in prior.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []


def test_what_does_not_fit_is_refused(prior):
    with pytest.raises(ValueError, match="7 tokens are more than the prior's 6"):
        prior(Z, LABEL, TOKENS.new_zeros(2, 7), GIVEN["text"])
    with pytest.raises(ValueError, match="heads of 7"):
        Prior(replace(CONFIG, head_dim=7))


def test_it_compiles_runs_in_bf16_and_is_checkpointed(prior):
    compiles(prior, Z, LABEL, **GIVEN)
    runs_in_bf16(prior, Z, LABEL, **GIVEN)
    same_when_checkpointed(prior, Block, Z, LABEL, **GIVEN)


def test_blocks_stay_in_bfloat16_under_autocast():
    stays_in_bf16(Prior(CONFIG), (Block,), Z.float(), LABEL.float(), **cast(GIVEN, torch.float32))
