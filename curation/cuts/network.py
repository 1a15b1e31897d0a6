"""A small network that sees where shots end, in numpy: 0.24 M weights over 32 x 18 pictures.

Convolutions over space reduce a picture in three steps; between them, convolutions over time at several dilations see
what changes (the factorised, dilated design of TransNet V2, arXiv 2008.04838, section 3.1, some thirty times smaller),
and two bands of similarities, of luma and of a learned embedding, compare every frame with its neighbours up to 40
frames away. `benchmarks/fit_transitions.py` fits it and says how; `docs/cuts.md` has the figures.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from io import BytesIO

import numpy as np
from threadpoolctl import ThreadpoolController

REACH = 40  # frames on each side that a frame's answer mainly depends on
_BGR_TO_LUMA = np.array([0.114, 0.587, 0.299], np.float32)
_DILATIONS = {"t1": (1, 2, 4, 8), "t2": (1, 2, 4, 8, 16), "t3": (1, 4, 8, 16)}


class Network:
    """`weights` are named as in the fitting script, whose own network gives the same answers. Inside, arrays are (c
    channels, h rows, w columns, n frames): shifts in time and strides in space then move long runs of memory.
    """

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self._w = {name: np.asarray(w, np.float32) for name, w in weights.items()}
        self._libraries = ThreadpoolController()

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Log-odds, float32 (n, 2), that a frame begins a shot after a hard cut, and that it lies in a gradual
        transition. `pictures` are consecutive frames, BGR float32 (n, 18, 32, 3) of 0 to 255."""
        # products this small lose more to threads that wait for each other than they gain, beside a decoder most of all
        with self._libraries.limit(limits=1, user_api="blas"):
            return self._forward(pictures)

    def _forward(self, pictures: np.ndarray) -> np.ndarray:
        x = pictures / np.float32(255)
        luma = (x @ _BGR_TO_LUMA).reshape(len(x), -1)
        luma = luma - luma.mean(axis=1, keepdims=True)
        luma /= np.sqrt((luma * luma).sum(axis=1, keepdims=True) + 0.01)
        y = self._space("c1", x.transpose(3, 1, 2, 0) - np.float32(0.4))
        y = self._space("c2", self._time("t1", y))
        seen = self._dense("emb", _flat(y))
        seen /= np.sqrt((seen * seen).sum(axis=1, keepdims=True) + 1e-4)
        y = self._space("c3", self._time("t2", y))
        y = _relu(self._dense("d1", _flat(self._time("t3", y))))
        alike = _relu(self._dense("sim", np.concatenate([_band(seen), _band(luma)], axis=1)))
        y = np.concatenate([y, alike], axis=1).T
        y = _relu(_along(y, [self._w["h1.weight"]], [1]) + self._w["h1.bias"][:, None])
        y = _relu(_along(y, [self._w["h2.weight"]], [4]) + self._w["h2.bias"][:, None])
        return self._dense("out", y.T)

    def _dense(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self._w[name + ".weight"].T + self._w[name + ".bias"]

    def _space(self, name: str, x: np.ndarray) -> np.ndarray:
        """3 x 3 convolution with stride 2 and a border of zeros, then ReLU: (c, h, w, n) to half the size. A row of the
        result at a time, whose taps a core's cache holds."""
        c, h, w, n = x.shape
        padded = np.zeros((c, h + 2, w + 2, n), np.float32)
        padded[:, 1:-1, 1:-1] = x
        down, across = (h + 1) // 2, (w + 1) // 2
        weight, bias = self._w[name + ".weight"].reshape(-1, 9 * c), self._w[name + ".bias"][:, None]
        taps = np.empty((c, 9, across, n), np.float32)
        out = np.empty((len(weight), down, across, n), np.float32)
        for row in range(down):
            for i in range(3):
                for j in range(3):
                    taps[:, 3 * i + j] = padded[:, 2 * row + i, j : j + 2 * across - 1 : 2]
            y = weight @ taps.reshape(9 * c, -1)
            y += bias
            out[:, row] = _relu(y).reshape(-1, across, n)
        return out

    def _time(self, name: str, x: np.ndarray) -> np.ndarray:
        """Convolutions over three frames at several dilations side by side, then ReLU: (c, h, w, n)."""
        dilations = _DILATIONS[name]
        names = [f"{name}.{i}" for i in range(len(dilations))]
        y = _along(x, [self._w[n + ".weight"] for n in names], dilations)
        y += np.concatenate([self._w[n + ".bias"] for n in names])[:, None, None, None]
        return _relu(y)


def _along(x: np.ndarray, weights: list[np.ndarray], dilations: Sequence[int]) -> np.ndarray:
    """Convolutions over the last axis of (c, ..., n) with weights (out, c, taps), an odd number of taps, at several
    dilations side by side, zeros beyond the ends. All products are taken at once, a block of rows for each tap; the
    blocks are then added up, each shifted."""
    n, (width, _, taps) = x.shape[-1], weights[0].shape
    rows = np.concatenate([w[:, :, k] for k in range(taps) for w in weights])
    products = (rows @ x.reshape(len(x), -1)).reshape(taps, width * len(weights), *x.shape[1:])
    out = products[taps // 2]
    for k in range(taps):
        for i, dilation in enumerate(dilations):
            shift = (k - taps // 2) * dilation
            if shift and abs(shift) < n:
                some = slice(i * width, (i + 1) * width)
                here, there = slice(max(0, -shift), n - max(0, shift)), slice(max(0, shift), n + min(0, shift))
                out[some, ..., here] += products[k, some, ..., there]
    return out


def _band(unit: np.ndarray) -> np.ndarray:
    """Products of each row with its neighbours from `REACH` before to `REACH` after it: (n, 2 REACH + 1)."""
    n = len(unit)
    products = np.zeros((n, n + 2 * REACH), np.float32)
    products[:, REACH : REACH + n] = unit @ unit.T
    return products[np.arange(n)[:, None], np.arange(n)[:, None] + np.arange(2 * REACH + 1)]


def _flat(x: np.ndarray) -> np.ndarray:
    """(c, h, w, n) to (n, c h w)."""
    return x.reshape(-1, x.shape[-1]).T


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0, out=x)


@cache
def fitted() -> Network:
    """The network with the weights that come with the package."""
    with np.load(BytesIO(_weights())) as weights:
        return Network(dict(weights))


@cache
def weights_sha256() -> str:
    """Hex digest of those weights: where shots end depends on them as it does on settings."""
    return hashlib.sha256(_weights()).hexdigest()


def _weights() -> bytes:
    return (files("curation") / "cuts" / "network.npz").read_bytes()
