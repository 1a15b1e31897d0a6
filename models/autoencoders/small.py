"""An autoencoder of our own that a CPU runs gladly: factor 8, 4 latent channels, 3.12 M parameters, 6.3 MB in float16.

Convolutions alone, without norms or attention: a latent depends on the pixels near it only, so a picture's parts can be
coded apart, and nothing depends on what else is in the batch. The first and last halving fold pixels into channels, so
that no layer runs at full size. Four latent channels at a factor of eight is the shape of the latents of Stable
Diffusion and Stable Video Diffusion: the same networks take either.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.autoencoders.base import Autoencoder
from models.layers.basics import zeroed

KEY = "rushes.small_autoencoder"  # of the configuration in a file's metadata


@dataclass(frozen=True)
class SmallConfig:
    """Sizes; the three of a tuple are at 1/2, 1/4 and 1/8 of the picture's height and width."""

    channels: int = 3
    latent_channels: int = 4
    encoder_widths: tuple[int, ...] = (32, 64, 128)
    encoder_blocks: tuple[int, ...] = (1, 2, 3)
    decoder_widths: tuple[int, ...] = (48, 96, 128)
    decoder_blocks: tuple[int, ...] = (3, 3, 4)
    scaling_factor: float = 1.0
    shift_factor: float = 0.0

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "SmallConfig":
        """From a mapping, such as JSON, whose lists stand for tuples."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**values)


class Block(nn.Module):
    """x + conv(SiLU(conv(SiLU(x)))); the identity when new, which is what training without norms rests on."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class SmallAutoencoder(Autoencoder):
    """Pixels in [-1, 1], `b 3 h w` or `b 3 t h w`, to latents `b 4 [t] h/8 w/8` and back, frame by frame."""

    def __init__(self, config: SmallConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or SmallConfig()
        self.factor = 2 ** len(c.encoder_widths)
        self.scaling_factor, self.shift_factor = c.scaling_factor, c.shift_factor
        self.channels, self.latent_channels = c.channels, c.latent_channels
        self.encoder, self.decoder = _encoder(c), _decoder(c)

    def moments(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def pictures(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    @property
    def last_layer(self) -> Tensor:
        return self.decoder[-2].weight  # type: ignore[return-value]


def save_small(path: Path, network: SmallAutoencoder, dtype: torch.dtype = torch.float16) -> None:
    """Write weights in `dtype`, and the configuration, as one safetensors file."""
    tensors = {name: t.detach().to("cpu", dtype).contiguous() for name, t in network.state_dict().items()}
    save_file(tensors, path, {KEY: json.dumps(asdict(network.config))})


WEIGHTS = Path(__file__).parent / "weights" / "small.safetensors"
"""Ours, of which `weights/small.md` tells."""


def load_small(path: str | Path = WEIGHTS) -> SmallAutoencoder:
    """The autoencoder in a file that `save_small` wrote, in float32, ready for use; ours unless another is named.

    Raises FileNotFoundError where there is none, ValueError where it is another's or a folder.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder; give the file of weights in it (training writes small.safetensors)")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist; `python -m training.autoencoder` makes such a file")
    try:
        with safe_open(path, "pt") as file:
            fields = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from error
    if fields is None:
        raise ValueError(f"{path}: a safetensors file, but not of a small autoencoder")
    network = SmallAutoencoder(SmallConfig.of(json.loads(fields)))
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def _encoder(c: SmallConfig) -> nn.Sequential:
    layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
    width = c.channels * 4
    for i, (out, blocks) in enumerate(zip(c.encoder_widths, c.encoder_blocks, strict=True)):
        layers += [_conv(width, out, stride=2 if i else 1)]
        layers += [Block(out) for _ in range(blocks)]
        width = out
    moments = _conv(width, 2 * c.latent_channels)
    nn.init.constant_(moments.bias[c.latent_channels :], -4.0)  # type: ignore[index] - little noise: soon something to see
    return nn.Sequential(*layers, nn.SiLU(), moments)


def _decoder(c: SmallConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = c.latent_channels
    for i, (out, blocks) in reversed(list(enumerate(zip(c.decoder_widths, c.decoder_blocks, strict=True)))):
        layers += [_conv(width, out), *(Block(out) for _ in range(blocks))]
        layers += [nn.Upsample(scale_factor=2)] if i else []
        width = out
    return nn.Sequential(*layers, nn.SiLU(), _conv(width, 4 * c.channels), nn.PixelShuffle(2))


def _conv(inp: int, out: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that, when new, keeps the variance of what it is given: no norm would mend it."""
    conv = nn.Conv2d(inp, out, 3, stride, padding=1)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
