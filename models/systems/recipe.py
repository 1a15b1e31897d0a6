"""What all systems share: a training stage and a system, described as data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

Data = Literal["images", "text-images", "videos", "text-videos"]
"""What a stage trains on; without "text-", captions are neither read nor needed."""


def everything(name: str) -> bool:
    """Every parameter is trained."""
    return True


def temporal_only(name: str) -> bool:
    """Only the layers between frames are trained: those whose name says temporal."""
    return "temporal" in name


@dataclass(frozen=True)
class Stage:
    """One training run: of which network, from where, of which of its parameters, by which loss, on what.

    `loss(network, x, generator, **conditioning)` is the loss per sample, (b,), as in `models.diffusion.losses`.
    `parent` names the stage whose weights it starts from; None is from scratch.
    """

    name: str
    network: str  # its name in the system
    trainable: Callable[[str], bool]  # over parameter names
    loss: Callable[..., Tensor]
    data: tuple[Data, ...]
    parent: str | None = None

    def parameters(self, network: nn.Module) -> list[nn.Parameter]:
        """Those that are trained, for the optimizer; the network is left as it is."""
        return [p for name, p in network.named_parameters() if self.trainable(name)]

    def prepare(self, network: nn.Module) -> list[nn.Parameter]:
        """The same, with every other parameter's gradient switched off. Raises ValueError where nothing is trained."""
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(self.trainable(name))
        trained = self.parameters(network)
        if not trained:
            raise ValueError(f"stage {self.name!r} trains no parameter of this network")
        return trained


@dataclass(frozen=True)
class System:
    """A published system. `tiny` and `paper` make its networks by name, under whatever default device there is, so a
    size that no machine holds can be counted on `torch.device("meta")`."""

    name: str
    paper: str  # authors, year, title
    description: str  # one line
    inputs: tuple[str, ...]  # what a sample is made of
    stages: tuple[Stage, ...]
    tiny: Callable[[], nn.ModuleDict]
    paper_size: Callable[[], nn.ModuleDict]
    published: Mapping[str, int] = field(default_factory=dict)  # parameters by network, where the paper says
    unpublished: str = ""  # why there are none, or not for all

    def stage(self, name: str) -> Stage:
        """Raises KeyError, which says what there is, where there is none of that name."""
        stages = {stage.name: stage for stage in self.stages}
        if name not in stages:
            raise KeyError(f"{self.name} has no stage {name!r}; it has {[*stages]}")
        return stages[name]


def count(network: nn.Module) -> int:
    """Parameters in all."""
    return sum(p.numel() for p in network.parameters())
