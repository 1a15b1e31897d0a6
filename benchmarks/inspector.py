"""How long the inspector takes to answer a slider: the count and every score's histogram, over ten million clips.

    python benchmarks/inspector.py [--clips 10000000] [--scores 12]

Prints, for 1, 4 and all scores bounded: the answer's time (median and worst of ten slider positions), beside the floor,
one pass of numpy over the bounded columns on one thread (their least values), and beside DuckDB's time for the count
alone over a table in memory. Then what a page of clips costs: ordering by a score for the first time, and afterwards.
"""

import time
from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.arguments import at_least_one, parser_of
from curation.browse.filters import Bound
from curation.browse.scores import Scores


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--clips", type=at_least_one, default=10_000_000)
    parser.add_argument("--scores", type=at_least_one, default=12)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    columns = {f"s{i}": rng.gamma(2, 2, args.clips).astype(np.float32) for i in range(args.scores)}
    scores, seconds = _timed(lambda: Scores(columns))
    print(f"{args.clips:,} clips, {args.scores} scores; ready in {seconds:.1f} s")
    connection = duckdb.connect()
    connection.register("arrow", pa.table(columns))
    view = scores.everything
    connection.execute("CREATE TABLE scores AS FROM arrow")
    for bounded in sorted({1, min(4, args.scores), args.scores}):
        names = list(columns)[:bounded]
        times = []
        for low in np.linspace(0.1, 2.0, 10).tolist():
            bounds = dict.fromkeys(names, Bound(low, 14.0))
            view, seconds = _timed(lambda bounds=bounds: scores.look(bounds))
            times.append(seconds)
        _, floor = _timed(lambda names=names: [scores.columns[name].min() for name in names])
        inside = " AND ".join(f"{name}::DOUBLE BETWEEN 2.0 AND 14.0" for name in names)
        query = f"SELECT count(*) FROM scores WHERE {inside}"
        (count,), peer = _timed(lambda query=query: connection.execute(query).fetchone())
        if count != view.kept:
            raise SystemExit(f"DuckDB counts {count}, the inspector {view.kept}")
        print(
            f"{bounded:>3} bounded: {np.median(times):.3f} s, worst {max(times):.3f} s   "
            f"numpy's pass {floor:.3f} s   DuckDB's count {peer:.3f} s"
        )
    for word in ("first", "again"):
        _, seconds = _timed(lambda: scores.ordered(view, "s0", descending=True))
        print(f"ordered by a score, {word}: {seconds:.3f} s for {view.kept:,} clips")


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()
