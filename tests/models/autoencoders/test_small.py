import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from models.autoencoders import small
from models.autoencoders.small import WEIGHTS, SmallAutoencoder, SmallConfig, load_small, save_small
from models.systems.recipe import count
from training.footage import read_video

VIDEOS = Path(__file__).parents[4] / "shared" / "videos"
TINY = SmallConfig(
    encoder_widths=(4, 6, 8), encoder_blocks=(1, 1, 1), decoder_widths=(4, 6, 8), decoder_blocks=(1, 0, 1)
)


@pytest.fixture(scope="module")
def network():
    generator = torch.Generator().manual_seed(0)
    made = SmallAutoencoder(TINY).double()
    for parameter in made.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return made


def video(b=2, t=3, h=16, w=24):
    """Random, distinct frames."""
    return torch.randn(b, 3, t, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_factor_eight_and_four_channels_in_eight_megabytes(tmp_path):
    made = SmallAutoencoder()
    save_small(tmp_path / "small.safetensors", made)
    assert (tmp_path / "small.safetensors").stat().st_size < 8_000_000
    z = made.latents(torch.zeros(1, 3, 64, 32))
    assert z.shape == (1, 4, 8, 4)
    assert made.pixels(z).shape == (1, 3, 64, 32)


def test_the_shipped_weights_are_small_load_and_have_a_card():
    network = load_small()
    assert WEIGHTS.stat().st_size < 8_000_000
    assert not any(p.requires_grad for p in network.parameters())
    card = WEIGHTS.with_suffix(".md").read_text()
    assert f"{count(network) / 1e6:.2f} M parameters" in card
    assert f"(z - {network.shift_factor:.4f}) * {network.scaling_factor:.4f}" in card


@pytest.mark.needs_videos
@pytest.mark.parametrize("name", ["chaplin.mp4", "city_mpeg2.mpg", "sintel_trailer_30s.mp4"])
def test_held_out_footage_comes_back_better_than_by_bicubic(name):
    """Videos that it was not trained on, against the picture made eight times smaller and larger again."""
    frames = read_video(VIDEOS / name, 256, 4)
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    height, width = (size // 8 * 8 for size in x.shape[-2:])
    x = x[..., :height, :width]
    network = load_small()
    with torch.no_grad():
        ours = network.pixels(network.latents(x)).clamp(-1, 1)
    small = F.interpolate(x, scale_factor=1 / 8, mode="bicubic", antialias=True)
    floor = F.interpolate(small, (height, width), mode="bicubic").clamp(-1, 1)
    assert (ours - x).square().mean() < 0.75 * (floor - x).square().mean()


def test_all_it_is_made_of_is_in_use(network):
    x = video()
    posterior = network.encode(x)
    z = posterior.sample(torch.Generator().manual_seed(0))
    network.zero_grad()
    ((network.decode(z) - x).square().mean() + posterior.kl().mean()).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []


def test_a_latent_knows_the_pixels_near_it_only(network):
    big = SmallAutoencoder(SmallConfig(encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1))).double()
    x = torch.randn(1, 3, 256, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    other = x.clone()
    other[:, :, 192:] += 1
    z, changed = big.encode(x).mean, big.encode(other).mean
    assert torch.equal(z[:, :, :16], changed[:, :, :16])
    assert not torch.equal(z[:, :, 24:], changed[:, :, 24:])


def test_video_is_its_frames(network):
    x = video()
    z, y = network.latents(x), network.pixels(network.latents(x))
    assert z.shape == (2, 4, 3, 2, 3)
    assert y.shape == x.shape
    for i in range(3):
        torch.testing.assert_close(z[:, :, i], network.latents(x[:, :, i]), rtol=0, atol=1e-12)
        torch.testing.assert_close(y[:, :, i], network.pixels(z[:, :, i]), rtol=0, atol=1e-12)
    assert (z[:, :, 0] - z[:, :, 1]).abs().max() > 1e-3


def test_a_new_network_learns_at_once():
    """Without norms the start matters: a picture is learned in a few steps, at the size that is shipped."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = SmallAutoencoder()
    x = (torch.rand(1, 3, 4, 4, generator=generator) * 2 - 1).repeat_interleave(8, 2).repeat_interleave(8, 3)
    optimizer = torch.optim.AdamW(made.parameters(), 1e-3)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        losses.append((made.decode(made.encode(x).mode()) - x).abs().mean())
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.4 * losses[0]


def test_a_new_posterior_is_narrower_than_its_latents_spread():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        posterior = SmallAutoencoder().encode(video().float()[:, :, 0])
    assert posterior.std.mean() < 0.5 * posterior.mean.std()


def test_file_round_trip(network, tmp_path):
    path = tmp_path / "small.safetensors"
    scaled = SmallAutoencoder(SmallConfig(**{**TINY.__dict__, "scaling_factor": 0.7, "shift_factor": -0.2}))
    scaled.load_state_dict(network.float().state_dict())
    network.double()
    save_small(path, scaled, torch.float32)
    loaded, x = load_small(path), video().float()
    assert loaded.config == scaled.config
    assert torch.equal(loaded.latents(x), scaled.latents(x))
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    save_small(path, scaled)
    assert load_small(path).encoder[1].weight.dtype == torch.float32
    expected = scaled.latents(x)
    assert (load_small(path).latents(x) - expected).std() < 1e-2 * expected.std()


def test_a_file_that_is_none_of_it_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="training.autoencoder"):
        load_small(tmp_path / "none.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="small autoencoder"):
        load_small(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(ValueError, match=r"text\.safetensors"):
        load_small(tmp_path / "text.safetensors")


def test_a_folder_in_place_of_the_file_is_called_one(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        load_small(tmp_path)


def test_a_picture_without_a_batch_is_refused(network):
    with pytest.raises(ValueError, match=r"pixels \(3, 16, 24\)"):
        network.latents(video()[0, :, 0])
    with pytest.raises(ValueError, match=r"latents \(4, 2, 3\)"):
        network.pixels(torch.zeros(4, 2, 3))


def test_its_size_is_what_its_description_says():
    said = small.__doc__ or ""
    assert f"{count(load_small()) / 1e6:.2f} M parameters, {WEIGHTS.stat().st_size / 1e6:.1f} MB in float16" in said


def test_configuration_comes_back_from_json():
    from dataclasses import asdict

    assert SmallConfig.of(json.loads(json.dumps(asdict(TINY)))) == TINY


def test_compiles_whole(network):
    x = video()
    compiled = torch.compile(lambda v: network.decode(network.encode(v).mode()), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), network.decode(network.encode(x).mode()), rtol=0, atol=1e-10)


def test_bf16():
    made, x = SmallAutoencoder(TINY).bfloat16(), video().bfloat16()
    y = made.pixels(made.latents(x))
    assert y.dtype == torch.bfloat16
    assert y.isfinite().all()
