"""Batches of labelled footage: shots joined by cuts, dissolves, fades through a colour, wipes and pushes.

A sample is up to five shots under cameras of their own, disturbed by what looks like a transition and is none (see
`distractions`). The canvas's generator decides everything. Tensors are named by their axes as in `shots`: b samples,
t frames, c channels (BGR), h rows, w columns.
"""

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.footage.distractions import disturbed
from benchmarks.footage.shots import HEIGHT, WIDTH, Canvas, Shots, eased, over_pixels, over_time

CUT, DISSOLVE, FADE, WIPE, PUSH = range(5)
_ODDS = [0.26, 0.28, 0.16, 0.19, 0.11]  # of the joints, in this order
_WIPES = [0.55, 0.10, 0.08, 0.08, 0.09, 0.05, 0.05]  # line, iris, clock, blinds, doors, grains, brightness
_SHOTS = 5  # at most, in a sample
_QUICK = 0.25  # of the joints that take time last a few frames
_AS_CUT = 4  # frames of a joint that are told as one hard cut in their middle
_ALIKE = 0.05  # mean difference of two shots between which nobody could see a transition
_LONG_HOLD = 16  # frames of one colour within which nobody need see one


@dataclass
class Labels:
    """What the frames are, bool (b, t): `cut` begins a shot after a hard cut, `gradual` lies in a gradual transition.
    Where `cut_counts` or `gradual_counts` is false either answer is right."""

    cut: Tensor
    gradual: Tensor
    cut_counts: Tensor
    gradual_counts: Tensor


@dataclass
class Joint:
    """How each sample goes from one shot to the next, (b,) each: `kind`, the `first` frame that is touched, the first
    clean frame `past` it, and for a fade how many frames it falls, holds the colour and rises."""

    kind: Tensor
    first: Tensor
    past: Tensor
    fall: Tensor
    hold: Tensor
    rise: Tensor

    def __getitem__(self, rows: Tensor) -> "Joint":
        return Joint(*(getattr(self, field.name)[rows] for field in fields(self)))


def batch(shots: Shots, canvas: Canvas) -> tuple[Tensor, Labels]:
    """Pictures in steps of 1/255, float of 0 to 1 (b, t, c, h, w), and their labels."""
    drawn = shots.drawn(canvas, _SHOTS)
    used = canvas.integer(1, _SHOTS + 1)
    out = shots.filmed(drawn[:, 0], canvas)
    none = torch.zeros(canvas.samples, canvas.frames, dtype=torch.bool, device=canvas.device)
    labels = Labels(none, none.clone(), ~none, ~none)
    end = torch.zeros(canvas.samples, device=canvas.device)  # of the last joint
    for j in range(1, _SHOTS):
        rows = (j < used).nonzero()[:, 0]
        if not len(rows):
            break
        part = canvas.part(len(rows))
        new = shots.filmed(drawn[rows, j], part)
        joint = planned(part, end[rows], canvas.frames / used[rows])
        fits = joint.first < canvas.frames - 2
        _relabel(labels, rows, _label(part, out[rows], new, joint), fits)
        out[rows] = torch.where(over_pixels(fits), joined(part, out[rows], new, joint), out[rows])
        end[rows] = torch.where(fits, joint.past, end[rows])
    out, labels = _held(out, labels, canvas)
    return (disturbed(out, shots, canvas).clamp(0, 1) * 255).round() / 255, labels


def planned(canvas: Canvas, end: Tensor, gap: Tensor) -> Joint:
    """Random joints, each about `gap` frames after the last one's `end`, both (b,); some follow at once."""
    kind, quick = canvas.choice(_ODDS)[:, 0], canvas.chance(_QUICK)

    def frames(low: int, high: int) -> Tensor:
        return torch.where(quick, canvas.integer(2, 9), canvas.integer(low, high))

    fall = torch.where(canvas.chance(0.12), 0, frames(4, 40))
    rise = torch.where(canvas.chance(0.12) & (fall > 0), 0, frames(4, 40))
    hold = torch.where(canvas.chance(0.5), canvas.integer(0, 4), canvas.integer(0, 30))
    dissolve, wipe, push = frames(5, 61), frames(5, 46), frames(5, 32)
    lengths = torch.stack([torch.zeros_like(fall), dissolve, fall + hold + rise, wipe, push])  # in order of the kinds
    length = lengths.gather(0, kind[None])[0]
    usual = ((canvas.uniform(0.5, 1.3) * gap).clamp_min(14) - length / 2).clamp_min(9).floor()
    first = end + torch.where(canvas.chance(0.15), canvas.integer(9, 16), usual)
    return Joint(kind, first, first + length, fall, hold, rise)


def joined(canvas: Canvas, old: Tensor, new: Tensor, joint: Joint) -> Tensor:
    """`old` until the joint, `new` after it, (b, t, c, h, w)."""
    out = torch.empty_like(old)
    for kind, paint in {CUT: _cut, DISSOLVE: _dissolved, FADE: _faded, WIPE: _wiped, PUSH: _pushed}.items():
        rows = (joint.kind == kind).nonzero()[:, 0]
        if len(rows):
            out[rows] = paint(canvas.part(len(rows)), old[rows], new[rows], joint[rows])
    return out


def _progress(canvas: Canvas, joint: Joint) -> Tensor:
    """(b, t): 0 before the joint, 1 past it, in between a line or an eased one."""
    length = (joint.past - joint.first)[:, None]
    line = ((canvas.time - joint.first[:, None] + 1) / (length + 1)).clamp(0, 1)
    return torch.where(canvas.chance(0.3)[:, None], eased(line), line)


def _cut(canvas: Canvas, old: Tensor, new: Tensor, joint: Joint) -> Tensor:
    """Some with one frame of both, as a change of frame rate leaves it."""
    first = joint.first[:, None]
    both = canvas.chance(0.15)[:, None] & (canvas.time == first)
    return torch.lerp(old, new, over_pixels(torch.where(both, 0.5, (canvas.time >= first).float())))


def _dissolved(canvas: Canvas, old: Tensor, new: Tensor, joint: Joint) -> Tensor:
    return torch.lerp(old, new, over_pixels(_progress(canvas, joint)))


def _faded(canvas: Canvas, old: Tensor, new: Tensor, joint: Joint) -> Tensor:
    """Through black, white or some other colour; where it falls or rises in no time, by a cut."""
    first, turn = joint.first[:, None], (joint.first + joint.fall + joint.hold)[:, None]
    fallen = ((canvas.time - first + 1) / (joint.fall[:, None] + 1)).clamp(0, 1)
    risen = ((canvas.time - turn + 1) / (joint.rise[:, None] + 1)).clamp(0, 1)
    plain = torch.where(canvas.chance(0.65), 0.0, 1.0)
    odd = canvas.uniform(0, 1, canvas.samples, 1, 3, 1, 1)
    colour = torch.where(over_pixels(canvas.chance(0.1)), odd, over_pixels(plain))
    falling = torch.lerp(old, colour.expand_as(old), over_pixels(fallen))
    rising = torch.lerp(colour.expand_as(new), new, over_pixels(risen))
    return torch.where(over_pixels(canvas.time < turn), falling, rising)


def _wiped(canvas: Canvas, old: Tensor, new: Tensor, joint: Joint) -> Tensor:
    """The new shot appears where `order` is low first, behind a sharp or a soft edge."""
    last = (joint.first.long() - 1).clamp(0, canvas.frames - 1)
    order = _wipe_order(canvas, old[torch.arange(canvas.samples, device=canvas.device), last])
    low, high = order.amin((1, 2), keepdim=True), order.amax((1, 2), keepdim=True)
    order = over_time((order - low) / (high - low + 1e-6))
    edge = torch.where(canvas.chance(0.5), canvas.uniform(0.02, 0.06), canvas.uniform(0.05, 0.4))
    progress, edge = over_pixels(_progress(canvas, joint)), over_pixels(edge)
    return torch.lerp(old, new, ((progress * (1 + edge) - order) / edge).clamp(0, 1))


def _wipe_order(canvas: Canvas, last: Tensor) -> Tensor:
    """When each pixel changes, in no unit, (b, h, w); `last` is the last picture before it, (b, c, h, w)."""

    def either(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(canvas.chance(0.5)[:, None, None], a, b)

    def angle() -> Tensor:
        return canvas.uniform(0, 2 * math.pi)[:, None, None]

    x, y = canvas.x - 0.5, canvas.y - 0.5
    tilt = torch.where(canvas.chance(0.3)[:, None, None], angle(), 0)
    way = canvas.integer(0, 8)[:, None, None] * math.pi / 4 + tilt
    radius = torch.sqrt(x**2 + (y * HEIGHT / WIDTH * 1.8) ** 2)
    slats = canvas.integer(2, 7)[:, None, None]
    opening = either(x.abs(), y.abs())
    kinds = [
        x * torch.cos(way) + y * torch.sin(way),
        either(radius, -radius),
        torch.remainder(torch.atan2(y, x) + angle(), 2 * math.pi),
        either(torch.remainder(canvas.x * slats, 1), torch.remainder(canvas.y * slats, 1)),
        either(opening, -opening),
        canvas.uniform(0, 1, canvas.samples, HEIGHT, WIDTH),
        last.mean(1),
    ]
    which = canvas.choice(_WIPES)[:, 0]
    return torch.stack(kinds)[which, torch.arange(canvas.samples, device=canvas.device)]


def _pushed(canvas: Canvas, old: Tensor, new: Tensor, joint: Joint) -> Tensor:
    """The new shot slides in from one of four sides and pushes the old one out, or covers it, or the old one slides
    away from over it."""
    progress = _progress(canvas, joint)
    back, way = over_pixels(canvas.chance(0.5)), over_pixels(canvas.uniform(0, 1))
    covers, reveals = way < 0.3, way > 0.8

    def slid(old: Tensor, new: Tensor) -> Tensor:
        old, new = (torch.where(back, x.flip(-1), x) for x in (old, new))
        size = old.shape[-1]
        at = torch.arange(size, device=canvas.device) + progress[:, :, None] * size  # (b, t, size)
        both = torch.cat([old, new, new[..., -1:]], -1)
        left = at.floor().clamp_max(2 * size - 1).long()
        a, b = (both.gather(-1, (left + i)[:, :, None, None].expand_as(old)) for i in (0, 1))
        seen = torch.lerp(a, b, (at - left)[:, :, None, None])
        is_old = (at < size)[:, :, None, None]
        seen = torch.where(covers & is_old, old, torch.where(reveals & ~is_old, new, seen))
        return torch.where(back, seen.flip(-1), seen)

    down = slid(old.mT, new.mT).mT
    return torch.where(over_pixels(canvas.chance(0.4)), down, slid(old, new))


def _label(canvas: Canvas, old: Tensor, new: Tensor, joint: Joint) -> Labels:
    """Labels of one joint, as if nothing else were in the sample."""
    time, first, past = canvas.time, joint.first[:, None], joint.past[:, None]
    is_cut, is_fade = (joint.kind == CUT)[:, None], (joint.kind == FADE)[:, None]
    at_first = is_cut | (is_fade & (joint.fall == 0)[:, None])  # the old shot ends in a hard cut
    at_past = is_fade & (joint.rise == 0)[:, None]  # the new one begins after one
    near_first, near_past = (time - first).abs(), (time - past).abs()
    colour = first + joint.fall[:, None]
    long_hold = is_fade & (joint.hold > _LONG_HOLD)[:, None] & (time > colour) & (time < colour + joint.hold[:, None])
    rows = torch.arange(canvas.samples, device=canvas.device)
    before = old[rows, (joint.first.long() - 1).clamp(0, canvas.frames - 1)]
    after = new[rows, joint.past.long().clamp(0, canvas.frames - 1)]
    alike = (before - after).abs().mean((1, 2, 3))[:, None] < _ALIKE
    unseen = alike & ~is_fade & (time >= first - 3) & (time <= past + 3)
    quick = ~is_cut & ~at_first & ~at_past & (past - first <= _AS_CUT)
    middle = time == first + torch.div(past - first, 2, rounding_mode="floor")
    around = quick & (time >= first - 1) & (time <= past + 1)
    return Labels(
        cut=(at_first & (near_first == 0)) | (at_past & (near_past == 0)) | (quick & middle),
        gradual=(time >= first) & (time < past) & ~is_cut & ~quick,
        cut_counts=~((at_first & (near_first == 1)) | (at_past & (near_past == 1)) | (around & ~middle) | unseen),
        gradual_counts=~((((near_first <= 2) | (near_past <= 2)) & ~is_cut) | around | long_hold | unseen),
    )


def _relabel(labels: Labels, rows: Tensor, one: Labels, fits: Tensor) -> None:
    """Add the labels of one joint more to those of some samples, where it fits (rows,)."""
    on = fits[:, None]
    labels.cut[rows] |= on & one.cut
    labels.gradual[rows] |= on & one.gradual
    labels.cut_counts[rows] &= ~on | one.cut_counts
    labels.gradual_counts[rows] &= ~on | one.gradual_counts


def _held(pictures: Tensor, labels: Labels, canvas: Canvas) -> tuple[Tensor, Labels]:
    """In some samples each picture is held for two or three frames, as in drawn films."""
    held = torch.where(canvas.chance(0.1), canvas.integer(2, 4), 1)[:, None]
    at = (torch.div(canvas.time, held, rounding_mode="floor") * held).long()  # (b, t)
    cuts = torch.cumsum(labels.cut, 1).gather(1, at)
    cut = torch.diff(cuts, prepend=torch.zeros_like(cuts[:, :1]), dim=1) > 0
    far = F.max_pool1d(cut[:, None].float(), 3, 1, 1)[:, 0] == 0
    counts = torch.where(held > 1, cut | far, labels.cut_counts)
    out = pictures.gather(1, over_pixels(at).expand_as(pictures))
    return out, Labels(cut, labels.gradual.gather(1, at), counts, labels.gradual_counts.gather(1, at))
