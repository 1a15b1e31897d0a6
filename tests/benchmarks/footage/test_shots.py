"""Where footage is split into shots, and that a camera shows what is in them."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.footage.shots import Canvas, Shots, build_bank, labelled_transitions, stretches

PAIRS = st.lists(st.tuples(st.integers(-3, 90), st.integers(1, 12)).map(lambda p: (p[0], p[0] + p[1])), max_size=6)


@given(length=st.integers(0, 100), closed=PAIRS, shortest=st.integers(1, 9), longest=st.integers(9, 40))
def test_stretches_are_the_open_runs(length: int, closed: list[tuple[int, int]], shortest: int, longest: int) -> None:
    frames = [np.full((1, 1, 3), i, np.uint8) for i in range(length)]
    shots = [shot[:, 0, 0, 0].tolist() for shot in stretches(frames, closed, shortest, longest)]
    # the oracle: for every frame whether it is open, and whether a step to the next frame is
    inside = [any(a < i < z for a, z in closed) for i in range(length)]
    joined = [not any(a < i <= z for a, z in closed) for i in range(length)]
    runs: list[list[int]] = []
    for i in (i for i in range(length) if not inside[i]):
        if runs and runs[-1][-1] == i - 1 and joined[i] and len(runs[-1]) < longest:
            runs[-1].append(i)
        else:
            runs.append([i])
    assert shots == [run for run in runs if len(run) >= shortest]


@pytest.mark.needs_videos
def test_a_labelled_file_is_split_at_its_cuts(shared_videos, truth) -> None:
    cuts = truth["bikes.mp4"]["cuts_frames"]
    closed = labelled_transitions(truth["bikes.mp4"])
    assert [s[0].item() for s in stretches(map(np.array, range(250)), closed, 1, 400)] == [0, *cuts]


@pytest.mark.needs_videos
def test_the_bank_holds_labelled_and_unlabelled_files_and_photographs(shared_videos, truth, tmp_path) -> None:
    for folder, name, alias in [("a", "bikes.mp4", "bikes.mp4"), ("b", "bikes.mp4", "unlabelled.mp4")]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / alias).symlink_to(shared_videos / name)
    (tmp_path / "b" / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "stills").mkdir()
    photograph = np.zeros((300, 400, 3), np.uint8)
    photograph[:, 200:] = (10, 20, 200)
    cv2.imwrite(str(tmp_path / "stills" / "red.png"), photograph)
    bank = build_bank([tmp_path / "a", tmp_path / "b"], truth, tmp_path / "stills")
    assert set(bank) == {"bikes.mp4", "unlabelled.mp4", "still red.png"}
    edges = [0, *truth["bikes.mp4"]["cuts_frames"]]  # the last shot has 8 frames, too few
    assert [len(shot) for shot in bank["bikes.mp4"]] == np.diff(edges).tolist()
    labelled = np.concatenate(bank["bikes.mp4"])
    for shot in bank["unlabelled.mp4"]:
        at = next(i for i in range(edges[-1]) if np.array_equal(labelled[i : i + len(shot)], shot))
        # the detectors found its cuts: no shot reaches over one
        assert any(a <= at and at + len(shot) <= z for a, z in pairwise(edges))
    (red,) = bank["still red.png"]
    assert red.shape == (1, 36, 64, 3)
    assert red[0, 5, 5].tolist() == [0, 0, 0]
    assert red[0, 5, 60].tolist() == [10, 20, 200]


def test_the_camera_stays_within_the_chosen_shot() -> None:
    hues = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    bank = {str(i): [np.full((7 + i, 36, 64, 3), hue, np.uint8)] for i, hue in enumerate(hues)}
    shots, canvas = Shots(bank, bank, "cpu"), Canvas(3, 60, torch.Generator().manual_seed(0))
    filmed = shots.filmed(torch.tensor([2, 0, 1]), canvas)
    assert filmed.shape == (3, 60, 3, 18, 32)
    for sample, hue in zip(filmed, [2, 0, 1], strict=True):
        others = [c for c in range(3) if c != hue]
        assert sample[:, hue].min() > 0.2
        assert sample[:, others].max() == 0
        assert np.ptp(sample[:, hue].flatten(1).numpy(), axis=1).max() < 1e-5, "a flat picture stays flat"


def test_a_short_shot_is_played_to_and_fro() -> None:
    bank = {"a": [np.zeros((40, 36, 64, 3), np.uint8), np.zeros((6, 36, 64, 3), np.uint8)]}
    shots, canvas = Shots(bank, bank, "cpu"), Canvas(200, 60, torch.Generator().manual_seed(0))
    at = shots._played(torch.ones(200, dtype=torch.int64), canvas) - 40
    assert (at.min(), at.max()) == (0, 5)
    there_and_back = [0, 1, 2, 3, 4, 5, 4, 3, 2, 1]
    expected = {
        tuple(there_and_back[(begin + int(i * speed)) % 10] for i in range(60)): speed
        for speed in (0.5, 1, 2, 3, 5)
        for begin in range(6)
    }
    speeds = [expected[tuple(positions)] for positions in at.tolist()]
    assert 75 < speeds.count(1) < 125, "half of them at their own speed"
    assert set(speeds) == {0.5, 1, 2, 3, 5}


def test_stills_are_a_fifth_of_what_is_drawn() -> None:
    bank = {"film": [np.zeros((30, 36, 64, 3), np.uint8)] * 4}
    bank |= {f"still {i}": [np.zeros((1, 36, 64, 3), np.uint8)] for i in range(40)}
    canvas = Canvas(2000, 30, torch.Generator().manual_seed(0))
    drawn = Shots(bank, bank, "cpu").drawn(canvas, 5)
    assert float((drawn >= 4).float().mean()) == pytest.approx(0.2, abs=0.02)  # five standard deviations
