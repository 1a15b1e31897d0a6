"""The three flow methods: seconds a pair, rank correlation with Farneback over clips, and known shifts, in one run.

    python benchmarks/motion.py [FOLDER] [--raft-weights FILE] [--size 144] [--pairs 4] [--clips 3]

FOLDER (without one: ../shared/videos) holds videos. Each method measures the same 2 fps pairs of up to `--clips` clips
a video; a clip's motion is the mean magnitude of its reduced flow maps, and Spearman's rho compares the clips' order
with that of Farneback. The table of shifts says what each method sees where a camera has moved a known number of
pixels over a photograph: of those pictures that their border leaves, the median of the middle half. Without
`--raft-weights` RAFT is left out. One core.
"""

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.arguments import FOOTAGE, at_least_one, known_file, known_folder, parser_of, videos_in
from curation.config import CurateConfig, MotionSettings
from curation.engine import VideoPass
from curation.errors import UnreadableVideo
from curation.scores.motion import flow_map, reduced
from curation.scores.raft import Raft

Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]
SHIFTS = (0, 1, 2, 4, 6, 8, 10, 12, 16, 24, 32, 48)


def clips_of(videos: Sequence[Path], size: int, pairs: int, most: int) -> list[list[np.ndarray]]:
    """For each clip up to `pairs` + 1 neighbouring grey samples at 2 fps."""
    # The settings of RAFT make the pass keep the samples, whichever method looks at them here.
    motion = MotionSettings(method="raft", size_px=size)
    out = []
    for path in videos:
        try:
            clips = [c.frames for c in VideoPass(str(path), CurateConfig(videos=str(path), motion=motion))]
        except UnreadableVideo as error:
            print(f"left out: {error}")
            continue
        whole = [c.samples[: pairs + 1] for c in clips if len(c.samples) > 1 and min(c.samples[0].shape) >= 128]
        out += [list(samples) for samples in whole[:most]]
    return out


def shifted(shift: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Two views of a photograph, the second from a camera that many pixels further left."""
    from skimage import data

    photo = cv2.cvtColor(data.chelsea(), cv2.COLOR_RGB2GRAY)
    width = size * 16 // 9
    scale = max((width + 96) / photo.shape[1], (size + 2) / photo.shape[0])
    photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return photo[:size, 48 : 48 + width], photo[:size, 48 - shift : 48 - shift + width]


def seen(flow: Flow, shift: int, size: int) -> float:
    """The horizontal shift that a method sees: the median of the middle half."""
    measured = flow(*shifted(shift, size))
    rows, columns = measured.shape[:2]
    middle = measured[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4, 0]
    return float(np.median(middle.astype(np.float32)))


def motions(flow: Flow, clips: Sequence[Sequence[np.ndarray]]) -> tuple[list[float], float]:
    """Each clip's mean magnitude, and the median of the seconds that a pair takes."""
    out, seconds = [], []
    for samples in clips:
        maps = []
        for a, b in pairwise(samples):
            began = time.perf_counter()
            maps.append(flow(a, b).astype(np.float32))
            seconds.append(time.perf_counter() - began)
        out.append(float(np.linalg.norm(maps, axis=-1).mean()))
    return out, float(np.median(seconds))


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("folder", nargs="?", type=known_folder, default=FOOTAGE, help="of videos")
    parser.add_argument("--raft-weights", type=known_file, metavar="FILE", help="torchvision's or the authors'")
    parser.add_argument("--size", type=at_least_one, default=144, help="short side in pixels")
    parser.add_argument("--pairs", type=at_least_one, default=4, help="at most so many a clip")
    parser.add_argument("--clips", type=at_least_one, default=3, help="at most so many a video")
    args = parser.parse_args()
    videos = videos_in(parser, args.folder)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    methods: dict[str, Flow] = {m: lambda a, b, m=m: flow_map(a, b, m) for m in ("farneback", "dis")}
    if args.raft_weights:
        raft = Raft(args.raft_weights)
        methods["raft"] = lambda a, b: reduced(raft([(a, b)])[0])
    else:
        print("no --raft-weights: RAFT is left out")
    clips = clips_of(videos, args.size, args.pairs, args.clips)
    if not clips:
        parser.error(f"the videos in {args.folder} give no clip of two samples and 128 px")
    print(f"{len(clips)} clips, {sum(len(c) - 1 for c in clips)} pairs, {args.size} px short side, one core\n")
    print(f"{'method':12s}{'ms a pair':>10s}{'rho to farneback':>18s}{'mean motion':>13s}")
    reference: list[float] = []
    for name, flow in methods.items():
        found, seconds = motions(flow, clips)
        reference = reference or found
        rho = float(spearmanr(reference, found)[0])  # type: ignore[arg-type]
        print(f"{name:12s}{1000 * seconds:10.1f}{rho:18.3f}{np.mean(found):13.2f}", flush=True)
    print(f"\n{'true shift':12s}" + "".join(f"{shift:7d}" for shift in SHIFTS))
    for name, flow in methods.items():
        print(f"{name:12s}" + "".join(f"{seen(flow, shift, args.size):7.2f}" for shift in SHIFTS), flush=True)


if __name__ == "__main__":
    main()
