"""Real shots in small, for the fit of the cut network.

    python -m benchmarks.footage.bank --videos DIR [DIR ...] [--truth truth.json] [--stills DIR] --out bank.npz

A shot is a stretch of real footage without a transition, 64 x 36 pixels: of a file that `truth.json` labels what lies
between its labelled transitions, of any other file what neither the cascade nor PySceneDetect's content detector
suspects. A photograph is a shot of one frame. The bank is one file, so the machine that fits needs neither the footage
nor anything that decodes it.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from scenedetect.common import FrameTimecode
from scenedetect.detectors import ContentDetector

from benchmarks.footage.labels import Labels, amended
from benchmarks.footage.shots import SHOT_HEIGHT, SHOT_WIDTH, Bank, save
from curation.config import CutSettings
from curation.cuts.cascade import Cascade
from curation.discovery import SUFFIXES
from curation.errors import UnreadableVideo
from curation.video.decoder import Decoder

_LONGEST, _SHORTEST, _SHORTEST_UNLABELLED = 400, 20, 30  # frames of a shot
_MOST = 2000  # frames of an unlabelled file
_DOUBTFUL = 0.0  # log-odds from which the cascade suspects a gradual transition
_MARGIN, _CONTENT_MARGIN = 10, 2  # frames closed on each side of what the cascade, and the detector, suspects
_CONTENT = 14.0  # threshold of the content detector
_PHOTOGRAPHS = {".jpg", ".jpeg", ".png"}
_TEXTURES = 24
_SMALLEST_PHOTOGRAPH = 150  # pixels of its shorter side; less is an icon
# Labelled files that give no shots: ramps and flat colours, and a trailer that is there twice.
NO_SHOTS = {"synthetic_fades.mp4", "three_colours.mp4", "sintel_trailer_10s.mp4"}


def stretches(
    frames: Iterable[np.ndarray], closed: list[tuple[int, int]], shortest: int, longest: int
) -> Iterator[np.ndarray]:
    """The shots (t, h, w, c) between `closed` pairs: the last clean frame of a shot and the first of the next. Longer
    ones are split; shorter ones, and what is left of a split, are dropped."""
    shot: list[np.ndarray] = []
    for i, frame in enumerate(frames):
        if any(a < i <= z for a, z in closed) or len(shot) == longest:
            if len(shot) >= shortest:
                yield np.stack(shot)
            shot = []
        if not any(a < i < z for a, z in closed):
            shot.append(frame)
    if len(shot) >= shortest:
        yield np.stack(shot)


def labelled_transitions(labels: dict) -> list[tuple[int, int]]:
    """The pairs of `stretches` for a file's labels, with a few frames around what is not a hard cut."""
    closed = [(c - 1, c) for c in labels["cuts_frames"]]
    closed += [(u - 3, u + 3) for u in labels["uncertain_cuts"]]
    closed += [(f[0] - 2, f[-1] + 2) for f in labels["fades"]]
    return closed + [(g[0] - 2, g[1] + 2) for g in labels["gradual"]]


def build_bank(folders: list[Path], truth: Labels, stills: Path | None) -> Bank:
    """The shots of all videos under the folders, labelled ones by `truth`, and of the photographs under `stills`.
    Names are paths below the folder. Files that cannot be read are told of on stderr and left out."""
    bank: Bank = {}
    truth = amended(truth)
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
            name = path.relative_to(folder).as_posix()
            if name in NO_SHOTS or (name in truth and name.startswith("odd/")):
                continue
            try:
                shots = _labelled_shots(path, truth[name]) if name in truth else _unlabelled_shots(path)
            except UnreadableVideo as error:
                print(f"left out: {error}", file=sys.stderr)
                continue
            if shots:
                bank.setdefault(name, []).extend(shots)
    if stills:
        bank |= _photographs(stills)
    return bank | _textures()


def _textures() -> Bank:
    """Clouds of coloured noise, coarse to fine, as computed films show them."""
    rng = np.random.default_rng(0)
    bank: Bank = {}
    for i in range(_TEXTURES):
        picture = np.zeros((SHOT_HEIGHT, SHOT_WIDTH, 3), np.float32)
        roughness = rng.uniform(0.3, 1.0)
        for octave in range(1, 6):
            noise = rng.standard_normal((2**octave, 2**octave, 3)).astype(np.float32) * roughness**octave
            picture += cv2.resize(noise, (SHOT_WIDTH, SHOT_HEIGHT), interpolation=cv2.INTER_CUBIC)
        picture = (picture - picture.min()) / np.ptp(picture) * rng.uniform(0.3, 1.0) * 255
        bank[f"texture {i}"] = [picture.astype(np.uint8)[None]]
    return bank


def _photographs(folder: Path) -> Bank:
    bank: Bank = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in _PHOTOGRAPHS):
        picture = cv2.imread(str(path))
        if picture is not None and min(picture.shape[:2]) >= _SMALLEST_PHOTOGRAPH:
            bank[f"still {path.relative_to(folder).as_posix()}"] = [_reduced(_cropped(picture))[None]]
    return bank


def _labelled_shots(path: Path, labels: dict) -> list[np.ndarray]:
    frames = (_reduced(frame.small_bgr(256)) for frame in Decoder(str(path)))
    return list(stretches(frames, labelled_transitions(labels), _SHORTEST, _LONGEST))


def _unlabelled_shots(path: Path) -> list[np.ndarray]:
    decoder = Decoder(str(path))
    fps = decoder.info.fps
    cascade = Cascade(CutSettings(gradual_threshold=_DOUBTFUL), fps)
    detector = ContentDetector(threshold=_CONTENT, min_scene_len=0)
    frames, found, closed = [], [], []
    for frame in islice(decoder, _MOST):
        bgr = frame.small_bgr(256)
        frames.append(_reduced(bgr))
        found += cascade.push(frame.index, frame.time, bgr)
        hits = detector.process_frame(FrameTimecode(frame.index, fps), bgr)
        closed += [(hit.frame_num - _CONTENT_MARGIN - 1, hit.frame_num + _CONTENT_MARGIN + 1) for hit in hits]
    found += cascade.flush()
    closed += [(t.start_frame - _MARGIN - 1, t.end_frame + _MARGIN + 1) for t in found]
    return list(stretches(frames, closed, _SHORTEST_UNLABELLED, _LONGEST))


def _reduced(bgr: np.ndarray) -> np.ndarray:
    return cv2.resize(bgr, (SHOT_WIDTH, SHOT_HEIGHT), interpolation=cv2.INTER_AREA)


def _cropped(bgr: np.ndarray) -> np.ndarray:
    """The middle of a photograph in 16:9."""
    height, width = bgr.shape[:2]
    h, w = min(height, width * 9 // 16), min(width, height * 16 // 9)
    y, x = (height - h) // 2, (width - w) // 2
    return bgr[y : y + h, x : x + w]


def main() -> None:
    """Build the bank and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, nargs="+", required=True, help="folders of footage")
    parser.add_argument("--truth", type=Path, help="default: truth.json of the first folder that has one")
    parser.add_argument("--stills", type=Path, help="folder of photographs")
    parser.add_argument("--out", type=Path, required=True, help="write the bank, NPZ")
    args = parser.parse_args()
    if missing := [str(f) for f in (*args.videos, args.stills) if f and not f.is_dir()]:
        parser.error(f"no such folder: {', '.join(missing)}")
    truth = args.truth or next((f / "truth.json" for f in args.videos if (f / "truth.json").is_file()), None)
    bank = build_bank(args.videos, json.loads(truth.read_text()) if truth else {}, args.stills)
    if not bank:
        parser.error("none of the files gives a shot")
    save(bank, args.out)
    shots = [shot for file in bank.values() for shot in file]
    print(f"{args.out}: {len(bank)} files, {len(shots)} shots, {sum(map(len, shots))} frames")


if __name__ == "__main__":
    main()
