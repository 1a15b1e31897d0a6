"""The cascade on footage made of known parts, and on the labelled footage."""

import numpy as np
import pytest

from curation.config import CutSettings
from curation.cuts.cascade import Cascade
from curation.decode import Decoder
from tests.curation.conftest import texture

FPS = 25
# dissolves that are there to be seen and that the labels lack: two photographs, and the end of one through snow
UNLABELLED = {"photos_with_fades.mp4": [(529, 558)], "sintel_trailer_10s.mp4": [(0, 28)]}


def drift(seed: int, frames: int, speed: int = 1) -> list[np.ndarray]:
    """A camera that pans over a wide picture."""
    wide = texture(seed, 120, 160 + 200)
    return [wide[:, speed * i : speed * i + 160] for i in range(frames)]


def found(pictures, fps=FPS):
    cascade, out = Cascade(CutSettings(), fps), []
    for i, picture in enumerate(pictures):
        out += cascade.push(i, i / fps, np.ascontiguousarray(picture))
    return out + cascade.flush()


def test_hard_cuts_are_exact():
    pictures = drift(1, 40) + drift(2, 13) + drift(3, 9) + drift(4, 50)
    assert [(t.kind, t.start_frame) for t in found(pictures)] == [("cut", 40), ("cut", 53), ("cut", 62)]


@pytest.mark.parametrize("length", [8, 12, 25])
def test_a_dissolve_is_found_once_and_covered(length):
    a, b = [texture(1)] * 100, [(texture(2) * 0.6).astype(np.uint8)] * 100
    mix = [
        (x * (1 - w) + y * w).astype(np.uint8)
        for x, y, w in zip(a[50 : 50 + length], b[:length], np.linspace(0, 1, length), strict=True)
    ]
    transitions = found(a[:50] + mix + b[length:])
    assert transitions
    assert {t.kind for t in transitions} == {"dissolve"}
    assert min(t.start_frame for t in transitions) <= 50 + length // 2 <= max(t.end_frame for t in transitions)


def test_cuts_in_noise_are_found():
    """Every frame of dark footage differs from the next; only the reduced picture tells a cut."""
    rng = np.random.default_rng(0)
    pictures = [
        np.clip(p * 0.28 + rng.normal(2, 4, p.shape), 0, 255).astype(np.uint8) for s in (1, 2, 3) for p in drift(s, 40)
    ]
    assert [(t.kind, t.start_frame) for t in found(pictures)] == [("cut", 40), ("cut", 80)]


def test_a_slow_dissolve_between_moving_shots_is_found():
    a, b = ([p for p in drift(seed, 25) for _ in range(4)] for seed in (1, 2))
    weights = np.linspace(0, 1, 50)
    mix = [(x * (1 - w) + y * w).astype(np.uint8) for x, y, w in zip(a[50:], b[:50], weights, strict=True)]
    transitions = found(a[:50] + mix + b[50:])
    assert [t.kind for t in transitions] == ["dissolve"]
    assert 50 <= (transitions[0].start_frame + transitions[0].end_frame) // 2 <= 100


def test_a_fade_through_black_is_found():
    a, b = drift(1, 75), drift(2, 75)
    down = [(p * w).astype(np.uint8) for p, w in zip(a[50:], np.linspace(1, 0, 25), strict=True)]
    up = [(p * w).astype(np.uint8) for p, w in zip(b[:25], np.linspace(0, 1, 25), strict=True)]
    transitions = found(a[:50] + down + up + b[25:])
    assert [t.kind for t in transitions] == ["fade"]
    assert transitions[0].start_frame <= 75 <= transitions[0].end_frame


def test_flashes_and_moving_cameras_are_no_cuts():
    pictures = drift(1, 60)
    pictures[30:32] = [np.full_like(pictures[0], 255)] * 2
    assert found(pictures) == []


def test_noise_near_black_is_no_cut():
    rng = np.random.default_rng(0)
    assert found([rng.integers(0, 4, (90, 160, 3), dtype=np.uint8) for _ in range(100)]) == []


def test_transitions_come_in_order_and_none_before_what_is_settled():
    pictures = [picture for s in range(8) for picture in drift(s, 20 + 7 * s)]
    cascade, settled, starts = Cascade(CutSettings(), FPS), 0.0, []
    for i, picture in enumerate(pictures):
        for transition in cascade.push(i, i / FPS, picture):
            assert transition.start >= settled
            starts.append(transition.start)
        settled = cascade.settled_until
    starts += [t.start for t in cascade.flush()]
    assert starts == sorted(starts)
    assert len(starts) == 7


def test_memory_does_not_grow_with_the_video():
    cascade, longest = Cascade(CutSettings(), FPS), 0
    pictures = drift(1, 160)
    pictures += pictures[::-1]
    for i in range(1500):
        cascade.push(i, i / FPS, pictures[i % 320])
        longest = max(longest, len(cascade._history))
    assert longest < 10 * FPS


@pytest.mark.needs_videos
def test_bikes_has_its_five_cuts(shared_videos):
    decoder = Decoder(str(shared_videos / "bikes.mp4"))
    cascade, out = Cascade(CutSettings(), 25), []
    for frame in decoder:
        out += cascade.push(frame.index, frame.time, frame.small_bgr(256))
    assert [(t.kind, t.start_frame) for t in out + cascade.flush()] == [("cut", f) for f in (30, 76, 137, 187, 242)]


@pytest.mark.needs_videos
def test_labelled_footage(shared_videos, truth):
    """Hard cuts within 2 frames, one to one; a gradual transition is found when a boundary falls inside it."""
    hits = misses = false = gradual_hits = gradual = 0
    for name, labels in truth.items():
        if name.startswith("odd/") or name == "static_text_61s.mp4":
            continue
        decoder = Decoder(str(shared_videos / name))
        cascade, out = Cascade(CutSettings(), decoder.info.fps), []
        for frame in decoder:
            out += cascade.push(frame.index, frame.time, frame.small_bgr(256))
        boundaries = [(t.start_frame + t.end_frame) // 2 for t in out + cascade.flush()]
        ranges = [(f[0], f[3]) for f in labels["fades"]] + [(g[0], g[1]) for g in labels["gradual"]]
        unlabelled = UNLABELLED.get(name, [])
        free = set(boundaries)
        for cut in labels["cuts_frames"]:
            near = sorted((abs(b - cut), b) for b in free if abs(b - cut) <= 2)
            hits, misses = hits + bool(near), misses + (not near)
            free -= {near[0][1]} if near else set()
        excused = {b for b in free if any(a <= b <= z for a, z in ranges + unlabelled)}
        excused |= {b for b in free if any(abs(b - u) <= 2 for u in labels["uncertain_cuts"])}
        false += len(free - excused)
        gradual += len(ranges)
        gradual_hits += sum(any(a <= b <= z for b in boundaries) for a, z in ranges)
    f1 = 2 * hits / (2 * hits + misses + false)
    assert f1 >= 0.95
    assert gradual_hits / gradual >= 0.9
