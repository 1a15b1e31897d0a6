"""Stable Video Diffusion: its stages, what it is told, its loss and its sampler, the last against diffusers' pipeline.
(That every stage starts from the hash of the checkpoint before is training's, and tested there.)"""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from curation.scores.motion import motion_bucket
from models.autoencoders.temporal import TemporalAutoencoder, TemporalConfig
from models.backbones.sd_unet import SD15, SDUNet
from models.backbones.svd_unet import SVDUNet, SVDUNetConfig, TimeMixer
from models.diffusion.losses import EDMLoss
from models.diffusion.schedules import SVD_SCHEDULE
from models.pretrained import PretrainedError, load
from models.systems import svd
from models.systems.recipe import count, everything
from tests.models.systems.checks import noise, page_holds, randomised, wakes_up

LABEL = torch.tensor([-1.2, 0.9], dtype=torch.float64)
NUMBERS = svd.numbers(torch.tensor([7.0, 24.0]), torch.tensor([127.0, 30.0]), torch.tensor([0.02, 0.1]))


@pytest.fixture(scope="module")
def networks():
    """All three, every weight random."""
    return nn.ModuleDict({name: randomised(network) for name, network in svd.tiny().items()})


def told(network, b=2, h=4, w=4):
    """What each network is told."""
    given = {"context": noise(b, 2, 12, seed=5)}
    if isinstance(network, SVDUNet):
        given["numbers"] = NUMBERS[:b, : network.config.numbers]
        if network.config.in_channels > 4:
            given["latents"] = noise(b, 4, 1, h, w, seed=6)
    return given


def batch(network, b=2, t=3, h=4, w=4, seed=1):
    """Random, distinct frames, or pictures."""
    return noise(b, 4, t, h, w, seed=seed) if isinstance(network, SVDUNet) else noise(b, 4, h, w, seed=seed)


def random_generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["image_pretrain", "video_pretrain", "finetune"])
def test_all_parameters_get_a_gradient_in_all_three_stages(networks, name):
    stage = svd.SYSTEM.stage(name)
    network = deepcopy(networks[stage.network])
    assert len(stage.prepare(network)) == len(list(network.parameters()))
    stage.loss(network, batch(network), random_generator(), **told(network)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []


def test_the_stages_are_a_chain_from_images_to_few_good_videos():
    stages = {stage.name: stage for stage in svd.STAGES}
    assert svd.STAGES[0].parent is None
    assert all(stage.parent in stages for stage in svd.STAGES[1:])
    assert all(stage.trainable is everything for stage in svd.STAGES[1:])
    order = ["image", "video", "image_to_video"]
    for stage in svd.STAGES[1:]:
        parent = stages[stage.parent]
        assert order.index(stage.network) - order.index(parent.network) in {0, 1}
    assert svd.RUNS.keys() == stages.keys()


def test_moving_to_edm_trains_the_time_embedding_alone(networks):
    stage = svd.SYSTEM.stage("image_pretrain_noise")
    network = deepcopy(networks["image"])
    assert len(stage.prepare(network)) == 4
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trained == {f"time_embedding.linear_{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")}


@pytest.mark.parametrize("sigma", [0.01, 0.5, 1.0, 20.0, 700.0])
def test_input_and_target_are_of_unit_variance(sigma):
    """For data of unit variance, by Monte Carlo: 200,000 draws give the variance to about 0.3 %."""
    x, eps = noise(2, 200_000)
    loss = svd.loss(0.0, 1.0)
    alpha, level = loss.schedule.alpha_sigma(torch.tensor([sigma], dtype=torch.float64))
    c = loss.parameterization.coefficients(alpha, level)
    z = alpha * x + level * eps
    target = loss.parameterization.target(x[None], eps[None], alpha, level)
    assert (c.inp * z).var().item() == pytest.approx(1, abs=0.02)
    assert target.var().item() == pytest.approx(1, abs=0.02)
    assert c.noise.item() == pytest.approx(torch.tensor(sigma).log().item() / 4, abs=1e-6)
    torch.testing.assert_close(c.skip * z + c.out * target[0], x)


def test_the_loss_is_edms_for_data_of_unit_variance(networks):
    network, x = networks["image_to_video"], noise(2, 4, 3, 4, 4)
    ours = svd.loss(0.7, 1.6)(network, x, random_generator(), **told(network))
    edm = EDMLoss(0.7, 1.6, sigma_data=1.0, schedule=SVD_SCHEDULE)
    theirs = edm(lambda *z, **given: -network(*z, **given), x, random_generator(), **told(network))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("stage", svd.STAGES, ids=lambda stage: stage.name)
def test_training_draws_log_normal_noise(stage):
    """The moments of ln sigma, read from what the network is told, are those of the stage."""
    seen = []

    def network(z, label):
        seen.append(4 * label)
        return z

    stage.loss(network, torch.zeros(20_000, 1, dtype=torch.float64), random_generator())
    mean, std = stage.loss.times.mean, stage.loss.times.std
    assert seen[0].mean().item() == pytest.approx(mean, abs=0.01)
    assert seen[0].std().item() == pytest.approx(std, rel=0.01)
    assert (seen[0] < mean + std).double().mean().item() == pytest.approx(0.8413, abs=0.002)


def test_the_published_noise_of_each_stage():
    published = {stage.name: (stage.loss.times.mean, stage.loss.times.std) for stage in svd.STAGES}
    assert published["image_pretrain"] == (-1.2, 1.0)
    assert published["video_pretrain_large"][0] == 0.0
    assert published["finetune_text"] == (0.5, 1.4)
    assert published["finetune"] == (0.7, 1.6)
    assert published["finetune_large"] == (1.0, 1.6)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["fps", "motion", "augmentation"])
def test_each_number_changes_the_output(networks, which):
    network = networks["image_to_video"]
    given, x = told(network), batch(network)
    other = NUMBERS.clone()
    other[:, which] += 1
    changed = network(x, LABEL, **(given | {"numbers": other})) - network(x, LABEL, **given)
    assert changed.abs().amax((1, 2, 3, 4)).min() > 1e-4


def test_picture_and_context_change_the_output(networks):
    network = networks["image_to_video"]
    given, x = told(network), batch(network)
    for name in ("latents", "context"):
        changed = network(x, LABEL, **(given | {name: given[name] + 0.5})) - network(x, LABEL, **given)
        assert changed.abs().amax((1, 2, 3, 4)).min() > 1e-3


def test_numbers_are_as_published_weights_take_them():
    fps, bucket, strength = torch.tensor([7.0, 24.0]), torch.tensor([127.0, 0.0]), torch.tensor([0.02, 0.3])
    assert torch.equal(svd.numbers(fps, bucket, strength), torch.tensor([[6.0, 127.0, 0.02], [23.0, 0.0, 0.3]]))
    assert svd.numbers(fps, bucket).shape == (2, 2)
    with pytest.raises(ValueError, match="leave out clips without a motion score"):
        svd.numbers(fps, torch.tensor([3.0, float("nan")]))


def test_motion_buckets_are_those_of_the_manifest():
    """The manifest's are of flow in pixels; the rate is that in percent of the short side per second."""
    flow, short, fps = torch.tensor([0.0, 0.01, 0.3, 2.0, 40.0, 1e4]), 144, 2.0
    ours = svd.motion_bucket(100 * flow * fps / short)
    assert ours.tolist() == [motion_bucket(value, (256, short), fps) for value in flow.tolist()]
    assert (ours[0], ours[-1]) == (0, 255)


def test_noise_on_the_picture_is_log_normal_and_unscaled():
    drawn = svd.strengths(50_000, random_generator()).log()
    assert drawn.mean().item() == pytest.approx(-3, abs=0.01)
    assert drawn.std().item() == pytest.approx(0.5, rel=0.02)
    picture, strength = noise(2, 3, 64, 64), torch.tensor([0.02, 0.5])
    added = svd.augmented(picture, strength, random_generator()) - picture
    torch.testing.assert_close(added.flatten(1).std(1), strength.double(), rtol=0.03, atol=0)


def test_guidance_grows_linearly_along_the_frames():
    """One step lands on the guided estimate: each frame's share of the way from without to with is its scale."""

    def network(z, label, context, numbers):
        return z * 0 + context.mean((1, 2))[:, None, None, None, None]

    start, given = noise(2, 4, 5, 2, 2), {"context": noise(2, 1, 12, seed=5), "numbers": NUMBERS[:, :2]}

    def drawn(scale, what=given):
        return svd.sample(network, start, what, steps=1, scale=scale)

    with_it, without_it = drawn((1.0, 1.0)), drawn((1.0, 1.0), svd.without(given))
    shares = (drawn((1.0, 3.0)) - without_it) / (with_it - without_it)
    expected = torch.linspace(1, 3, 5, dtype=torch.float64)[:, None, None].expand_as(shares)
    torch.testing.assert_close(shares, expected, rtol=1e-6, atol=0)


def test_without_is_no_context_and_no_picture_and_the_same_numbers(networks):
    given = told(networks["image_to_video"])
    empty = svd.without(given)
    assert empty["context"].abs().max() == empty["latents"].abs().max() == 0
    assert torch.equal(empty["numbers"], given["numbers"])


def test_a_share_of_the_batch_is_trained_without():
    given = {"context": torch.ones(20_000, 1, 2), "latents": torch.ones(20_000, 1, 1, 1, 1)}
    given["numbers"] = torch.ones(20_000, 3)
    mixed = svd.dropped(given, svd.without(given), 0.15, random_generator())
    gone = mixed["context"].amax((1, 2)) == 0
    assert gone.double().mean().item() == pytest.approx(0.15, abs=0.01)
    assert torch.equal(mixed["latents"].flatten() == 0, gone)
    assert torch.equal(mixed["numbers"], given["numbers"])


def diffusers_pipeline(config):
    """diffusers' own, of small networks with random weights."""
    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(**vars(config))
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.08)
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=2
    )
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, projection_dim=12, image_size=32, patch_size=16))
    scheduler = EulerDiscreteScheduler(
        prediction_type="v_prediction", timestep_type="continuous", timestep_spacing="leading", sigma_min=0.002,
        sigma_max=700.0, use_karras_sigmas=True, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
    )  # fmt: skip
    processor = CLIPImageProcessor(crop_size={"height": 32, "width": 32})
    pipeline = StableVideoDiffusionPipeline(vae, encoder, unet, scheduler, processor)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def test_image_to_video_equals_diffusers_pipeline(networks, tmp_path):
    """Its folder, as downloaded, read into our networks: the same pixels from the same noise."""
    pipeline = diffusers_pipeline(networks["image_to_video"].config)
    pipeline.save_pretrained(tmp_path)
    network, autoencoder = load(SVDUNet, tmp_path / "unet"), load(TemporalAutoencoder, tmp_path / "vae")
    picture, start = torch.rand(1, 3, 32, 32), torch.randn(1, 4, 4, 16, 16)
    expected = pipeline(
        picture, height=32, width=32, num_frames=4, num_inference_steps=5, fps=9, motion_bucket_id=64,
        noise_aug_strength=0.05, latents=start.transpose(1, 2), generator=random_generator(7), output_type="pt",
        max_guidance_scale=2.5,
    ).frames  # fmt: skip
    drawn = svd.image_to_video(
        network, autoencoder, lambda p: pipeline._encode_image((p + 1) / 2, "cpu", 1, False), 2 * picture - 1,
        start, random_generator(7), fps=9.0, bucket=64.0, strength=0.05, steps=5, scale=(1.0, 2.5),
    )  # fmt: skip
    assert expected.std() > 0.02
    torch.testing.assert_close((drawn.transpose(1, 2) / 2 + 0.5).clamp(0, 1), expected, rtol=0, atol=1e-4)


def test_noise_of_another_size_is_refused(networks):
    autoencoder = TemporalAutoencoder(TemporalConfig(block_out_channels=(32, 32)))
    picture, start = torch.zeros(1, 3, 16, 16), torch.zeros(1, 4, 3, 4, 4)
    with pytest.raises(ValueError, match=r"noise \(4, 4\) for a picture of latents \(8, 8\)"):
        svd.image_to_video(
            networks["image_to_video"], autoencoder, lambda p: noise(1, 1, 12), picture, start, random_generator()
        )


def test_a_new_video_network_is_the_image_network_on_distinct_frames(networks):
    image = networks["image"]
    video, x = svd.video_of(image, number_dim=8), noise(2, 4, 4, 4, 4)
    given = told(video)
    each = torch.stack([image(x[:, :, i], LABEL, given["context"]) for i in range(4)], dim=2)
    assert (each[:, :, 0] - each[:, :, 1]).abs().max() > 0.1
    assert (video(x, LABEL, **given) - each).abs().max() < 1e-3  # the published epsilons of group norms differ
    for network in (image, video):
        for module in network.modules():
            if isinstance(module, nn.GroupNorm):
                module.eps = 1e-6
    each = torch.stack([image(x[:, :, i], LABEL, given["context"]) for i in range(4)], dim=2)
    torch.testing.assert_close(video(x, LABEL, **given), each, rtol=0, atol=1e-11)
    weights = image.state_dict()
    kept = {n.replace("spatial_res_block.", ""): p for n, p in video.state_dict().items()}
    assert all(torch.equal(kept[name], weights[name]) for name in weights)


def test_a_new_image_to_video_network_is_the_video_network(networks):
    video = networks["video"]
    made, x = svd.image_to_video_of(video), batch(video)
    given = told(made)
    expected = video(x, LABEL, given["context"], given["numbers"][:, :2])
    torch.testing.assert_close(made(x, LABEL, **given), expected, rtol=0, atol=1e-12)
    assert {p.data_ptr() for p in made.parameters()}.isdisjoint(p.data_ptr() for p in video.parameters())
    assert all(p.requires_grad for p in made.parameters())


def test_the_temporal_layers_and_the_new_inputs_wake_up(networks):
    video = svd.video_of(networks["image"], number_dim=8)
    given = told(video)
    trained = svd.SYSTEM.stage("video_pretrain").prepare(video)
    wakes_up(video, trained, lambda x: video(x, LABEL, **given), batch(video, t=4))
    assert all(module.mix_factor != 0.5 for module in video.modules() if isinstance(module, TimeMixer))

    made = svd.image_to_video_of(video)
    given = told(made)
    wakes_up(made, list(made.parameters()), lambda x: made(x, LABEL, **given), batch(made, t=4))
    assert made.conv_in.weight[:, 4:].abs().amax((0, 2, 3)).min() > 0
    assert made.add_embedding.linear_1.weight[:, 16:].abs().max() > 0


def test_new_weights_are_a_function_of_the_seed_and_leave_chance_alone(networks):
    state = torch.random.get_rng_state()
    states = [svd.video_of(networks["image"], 8, seed=seed).state_dict() for seed in (1, 1, 2)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])
    assert torch.equal(state, torch.random.get_rng_state())


def test_an_image_network_of_another_kind_is_refused():
    with torch.device("meta"):
        image = SDUNet(SD15)
    with pytest.raises(ValueError, match="linear projections and 32 groups, as Stable Diffusion 2.1"):
        svd.video_of(image)


def test_the_published_weights_of_diffusers_format_load_strictly(tmp_path):
    """What is saved by diffusers loads and computes the same; a key too few or too many is named."""
    config = svd.tiny()["image_to_video"].config
    torch.manual_seed(0)
    peer = UNetSpatioTemporalConditionModel(**vars(config))
    peer.save_pretrained(tmp_path)
    network, x = load(SVDUNet, tmp_path), torch.randn(2, 4, 3, 4, 4)
    given = {name: value.float() for name, value in told(network).items()}
    with torch.no_grad():
        both = torch.cat([x, given["latents"].expand(-1, -1, 3, -1, -1)], dim=1).transpose(1, 2)
        expected = peer(both, LABEL.float(), given["context"], given["numbers"]).sample.transpose(1, 2)
        torch.testing.assert_close(network(x, LABEL.float(), **given), expected, rtol=0, atol=1e-5)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    state["conv_out.more"] = state.pop("conv_out.bias")
    save_file(state, path)
    with pytest.raises(PretrainedError, match=r"1 missing: conv_out.bias; 1 unexpected: conv_out.more"):
        load(SVDUNet, tmp_path)


def test_the_paper_size_is_the_published_one():
    with torch.device("meta"):
        networks = svd.paper_size()
    for name, published in svd.SYSTEM.published.items():
        assert count(networks[name]) == published
    assert networks["image_to_video"].config == replace(SVDUNetConfig(), num_frames=14)


def test_the_page_holds():
    names = page_holds("svd", svd.SYSTEM)
    assert names["video"].shape == (1, 4, 5, 8, 8)
    assert names["loss"].shape == (2,)


def test_a_context_of_another_batch_is_refused(networks):
    """In training and in sampling: one would be that of all."""
    network = networks["image_to_video"]
    given = {**told(network), "context": told(network)["context"][:1]}
    with pytest.raises(ValueError, match="1 contexts for a batch of 2"):
        svd.SYSTEM.stage("finetune").loss(network, batch(network), random_generator(), **given)
    with pytest.raises(ValueError, match="a batch of 2 needs 2 rows of context"):
        svd.sample(network, batch(network), given, steps=1)
