"""That a camera shows what is in the shots, and a bank in a file is the bank."""

import numpy as np
import pytest
import torch

from benchmarks.footage import shots
from benchmarks.footage.shots import Canvas, Shots, load, save


def test_the_camera_stays_within_the_chosen_shot() -> None:
    hues = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    bank = {str(i): [np.full((7 + i, 36, 64, 3), hue, np.uint8)] for i, hue in enumerate(hues)}
    held, canvas = Shots(bank, bank, "cpu"), Canvas(3, 60, torch.Generator().manual_seed(0))
    filmed = held.filmed(torch.tensor([2, 0, 1]), canvas)
    assert filmed.shape == (3, 60, 3, 18, 32)
    for sample, hue in zip(filmed, [2, 0, 1], strict=True):
        others = [c for c in range(3) if c != hue]
        assert sample[:, hue].min() > 0.2
        assert sample[:, others].max() == 0
        assert np.ptp(sample[:, hue].flatten(1).numpy(), axis=1).max() < 1e-5, "a flat picture stays flat"


def test_a_short_shot_is_played_to_and_fro() -> None:
    bank = {"a": [np.zeros((40, 36, 64, 3), np.uint8), np.zeros((6, 36, 64, 3), np.uint8)]}
    held, canvas = Shots(bank, bank, "cpu"), Canvas(200, 60, torch.Generator().manual_seed(0))
    at = held._played(torch.ones(200, dtype=torch.int64), canvas) - 40
    assert (at.min(), at.max()) == (0, 5)
    there_and_back = [0, 1, 2, 3, 4, 5, 4, 3, 2, 1]
    expected = {
        tuple(there_and_back[(begin + int(i * speed)) % 10] for i in range(60)): speed
        for speed in (0.5, 1, 2, 3, 5, 8)
        for begin in range(6)
    }
    speeds = [expected[tuple(positions)] for positions in at.tolist()]
    assert 65 < speeds.count(1) < 120, "five elevenths at their own speed"
    assert set(speeds) == {0.5, 1, 2, 3, 5, 8}


def test_some_pictures_are_bent_and_the_others_are_not() -> None:
    canvas = Canvas(100, 60, torch.Generator().manual_seed(0))
    straight = torch.rand(100, 60, 18, 32, 2, generator=canvas.generator)
    moved = (shots._bent(straight, canvas) - straight).abs()
    bent = moved.amax((1, 2, 3, 4)) > 0
    assert 0.1 < bent.float().mean() < 0.3
    assert 0.02 < moved[bent].mean() < 0.5
    assert moved[bent].diff(dim=1).abs().mean() < 0.2 * moved[bent].mean(), "it flows: a step is a small part of it"


def test_light_changes_slowly_and_never_the_place() -> None:
    canvas = Canvas(300, 120, torch.Generator().manual_seed(0))
    lit = shots._lit(torch.full((300, 120, 3, 18, 32), 0.5), canvas)
    changed = lit.diff(dim=1).abs().amax((1, 2, 3, 4)) > 0
    assert 0.08 < changed.float().mean() < 0.25
    assert lit.min() > 0.5 * 0.45 * 0.7 - 1e-3
    assert lit.max() < 0.5 * 1.2 * 1.3 + 1e-3


def test_stills_are_a_fifth_of_what_is_drawn() -> None:
    bank = {"film": [np.zeros((30, 36, 64, 3), np.uint8)] * 4}
    bank |= {f"still {i}": [np.zeros((1, 36, 64, 3), np.uint8)] for i in range(40)}
    canvas = Canvas(2000, 30, torch.Generator().manual_seed(0))
    drawn = Shots(bank, bank, "cpu").drawn(canvas, 5)
    assert float((drawn >= 4).float().mean()) == pytest.approx(0.2, abs=0.02)  # five standard deviations


def test_a_bank_comes_back_from_its_file(tmp_path) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    shot = np.stack([np.broadcast_to(np.roll(ramp, i)[None, :, None], (36, 64, 3)) for i in (0, 1, 2)])
    bank = {"a/b.mp4": [shot, shot[:2] // 2], "still x": [shot[:1]]}
    save(bank, tmp_path / "bank.npz")
    again = load(tmp_path / "bank.npz")
    assert {name: [s.shape for s in shots] for name, shots in again.items()} == {
        name: [s.shape for s in shots] for name, shots in bank.items()
    }
    for name, held in bank.items():
        for one, other in zip(held, again[name], strict=True):
            assert np.abs(one.astype(int) - other).mean() < 4, "as near as JPEG comes"
