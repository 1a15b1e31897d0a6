"""Labelled footage synthesised in memory over real shots, and the cascade's score on it by kind of transition.

    python benchmarks/transitions.py --videos DIR [--truth truth.json] [--count 14] [--part held] [--refit] [--fit]

Every video is a chain of shots cut from real footage (never across a labelled transition, each with a camera move of
its own) joined by hard cuts, pairs of cuts 9 frames apart, dissolves of 8 to 60 frames, fades through black and white
and wipes; inside the shots there are flashes, whip pans and changes of a caption; the video as a whole may be
letterboxed, grey noisy film, flat and drawn like a cartoon, dark, or encoded so badly that its keyframes pop. A seed
decides everything. Source files are split by turns: with `--part tune` thresholds are chosen, on `--part held` they
are judged, so that no file is in both; `--refit` fits the weights on the other part alone before it judges.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from curation.config import CutSettings
from curation.cuts import transitions
from curation.cuts.cascade import Cascade
from curation.cuts.transitions import Signature, blend_features
from curation.decode import Decoder

WIDTH, HEIGHT, FPS = 256, 144, 25
_SOURCE_WIDTH = 384  # room for the camera moves
_LONGEST_SHOT = 150
_LENGTHS = (10, 16, 26, 42)  # of the windows that the fit sees
STYLES = ("plain", "plain", "letterbox", "film", "cartoon", "dark", "pops")
Shot = np.ndarray  # BGR uint8 (frames, h, w, 3)


@dataclass(slots=True)
class Footage:
    """A synthetic video, BGR uint8 (h, w, 3) a frame, and what is in it, in the words of `truth.json`."""

    name: str
    frames: list[np.ndarray]
    labels: dict[str, Any]
    kinds: dict[int, str] = field(default_factory=dict)  # first frame of a gradual transition -> its kind
    distractions: list[tuple[int, int, str]] = field(default_factory=list)  # first, last frame and what it is


def real_shots(videos: Path, truth: dict[str, dict], part: str) -> list[tuple[str, Shot]]:
    """The transition-free stretches of the labelled files (of every other one for `tune` and `held`), as (file, shot)
    with 20 frames at least. Frames beside a labelled transition are left out."""
    names = sorted(n for n in truth if not n.startswith("odd/") and n not in _NO_SHOTS)
    names = names[{"tune": 0, "held": 1, "all": 0}[part] :: 1 if part == "all" else 2]
    out = []
    for name in names:
        labels = truth[name]
        closed = [(c - 1, c) for c in labels["cuts_frames"]]
        closed += [(u - 3, u + 3) for u in labels["uncertain_cuts"]]
        closed += [(f[0] - 2, f[-1] + 2) for f in labels["fades"]] + [(g[0] - 2, g[1] + 2) for g in labels["gradual"]]
        shot: list[np.ndarray] = []
        for frame in Decoder(str(videos / name)):
            if any(a < frame.index <= z for a, z in closed) or len(shot) == _LONGEST_SHOT:
                out += [(name, np.stack(shot))] if len(shot) >= 20 else []
                shot = []
            if not any(a < frame.index < z for a, z in closed):
                shot.append(_fitted(frame.small_bgr(_SOURCE_WIDTH)))
        out += [(name, np.stack(shot))] if len(shot) >= 20 else []
    return out


# ramps, title cards and stills have no shot that says anything about motion; one trailer is there twice
_NO_SHOTS = ("synthetic_fades.mp4", "three_colours.mp4", "static_text_61s.mp4", "photos_with_fades.mp4")
_NO_SHOTS += ("sintel_trailer_10s.mp4",)


def synthesise(shots: list[tuple[str, Shot]], seed: int) -> Footage:
    """One video of 7 to 10 shots. The same shots and seed give the same pixels."""
    rng = np.random.default_rng(seed)
    style = STYLES[seed % len(STYLES)]
    frames: list[np.ndarray] = []
    labels: dict[str, Any] = {"cuts_frames": [], "fades": [], "gradual": [], "uncertain_cuts": []}
    kinds: dict[int, str] = {}
    distractions: list[tuple[int, int, str]] = []
    last, short = "", False
    for _ in range(int(rng.integers(7, 11))):
        joint = str(rng.choice(_JOINTS, p=_ODDS)) if frames and not short else "cut"
        length = int(rng.integers(8, 61)) if joint == "dissolve" else int(rng.integers(8, 31))
        others = [i for i, (name, _) in enumerate(shots) if name != last]
        last, shot = shots[int(rng.choice(others))]
        short = joint == "pair"
        shot = _played(shot, 9 if short else int(rng.integers(45, 110)) + length, rng)
        if not short and rng.random() < 0.35:
            what = str(rng.choice(list(_DISTRACTIONS)))
            shot, a, z = _DISTRACTIONS[what](shot, rng)
            distractions.append((len(frames) + a, len(frames) + z, what))
        at = len(frames)
        if not frames or joint in ("cut", "pair"):
            labels["cuts_frames"] += [at] if frames else []
            frames += list(shot)
        elif joint in ("black", "white"):
            blank, hold = {"black": 0.0, "white": 255.0}[joint], int(rng.integers(0, 12))
            tail = np.stack(frames[-length:])
            frames[-length:] = list(_mixed(tail, np.full_like(tail, blank), np.linspace(0, 1, length)))
            frames += [np.full((HEIGHT, WIDTH, 3), int(blank), np.uint8)] * hold
            head = shot[:length]
            frames += list(_mixed(np.full_like(head, blank), head, np.linspace(0, 1, length))) + list(shot[length:])
            labels["fades"].append([at - length, at, at + hold, at + hold + length])
            kinds[at - length] = "fade " + joint
        else:
            tail, head = np.stack(frames[-length:]), shot[:length]
            weights = np.linspace(0, 1, length + 2)[1:-1]
            frames[-length:] = list(_mixed(tail, head, weights if joint == "dissolve" else _wipe(weights, rng)))
            frames += list(shot[length:])
            labels["gradual"].append([at - length, at, joint])
            kinds[at - length] = joint if joint == "wipe" else "dissolve " + ("<=20" if length <= 20 else ">20")
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
    """Weights a pixel of a soft edge that crosses the frame in one of eight directions."""
    angle = rng.integers(8) * np.pi / 4
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    along = x * np.cos(angle) + y * np.sin(angle)
    along = (along - along.min()) / np.ptp(along)
    soft = rng.uniform(0.01, 0.1)
    return np.clip((weights[:, None, None] * (1 + 2 * soft) - soft - along) / soft + 0.5, 0, 1)


def _flash(shot: Shot, rng: np.random.Generator) -> tuple[Shot, int, int]:
    """Lightning or a photographer: one to four frames driven towards white."""
    out, n = shot.copy(), int(rng.integers(1, 5))
    at = int(rng.integers(12, len(shot) - 12 - n))
    out[at : at + n] = _mixed(shot[at : at + n], np.full_like(shot[:n], 255), np.linspace(rng.uniform(0.5, 1), 0.3, n))
    return out, at, at + n


def _whip(shot: Shot, rng: np.random.Generator) -> tuple[Shot, int, int]:
    """The camera is torn sideways by one to two widths of the picture, with the blur that goes with it."""
    n, out = int(rng.integers(6, 13)), shot.copy()
    at = int(rng.integers(12, len(shot) - 12 - n))
    s = np.linspace(0, 1, n + 1)
    path = (3 * s**2 - 2 * s**3) * rng.choice([2, 4]) * WIDTH / 2  # to the mirror image or back to the picture
    path = np.concatenate([path, np.full(len(shot) - at - n, path[-1])])
    for i in range(at, len(shot)):
        wide = np.concatenate([shot[i], shot[i][:, ::-1]] * 2, axis=1)
        here, before = path[i - at], path[max(0, i - at - 1)]
        blur = max(1, round(here - before))
        left = round(here) % (2 * WIDTH)
        view = np.roll(wide, -left, axis=1)[:, :WIDTH]
        out[i] = cv2.blur(view, (blur, 1)) if blur > 1 else view
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
    "whip": _whip,
    "captions": _captions,
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
    with av.open(buffer, "w", format="matroska") as container:
        stream: Any = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = 50
        stream.codec_context.time_base = Fraction(1, FPS)
        stream.options = {"qmin": str(q), "qmax": str(q), "sc_threshold": "1000000000"}
        for i, f in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(f, format="bgr24")
            picture.pts = i
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer, "r") as encoded:
        return [f.to_ndarray(format="bgr24") for f in encoded.decode(video=0)]


_LOOKS: dict[str, Callable[[list[np.ndarray], np.random.Generator], list[np.ndarray]]] = {
    "plain": _plain,
    "letterbox": _letterbox,
    "film": _film,
    "cartoon": _cartoon,
    "dark": _dark,
    "pops": _pops,
}


def examples(footage: Footage) -> tuple[np.ndarray, np.ndarray]:
    """Features of every window that the cascade might look at, float (n, 9), and what each is: 0 motion, 1 a dissolve,
    2 a wipe. Windows that cover a part of a transition are neither and left out."""
    colour = np.stack([Signature.of(i, i / FPS, f).colour for i, f in enumerate(footage.frames)])
    labels, rows, kinds = footage.labels, [], []
    cuts = [0, *labels["cuts_frames"], len(colour)]
    others = [(f[0], f[3]) for f in labels["fades"]] + [(u - 2, u + 2) for u in labels["uncertain_cuts"]]
    for start, stop in pairwise(cuts):
        for middle in range(start, stop, 3):
            for length in _LENGTHS:
                a, b = middle - length // 2, middle - length // 2 + length
                if a < start or b >= stop or any(a < z and b > y for y, z in others):
                    continue
                kind = 0
                for y, z, what in labels["gradual"]:
                    shared = min(b, z) - max(a, y)
                    if shared > 0:
                        whole = shared > 0.65 * (b - a + z - y - shared)
                        kind = (2 if what == "wipe" else 1) if whole else -1
                features = blend_features(colour[start:stop], a - start, b - start) if kind >= 0 else None
                if features is not None:
                    rows.append(features)
                    kinds.append(kind)
    return np.array(rows).reshape(-1, 9), np.array(kinds, int)


def logistic(features: np.ndarray, positive: np.ndarray, weight: float = 3.0) -> np.ndarray:
    """Intercept and weights, float (10,), of the ridge logistic regression (Newton's method) in which a positive
    counts `weight` times."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    x = np.column_stack([np.ones(len(features)), (features - mean) / scale])
    counts, beta = np.where(positive, weight, 1.0), np.zeros(x.shape[1])
    ridge = np.diag([0.0, *[1.0] * features.shape[1]])
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        gradient = x.T @ (counts * (positive - p)) - ridge @ beta
        beta += np.linalg.solve((x.T * (counts * p * (1 - p))) @ x + ridge, gradient)
    slopes = beta[1:] / scale
    return np.array([beta[0] - slopes @ mean, *slopes])


def fitted(footage: Iterable[Footage]) -> np.ndarray:
    """The cascade's blend weights, float (2, 10): dissolves and wipes, each against motion."""
    pairs = [examples(f) for f in footage]
    features, kinds = np.concatenate([f for f, _ in pairs]), np.concatenate([k for _, k in pairs])
    return np.stack(
        [logistic(features[(kinds == 0) | (kinds == k)], kinds[(kinds == 0) | (kinds == k)] == k) for k in (1, 2)]
    )


def labelled(videos: Path, truth: dict[str, dict]) -> Iterator[Footage]:
    """The labelled files themselves, at the detectors' size."""
    for name, labels in truth.items():
        if not name.startswith("odd/"):
            yield Footage(name, [f.small_bgr(CutSettings().width_px) for f in Decoder(str(videos / name))], labels)


def report(footage: Iterable[Footage]) -> None:
    """Run the cascade on each video; print the score, recall by kind and what the false boundaries were."""
    hits = misses = 0
    false, found, total = Counter[str](), Counter[str](), Counter[str]()
    frames, seconds = 0, 0.0
    for video in footage:
        began = time.perf_counter()
        cascade, out = Cascade(CutSettings(), FPS), []
        for i, picture in enumerate(video.frames):
            out += cascade.push(i, i / FPS, picture)
        out += cascade.flush()
        seconds, frames = seconds + time.perf_counter() - began, frames + len(video.frames)
        free = {(t.start_frame + t.end_frame) // 2: t for t in out}
        ranges = {(f[0], f[3]) for f in video.labels["fades"]} | {(g[0], g[1]) for g in video.labels["gradual"]}
        for a, z in ranges:
            total[video.kinds[a]] += 1
            found[video.kinds[a]] += any(a <= b <= z for b in free)
        for cut in video.labels["cuts_frames"]:
            near = min((b for b in free if abs(b - cut) <= 2), key=lambda b: abs(b - cut), default=None)
            hits, misses = hits + (near is not None), misses + (near is None)
            free.pop(near, None)
        for b, t in free.items():
            if not any(a <= b <= z for a, z in ranges):
                inside = [w for a, z, w in video.distractions if t.start_frame <= z and t.end_frame >= a]
                false[f"{t.kind} ({inside[0] if inside else video.name.split()[-1]})"] += 1
    wrong = sum(false.values())
    print(f"{frames} frames, {1000 * seconds / frames:.2f} ms a frame")
    print(f"hard cuts: precision {hits / (hits + wrong):.3f} recall {hits / (hits + misses):.3f}", end=" ")
    print(f"F1 {2 * hits / (2 * hits + misses + wrong):.3f}; gradual recall {found.total() / total.total():.3f}")
    print("gradual by kind:", ", ".join(f"{k} {found[k]}/{n}" for k, n in sorted(total.items())))
    print("false boundaries:", ", ".join(f"{k} {n}" for k, n in false.most_common()) or "none")


def main() -> None:
    """Synthesise and judge, or fit."""
    default = Path(__file__).parents[2] / "shared" / "videos"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, default=default)
    parser.add_argument("--truth", type=Path, default=None, help="default: truth.json beside the videos")
    parser.add_argument("--count", type=int, default=14, help="synthetic videos a part")
    parser.add_argument("--part", choices=["tune", "held", "all"], default="held", help="which source files")
    parser.add_argument("--refit", action="store_true", help="fit the blend weights on the other part first")
    parser.add_argument("--fit", action="store_true", help="fit them on everything and print them")
    args = parser.parse_args()
    path = args.truth or args.videos / "truth.json"
    if not path.is_file():
        print(f"no labelled footage at {path}: give --videos and --truth", file=sys.stderr)
        return
    truth = json.loads(path.read_text())

    def synthetic(part: str) -> Iterator[Footage]:
        shots = real_shots(args.videos, truth, part)
        yield from (synthesise(shots, seed + (100 if part == "held" else 0)) for seed in range(args.count))

    if args.fit:
        everything = chain(synthetic("tune"), synthetic("held"), labelled(args.videos, truth))
        print(np.array2string(fitted(everything), precision=2, separator=", ", suppress_small=True))
        return
    if args.refit:
        other = {"tune": "held", "held": "tune"}.get(args.part)
        if other is None:
            parser.error("--refit needs --part tune or held")
        transitions.BLENDS[:] = fitted(synthetic(other))
    report(synthetic(args.part))


if __name__ == "__main__":
    main()
