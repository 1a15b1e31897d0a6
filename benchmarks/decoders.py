"""Readers of frames, side by side: Rushes, decord and torchcodec. How many frames are right, and how many a second.

    python benchmarks/decoders.py [FILE ...] [--samples 24] [--seed 0]

Without files it reads those of ../shared/faults, and films that it makes: TS, PS, MPEG-4 with B frames, HEVC with open
groups, and H.264 at 720p. Each reader gives the frames at `--samples` random times, one after the other in random
order, and then every frame of the file. The truth is a sequential decode by the ffmpeg program of imageio-ffmpeg: a
frame is right if it shows what ffmpeg shows at that time, and no frame near it agrees better. The time to open the file
is listed by itself; Rushes has the time stamp of the first frame from the manifest, and opens the file at each read.

decord and torchcodec are optional: `uv sync --group bench`. torchcodec needs ffmpeg's shared libraries.
"""

import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from benchmarks.arguments import at_least_one, known_file, parser_of
from curation.video.decoder import Decoder
from curation.video.reader import Reader
from tests.formats.make import H264, Film, encoded
from tests.formats.oracle import Shown, show
from tests.formats.pattern import psnr
from tests.formats.row import LOW, MPEG2
from tests.formats.rows import faults
from tests.formats.rows.access import HEVC_OPEN

SIZE = 128, 96  # at which frames are compared
_LEAST_DB = 18.0
_NEAR = 30  # frames before and after that must not agree better
_SLACK_DB = 0.5


class Peer(ABC):
    """A reader of one file. `at` takes seconds since the first frame."""

    name: ClassVar[str]

    def __init__(self, path: str) -> None:
        self.path = path

    @abstractmethod
    def at(self, seconds: float) -> np.ndarray:
        """The frame on screen: RGB uint8 (height, width, 3)."""

    @abstractmethod
    def frames(self) -> Iterator[np.ndarray]:
        """Every frame in order."""


class Rushes(Peer):
    """Our reader."""

    name = "rushes"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.reader = Reader()
        self.origin = 0.0, _first_stamp(path)

    def at(self, seconds: float) -> np.ndarray:
        return next(self.reader.read(self.path, seconds, seconds + 1e-3, self.origin)).full_rgb()

    def frames(self) -> Iterator[np.ndarray]:
        return (frame.full_rgb() for frame in Decoder(self.path, threads=1))


class Decord(Peer):
    """decord's VideoReader: frames by index, found by its own table of times."""

    name = "decord"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        from decord import VideoReader, cpu  # pyright: ignore[reportMissingImports]

        self.reader = VideoReader(path, ctx=cpu(0), num_threads=1)
        starts = self.reader.get_frame_timestamp(range(len(self.reader)))[:, 0]
        self.starts = starts - starts[0]

    def at(self, seconds: float) -> np.ndarray:
        index = int(np.searchsorted(self.starts, seconds + 1e-3, "right")) - 1
        return self.reader[max(0, index)].asnumpy()

    def frames(self) -> Iterator[np.ndarray]:
        return (self.reader[i].asnumpy() for i in range(len(self.reader)))


class TorchCodec(Peer):
    """torchcodec's VideoDecoder, whose exact mode reads the whole file's packets when it opens it."""

    name = "torchcodec"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportMissingImports]

        self.reader = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
        self.begin = float(self.reader.metadata.begin_stream_seconds or 0)

    def at(self, seconds: float) -> np.ndarray:
        return self.reader.get_frame_played_at(self.begin + seconds).data.numpy()

    def frames(self) -> Iterator[np.ndarray]:
        return (frame.numpy() for frame in self.reader)


PEERS: tuple[type[Peer], ...] = (Rushes, Decord, TorchCodec)


@dataclass
class Score:
    """What a reader did with one file. Rates are frames a second; `problem` is why it gave up, if it did."""

    right: int = 0
    asked: int = 0
    whole: int = 0
    total: int = 0
    open_s: float = 0.0
    random: float = 0.0
    sequential: float = 0.0
    problem: str = ""


def measure(peer: type[Peer], path: Path, truth: Shown, times: list[tuple[int, float]]) -> Score:
    """Have a reader read the frames at `times`, each with its place among the true ones, and then all of them."""
    score = Score(asked=len(times), total=len(truth.frames))
    began, spent = time.perf_counter(), 0.0
    try:
        reader = peer(str(path))
    except Exception as error:  # noqa: BLE001 - C++ libraries raise errors of their own
        score.problem = f"open: {type(error).__name__}"
        return score
    score.open_s = time.perf_counter() - began
    for place, seconds in times:
        began = time.perf_counter()
        try:
            frame = reader.at(seconds)
        except Exception as error:  # noqa: BLE001
            score.problem = f"random access: {type(error).__name__}"
            continue
        finally:
            spent += time.perf_counter() - began
        score.right += is_right(frame, truth.frames, place)
    score.random = len(times) / spent
    began, frames = time.perf_counter(), []
    try:
        for frame in reader.frames():
            frames.append(small(frame))
    except Exception as error:  # noqa: BLE001
        score.problem = f"sequential: {type(error).__name__}"
    score.sequential = len(frames) / (time.perf_counter() - began)
    score.whole = sum(is_right(frame, truth.frames, i) for i, frame in enumerate(frames[: score.total]))
    return score


def is_right(frame: np.ndarray, truth: np.ndarray, place: int) -> bool:
    """Whether the frame is the true one at this place, and not one near it."""
    pixels = small(frame)
    ours = psnr(pixels, truth[place])
    near = range(max(0, place - _NEAR), min(len(truth), place + _NEAR + 1))
    return ours >= _LEAST_DB and all(ours >= psnr(pixels, truth[n]) - _SLACK_DB for n in near)


def small(frame: np.ndarray) -> np.ndarray:
    """The frame at the size of the comparison."""
    return frame if frame.shape[1::-1] == SIZE else cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA)


def sampled(truth: Shown, count: int, rng: np.random.Generator) -> list[tuple[int, float]]:
    """Random frames in random order: place and a time in the middle of the frame."""
    ends = [*truth.times[1:], truth.times[-1] + 0.02]
    chosen = rng.integers(0, len(truth.times), count).tolist()
    return [(n, (truth.times[n] + ends[n]) / 2) for n in chosen]


def films(folder: Path) -> Iterator[tuple[Path, int, bool, bool]]:
    """The files that are read where none are named: path, number of the video stream, whether it is HDR, and whether
    it is interlaced."""
    for row in faults.ROWS:
        if row.independent and not row.refused and row.file(folder).is_file():
            yield row.file(folder), row.stream, row.hdr, row.interlaced
    for name, args, film in (
        ("ts_h264.ts", H264, Film(150)),
        ("ps_mpeg2.mpg", f"{MPEG2} -bf 2", Film(150)),
        ("mpeg4_b_frames.mp4", f"{LOW} -bf 2", Film(150)),
        ("mpeg4_b_frames.avi", f"{LOW} -bf 2", Film(150)),
        ("open_hevc.mp4", HEVC_OPEN, Film(150)),
        ("open_hevc.ts", HEVC_OPEN, Film(150)),
        ("h264_720p.mp4", H264.replace("keyint=12", "keyint=50"), Film(250, width=1280, height=720)),
    ):
        encoded(args, film)(folder / name)
        yield folder / name, 0, False, False


def report(path: Path, scores: dict[str, Score]) -> None:
    """Print one file's rows."""
    for i, (name, s) in enumerate(scores.items()):
        rates = f"{s.open_s * 1000:8.0f}{s.random:10.0f}{s.sequential:10.0f}"
        print(f"{path.name if not i else '':24}{name:12}{_counts(s)}{rates}  {s.problem}")


def _counts(score: Score) -> str:
    return f"{score.right:4d}/{score.asked:<4d}{score.whole:6d}/{score.total:<6d}"


def _first_stamp(path: str) -> int | None:
    """The first frame's time stamp as the manifest has it: known once the file has been decoded."""
    if path not in _STAMPS:
        decoder = Decoder(path)
        for _ in decoder:
            pass
        _STAMPS[path] = decoder.info.first_pts
    return _STAMPS[path]


_STAMPS: dict[str, int | None] = {}


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("files", nargs="*", type=known_file, metavar="FILE", help="videos; default: see above")
    parser.add_argument("--samples", type=at_least_one, default=24, help="random frames of each file")
    parser.add_argument("--seed", type=int, default=0, help="of the random times")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    print(f"{'file':24}{'reader':12}{'random':9}{'sequential':13}{'open ms':>7}{'random/s':>10}{'seq./s':>10}")
    totals: dict[str, Score] = {peer.name: Score() for peer in PEERS}
    with tempfile.TemporaryDirectory() as folder:
        for path, stream, hdr, interlaced in [(f, 0, False, False) for f in args.files] or films(Path(folder)):
            truth = show(path, SIZE, stream, hdr=hdr, deinterlace=interlaced)
            times = sampled(truth, args.samples, rng)
            _first_stamp(str(path))
            scores = {peer.name: measure(peer, path, truth, times) for peer in PEERS}
            report(path, scores)
            for name, score in scores.items():
                for part in ("right", "asked", "whole", "total"):
                    setattr(totals[name], part, getattr(totals[name], part) + getattr(score, part))
    for name, total in totals.items():
        print(f"{'all files':24}{name:12}{_counts(total)}")


if __name__ == "__main__":
    main()
