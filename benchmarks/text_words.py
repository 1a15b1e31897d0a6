"""Words read from text in many scripts: false words, kept words, today's rule next to confidence alone, in one run.

    python benchmarks/text_words.py [FOLDER] [--fonts DIR...] [--frames N] [--seed N] [--half fit|judge|both]

Each frame is a moment of a video of FOLDER (without one: ../shared/videos) on which no text is found, under one or two
lines of rendered text: captions and titles in many scripts, fonts, sizes and colours, level or tilted, and Latin text
that is vertical, upside down or mirrored. Frames are compressed as JPEG. The fonts are those of the system, of
matplotlib, and of --fonts; a script without a font is left out by name. Half of the phrases and fonts were used to
choose the thresholds (`fit`), the other half were not (`judge`, the default).

A reported word is true if it was drawn, letter for letter, upper and lower case aside. `confidence` keeps every line
that EasyOCR reads with 0.3 or more, as version 3 of the score did; `agreement` is the rule of the score.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from fontTools.ttLib import TTCollection, TTFont
from PIL import Image, ImageDraw, ImageFont

from benchmarks.arguments import FOOTAGE, at_least_one, known_folder, parser_of, videos_in
from curation.config import CurateConfig
from curation.engine import VideoPass
from curation.errors import UnreadableVideo
from curation.scores.text import Text

SIZE = (640, 240)  # width and height of a frame
UNSURE = 0.3
PHRASES = {
    "English": "Never trust a cat|THE END|Breaking News|Directed by John Smith|Good morning, world|SUMMER SALE|"
    "Once upon a time|Live from Paris|NO EXIT|Episode Two|Thank you for watching|Hollywood|Open Movie Project|"
    "Keep Left|Grand Prix|What are you doing here?|I don't know|EMERGENCY|Weather Forecast|Press any key|Taxi|"
    "HOTEL PARK|Speed limit|Made in Japan|A film by|Written and produced|Coffee Shop|POLICE|See you tomorrow|OPEN",
    "numbers": "1906|12:45|Channel 4|F1 2024|A380|Boeing 747|3D|Area 51|24 hours|50%|Route 66|1 of 3|2001|10 km|"
    "Agent 007|MP4|Windows 95|Take 12|NASA 1969|Gate B7",
    "German, French, Polish": "Größe und Höhe|à bientôt|Żółta łódź|Straßenbahn|Où êtes-vous|Übergröße|"
    "Événement spécial|Dziękuję bardzo|für Mädchen|Łódź|garçon français|Öffnungszeiten",
    "Cyrillic": "ПРИВЕТ МИР|Новости сегодня|МОСКВА|конец фильма|Большой город|СТОП|Доброе утро|Режиссёр|Серия вторая|"
    "ВНИМАНИЕ|РЕСТОРАН|Спасибо за просмотр|Київ|България|ТЕАТР|Погода|сварка|ВХОД|Метро|Ресторан Мама|СССР|Нева|"
    "тот самый|КАССА|АВТОР СЦЕНАРИЯ|НОВОСТИ|Хорватия|Вокзал|Он не знает|ВЫХОД|Рассвет|МОРЕ",
    "Greek": "ΤΕΛΟΣ|Καλημέρα κόσμε|η ταινία μας|ΑΘΗΝΑ|Ευχαριστώ|ΕΙΔΗΣΕΙΣ|ΝΕΑ|Ελλάδα|ΜΟΥΣΙΚΗ|ΤΑΞΙ|Θάλασσα|ΚΑΦΕ|"
    "ΑΣΤΥΝΟΜΙΑ|Πώς είσαι",
    "Hebrew": "שלום עולם|סוף הסרט|חדשות הערב|תודה רבה|ירושלים|בוקר טוב|כניסה|תל אביב",
    "Arabic": "مرحبا بالعالم|نهاية الفيلم|أخبار اليوم|شكرا جزيلا|القاهرة|صباح الخير|سلام دنیا|ممنوع التدخين",
    "Chinese": "今天新闻|你好世界|电影结束|谢谢观看|北京大学|出口|歡迎光臨|第十二集|小心地滑|中国|导演王小明|一日三餐",
    "Japanese": "こんにちは世界|東京タワー|おわり|ニュース|ありがとう|カタカナ|スタート|さようなら|トイレ|次回予告",
    "Korean": "안녕하세요|대한민국|오늘의 뉴스|감사합니다|영화 끝|서울|출구|사랑해요",
    "Devanagari": "नमस्ते दुनिया|समाचार|धन्यवाद|दिल्ली|फिल्म समाप्त|सुप्रभात|भारत|प्रवेश",
    "Thai": "สวัสดีชาวโลก|ข่าววันนี้|ขอบคุณ|กรุงเทพ|จบ|ทางออก|อรุณสวัสดิ์|ห้ามเข้า",
    "Bengali": "হ্যালো বিশ্ব|খবর|ধন্যবাদ|ঢাকা|শুভ সকাল|বাংলা",
    "Tamil": "வணக்கம்|செய்திகள்|நன்றி|சென்னை|தமிழ்|வெளியே",
    "Telugu": "నమస్కారం|వార్తలు|ధన్యవాదాలు|తెలుగు",
    "Georgian": "გამარჯობა|ახალი ამბები|მადლობა|თბილისი|დასასრული|საქართველო",
    "Armenian": "Բարեւ աշխարհ|Նորություններ|Երեւան|ՎԵՐՋ|Շնորհակալություն|ՀԱՅԱՍՏԱՆ",
    "Ethiopic": "ሰላም ዓለም|ዜና|አመሰግናለሁ|አዲስ አበባ",
    "Khmer, Lao, Burmese": "សួស្តី|ពិភពលោក|ສະບາຍດີ|ຂອບໃຈ|မင်္ဂလာပါ|ကျေးဇူး",
}
LATIN = ("English", "numbers", "German, French, Polish")
TURNED = {
    "turned left": lambda page: np.rot90(page, 1),
    "turned right": lambda page: np.rot90(page, -1),
    "upside down": lambda page: np.rot90(page, 2),
    "mirrored": lambda page: page[:, ::-1],
}
BESIDE = ("Cyrillic", "Arabic", "Chinese", "Thai")
VERTICAL = ("Chinese", "Japanese", "Korean")


@dataclass(frozen=True, slots=True)
class Sample:
    """A frame, RGB uint8, and the phrases drawn on it whose words should be read."""

    kind: str
    phrases: tuple[str, ...]
    frame: np.ndarray


def half_of(name: str) -> str:
    """The half that a phrase or a font belongs to."""
    return "fit" if hashlib.sha256(name.encode()).digest()[0] % 2 else "judge"


@lru_cache
def coverage(path: Path) -> frozenset[int]:
    """Code points that a font file has."""
    font = TTCollection(path).fonts[0] if path.suffix == ".ttc" else TTFont(path, lazy=True)
    return frozenset(font.getBestCmap() or ())


def font_files(folders: Sequence[Path]) -> list[Path]:
    """Font files of the system, of matplotlib, and of the folders, one per file name."""
    import matplotlib

    roots = [Path("/usr/share/fonts"), Path(matplotlib.get_data_path()) / "fonts" / "ttf", *folders]
    found = {p.name: p for root in roots for p in sorted(root.rglob("*")) if p.suffix in {".ttf", ".otf", ".ttc"}}
    hidden = ("Symbol", "STIX", "cm", "Math", "Display", "LastResort")
    return [found[name] for name in sorted(found) if not name.startswith(hidden) and "Display" not in name]


def fonts_for(phrase: str, files: Sequence[Path], half: str) -> list[Path]:
    """Fonts of a half that have every character of a phrase; those of both halves where the half has none."""
    able = [p for p in files if {ord(c) for c in phrase} <= coverage(p)]
    return [p for p in able if half in ("both", half_of(p.name))] or able


def line(phrase: str, font: Path, height: int, stacked: bool) -> np.ndarray:
    """A phrase as coverage, float32 in 0..1: in a row, or with one character below the other."""
    face = ImageFont.truetype(str(font), height)
    rows = [c for c in phrase if c.strip()] if stacked else [phrase]
    page = Image.new("L", (int(face.getlength(phrase)) + 4 * height, int(1.25 * height * len(rows)) + 2 * height))
    for i, row in enumerate(rows):
        ImageDraw.Draw(page).text((page.width / 2, height + 1.15 * height * i), row, 255, face, anchor="mm")
    ys, xs = np.nonzero(np.asarray(page))
    if not len(ys):
        return np.zeros((1, 1), np.float32)
    part = np.asarray(page)[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    return np.pad(part, 5).astype(np.float32) / 255


def drawn(frame: np.ndarray, cover: np.ndarray, centre: tuple[float, float], angle: float, rng: np.random.Generator):
    """The frame under a line: white or coloured with a dark rim, or on a plate."""
    height, width = frame.shape[:2]
    fit = min(1.0, 0.9 * width / cover.shape[1], 0.9 * height / cover.shape[0])
    if fit < 1:
        cover = cv2.resize(cover, None, fx=fit, fy=fit, interpolation=cv2.INTER_AREA)
    h, w = cover.shape
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), angle, 1.0)
    matrix[:, 2] += (centre[0] * width - w / 2, centre[1] * height - h / 2)
    style = rng.random()
    ink = np.array([(255, 255, 255), (255, 230, 60), (250, 250, 250), (20, 20, 20)][int(rng.integers(4))])
    ground = 255 - ink
    rim = np.ones_like(cover) if style < 0.35 else np.clip(cv2.dilate(cover, np.ones((3, 3))) * 1.0, 0, 1)
    out = frame.astype(np.float32)
    for layer, colour in ((rim, ground), (cover, ink)):
        alpha = cv2.warpAffine(np.ascontiguousarray(layer), matrix, (width, height))[..., None]
        out = out * (1 - alpha) + colour * alpha
    jpeg = cv2.imencode(
        ".jpg", out[..., ::-1].round().astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(55, 96))]
    )[1]
    return np.ascontiguousarray(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))[..., ::-1])


def backgrounds(videos: Sequence[Path], scorer: Text) -> list[np.ndarray]:
    """A part of one frame of each video on which no text is found."""
    found = []
    for path in videos:
        try:
            clip = next(iter(VideoPass(str(path), CurateConfig(videos=str(path))))).frames
        except (UnreadableVideo, StopIteration):
            continue
        frame = cv2.resize(clip.frames[1], (SIZE[0], SIZE[0] * 9 // 16))[: SIZE[1]]
        if not scorer.detect([frame])[0]:
            found.append(np.ascontiguousarray(frame))
    return found


def kinds() -> Iterator[tuple[str, str, str]]:
    """(name, script, arrangement) of every kind of sample."""
    for script in PHRASES:
        yield script, script, "level"
    for name in TURNED:
        yield f"English, {name}", "English", name
    for script in BESIDE:
        yield f"English and {script}", script, "beside English"
    for script in ("English", *VERTICAL):
        yield f"{script}, vertical", script, "stacked"


def samples(half: str, grounds: Sequence[np.ndarray], files: Sequence[Path], count: int, seed: int) -> Iterator[Sample]:
    """Frames of every kind, drawn from the seed."""
    latin = [p for p in PHRASES["English"].split("|") if half in ("both", half_of(p))]
    able_latin = fonts_for("".join(latin), files, half)
    for name, script, arrangement in kinds():
        rng = np.random.default_rng([seed, *name.encode()])
        phrases = [p for p in PHRASES[script].split("|") if half in ("both", half_of(p))]
        able = {p: fonts_for(p, files, half) for p in phrases}
        phrases = [p for p in phrases if able[p]]
        if not phrases:
            print(f"left out: {name}, for which there is no font")
            continue
        for i in range(count):
            frame = grounds[int(rng.integers(len(grounds)))]
            chosen = phrases[i % len(phrases)]
            font = able[chosen][int(rng.integers(len(able[chosen])))]
            largest = 48 if arrangement == "beside English" else 60
            height = round(float(np.exp(rng.uniform(np.log(18), np.log(largest)))))
            cover = line(chosen, font, height, arrangement == "stacked")
            cover = np.ascontiguousarray(TURNED.get(arrangement, lambda page: page)(cover))
            angle = float(rng.uniform(-10, 10)) if arrangement == "level" and rng.random() < 0.2 else 0.0
            centre = (float(rng.uniform(0.45, 0.55)), float(rng.uniform(0.4, 0.6)))
            if arrangement != "beside English":
                yield Sample(name, (chosen,), drawn(frame, cover, centre, angle, rng))
                continue
            english = latin[int(rng.integers(len(latin)))]
            font = able_latin[int(rng.integers(len(able_latin)))]
            below = drawn(frame, line(english, font, 24, False), (0.5, 0.82), 0.0, rng)
            yield Sample(name, (english,), drawn(below, cover, (0.5, 0.35), 0.0, rng))


def words_of(text: str) -> list[str]:
    """Words of a line, lower case, punctuation at their ends removed; lone marks are no words."""
    return [w for w in (re.sub(r"^\W+|\W+$", "", part) for part in text.casefold().split()) if w]


@dataclass(slots=True)
class Tally:
    """Words drawn, kept and false, and frames with a false word, of one kind and one rule."""

    drawn: int = 0
    kept: int = 0
    false: int = 0
    frames: int = 0

    def add(self, expected: list[str], got: list[str]) -> list[str]:
        """Count one frame; returns its false words."""
        false = [word for word in got if word not in expected]
        self.drawn += len(expected)
        self.kept += sum(word in got for word in expected)
        self.false += len(false)
        self.frames += bool(false)
        return false

    @property
    def precision(self) -> str:
        """Share of the reported words that are true."""
        return f"{self.kept / (self.kept + self.false):7.1%}" if self.kept + self.false else f"{'':7s}"


def alone(scorer: Text, frame: np.ndarray, boxes: Sequence[np.ndarray]) -> list[str]:
    """Lines by EasyOCR's confidence alone."""
    return [line.text for line in scorer.lines(frame, boxes) if line.confidence >= UNSURE]


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("folder", nargs="?", type=known_folder, default=FOOTAGE, help="of videos")
    parser.add_argument("--fonts", type=known_folder, nargs="*", default=[], metavar="DIR", help="folders of fonts")
    parser.add_argument("--frames", type=at_least_one, default=20, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--half", choices=["fit", "judge", "both"], default="judge", help="of phrases and fonts")
    parser.add_argument("--show", action="store_true", help="print every false word of the score's rule")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    scorer = Text()
    scorer.load()
    grounds = backgrounds(videos_in(parser, args.folder), scorer)
    if not grounds:
        parser.error(f"no video in {args.folder} has a frame without text")
    rules = {"confidence": alone, "agreement": Text.read}
    tallies: dict[str, dict[str, Tally]] = {name: defaultdict(Tally) for name in rules}
    for sample in samples(args.half, grounds, font_files(args.fonts), args.frames, args.seed):
        boxes = scorer.detect([sample.frame])[0]
        for name, rule in rules.items():
            lines = rule(scorer, sample.frame, boxes) if len(boxes) else []
            expected = words_of(" ".join(sample.phrases))
            false = tallies[name][sample.kind].add(expected, words_of(" ".join(lines)))
            if args.show and false and name == "agreement":
                print(f"  {sample.kind}: {' '.join(false)}  for  {' '.join(sample.phrases)}", flush=True)
    report(tallies)


def report(tallies: dict[str, dict[str, Tally]]) -> None:
    """One line a kind: what each rule kept of the drawn words, its false words, and its precision."""
    head = "".join(f"{name:>14s}: kept  false  precision" for name in tallies)
    print(f"{'':28s}{'drawn':>6s}{head}")
    for kind, first in next(iter(tallies.values())).items():
        columns = "".join(
            f"{kinds[kind].kept:20d}{kinds[kind].false:7d}  {kinds[kind].precision:>9s}" for kinds in tallies.values()
        )
        print(f"{kind:28s}{first.drawn:6d}{columns}", flush=True)


if __name__ == "__main__":
    main()
