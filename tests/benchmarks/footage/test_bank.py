"""Where footage is split into shots."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.footage.bank import build_bank, labelled_transitions, main, stretches
from benchmarks.footage.shots import load

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
    assert {name for name in bank if not name.startswith("texture ")} == {
        "bikes.mp4",
        "unlabelled.mp4",
        "still red.png",
    }
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


@pytest.mark.needs_videos
def test_the_bank_is_written(shared_videos, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "bikes.mp4").symlink_to(shared_videos / "bikes.mp4")
    (tmp_path / "truth.json").symlink_to(shared_videos / "truth.json")
    monkeypatch.setattr("sys.argv", ["bank", "--videos", str(tmp_path), "--out", str(tmp_path / "bank.npz")])
    main()
    assert f"{len(load(tmp_path / 'bank.npz'))} files" in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_named(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["bank", "--videos", str(tmp_path / "none"), "--out", str(tmp_path / "bank.npz")])
    with pytest.raises(SystemExit):
        main()
    assert f"no such folder: {tmp_path / 'none'}" in capsys.readouterr().err
