"""Flow and camera motion against shifts and zooms that were applied with known numbers."""

import hashlib
import pickle
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.optical_flow import raft_small

from curation.config import CurateConfig, MotionSettings
from curation.engine import VideoPass
from curation.scores.base import Scored, run_scorer
from curation.scores.motion import Motion, camera_motion, flow_map, motion_bucket, name_camera, reduced
from curation.scores.raft import Raft
from curation.weights import MissingWeightsError


def window(gray: np.ndarray, dx: float, dy: float, zoom: float = 1.0, size: tuple[int, int] = (256, 144)) -> np.ndarray:
    """What a camera sees that has moved (dx, dy) right and down over a large picture and magnifies by zoom."""
    w, h = size
    cx, cy = gray.shape[1] / 2 + dx, gray.shape[0] / 2 + dy
    matrix = np.array([[zoom, 0, w / 2 - zoom * cx], [0, zoom, h / 2 - zoom * cy]])
    return cv2.warpAffine(gray, matrix, size, flags=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def gray(picture) -> np.ndarray:
    return cv2.cvtColor(picture("chelsea"), cv2.COLOR_RGB2GRAY)


def camera_clip(clip_of, gray, path, method="farneback"):
    """A clip whose camera follows `path`, a list of (dx, dy, zoom)."""
    frames = [window(gray, *step) for step in path]
    flow = np.stack([flow_map(a, b, method) for a, b in pairwise(frames)])
    return clip_of(flow=flow, flow_size=(256, 144))


@pytest.mark.parametrize("method", ["farneback", "dis"])
def test_flow_map_shape_units_and_sign(gray, method):
    flow = flow_map(window(gray, 0, 0), window(gray, 5, -2), method)
    assert flow.shape == (16, 28, 2)
    assert flow.dtype == np.float16
    # The camera went right and up, so the content goes left and down, in pixels of the 144 px picture.
    assert np.median(flow[4:-4, 4:-4], axis=(0, 1)) == pytest.approx([-5, 2], abs=0.25)


def test_flow_map_is_the_area_mean_of_the_full_flow(gray):
    a, b = window(gray, 0, 0, size=(256, 128)), window(gray, 3, 1, size=(256, 128))
    full = flow_map(a, b, short_side=128).astype(np.float64)
    cells = full.reshape(16, 8, 32, 8, 2).mean((1, 3))
    assert flow_map(a, b) == pytest.approx(cells, abs=0.01)


def test_flow_map_of_small_pictures_keeps_their_size():
    picture_17x31 = np.random.default_rng(0).integers(0, 255, (31, 17), np.uint8)
    assert flow_map(picture_17x31, picture_17x31, short_side=64).shape == (31, 17, 2)
    assert np.abs(flow_map(picture_17x31, picture_17x31)).max() < 0.1


@pytest.mark.parametrize(
    ("a", "b"), [((8, 9), (8, 8)), ((8, 8, 3), (8, 8, 3))], ids=["sizes differ", "colour instead of grey"]
)
def test_flow_map_refuses_what_does_not_fit(a, b):
    with pytest.raises(ValueError, match="grey pictures of one size"):
        flow_map(np.zeros(a, np.uint8), np.zeros(b, np.uint8))


@pytest.mark.parametrize(("method", "shift"), [("farneback", 12), ("dis", 32)])
def test_flow_holds_as_far_as_the_column_says(picture, method, shift):
    photo = cv2.cvtColor(picture("coffee"), cv2.COLOR_RGB2GRAY)
    flow = flow_map(window(photo, 0, 0), window(photo, shift, 0), method)
    assert np.median(flow[4:-4, 6:-6, 0]) == pytest.approx(-shift, abs=0.5)
    column = next(c for c in Motion(MotionSettings(method=method)).columns if c.name == "motion")
    assert f"holds to {shift} px" in column.description


def test_flow_map_refuses_other_methods():
    with pytest.raises(ValueError, match="raft is no method"):
        flow_map(np.zeros((32, 32), np.uint8), np.zeros((32, 32), np.uint8), "raft")


def test_flow_map_by_dis_refuses_pictures_that_are_too_small():
    with pytest.raises(ValueError, match="DIS needs"):
        flow_map(np.zeros((31, 8), np.uint8), np.zeros((31, 8), np.uint8), "dis")


@pytest.mark.parametrize("method", ["farneback", "dis"])
@pytest.mark.parametrize(
    ("step", "camera"),
    [
        ((4, 0, 1.0), "pan right"),
        ((-4, 0, 1.0), "pan left"),
        ((0, -3, 1.0), "tilt up"),
        ((0, 3, 1.0), "tilt down"),
        ((0, 0, 1.03), "zoom in"),
        ((0, 0, 0.97), "zoom out"),
        ((0, 0, 1.0), "static"),
    ],
)
def test_camera_over_a_real_picture(clip_of, gray, step, camera, method):
    dx, dy, zoom = step
    path = [(i * dx, i * dy, zoom**i) for i in range(5)]
    row = Motion().score_one(camera_clip(clip_of, gray, path, method))
    assert row["camera"] == camera
    assert row["camera_vector"][:2] == pytest.approx([dx, dy], abs=0.3)
    assert row["camera_vector"][2] == pytest.approx(zoom - 1, abs=0.004)
    if zoom == 1:
        assert row["motion"] == pytest.approx(np.hypot(dx, dy), abs=0.4)


def test_a_camera_that_goes_to_and_fro_shakes(clip_of, gray):
    path = [(x, y, 1.0) for x, y in [(0, 0), (4, 1), (-1, -3), (3, 3), (-3, 0), (1, -2), (0, 0)]]
    assert Motion().score_one(camera_clip(clip_of, gray, path))["camera"] == "shake"


@given(st.floats(-8, 8), st.floats(-8, 8), st.floats(-0.05, 0.05), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_the_fit_ignores_an_object_on_a_third_of_the_picture(dx, dy, zoom, seed):
    rng = np.random.default_rng(seed)
    width, height = 256, 144
    x = (np.arange(28) + 0.5) * width / 28 - width / 2
    y = (np.arange(16) + 0.5) * height / 16 - height / 2
    flow = np.stack(np.broadcast_arrays(-dx + zoom * x[None, :], -dy + zoom * y[:, None]), -1)
    flow = flow + rng.normal(0, 0.05, flow.shape)
    flow[3:13, 8:22] += rng.choice([-1, 1], 2) * rng.uniform(10, 20, 2)
    vectors, agreement = camera_motion(flow[None], (width, height))
    assert vectors[0] == pytest.approx([dx, dy, zoom], abs=0.3)
    assert agreement[0] > 0.6


def test_flow_without_a_common_motion_is_complex():
    flow = np.random.default_rng(1).normal(0, 15, (4, 16, 28, 2))
    assert name_camera(*camera_motion(flow, (256, 144)), (256, 144), 2.0) == "complex"


def test_magnitude_is_averaged_after_the_reduction(clip_of):
    flow = np.zeros((2, 16, 28, 2), np.float16)
    flow[0, ..., 0], flow[1, ..., 1] = 3, -5
    row = Motion().score_one(clip_of(flow=flow, flow_size=(256, 144)))
    assert row["motion"] == pytest.approx(4)  # not the magnitude of the mean vector
    assert [row[f"motion_p{p}"] for p in ("05", "50", "95")] == pytest.approx([3, 4, 5])


@given(st.floats(0, 500), st.floats(0, 500))
def test_the_bucket_is_monotone_and_bounded(a, b):
    low, high = sorted((a, b))
    buckets = motion_bucket(low, (256, 144), 2.0), motion_bucket(high, (256, 144), 2.0)
    assert 0 <= buckets[0] <= buckets[1] <= 255


def test_the_bucket_does_not_depend_on_size_or_rate():
    assert (
        motion_bucket(7.2, (256, 144), 2.0) == motion_bucket(3.6, (256, 144), 4.0) == motion_bucket(3.6, (128, 72), 2.0)
    )
    assert motion_bucket(72, (256, 144), 2.0) == 255  # one short side per second
    assert motion_bucket(0, (256, 144), 2.0) == 0


def test_a_clip_without_a_pair_fails_and_is_never_zero(clip_of):
    clips = [clip_of(flow=np.ones((1, 16, 28, 2), np.float16)), clip_of(flow=np.empty((0, 16, 28, 2), np.float16))]
    scored = [Scored(), Scored()]
    run_scorer(Motion(), clips, scored)
    assert scored[0].values["motion"] == pytest.approx(2**0.5)
    assert scored[1].values == {}
    assert "no pair" in scored[1].failures[0].message


def test_the_definition_says_what_the_number_depends_on():
    assert Motion(MotionSettings(size_px=256)).definition != Motion().definition
    assert Motion().definition["method"] == "farneback"
    assert len({str(Motion(MotionSettings(method=m)).definition) for m in ("farneback", "dis")}) == 2


class TwoPixelsRight:
    """In RAFT's place: everything moves by two pixels."""

    def maps(self, pairs, size):
        return (np.full((*size[::-1], 2), (2, 0), np.float32) for _ in pairs)


def test_raft_measures_the_samples_and_minds_gaps(clip_of, monkeypatch):
    scorer = Motion(MotionSettings(method="raft"))
    assert scorer.sees == ("samples",)
    clip = replace(
        clip_of(flow=np.zeros((0, 0, 0, 2), np.float16)),
        samples=(np.zeros((144, 256), np.uint8),) * 3,
        sample_times=(0.0, 0.5, 1.5),  # one sample is missing in a file of variable rate
    )
    with pytest.raises(RuntimeError, match="load"):
        scorer.score([clip], [{}])
    monkeypatch.setattr(scorer, "_raft", TwoPixelsRight())
    row = scorer.score([clip], [{}])[0]
    assert row["motion"] == pytest.approx(1.5)
    assert row["camera_vector"] == pytest.approx([-1.5, 0, 0], abs=1e-3)


def test_raft_scores_clips_of_several_sizes_as_it_scores_each_alone(clip_of, tmp_path):
    """And as flow maps that decoding would have left, made of the whole flow by OpenCV on the host."""
    path = tmp_path / "raft.pth"
    torch.manual_seed(0)
    torch.save(raft_small().state_dict(), path)
    scorer = Motion(MotionSettings(method="raft", raft_weights=str(path)))
    scorer.load()
    rng = np.random.default_rng(0)
    clips = []
    for width, count in ((152, 3), (136, 4), (152, 2)):
        samples = tuple(cv2.blur(rng.integers(0, 255, (128, width), np.uint8), (5, 5)) for _ in range(count))
        clip = clip_of(flow=np.zeros((0, 0, 0, 2), np.float16), flow_size=(width, 128))
        clips.append(replace(clip, samples=samples, sample_times=tuple(i / 2 for i in range(count))))
    together = scorer.score(clips, [{}] * 3)
    for clip, row in zip(clips, together, strict=True):
        flow = np.stack([reduced(f) for f in Raft(path)(list(pairwise(clip.samples)))])
        (on_host,) = Motion().score([replace(clip, flow=flow)], [{}])
        for expected in (scorer.score_one(clip), on_host):
            assert row["camera"] == expected["camera"]
            for column in ("motion", "motion_p05", "motion_p95", "camera_vector", "motion_bucket"):
                assert row[column] == pytest.approx(expected[column], rel=2e-3, abs=2e-3)


def test_raft_s_weights_are_part_of_the_definition(tmp_path):
    path = tmp_path / "raft.pth"
    torch.save(raft_small().state_dict(), path)
    scorer = Motion(MotionSettings(method="raft", raft_weights=str(path)))
    assert scorer.definition["raft_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    scorer.load()
    assert len(pickle.dumps(scorer)) < 2000
    with pytest.raises(MissingWeightsError, match="RAFT"):
        Motion(MotionSettings(method="raft", raft_weights="absent.pth")).load()


def test_the_pass_keeps_the_samples_for_raft_and_none_from_beyond_a_cut(two_shots):
    config = CurateConfig(videos=str(two_shots), motion=MotionSettings(method="raft", size_px=128))
    clips = [clip.frames for clip in VideoPass(str(two_shots), config)]
    assert len(clips) == 2
    for clip in clips:
        assert len(clip.flow) == 0
        assert len(clip.samples) == len(clip.sample_times) == len(clip.hashes) > 2
        assert all(clip.start <= t < clip.end for t in clip.sample_times)
        assert {s.shape[::-1] for s in clip.samples} == {clip.flow_size}
