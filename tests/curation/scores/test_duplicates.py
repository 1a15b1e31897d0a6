"""Difference hashes on re-encoded pictures, and grouping against comparing all pairs."""

import time
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.scores.duplicates import PerceptualHash, difference_hash, group_duplicates, hash_distance

PICTURES = ["chelsea", "coffee", "astronaut", "motorcycle_left", "rocket", "camera", "horse", "coins", "page"]


def grey(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def random_hashes(rng, shape):
    return rng.integers(0, 2**64, shape, np.uint64)


def flip(hashes, rng, bits):
    """Each hash with that many different bits turned."""
    out = hashes.copy()
    for i in range(len(out)):
        for bit in rng.choice(64, bits, replace=False):
            out[i] ^= np.uint64(1) << np.uint64(bit)
    return out


def test_the_hash_is_the_definition_on_the_cells_themselves():
    cells = np.random.default_rng(0).integers(0, 255, (8, 9), np.uint8)
    expected = 0
    for row in cells.astype(int):
        for left, right in pairwise(row):
            expected = expected << 1 | int(right - left > 1)
    assert int(difference_hash(cells)) == expected
    assert int(difference_hash(np.kron(cells, np.ones((7, 5), np.uint8)))) == expected


@pytest.mark.parametrize("name", PICTURES)
def test_the_hash_survives_scaling_and_compression(picture, name):
    frame = picture(name)
    original = difference_hash(grey(frame))
    small = cv2.resize(frame, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_LINEAR)
    for other in (jpeg(frame, 40), small, jpeg(small, 60), cv2.convertScaleAbs(frame, alpha=0.9, beta=8)):
        assert hash_distance(original, difference_hash(grey(other))) <= 4


def test_different_pictures_are_far_apart(picture):
    hashes = np.array([difference_hash(grey(picture(n))) for n in PICTURES])
    distances = hash_distance(hashes[:, None], hashes[None])
    assert distances[~np.eye(len(PICTURES), dtype=bool)].min() > 12


def test_noise_on_a_flat_frame_codes_nothing():
    noisy = np.random.default_rng(0).normal(120, 3, (144, 256)).clip(0, 255).astype(np.uint8)
    assert difference_hash(noisy) == 0


@pytest.mark.parametrize("shape", [(31, 17), (1, 1), (3, 200), (8, 8)])
def test_tiny_pictures_have_a_hash(shape):
    assert difference_hash(np.random.default_rng(0).integers(0, 255, shape, np.uint8)).dtype == np.uint64


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_the_distance_counts_bits(a, b):
    assert int(hash_distance(np.uint64(a), np.uint64(b))) == bin(a ^ b).count("1")


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_groups_equal_those_from_comparing_all_pairs(seed, families, bits):
    """Copies within `bits` of their original, originals far apart: the groups are the families."""
    rng = np.random.default_rng(seed)
    ids, hashes, quality, family = [], [], [], []
    for f in range(families):
        base = random_hashes(rng, int(rng.integers(2, 8)))
        for copy in range(int(rng.integers(1, 5))):
            ids.append(f"{f}-{copy}")
            hashes.append(flip(base, rng, bits if copy else 0))
            quality.append(1.0 - 0.1 * copy)
            family.append(f)
    groups, best = group_duplicates(ids, hashes, quality, bits=3)
    assert groups == [f"{f}-0" for f in family]
    assert [i for i, b in zip(ids, best, strict=True) if b] == [f"{f}-0" for f in range(families)]


def test_a_piece_shifted_by_a_sample_is_the_same_clip():
    base = random_hashes(np.random.default_rng(0), 9)
    groups, best = group_duplicates(["a", "b"], [base[:8], base[1:]], [0.1, 0.9])
    assert groups == ["b", "b"]
    assert best.tolist() == [False, True]


def test_a_short_piece_of_a_long_clip_is_another_clip():
    base = random_hashes(np.random.default_rng(0), 12)
    assert group_duplicates(["a", "b"], [base, base[:4]], [1, 1])[0] == ["a", "b"]


def test_flat_frames_do_not_glue_clips_together():
    rng = np.random.default_rng(0)
    black = np.zeros(4, np.uint64)
    clips = [black, black.copy(), *(np.concatenate([black, random_hashes(rng, 4)]) for _ in range(5))]
    groups, best = group_duplicates([f"c{i}" for i in range(7)], clips, [1.0] * 7)
    assert groups == [f"c{i}" for i in range(7)]
    assert best.all()


def test_a_chain_of_small_changes_does_not_run_together():
    """Each clip is 4 bits from the next: the ends are 40 bits apart and must not share a group."""
    rng = np.random.default_rng(3)
    order = rng.permutation(64)
    chain = [random_hashes(rng, 3)]
    for step in range(10):
        turned = sum(1 << int(bit) for bit in order[4 * step : 4 * step + 4])
        chain.append(chain[-1] ^ np.uint64(turned))
    groups, best = group_duplicates([f"{i:02d}" for i in range(11)], chain, np.linspace(1, 0.5, 11))
    by_id = {f"{i:02d}": h for i, h in enumerate(chain)}
    assert all(hash_distance(h, by_id[g]).mean() <= 6 for h, g in zip(chain, groups, strict=True))
    assert 1 < best.sum() < 11


def test_a_crowd_larger_than_the_window_keeps_one():
    rng = np.random.default_rng(0)
    base = random_hashes(rng, 5)
    crowd = [flip(base, rng, 1) for _ in range(200)]
    ids = [f"{i:03d}" for i in range(200)]
    groups, best = group_duplicates(ids, crowd, rng.random(200))
    assert best.sum() == 1
    assert len(set(groups)) == 1


def test_a_clip_without_hashes_or_quality_stays_alone():
    base = random_hashes(np.random.default_rng(0), 4)
    groups, best = group_duplicates(["a", "b", "c"], [[], base, base], [0.5, float("nan"), 0.2])
    assert groups == ["a", "c", "c"]
    assert best.tolist() == [True, False, True]
    assert group_duplicates([], [], []) == ([], pytest.approx(np.array([])))


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 clip ids"):
        group_duplicates(["a", "b"], [[1]], [1.0])


def test_time_grows_almost_linearly():
    rng = np.random.default_rng(0)

    def seconds(count):
        hashes = list(random_hashes(rng, (count, 6)))
        start = time.process_time()
        _, best = group_duplicates([f"{i:06d}" for i in range(count)], hashes, rng.random(count))
        assert best.all()
        return time.process_time() - start

    small = min(seconds(2000) for _ in range(2))
    assert seconds(16000) < 40 * small  # comparing all pairs would be 64 times


def test_a_reencoded_video_is_a_duplicate(tmp_path, picture):
    """The same pan over a picture as crisp H.264 and as small, poor MPEG-4."""
    frame = picture("motorcycle_left", 741)

    def encode(path, codec, size, options):
        with av.open(str(path), "w") as out:
            stream = out.add_stream(codec, rate=8)
            stream.width, stream.height, stream.pix_fmt, stream.options = *size, "yuv420p", options
            for i in range(16):
                view = cv2.resize(frame[40 : 40 + 360, 4 * i : 4 * i + 600], size, interpolation=cv2.INTER_AREA)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
            out.mux(stream.encode(None))
        with av.open(str(path)) as video:
            return [difference_hash(f.to_ndarray(format="gray")) for f in video.decode(video=0)][::4]

    a = encode(tmp_path / "a.mp4", "libx264", (640, 384), {"crf": "18"})
    b = encode(tmp_path / "b.mp4", "mpeg4", (320, 192), {"b": "60k"})
    other = [difference_hash(grey(picture(n))) for n in ("coffee", "chelsea", "astronaut", "rocket")]
    groups, best = group_duplicates(["a", "b", "other"], [a, b, other], [0.9, 0.5, 0.7])
    assert groups == ["a", "a", "other"]
    assert best.tolist() == [True, False, True]


def test_the_scorer_hands_on_the_hashes_and_refuses_none(clip_of):
    assert PerceptualHash().score_one(clip_of(hashes=[1, 2**63])) == {"phash": [1, 2**63]}
    with pytest.raises(ValueError, match="no sample"):
        PerceptualHash().score_one(clip_of())
