"""Compare the single pass with NVDEC and with the CPU decoder, on the same films in one run.

    python benchmarks/nvdec.py FILM [FILM ...] [--repeat 3] [--threads 0] [--readers 0]

Each row is one decoder: seconds of decoding alone (`Decoder`, every frame in host memory, nothing done with it) and of
`VideoPass` with all of its work (cuts, flow, thumbnails, hashes), the best of `--repeat` interleaved runs, start of the
decoder included; and the processor time of that pass, which is what a card's decoder spares. Then it says whether both
gave the same clips, pictures, flow and hashes, bit for bit, and the same scores of the scorers that need no weights.

`--readers N` also has N processes pass over the film at once, each with one thread of libav, as curation does where
there are as many videos as cores: frames a second of all of them, from the moment when all are up.
"""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arguments import at_least_one, known_file, parser_of
from curation.config import CurateConfig
from curation.engine import Clip, VideoPass
from curation.scores.aesthetics import TechnicalQuality
from curation.scores.base import Scored, run_scorer
from curation.scores.continuity import Continuity
from curation.scores.duplicates import PerceptualHash
from curation.scores.motion import Motion
from curation.video.decoder import Decoder
from curation.video.nvdec import obstacle

DECODERS = ("cpu", "nvdec")


def decoded(film: str, decoder: str, threads: int) -> int:
    """Decode and look at nothing; frames."""
    return sum(1 for _ in Decoder(film, threads, decoder))


def passed(film: str, decoder: str, threads: int) -> list[Clip]:
    """The clips of the whole pass."""
    return list(VideoPass(film, CurateConfig(videos=film, decoder=decoder), threads=threads))  # type: ignore[arg-type]


def timed(run: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds of wall clock and of processor, and what came out."""
    wall, processor = time.perf_counter(), time.process_time()
    out = run()
    return time.perf_counter() - wall, time.process_time() - processor, out


def scores(clips: list[Clip]) -> list[Scored]:
    """What the scorers without weights measure on them."""
    frames = [clip.frames for clip in clips]
    out = [Scored() for _ in clips]
    for scorer in (Continuity(), TechnicalQuality(), Motion(), PerceptualHash()):
        run_scorer(scorer, frames, out)
    return out


def differences(ours: list[Clip], theirs: list[Clip]) -> list[str]:
    """Which of the things that a pass leaves are not the same."""
    if [c.frames.clip_id for c in ours] != [c.frames.clip_id for c in theirs]:
        return [f"clips: {len(ours)} and {len(theirs)}"]
    found = set()
    for a, b in zip(ours, theirs, strict=True):
        for name in ("start_frame", "frame_count", "starts_on_keyframe", "preview", "shot"):
            if getattr(a, name) != getattr(b, name):
                found.add(name)
        for name in ("frames", "flow", "hashes", "cut_doubt", "frame_times"):
            x, y = getattr(a.frames, name), getattr(b.frames, name)
            if not np.array_equal(np.asarray(x), np.asarray(y)):
                found.add(name)
    if repr(scores(ours)) != repr(scores(theirs)):
        found.add("scores")
    return sorted(found)


def measure(film: str, repeat: int, threads: int) -> None:
    """Run, compare and print."""
    best = {(d, what): (float("inf"), float("inf")) for d, what in product(DECODERS, ("alone", "pass"))}
    frames, clips = {}, {}
    for _ in range(repeat):
        for decoder in DECODERS:
            wall, processor, frames[decoder] = timed(lambda d=decoder: decoded(film, d, threads))
            best[decoder, "alone"] = min(best[decoder, "alone"], (wall, processor))
            wall, processor, clips[decoder] = timed(lambda d=decoder: passed(film, d, threads))
            best[decoder, "pass"] = min(best[decoder, "pass"], (wall, processor))
    info = Decoder(film).info
    print(f"\n{Path(film).name}: {info.codec} {info.width}x{info.height}, {frames['cpu']} frames, threads {threads}")
    print(f"{'':8}{'alone s':>9}{'cpu s':>8}{'frames/s':>10}{'pass s':>9}{'cpu s':>8}{'frames/s':>10}{'clips':>7}")
    for d in DECODERS:
        alone, whole = best[d, "alone"], best[d, "pass"]
        print(
            f"{d:8}{alone[0]:9.2f}{alone[1]:8.2f}{frames[d] / alone[0]:10.0f}"
            f"{whole[0]:9.2f}{whole[1]:8.2f}{frames[d] / whole[0]:10.0f}{len(clips[d]):7d}"
        )
    differs = differences(clips["nvdec"], clips["cpu"])
    print("different: " + ", ".join(differs) if differs else "the same clips, pictures, flow, hashes and scores")


def crowd(film: str, readers: int) -> None:
    """N processes at once, for each decoder."""
    with ProcessPoolExecutor(readers, get_context("spawn")) as pool:
        list(pool.map(time.sleep, [5.0] * readers))  # until each has imported this
        for decoder in DECODERS:
            run = partial(counted, film, decoder)
            list(pool.map(run, range(readers)))
            wall, _, frames = timed(lambda run=run: sum(pool.map(run, range(readers))))
            print(f"{decoder:8}{readers} at once, one thread each: {wall:.2f} s, {frames / wall:.0f} frames/s in all")


def counted(film: str, decoder: str, _: int) -> int:
    """Frames that a pass saw."""
    reading = VideoPass(film, CurateConfig(videos=film, decoder=decoder), threads=1)  # type: ignore[arg-type]
    for _clip in reading:
        pass
    return reading.info.frames or 0


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("films", nargs="+", type=known_file, metavar="FILM", help="a video")
    parser.add_argument("--repeat", type=at_least_one, default=3, help="runs of which the best counts")
    parser.add_argument("--threads", type=int, default=0, help="of libav's decoder on cores; 0 is one a core")
    parser.add_argument("--readers", type=int, default=0, help="processes that pass over the film at once")
    args = parser.parse_args()
    if why := obstacle():
        parser.error(why)
    for film in map(str, args.films):
        measure(film, args.repeat, args.threads)
        if args.readers:
            crowd(film, args.readers)


if __name__ == "__main__":
    main()
