"""The maker of damaged files: the same twice, small, and damaged where it says so."""

import io
import json
import os
import stat
from pathlib import Path

import av
import pytest

from benchmarks.damaged_footage import KINDS, PLACES, make
from benchmarks.footage.bombs import _golomb, gif
from benchmarks.footage.small import GOOD, TABLE, box, footage


def content(folder: Path) -> dict[str, bytes | int]:
    """What lies in a folder: bytes of small files, kinds of other things."""
    return {
        p.name: p.read_bytes()
        if not p.is_symlink() and p.is_file() and p.stat().st_size < 1 << 20
        else stat.S_IFMT(p.lstat().st_mode)
        for p in folder.iterdir()
    }


def test_the_same_seed_gives_the_same_folder(tmp_path):
    owed = make(tmp_path / "a", 2)
    assert make(tmp_path / "b", 2) == owed == json.loads((tmp_path / "a" / "damaged.json").read_text())
    first = content(tmp_path / "a")
    assert content(tmp_path / "b") == first
    assert set(first) == {*owed, "damaged.json", "good_000.mp4", "good_001.mkv"}
    assert len({v for v in first.values() if isinstance(v, bytes)}) >= len(KINDS) + 3  # no two files are the same
    assert sum(p.lstat().st_blocks for p in (tmp_path / "a").iterdir()) * 512 < 8e6
    assert {entry["owed"] for entry in owed.values()} == {"failed", "told", "any", "nothing"}
    assert stat.S_ISFIFO(os.lstat(tmp_path / "a" / "bad_pipe.mp4").st_mode)
    assert len(PLACES) == sum(name.removeprefix("bad_").removesuffix(".mp4") in PLACES for name in owed)


def test_films_take_the_place_of_made_ones(tmp_path):
    (tmp_path / "film.mov").write_bytes(b"a film")
    make(tmp_path / "a", 5, films=[tmp_path / "film.mov"])
    assert [p.name for p in (tmp_path / "a").glob("good_*")] == ["good_000.mov"]
    assert (tmp_path / "a" / "good_000.mov").read_bytes() == b"a film"


@pytest.mark.parametrize("suffix", GOOD)
def test_sound_footage_lasts_four_seconds(suffix):
    with av.open(io.BytesIO(footage(3, suffix)), "r") as container:
        frames = [f.time for f in container.decode(video=0)]
    assert len(frames) == 100
    assert frames[-1] - frames[0] == pytest.approx(99 / 25, abs=2e-3)


def test_boxes_are_found_by_their_path():
    data = footage(4)
    start, end = box(data, *TABLE, "stsz")
    assert int.from_bytes(data[start + 8 : start + 12], "big") == 100  # one size a frame
    assert end - start == 12 + 4 * 100
    sizes = sum(int.from_bytes(data[i : i + 4], "big") for i in range(start + 12, end, 4))
    start, end = box(data, "mdat")
    assert sizes == end - start
    with pytest.raises(KeyError, match="wxyz"):
        box(data, "moov", "wxyz")


@pytest.mark.parametrize(("number", "code"), [(0, "1"), (1, "010"), (2, "011"), (7, "0001000"), (8, "0001001")])
def test_golomb_codes_are_those_of_the_standard(number, code):
    """ITU-T H.264, table 9-2."""
    assert _golomb(number) == code


def test_the_gif_is_one_that_is_read():
    with av.open(io.BytesIO(gif(64, 9)), "r") as container:
        assert [(f.width, f.height) for f in container.decode(video=0)] == [(64, 64)] * 9
