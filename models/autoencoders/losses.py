"""What an autoencoder is trained with: reconstruction, KL, perceptual and adversarial losses, one class each.

Every term is a scalar; `AutoencoderLoss` sums them with their weights and says what each of them was.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.autoencoders.base import DiagonalGaussian, by_frames
from models.autoencoders.discriminator import adaptive_weight, hinge_discriminator_loss, hinge_generator_loss


def absolute_error(y: Tensor, x: Tensor) -> Tensor:
    """Mean |y - x|, a scalar."""
    return (y - x).abs().mean()


def kl_per_value(posterior: DiagonalGaussian, x: Tensor) -> Tensor:
    """The posterior's KL in nats for each number of `x`, a scalar.

    Divided like the reconstruction's mean, so that a weight is that of a sum of both over a sample, as Rombach et al.
    2022 weigh them (about 1e-6).
    """
    return posterior.kl().mean() / x[0].numel()


class PerceptualDistance(nn.Module):
    """How different two pictures look to a network: sum over layers of the mean over positions of |w (f_y - f_x)|^2,
    f normalised to unit length over channels (Zhang et al. 2018, LPIPS, eq. 1).

    `features` maps images `n 3 h w`, normalised from [-1, 1] pixels to [0, 1] and then by `mean` and `std`, to a list
    of maps `n c_l h_l w_l`. `heads`, (c_l,) for each layer, are the squared weights w^2; all ones without. Frozen.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        features: nn.Module,
        heads: Sequence[Tensor] | None = None,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        self.features = features.eval().requires_grad_(False)
        self.heads = None if heads is None else nn.ParameterList(nn.Parameter(h, requires_grad=False) for h in heads)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def train(self, mode: bool = True) -> "PerceptualDistance":
        """Never: running statistics and dropout of the features stay as they came."""
        return super().train(False)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """The distance of each sample, (b,), of images `b 3 h w`, or the mean over the frames of video `b 3 t h w`."""
        return by_frames(self._images, torch.stack([y, x], dim=2).flatten(1, 2)).flatten(1).mean(1)

    def _images(self, pair: Tensor) -> Tensor:
        """`n (3 2) h w`, two pictures' channels in turn, to their distance, `n 1`."""
        y, x = (((part + 1) / 2 - self.mean) / self.std for part in pair.unflatten(1, (-1, 2)).unbind(2))
        total = pair.new_zeros(len(pair))
        for i, (of_y, of_x) in enumerate(zip(self.features(y), self.features(x), strict=True)):
            difference = (unit(of_y) - unit(of_x)).square()
            head = 1 if self.heads is None else self.heads[i][:, None, None]
            total = total + (difference * head).sum(1).mean((1, 2))
        return total[:, None]


def unit(features: Tensor, eps: float = 1e-10) -> Tensor:
    """`n c h w` of unit length over channels."""
    return features / (features.norm(dim=1, keepdim=True) + eps)


@dataclass(frozen=True)
class Adversary:
    """A discriminator, of pictures or of clips, and the share of its word (0.5 after Esser et al. 2021's code)."""

    discriminator: nn.Module
    weight: float = 0.5

    def persuade(self, y: Tensor, reconstruction: Tensor, last_layer: Tensor) -> Tensor:
        """The generator's loss, its gradient brought to the size of the reconstruction loss' (VQGAN, eqs. 6 and 7)."""
        loss = hinge_generator_loss(self.discriminator(y))
        return self.weight * adaptive_weight(reconstruction, loss, last_layer) * loss

    def judge(self, y: Tensor, x: Tensor) -> Tensor:
        """The discriminator's own loss on reconstructions `y` and data `x`; nothing of it reaches what made `y`."""
        return hinge_discriminator_loss(self.discriminator(x), self.discriminator(y.detach()))


@dataclass(frozen=True)
class AutoencoderLoss:
    """|y - x| + kl KL + perceptual d(y, x) + each adversary's; scalars. A zero weight, or None, leaves a term out.

    With adversaries, `last_layer` is the weight of the decoder's last layer. Fine-tuning a decoder alone has no
    posterior (Blattmann et al. 2023, Video LDM, section 3.1.1).
    """

    kl: float = 1e-6
    perceptual: float = 1.0
    distance: PerceptualDistance | None = None
    adversaries: Sequence[Adversary] = ()

    def __call__(
        self, y: Tensor, x: Tensor, posterior: DiagonalGaussian | None = None, last_layer: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of reconstructions `y` of `x`, both `b 3 [t] h w`, and its unweighted terms by name.

        Raises ValueError where adversaries have no last layer to be weighed at.
        """
        terms = {"reconstruction": absolute_error(y, x)}
        total = terms["reconstruction"]
        if self.distance is not None and self.perceptual:
            terms["perceptual"] = self.distance(y, x).mean()
            total = total + self.perceptual * terms["perceptual"]
        likeness = total  # what the adversaries are weighed against
        if posterior is not None:
            terms["kl"] = kl_per_value(posterior, x)
            total = total + self.kl * terms["kl"]
        for i, adversary in enumerate(self.adversaries):
            if last_layer is None:
                raise ValueError("adversaries are weighed at the decoder's last layer: give its weight")
            terms[f"adversarial{i}"] = adversary.persuade(y, likeness, last_layer)
            total = total + terms[f"adversarial{i}"]
        return total, {name: term.detach() for name, term in terms.items()}
