"""Do copies of clips share a group, and do different clips not? Beside a perceptual hash of pictures, in one run.

    python benchmarks/duplicates.py --videos DIR [--work DIR] [--clips 2] [--films bbb sintel]

Of each video some clips are written again: scaled, by other codecs, at a high crf, within borders, trimmed by a tenth,
mirrored, slightly cropped. The real pass reads videos and copies (decode, cuts, clips, hashes) and the real table of
duplicates groups them, one kind of copy at a time beside all clips of the videos. Recall: a copy's longest clip is in
the group of its clip. False pairs: clips in one group that are no copies of each other: neighbours in a video, clips
of other videos, and, hardest, the two halves of one clip as files of their own. `--films` are prefixes of file names
cut from one film: pairs of those are not judged. `--work` keeps the copies for the next run, which goes on where a
stopped one was. The peers need imagehash (uv sync --group bench).
"""

import argparse
import hashlib
import json
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
from PIL import Image

from benchmarks.arguments import FOOTAGE, at_least_one, known_folder, parser_of, videos_in
from curation.config import CurateConfig, DuplicateSettings
from curation.cuts.cascade import RULES
from curation.cuts.network import weights_sha256
from curation.duplicates import table as duplicates
from curation.engine import VideoPass
from curation.errors import UnreadableVideo
from curation.manifest import Manifest, Shard
from curation.schema import CLIP_IDENTITY, score_field
from curation.scores.duplicates import PerceptualHash, informative
from curation.sources import identify
from curation.video.decoder import Decoder

LONG_SIDE = 480  # of the copies before they are scaled
Frames = list[np.ndarray]


@dataclass(frozen=True, slots=True)
class Copy:
    """A way to write a clip again: what is done to its frames (RGB), and how they are encoded."""

    name: str
    change: Callable[[Frames], Frames]
    codec: str = "libx264"
    options: tuple[tuple[str, str], ...] = (("crf", "23"), ("preset", "veryfast"))
    bit_rate: int | None = None


def _each(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Frames], Frames]:
    return lambda frames: [change(f) for f in frames]


def _cut(start: float, end: float) -> Callable[[Frames], Frames]:
    return lambda frames: frames[round(len(frames) * start) : round(len(frames) * end)]


def _scaled(frame: np.ndarray, factor: float) -> np.ndarray:
    return cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def _bordered(frame: np.ndarray, top: float, side: float, colour: tuple[int, ...] = (0, 0, 0)) -> np.ndarray:
    t, s = round(frame.shape[0] * top), round(frame.shape[1] * side)
    return cv2.copyMakeBorder(frame, t, t, s, s, cv2.BORDER_CONSTANT, value=colour)


def _on_blur(frame: np.ndarray) -> np.ndarray:
    h, w = frame.shape[:2]
    wide = cv2.GaussianBlur(cv2.resize(frame, (w * 3 // 2, h)), (0, 0), h / 20)
    left = (wide.shape[1] - w) // 2
    wide[:, left : left + w] = frame
    return wide


def _cropped(frame: np.ndarray, share: float) -> np.ndarray:
    h, w = round(frame.shape[0] * share), round(frame.shape[1] * share)
    return frame[h : frame.shape[0] - h, w : frame.shape[1] - w]


_VP9 = (("deadline", "realtime"), ("cpu-used", "8"), ("crf", "36"))
_LOW = (("crf", "35"), ("preset", "veryfast"))
COPIES = [
    Copy("half the size", _each(lambda f: _scaled(f, 0.5))),
    Copy("mpeg4", _each(lambda f: _scaled(f, 0.75)), "mpeg4", (), 400_000),
    Copy("vp9", list, "libvpx-vp9", _VP9),
    Copy("h264, crf 35", list, options=_LOW),
    Copy("letterbox", _each(lambda f: _bordered(f, 0.17, 0))),
    Copy("pillarbox", _each(lambda f: _bordered(f, 0, 0.2))),
    Copy("coloured border", _each(lambda f: _bordered(f, 0.1, 0.1, (40, 90, 200)))),
    Copy("blurred border", _each(_on_blur)),
    Copy("first 10 % off", _cut(0.1, 1)),
    Copy("last 10 % off", _cut(0, 0.9)),
    Copy("7 % off both ends", _cut(0.07, 0.93)),
    Copy("scaled, barred, trimmed", lambda x: [_bordered(_scaled(f, 0.6), 0.15, 0) for f in _cut(0.07, 1)(x)]),
    Copy("mirrored", _each(lambda f: f[:, ::-1])),
    Copy("2 % cropped", _each(lambda f: _cropped(f, 0.02))),
    Copy("5 % cropped", _each(lambda f: _cropped(f, 0.05))),
]
HALVES = [Copy("first half", _cut(0, 0.5)), Copy("second half", _cut(0.5, 1))]


def write(path: Path, frames: Frames, fps: float, copy: Copy) -> None:
    """Encode RGB frames; sizes are cut to even ones."""
    part = path.with_name(f".{path.name}")
    with av.open(str(part), "w", format="matroska" if path.suffix == ".mkv" else None) as out:
        stream: Any = out.add_stream(copy.codec, rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = (side & ~1 for side in frames[0].shape[:2])
        stream.pix_fmt, stream.options = "yuv420p", dict(copy.options)
        if copy.bit_rate:
            stream.bit_rate = copy.bit_rate
        for frame in frames:
            picture = np.ascontiguousarray(frame[: stream.height, : stream.width])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    part.rename(path)


def measure(path: Path) -> list[dict[str, Any]]:
    """The clips of a file as rows, by the pass that curation makes."""
    rows, scorer = [], PerceptualHash()
    for clip in VideoPass(str(path), CurateConfig(videos=str(path), preview_px=0, thumbnail_px=256)):
        f = clip.frames
        row = {"clip_id": f.clip_id, "video_id": f.video_id, "uri": path.name, "shot": clip.shot, "start": f.start}
        row |= {"end": f.end, "width": f.width, "height": f.height, "fps": f.fps} | scorer.score_one(f)
        rows.append(row)
    return rows


def remembered(path: Path, work: Path) -> list[dict[str, Any]]:
    """`measure`, or what an earlier run found in the same content with the same settings; nothing where the file is no
    video."""
    try:
        note = work / f"{identify(str(path))}.{_settings()}.rows"
        if not note.is_file():
            note.write_bytes(pickle.dumps(measure(path)))
    except UnreadableVideo as error:
        print(f"left out: {error}", file=sys.stderr)
        return []
    return [row | {"uri": path.name} for row in pickle.loads(note.read_bytes())]


@cache
def _settings() -> str:
    """A name of all that a row depends on beside the video."""
    config = CurateConfig(videos="any")
    what = [RULES, config.cuts.model_dump(), config.clips.model_dump(), weights_sha256(), PerceptualHash().definition]
    return hashlib.blake2b(json.dumps(what, sort_keys=True, default=str).encode(), digest_size=6).hexdigest()


def prepare(videos: Sequence[Path], work: Path, per_video: int) -> Iterator[tuple[Path, dict[str, Any], Copy, Path]]:
    """(video, clip, copy, its file) for some clips of at least 2 s of each video; halves for those of 4 s."""
    for video in videos:
        clips = [c for c in remembered(video, work) if c["end"] - c["start"] >= 2]
        chosen = sorted(set(np.linspace(0, len(clips) - 1, min(per_video, len(clips))).round().astype(int)))
        for clip in (clips[i] for i in chosen):
            frames: Frames = []
            for copy in [*COPIES, *(HALVES if clip["end"] - clip["start"] >= 4 else [])]:
                path = work / f"{clip['clip_id']}.{copy.name.replace(' ', '_').replace('%', 'pc')}.mkv"
                if not path.is_file():
                    frames = frames or [
                        f.rgb(LONG_SIDE)
                        for f in Decoder(str(video))
                        if clip["start"] - 1e-6 <= f.time < clip["end"] - 1e-6
                    ]
                    write(path, copy.change(frames), clip["fps"], copy)
                yield video, clip, copy, path


def grouped(rows: Sequence[dict[str, Any]], mirrored: bool = False) -> dict[str, str]:
    """The group of each clip, from the table of duplicates of a manifest of these rows."""
    scorer = PerceptualHash()
    fields = [score_field(c.name, c.type, c.description, c.unit, scorer.definition) for c in scorer.columns]
    with tempfile.TemporaryDirectory() as folder:
        manifest = Manifest(folder)
        manifest.commit(Shard("all", [], [], [], rows), pa.schema([*CLIP_IDENTITY, *fields]))
        table = duplicates.groups_of(manifest, DuplicateSettings(mirrored=mirrored), ["perceptual"])
    return dict(zip(table["clip_id"].to_pylist(), table["perceptual_group"].to_pylist(), strict=True))


def pictures(path: Path, start: float, end: float, count: int = 8) -> list[Image.Image]:
    """Frames spread evenly over a stretch of a file."""
    frames = [f for f in Decoder(str(path)) if start - 1e-6 <= f.time < end - 1e-6]
    chosen = np.linspace(0, len(frames) - 1, count).round().astype(int)
    return [Image.fromarray(frames[i].rgb(256)) for i in chosen]


class Peer:
    """A peer's signature of a clip: imagehash's pHash of evenly spread frames; alike within 10 bits on average."""

    def __init__(self, name: str, which: slice, work: Path) -> None:
        self.name, self.which, self.work = name, which, work
        self.phash = import_module("imagehash").phash

    def __call__(self, path: Path, clip: dict[str, Any]) -> np.ndarray:
        note = self.work / f"{clip['clip_id']}.phash.npy"
        if not note.is_file():
            np.save(note, [self.phash(p).hash.ravel() for p in pictures(path, clip["start"], clip["end"])])
        return np.load(note)[self.which]

    def alike(self, a: np.ndarray, b: np.ndarray) -> bool:
        """Mean of differing bits over the frames."""
        return bool((a != b).sum(axis=1).mean() <= 10)


def film(name: str, films: Sequence[str]) -> str:
    """Which film a file is cut from, as far as its name tells."""
    return next((f for f in films if name.startswith(f)), name)


def longest(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    return max(rows, key=lambda r: r["end"] - r["start"], default=None)


Made = list[tuple[Path, dict[str, Any], Copy, Path, dict[str, Any]]]


def report(videos: Sequence[Path], made: Made, args: argparse.Namespace) -> None:
    """Print recall by kind of copy, and pairs that are grouped falsely, ours beside the peers'."""
    originals = [row for video in videos for row in remembered(video, args.work)]
    folder = {video.name: video for video in videos} | {path.name: path for _, _, _, path, _ in made}
    source = {r["clip_id"]: (r["uri"], r["start"]) for r in originals}
    source |= {row["clip_id"]: (video.name, clip["start"]) for video, clip, _, _, row in made}
    peers = []
    try:
        peers.append(Peer("pHash, middle frame", slice(4, 5), args.work))
        peers.append(Peer("pHash, 8 frames", slice(None), args.work))
    except ImportError:
        print("no peers: imagehash is not installed", file=sys.stderr)

    def judged(a: dict[str, Any], b: dict[str, Any]) -> bool:
        x, y = source[a["clip_id"]], source[b["clip_id"]]
        return x != y and (x[0] == y[0] or film(x[0], args.films) != film(y[0], args.films))

    def alike(peer: Peer, a: dict[str, Any], b: dict[str, Any]) -> bool:
        return peer.alike(peer(folder[a["uri"]], a), peer(folder[b["uri"]], b))

    def line(name: str, count: int, *shares: float) -> None:
        print(f"{name:34s}{count:7d}" + "".join(f"{share:20.3f}" for share in shares), flush=True)

    print(f"{len(videos)} videos, {len(originals)} clips, {len(made)} copies")
    print(f"{'recall':34s}{'copies':>7s}{'rushes':>20s}" + "".join(f"{p.name:>20s}" for p in peers))
    hits, false, total = np.zeros(1 + len(peers)), 0, 0
    telling: list[bool] = []  # whether a copy was found of a clip that is no flat ground
    for copy in COPIES:
        copies = [(clip, row) for _, clip, c, _, row in made if c.name == copy.name]
        rows = [*originals, *(row for _, row in copies)]
        groups = grouped(rows, mirrored=copy.name == "mirrored")
        found = [groups[clip["clip_id"]] == groups[row["clip_id"]] for clip, row in copies]
        theirs = [[alike(p, clip, row) for clip, row in copies] for p in peers]
        line(copy.name, len(copies), float(np.mean(found)), *(float(np.mean(t)) for t in theirs))
        if copy.name != "5 % cropped":  # no part of the promise
            hits += np.array([sum(found), *(sum(t) for t in theirs)])
            total += len(copies)
            telling += [
                f for f, (c, _) in zip(found, copies, strict=True) if informative(np.array(c["phash"], np.uint64)).any()
            ]
        false += sum(judged(a, b) for a, b in combinations(rows, 2) if groups[a["clip_id"]] == groups[b["clip_id"]])
        if copy.name == "mirrored":
            groups = grouped(rows)
            line(
                "  not asked for",
                len(copies),
                float(np.mean([groups[c["clip_id"]] == groups[r["clip_id"]] for c, r in copies])),
            )
    line("all but the last", total, *(hits / total))
    line("  of clips with a telling hash", len(telling), float(np.mean(telling)))
    print(f"{'grouped falsely (share of pairs)':34s}{'pairs':>7s}")
    groups = grouped(originals)
    pairs = [(a, b) for a, b in combinations(originals, 2) if judged(a, b)]
    kinds = {
        "clips of one video": [(a, b) for a, b in pairs if a["uri"] == b["uri"]],
        "clips of different videos": [(a, b) for a, b in pairs if a["uri"] != b["uri"]],
    }
    for name, negatives in kinds.items():
        if not negatives:
            line(name, 0)
            continue
        ours = np.mean([groups[a["clip_id"]] == groups[b["clip_id"]] for a, b in negatives])
        line(
            name, len(negatives), float(ours), *(float(np.mean([alike(p, a, b) for a, b in negatives])) for p in peers)
        )
    halves: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for video, clip, copy, _, row in made:
        if copy in HALVES:
            halves.setdefault((video.name, clip["start"]), []).append(row)
    both = [(a, b) for a, b in (h for h in halves.values() if len(h) == 2)]
    groups = grouped([*originals, *(row for pair in both for row in pair)])
    ours = [groups[a["clip_id"]] == groups[b["clip_id"]] for a, b in both]
    shares = [float(np.mean(f)) for f in (ours, *([alike(p, a, b) for a, b in both] for p in peers)) if f]
    line("halves of one clip", len(both), *shares)
    print("halves grouped:", ", ".join(a["uri"] for (a, _), same in zip(both, ours, strict=True) if same) or "none")
    correct = int(hits[0])
    print(
        f"rushes: precision {correct / max(1, correct + false):.3f}, recall {correct / total:.3f}; false pairs: {false}"
    )


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--videos", type=known_folder, default=FOOTAGE, metavar="DIR", help="default: ../shared/videos")
    work = Path(tempfile.gettempdir()) / "rushes-duplicates"
    parser.add_argument("--work", type=Path, default=work, metavar="DIR", help="of the copies (default: %(default)s)")
    parser.add_argument("--clips", type=at_least_one, default=2, help="clips of each video that are copied")
    parser.add_argument("--films", nargs="*", default=["bbb", "sintel"], help="prefixes of files cut from one film")
    parser.add_argument("--minutes", type=float, default=60, help="stop making copies after this; run again to go on")
    args = parser.parse_args()
    videos = videos_in(parser, args.videos)
    try:
        args.work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --work: {args.work}: {error.strerror}")
    began, made = time.monotonic(), Made()
    for video, clip, copy, path in prepare(videos, args.work, args.clips):
        if row := longest(remembered(path, args.work)):
            made.append((video, clip, copy, path, row))
        if time.monotonic() - began > 60 * args.minutes:
            sys.exit(f"{len(made)} copies are made and measured; run the same command again")
    report(videos, made, args)


if __name__ == "__main__":
    main()
