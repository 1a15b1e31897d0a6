"""Real shots in small, and how a camera moves over them: what transitions are synthesised from.

A shot is a stretch of real footage without a transition, 64 x 36 pixels: of a labelled file what lies between its
labelled transitions, of any other file what neither the cascade nor PySceneDetect's content detector suspects. A
photograph is a shot of one frame. `Shots` holds a bank of them on a device and films them anew at 32 x 18.

Tensors are named by their axes: b samples, t frames, c channels (BGR), h rows, w columns.
"""

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from scenedetect.common import FrameTimecode
from scenedetect.detectors import ContentDetector
from torch import Tensor

from curation.config import CutSettings
from curation.cuts.cascade import Cascade
from curation.decode import Decoder
from curation.errors import UnreadableVideo
from curation.sources import SUFFIXES

HEIGHT, WIDTH = 18, 32  # of what the network sees
Bank = dict[str, list[np.ndarray]]  # by file: shots, BGR uint8 (t, 36, 64, 3)

_SIZE = (64, 36)  # of the shots: twice the network's, room for a camera that zooms
_LONGEST, _SHORTEST, _SHORTEST_UNLABELLED = 400, 20, 30  # frames of a shot
_MOST = 2000  # frames of an unlabelled file
_DOUBTFUL = 0.0  # log-odds from which the cascade suspects a gradual transition
_MARGIN, _CONTENT_MARGIN = 10, 2  # frames closed on each side of what the cascade, and the detector, suspects
_CONTENT = 14.0  # threshold of the content detector
_PHOTOGRAPHS = {".jpg", ".jpeg", ".png"}
_SMALLEST_PHOTOGRAPH = 150  # pixels of its shorter side; less is an icon
# Labelled files that give no shots: ramps and flat colours, and a trailer that is there twice.
NO_SHOTS = {"synthetic_fades.mp4", "three_colours.mp4", "sintel_trailer_10s.mp4"}
_UNLABELLED = {"photos_with_fades.mp4": [(525, 562)]}  # transitions that the labels lack


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


def build_bank(folders: list[Path], truth: dict[str, dict], stills: Path | None) -> Bank:
    """The shots of all videos under the folders, labelled ones by `truth`, and of the photographs under `stills`.
    Names are paths below the folder. Files that cannot be read are told of on stderr and left out."""
    bank: Bank = {}
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
    return bank | _photographs(stills) if stills else bank


def _photographs(folder: Path) -> Bank:
    bank: Bank = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in _PHOTOGRAPHS):
        picture = cv2.imread(str(path))
        if picture is not None and min(picture.shape[:2]) >= _SMALLEST_PHOTOGRAPH:
            bank[f"still {path.relative_to(folder).as_posix()}"] = [_reduced(_cropped(picture))[None]]
    return bank


def _labelled_shots(path: Path, labels: dict) -> list[np.ndarray]:
    frames = (_reduced(frame.small_bgr(256)) for frame in Decoder(str(path)))
    closed = labelled_transitions(labels) + _UNLABELLED.get(path.name, [])
    return list(stretches(frames, closed, _SHORTEST, _LONGEST))


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
    return cv2.resize(bgr, _SIZE, interpolation=cv2.INTER_AREA)


def _cropped(bgr: np.ndarray) -> np.ndarray:
    """The middle of a photograph in 16:9."""
    height, width = bgr.shape[:2]
    h, w = min(height, width * 9 // 16), min(width, height * 16 // 9)
    y, x = (height - h) // 2, (width - w) // 2
    return bgr[y : y + h, x : x + w]


class Canvas:
    """A batch of `samples` times `frames` pictures to be filled: its coordinates and its random draws, which
    `generator` decides. Shapes of draws default to one number a sample, (b,)."""

    def __init__(self, samples: int, frames: int, generator: torch.Generator) -> None:
        self.samples, self.frames, self.generator = samples, frames, generator
        self.device = generator.device
        self.time = torch.arange(frames, device=self.device)[None].float()  # (1, t)
        self.y = ((torch.arange(HEIGHT, device=self.device) + 0.5) / HEIGHT)[:, None].expand(HEIGHT, WIDTH)
        self.x = ((torch.arange(WIDTH, device=self.device) + 0.5) / WIDTH)[None].expand(HEIGHT, WIDTH)

    def part(self, samples: int) -> "Canvas":
        """A canvas for some of the samples."""
        return Canvas(samples, self.frames, self.generator)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Float of [low, high)."""
        return low + (high - low) * torch.rand(shape or self.samples, generator=self.generator, device=self.device)

    def integer(self, low: int, high: int, *shape: int) -> Tensor:
        """Float, but whole, of [low, high)."""
        size = shape or (self.samples,)
        return torch.randint(low, high, size, generator=self.generator, device=self.device).float()

    def normal(self, *shape: int) -> Tensor:
        """Gaussian noise of variance 1."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def chance(self, probability: float) -> Tensor:
        """Bool."""
        return self.uniform(0, 1) < probability

    def choice(self, odds: list[float] | Tensor, draws: int = 1) -> Tensor:
        """Indices into `odds` with replacement, int64 (b, draws)."""
        odds = torch.as_tensor(odds, device=self.device)
        return torch.multinomial(odds.expand(self.samples, -1), draws, replacement=True, generator=self.generator)


def over_pixels(x: Tensor) -> Tensor:
    """(b,) or (b, t) with axes of 1 up to (b, t, c, h, w)."""
    return x.reshape(*x.shape, *[1] * (5 - x.ndim))


def over_time(x: Tensor) -> Tensor:
    """(b, h, w) with axes of 1 up to (b, t, c, h, w)."""
    return x[:, None, None]


def eased(x: Tensor) -> Tensor:
    """0 to 1 with a slow start and end."""
    return x * x * (3 - 2 * x)


class Shots:
    """The shots of the named files of a bank on a device."""

    def __init__(self, bank: Bank, names: Iterable[str], device: str) -> None:
        files = [bank[name] for name in sorted(names)]
        shots = [shot for file in files for shot in file]
        frames = torch.from_numpy(np.concatenate(shots)).to(device)
        self._frames = frames.permute(0, 3, 1, 2).contiguous()  # uint8 (all frames, c, h, w)
        self._length = torch.tensor([len(shot) for shot in shots], device=device)
        self._start = self._length.cumsum(0) - self._length
        # a file of many shots counts for more than one of few, but less than in proportion; all stills together
        # for a quarter of the rest
        weight = torch.tensor([len(file) ** -0.5 for file in files for _ in file], device=device)
        still = self._length == 1
        if bool(still.any()) and not bool(still.all()):
            weight[still] = 0.25 * weight[~still].sum() / still.sum()
        self._weight = weight

    def drawn(self, canvas: Canvas, draws: int) -> Tensor:
        """Numbers of random shots, (b, draws)."""
        return canvas.choice(self._weight, draws)

    def filmed(self, shot: Tensor, canvas: Canvas) -> Tensor:
        """One shot a sample (b,), from a random place on, under a camera and a light of its own: float of 0 to 1,
        (b, t, c, h, w)."""
        played = self._frames[self._played(shot, canvas).flatten()].float() / 255
        seen = _through_camera(played, *_camera_path(canvas, self._length[shot] == 1), canvas)
        return _lit(_graded(_whipped(seen, canvas), canvas), canvas).clamp(0, 1)

    def _played(self, shot: Tensor, canvas: Canvas) -> Tensor:
        """The frame that is shown at each time, (b, t): to and fro, at half to five times the speed."""
        length = self._length[shot][:, None]
        speeds = torch.tensor([0.5, 1, 1, 1, 1, 1, 2, 2, 3, 5], device=canvas.device)
        speed = speeds[canvas.integer(0, len(speeds)).long()]
        at = (canvas.uniform(0, 1)[:, None] * length).long() + (canvas.time * speed[:, None]).floor().long()
        at = at % (2 * length - 2).clamp_min(1)
        at = torch.where(at >= length, 2 * length - 2 - at, at).clamp_min(0)
        return self._start[shot][:, None] + torch.minimum(at, length - 1)


def _camera_path(canvas: Canvas, still: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Zoom (share of the picture that is seen) and place (-1 to 1) along x and y, (b, t) each: a third of the cameras
    rest, the others pan, zoom, shake or pan and zoom; over most stills (b,) none rests."""
    mode = canvas.integer(0, 6)
    mode = torch.where(still & (mode < 2) & canvas.chance(0.7), mode + 2, mode)[:, None]
    pans, zooms, shakes = (mode == 2) | (mode == 5), (mode == 3) | (mode == 5), mode == 4
    share = canvas.time / (canvas.frames - 1) * canvas.uniform(0.3, 1)[:, None]

    def way(low: float, high: float, moving: Tensor) -> Tensor:
        a, z = canvas.uniform(low, high)[:, None], canvas.uniform(low, high)[:, None]
        return a + (z - a) * share * moving

    zoom = way(0.55, 1, zooms)
    zoom = torch.where((mode == 2) | shakes, zoom.clamp_max(0.8), zoom)
    noise = F.pad(canvas.normal(canvas.samples, 2, canvas.frames), (4, 4), mode="reflect")
    tremor = F.avg_pool1d(noise, 9, 1) * canvas.uniform(0.1, 1.2)[:, None, None] * shakes[:, None]
    x, y = (way(-1, 1, pans) + tremor[:, i] for i in range(2))
    return zoom, x.clamp(-1, 1), y.clamp(-1, 1)


def _through_camera(played: Tensor, zoom: Tensor, x: Tensor, y: Tensor, canvas: Canvas) -> Tensor:
    """Frames (b t, c, h, w) at twice the size under a camera: (b, t, c, h, w). Half of the samples are mirrored."""
    mirror = torch.where(canvas.chance(0.5), -1.0, 1.0)[:, None]
    zeros = torch.zeros_like(zoom)
    rows = [torch.stack([zoom * mirror, zeros, x * (1 - zoom)], -1), torch.stack([zeros, zoom, y * (1 - zoom)], -1)]
    grid = F.affine_grid(torch.stack(rows, 2).flatten(0, 1), [len(played), 3, HEIGHT, WIDTH], align_corners=False)
    pixel = zoom.flatten()[:, None] / torch.tensor([WIDTH, HEIGHT], device=zoom.device)  # half of one, in the grid
    out = torch.zeros(len(played), 3, HEIGHT, WIDTH, device=zoom.device)
    for corner in [(-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)]:  # four taps against aliasing
        tap = grid + (pixel * torch.tensor(corner, device=zoom.device))[:, None, None]
        out += F.grid_sample(played, tap, padding_mode="reflection", align_corners=False) / 4
    return out.view(canvas.samples, canvas.frames, 3, HEIGHT, WIDTH)


def _whipped(pictures: Tensor, canvas: Canvas) -> Tensor:
    """Some cameras are torn sideways by up to three widths, over the picture and its mirror image, with the blur that
    goes with it."""
    rows = canvas.chance(0.08).nonzero()[:, 0]
    if not len(rows):
        return pictures
    part, blurs = canvas.part(len(rows)), 5
    at, duration = part.integer(8, canvas.frames - 16)[:, None], part.integer(4, 13)[:, None]
    way = part.uniform(0.7, 3) * WIDTH * torch.where(part.chance(0.5), -1.0, 1.0)
    shift = eased(((part.time - at) / duration).clamp(0, 1)) * way[:, None]  # (b, t)
    speed = torch.diff(shift, prepend=shift[:, :1], dim=1).abs()
    wide = torch.cat([pictures[rows], pictures[rows].flip(-1)], -1)
    columns = torch.arange(WIDTH, device=canvas.device) + shift[:, :, None]  # (b, t, w)
    seen = torch.zeros_like(pictures[rows])
    for k in range(blurs):
        column = (columns + speed[:, :, None] * (k / blurs - 0.4)).round().long() % (2 * WIDTH)
        seen += wide.gather(-1, column[:, :, None, None].expand_as(seen)) / blurs
    return pictures.index_put((rows,), seen)


def _graded(pictures: Tensor, canvas: Canvas) -> Tensor:
    """Another exposure, contrast and tint."""
    gain, gamma = canvas.uniform(0.6, 1.25), torch.exp(canvas.uniform(-0.4, 0.4))
    tint = canvas.uniform(0.85, 1.15, canvas.samples, 1, 3, 1, 1)
    return pictures.clamp_min(0) ** over_pixels(gamma) * over_pixels(gain) * tint


def _lit(pictures: Tensor, canvas: Canvas) -> Tensor:
    """In some shots the light changes, at once or within 40 frames."""
    at, duration = canvas.integer(0, canvas.frames)[:, None], canvas.integer(2, 40)[:, None]
    done = ((canvas.time - at) / duration).clamp(0, 1)
    before, after = canvas.uniform(0.45, 1.2)[:, None], canvas.uniform(0.45, 1.2)[:, None]
    level = torch.where(canvas.chance(0.12)[:, None], before + (after - before) * done, 1.0)
    return pictures * over_pixels(level)
