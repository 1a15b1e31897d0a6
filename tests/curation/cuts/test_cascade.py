"""The cascade on footage made of known parts, and on the labelled footage."""

import numpy as np
import pytest
from scenedetect.common import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

from benchmarks.cuts import cascade, score
from curation.config import CutSettings
from curation.cuts.cascade import Cascade
from curation.cuts.suspects import _Adaptive
from curation.video.decoder import Decoder
from tests.curation.conftest import texture

FPS = 25


def drift(seed: int, frames: int, speed: int = 1) -> list[np.ndarray]:
    """A camera that pans over a wide picture."""
    wide = texture(seed, 120, 160 + 200)
    return [wide[:, speed * i : speed * i + 160] for i in range(frames)]


def found(pictures, fps=FPS):
    finder, out = Cascade(CutSettings(), fps), []
    for i, picture in enumerate(pictures):
        out += finder.push(i, i / fps, np.ascontiguousarray(picture))
    return out + finder.flush()


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


@pytest.mark.parametrize(("length", "fps"), [(2, 25), (3, 25), (4, 25), (2, 60), (3, 60), (4, 60)])
def test_a_quick_dissolve_is_found_once_and_covered(length, fps):
    """Too short for the network to call it gradual, and without one step that is a cut."""
    times = 1 if fps == 25 else 2
    a, b = ([p for p in drift(seed, 60) for _ in range(times)] for seed in (3, 4))
    weights, at = np.linspace(0, 1, length * times + 2)[1:-1], 50 * times
    mix = [
        (x * (1 - w) + y * w).astype(np.uint8)
        for x, y, w in zip(a[at : at + len(weights)], b[: len(weights)], weights, strict=True)
    ]
    (only,) = found(a[:at] + mix + b[len(weights) :], fps)
    assert at - 2 * times <= only.start_frame <= only.end_frame <= at + len(weights) + 2 * times
    assert only.kind in {"cut", "dissolve"}


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
    finder, settled, starts = Cascade(CutSettings(), FPS), 0.0, []
    for i, picture in enumerate(pictures):
        for transition in finder.push(i, i / FPS, picture):
            assert transition.start >= settled
            starts.append(transition.start)
        settled = finder.settled_until
    starts += [t.start for t in finder.flush()]
    assert starts == sorted(starts)
    assert len(starts) == 7


def test_memory_does_not_grow_with_the_video():
    finder, longest = Cascade(CutSettings(), FPS), 0
    pictures = drift(1, 160)
    pictures += pictures[::-1]
    for i in range(1500):
        finder.push(i, i / FPS, pictures[i % 320])
        longest = max(longest, len(finder._footage))
    assert longest < 600


@pytest.mark.needs_videos
def test_bikes_has_its_five_cuts(shared_videos):
    decoder = Decoder(str(shared_videos / "bikes.mp4"))
    finder, out = Cascade(CutSettings(), 25), []
    for frame in decoder:
        out += finder.push(frame.index, frame.time, frame.small_bgr(CutSettings().width_px))
    assert [(t.kind, t.start_frame) for t in out + finder.flush()] == [("cut", f) for f in (30, 76, 137, 187, 242)]


@pytest.mark.needs_videos
def test_labelled_footage(shared_videos, truth):
    """As `benchmarks/cuts.py` counts. The network has seen shots of these files: this holds what was reached, and says
    nothing of footage that it has not seen."""
    labelled = {n: v for n, v in truth.items() if not n.startswith("odd/") and n != "static_text_61s.mp4"}
    reached = score({name: cascade(str(shared_videos / name)) for name in labelled}, labelled)
    assert reached["F1"] >= 0.96
    assert reached["gradual"] >= 0.9


def test_scores_are_those_of_the_library():
    """One pass over all bytes gives PySceneDetect's score, frame by frame."""
    stock, ours = AdaptiveDetector(), _Adaptive()
    for i, picture in enumerate(drift(1, 5) + drift(2, 5)):
        stock.process_frame(FrameTimecode(i, 25.0), picture)
        ours.process_frame(FrameTimecode(i, 25.0), picture)
        assert ours.content == pytest.approx(stock._frame_score, abs=1e-9)


def test_transitions_do_not_depend_on_where_blocks_end():
    """The same shots after a lead-in of any length give the same transitions."""
    lead, rest = drift(5, 160), drift(1, 90) + drift(2, 70) + drift(3, 90)
    expected = [t.start_frame for t in found(rest)]
    for extra in (0, 37, 119):
        later = found(lead[: 1 + extra] * 1 + rest)
        assert [t.start_frame - 1 - extra for t in later if t.start_frame > 1 + extra] == expected


def test_fast_footage_is_thinned_for_the_network_alone():
    pictures = [p for p in drift(1, 80) + drift(2, 80) for _ in range(2)]
    assert [(t.kind, t.start_frame) for t in found(pictures, fps=60)] == [("cut", 160)]


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("end", [False, True])
def test_a_cut_in_the_first_or_last_frames_is_found(frames, end):
    short, long = drift(1, 60)[30 : 30 + frames], drift(2, 60)
    pictures = long + short if end else short + long
    at = 60 if end else frames
    assert [(t.kind, t.start_frame) for t in found(pictures)] == [("cut", at)]


def resampled(pictures, fps, way):
    """25 fps footage in a stream of a higher rate: frames repeated, or more of them from the same motion."""
    times = round(fps / 25)
    if way == "repeated":
        return [p for p in pictures for _ in range(times)]
    wide = np.stack(pictures).astype(float)
    blends = [wide[:-1] * (1 - k / times) + wide[1:] * k / times for k in range(times)]
    return list(np.stack(blends, 1).reshape(-1, *wide.shape[1:]).astype(np.uint8))


@pytest.mark.parametrize("way", ["repeated", "interpolated"])
@pytest.mark.parametrize("fps", [50, 60, 100, 120, 200, 240, 480])
def test_cuts_at_high_frame_rates_are_found_once_on_their_frame(fps, way):
    shots = [resampled(drift(seed, 32 + 5 * seed), fps, way) for seed in range(1, 5)]
    cuts = np.cumsum([len(shot) for shot in shots])[:-1].tolist()
    pictures = [picture for shot in shots for picture in shot]
    assert [(t.kind, t.start_frame, t.end_frame) for t in found(pictures, fps)] == [("cut", c, c) for c in cuts]


@pytest.mark.parametrize("fps", [3, 5, 8, 12])
def test_cuts_at_low_frame_rates_are_found(fps):
    pictures = drift(1, 20) + drift(2, 9) + drift(3, 20)
    assert [(t.kind, t.start_frame) for t in found(pictures, fps)] == [("cut", 20), ("cut", 29)]


@pytest.mark.parametrize("fps", [20, 60])
def test_a_varying_frame_rate_moves_no_cut(fps):
    """The header's rate is an average: stretches are ten times denser than others."""
    rng = np.random.default_rng(0)
    pictures = drift(1, 150) + drift(2, 90) + drift(3, 120)
    times = np.cumsum(np.where(np.arange(360) // 40 % 2, 0.2, 2.0) / fps * rng.uniform(0.8, 1.2, 360))
    finder, out = Cascade(CutSettings(), fps), []
    for i, (time, picture) in enumerate(zip(times, pictures, strict=True)):
        out += finder.push(i, float(time), np.ascontiguousarray(picture))
    out += finder.flush()
    assert [t.start_frame for t in out] == [150, 240]
    assert [t.start for t in out] == pytest.approx([times[150], times[240]])


def test_two_frames_of_transition_in_fast_footage_belong_to_no_shot():
    a, b = (resampled(drift(seed, 40), 240, "interpolated") for seed in (1, 2))
    mix = [(a[200] * (1 - w) + b[0] * w).astype(np.uint8) for w in (1 / 3, 2 / 3)]
    (only,) = found(a[:200] + mix + b, 240)
    assert (only.start_frame, only.end_frame) == (200, 202)
