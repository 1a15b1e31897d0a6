"""Stable Diffusion's U-Net with temporal layers behind its own, which keep their weights and names.

Pictures are `(b t) c h w`, a video's in a row; the timestep and the context have a row a video, and that is how the
layers know how many frames there are.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.sd_unet import SDUNet
from models.layers.latent_diffusion import Attend, ResBlock, TransformerBlock
from models.layers.temporal import Inflation


class TimedResBlock(ResBlock):
    """A residual block, with temporal layers behind both convolutions and behind the block, where there are any."""

    def __init__(self, image: ResBlock, inflation: Inflation) -> None:
        out, inp = image.conv1.weight.shape[:2]
        super().__init__(inp, out, image.time_emb_proj.in_features, image.norm1.num_groups, image.norm1.eps)
        self.temporal_conv1, self.temporal_conv2 = inflation.conv(out), inflation.conv(out)
        self.temporal = inflation.block(out)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        frames = len(x) // len(embedding)
        shift = self.time_emb_proj(F.silu(embedding)).repeat_interleave(frames, 0)[:, :, None, None]
        h = _over_time(self.temporal_conv1, self.conv1(F.silu(self.norm1(x))), frames) + shift
        h = _over_time(self.temporal_conv2, self.conv2(F.silu(self.norm2(h))), frames)
        return _over_time(self.temporal, self.conv_shortcut(x) + h, frames)


class TimedBlock(TransformerBlock):
    """A transformer block over space and context, then attention of each pixel over its frames."""

    def __init__(self, image: TransformerBlock, temporal: nn.Module) -> None:
        super().__init__(len(image.norm1.weight), image.attn1.heads, image.attn2.to_k.in_features)
        self.temporal = temporal

    def forward(self, x: Tensor, context: Tensor, attend: Attend | None = None) -> Tensor:
        x = super().forward(x, context, attend)
        pixels = x.transpose(1, 2)[..., None]  # (b t) c (h w) 1
        return self.temporal(pixels, len(x) // len(context))[..., 0].transpose(1, 2)


def inflate(image: SDUNet, inflation: Inflation, seed: int = 0, extra_channels: int = 0) -> SDUNet:
    """A copy of `image` with the temporal layers of `inflation` behind residual blocks, their convolutions and
    transformer blocks, and with more input channels, which count for nothing yet.

    What is new and does not start at zero is drawn from `seed`. An inflation that changes the number of frames is not
    for this network.
    """
    network, like = copy.deepcopy(image), next(image.parameters())

    def replaced(old: nn.Module, new: nn.Module) -> nn.Module:
        stray = new.to(device=like.device, dtype=like.dtype).load_state_dict(old.state_dict(), strict=False)
        assert all("temporal" in name for name in stray.missing_keys)
        assert not stray.unexpected_keys
        return new

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for path, host in list(network.named_modules()):
            for name, old in list(host.named_children()):
                if isinstance(old, ResBlock):
                    setattr(host, name, replaced(old, TimedResBlock(old, inflation)))
                elif isinstance(old, TransformerBlock):
                    level = _level(path, len(image.config.block_out_channels))
                    temporal = inflation.attention(len(old.norm1.weight), level)
                    setattr(host, name, old if temporal is None else replaced(old, TimedBlock(old, temporal)))
    if extra_channels:
        wide, narrow = network.conv_in, image.conv_in
        wide.weight = nn.Parameter(F.pad(narrow.weight.detach(), (0, 0, 0, 0, 0, extra_channels)))
        wide.in_channels += extra_channels
    return network


def _level(path: str, levels: int) -> int:
    """Which level of the network a part is at, by its name."""
    block, number = path.split(".")[:2]
    if block == "down_blocks":
        return int(number)
    return levels - 1 - int(number) if block == "up_blocks" else levels - 1


def _over_time(layer: nn.Module | None, x: Tensor, frames: int) -> Tensor:
    return x if layer is None else layer(x, frames)
