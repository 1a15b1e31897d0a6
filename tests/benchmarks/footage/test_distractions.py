"""Distractions leave most samples alone and change what they say they change."""

import numpy as np
import torch

from benchmarks.footage import distractions as d
from benchmarks.footage.shots import Canvas, Shots

N, FRAMES = 200, 60


def canvas() -> Canvas:
    return Canvas(N, FRAMES, torch.Generator().manual_seed(0))


def grey() -> torch.Tensor:
    return torch.full((N, FRAMES, 3, 18, 32), 0.5)


def touched(out: torch.Tensor) -> torch.Tensor:
    """Share of each sample's frames that changed, (n,)."""
    return (out - 0.5).abs().amax((2, 3, 4)).gt(1e-6).float().mean(1)


def test_flashes_brighten_a_few_frames() -> None:
    out = d._flashed(grey(), canvas())
    assert (out >= 0.5).all()
    share = touched(out)
    assert share.max() <= 6 / FRAMES
    assert 0.05 < share.gt(0).float().mean() < 0.25


def test_dropped_frames_are_one_or_two() -> None:
    out = d._dropped(grey(), canvas())
    dark = (out.amax((2, 3, 4)) < 0.03).sum(1)
    assert dark.max() == 2
    assert 0 < (dark > 0).sum() < 0.12 * N


def test_what_passes_in_front_enters_and_leaves() -> None:
    shots = Shots({"black": [np.zeros((30, 36, 64, 3), np.uint8)]}, ["black"], "cpu")
    out = d._passed(grey(), shots, canvas())
    assert 0.12 < touched(out).gt(0).float().mean() < 0.35
    hidden = (out < 0.25).float().mean((2, 3, 4))  # (n, t)
    assert hidden.max() < 0.75, "it never fills the picture"


def test_a_lens_that_loses_its_focus_keeps_the_mean() -> None:
    one = canvas()
    pattern = torch.rand(N, 1, 3, 18, 32, generator=one.generator).expand(-1, FRAMES, -1, -1, -1)
    out = d._refocused(pattern, one)
    changed = (out != pattern).flatten(1).any(1)
    assert 0.03 < changed.float().mean() < 0.15
    blurred = out[changed]
    assert (blurred.std((3, 4)).amin((1, 2)) < 0.6 * pattern[changed].std((3, 4)).amin((1, 2))).float().mean() > 0.5
    torch.testing.assert_close(blurred.mean((2, 3, 4)), pattern[changed].mean((2, 3, 4)), atol=0.03, rtol=0)


def test_a_window_is_a_box_for_a_while() -> None:
    out = d._popped_up(grey(), canvas())
    changed = (out - 0.5).abs().amax(2) > 1e-6  # (n, t, h, w)
    rows, columns = changed.any(3), changed.any(2)
    box = rows[..., :, None] & columns[..., None, :]
    # a pixel of a box may chance upon the grey that is there already
    assert (box & ~changed).float().sum() < 0.01 * changed.sum()
    assert 0.08 < touched(out).gt(0).float().mean() < 0.3


def test_bars_are_black_and_stay() -> None:
    out = d._barred(grey(), canvas())
    assert torch.equal(out, out[:, :1].expand_as(out))
    barred = (out[:, 0] == 0).any(1).flatten(1).any(1)
    assert 0.1 < barred.float().mean() < 0.3
    assert (out[:, :, :, 6:12, 8:24] == 0.5).all(), "no bar reaches the middle"


def test_grey_samples_have_equal_channels() -> None:
    blue = grey() * torch.tensor([1.0, 0.2, 0.2]).view(3, 1, 1)
    out = d._grey(blue, canvas())
    equal = (out[:, :, 0] == out[:, :, 2]).flatten(1).all(1)
    assert 0.05 < equal.float().mean() < 0.2
    assert torch.allclose(out[equal], torch.tensor(0.5 * (0.114 + 0.2 * 0.886)))
    assert torch.equal(out[~equal], blue[~equal])


def test_blocks_drift_until_the_next_keyframe() -> None:
    out = d._mended_at_keyframes(grey(), canvas())
    share = touched(out)
    assert 0.08 < share.gt(0).float().mean() < 0.25
    blocks = out.reshape(N, FRAMES, 3, 6, 3, 8, 4)
    assert (blocks == blocks[:, :, :, :, :1, :, :1]).all()
    far = (out - 0.5).abs().mean((2, 3, 4))[share > 0]
    assert (torch.diff(far, dim=1) < -1e-6).sum(1).float().mean() < 6, "it comes back at keyframes alone"


def test_most_noise_is_small() -> None:
    strength = (d._noisy(grey(), canvas()) - 0.5).flatten(1).std(1)
    assert strength.max() < 0.021
    assert 0.5 < (strength < 0.004).float().mean() < 0.75  # half, and a fifth of the other half
