"""Video Diffusion Models (Ho et al. 2022): a U-Net factorised over space and time, trained on video and images at once.

Every convolution sees one frame, every attention over space too; after each of these stands attention over time with a
relative bias, the only place where frames meet. The network is told the noise as c_noise = ln(sigma / alpha) / 4, which
is -1/8 of the log-SNR.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.unet import UNet, UNetConfig
from models.diffusion.guidance import given_downsampled, given_frames
from models.diffusion.losses import VLoss, denoiser
from models.diffusion.samplers import DDIM, Sampler
from models.diffusion.samplers import sample as draw
from models.layers.temporal import Inflation, TemporalAttention
from models.systems.recipe import Stage, System, everything
from models.systems.text_guidance import guided_by_text

LOSS = VLoss()
"""v on the cosine schedule. The paper predicts eps in some of its experiments and v in others."""


class TimeAttention(Inflation):
    """Attention over time with a relative bias after each attention over space, and nothing else (section 3)."""

    def __init__(self, head_dim: int) -> None:
        self.head_dim = head_dim

    def attention(self, channels: int, level: int) -> nn.Module:
        return TemporalAttention(channels, self.head_dim, "relative")


def network(config: UNetConfig) -> UNet:
    """F(z, noise, text) for video `b c t h w`. An image is a video of one frame, which attends to itself."""
    return UNet(config, TimeAttention(config.head_dim))


def joint(video: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Independent images behind a video's frames: a batch `b c (t + k) h w` and its frame mask (t + k, t + k).

    `video` (b, c, t, h, w), `images` (b, k, c, h, w). The video's frames see each other, an image itself alone, so the
    loss of the batch is that of the video and of k images (section 3). The text is that of the whole row; images with
    captions of their own are rows of their own, with the identity as their mask.
    """
    t, k = video.shape[2], images.shape[1]
    mask = torch.eye(t + k, dtype=torch.bool, device=video.device)
    mask[:t, :t] = True
    return torch.cat([video, images.transpose(1, 2)], dim=2), mask


def sample(
    network: Callable[..., Tensor],
    noise: Tensor,
    steps: int,
    text: Tensor | None = None,
    seen: Tensor | None = None,
    scale: float = 1.0,
    sampler: Sampler | None = None,
    **conditioning: Any,
) -> Tensor:
    """A video from unit `noise` (b, c, t, h, w), given `text` (b, n, d) under classifier-free guidance of `scale`."""
    denoise = guided_by_text(denoiser(LOSS, network), text, seen, scale, **conditioning)
    return draw(denoise, noise, LOSS.schedule, steps, sampler or DDIM())


def extend(
    network: Callable[..., Tensor],
    video: Tensor,
    noise: Tensor,
    known: int,
    steps: int,
    weight: float = 2.0,
    text: Tensor | None = None,
    sampler: Sampler | None = None,
) -> Tensor:
    """The video (b, c, t, h, w) and what comes next, by reconstruction guidance of `weight` (section 3.1).

    A block of the length of `noise` (b, c, n, h, w) is drawn given the video's last `known` frames, and its n - known
    new ones are put behind. Again and again, that is a video of any length. Raises ValueError where nothing is new.
    """
    if not 0 < known < noise.shape[2] or known > video.shape[2]:
        raise ValueError(f"a block of {noise.shape[2]} frames cannot extend {known} of {video.shape[2]}")
    given = torch.arange(noise.shape[2], device=noise.device) < known
    block = torch.cat([video[:, :, -known:], torch.zeros_like(noise[:, :, known:])], dim=2)
    denoise = guided_by_text(denoiser(LOSS, network), text)
    guided = given_frames(denoise, LOSS.schedule, block, given, weight)
    drawn = draw(guided, noise, LOSS.schedule, steps, sampler or DDIM())
    return torch.cat([video, drawn[:, :, known:]], dim=2)


def super_resolve(
    network: Callable[..., Tensor],
    small: Tensor,
    noise: Tensor,
    steps: int,
    weight: float = 2.0,
    text: Tensor | None = None,
    sampler: Sampler | None = None,
) -> Tensor:
    """A video of the size of `noise` (b, c, t, H, W) whose smaller version is `small` (b, c, t, h, w), drawn by a
    network of the large size that never saw pairs: reconstruction guidance of `weight` (section 3.1)."""
    denoise = guided_by_text(denoiser(LOSS, network), text)
    guided = given_downsampled(denoise, LOSS.schedule, small, weight)
    return draw(guided, noise, LOSS.schedule, steps, sampler or DDIM())


TINY = UNetConfig(width=16, multipliers=(1, 2), attention_levels=(1,), patch=1, text_dim=12, head_dim=8, temporal=True)
PAPER = UNetConfig(
    width=256,
    multipliers=(1, 2, 4, 8),
    blocks=2,
    attention_levels=(1, 2, 3),
    patch=1,
    text_dim=1024,
    head_dim=64,
    temporal=True,
)
"""16 frames of 64 x 64. From the paper: text states of BERT-large, 1024 wide. The rest is a choice of that order."""

STAGES = (Stage("joint", "network", everything, LOSS, ("text-videos", "images")),)


def tiny() -> nn.ModuleDict:
    return nn.ModuleDict({"network": network(TINY)})


def paper() -> nn.ModuleDict:
    return nn.ModuleDict({"network": network(PAPER)})


SYSTEM = System(
    name="vdm",
    paper="Ho et al. 2022, Video Diffusion Models",
    description="A U-Net factorised over space and time, trained jointly on video and images.",
    inputs=("text",),
    stages=STAGES,
    tiny=tiny,
    paper_size=paper,
    unpublished="no number of parameters that could be confirmed; ours is of a chosen size",
)
