"""Text2Video-Zero: motion of latents, cross-frame attention, background smoothing, control, on our U-Net and SD's."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from models.backbones.unet import Level
from models.diffusion.parameterization import Denoiser, EpsPrediction
from models.diffusion.samplers import DDIM, DDPM
from models.diffusion.schedules import DDPMSchedule
from models.systems import text2video_zero as t2v
from models.systems.frames import CrossFrame
from models.systems.recipe import count
from models.systems.text2video_zero import Motion
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

STEPS = 6


@pytest.fixture(scope="module", params=KINDS)
def network(request):
    image = image_network(request.param)
    return t2v.network(image, control_network(image))


@pytest.fixture(scope="module")
def ours():
    image = image_network("ours")
    return t2v.network(image, control_network(image))


def draw(network, motion=None, sampler=None, seed=3, frames=4, picture=None, **more):
    """A sample of 4 frames in 6 steps, of the first text."""
    given = told(network, 1) if picture is None else {**told(network, 1), "picture": picture}
    denoise = partial(Denoiser(network, EpsPrediction(), t2v.SCHEDULE), **given)
    generator = torch.Generator().manual_seed(seed)
    return t2v.sample(
        denoise, frames_for(network, 1, 1), t2v.SCHEDULE, STEPS, frames, generator, motion, sampler, **more
    )


@pytest.mark.parametrize(("dx", "dy"), [(1, 1), (2, 0), (0, -1), (-3, 2)])
def test_integer_warps_equal_roll_inside(dx, dy):
    x = noise(2, 3, 1, 12, 16)
    video = t2v.warped(x, 3, Motion(strength=1.0, direction=(dx, dy)))
    assert torch.equal(video[:, :, 0], x[:, :, 0])
    for k in (1, 2):
        rolled = torch.roll(x[:, :, 0], (k * dy, k * dx), dims=(2, 3))
        rows = slice(max(0, k * dy), 12 + min(0, k * dy))
        columns = slice(max(0, k * dx), 16 + min(0, k * dx))
        assert torch.equal(video[:, :, k, rows, columns], rolled[..., rows, columns])


@pytest.mark.parametrize("shift", [1, 5, -13, 30])
def test_what_comes_in_is_mirrored(shift):
    """As grid_sample's reflection does, however far it goes."""
    x = noise(1, 2, 1, 6, 8)
    video = t2v.warped(x, 2, Motion(strength=abs(shift), direction=(1 if shift > 0 else -1, 0)))
    columns = (torch.arange(8).double() - shift + 0.5) / 4 - 1
    rows = (torch.arange(6).double() + 0.5) / 3 - 1
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None]
    expected = F.grid_sample(x[:, :, 0], grid, mode="nearest", padding_mode="reflection", align_corners=False)
    assert torch.equal(video[:, :, 1], expected)


@pytest.mark.slow  # the peer's imports take their time
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strength", [8, 12, 20])
def test_the_warp_is_that_of_diffusers_with_the_opposite_sign(strength):
    """Where the shift is of whole latents; theirs is in pixels, eight of which are a latent."""
    from diffusers.pipelines.deprecated.text_to_video_synthesis import pipeline_text_to_video_zero as peer

    x = noise(1, 4, 1, 64, 64)
    flow = peer.create_motion_field_and_warp_latents
    theirs = flow(strength, strength, torch.arange(4), x[:, :, 0].expand(4, -1, -1, -1))
    ours = t2v.warped(x, 4, Motion(strength=strength / 8, direction=(-1, -1)))[0].transpose(0, 1)
    whole = [k for k in range(4) if strength * k % 8 == 0]
    assert len(whole) >= 2
    assert torch.equal(ours[whole], theirs[whole])


def test_the_warp_keeps_the_noise():
    """A shift of half a latent is one of none or one: every value is one that was there."""
    x = noise(1, 1, 1, 32, 32)
    for frame in t2v.warped(x, 4, Motion(strength=1.5, direction=(1, 1)))[0, 0]:
        assert torch.isin(frame, x).all()


def test_without_motion_and_steps_all_frames_are_the_same(network):
    for forward in ("ddpm", "ddim"):
        video = draw(network, Motion(strength=0, start=1, steps=0, forward=forward))
        assert video.shape[2] == 4
        torch.testing.assert_close(video, video[:, :, :1].expand_as(video), rtol=0, atol=1e-11)
    moved = draw(network, Motion(strength=1, start=1, steps=0))
    assert (moved - moved[:, :, :1])[:, :, 1:].abs().amax((0, 1, 3, 4)).min() > 1e-3


def test_the_first_frame_is_the_image_model_s(ours):
    """It sees itself alone, so it is the picture that the image model makes of the same noise."""
    schedule, given = t2v.SCHEDULE, {"text": TEXT[:1]}
    image = partial(Denoiser(ours.network, EpsPrediction(), schedule), **given)
    times = schedule.times(STEPS)
    first = noise(1, 3, 1, 8, 8) * schedule.alpha_sigma(times[0])[1]
    alone = DDIM()(image, first[:, :, 0], schedule, times)
    video = draw(ours, Motion(start=1, steps=2))
    torch.testing.assert_close(video[:, :, 0], alone, rtol=1e-9, atol=1e-9)


def test_forward_noise_has_the_schedule_s_variance():
    """From T' to T, noise of variance 1 - prod(alpha) = 1 - (alpha_T / alpha_T')^2 on kept signal."""
    schedule, t, s = DDPMSchedule(), torch.tensor(600.0), torch.tensor(700.0)
    z = noise(1, 1, 2, 300, 300, seed=0)
    out = t2v.noised(z, schedule, t, s, torch.Generator().manual_seed(1))
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    kept = (1 - betas)[601:701].prod()
    added = out - kept.sqrt() * z
    assert abs(added.var() - (1 - kept)) < 0.02 * (1 - kept)
    assert abs((added * z).mean()) < 0.01
    assert abs(out.var() - 1) < 0.02
    assert torch.equal(t2v.noised(z, schedule, t, t, torch.Generator()), z)


def test_ddim_forward_is_deterministic_and_ddpm_is_not(ours):
    motion = {way: Motion(strength=1, start=1, steps=2, forward=way) for way in ("ddim", "ddpm")}
    assert torch.equal(draw(ours, motion["ddim"], seed=1), draw(ours, motion["ddim"], seed=2))
    one, same, other = (draw(ours, motion["ddpm"], seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert (one - other)[:, :, 1:].abs().max() > 1e-3
    assert torch.equal(one[:, :, 0], other[:, :, 0])


def test_ddim_forward_undoes_ddim_backward_where_eps_is_constant():
    """Then unmoved copies come back to x_T itself."""
    schedule, eps = t2v.SCHEDULE, noise(1, 3, 1, 8, 8, seed=9)

    def denoise(z, t):
        alpha, sigma = schedule.alpha_sigma(t)
        return (z - sigma * eps) / alpha

    first, times = noise(1, 3, 1, 8, 8), schedule.times(8)[2:6]
    motion = Motion(strength=0, forward="ddim")
    made = t2v.moving_latents(denoise, first, schedule, times, 3, motion, torch.Generator(), DDIM())
    torch.testing.assert_close(made, first.expand(-1, -1, 3, -1, -1), rtol=1e-10, atol=1e-10)


def test_backward_steps_can_be_ddpm_s(ours):
    ancestral = [draw(ours, Motion(start=1, steps=1), DDPM(torch.Generator().manual_seed(seed))) for seed in (1, 1, 2)]
    assert torch.equal(ancestral[0], ancestral[1])
    assert (ancestral[0] - ancestral[2])[:, :, 0].abs().max() > 1e-3


def test_background_smoothing():
    x, motion = noise(2, 3, 4, 8, 8), Motion(strength=1)
    warp = t2v.warped(x[:, :, :1], 4, motion)
    ones = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    assert torch.equal(t2v.background_smoothed(x, ones, motion, 0.6), x)
    assert torch.equal(t2v.background_smoothed(x, 0 * ones, motion, 1.0), warp)
    mask = (noise(2, 1, 4, 8, 8, seed=2) > 0).double()
    out = t2v.background_smoothed(x, mask, motion, 0.6)
    torch.testing.assert_close(out, torch.where(mask > 0, x, 0.6 * warp + 0.4 * x), rtol=0, atol=1e-15)


def test_smoothing_is_part_of_sampling(ours):
    motion = Motion(strength=1, start=1, steps=1)
    plain = draw(ours, motion)
    everywhere, nowhere = torch.ones(1, 1, 4, 8, 8), torch.zeros(1, 1, 4, 8, 8)
    assert torch.equal(draw(ours, motion, foreground=everywhere), plain)
    video = draw(ours, motion, foreground=nowhere, alpha=1.0)
    torch.testing.assert_close(video, t2v.warped(video[:, :, :1], 4, motion), rtol=0, atol=1e-12)


def test_frames_attend_to_the_first_one(network):
    """Another first frame changes all frames; another second one changes itself alone."""
    x = frames_for(network, 4)
    out = network(x, LABEL, **told(network))
    for j, reached in ((0, [0, 1, 2, 3]), (1, [1])):
        other = x.clone()
        other[:, :, j] += noise(2, x.shape[1], 8, 8, seed=8)
        changed = (network(other, LABEL, **told(network)) - out).abs().amax((0, 1, 3, 4)) > 1e-9
        assert changed.nonzero().flatten().tolist() == reached


def test_every_self_attention_is_the_first_frame_s(network):
    """Each call is softmax(Q_k K_1' / sqrt(d)) V_1, written with einsum."""
    seen = []
    x = frames_for(network, 3)

    def by_hand(q, k, v):
        q, k, v = (part.unflatten(0, (2, 3)) for part in (q, k, v))
        weights = (torch.einsum("bthnd,bhmd->bthnm", q, k[:, 0]) / q.shape[-1] ** 0.5).softmax(-1)
        seen.append(q.shape)
        return torch.einsum("bthnm,bhmd->bthnd", weights, v[:, 0]).flatten(0, 1)

    expected = network.network(x, LABEL, attend=by_hand, **told(network))
    assert len(seen) >= 3
    torch.testing.assert_close(network(x, LABEL, **told(network)), expected, rtol=1e-10, atol=1e-10)


def test_zero_control_is_none(network):
    picture = pictures_for(network, 4, 1)
    controlled = draw(network, Motion(start=1, steps=1), picture=picture)
    plain = draw(network, Motion(start=1, steps=1))
    assert (controlled - plain).abs().max() > 1e-3
    silent = t2v.network(network.network, new_control(network.network))
    assert torch.equal(draw(silent, Motion(start=1, steps=1), picture=picture), plain)


def test_each_frame_has_its_own_control(network):
    picture = pictures_for(network, 4)
    x = frames_for(network, 4)
    out, other = network(x, LABEL, picture=picture, **told(network)), picture.clone()
    other[:, :, 2] += 1
    changed = (network(x, LABEL, picture=other, **told(network)) - out).abs().amax((0, 1, 3, 4)) > 1e-9
    assert changed.tolist() == [False, False, True, False]


def test_weights_do_not_change(ours):
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    draw(ours, Motion(start=1, steps=2), picture=noise(1, 3, 4, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
    assert t2v.SYSTEM.stages == ()


def test_refusals(ours):
    with pytest.raises(ValueError, match="6 steps are too few: the motion's are 2 \\+ 4"):
        draw(ours, Motion(steps=4))
    with pytest.raises(ValueError, match="no control branch"):
        CrossFrame(ours.network, "first")(noise(1, 3, 2, 8, 8), LABEL[:1], picture=noise(1, 3, 2, 8, 8))
    with pytest.raises(ValueError, match="1 control pictures are too few for 4 frames"):
        draw(ours, Motion(start=1, steps=1), picture=noise(1, 3, 1, 8, 8))


@pytest.mark.parametrize("shape", [(1, 3, 4, 8, 8), (1, 3, 0, 8, 8), (1, 3, 8, 8)])
def test_the_noise_is_the_first_frame_s(shape):
    """That of n frames would make n - 1 frames too many."""
    with pytest.raises(ValueError, match="the noise is of the first frame"):
        t2v.sample(lambda z, t: z, noise(*shape), t2v.SCHEDULE, STEPS, 4, torch.Generator(), Motion(start=1, steps=1))


def test_a_motion_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="not 'ddmp'"):
        Motion(forward="ddmp")
    for steps in ({"start": -1}, {"steps": -2}):
        with pytest.raises(ValueError, match="goes backwards"):
            Motion(**steps)


def test_the_default_motion_is_from_881_to_941():
    times, motion = t2v.SCHEDULE.times(50), Motion()
    assert times[motion.start] == 941
    assert times[motion.start + motion.steps] == 881


@pytest.mark.parametrize("kind", KINDS)
def test_compiled(kind):
    """Without gradients, as nothing is trained."""
    network = t2v.network(one_level(kind))
    x = frames_for(network, 3)
    torch.compiler.reset()
    with torch.no_grad():
        compiled = torch.compile(network, backend="aot_eager", fullgraph=True, dynamic=False)
        expected = network(x, LABEL, **told(network))
        torch.testing.assert_close(compiled(x, LABEL, **told(network)), expected, rtol=1e-9, atol=1e-10)


def test_in_bf16_and_checkpointed(ours):
    x, picture = noise(2, 3, 3, 8, 8), noise(2, 3, 3, 8, 8, seed=2)
    runs_in_bf16(ours, x, LABEL, text=TEXT, picture=picture)
    same_when_checkpointed(ours, Level, x, LABEL, text=TEXT, picture=picture)


def test_paper_size():
    with torch.device("meta"):
        nets = t2v.SYSTEM.paper_size()
    assert {name: count(nets[name]) for name in t2v.SYSTEM.published} == dict(t2v.SYSTEM.published)
    assert count(nets["control"]) == 361_279_120


def test_page():
    assert page_holds("text2video_zero", t2v.SYSTEM)["video"].shape == (1, 3, 8, 16, 16)
