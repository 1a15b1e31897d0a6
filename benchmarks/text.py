"""Text area: seconds of one core a clip, and error against full CRAFT on first, middle and last frames, in one run.

    python benchmarks/text.py [FOLDER] [--reference FILE.json] [--measure N] [--clips N] [--timed N] [--recognise]

FOLDER (without one: ../shared/videos) holds videos; the clips are those of the single pass. Full CRAFT is EasyOCR's:
canvas of 2560, magnification 1, on the frames at the video's own size. It takes some ten seconds a frame, so
`--reference` keeps its areas between runs, by video and time; up to `--measure` frames that it lacks are measured in
this run, clips that are still incomplete are left out. Its time is that of `--timed` frames spread over all, measured
anew: where they no longer have the kept area, the run says so. The other methods look at the frames that the scorers
get. Times are of the processor, for one clip of up to three frames. The 7 % rule is Stable Video Diffusion's: a clip
with more text falls.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.arguments import FOOTAGE, at_least_one, known_folder, new_file, parser_of, videos_in
from curation.config import CurateConfig, TextSettings
from curation.engine import VideoPass
from curation.errors import UnreadableVideo
from curation.scores.base import ClipFrames
from curation.scores.text import Text, union_area

RULE = 0.07
FULL_PX = 2560


class Reference:
    """Areas by full CRAFT, kept in a file."""

    def __init__(self, path: Path | None, measure: int) -> None:
        self.path, self.left = path, measure
        self.areas: dict[str, float] = json.loads(path.read_text()) if path and path.is_file() else {}
        self.craft = Text(TextSettings(method="craft", canvas_px=FULL_PX, recognise=False))
        self.craft.load()

    def of(self, clip: ClipFrames) -> list[float] | None:
        """The areas of a clip's frames at their own size, or None where one is not known and may not be measured."""
        for frame, at in zip(clip.frames, clip.frame_times, strict=True):
            if key(clip, at) not in self.areas:
                if self.left == 0:
                    return None
                self.left -= 1
                self.areas[key(clip, at)] = self.measure(frame)
                if self.path:
                    self.path.write_text(json.dumps(self.areas, indent=0))
        return [self.areas[key(clip, at)] for at in clip.frame_times]

    def measure(self, frame: np.ndarray) -> float:
        """Full CRAFT on one frame."""
        return union_area(self.craft.detect([frame])[0], frame.shape)


def key(clip: ClipFrames, at: float) -> str:
    """A frame's name in the reference."""
    return f"{Path(clip.uri).name} {at:.3f}"


def clips_of(path: Path, thumbnail_px: int) -> list[ClipFrames]:
    """A video's clips with frames of at most that long side; none where it cannot be read."""
    try:
        return [c.frames for c in VideoPass(str(path), CurateConfig(videos=str(path), thumbnail_px=thumbnail_px))]
    except UnreadableVideo as error:
        print(f"left out: {error}")
        return []


def report(name: str, seconds: Sequence[float], areas: np.ndarray, full: np.ndarray) -> None:
    """One line: time, error of each frame, agreement on the rule, clip by clip."""
    error = np.abs(areas - full)
    same = (areas.max(1) > RULE) == (full.max(1) > RULE)
    figures = f"{np.mean(seconds):9.2f}{np.max(seconds):9.2f}{error.mean():12.4f}{np.percentile(error, 95):9.4f}"
    over = f"{(error > 0.01).sum():7d}{same.mean():11.1%}"
    print(f"{name:30s}{figures}{error.max():9.4f}{over}", flush=True)


def timed(scorer: Text, clips: Sequence[ClipFrames]) -> tuple[list[float], np.ndarray]:
    """Seconds of the processor for each clip, and the areas of its frames."""
    seconds, areas = [], []
    for clip in clips:
        began = time.process_time()
        found = scorer.detect(clip.frames)
        seconds.append(time.process_time() - began)
        areas.append([union_area(boxes, frame.shape) for boxes, frame in zip(found, clip.frames, strict=True)])
    return seconds, np.array(areas)


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("folder", nargs="?", type=known_folder, default=FOOTAGE, help="of videos")
    parser.add_argument(
        "--reference", type=new_file, metavar="FILE.json", help="areas by full CRAFT, kept between runs"
    )
    parser.add_argument("--measure", type=int, default=0, help="frames to measure by full CRAFT that it lacks")
    parser.add_argument("--clips", type=at_least_one, default=100, help="at most so many a video")
    parser.add_argument("--timed", type=at_least_one, default=5, help="frames on which full CRAFT is timed")
    parser.add_argument("--recognise", action="store_true", help="time the reading of what was found, too")
    args = parser.parse_args()
    videos = videos_in(parser, args.folder)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        reference = Reference(args.reference, args.measure)
    except ValueError as error:
        parser.error(f"argument --reference: {args.reference} holds no areas: {error}")
    pairs: list[tuple[ClipFrames, ClipFrames]] = []
    full: list[list[float]] = []
    missing = 0
    for path in videos:
        for large, small in list(zip(clips_of(path, 2048), clips_of(path, 640), strict=True))[: args.clips]:
            areas = reference.of(large)
            missing += areas is None
            if areas is not None:
                pairs.append((large, small))
                full.append(areas)
    if not pairs:
        parser.error(f"no frame is known by full CRAFT ({missing} clips left out): give --reference or --measure")
    truth = np.array(full)
    print(f"{len(pairs)} clips, {truth.size} frames, {(truth > 0).sum()} with text; {missing} clips left out\n")
    print(
        f"{'':30s}{'s a clip':>9s}{'max':>9s}{'mean error':>12s}{'95 %':>9s}{'max':>9s}{'>0.01':>7s}{'7 % rule':>11s}"
    )
    seconds = []
    for i in np.linspace(0, 3 * len(pairs) - 1, min(args.timed, 3 * len(pairs))).astype(int):
        began = time.process_time()
        area = reference.measure(pairs[i // 3][0].frames[i % 3])
        seconds.append(3 * (time.process_time() - began))
        if abs(area - truth[i // 3, i % 3]) > 1e-3:
            print(f"the reference has {truth[i // 3, i % 3]:.4f}, full CRAFT now finds {area:.4f}: clip {i // 3}")
    report("full CRAFT", seconds, truth, truth)
    small = [clip for _, clip in pairs]
    light = TextSettings(method="light", recognise=False)
    for name, settings in (("cascade", TextSettings(recognise=False)), ("RapidOCR alone", light)):
        scorer = Text(settings)
        scorer.load()
        taken, areas = timed(scorer, small)
        report(name, taken, areas, truth)
    if args.recognise:
        scorer = Text()
        scorer.load()
        found = [scorer.detect(clip.frames) for clip in small]
        began = time.process_time()
        for clip, boxes in zip(small, found, strict=True):
            scorer._words(clip.frames, boxes)
        print(f"{'reading what was found':30s}{(time.process_time() - began) / len(small):9.2f}")


if __name__ == "__main__":
    main()
