"""The comparison of readers: right frames count, frames near the right one do not, and errors are named."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import decoders
from benchmarks.decoders import SIZE, Decord, Peer, Rushes, is_right, measure, sampled
from tests.formats.make import H264, Film, encoded
from tests.formats.oracle import Shown, show
from tests.formats.pattern import draw


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    encoded(H264, Film(40))(path)
    return path


@pytest.fixture(scope="module")
def truth(film: Path) -> Shown:
    return show(film, SIZE)


class Late(Rushes):
    """A reader that gives the frame after the one that is due."""

    name = "late"

    def at(self, seconds: float) -> np.ndarray:
        return super().at(min(seconds + 0.04, 1.5))


class Broken(Peer):
    """A reader that stops in the middle."""

    name = "broken"

    def at(self, seconds: float) -> np.ndarray:
        return draw(round(seconds * 25 - 0.5))

    def frames(self) -> Iterator[np.ndarray]:
        yield from (draw(n) for n in range(10))
        raise OSError


def test_only_the_frame_itself_is_right(truth: Shown):
    assert is_right(draw(7), truth.frames, 7)
    assert not is_right(draw(8), truth.frames, 7)
    assert not is_right(draw(7)[:, ::-1], truth.frames, 7)


@pytest.mark.parametrize("peer", [Rushes, Decord])
def test_readers_that_are_right_have_every_frame(peer: type[Peer], film: Path, truth: Shown):
    if peer is Decord:
        pytest.importorskip("decord")
    score = measure(peer, film, truth, sampled(truth, 6, np.random.default_rng(0)))
    assert (score.right, score.asked, score.whole, score.total, score.problem) == (6, 6, 40, 40, "")
    assert score.random > 0
    assert score.sequential > 0


def test_a_reader_that_is_late_has_none(film: Path, truth: Shown):
    times = [(n, (n + 0.5) / 25) for n in (3, 12, 20)]
    assert measure(Late, film, truth, times).right == 0


def test_a_reader_that_fails_is_named(film: Path, truth: Shown):
    score = measure(Broken, film, truth, [(5, 5.5 / 25)])
    assert (score.right, score.whole, score.problem) == (1, 10, "sequential: OSError")


def test_a_file_that_is_not_there_is_said_before_any_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["decoders", "nowhere.mp4"])
    with pytest.raises(SystemExit) as left:
        decoders.main()
    assert left.value.code == 2
    assert "nowhere.mp4 is no file that can be read" in capsys.readouterr().err
