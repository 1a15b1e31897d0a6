"""Clips that mean the same: k-means over embeddings, then cosines within each cluster (SemDeDup, Abbas et al. 2023)."""

import numpy as np

from curation.duplicates.groups import Grouping

CLUSTER_CLIPS = 2000  # on average; of a cluster, all pairs are compared
_FIT_CLIPS = 200_000  # that the centres are fitted on, evenly chosen
_BATCH = 8192


def group_semantic(embeddings: np.ndarray, rank: np.ndarray, similarity: float) -> Grouping:
    """Group clips whose embeddings, float (n, dim), have a cosine of at least `similarity`.

    The best clip of a cluster by `rank`, int64 (n,), takes all that are as near to itself, then the next best of the
    rest. Rows that are zero or not finite could not be measured and stay alone. Pairs on the border of two clusters
    are missed; up to CLUSTER_CLIPS clips there is only one. The distance is the cosine with the representative.
    """
    count = len(embeddings)
    norms = np.linalg.norm(embeddings.astype(np.float32), axis=1) if count else np.empty(0, np.float32)
    measured = np.isfinite(norms) & (norms > 0)
    leader, cosine = np.arange(count), np.ones(count, np.float32)
    rows = np.flatnonzero(measured)
    rows = rows[np.argsort(rank[rows])]  # the same clusters in whatever order the clips come
    unit = embeddings[rows].astype(np.float32) / norms[rows, None]
    cluster = _clusters(unit)
    order = np.argsort(cluster, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1):
        to, near = _lead(unit[members], similarity)
        leader[rows[members]], cosine[rows[members]] = rows[members[to]], near
    return Grouping(leader, cosine, measured)


def _lead(unit: np.ndarray, similarity: float) -> tuple[np.ndarray, np.ndarray]:
    """The representative of each row, best row first, and the cosine with it."""
    free = np.ones(len(unit), bool)
    leader, cosine = np.arange(len(unit)), np.ones(len(unit), np.float32)
    for i in range(len(unit)):
        if free[i]:
            rest = np.flatnonzero(free[i + 1 :]) + i + 1
            near = unit[rest] @ unit[i]
            taken = rest[near >= similarity]
            leader[taken], cosine[taken], free[taken] = i, near[near >= similarity], False
    return leader, cosine


def _clusters(unit: np.ndarray) -> np.ndarray:
    """The cluster of each row, int32 (n,)."""
    if len(unit) <= CLUSTER_CLIPS:
        return np.zeros(len(unit), np.int32)
    from sklearn.cluster import MiniBatchKMeans  # takes a second to import

    chosen = unit[np.unique(np.linspace(0, len(unit) - 1, min(len(unit), _FIT_CLIPS)).astype(np.int64))]
    # of unit vectors, the nearest centre in Euclid's sense is nearly that of the largest cosine
    count = -(-len(unit) // CLUSTER_CLIPS)
    means = MiniBatchKMeans(count, batch_size=_BATCH, n_init="auto", random_state=0).fit(chosen)
    return np.concatenate([means.predict(unit[at : at + _BATCH]) for at in range(0, len(unit), _BATCH)])
