"""Data-Juicer's scene split and motion filter beside curation, on one folder, in one run.

    python benchmarks/peers.py FOLDER --data-juicer-python PYTHON [--limit 300]

Data-Juicer (PyPI py-data-juicer) pins much, so it lives in an environment of its own, whose interpreter PYTHON is:

    python -m venv dj && dj/bin/pip install py-data-juicer aiohttp scenedetect opencv-contrib-python-headless \\
        imageio-ffmpeg

FOLDER holds videos; where `damaged_footage.py` made it, what both do with each damaged file is told. Ours runs first:
cuts, clips and flow at 2 fps on a local Ray with two cores, all its starting included, without the scorers that have no
counterpart. Then Data-Juicer's VideoSplitBySceneMapper (ContentDetector) and VideoMotionScoreFilter (144 lines, 2 fps),
one sample after the other in one process, starts excluded, with --limit seconds a file and MEMORY_GB of memory. It
writes its clips as files, which ours does not.

What becomes of a file there: `kept` or `filtered` by its motion with so many clips (a score of -1 says that it could
not be read, and nothing else does); `error` where an operator raised, on which Data-Juicer's executor drops the sample
unless it is told otherwise (skip_op_error); `lost` where the process ended; `hung` where it did not.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.arguments import at_least_one, known_file, known_folder, parser_of

MEMORY_GB = 8
SUFFIXES = {".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm"}

PEER = """
import json, os, resource, shutil, sys, tempfile
resource.setrlimit(resource.RLIMIT_DATA, ({memory} << 30,) * 2)
import imageio_ffmpeg
bin = tempfile.mkdtemp()
os.symlink(imageio_ffmpeg.get_ffmpeg_exe(), os.path.join(bin, "ffmpeg"))
os.environ["PATH"] = bin + os.pathsep + os.environ["PATH"]
from data_juicer.ops.mapper.video_split_by_scene_mapper import VideoSplitBySceneMapper
from data_juicer.ops.filter.video_motion_score_filter import VideoMotionScoreFilter
from data_juicer.utils.constant import Fields
out = sys.argv[1]
split = VideoSplitBySceneMapper(save_dir=out)
motion = VideoMotionScoreFilter(size=144)
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    path = json.loads(line)
    sample = {{"videos": [path], "text": "<__dj__video> <|__dj__eoc|>", Fields.stats: {{}}, Fields.meta: {{}}}}
    try:
        sample = split.process_single(sample)
        clips = len(sample["videos"])
        sample = motion.compute_stats_single(sample)
        kept = bool(motion.process_single(sample))
        said = "kept" if kept else "filtered"
        scores = [round(float(s), 2) for s in sample[Fields.stats]["video_motion_score"]]
        print(json.dumps([said, clips, str(scores[:3])]), flush=True)
    except BaseException as error:
        print(json.dumps(["error", 0, type(error).__name__ + ": " + str(error)[-80:]]), flush=True)
shutil.rmtree(bin)
"""
Outcome = tuple[str, int, str]  # what became of a file, its clips, and what was said


class Peer:
    """Data-Juicer in a process that is started anew where a file has ended or stopped it."""

    def __init__(self, python: Path, out: Path, limit: float) -> None:
        self._command = [str(python), "-c", PEER.format(memory=MEMORY_GB), str(out)]
        self._limit = limit
        self._process: subprocess.Popen[str] | None = None
        self.seconds = 0.0  # of work, without starts

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            while (line := self._answer(self._process, 300)) != '"ready"':
                if line is None:
                    raise SystemExit(
                        f"{self._command[0]}: Data-Juicer does not start there; its environment is made by\n"
                        "    pip install py-data-juicer aiohttp scenedetect opencv-contrib-python-headless "
                        "imageio-ffmpeg"
                    )
        return self._process

    @staticmethod
    def _answer(process: subprocess.Popen[str], limit: float) -> str | None:
        """The next line that it prints as JSON; None where it ended. Raises TimeoutError."""
        assert process.stdout is not None
        until, text, pipe = time.monotonic() + limit, b"", process.stdout.fileno()
        while select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
            if not (more := os.read(pipe, 1 << 16)):
                return None
            text += more
            whole = text[: text.rfind(b"\n") + 1].decode(errors="replace").splitlines()
            if answers := [line for line in whole if line[:1] in '["']:
                return answers[-1]
        raise TimeoutError

    def read(self, path: Path) -> Outcome:
        """What becomes of one file."""
        process = self._started()
        assert process.stdin is not None
        began = time.monotonic()
        try:
            process.stdin.write(json.dumps(str(path)) + "\n")
            process.stdin.flush()
            line = self._answer(process, self._limit)
            if line is None:
                self._process = None
                return "lost", 0, f"its process ended with {process.wait()}"
            said, clips, note = json.loads(line)
            return said, clips, note
        except TimeoutError:
            self.end()
            return "hung", 0, f"no end after {self._limit:g} s; killed"
        finally:
            self.seconds += time.monotonic() - began

    def end(self) -> None:
        """End its process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def theirs(python: Path, paths: Sequence[Path], limit: float) -> tuple[dict[str, Outcome], float]:
    """Data-Juicer's outcomes by file name, and its seconds."""
    with tempfile.TemporaryDirectory() as out:
        peer = Peer(python, Path(out), limit)
        try:
            peer._started()
            return {p.name: peer.read(p) for p in paths}, peer.seconds
        finally:
            peer.end()


def ours(folder: Path) -> tuple[dict[str, Outcome], float]:
    """Curation's outcomes by file name, and its seconds."""
    from curation import plan
    from curation.config import CurateConfig, TextSettings
    from curation.manifest import Manifest
    from curation.scores.motion import Motion

    plan.scorers_for = lambda config: [Motion(config.motion)]
    with tempfile.TemporaryDirectory() as out:
        began = time.monotonic()
        config = CurateConfig(videos=str(folder), out=out, text=TextSettings(enabled=False), cpus=2)
        manifest = Manifest.find(plan.curate(config).manifest)
        seconds = time.monotonic() - began
        told: dict[str, str] = {}
        for row in manifest.read("errors").to_pylist():
            told.setdefault(row["uri"], row["message"].removeprefix(f"{row['uri']}: "))
        return {
            Path(r["uri"]).name: (
                "error row" if r["status"] == "failed" else "kept, told" if r["uri"] in told else "kept",
                r["clips"],
                told.get(r["uri"], ""),
            )
            for r in manifest.read("videos").to_pylist()
        }, seconds


def main() -> None:
    """Measure both and print."""
    parser = parser_of(__doc__)
    parser.add_argument("folder", type=known_folder)
    parser.add_argument("--data-juicer-python", type=known_file, required=True, metavar="PYTHON")
    parser.add_argument("--limit", type=at_least_one, default=60, help="seconds that Data-Juicer gets for a file")
    args = parser.parse_args()
    labels = args.folder / "damaged.json"
    damaged = json.loads(labels.read_text()) if labels.is_file() else {}
    # a pipe would hang whoever opens it, before any library is asked; a folder is no file
    paths = sorted(p for p in args.folder.iterdir() if p.suffix in SUFFIXES and not p.is_fifo() and not p.is_dir())
    sound = [p for p in paths if p.name not in damaged]

    print(f"{len(sound)} sound and {len(paths) - len(sound)} damaged files", file=sys.stderr)
    mine, seconds = ours(args.folder)
    print(f"rushes: {seconds:.1f} s; Data-Juicer is next", file=sys.stderr)
    dj, dj_seconds = theirs(args.data_juicer_python, paths, args.limit)
    print(f"{'':14s}{'seconds':>9s}{'videos/s':>10s}{'clips':>7s}  sound files")
    for name, outcomes, took in (("rushes", mine, seconds), ("Data-Juicer", dj, dj_seconds)):
        kept = [outcomes[p.name] for p in sound]
        counts = ", ".join(f"{n} {said}" for said, n in sorted(Counter(said for said, _, _ in kept).items()))
        print(f"{name:14s}{took:9.1f}{len(paths) / took:10.2f}{sum(n for _, n, _ in kept):7d}  {counts}")
    for p in paths:
        if p.name in damaged:
            print(f"\n{p.name} (owed: {damaged[p.name]['owed']})")
            for name, outcomes in (("rushes", mine), ("Data-Juicer", dj)):
                said, clips, note = outcomes.get(p.name, ("not looked at", 0, ""))
                print(f"  {name:12s} {said:10s} {clips:3d} clips  {note[:110]}")


if __name__ == "__main__":
    main()
