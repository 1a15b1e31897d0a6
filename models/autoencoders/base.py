"""What an autoencoder is to a diffusion model: pixels to scaled latents and back, images or video.

Pixels are in [-1, 1], `b c h w` or `b c t h w`; latents have 1 / `factor` of their height and width. An encoder sees
each frame on its own. `at_once` bounds how many frames are in memory as feature maps; the result is the same.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class DiagonalGaussian:
    """The posterior q(z | x), a normal distribution whose coordinates are independent (Kingma and Welling 2014).

    Made of `moments`, (b, 2 c, ...): mean and log variance, which is kept in [-30, 20].
    """

    def __init__(self, moments: Tensor) -> None:
        self.mean, logvar = moments.chunk(2, dim=1)
        self.logvar = logvar.clamp(-30.0, 20.0)

    @property
    def std(self) -> Tensor:
        """The standard deviation, of the mean's shape."""
        return (0.5 * self.logvar).exp()

    def mode(self) -> Tensor:
        """The most likely z, the mean."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One z; its chance comes from `generator`, which may be on another device, or from torch's own."""
        device = generator.device if generator else self.mean.device
        noise = torch.randn(self.mean.shape, dtype=self.mean.dtype, generator=generator, device=device)
        return self.mean + self.std * noise.to(self.mean.device)

    def kl(self) -> Tensor:
        """KL(q || N(0, I)) in nats, summed over a sample's latents: (b,) (Kingma and Welling 2014, appendix B)."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1 - self.logvar).flatten(1).sum(1)


class Autoencoder(nn.Module):
    """A network with `moments` and `pictures` for images, given video, chunks and the scale of its latents.

    `scaling_factor` and `shift_factor` bring latents to zero mean and unit variance, (z - shift) * scale, for the
    diffusion model (Rombach et al. 2022, appendix G).
    """

    scaling_factor: float = 1.0
    shift_factor: float = 0.0
    factor: int
    channels: int  # of pixels
    latent_channels: int

    def moments(self, x: Tensor) -> Tensor:
        """Images `n c h w` to the posterior's mean and log variance, `n (2 z) h/factor w/factor`."""
        raise NotImplementedError

    def pictures(self, z: Tensor) -> Tensor:
        """Unscaled latents `n z h w` to images."""
        raise NotImplementedError

    @property
    def last_layer(self) -> Tensor:
        """The weight of the decoder's last layer, for VQGAN's adaptive weight."""
        raise NotImplementedError

    def encode(self, x: Tensor, at_once: int | None = None) -> DiagonalGaussian:
        """The posterior of each frame.

        Raises ValueError for what is neither images nor video of `channels` channels, and where height or width are no
        multiples of `factor`.
        """
        _check_shape(x, self.channels, "pixels")
        h, w = x.shape[-2:]
        if h % self.factor or w % self.factor:
            raise ValueError(f"{h}x{w} pixels: height and width must be multiples of {self.factor}")
        return DiagonalGaussian(by_frames(self.moments, x, at_once))

    def decode(self, z: Tensor, at_once: int | None = None) -> Tensor:
        """Unscaled latents, images or video, to pixels. Raises ValueError for another shape."""
        _check_shape(z, self.latent_channels, "latents")
        return by_frames(self.pictures, z, at_once)

    def latents(self, x: Tensor, generator: torch.Generator | None = None, at_once: int | None = None) -> Tensor:
        """Pixels to what the diffusion model sees: a scaled sample of the posterior, its mean without a generator."""
        posterior = self.encode(x, at_once)
        z = posterior.mode() if generator is None else posterior.sample(generator)
        return (z - self.shift_factor) * self.scaling_factor

    def pixels(self, latents: Tensor, at_once: int | None = None) -> Tensor:
        """What the diffusion model made, to pixels."""
        return self.decode(latents / self.scaling_factor + self.shift_factor, at_once)


def _check_shape(x: Tensor, channels: int, what: str) -> None:
    if x.ndim not in (4, 5) or x.shape[1] != channels:
        shapes = f"(b, {channels}, h, w) or (b, {channels}, t, h, w)"
        raise ValueError(f"{what} {tuple(x.shape)}: must be {shapes}")


def by_frames(function: Callable[[Tensor], Tensor], x: Tensor, at_once: int | None = None) -> Tensor:
    """`function` of images `n c h w` on images or on the frames of video `b c t h w`, at most `at_once` of them in a
    call."""
    if at_once is not None and at_once < 1:
        raise ValueError(f"at_once = {at_once}: at least one frame at a time")
    images = x.transpose(1, 2).flatten(0, 1) if x.ndim == 5 else x
    parts = images.split(at_once or len(images))
    y = torch.cat([function(part) for part in parts]) if len(parts) > 1 else function(images)
    return y.unflatten(0, (len(x), -1)).transpose(1, 2) if x.ndim == 5 else y
