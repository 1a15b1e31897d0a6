"""Activation checkpointing from outside a network: its code and its parameter names stay what they are."""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from models.layers.basics import Layer


def checkpointed(network: Layer, *kinds: type[nn.Module]) -> Layer:
    """The same network, every part of these classes keeping its input only and computing again on the way back
    (Chen et al. 2016). Raises ValueError where it has no such part."""
    parts = [module for module in network.modules() if isinstance(module, kinds)]
    if not parts:
        raise ValueError(f"the network has no {' or '.join(kind.__name__ for kind in kinds)}")
    for part in parts:
        part.forward = partial(checkpoint, part.forward, use_reentrant=False)
    return network
