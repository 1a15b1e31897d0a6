"""What a joint paints and what the labels say of it, on shots whose every pixel is known."""

import numpy as np
import pytest
import torch

from benchmarks.footage.joints import (
    CUT,
    DISSOLVE,
    FADE,
    PUSH,
    WIPE,
    Joint,
    Labels,
    _held,
    _label,
    batch,
    joined,
    planned,
)
from benchmarks.footage.shots import Canvas, Shots

FRAMES, N = 80, 64


def canvas(seed: int = 0, samples: int = N) -> Canvas:
    return Canvas(samples, FRAMES, torch.Generator().manual_seed(seed))


def flat(shade: float) -> torch.Tensor:
    return torch.full((N, FRAMES, 3, 18, 32), float(shade))


def joint(kind: int, first: int, fall: int, hold: int, rise: int) -> Joint:
    return Joint(
        *(torch.full((N,), v) for v in (kind,)),
        *(torch.full((N,), float(v)) for v in (first, first + fall + hold + rise, fall, hold, rise)),
    )


@pytest.mark.parametrize("kind", [CUT, DISSOLVE, FADE, WIPE, PUSH])
def test_outside_a_joint_only_one_shot_is_seen(kind: int) -> None:
    length = 0 if kind == CUT else 30
    out = joined(canvas(), flat(0.25), flat(0.75), joint(kind, 20, length // 3, length // 3, length // 3))
    assert torch.allclose(out[:, :20], torch.tensor(0.25))
    assert torch.allclose(out[:, 20 + max(1, length) :], torch.tensor(0.75))
    if kind != CUT:
        inside = out[:, 20:50]
        assert ((inside - 0.25).abs().amax((1, 2, 3, 4)) > 0.1).all()


@pytest.mark.parametrize("kind", [DISSOLVE, WIPE, PUSH])
def test_the_new_shot_comes_steadily(kind: int) -> None:
    shade = joined(canvas(), flat(0), flat(1), joint(kind, 20, 30, 0, 0)).mean((2, 3, 4))
    step = torch.diff(shade[:, 19:51], dim=1)
    assert (step > -1e-6).all()
    # blinds, grains and brightness fall in steps on flat pictures; nothing else does
    assert (step.amax(1) < 0.5).float().mean() > (0.8 if kind == WIPE else 0.99)
    assert shade[:, 35].mean() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("length", [31, 30])  # 32 columns in 31 frames and one step more: a whole column a frame
def test_a_push_moves_the_picture_evenly(length: int) -> None:
    old = torch.arange(32.0).expand(N, FRAMES, 3, 18, 32) / 64
    out = joined(canvas(), old, flat(1), joint(PUSH, 20, length, 0, 0))[:, 30, 0, 0]
    shift = 32 * 11 / (length + 1)
    # one in seven goes to the left, and one to the right, that neither covers nor is eased
    left = (out[:, :20] - (torch.arange(20) + shift) / 64).abs().amax(1) < 1e-4
    right = (out[:, 12:] - (torch.arange(12, 32) - shift) / 64).abs().amax(1) < 1e-4
    assert 5 < left.sum() < N / 2
    assert 5 < right.sum() < N / 2


def test_a_fade_holds_one_colour() -> None:
    noise = torch.rand(N, FRAMES, 3, 18, 32, generator=torch.Generator().manual_seed(1))
    out = joined(canvas(), noise, noise, joint(FADE, 20, 8, 10, 8))
    held = out[:, 28:38].flatten(3)
    assert (held.amax((1, 3)) - held.amin((1, 3))).max() < 1e-6
    black = (held.amax((1, 2, 3)) == 0).float().mean()
    assert 0.3 < black < 0.85  # 58 percent of them


@pytest.mark.parametrize(
    ("kind", "fall", "hold", "rise", "cuts", "gradual", "open_cuts", "open_gradual"),
    [
        (CUT, 0, 0, 0, [20], [], [19, 21], []),
        (DISSOLVE, 10, 0, 0, [], range(20, 30), [], [*range(18, 23), *range(28, 33)]),
        (FADE, 0, 5, 10, [20], range(20, 35), [19, 21], [*range(18, 23), *range(33, 38)]),
        (FADE, 10, 5, 0, [35], range(20, 35), [34, 36], [*range(18, 23), *range(33, 38)]),
        (FADE, 6, 20, 6, [], range(20, 52), [], [*range(18, 23), *range(27, 46), *range(50, 55)]),
        (DISSOLVE, 5, 0, 0, [], range(20, 25), [], [*range(18, 28)]),
        (DISSOLVE, 4, 0, 0, [22], [], [19, 20, 21, 23, 24, 25], [*range(18, 27)]),  # told as one cut
        (WIPE, 3, 0, 0, [21], [], [19, 20, 22, 23, 24], [*range(18, 26)]),
        (FADE, 2, 0, 2, [22], [], [19, 20, 21, 23, 24, 25], [*range(18, 27)]),
    ],
)
def test_labels_of_a_joint(kind, fall, hold, rise, cuts, gradual, open_cuts, open_gradual) -> None:
    labels = _label(canvas(), flat(0.2), flat(0.8), joint(kind, 20, fall, hold, rise))
    every = [*range(FRAMES)]
    assert torch.where(labels.cut[0])[0].tolist() == cuts
    assert torch.where(labels.gradual[0])[0].tolist() == [*gradual]
    assert torch.where(labels.cut_counts[0])[0].tolist() == [i for i in every if i not in open_cuts]
    assert torch.where(labels.gradual_counts[0])[0].tolist() == [i for i in every if i not in open_gradual]


def test_a_joint_of_shots_that_are_alike_counts_for_nothing() -> None:
    labels = _label(canvas(), flat(0.2), flat(0.21), joint(DISSOLVE, 20, 10, 0, 0))
    assert not labels.cut_counts[:, 17:34].any()
    assert not labels.gradual_counts[:, 17:34].any()
    assert labels.cut_counts[:, :17].all()


def test_planned_joints_have_room_and_the_lengths_of_their_kind() -> None:
    many = canvas(samples=5000)
    end = many.integer(0, 50)
    plan = planned(many, end, torch.full_like(end, 32.0))
    length = plan.past - plan.first
    assert (plan.first - end >= 9).all()
    for kind, (low, high) in {CUT: (0, 0), DISSOLVE: (2, 60), WIPE: (2, 45), PUSH: (2, 31), FADE: (2, 107)}.items():
        some = length[plan.kind == kind]
        assert low <= some.min()
        assert some.max() <= high
    dissolves = length[plan.kind == DISSOLVE]
    assert 0.2 < (dissolves <= 8).float().mean() < 0.4  # a quarter, and those that are short by chance
    assert not ((plan.fall == 0) & (plan.rise == 0)).any(), "a fade with neither ramp"
    share = torch.bincount(plan.kind, minlength=5) / 5000
    assert share.tolist() == pytest.approx([0.26, 0.28, 0.16, 0.19, 0.11], abs=0.03)


def test_a_seed_decides_the_batch() -> None:
    rng = np.random.default_rng(0)
    bank = {str(i): [rng.integers(0, 256, (30, 36, 64, 3), np.uint8)] for i in range(4)}
    shots = Shots(bank, bank, "cpu")
    (a, labels), (b, _), (c, _) = (batch(shots, canvas(seed, 4)) for seed in (3, 3, 4))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert a.shape == (4, FRAMES, 3, 18, 32)
    assert 0 <= a.min() <= a.max() <= 1
    assert torch.allclose((a * 255).round(), a * 255, atol=1e-4), "pictures have 256 levels"
    assert labels.cut.shape == labels.gradual_counts.shape == (4, FRAMES)


def test_held_pictures_take_their_labels_along() -> None:
    many = canvas(samples=300)
    numbered = many.time[:, :, None, None, None].expand(300, FRAMES, 1, 1, 1)
    cut = (many.time % 7 == 4).expand(300, FRAMES)
    gradual = (many.time >= 40).expand(300, FRAMES)
    out, labels = _held(numbered, Labels(cut, gradual, ~gradual, ~cut), many)
    shown = out[:, :, 0, 0, 0].long()
    held = torch.diff(shown, dim=1).amax(1)  # 1: every picture is shown
    assert set(held.tolist()) == {1, 2, 3}
    assert 0.04 < (held > 1).float().mean() < 0.17
    for h, at, c, counts, g in zip(held, shown, labels.cut, labels.cut_counts, labels.gradual, strict=True):
        assert at.tolist() == [t // int(h) * int(h) for t in range(FRAMES)]
        assert torch.equal(g, gradual[0][at])
        shots = ((at + 3) // 7).tolist()  # the shot that each frame shows
        assert c.tolist() == [t > 0 and shots[t] != shots[t - 1] for t in range(FRAMES)]
        if h > 1:
            beside = [any(c[max(0, t - 1) : t + 2]) and not c[t] for t in range(FRAMES)]
            assert counts.tolist() == [not b for b in beside]
        else:
            assert torch.equal(counts, ~gradual[0])
