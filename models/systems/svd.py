"""Stable Video Diffusion (Blattmann et al. 2023): Stable Diffusion 2.1 with temporal layers, all of it trained, in
three stages: images, many videos, few good ones.

The networks predict v at alpha = 1 and are told 0.25 ln sigma; beside it the frame rate, how much moves and, where a
picture is to move, how much noise was added to it. The published weights: `pretrained.load(SVDUNet, folder)`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoencoders.base import Autoencoder
from models.backbones.sd_unet import SD21, SDUNet, SDUNetConfig
from models.backbones.svd_unet import (
    GROUPS,
    SpatioTemporalTransformer,
    SVDUNet,
    SVDUNetConfig,
    TemporalResBlock,
    TemporalTransformerBlock,
)
from models.diffusion.augmentation import augment
from models.diffusion.guidance import Guided, frame_scale
from models.diffusion.losses import DenoisingLoss, LogNormalTimes
from models.diffusion.parameterization import Denoiser, Network, VPrediction
from models.diffusion.samplers import Euler, OnStep, Sampler
from models.diffusion.samplers import sample as draw
from models.diffusion.schedules import SVD_SCHEDULE
from models.layers.basics import at_least_float32, zeroed
from models.systems.recipe import Data, Stage, System, everything

Given = Mapping[str, Tensor]  # what the network is told, by its arguments' names
BUCKETS, BUCKET_FULL = 255, 100.0


def loss(p_mean: float, p_std: float) -> DenoisingLoss:
    """The error of v with ln sigma ~ N(p_mean, p_std^2): EDM's loss for data of unit variance, its F being -v."""
    return DenoisingLoss(SVD_SCHEDULE, VPrediction(), LogNormalTimes(p_mean, p_std))


def motion_bucket(rate: Tensor) -> Tensor:
    """How much moves as a whole number 0..255: round(255 ln(1 + r) / ln(101)), at most 255.

    `rate` r is the mean flow magnitude in percent of the picture's short side per second. Nobody has published how
    SVD's buckets were made; this is our definition, version 1, and the manifest's column `motion_bucket`.
    """
    return (BUCKETS * at_least_float32(rate).log1p() / math.log1p(BUCKET_FULL)).round().clamp(max=BUCKETS)


def numbers(fps: Tensor, bucket: Tensor, strength: Tensor | None = None) -> Tensor:
    """(b, 2), or (b, 3) with `strength`: fps - 1, as the published weights take it, motion bucket and the picture's
    noise, each (b,). Raises ValueError for one that is unknown (NaN): the networks have no input for that."""
    told = torch.stack([fps - 1, bucket, *([] if strength is None else [strength])], dim=1)
    if not torch.isfinite(told).all():
        raise ValueError("fps, motion bucket and noise strength must be known: leave out clips without a motion score")
    return told


def strengths(count: int, generator: torch.Generator) -> Tensor:
    """(count,) noise on the conditioning picture for training, ln strength ~ N(-3, 0.5^2)."""
    return (-3 + 0.5 * torch.randn(count, generator=generator, device=generator.device)).exp()


def augmented(picture: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """`picture` (b, 3, h, w) in [-1, 1] plus noise of standard deviation `strength` (b,), before it is encoded."""
    return augment(picture, strength, SVD_SCHEDULE, generator)[0]


def without(given: Given) -> dict[str, Tensor]:
    """What guidance moves away from: no context and no picture, which are zeros here, and the same numbers."""
    return {name: value if name == "numbers" else torch.zeros_like(value) for name, value in given.items()}


def dropped(given: Given, empty: Given, share: float, generator: torch.Generator) -> dict[str, Tensor]:
    """`given` with a random `share` of the batch's rows as in `empty`, so that the network learns to do without."""
    count = len(given["context"])
    gone = torch.rand(count, generator=generator, device=generator.device) < share

    def mixed(name: str) -> Tensor:
        value = given[name]
        return torch.where(gone.to(value.device).reshape(-1, *[1] * (value.ndim - 1)), empty[name], value)

    return {name: mixed(name) for name in given}


def sample(
    network: Network,
    noise: Tensor,
    given: Given,
    steps: int = 25,
    scale: tuple[float, float] = (1.0, 3.0),
    empty: Given | None = None,
    sampler: Sampler | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Latents (b, c, t, h, w) from unit `noise` of that shape, by Euler steps of EDM on Karras's sigmas.

    `given` are the network's `context`, `numbers` and, of a picture, `latents`. Guidance goes from scale[0] at the
    first frame to scale[1] at the last in equal steps. It moves away from `empty`, `without(given)` by default; with a
    text, the caller's own with the empty text as context.
    """
    denoise = Denoiser(network, VPrediction(), SVD_SCHEDULE)
    by_frame = 1.0 if scale == (1, 1) else frame_scale(noise.shape[2], *scale)
    guided = Guided(denoise, given, without(given) if empty is None else empty, by_frame)
    return draw(guided, noise, SVD_SCHEDULE, steps, sampler or Euler(), on_step)


def image_to_video(
    network: Network,
    autoencoder: Autoencoder,
    embed: Callable[[Tensor], Tensor],
    picture: Tensor,
    noise: Tensor,
    generator: torch.Generator,
    fps: float = 7.0,
    bucket: float = 127.0,
    strength: float = 0.02,
    **sampling: Any,
) -> Tensor:
    """Video (b, 3, t, H, W) in [-1, 1] that begins with `picture` (b, 3, H, W), likewise.

    `noise` (b, c, t, h, w), unit, of the latents' size; `embed` makes of pictures their (b, n, cross_attention_dim),
    CLIP's for the published weights; `generator` draws the noise on the picture. The network sees the picture's latents
    unscaled. The rest are arguments of `sample`. Raises ValueError where noise and latents differ in size.
    """
    told = [torch.full((len(picture),), value, device=picture.device) for value in (fps, bucket, strength)]
    latents = autoencoder.encode(augmented(picture, told[2], generator)).mode()
    if latents.shape[2:] != noise.shape[3:]:
        raise ValueError(f"noise {tuple(noise.shape[3:])} for a picture of latents {tuple(latents.shape[2:])}")
    given = {"context": embed(picture), "numbers": numbers(*told), "latents": latents[:, :, None]}
    return autoencoder.pixels(sample(network, noise, given, **sampling))


def video_of(image: SDUNet, number_dim: int = 256, frames: int = 14, seed: int = 0) -> SVDUNet:
    """What the second stage starts from: the image network's weights and temporal layers that do nothing yet, told fps
    and motion bucket (`number_dim` features each) that do not count yet. New weights are drawn from `seed`.

    On each frame it computes what `image` does, but for the group norms' epsilon, which the published networks differ
    in (1e-6 for 1e-5 beside attention). Raises ValueError for an image network that is not of 2.1's kind.
    """
    sizes = image.config
    if not sizes.use_linear_projection or sizes.norm_num_groups != GROUPS:
        raise ValueError(f"the image network needs linear projections and {GROUPS} groups, as Stable Diffusion 2.1 has")
    config = SVDUNetConfig(
        in_channels=sizes.in_channels,
        out_channels=sizes.out_channels,
        block_out_channels=sizes.block_out_channels,
        down_block_types=tuple(kind.replace("2D", "SpatioTemporal") for kind in sizes.down_block_types),
        up_block_types=tuple(kind.replace("2D", "SpatioTemporal") for kind in sizes.up_block_types),
        layers_per_block=sizes.layers_per_block,
        num_attention_heads=sizes.heads,
        cross_attention_dim=sizes.cross_attention_dim,
        addition_time_embed_dim=number_dim,
        projection_class_embeddings_input_dim=2 * number_dim,
        num_frames=frames,
    )
    like, weights = next(image.parameters()), image.state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        video = SVDUNet(config).to(device=like.device, dtype=like.dtype)
    for module in video.modules():
        if isinstance(module, TemporalResBlock):
            zeroed(module.conv2)
        elif isinstance(module, TemporalTransformerBlock):
            for last in (module.ff_in.net[2], module.attn1.to_out, module.attn2.to_out, module.ff.net[2]):
                zeroed(last)
        elif isinstance(module, SpatioTemporalTransformer):
            zeroed(module.time_pos_embed.linear_2)
    zeroed(video.add_embedding.linear_2)
    state = {name: weights.get(name.replace("spatial_res_block.", ""), new) for name, new in video.state_dict().items()}
    video.load_state_dict(state)
    return video


def image_to_video_of(video: SVDUNet) -> SVDUNet:
    """What the third stage starts from: the video network, with zero weights for the picture's latents and for a third
    number, its noise. It computes what `video` does, whatever these are."""
    sizes, dim = video.config, video.config.addition_time_embed_dim
    config = replace(
        sizes,
        in_channels=sizes.in_channels + sizes.out_channels,
        projection_class_embeddings_input_dim=sizes.projection_class_embeddings_input_dim + dim,
    )
    with torch.device("meta"):
        made = SVDUNet(config)
    state = {name: tensor.clone() for name, tensor in video.state_dict().items()}
    state["conv_in.weight"] = F.pad(state["conv_in.weight"], (0, 0, 0, 0, 0, sizes.out_channels))
    state["add_embedding.linear_1.weight"] = F.pad(state["add_embedding.linear_1.weight"], (0, dim))
    made.load_state_dict(state, assign=True)
    return made


@dataclass(frozen=True)
class Run:
    """What the paper says of a training run beside its loss; None where it does not say."""

    height: int
    width: int
    frames: int | None
    steps: int
    batch: int | None = None
    lr: float | None = None
    text_drop: float | None = None


def time_embedding_only(name: str) -> bool:
    """What tells the network the noise level, which moving from DDPM's steps to EDM's sigma changes."""
    return name.startswith("time_embedding.")


IMAGES: tuple[Data, ...] = ("text-images",)
TEXT_VIDEOS: tuple[Data, ...] = ("text-videos",)
VIDEOS: tuple[Data, ...] = ("videos",)
# the paper gives the first run on videos no noise of its own and no P_std with P_mean = 0: both are carried over
STAGES = (
    Stage("image_pretrain_noise", "image", time_embedding_only, loss(-1.2, 1.0), IMAGES),
    Stage("image_pretrain", "image", everything, loss(-1.2, 1.0), IMAGES, "image_pretrain_noise"),
    Stage("video_pretrain", "video", everything, loss(-1.2, 1.0), TEXT_VIDEOS, "image_pretrain"),
    Stage("video_pretrain_large", "video", everything, loss(0.0, 1.0), TEXT_VIDEOS, "video_pretrain"),
    Stage("finetune_text", "video", everything, loss(0.5, 1.4), TEXT_VIDEOS, "video_pretrain_large"),
    Stage("finetune", "image_to_video", everything, loss(0.7, 1.6), VIDEOS, "video_pretrain_large"),
    Stage("finetune_large", "image_to_video", everything, loss(1.0, 1.6), VIDEOS, "finetune"),
)
RUNS = {
    "image_pretrain_noise": Run(512, 512, 1, 1_000),
    "image_pretrain": Run(256, 384, 1, 30_000),
    "video_pretrain": Run(256, 384, 14, 150_000, 1536, 1e-4, 0.15),
    "video_pretrain_large": Run(320, 576, 14, 100_000, 768, None, 0.15),
    "finetune_text": Run(576, 1024, None, 50_000, 768, 3e-5),
    "finetune": Run(320, 576, 14, 50_000),  # "base resolution": its parent's
    "finetune_large": Run(576, 1024, 14, 50_000),
}

TINY = SDUNetConfig(
    block_out_channels=(32, 64),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    attention_head_dim=(2, 4),
    cross_attention_dim=12,
    use_linear_projection=True,
)


def tiny() -> nn.ModuleDict:
    """The three networks, each made of the one before."""
    return _networks(SDUNet(TINY), number_dim=8)


def paper_size() -> nn.ModuleDict:
    """Stable Diffusion 2.1, with temporal layers, and with a picture's latents: the published networks."""
    return _networks(SDUNet(SD21))


def _networks(image: SDUNet, **sizes: int) -> nn.ModuleDict:
    video = video_of(image, **sizes)
    return nn.ModuleDict({"image": image, "video": video, "image_to_video": image_to_video_of(video)})


SYSTEM = System(
    name="svd",
    paper="Blattmann et al. 2023, Stable Video Diffusion: Scaling Latent Video Diffusion Models to Large Datasets",
    description="an image model with temporal layers, trained whole in three stages; told picture, fps and motion",
    inputs=("picture", "fps", "motion bucket", "noise on the picture", "text (the second stage)"),
    stages=STAGES,
    tiny=tiny,
    paper_size=paper_size,
    published={"image_to_video": 1_524_623_082},
    unpublished="the number is counted from the released configuration; the paper says 1521 M, 656 M of them new",
)
