"""Text area on frames that nothing was chosen on: the cascade's error against full CRAFT, by kind of frame, in one run.

    python benchmarks/text_held_out.py FOLDER... [--reference FILE.json] [--minutes 10] [--seed 0] [--clips 20]
                                       [--photographs 20] [--drawn 40] [--worst 10]

Three kinds of clips, all drawn from the seed: *footage*, moments of the folders' clips that are neither first, middle
nor last (those were seen while the cascade was built); *photographs*, the pictures that scikit-image, scikit-learn and
matplotlib bring along, as they are; *drawn*, both of these under rendered text: lines of many sizes, fonts, scripts,
colours, angles and degrees of blur, kept, moved or changed over three frames, and compressed as JPEG. Frames have a
long side of 960 px at most. Full CRAFT (EasyOCR's, canvas 2560) judges them as they are; the others see what the
scorers see, 640 px. Frames on which the cascade is more than 0.01 off are measured by full CRAFT at that size, too: how
much is owed to the size alone, and how much to the cascade? `--reference` keeps full
CRAFT's areas between runs; it measures what they lack for `--minutes`, and clips still incomplete are left out. Times
are of the processor, for one clip. OpenCV 5 draws the Chinese and Japanese lines.
"""

import argparse
import hashlib
import importlib.util
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from curation.config import CurateConfig, Profile, TextSettings
from curation.engine import VideoPass
from curation.errors import UnreadableVideo
from curation.scores.text import Text, union_area

RULE, FULL_PX, LARGEST_PX, SCORED_PX = 0.07, 2560, 960, 640
SUFFIXES = {".mp4", ".webm", ".mov", ".mpg", ".mpeg", ".ogv", ".avi", ".mkv"}
WORDS = {
    "latin": "Rushes the quick brown fox NEWS Episode 12 don't forget 1986 Live from Paris (c) www.example.org Größe",
    "cyrillic": "Новости сегодня большой город Москва конец фильма серия",
    "greek": "ΤΕΛΟΣ καλημέρα κόσμε η ταινία μας",
    "hebrew": "שלום עולם סוף הסרט",
    "arabic": "مرحبا بالعالم نهاية الفيلم",
    "chinese": "今天新闻 你好世界 第十二集 电影结束 字幕",
    "japanese": "こんにちは世界 ニュース 東京タワー おわり",
}
PHOTOGRAPHS = {
    "skimage": "data/{coffee,camera,astronaut,motorcycle_left,text,page,moon,rocket,horse,chelsea,coins,brick,gravel}",
    "sklearn": "datasets/images/{china,flower}",
    "matplotlib": "mpl-data/sample_data/{grace_hopper,logo2}",
}
Frames = list[np.ndarray]


@dataclass(frozen=True, slots=True)
class Sample:
    """A clip of one to three frames, RGB uint8, and what it is."""

    kind: str
    name: str
    frames: Frames


def sized(frame: np.ndarray, long_side: int) -> np.ndarray:
    """The frame with its long side at most `long_side`."""
    factor = long_side / max(frame.shape[:2])
    return cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else frame


def footage(folders: Sequence[Path], count: int, rng: np.random.Generator) -> list[Sample]:
    """Other moments of clips: one clip a video, then further ones, until there are enough."""
    of_video: list[list[Sample]] = []
    for path in sorted(p for folder in folders for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        config = CurateConfig(videos=str(path), profile=Profile.svd, thumbnail_px=LARGEST_PX)
        try:
            clips = [c.frames for c in VideoPass(str(path), config)]  # the profile only adds frames between
        except UnreadableVideo as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        kept = [
            Sample("footage", f"{path.name} {c.start:.2f}", [c.uniform[i] for i in (1, 2, 5)])
            for c in clips
            if c.end - c.start >= 2
        ]
        of_video.append([kept[i] for i in rng.permutation(len(kept))[:4]])
    order = rng.permutation(len(of_video))
    return [of_video[i][turn] for turn in range(4) for i in order if turn < len(of_video[i])][:count]


def photographs(count: int) -> list[Sample]:
    """Pictures that installed packages bring along."""
    found = []
    for package, pattern in PHOTOGRAPHS.items():
        folder, names = pattern.rsplit("/", 1)
        spec = importlib.util.find_spec(package)
        for name in names.strip("{}").split(","):
            for root in spec.submodule_search_locations or [] if spec else []:
                for path in sorted((Path(root) / folder).glob(f"{name}.*")):
                    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
                    if picture is not None:
                        rgb = sized(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), LARGEST_PX)
                        found.append(Sample("photographs", path.name, [rgb]))
    return found[:count]


def fonts() -> list[Path]:
    """matplotlib's fonts for text, DejaVu's families and Computer Modern."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return sorted(
        p for p in folder.glob("*.ttf") if p.stem in {"cmr10", "cmss10", "cmtt10"} or p.stem.startswith("DejaVu")
    )


def line(script: str, text: str, height: int, rng: np.random.Generator) -> np.ndarray:
    """A line of text as coverage, float32 in 0..1, about `height` px high."""
    if script in {"chinese", "japanese"}:
        face: Any = cv2.FontFace("uni")  # type: ignore[attr-defined]
        page = np.zeros((2 * height + 8, (height + 4) * (len(text) + 2)), np.uint8)
        cv2.putText(page, text, (height // 2, 3 * height // 2), 255, face, height)  # type: ignore[call-overload]
        return _tight(page)
    choice = fonts() if script == "latin" else [p for p in fonts() if p.stem == "DejaVuSans"]
    font = ImageFont.truetype(str(choice[rng.integers(len(choice))]), height)
    left, top, right, bottom = font.getbbox(text, stroke_width=1)
    page = Image.new("L", (int(right - left) + 8, int(bottom - top) + 8))
    ImageDraw.Draw(page).text((4 - left, 4 - top), text, 255, font)
    return _tight(np.asarray(page))


def _tight(page: np.ndarray) -> np.ndarray:
    ys, xs = np.nonzero(page)
    part = page[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] if len(ys) else page
    return np.pad(part, 4).astype(np.float32) / 255


@dataclass(slots=True)
class Written:
    """A line to be drawn: its coverage, colour, centre as shares of the frame, angle and opacity."""

    cover: np.ndarray
    colour: np.ndarray
    centre: np.ndarray
    angle: float
    opacity: float
    plate: bool


def written(size: tuple[int, int], rng: np.random.Generator) -> Written:
    """A random line for a frame (height, width): from captions of 2 % of its height to titles of a quarter."""
    script = str(rng.choice(list(WORDS), p=[0.58, 0.07, 0.07, 0.07, 0.07, 0.07, 0.07]))
    words = WORDS[script].split()
    first, count = int(rng.integers(len(words))), int(rng.integers(1, 7))
    height = max(8, round(size[0] * float(np.exp(rng.uniform(np.log(0.02), np.log(0.25))))))
    cover = line(script, " ".join(words[first : first + count]), height, rng)
    fit = 0.95 * size[1] / cover.shape[1]
    if fit < 1:
        cover = cv2.resize(cover, None, fx=fit, fy=fit, interpolation=cv2.INTER_AREA)
    if rng.random() < 0.2:
        cover = cv2.GaussianBlur(cover, (0, 0), max(0.5, rng.uniform(0.02, 0.08) * cover.shape[0]))
    colour = rng.choice([0, 255], 3) if rng.random() < 0.5 else rng.integers(0, 256, 3)
    if rng.random() < 0.4:
        colour = np.full(3, 255)
    angle = float(rng.choice([0.0, 0.0, 0.0, rng.uniform(-15, 15), rng.uniform(-60, 60), 90.0]))
    opacity = float(rng.choice([1.0, 1.0, rng.uniform(0.35, 1)]))
    return Written(cover, colour.astype(np.float32), rng.uniform(0.1, 0.9, 2), angle, opacity, bool(rng.random() < 0.2))


def drawn_on(frame: np.ndarray, lines: Sequence[Written]) -> np.ndarray:
    """The frame under the lines."""
    out, (height, width) = frame.astype(np.float32), frame.shape[:2]
    for each in lines:
        h, w = each.cover.shape
        matrix = cv2.getRotationMatrix2D((w / 2, h / 2), each.angle, 1.0)
        matrix[:, 2] += each.centre * (width, height) - (w / 2, h / 2)
        layers = [(each.cover, each.colour)]
        if each.plate:
            layers.insert(0, (np.ones_like(each.cover), 255 - each.colour))
        for cover, colour in layers:
            alpha = each.opacity * cv2.warpAffine(cover, matrix, (width, height))[..., None]
            out = out * (1 - alpha) + colour * alpha
    return np.clip(np.round(out), 0, 255).astype(np.uint8)


def drawn(bases: Sequence[Sample], count: int, rng: np.random.Generator) -> Iterator[Sample]:
    """Clips with text over others' frames: it stays, moves, or another follows."""
    for i in range(count):
        base = bases[int(rng.integers(len(bases)))]
        frames = [base.frames[min(j, len(base.frames) - 1)] for j in range(3)]
        lines = [written(frames[0].shape[:2], rng) for _ in range(int(rng.integers(1, 5)))]
        change, quality, out = str(rng.choice(["stays", "moves", "changes"])), int(rng.integers(40, 96)), []
        for j, frame in enumerate(frames):
            if j and change == "moves":
                for each in lines:
                    each.centre = np.clip(each.centre + rng.uniform(-0.1, 0.1, 2), 0.05, 0.95)
            if j and change == "changes":
                lines = [written(frame.shape[:2], rng) for _ in range(int(rng.integers(0, 4)))]
            jpeg = cv2.imencode(".jpg", drawn_on(frame, lines)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            out.append(np.ascontiguousarray(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))[..., ::-1]))
        yield Sample("drawn", f"drawn {i} ({change}) on {base.name}", out)


class Reference:
    """Full CRAFT's areas, kept in a file by the pictures' content."""

    def __init__(self, path: Path | None, minutes: float) -> None:
        self.path, self.until = path, time.monotonic() + 60 * minutes
        self.areas: dict[str, float] = json.loads(path.read_text()) if path and path.is_file() else {}
        self.craft = Text(TextSettings(method="craft", canvas_px=FULL_PX, recognise=False))
        self.craft.load()

    def of(self, frames: Frames) -> list[float] | None:
        """The areas of frames; None where one is not known and there is no time left."""
        out = []
        for frame in frames:
            key = hashlib.sha256(frame.tobytes()).hexdigest()[:24]
            if key not in self.areas:
                if time.monotonic() > self.until:
                    return None
                self.areas[key] = union_area(self.craft.detect([frame])[0], frame.shape)
                if self.path:
                    self.path.write_text(json.dumps(self.areas, indent=0))
            out.append(self.areas[key])
        return out


def areas_of(scorer: Text, frames: Frames) -> list[float]:
    """The share of each frame that boxes cover."""
    return [union_area(boxes, f.shape) for boxes, f in zip(scorer.detect(frames), frames, strict=True)]


def report(name: str, kind: str, seconds: Sequence[float], ours: list[list[float]], full: list[list[float]]) -> None:
    """One line: time, error of each frame, agreement on the rule, clip by clip."""
    error = np.abs(np.concatenate([np.subtract(a, b) for a, b in zip(ours, full, strict=True)]))
    same = np.mean([(max(a) > RULE) == (max(b) > RULE) for a, b in zip(ours, full, strict=True)])
    figures = f"{np.mean(seconds):9.2f}{error.mean():12.4f}{np.percentile(error, 95):9.4f}{error.max():9.4f}"
    print(f"{name:18s}{kind:14s}{error.size:7d}{figures}{(error > 0.01).sum():7d}{same:11.1%}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="videos, searched recursively")
    parser.add_argument("--reference", type=Path, help="keeps full CRAFT's areas between runs")
    parser.add_argument("--minutes", type=float, default=10, help="for full CRAFT on what the reference lacks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=int, default=20, help="of footage")
    parser.add_argument("--photographs", type=int, default=20)
    parser.add_argument("--drawn", type=int, default=40, help="clips under rendered text")
    parser.add_argument("--worst", type=int, default=10, help="frames of the largest error to name")
    parser.add_argument("--only-reference", action="store_true", help="measure by full CRAFT and stop")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rng = np.random.default_rng(args.seed)
    bases = [*footage(args.folders, args.clips, rng), *photographs(args.photographs)]
    samples = [*bases, *drawn(bases, args.drawn, rng)]
    reference = Reference(args.reference, args.minutes)
    known = {i: areas for i in rng.permutation(len(samples)) if (areas := reference.of(samples[i].frames)) is not None}
    judged = [(samples[i], known[i]) for i in sorted(known)]
    print(f"{len(judged)} clips, {sum(len(a) for _, a in judged)} frames; {len(samples) - len(judged)} clips left out")
    if args.only_reference or not judged:
        return
    head = f"{'s a clip':>9s}{'mean error':>12s}{'95 %':>9s}{'max':>9s}{'>0.01':>7s}{'7 % rule':>11s}"
    print(f"{'':32s}{'frames':>7s}{head}")
    small = [[sized(f, SCORED_PX) for f in s.frames] for s, _ in judged]
    for name, settings in {
        "cascade": TextSettings(recognise=False),
        "RapidOCR alone": TextSettings(method="light", recognise=False),
    }.items():
        scorer = Text(settings)
        scorer.load()
        seconds, found = [], []
        for frames in small:
            began = time.process_time()
            found.append(areas_of(scorer, frames))
            seconds.append(time.process_time() - began)
        for kind in ["footage", "photographs", "drawn", "all"]:
            rows = [i for i, (s, _) in enumerate(judged) if kind in (s.kind, "all")]
            if rows:
                report(name, kind, [seconds[i] for i in rows], [found[i] for i in rows], [judged[i][1] for i in rows])
        if name == "cascade":
            explain(judged, small, found, reference, args.worst)


def explain(
    judged: Sequence[tuple[Sample, list[float]]],
    small: Sequence[Frames],
    found: list[list[float]],
    reference: Reference,
    worst: int,
) -> None:
    """Say what is owed to the size of the frames, and name the largest errors."""
    lines: list[tuple[float, str]] = []
    owed = measured = 0
    for (sample, full), frames, ours in zip(judged, small, found, strict=True):
        for at, (a, b) in enumerate(zip(ours, full, strict=True)):
            if abs(a - b) <= 0.01:
                continue
            sized_alike = reference.of([frames[at]])
            text = f"cascade {a:.4f}, full CRAFT {b:.4f}"
            if sized_alike:
                measured += 1
                owed += abs(a - sized_alike[0]) <= 0.01
                text += f", at {SCORED_PX} px {sized_alike[0]:.4f}"
            lines.append((abs(a - b), f"{text}: frame {at} of {sample.name}"))
    print(
        f"{len(lines)} frames above 0.01; of {measured} measured at {SCORED_PX} px, {owed} are owed to that size alone"
    )
    for error, text in sorted(lines, reverse=True)[:worst]:
        print(f"  {error:.4f}  {text}", flush=True)


if __name__ == "__main__":
    main()
