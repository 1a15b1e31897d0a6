from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.backbones.unet import Attention, Level, UNet
from models.diffusion.guidance import downsampled
from models.diffusion.losses import denoiser
from models.layers.temporal import TemporalAttention, TemporalConv
from models.systems import imagen_video as iv
from models.systems.cascade import LABEL
from models.systems.recipe import count
from tests.models.systems.checks import (
    compiles,
    noise,
    page_holds,
    randomised,
    runs_in_bf16,
    same_when_checkpointed,
    wakes_up,
)

NOISE = torch.tensor([-0.3, 0.6], dtype=torch.float64)
TEXT = noise(2, 4, 12, seed=5)
SEEN = torch.ones(2, 4, dtype=torch.bool)
MODELS = {model.name: model for model in iv.TINY}
LOSSES = {stage.name: stage.loss for stage in iv.stages(iv.TINY)}
ALL = pytest.mark.parametrize("name", [*MODELS])


@pytest.fixture(scope="module")
def networks():
    return nn.ModuleDict({name: randomised(net, scale=0.2) for name, net in iv.tiny().items()})


def clip(name, b=2, seed=1):
    return noise(b, 3, *MODELS[name].shape, seed=seed)


def told(name, seed=7):
    """What the model's network is told beside the text."""
    if name == "base":
        return {}
    return {"extra": clip(name, seed=seed), "labels": {LABEL: NOISE}}


def random_start():
    return torch.Generator().manual_seed(0)


def test_the_shape_chain_of_all_seven_is_the_paper_s():
    assert [(m.kind, m.frames, m.width, m.height, m.fps) for m in iv.PAPER] == [
        ("base", 16, 40, 24, 3),
        ("tsr", 32, 40, 24, 6),
        ("ssr", 32, 80, 48, 6),
        ("ssr", 32, 320, 192, 6),
        ("tsr", 64, 320, 192, 12),
        ("tsr", 128, 320, 192, 24),
        ("ssr", 128, 1280, 768, 24),
    ]
    assert [m.kind for m in iv.TINY] == [m.kind for m in iv.PAPER]
    assert all(m.height % m.network.multiple == m.width % m.network.multiple == 0 for m in iv.PAPER)


def test_a_sample_goes_through_all_seven(networks):
    made = list(iv.samples(networks, iv.TINY, TEXT[:1], random_start(), steps=2))
    assert [video.shape for _, video in made] == [(1, 3, *model.shape) for model in iv.TINY]
    assert all(video.isfinite().all() for _, video in made)


@ALL
def test_the_text_reaches_all_seven(networks, name):
    x = clip(name)
    out = networks[name](x, NOISE, text=TEXT, **told(name))
    assert (networks[name](x, NOISE, text=-TEXT, **told(name)) - out).abs().max() > 1e-4


@pytest.mark.parametrize("name", [name for name in MODELS if name != "base"])
def test_the_level_of_augmentation_is_an_input_and_matters(networks, name):
    x, given = clip(name), told(name)
    out = networks[name](x, NOISE, **given)
    assert (networks[name](x, NOISE, **{**given, "labels": {LABEL: NOISE + 0.5}}) - out).abs().max() > 1e-4
    assert (networks[name](x, NOISE, **{**given, "extra": -given["extra"]}) - out).abs().max() > 1e-4
    with pytest.raises(ValueError, match="3 extra channels"):
        networks[name](x, NOISE)


def test_what_is_given_is_concatenated_by_channel(networks):
    """A convolution of both is one of each, added."""
    network, x, extra = networks["ssr1"], clip("ssr1")[:, :, 0], clip("ssr1")[:, :, 1]
    weight = torch.cat([network.stem.spatial.weight, network.extra.weight], dim=1)
    bias = network.stem.spatial.bias + network.extra.bias
    expected = F.conv2d(torch.cat([x, extra], dim=1), weight, bias, padding=1)
    torch.testing.assert_close(network.stem(x, None) + network.extra(extra), expected, rtol=0, atol=1e-12)


def test_spatial_super_resolution_is_given_a_bilinear_enlargement():
    model, below = MODELS["ssr1"], MODELS["tsr1"]
    video = noise(2, 3, *below.shape)
    got = iv.raised(model, video)
    for i in range(4):
        expected = F.interpolate(video[:, :, i], (6, 8), mode="bilinear", align_corners=False)
        torch.testing.assert_close(got[:, :, i], expected, rtol=0, atol=1e-12)
    whole = clip("ssr1")
    torch.testing.assert_close(iv.lowered(model, below, whole), downsampled(whole, 4, 4))


def test_temporal_super_resolution_is_given_repeated_or_blank_frames():
    model, below = MODELS["tsr2"], MODELS["ssr2"]
    video = clip("ssr2")
    repeated, blank = (iv.raised(model, video, fill) for fill in ("repeat", "blank"))
    for i in range(8):
        assert torch.equal(repeated[:, :, i], video[:, :, i // 2])
        assert torch.equal(blank[:, :, i], video[:, :, i // 2] if i % 2 == 0 else torch.zeros_like(video[:, :, 0]))
    whole = clip("tsr2")
    assert torch.equal(iv.lowered(model, below, whole), whole[:, :, ::2])


def test_frames_of_the_video_below_are_used_as_they_lie(networks):
    """Another frame below changes what is drawn."""
    below = clip("base")
    drawn = iv.draw(MODELS["tsr1"], networks["tsr1"], TEXT, random_start(), below, steps=2)
    below[:, :, 1] += 1
    again = iv.draw(MODELS["tsr1"], networks["tsr1"], TEXT, random_start(), below, steps=2)
    assert (again - drawn)[:, :, 2:].abs().max() > 1e-3
    noisier = iv.draw(MODELS["tsr1"], networks["tsr1"], TEXT, random_start(), below, steps=2, snr=0.5)
    assert (noisier - again).abs().max() > 1e-4


def test_the_frozen_t5_gets_no_gradient():
    from transformers import T5Config, T5EncoderModel

    t5 = T5EncoderModel(T5Config(vocab_size=20, d_model=12, d_kv=6, d_ff=16, num_layers=1, num_heads=2)).double()
    states = t5(torch.tensor([[1, 5, 2, 3], [4, 4, 1, 0]])).last_hidden_state
    assert states.requires_grad
    network = randomised(iv.network(MODELS["ssr1"]))
    (stage,) = (s for s in iv.stages(iv.TINY) if s.name == "ssr1")
    LOSSES["ssr1"](network, clip("ssr1"), random_start(), text=states, text_mask=SEEN).mean().backward()
    assert all(p.grad is None for p in t5.parameters())
    assert all(p.grad is not None for p in stage.parameters(network) if p.shape == (8, 3, 3, 3))
    assert not any(isinstance(m, T5EncoderModel) for m in iv.tiny().modules())


def test_captions_are_left_out_for_a_share_of_the_batch():
    seen = []

    def watch(z, c_noise, **given):
        seen.append(given["text_mask"].any(1))
        return z

    x, text = noise(500, 3, 1, 4, 4), noise(500, 2, 12)
    iv.CascadeLoss(MODELS["base"], drop=0.3)(watch, x, random_start(), text=text)
    assert (~seen[0]).double().mean().item() == pytest.approx(0.3, abs=0.07)


@ALL
def test_each_stage_trains_by_itself(networks, name):
    stage = {s.name: s for s in iv.stages(iv.TINY)}[name]
    assert stage.parent is None
    network = randomised(iv.network(MODELS[name]))
    trained = stage.prepare(network)
    loss = stage.loss(network, clip(name), random_start(), text=TEXT, text_mask=SEEN)
    assert loss.shape == (2,)
    loss.mean().backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert all(n.startswith(("fps", "motion")) for n in still)  # which the loss does not tell
    assert len(trained) > 50
    if "text-images" in stage.data:
        assert stage.loss(network, clip(name)[:, :, 0], random_start(), text=TEXT).shape == (2,)


def test_frames_meet_by_attention_in_the_base_model_and_by_convolution_above_it(networks):
    for name, network in networks.items():
        kinds = {type(m) for m in network.modules()} & {TemporalAttention, TemporalConv}
        assert kinds == ({TemporalAttention} if name == "base" else {TemporalConv})
    assert not any(isinstance(m, Attention) for m in networks["ssr3"].modules())
    with torch.device("meta"):
        last = iv.network(iv.PAPER[-1])
    assert not any(isinstance(m, Attention) for m in last.modules())


@pytest.mark.parametrize("name", ["base", "tsr1", "ssr3"])
def test_new_layers_in_time_leave_every_frame_alone_and_the_temporal_branch_wakes_up(name):
    model = replace(MODELS[name], frames=4)
    network, given = randomised(iv.network(model)), told("ssr3" if name == "ssr3" else "tsr1")
    given = {**given, "extra": given["extra"][:, :, :4]} if name != "base" else {}
    for part in network.modules():
        for layer in (
            [part.out] if isinstance(part, TemporalAttention) else [part] if isinstance(part, TemporalConv) else []
        ):
            for parameter in layer.parameters():
                parameter.data.zero_()
    x = clip(name)[:, :, :1].expand(-1, -1, 4, -1, -1) + noise(2, 3, *model.shape)
    for i in range(4):
        one = {**given, "extra": given["extra"][:, :, i]} if given else {}
        torch.testing.assert_close(
            network(x, NOISE, text=TEXT, **given)[:, :, i],
            network(x[:, :, i], NOISE, text=TEXT, **one),
            rtol=0,
            atol=1e-12,
        )
    rates = {"fps": NOISE.exp(), "motion": NOISE.exp()}
    trained = {s.name: s for s in iv.stages(iv.TINY)}[name].prepare(network)
    wakes_up(network, trained, lambda z: network(z, NOISE, text=TEXT, **given, **rates), x)


def test_guidance_oscillates_where_the_paper_lets_it():
    assert iv.oscillating(8, first=3) == [15, 15, 15, 1, 15, 1, 15, 1]
    assert [m.name for m in iv.PAPER if m.oscillates] == ["base", "tsr1", "ssr1"]
    used = []
    times = torch.linspace(1, 0, 5, dtype=torch.float64)
    steps = iv.stepwise(lambda scale: lambda z, t: used.append(scale), times, iv.oscillating(5, first=1))
    for t in times[:-1]:
        steps(torch.zeros(1), t)
    assert used == [16, 2, 16, 2]


def test_guidance_is_one_and_w_of_what_is_told_less_w_of_what_is_not(networks):
    network, below = networks["ssr2"], clip("ssr1")
    out = iv.draw(MODELS["ssr2"], network, TEXT, random_start(), below, steps=1, weight=2.0)
    start = random_start()
    extra = iv.given(iv.raised(MODELS["ssr2"], below), iv.at_snr(5.0, 2), start)
    z = torch.randn(2, 3, *MODELS["ssr2"].shape, dtype=torch.float64, generator=start)
    denoise, t = denoiser(iv.LOSS, iv.labelled(network)), torch.tensor(1.0, dtype=torch.float64)
    with torch.no_grad():
        cond = denoise(z, t, text=TEXT, text_mask=SEEN, **extra)
        uncond = denoise(z, t, text=TEXT, text_mask=~SEEN, **extra)
    torch.testing.assert_close(out, 3 * cond - 2 * uncond, rtol=0, atol=1e-10)


@ALL
def test_progressive_distillation_runs_on_each_model_to_eight_steps(networks, name):
    model, network = MODELS[name], networks[name]
    before = [p.detach().clone() for p in network.parameters()]
    seen = []

    def fit(student, loss):
        seen.append(len(loss.times) - 1)
        optimizer = torch.optim.SGD(student.parameters(), lr=1e-6)
        loss(student, clip(name), random_start(), text=TEXT, text_mask=SEEN, **told(name)).mean().backward()
        optimizer.step()

    student, times = iv.distilled(model, network, fit)
    assert seen == [16]
    assert len(times) - 1 == 8
    assert all(torch.equal(p, b) for p, b in zip(network.parameters(), before, strict=True))
    assert any(not torch.equal(p, b) for p, b in zip(student.parameters(), before, strict=True))
    below = None if name == "base" else clip([*MODELS][[*MODELS].index(name) - 1])
    out = iv.draw(model, student, TEXT, random_start(), below, steps=8, weight=0.0)
    assert out.isfinite().all()


def test_all_steps_of_the_paper_halve_to_eight(networks):
    """256 by five halvings, 128 by four."""
    for model, halvings in ((iv.PAPER[0], 5), (iv.PAPER[1], 4)):
        lengths = []
        tiny = replace(MODELS["base"], steps=model.steps)
        _, times = iv.distilled(
            tiny, networks["base"], lambda _, loss, lengths=lengths: lengths.append(len(loss.times))
        )
        assert [n - 1 for n in lengths] == [model.steps // 2**i for i in range(halvings)]
        assert len(times) - 1 == 8
    with pytest.raises(ValueError, match="halving 24 steps does not lead to 8"):
        iv.distilled(replace(MODELS["base"], steps=24), networks["base"], lambda *_: None)


def test_guidance_is_distilled_into_one_call(networks):
    """The loss is 0 for a network that answers as the guided teacher, and falls as a student learns to."""
    teacher = denoiser(iv.LOSS, networks["base"])
    loss = iv.GuidanceLoss(teacher, weight=2.0)

    def guided(z, c_noise, text, text_mask):
        cond = networks["base"](z, c_noise, text=text, text_mask=text_mask)
        return 3 * cond - 2 * networks["base"](z, c_noise, text=text, text_mask=torch.zeros_like(text_mask))

    x = clip("base")
    assert loss(guided, x, random_start(), text=TEXT, text_mask=SEEN).max() < 1e-20
    student = randomised(iv.network(MODELS["base"]), scale=0.2)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    errors = []
    for _ in range(12):
        error = loss(student, x, random_start(), text=TEXT, text_mask=SEEN).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.7 * errors[0]
    assert all(p.grad is None for p in networks["base"].parameters())


def test_the_paper_size_has_the_published_number_of_parameters():
    """Each within 5 %, all together within 2 % of 11.6 B."""
    with torch.device("meta"):
        sizes = {name: count(net) for name, net in iv.paper().items()}
    assert sizes == {name: pytest.approx(said, rel=0.05) for name, said in iv.SYSTEM.published.items()}
    assert sum(sizes.values()) == pytest.approx(11.6e9, rel=0.02)


@pytest.mark.parametrize("name", ["base", "ssr1"])
def test_the_networks_compile(name):
    """The layers of one level are those of all."""
    config = replace(MODELS[name].network, multipliers=(1,), attention_levels=())
    compiles(randomised(iv.network(replace(MODELS[name], network=config))), clip(name), NOISE, text=TEXT, **told(name))


@pytest.mark.parametrize("name", ["base", "ssr1", "ssr3"])
def test_the_networks_run_in_bf16(networks, name):
    runs_in_bf16(networks[name], clip(name), NOISE, text=TEXT, **told(name))


@pytest.mark.parametrize("name", ["base", "tsr2"])
def test_checkpointing_changes_nothing(networks, name):
    assert isinstance(networks[name], UNet)
    same_when_checkpointed(networks[name], Level, clip(name), NOISE, text=TEXT, **told(name))


def test_the_page_runs_and_its_tests_exist():
    assert page_holds("imagen_video", iv.SYSTEM)["video"].shape == (1, 3, 16, 12, 20)


def weights_of(model, network, monkeypatch, **how):
    """The scales that a model's steps are guided by."""
    used = []

    def watched(denoise, text, seen, scale, **told):
        used.append(scale)
        return lambda z, t: z

    monkeypatch.setattr(iv, "guided_by_text", watched)
    iv.draw(model, network, TEXT, random_start(), None, **how)
    return used


def test_the_weight_that_is_given_is_the_high_one(networks, monkeypatch):
    """The paper's 15 or 6 where none is; none of both at 0."""
    base, network = MODELS["base"], networks["base"]
    assert weights_of(base, network, monkeypatch, steps=13) == [16.0] * 10 + [2.0, 16.0, 2.0]
    assert weights_of(base, network, monkeypatch, steps=13, weight=3.0) == [4.0] * 10 + [2.0, 4.0, 2.0]
    assert weights_of(base, network, monkeypatch, steps=12, weight=0.0) == [1.0] * 12
    steady = replace(base, oscillates=False)
    assert weights_of(steady, network, monkeypatch, steps=3) == [7.0] * 3
    assert weights_of(steady, network, monkeypatch, steps=3, weight=9.0) == [10.0] * 3
    assert iv.oscillating(8) == [15.0] * 8


def test_another_weight_draws_another_video_where_guidance_oscillates(networks):
    one, other = (
        iv.draw(MODELS["base"], networks["base"], TEXT, random_start(), steps=1, weight=weight) for weight in (3.0, 9.0)
    )
    assert (one - other).abs().max() > 1e-4


def test_images_do_not_train_what_fills_in_frames(networks):
    image = clip("tsr1")[:, :, 0]
    with pytest.raises(ValueError, match="tsr1 fills in frames of a video"):
        LOSSES["tsr1"](networks["tsr1"], image, random_start(), text=TEXT)
    with pytest.raises(ValueError, match="tsr1 fills in frames of a video"):
        iv.draw(MODELS["tsr1"], networks["tsr1"], TEXT, random_start(), clip("base")[:, :, 0], steps=1)
    assert LOSSES["ssr1"](networks["ssr1"], clip("ssr1")[:, :, 0], random_start(), text=TEXT).shape == (2,)


@pytest.mark.parametrize("shape", [(3, 4, 4), (8, 4, 4), (1, 4, 4)])
def test_clips_of_other_frames_are_refused(networks, shape):
    with pytest.raises(ValueError, match=r"tsr1 makes \(t, h, w\) = \(4, 4, 4\).* cannot be made"):
        LOSSES["tsr1"](networks["tsr1"], noise(2, 3, *shape), random_start(), text=TEXT)


def test_clips_of_other_sizes_are_refused(networks):
    for video in (noise(2, 3, 4, 8, 8), noise(2, 3, 8, 6)):
        with pytest.raises(ValueError, match=r"ssr1 makes \(t, h, w\) = \(4, 6, 8\).* cannot be made"):
            LOSSES["ssr1"](networks["ssr1"], video, random_start(), text=TEXT)
    for below in (clip("base"), clip("tsr1", b=1)):
        with pytest.raises(ValueError, match="cannot be made"):
            iv.draw(MODELS["ssr1"], networks["ssr1"], TEXT, random_start(), below, steps=1)


@pytest.mark.parametrize("name", ["tsr1", "ssr1"])
def test_the_cascade_trains_and_draws_in_bf16_on_the_cpu(name):
    """Where pictures are made smaller, too, which torch does not in that precision there."""
    model, below = MODELS[name], MODELS["base" if name == "tsr1" else "tsr1"]
    network, text = randomised(iv.network(model)).bfloat16(), TEXT.bfloat16()
    loss = LOSSES[name](network, clip(name).bfloat16(), random_start(), text=text)
    assert loss.isfinite().all()
    drawn = iv.draw(model, network, text, random_start(), clip(below.name).bfloat16(), steps=1)
    assert drawn.dtype == torch.bfloat16
    assert drawn.isfinite().all()
