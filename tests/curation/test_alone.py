"""Processes that die of what they read, and what they leave behind: real signals, real limits."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from curation import discovery
from curation.alone import measure_alone
from curation.collect import End, Task
from curation.config import CurateConfig
from curation.engine import open_clips
from curation.errors import CurationError
from curation.scores.aesthetics import TechnicalQuality


class Deadly(TechnicalQuality):
    """Ends its process in the way that the file's name says."""

    def score(self, clips, known):
        how = Path(clips[0].uri).stem
        if how == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif how == "exit":
            os._exit(7)
        elif how == "sleep":
            time.sleep(1000)
        elif how == "hoard":
            hoard = [np.ones(2**25) for _ in range(40)]  # 10 GB, a quarter at a time
            time.sleep(len(hoard))
        return super().score(clips, known)


class NoWeights(TechnicalQuality):
    """Cannot be loaded."""

    def load(self) -> None:
        raise OSError("the weights are gone")


def tried(path: Path, scorer: TechnicalQuality, **more) -> list:
    (source,) = discovery.find(str(path))
    return measure_alone(Task("shard", source, "an id", None), CurateConfig(videos=str(path), **more), [scorer])


@pytest.fixture
def named(two_shots, tmp_path):
    """Makes a link of that name to the footage."""

    def link(name: str) -> Path:
        (tmp_path / name).symlink_to(two_shots)
        return tmp_path / name

    return link


def test_a_sound_video_gives_what_a_prompt_gives(two_shots):
    *rows, end = tried(Path(two_shots), TechnicalQuality())
    clips = open_clips(str(two_shots))
    assert [row["start"] for row, _ in rows] == [clip.start for clip in clips]
    expected = [TechnicalQuality().score_one(clip)["technical_quality"] for clip in clips]
    assert [row["technical_quality"] for row, _ in rows] == expected
    assert isinstance(end, End)
    assert (end.clips, end.video["status"], end.failures) == (len(clips), "ok", [])


@pytest.mark.parametrize(
    ("name", "how", "more"),
    [
        ("segv", "ended by SIGSEGV", {}),
        ("exit", "exit status 7", {}),
        ("sleep", "not done within 0.2 minutes", {"alone_minutes": 0.2}),
        ("hoard", "ended by SIGKILL; last words: at work:", {"memory_gb": 1.5}),
    ],
)
def test_what_ends_the_process_is_said_with_its_last_words(named, name, how, more):
    (end,) = tried(named(f"{name}.mp4"), Deadly(), **more)
    assert (end.clips, end.video["status"]) == (0, "failed")
    ((clip, failure),) = end.failures
    assert clip is None
    assert (failure.step, failure.error, failure.attempts) == ("alone", "KilledItsWorker", 2)
    assert how in failure.message
    assert f"{name}.mp4" in failure.message
    assert "technical_quality of the clip at 0.00 s" in failure.message
    assert ("more than" in failure.message) == (name == "hoard")


def test_a_file_that_cannot_be_read_is_no_crash(tmp_path):
    (tmp_path / "text.mp4").write_bytes(b"no video at all\n" * 99)
    (end,) = tried(tmp_path / "text.mp4", TechnicalQuality())
    ((_, failure),) = end.failures
    assert (failure.step, failure.attempts) == ("open", 2)


def test_scorers_that_cannot_be_loaded_are_no_videos_fault(two_shots):
    with pytest.raises(CurationError, match=r"could not be loaded: .*the weights are gone"):
        tried(Path(two_shots), NoWeights())
