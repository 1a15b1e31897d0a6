from dataclasses import asdict

import pytest
import torch

from models.backbones.unet import UNet, UNetConfig, inflate
from models.layers.frame_attention import frame_attention
from models.layers.temporal import Inflation, Pseudo3D, TemporalDown, TemporalUp

TINY = UNetConfig(width=16, multipliers=(1, 2), attention_levels=(1,), text_dim=12, head_dim=8)


def randomise(network, seed=0):
    """Every weight random, so that no zero-initialised branch hides anything."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = 0.15 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return network.double()


def conditioning(b=2, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return {
        "text": torch.randn(b, 4, 12, dtype=torch.float64, generator=generator),
        "text_mask": torch.tensor([[True, True, True, False], [True, True, True, True]][:b]),
        "fps": torch.tensor([8.0, 24.0], dtype=torch.float64)[:b],
        "motion": torch.tensor([0.5, float("nan")], dtype=torch.float64)[:b],
    }


def video(b=2, t=4, h=8, w=12, seed=1):
    """Random, distinct frames."""
    return torch.randn(b, 3, t, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


NOISE = torch.tensor([-0.3, 0.6], dtype=torch.float64)


@pytest.fixture(scope="module")
def image_network():
    return randomise(UNet(TINY))


def per_frame(network, x, **more):
    return torch.stack([network(x[:, :, i], NOISE[: len(x)], **more) for i in range(x.shape[2])], dim=2)


def test_inflation_is_exact_on_distinct_frames(image_network):
    x, given = video(), conditioning()
    expected = per_frame(image_network, x, **given)
    assert (expected[:, :, 0] - expected[:, :, 1]).abs().max() > 0.1  # the frames do differ
    assert (inflate(image_network)(x, NOISE, **given) - expected).abs().max() < 1e-12


def test_an_image_network_sees_video_as_images(image_network):
    x = video()
    torch.testing.assert_close(image_network(x, NOISE), per_frame(image_network, x), rtol=0, atol=1e-12)


def test_every_spatial_convolution_and_attention_has_its_temporal_layer(image_network):
    inflated = inflate(image_network)
    hosts = {name.rsplit(".spatial", 1)[0] for name, _ in inflated.named_modules() if name.endswith(".spatial")}
    hosts |= {name.rsplit(".kv", 1)[0] for name, _ in inflated.named_modules() if name.endswith(".kv")}
    hosts = {h for h in hosts if not h.endswith(".temporal")}
    assert len(hosts) > 10
    assert all(inflated.get_submodule(f"{host}.temporal") is not None for host in hosts)


def test_inflation_copies_and_adds_only_temporal_layers(image_network):
    inflated = inflate(image_network)
    own = dict(image_network.named_parameters())
    added = [name for name, _ in inflated.named_parameters() if name not in own]
    assert all(torch.equal(p, dict(inflated.named_parameters())[name]) for name, p in own.items())
    assert len(added) == len(inflated.temporal_parameters()) > 0
    assert all(".temporal." in name for name in added)


def test_the_temporal_branch_wakes_up(image_network):
    network, x, given = inflate(image_network, seed=3), video(), conditioning()
    parameters = network.temporal_parameters()
    before = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    reached = set()
    for _ in range(3):
        optimizer.zero_grad()
        (network(x, NOISE, **given) - x.roll(1, 2)).square().mean().backward()
        reached |= {i for i, p in enumerate(parameters) if p.grad is not None and p.grad.abs().max() > 0}
        optimizer.step()
    assert len(reached) == len(parameters)
    assert all(not torch.equal(p, b) for p, b in zip(parameters, before, strict=True))
    x.requires_grad_()
    out = network(x, NOISE, **given)
    for i, j in ((0, 3), (3, 0), (1, 2)):
        (gradient,) = torch.autograd.grad(out[:, :, i].square().sum(), x, retain_graph=True)
        assert gradient[:, :, j].abs().max() > 1e-6


def test_gradients_reach_the_temporal_maps_at_the_very_first_step(image_network):
    network = inflate(image_network)
    network(video(), NOISE).square().mean().backward()
    first = [p for n, p in network.named_parameters() if n.endswith(("temporal.conv.weight", "temporal.out.weight"))]
    assert len(first) > 10
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in first)


def test_an_inflated_network_is_still_the_image_network(image_network):
    network = inflate(image_network)
    for parameter in network.temporal_parameters():
        parameter.data.fill_(0.1)
    image = video()[:, :, 0]
    assert torch.equal(network(image, NOISE), image_network(image, NOISE))


@pytest.mark.parametrize("key", ["text", "fps", "motion", "text_mask"])
def test_each_condition_changes_the_output(image_network, key):
    x, given = video()[:, :, 0], conditioning()
    other = {**given, key: ~given[key] if key == "text_mask" else given[key] * 1.7 + 0.3}
    assert (image_network(x, NOISE, **given) - image_network(x, NOISE, **other))[0].abs().max() > 1e-4


def test_the_noise_label_changes_the_output(image_network):
    x = video()[:, :, 0]
    assert (image_network(x, NOISE) - image_network(x, NOISE + 0.5)).abs().max() > 1e-3


def test_unknown_numbers_are_as_if_not_given(image_network):
    x, nothing = video()[:, :, 0], torch.full((2,), float("nan"), dtype=torch.float64)
    assert torch.equal(image_network(x, NOISE, fps=nothing, motion=nothing), image_network(x, NOISE))


def test_padding_of_the_text_does_not_matter(image_network):
    x, given = video()[:, :, 0], conditioning()
    longer = torch.cat([given["text"], torch.full((2, 3, 12), 9.0, dtype=torch.float64)], dim=1)
    mask = torch.cat([given["text_mask"], torch.zeros(2, 3, dtype=torch.bool)], dim=1)
    out = image_network(x, NOISE, **{**given, "text": longer, "text_mask": mask})
    torch.testing.assert_close(out, image_network(x, NOISE, **given), rtol=0, atol=1e-12)


def test_a_mask_of_the_identity_makes_images_of_the_frames(image_network):
    """Attention is then the only thing that mixes frames."""

    class AttentionAlone(Pseudo3D):
        conv = Inflation.conv

    network = inflate(image_network, inflation=AttentionAlone(8))
    for parameter in network.temporal_parameters():
        parameter.data.normal_(std=0.3)
    x, alone = video(), torch.eye(4, dtype=torch.bool)
    assert (network(x, NOISE) - per_frame(network, x)).abs().max() > 1e-3
    masked = network(x, NOISE, frame_mask=alone)
    swapped = network(x.flip(2), NOISE, frame_mask=alone).flip(2)
    torch.testing.assert_close(masked, swapped, rtol=0, atol=1e-12)


def test_frames_can_be_made_fewer_inside(image_network):
    """A clip that does not change is what the image network makes of its frame; others keep their length."""
    lengths = []

    class Watched(TemporalDown):
        def forward(self, x, frames):
            lengths.append(frames)
            return super().forward(x, frames)

    class SpaceTime(Inflation):
        def down(self, channels, level):
            return Watched(channels)

        def up(self, channels, level):
            return TemporalUp(channels)

    three = randomise(UNet(UNetConfig(width=16, multipliers=(1, 1, 1), attention_levels=(1,), text_dim=12, head_dim=8)))
    network, x = inflate(three, inflation=SpaceTime()), video(t=5, h=8, w=8)
    still = x[:, :, :1].expand_as(x)
    torch.testing.assert_close(network(still, NOISE), per_frame(three, still), rtol=0, atol=1e-11)
    assert lengths == [5, 3]
    assert network(x, NOISE).shape == x.shape


def test_given_pictures_count_for_nothing_when_new_and_are_needed():
    config = UNetConfig(width=16, multipliers=(1, 2), text_dim=12, head_dim=8, extra_channels=2)
    network, x = UNet(config).double(), video()[:, :, 0]
    for name, parameter in network.named_parameters():
        if not name.startswith("extra"):
            parameter.data.normal_(std=0.2)
    given = torch.randn(2, 2, 8, 12, dtype=torch.float64)
    assert torch.equal(network(x, NOISE, extra=given), network(x, NOISE, extra=torch.zeros_like(given)))
    randomise(network)
    assert (network(x, NOISE, extra=given) - network(x, NOISE, extra=-given)).abs().max() > 1e-3
    with pytest.raises(ValueError, match="2 extra channels"):
        network(x, NOISE)
    for wrong in (given[:1], given[:, :1], given[:, :, :1]):  # each would broadcast, or half of it would be missing
        with pytest.raises(ValueError, match="they are of x's size"):
            network(x, NOISE, extra=wrong)


def test_labels_are_told_by_name(image_network):
    config = UNetConfig(width=16, multipliers=(1, 2), text_dim=12, head_dim=8, labels=("blur",))
    network, x = randomise(UNet(config)), video()[:, :, 0]
    one, other = (network(x, NOISE, labels={"blur": NOISE * s}) for s in (1, 2))
    assert (one - other).abs().max() > 1e-4
    with pytest.raises(ValueError, match=r"no label 'level'; it has \['blur'\]"):
        network(x, NOISE, labels={"level": NOISE})


def test_without_the_pooled_text_only_cross_attention_sees_it():
    config = UNetConfig(width=16, multipliers=(1, 2), text_dim=12, head_dim=8, pooled_text=False)
    network, x, given = randomise(UNet(config)), video()[:, :, 0], conditioning()
    assert (network(x, NOISE, **given) - network(x, NOISE)).abs().max() > 1e-4
    for name, parameter in network.named_parameters():
        if "text_out" in name:
            parameter.data.zero_()
    without = {k: v for k, v in given.items() if not k.startswith("text")}
    assert torch.equal(network(x, NOISE, **given), network(x, NOISE, **without))


def test_without_attention_a_pixel_sees_its_surroundings_only():
    config = UNetConfig(width=16, multipliers=(1, 2), attention_levels=(), patch=1, text_dim=12, middle_attention=False)
    network, x = randomise(UNet(config)), video(h=8, w=64)[:, :, 0]
    norms = [m for m in network.modules() if isinstance(m, torch.nn.GroupNorm)]
    for norm in norms:  # what else would carry news from afar
        norm.forward = lambda z: z
    other = x.clone()
    other[..., 0] += 1
    change = (network(other, NOISE) - network(x, NOISE)).abs().amax((0, 1, 2))
    assert change[0] > 0
    assert change[-24:].max() == 0


def test_the_attention_of_pixels_can_reach_other_frames(image_network):
    """Of equal frames, attention to all of them is attention to one's own."""
    x = video()

    def to_all(q, k, v):
        return frame_attention(q, k, v, 4, "all")

    assert (image_network(x, NOISE, attend=to_all) - image_network(x, NOISE)).abs().max() > 1e-4
    still = x[:, :, :1].expand_as(x)
    torch.testing.assert_close(
        image_network(still, NOISE, attend=to_all), image_network(still, NOISE), rtol=0, atol=1e-12
    )


def test_residuals_are_added_to_what_goes_across_and_to_the_middle(image_network):
    x, sizes = video()[:, :, 0], [(16, 4, 6), (16, 4, 6), (16, 2, 3), (32, 2, 3)]
    plain = image_network(x, NOISE)
    zeros, middle = [torch.zeros(2, *size, dtype=torch.float64) for size in sizes], torch.ones(2, 32, 2, 3).double()
    assert torch.equal(image_network(x, NOISE, down_residuals=zeros, mid_residual=0 * middle), plain)
    for i in range(4):
        moved = [zero + (i == j) for j, zero in enumerate(zeros)]
        assert (image_network(x, NOISE, down_residuals=moved) - plain).abs().max() > 1e-4
    assert (image_network(x, NOISE, mid_residual=middle) - plain).abs().max() > 1e-4
    with pytest.raises(ValueError, match="3 residuals for 4 skips"):
        image_network(x, NOISE, down_residuals=zeros[1:])


def test_an_inflation_needs_a_network_of_video():
    with pytest.raises(ValueError, match="says temporal"):
        UNet(TINY, Pseudo3D())


def test_a_mask_of_numbers_is_a_mask(image_network):
    """Added to the logits as they are, ones and zeros would hide nothing."""
    x, given = video()[:, :, 0], conditioning()
    expected = image_network(x, NOISE, **given)
    for kind in (torch.float64, torch.long):
        assert torch.equal(image_network(x, NOISE, **{**given, "text_mask": given["text_mask"].to(kind)}), expected)


@pytest.mark.parametrize("key", ["text", "text_mask"])
def test_a_text_of_another_batch_is_refused(image_network, key):
    x, given = video()[:, :, 0], conditioning()
    with pytest.raises(ValueError, match="a batch of 2 needs as many texts"):
        image_network(x, NOISE, **{**given, key: given[key][:1]})


def test_samples_of_a_batch_do_not_touch(image_network):
    network, x, given = inflate(image_network), video(), conditioning()
    alone = network(x[:1], NOISE[:1], **{k: v[:1] for k, v in given.items()})
    torch.testing.assert_close(network(x, NOISE, **given)[:1], alone, rtol=0, atol=1e-12)


def test_a_new_network_answers_nothing():
    assert UNet(TINY)(video().float()[:, :, 0], NOISE.float()).abs().max() == 0


def test_gradients_reach_all_parameters(image_network):
    image_network.zero_grad()
    image_network(video()[:, :, 0], NOISE, **conditioning()).square().mean().backward()
    assert [n for n, p in image_network.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []


def test_sizes_that_do_not_fit_are_refused(image_network):
    with pytest.raises(ValueError, match="multiples of 4"):
        image_network(torch.zeros(1, 3, 8, 10, dtype=torch.float64), NOISE[:1])


def test_inflating_twice_is_refused(image_network):
    with pytest.raises(ValueError, match="already"):
        inflate(inflate(image_network))


def test_inflation_is_a_function_of_its_seed_and_leaves_chance_alone(image_network):
    state = torch.random.get_rng_state()
    same = [inflate(image_network, seed).state_dict() for seed in (1, 1, 2)]
    assert all(torch.equal(same[0][k], same[1][k]) for k in same[0])
    assert any(not torch.equal(same[0][k], same[2][k]) for k in same[0])
    assert torch.equal(state, torch.random.get_rng_state())


def test_config_comes_back_from_json():
    import json

    assert UNetConfig.of(json.loads(json.dumps(asdict(TINY)))) == TINY
