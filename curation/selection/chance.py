"""What is left to chance, from a seed: the split of source videos and the sample. Both depend on ids alone, not on the
order of clips, and hold when other clips join the manifest."""

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from curation.errors import CurationError

SIDES = ("train", "validation")


def uniform(names: pa.Array | pa.ChunkedArray, seed: int) -> np.ndarray:
    """A number in (0, 1) for each text, float64 (n,): the last 8 bytes of the MD5 of `text:seed`, little endian, their
    highest 53 bits."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")  # it would write on stdout
        connection.register("names", pa.table({"name": names}))
        query = "SELECT md5_number_lower(name || ':' || $seed) AS hash FROM names"
        hashes = connection.sql(query, params={"seed": str(seed)}).to_arrow_table()["hash"]
    return ((hashes.to_numpy() >> np.uint64(11)) + 0.5) * 2.0**-53


def sample_order(names: pa.Array | pa.ChunkedArray, weights: np.ndarray, seed: int) -> np.ndarray:
    """Arrival times, float64 (n,): the clips with the smallest are a sample by `weights`, float64 (n,), without
    replacement; infinite where the weight is 0.

    Exponential variates of rate w: Efraimidis and Spirakis, Weighted random sampling with a reservoir, 2006.
    """
    with np.errstate(divide="ignore"):
        return -np.log(uniform(names, seed)) / weights


def split(
    videos: pa.ChunkedArray, keep: np.ndarray, links: list[pa.ChunkedArray], share: float, seed: int
) -> np.ndarray:
    """Which clips are for validation, bool (n,): a share of the videos that have clips in `keep`, bool (n,).

    `links` are columns of groups, null for a clip that is in none; videos with clips in one group are on one side,
    even where those clips are not kept. Of each set of linked videos the one with the smallest id is asked; each side
    has at least one. Raises CurationError where all of them are linked.
    """
    encoded = videos.fill_null("").combine_chunks().dictionary_encode()
    names, video = encoded.dictionary, encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    component = _linked(video, len(names), links)
    order = np.argsort(names.to_numpy(zero_copy_only=False).astype(str))
    asked = np.full(component.max(initial=-1) + 1, -1)
    asked[component[order[::-1]]] = order[::-1]  # the last one written is the smallest
    present = np.unique(component[video[keep]])
    chance = uniform(names.take(pa.array(asked[present])), seed)
    if len(present) < 2:
        raise CurationError(
            "policy: validation: the clips that stay come from one video, or from videos that duplicates link; they "
            "cannot be split, so leave validation out"
        )
    chosen = chance < share
    chosen[np.argmin(chance)], chosen[np.argmax(chance)] = True, False
    of_component = np.zeros(len(asked), bool)
    of_component[present] = chosen
    return of_component[component[video]]


def _linked(video: np.ndarray, videos: int, links: list[pa.ChunkedArray]) -> np.ndarray:
    """The connected component of each video, int (videos,)."""
    left, right, at = [], [], videos
    for column in links:
        rows = np.flatnonzero(column.is_valid().to_numpy())
        encoded = column.take(pa.array(rows)).combine_chunks().dictionary_encode()
        left.append(video[rows])
        right.append(at + encoded.indices.to_numpy(zero_copy_only=False))
        at += len(encoded.dictionary)
    a, b = (np.concatenate([np.zeros(0, np.int64), *side]) for side in (left, right))
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(at, at))
    return connected_components(graph, directed=False)[1][:videos]
