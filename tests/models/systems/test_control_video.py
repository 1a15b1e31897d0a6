"""ControlVideo: attention of all frames to all, the interleaved smoother, the hierarchical sampler, on our U-Net and
SD's."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.backbones.unet import Level
from models.diffusion.parameterization import Denoiser, EpsPrediction
from models.diffusion.samplers import DDIM
from models.systems import control_video as cv
from models.systems.control_video import ControlVideo, SmoothedDDIM, hierarchy, smoothed
from models.systems.recipe import count
from tests.models.systems.checks import noise, page_holds, runs_in_bf16, same_when_checkpointed
from tests.models.systems.image_networks import (
    KINDS,
    LABEL,
    TEXT,
    control_network,
    frames_for,
    image_network,
    new_control,
    one_level,
    pictures_for,
    told,
)


@pytest.fixture(scope="module", params=KINDS)
def image(request):
    return image_network(request.param)


def build(image, **more):
    network = ControlVideo(image, **more)
    network.network = image  # what frames_for and told ask for
    return network


@pytest.fixture(scope="module")
def network(image):
    return build(image)


def denoiser(network, b=1, **more):
    return partial(Denoiser(network, EpsPrediction(), cv.SCHEDULE), **told(network, b), **more)


def changed_by(network, x, frame):
    """Which frames' outputs change with one frame's input."""
    other = x.clone()
    other[:, :, frame] += noise(*x[:, :, 0].shape, seed=8)
    change = (network(other, LABEL, **told(network)) - network(x, LABEL, **told(network))).abs().amax((0, 1, 3, 4))
    return (change > 1e-9).nonzero().flatten().tolist()


def test_full_attention_is_one_over_all_frames_tokens(network):
    """Each call is softmax(Q K' / sqrt(d)) V of (t n) tokens, written with einsum."""
    calls, x = [], frames_for(network, 3)

    def by_hand(q, k, v):
        q, k, v = (part.unflatten(0, (2, 3)) for part in (q, k, v))
        weights = torch.einsum("bthnd,bshmd->bhtnsm", q, k) / q.shape[-1] ** 0.5
        weights = weights.flatten(4).softmax(-1).unflatten(4, weights.shape[4:])
        calls.append(q.shape)
        return torch.einsum("bhtnsm,bshmd->bthnd", weights, v).flatten(0, 1)

    expected = network.cross.network(x, LABEL, attend=by_hand, **told(network))
    assert len(calls) >= 3
    torch.testing.assert_close(network(x, LABEL, **told(network)), expected, rtol=1e-10, atol=1e-10)


def test_every_frame_sees_all(network):
    x = frames_for(network, 4)
    assert [changed_by(network, x, frame) for frame in (0, 2)] == [[0, 1, 2, 3]] * 2


def test_equal_frames_equal_image_attention(network):
    x = frames_for(network, 1)
    one = network.cross.network(x, LABEL, **told(network))
    video = network(x.expand(-1, -1, 4, -1, -1), LABEL, **told(network))
    torch.testing.assert_close(video, one.expand_as(video), rtol=0, atol=1e-11)


@given(t=st.integers(1, 9), parity=st.integers(0, 1))
def test_the_smoother_leaves_the_other_parity_and_the_ends(t, parity):
    x = noise(2, 3, t, 4, 4)
    out = smoothed(x, parity)
    for i in range(t):
        inside = 0 < i < t - 1 and i % 2 == parity
        expected = (x[:, :, i - 1] + x[:, :, i + 1]) / 2 if inside else x[:, :, i]
        assert torch.equal(out[:, :, i], expected)


@given(t=st.integers(1, 9))
def test_two_steps_in_a_row_cover_both_parities(t):
    x = noise(1, 1, t, 4, 4)
    touched = [(smoothed(x, parity) != x).any(dim=(0, 1, 3, 4)) for parity in (0, 1)]
    assert not (touched[0] & touched[1]).any()
    assert (touched[0] | touched[1]).tolist() == [0 < i < t - 1 for i in range(t)]


def test_the_smoother_takes_any_interpolator():
    x = noise(1, 2, 5, 4, 4)
    out = smoothed(x, 1, lambda before, after: before - after)
    torch.testing.assert_close(out[:, :, [1, 3]], x[:, :, [0, 2]] - x[:, :, [2, 4]], rtol=0, atol=0)


def test_smoothing_is_of_x_at_the_chosen_steps_and_keeps_eps():
    """Every step by hand: z = alpha x~ + sigma eps, with the eps of the estimate that was not smoothed."""
    schedule, x = cv.SCHEDULE, noise(1, 3, 5, 4, 4)
    times, parities = schedule.times(6), []

    def denoise(z, t):
        return 0.7 * x + 0.1 * z

    expected = z = noise(1, 3, 5, 4, 4, seed=2)
    for i in range(6):
        (alpha, sigma), (alpha_s, sigma_s) = (schedule.alpha_sigma(t) for t in (times[i], times[i + 1]))
        x_hat = denoise(expected, times[i])
        eps = (expected - alpha * x_hat) / sigma
        if 6 - i in {4, 3}:
            parities.append((i + 1) % 2)
            x_hat = smoothed(x_hat, (i + 1) % 2)
        expected = alpha_s * x_hat + sigma_s * eps
    assert sorted(parities) == [0, 1]
    steps = []
    out = SmoothedDDIM(at=(4, 3))(denoise, z, schedule, times, lambda done, of: steps.append((done, of)))
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    assert steps == [(i, 6) for i in range(1, 7)]
    assert torch.equal(SmoothedDDIM(at=())(denoise, z, schedule, times), DDIM()(denoise, z, schedule, times))


def test_a_smoother_that_would_smooth_no_step_is_refused():
    """The default is for 50 steps: at 18 none has 20 or 19 left."""
    z, schedule = noise(1, 3, 5, 4, 4), cv.SCHEDULE
    for steps, at in ((18, (20, 19)), (4, (5,)), (4, (0,))):
        with pytest.raises(ValueError, match=f"of {steps} steps none is smoothed"):
            SmoothedDDIM(at=at)(lambda z, t: 0.5 * z, z, schedule, schedule.times(steps))
    with pytest.raises(ValueError, match="of 4 steps none is smoothed"):
        cv.sample(lambda z, t: 0.5 * z, z[:, :, :1], 5, schedule, 4)
    assert SmoothedDDIM()(lambda z, t: 0.5 * z, z, schedule, schedule.times(19)).isfinite().all()


def test_smoothing_goes_through_pixels():
    schedule, z = cv.SCHEDULE, noise(1, 3, 5, 4, 4)
    shapes = []

    def interpolate(before, after):
        shapes.append(before.shape)
        return (before + after) / 2

    through = SmoothedDDIM(
        interpolate, (2,), lambda x: x.repeat_interleave(2, 3).repeat_interleave(2, 4), lambda y: y[..., ::2, ::2]
    )
    plain, times = SmoothedDDIM(at=(2,)), schedule.times(4)
    out = through(lambda z, t: z, z, schedule, times)
    torch.testing.assert_close(out, plain(lambda z, t: z, z, schedule, times), rtol=1e-12, atol=1e-12)
    assert shapes == [(1, 3, 2, 8, 8)]


@given(frames=st.integers(1, 40), clip=st.integers(2, 12))
def test_keys_and_in_betweens_partition_the_frames_once(frames, clip):
    keys, clips = hierarchy(frames, clip)
    assert sorted([*keys, *(i for _, _, inner in clips for i in inner)]) == list(range(frames))
    for left, right, inner in clips:
        assert left in keys
        assert right in keys
        assert inner == list(range(left + 1, right))
        assert 2 + len(inner) <= clip


def test_in_betweens_attend_to_both_keys(image):
    """Frames 0, 3, 6 are keys. A key reaches all keys and both its clips; a frame in between reaches itself."""
    network = build(image, clip=4)
    x = frames_for(network, 7)
    assert hierarchy(7, 4) == ([0, 3, 6], [(0, 3, [1, 2]), (3, 6, [4, 5])])
    assert changed_by(network, x, 0) == [0, 1, 2, 3, 6]
    assert changed_by(network, x, 3) == [0, 1, 2, 3, 4, 5, 6]
    assert changed_by(network, x, 6) == [0, 3, 4, 5, 6]
    assert changed_by(network, x, 4) == [4]


def test_keys_are_a_short_video_and_clips_are_in_their_places(image):
    network, whole = build(image, clip=3), build(image)
    x = frames_for(network, 5)
    out = network(x, LABEL, **told(network))
    torch.testing.assert_close(out[:, :, ::2], whole(x[:, :, ::2], LABEL, **told(network)), rtol=0, atol=1e-12)

    def both_ends(q, k, v):
        q, k, v = (part.unflatten(0, (2, 3)) for part in (q, k, v))
        pair = [torch.cat([part[:, 0], part[:, 2]], dim=2) for part in (k, v)]
        return torch.stack(
            [torch.nn.functional.scaled_dot_product_attention(q[:, i], *pair) for i in range(3)], 1
        ).flatten(0, 1)

    clip = image(x[:, :, 2:5], LABEL, attend=both_ends, **told(network))
    torch.testing.assert_close(out[:, :, 3], clip[:, :, 1], rtol=0, atol=1e-11)


def test_one_clip_of_all_frames_is_the_sampler_without_hierarchy(image):
    whole, one = build(image), build(image, clip=4)
    first = frames_for(whole, 1, 1)
    made = [cv.sample(denoiser(n), first, 4, cv.SCHEDULE, 5, SmoothedDDIM(at=(3, 2))) for n in (whole, one)]
    assert torch.equal(*made)
    with pytest.raises(ValueError, match="1 is too short"):
        build(image, clip=1)(first, LABEL[:1], **told(whole, 1))
    with pytest.raises(ValueError, match="0 is too short"):
        build(image, clip=0)(first, LABEL[:1], **told(whole, 1))


@pytest.mark.parametrize("clip", [None, 3])
def test_every_frame_needs_its_control_and_every_video_its_text(image, clip):
    network = build(image, control=control_network(image), clip=clip)
    x, picture = frames_for(network, 5), pictures_for(network, 5)
    with pytest.raises(ValueError, match="1 control pictures are too few for 5 frames"):
        network(x, LABEL, picture=picture[:, :, :1], **told(network))
    with pytest.raises(ValueError, match="a batch of 2 needs 2 rows of picture"):
        network(x, LABEL, picture=picture[:1], **told(network))
    with pytest.raises(ValueError, match="a batch of 2 needs 2 rows of (text|context)"):
        network(x, LABEL, picture=picture, **told(network, 1))


def test_a_long_video_is_sampled_clip_by_clip(image):
    """No more frames than a clip has are in the network at once, and keys do not depend on what is between them."""
    network = build(image, control=control_network(image), clip=3)
    seen, hook = [], network.cross.register_forward_pre_hook(lambda m, args: seen.append(args[0].shape[2]))
    first, pictures = frames_for(network, 1, 1), pictures_for(network, 7, 1)
    video = cv.sample(denoiser(network, picture=pictures), first, 7, cv.SCHEDULE, 4, SmoothedDDIM(at=()))
    hook.remove()
    assert video.shape[2] == 7
    assert set(seen) == {4, 3}
    other = pictures.clone()
    other[:, :, 1] += 1
    again = cv.sample(denoiser(network, picture=other), first, 7, cv.SCHEDULE, 4, SmoothedDDIM(at=()))
    assert ((again - video).abs().amax((0, 1, 3, 4)) > 1e-9).tolist() == [i == 1 for i in range(7)]


def test_the_same_noise_and_control_make_the_same_frames(network):
    video = cv.sample(denoiser(network), frames_for(network, 1, 1), 3, cv.SCHEDULE, 4, SmoothedDDIM(at=(2, 1)))
    torch.testing.assert_close(video, video[:, :, :1].expand_as(video), rtol=0, atol=1e-10)


@pytest.mark.parametrize("clip", [None, 3])
def test_zero_control_is_none(image, clip):
    plain = build(image, clip=clip)
    x, picture = frames_for(plain, 5), pictures_for(plain, 5)
    expected = plain(x, LABEL, **told(plain))
    silent = build(image, control=new_control(image), clip=clip)
    assert torch.equal(silent(x, LABEL, picture=picture, **told(plain)), expected)
    loud = build(image, control=control_network(image), clip=clip)
    assert (loud(x, LABEL, picture=picture, **told(plain)) - expected).abs().max() > 1e-3


def test_weights_do_not_change(image):
    network = build(image, control=control_network(image), clip=3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pictures = pictures_for(network, 4, 1)
    cv.sample(
        denoiser(network, picture=pictures), frames_for(network, 1, 1), 4, cv.SCHEDULE, 4, SmoothedDDIM(at=(2, 1))
    )
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert cv.SYSTEM.stages == ()


def test_compiled():
    """Without gradients, as nothing is trained; with keys and clips."""
    network = build(one_level("ours"), clip=3)
    x = frames_for(network, 4)
    torch.compiler.reset()
    with torch.no_grad():
        compiled = torch.compile(network, backend="aot_eager", fullgraph=True, dynamic=False)
        expected = network(x, LABEL, **told(network))
        torch.testing.assert_close(compiled(x, LABEL, **told(network)), expected, rtol=1e-9, atol=1e-10)


def test_in_bf16_and_checkpointed():
    image = image_network("ours")
    network = ControlVideo(image, control_network(image), clip=3)
    x, picture = noise(2, 3, 4, 8, 8), noise(2, 3, 4, 8, 8, seed=2)
    runs_in_bf16(network, x, LABEL, text=TEXT, picture=picture)
    same_when_checkpointed(network, Level, x, LABEL, text=TEXT, picture=picture)


def test_paper_size():
    with torch.device("meta"):
        nets = cv.SYSTEM.paper_size()
    assert {name: count(nets[name]) for name in cv.SYSTEM.published} == dict(cv.SYSTEM.published)


def test_page():
    assert page_holds("control_video", cv.SYSTEM)["video"].shape == (1, 3, 9, 16, 16)
