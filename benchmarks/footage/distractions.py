"""What looks like a transition and is none, and the looks that footage may have as a whole.

Each function takes pictures of 0 to 1, (b, t, c, h, w), and a canvas, and disturbs some of the samples.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.footage.shots import HEIGHT, WIDTH, Canvas, Shots, over_pixels, over_time

_BGR_TO_LUMA = [0.114, 0.587, 0.299]


def disturbed(pictures: Tensor, shots: Shots, canvas: Canvas) -> Tensor:
    """All of it, in the order in which it would happen: in the scene, in the edit, in the copy. Not clamped."""
    for _ in range(2):
        pictures = _flashed(pictures, canvas)
    pictures = _dropped(pictures, canvas)
    for _ in range(2):
        pictures = _passed(pictures, shots, canvas)
    for _ in range(3):
        pictures = _popped_up(pictures, canvas)
    for look in (_refocused, _barred, _grey, _dark, _flickering, _posterised, _mended_at_keyframes, _noisy):
        pictures = look(pictures, canvas)
    return pictures


def _between(canvas: Canvas, first: Tensor, length: Tensor) -> Tensor:
    """Bool (b, t): the `length` frames from `first` on."""
    return (canvas.time >= first[:, None]) & (canvas.time < (first + length)[:, None])


def _flashed(pictures: Tensor, canvas: Canvas) -> Tensor:
    """Lightning, a photographer, an explosion: one to six frames driven towards white, all over or around a place."""
    first, length = canvas.integer(0, canvas.frames), canvas.integer(1, 7)
    decay = (1 - 0.7 * (canvas.time - first[:, None]) / length[:, None]).clamp(0, 1)
    level = canvas.uniform(0.3, 1)[:, None] * decay * _between(canvas, first, length) * canvas.chance(0.15)[:, None]
    x, y, width = (v[:, None, None] for v in (canvas.uniform(0, 1), canvas.uniform(0, 1), canvas.uniform(0.2, 3)))
    spot = torch.exp(-((canvas.x - x) ** 2 + (canvas.y - y) ** 2) / width**2)
    return torch.lerp(pictures, torch.ones_like(pictures), over_pixels(level) * over_time(spot))


def _dropped(pictures: Tensor, canvas: Canvas) -> Tensor:
    """One or two frames all but black: a strobe, or damage."""
    gone = _between(canvas, canvas.integer(0, canvas.frames), canvas.integer(1, 3)) & canvas.chance(0.04)[:, None]
    return torch.where(over_pixels(gone), pictures * 0.05, pictures)


def _passed(pictures: Tensor, shots: Shots, canvas: Canvas) -> Tensor:
    """Something that looks like a piece of another shot passes in front, from one side to the other, sharp or blurred
    as what is close to the lens."""
    rows = canvas.chance(0.18).nonzero()[:, 0]
    if not len(rows):
        return pictures
    part = canvas.part(len(rows))
    thing = shots.filmed(shots.drawn(part, 1)[:, 0], part)
    first, length = part.uniform(-20, canvas.frames)[:, None], part.uniform(8, 90)[:, None]
    share = (part.time - first) / length  # (b, t)
    direction = torch.where(part.chance(0.5), -1.0, 1.0)[:, None]
    width, height = part.uniform(0.1, 0.6)[:, None, None, None], part.uniform(0.3, 1.5)[:, None, None, None]
    edge = torch.where(part.chance(0.5), 0.06, part.uniform(0.06, 0.4))[:, None, None, None]
    x = 0.5 + (direction * (share - 0.5))[:, :, None, None] * (1 + width + edge)
    y = part.uniform(0, 1)[:, None, None, None]
    inside = [
        (size / 2 - (axis - at).abs()) / edge + 0.5 for axis, at, size in ((part.x, x, width), (part.y, y, height))
    ]
    mask = torch.minimum(*inside).clamp(0, 1) * ((share > 0) & (share < 1))[:, :, None, None]
    return pictures.index_put((rows,), torch.lerp(pictures[rows], thing, mask[:, :, None]))


def _popped_up(pictures: Tensor, canvas: Canvas) -> Tensor:
    """A window or a caption appears within a few frames, and goes again."""
    first, length = canvas.integer(-10, canvas.frames)[:, None], canvas.integer(6, 80)[:, None]
    rise = canvas.integer(1, 10)[:, None] * torch.where(canvas.chance(0.3), 3, 1)[:, None]
    level = ((canvas.time - first) / rise).clamp(0, 1) * ((first + length - canvas.time) / rise).clamp(0, 1)
    level = level * canvas.uniform(0.3, 1)[:, None] * canvas.chance(0.2)[:, None]
    left, top = canvas.uniform(0, 1)[:, None, None], canvas.uniform(0, 1)[:, None, None]
    width, height = canvas.uniform(0.1, 0.6)[:, None, None], canvas.uniform(0.06, 0.5)[:, None, None]
    box = (canvas.x > left) & (canvas.x < left + width) & (canvas.y > top) & (canvas.y < top + height)
    colour = canvas.uniform(0, 1, canvas.samples, 1, 3, 1, 1)
    written = canvas.uniform(0.6, 1, canvas.samples, 1, 1, HEIGHT, WIDTH)
    return pictures + (colour * written - pictures) * (over_pixels(level) * over_time(box))


def _refocused(pictures: Tensor, canvas: Canvas) -> Tensor:
    """The lens loses or finds its focus within 60 frames."""
    rows = canvas.chance(0.08).nonzero()[:, 0]
    if not len(rows):
        return pictures
    part, sharp = canvas.part(len(rows)), pictures[rows]
    blurred = F.avg_pool2d(F.pad(sharp.flatten(0, 1), (3, 3, 3, 3), mode="replicate"), 7, 1).view_as(sharp)
    share = ((part.time - part.integer(0, part.frames)[:, None]) / part.integer(4, 60)[:, None]).clamp(0, 1)
    share = torch.where(part.chance(0.5)[:, None], share, 1 - share)
    return pictures.index_put((rows,), torch.lerp(sharp, blurred, over_pixels(share)))


def _barred(pictures: Tensor, canvas: Canvas) -> Tensor:
    """Letterbox or, less often, pillarbox."""
    bar = canvas.uniform(0.05, 0.2)[:, None, None]
    above_below, beside = ((v < bar) | (v > 1 - bar) for v in (canvas.y, canvas.x))
    bars = torch.where(canvas.chance(0.75)[:, None, None], above_below, beside) & canvas.chance(0.2)[:, None, None]
    return pictures * ~over_time(bars)


def _grey(pictures: Tensor, canvas: Canvas) -> Tensor:
    weights = torch.tensor(_BGR_TO_LUMA, device=canvas.device).view(3, 1, 1)
    luma = (pictures * weights).sum(2, keepdim=True)
    return torch.where(over_pixels(canvas.chance(0.12)), luma, pictures)


def _dark(pictures: Tensor, canvas: Canvas) -> Tensor:
    """Night: a twenty-fifth to two fifths of the light."""
    return pictures * over_pixels(torch.where(canvas.chance(0.15), canvas.uniform(0.04, 0.4), 1.0))


def _flickering(pictures: Tensor, canvas: Canvas) -> Tensor:
    """Old film, or lamps: every frame a little brighter or darker."""
    strength = torch.where(canvas.chance(0.12), canvas.uniform(0.01, 0.08), 0.0)[:, None]
    return pictures * (1 + over_pixels(strength * canvas.normal(canvas.samples, canvas.frames)))


def _posterised(pictures: Tensor, canvas: Canvas) -> Tensor:
    """Seven levels a channel, as in cartoons."""
    return torch.where(over_pixels(canvas.chance(0.1)), (pictures * 6).round() / 6, pictures)


def _mended_at_keyframes(pictures: Tensor, canvas: Canvas) -> Tensor:
    """Blocks drift away from the picture between two keyframes, as where bits are few, and pop back at each."""
    interval, phase = canvas.integer(12, 60)[:, None], canvas.integer(0, 60)[:, None]
    since = torch.remainder(canvas.time + phase, interval) / interval  # (b, t)
    drift = canvas.normal(canvas.samples, 3, HEIGHT // 3, WIDTH // 4) * canvas.uniform(0, 0.06)[:, None, None, None]
    drift = F.interpolate(drift, (HEIGHT, WIDTH), mode="nearest")[:, None]
    return pictures + over_pixels(since * canvas.chance(0.15)[:, None]) * drift


def _noisy(pictures: Tensor, canvas: Canvas) -> Tensor:
    """The sensor's noise: what is left of it after reduction, in half of the samples more than that."""
    strength = torch.where(canvas.chance(0.5), canvas.uniform(0, 0.004), canvas.uniform(0, 0.02))
    return pictures + over_pixels(strength) * canvas.normal(*pictures.shape)
