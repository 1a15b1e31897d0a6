"""What every backbone is told beside the picture: how noisy it is, a text, the frame rate and how much moves."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from models.layers.basics import at_least_float32, fourier_features, zeroed


class Conditioned(nn.Module):
    """A network with an embedding, (b, embed), of noise label, text, fps and motion (Blattmann et al. 2023, SVD, call
    the last two micro-conditioning). What is unknown leaves the embedding alone; and so do rate and motion when new.

    `labels` name further numbers of order 1, such as the level of noise on a picture that is given. Without
    `pooled_text` the embedding does not see the text, which is then known through cross-attention alone.
    """

    def __init__(self, embed: int, text_dim: int, labels: Sequence[str] = (), pooled_text: bool = True) -> None:
        super().__init__()
        self.embed, self.text_dim = embed, text_dim
        self.noise = nn.Sequential(nn.Linear(embed, embed), nn.SiLU(), nn.Linear(embed, embed))
        # pictures have no rate: a network of them that is shown video, most of it frozen, has not learned what it says
        self.fps, self.motion = zeroed(nn.Linear(embed, embed)), zeroed(nn.Linear(embed, embed))
        self.labels = nn.ModuleDict({name: nn.Linear(embed, embed) for name in labels})
        self.text = nn.Sequential(nn.LayerNorm(text_dim), nn.Linear(text_dim, embed)) if pooled_text else None

    def tokens_of(self, text: Tensor | None, mask: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
        """Text (b, n, text_dim) and its mask (b, n), True where there is a token; none and all where not given.

        A mask of ones and zeros means the same. Raises ValueError for a text of other rows or width.
        """
        if text is None:
            text = like.new_zeros(len(like), 0, self.text_dim, dtype=self.fps.weight.dtype)
        if text.shape[-1] != self.text_dim:
            raise ValueError(f"text of width {text.shape[-1]}; the network takes one of {self.text_dim} (text_dim)")
        if len(text) != len(like) or (mask is not None and mask.shape != text.shape[:2]):
            of = None if mask is None else tuple(mask.shape)
            raise ValueError(f"a batch of {len(like)} needs as many texts: text {tuple(text.shape)}, its mask {of}")
        return text, text.new_ones(text.shape[:2], dtype=torch.bool) if mask is None else mask.bool()

    def embedding(
        self,
        noise: Tensor,
        text: Tensor,
        mask: Tensor,
        fps: Tensor | None = None,
        motion: Tensor | None = None,
        labels: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """(b, embed). `noise` (b,), the parameterization's c_noise; `text` and `mask` as `tokens_of` gives them; `fps`
        (b,) frames a second and `motion` (b,), the clip's motion score, both NaN where unknown; `labels`, each (b,), by
        name. Raises ValueError for a label that the network does not have, and for numbers that are not one a row of
        `text`: one for several would silently be all of theirs."""
        for name, value in {"noise": noise, "fps": fps, "motion": motion, **(labels or {})}.items():
            if value is not None and value.shape != text.shape[:1]:
                raise ValueError(f"a batch of {len(text)} needs {len(text)} of {name}, not shape {tuple(value.shape)}")
        kind = self.fps.weight.dtype  # labels need float32, their features do not
        embedding = self.noise(fourier_features(noise, self.embed).to(kind))
        for value, layer in ((fps, self.fps), (motion, self.motion)):
            if value is not None:
                known = torch.isfinite(value)
                number = at_least_float32(torch.where(known, value, 0)).clamp(min=0).log1p()
                features = fourier_features(number, self.embed)
                embedding = embedding + layer(features.to(kind)) * known[:, None]
        for name, value in (labels or {}).items():
            if name not in self.labels:
                raise ValueError(f"the network has no label {name!r}; it has {[*self.labels]}")
            embedding = embedding + self.labels[name](fourier_features(value, self.embed).to(kind))
        if self.text is None:
            return embedding
        mean = (self.text(text) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return embedding + mean
