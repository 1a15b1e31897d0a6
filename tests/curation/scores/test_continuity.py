"""The second look at clips, on footage whose transitions are known."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

import curation
from curation.config import CurateConfig, CutSettings
from curation.engine import open_clips
from curation.scores.continuity import Continuity
from tests.curation.conftest import texture

RULE = 0.8  # what the default policies allow


def drift(seed: int, frames: int) -> list[np.ndarray]:
    wide = texture(seed, 120, 160 + frames)
    return [wide[:, i : i + 160] for i in range(frames)]


def dissolved(length: int) -> list[np.ndarray]:
    a, b = drift(1, 75 + length), drift(2, 75 + length)
    weights = np.linspace(0, 1, length)
    mix = [(x * (1 - w) + y * w).astype(np.uint8) for x, y, w in zip(a[75:], b[:length], weights, strict=True)]
    return a[:75] + mix + b[length:]


def doubts(path, **cuts) -> list[float]:
    clips = open_clips(str(path), CurateConfig(videos=str(path), cuts=CutSettings(**cuts)))
    return [row["cut_doubt"] for row in Continuity().score(clips, [{}] * len(clips))]


def test_the_networks_weights_define_the_score():
    """By the package's file, read by itself."""
    file = Path(curation.__file__).parent / "cuts" / "network.npz"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert Continuity().definition["network_sha256"] == digest


def test_one_shot_leaves_no_doubt(tmp_path, write_video):
    assert max(doubts(write_video(tmp_path / "one.mp4", drift(1, 150)))) < 0.1


def test_what_the_cascade_was_told_to_overlook_is_doubted(tmp_path, write_video):
    path = write_video(tmp_path / "two.mp4", dissolved(30))
    assert max(doubts(path, gradual_threshold=50)) > 0.8


def test_known_transitions_leave_little_doubt_beside_them(tmp_path, write_video):
    path = write_video(tmp_path / "cut.mp4", drift(1, 75) + drift(2, 75))
    found = doubts(path)
    assert len(found) == 2
    assert max(found) < RULE


@pytest.mark.needs_videos
def test_a_real_dissolve_is_doubted_where_it_is_overlooked_and_its_clips_pass_where_it_is_found(shared_videos):
    path = shared_videos / "nasa_dissolve.mp4"
    assert max(doubts(path, gradual_threshold=50)) > RULE
    assert max(doubts(path)) < RULE
    assert max(doubts(shared_videos / "bikes.mp4")) < RULE
