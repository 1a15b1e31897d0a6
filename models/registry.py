"""Every system by its name: what it is, what it takes, how it is trained, how large it is."""

import difflib
from importlib import import_module

import torch

from models.systems.recipe import System, count

NAMES = (
    "vdm", "imagen_video", "dit", "make_a_video", "tune_a_video", "gen1", "video_ldm", "svd", "lumiere",
    "text2video_zero", "control_video",
)  # fmt: skip
"""In the order of the survey that describes them (Weng 2024)."""


def system(name: str) -> System:
    """The system of that name, whatever its case; dashes stand for underscores.

    Raises ValueError, with what there is, for another.
    """
    key = name.lower().replace("-", "_")
    if key not in NAMES:
        near = difflib.get_close_matches(key, NAMES, 1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"there is no system {name!r}.{meant} There are {', '.join(NAMES)}")
    return import_module(f"models.systems.{key}").SYSTEM


def sizes(of: System) -> dict[str, int]:
    """Parameters of each network at the paper's size, counted without memory for them."""
    with torch.device("meta"):
        networks = of.paper_size()
    return {name: count(network) for name, network in networks.items()}
