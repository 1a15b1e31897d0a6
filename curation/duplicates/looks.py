"""A second opinion where hashes cannot tell: the cells of three frames themselves, in grey levels.

A hash keeps the order of neighbouring cells and forgets by how much they differ. So a title on a plain ground has
nearly no bits, and in the dark or where little moves noise turns as many bits as motion does. Grey levels know better:
what codecs change is small beside a title's letters.
"""

import numpy as np

from curation.scores.duplicates import CELLS

SHARE = 0.6  # of the bits that hashes may differ by, what the details may
CONTRAST = 0.75  # of the angle to the wrong frames, what the right ones may differ by
STILL_BITS = 4.0  # angle to the wrong frames up to which nothing changes, so that there is nothing to contrast
DIFFERENT_BITS = 24.0  # angle between two clips' means over time from which no alignment makes them alike
MIN_STRUCTURE = 2.0  # grey levels of standard deviation: what is plainer matches nothing
MAX_COLOUR = 4.0  # levels by which red, green or blue may differ on average: codecs change less over a frame
NEIGHBOURS = 32  # nearest clips that a clip is compared with
_AXES = 12  # of most variance, on which neighbours are looked for; on fewer axes, more are near and none is lost
_CHUNK = 50_000  # clips at a time
_CACHED = 2000  # pairs compared at a time: as many as a core's cache holds


class Looks:
    """The first, middle and last frame of each clip, from uint8 (n, 3 * 8 * 9 + 3), grey levels and mean
    colour; zeros where nothing was measured.

    What is left of them when the best quadratic surface is taken from each frame: plain grounds, gradients and
    vignettes are all alike and say nothing. float32 (n, 3, 72).
    """

    def __init__(self, looks: np.ndarray, *, in_mirror: bool = False) -> None:
        grey = int(np.prod(CELLS))
        self.looks, self.in_mirror = looks, in_mirror
        self.cells, self.colour = looks[:, :grey], looks[:, grey:]
        _, rows, columns = CELLS
        y, x = (axis.ravel() for axis in np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j])
        self._plain = np.linalg.qr(np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], 1))[0].astype(np.float32)

    def __len__(self) -> int:
        return len(self.cells)

    def mirrored(self) -> "Looks":
        """The same clips seen in a mirror."""
        return Looks(self.looks, in_mirror=not self.in_mirror)

    def detail(self, clips: np.ndarray) -> np.ndarray:
        """What tells some clips from plain grounds, float32 (n, 3, 72), in grey levels."""
        cells = self.cells[clips].reshape(-1, *CELLS)[..., :: -1 if self.in_mirror else 1].astype(np.float32)
        cells = cells.reshape(len(clips), CELLS[0], CELLS[1] * CELLS[2])
        return cells - (cells @ self._plain) @ self._plain.T


def look_alike(a: Looks, b: Looks, pairs: np.ndarray, bits: float, still: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which pairs, int64 (n, 2) of clips of `a` and of `b`, have the same three frames, and how far they differ.

    The distance is the angle between the details in bits of 64: random hyperplanes tell so many of 64 apart (Charikar
    2002); at most SHARE of `bits` may. The frames must also match better than in another order, unless nothing changes:
    that excuse counts only for the pairs that are `still`, bool (n,). inf for a clip without detail and for pairs of
    other colours.
    """
    distance, same = np.full(len(pairs), np.inf, np.float32), np.zeros(len(pairs), bool)
    coloured = np.flatnonzero(_of_one_colour(a, b, pairs))  # costs little, and leaves a fifth of what hashes suspect
    for at in range(0, len(coloured), _CACHED):
        rows = coloured[at : at + _CACHED]
        i, j = pairs[rows].T
        x, y = a.detail(i), b.detail(j)
        told = np.minimum(x.std(axis=(1, 2)), y.std(axis=(1, 2))) >= MIN_STRUCTURE
        right = _angle(x, y)
        wrong = (_angle(x, y[:, [1, 2, 0]]) + _angle(x, y[:, [2, 0, 1]])) / 2
        contrast = right + 0.5 <= CONTRAST * (wrong + 0.5)
        distance[rows] = np.where(told, right, np.inf)
        same[rows] = told & (right <= SHARE * bits) & (contrast | (still[rows] & (wrong <= STILL_BITS)))
    return same, distance


def _of_one_colour(a: Looks, b: Looks, pairs: np.ndarray) -> np.ndarray:
    """Which pairs have nearly the same mean red, green and blue, bool (n,)."""
    out = np.ones(len(pairs), bool)
    for channel in range(a.colour.shape[1]):
        x, y = a.colour[:, channel], b.colour[:, channel]
        out &= np.abs(x[pairs[:, 0]].astype(np.int16) - y[pairs[:, 1]]) <= MAX_COLOUR
    return out


def directions(looks: Looks) -> np.ndarray:
    """The mean over time of each clip's details, of length 1, float32 (n, 72); NaN for a clip without detail."""
    out = np.full((len(looks), CELLS[1] * CELLS[2]), np.nan, np.float32)
    for at in range(0, len(looks), _CHUNK):
        mean = looks.detail(np.arange(at, min(at + _CHUNK, len(looks)))).mean(axis=1)
        told = mean.std(axis=1) >= MIN_STRUCTURE
        out[at : at + _CHUNK][told] = _unit(mean[told])
    return out


def look_different(directions: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Which pairs, int64 (n, 2) of clips with these `directions`, differ too much to be alike at any time, bool (n,).

    Means over time are compared, as they hardly depend on where a copy was trimmed; chance alone brings smooth
    pictures' hashes near. A clip without detail differs from none.
    """
    out, least = np.zeros(len(pairs), bool), np.cos(DIFFERENT_BITS * np.pi / 64)
    for at in range(0, len(pairs), _CACHED):
        one, other = (directions[side] for side in pairs[at : at + _CACHED].T)
        out[at : at + _CACHED] = np.einsum("nc,nc->n", one, other) < least
    return out


def neighbours(looks: Looks, clips: np.ndarray, bits: float, *, with_mirrored: bool = False) -> np.ndarray:
    """Pairs (a < b) of some clips, int64 (m, 2), whose details differ by at most SHARE of `bits`.

    Every such pair is found unless more than NEIGHBOURS others are nearer.
    """
    from scipy.spatial import KDTree  # takes a while to import

    detail = looks.detail(clips)
    told = detail.std(axis=(1, 2)) >= MIN_STRUCTURE
    if told.sum() < 2:
        return np.empty((0, 2), np.int64)
    clips, unit = clips[told], _unit(detail[told])
    axes = np.linalg.eigh(unit.T @ unit)[1][:, -_AXES:]
    tree, chord = KDTree(unit @ axes), 2 * np.sin(SHARE * bits * np.pi / 128)  # projected, all come nearer
    found = []
    for asked in [unit, _unit(looks.mirrored().detail(clips))] if with_mirrored else [unit]:
        to = np.asarray(tree.query(asked @ axes, NEIGHBOURS + 1, distance_upper_bound=chord)[1])
        one, at = np.nonzero(to < len(clips))
        found.append(np.stack([clips[one], clips[to[one, at]]], 1))
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)


def _unit(detail: np.ndarray) -> np.ndarray:
    flat = detail.reshape(len(detail), int(np.prod(detail.shape[1:])))
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _angle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Between details (n, 3, 72) or (n, 72), in bits of 64."""
    cosine = np.einsum("nc,nc->n", _unit(x), _unit(y))
    return (64 / np.pi * np.arccos(np.clip(cosine, -1, 1))).astype(np.float32)
