"""Real shots in small, and how a camera moves over them: what transitions are synthesised from.

`bank` makes a bank of them; `Shots` holds it on a device and films it anew at 32 x 18.

Tensors are named by their axes: b samples, t frames, c channels (BGR), h rows, w columns.
"""

import math
from collections.abc import Iterable
from itertools import permutations
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

HEIGHT, WIDTH = 18, 32  # of what the network sees
Bank = dict[str, list[np.ndarray]]  # by file: shots, BGR uint8 (t, 36, 64, 3)

SHOT_HEIGHT, SHOT_WIDTH = 36, 64  # of the shots: twice the network's, room for a camera that zooms
_QUALITY = 93  # of the bank's JPEG


def save(bank: Bank, path: Path) -> None:
    """Write a bank: each shot as one JPEG, its frames below each other."""
    strips = {}
    for name, shots in bank.items():
        for i, shot in enumerate(shots):
            strip = shot.reshape(-1, SHOT_WIDTH, 3)
            strips[f"{name}/{i}"] = cv2.imencode(".jpg", strip, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    np.savez(path, allow_pickle=False, **strips)


def load(path: Path) -> Bank:
    """Read what `save` wrote."""
    bank: Bank = {}
    with np.load(path) as strips:
        for key in strips.files:
            strip = np.asarray(cv2.imdecode(strips[key], cv2.IMREAD_COLOR))
            bank.setdefault(key.rpartition("/")[0], []).append(strip.reshape(-1, SHOT_HEIGHT, SHOT_WIDTH, 3))
    return bank


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
        seen = _through_camera(played, _camera_path(canvas, self._length[shot] == 1), canvas)
        return _lit(_graded(_whipped(seen, canvas), canvas), canvas).clamp(0, 1)

    def _played(self, shot: Tensor, canvas: Canvas) -> Tensor:
        """The frame that is shown at each time, (b, t): to and fro, at half to eight times the speed."""
        length = self._length[shot][:, None]
        speeds = torch.tensor([0.5, 1, 1, 1, 1, 1, 2, 2, 3, 5, 8], device=canvas.device)
        speed = speeds[canvas.integer(0, len(speeds)).long()]
        at = (canvas.uniform(0, 1)[:, None] * length).long() + (canvas.time * speed[:, None]).floor().long()
        at = at % (2 * length - 2).clamp_min(1)
        at = torch.where(at >= length, 2 * length - 2 - at, at).clamp_min(0)
        return self._start[shot][:, None] + torch.minimum(at, length - 1)


def _camera_path(canvas: Canvas, still: Tensor) -> Tensor:
    """Affine maps (b, t, 2, 3) from what is seen to the shot, both of -1 to 1: a third of the cameras rest, the others
    pan, zoom, shake, or pan and zoom; over most stills (b,) none rests. Some turn as well; half are mirrored."""
    mode = canvas.integer(0, 6)
    mode = torch.where(still & (mode < 2) & canvas.chance(0.7), mode + 2, mode)[:, None]
    pans, zooms, shakes = (mode == 2) | (mode == 5), (mode == 3) | (mode == 5), mode == 4
    quick = torch.where(canvas.chance(0.2), canvas.uniform(2, 5), canvas.uniform(0.3, 1))[:, None]
    share = (canvas.time / (canvas.frames - 1) * quick).clamp_max(1)

    def way(low: float, high: float, moving: Tensor) -> Tensor:
        a, z = canvas.uniform(low, high)[:, None], canvas.uniform(low, high)[:, None]
        return a + (z - a) * share * moving

    zoom = way(0.4, 1, zooms)
    zoom = torch.where((mode == 2) | shakes, zoom.clamp_max(0.8), zoom)
    x, y = (way(-1, 1, pans) for _ in range(2))
    tremor = _smooth(canvas.normal(canvas.samples, 2, canvas.frames), 9) * shakes[:, None]
    tremor = tremor * canvas.uniform(0.1, 1.2)[:, None, None]
    x, y = ((v + tremor[:, i]).clamp(-1, 1) * (1 - zoom) for i, v in enumerate((x, y)))
    turn = canvas.uniform(-1, 1)[:, None] * share * canvas.chance(0.12)[:, None]
    across, along = torch.sin(turn) * zoom, torch.cos(turn) * zoom
    mirror = torch.where(canvas.chance(0.5), -1.0, 1.0)[:, None]
    rows = [(along * mirror, -across * HEIGHT / WIDTH, x), (across * mirror * WIDTH / HEIGHT, along, y)]
    return torch.stack([torch.stack(row, -1) for row in rows], 2)


def _smooth(noise: Tensor, width: int) -> Tensor:
    """Noise (b, n, t) averaged over so many frames."""
    return F.avg_pool1d(F.pad(noise, (width // 2, width // 2), mode="reflect"), width, 1)


def _through_camera(played: Tensor, path: Tensor, canvas: Canvas) -> Tensor:
    """Frames (b t, c, h, w) at twice the size under a camera's `path`: (b, t, c, h, w). Some are bent besides."""
    path = path.flatten(0, 1)
    grid = F.affine_grid(path, [len(played), 3, HEIGHT, WIDTH], align_corners=False)
    grid = _bent(grid.view(canvas.samples, canvas.frames, HEIGHT, WIDTH, 2), canvas).flatten(0, 1)
    pixel = path[:, :, :2].abs().sum(2) / torch.tensor([WIDTH, HEIGHT], device=path.device)  # half of one, in the grid
    out = torch.zeros(len(played), 3, HEIGHT, WIDTH, device=path.device)
    for corner in [(-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)]:  # four taps against aliasing
        tap = grid + (pixel * torch.tensor(corner, device=path.device))[:, None, None]
        out += F.grid_sample(played, tap, padding_mode="reflection", align_corners=False) / 4
    return out.view(canvas.samples, canvas.frames, 3, HEIGHT, WIDTH)


def _bent(grid: Tensor, canvas: Canvas) -> Tensor:
    """What moves close to the lens flows rather than shifts: in some samples of (b, t, h, w, 2) two smooth fields of
    displacement come and go."""
    rows = canvas.chance(0.2).nonzero()[:, 0]
    if not len(rows):
        return grid
    part = canvas.part(len(rows))
    moved = grid[rows]
    for _ in range(2):
        field = part.normal(len(rows), 2, 3, 4)
        field = F.interpolate(field, (HEIGHT, WIDTH), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
        walk = _smooth(_smooth(part.normal(len(rows), 1, part.frames), 25) * 5, 9)[:, 0]  # variance about 1
        walk = walk * part.uniform(0.05, 0.5)[:, None]
        moved = moved + walk[:, :, None, None, None] * field[:, None]
    return grid.index_put((rows,), moved)


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
    """Another exposure, contrast and tint; in some samples the colours change places."""
    gain, gamma = canvas.uniform(0.6, 1.25), torch.exp(canvas.uniform(-0.4, 0.4))
    tint = canvas.uniform(0.85, 1.15, canvas.samples, 1, 3, 1, 1)
    places = torch.tensor(list(permutations(range(3))), device=canvas.device)
    place = torch.where(canvas.chance(0.2), canvas.integer(0, len(places)), 0).long()
    pictures = pictures.gather(2, places[place][:, None, :, None, None].expand_as(pictures))
    return pictures.clamp_min(0) ** over_pixels(gamma) * over_pixels(gain) * tint


def _lit(pictures: Tensor, canvas: Canvas) -> Tensor:
    """In some shots the light changes, at once or within 120 frames: in brightness, some in colour, some from one side
    of the picture on."""
    at, duration = canvas.integer(0, canvas.frames)[:, None], canvas.integer(2, 40)[:, None]
    duration = duration * torch.where(canvas.chance(0.4)[:, None], 3.0, 1.0)
    angle = canvas.uniform(0, 2 * math.pi)[:, None, None]
    side = ((canvas.x - 0.5) * torch.cos(angle) + (canvas.y - 0.5) * torch.sin(angle)) * canvas.chance(0.4)[
        :, None, None
    ]
    done = ((canvas.time - at) / duration)[:, :, None, None] + side[:, None]
    before, after = (canvas.uniform(0.45, 1.2) for _ in range(2))
    colour = canvas.uniform(0.7, 1.3, canvas.samples, 1, 3, 1, 1)
    after = over_pixels(after) * torch.where(over_pixels(canvas.chance(0.3)), colour, 1.0)
    level = torch.lerp(over_pixels(before).expand_as(after), after, done.clamp(0, 1)[:, :, None])
    return pictures * torch.where(over_pixels(canvas.chance(0.18)), level, 1.0)
