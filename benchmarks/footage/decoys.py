"""What detectors often take for a transition and is none, put into a shot.

Each function takes a shot, BGR uint8 (frames, h, w, 3) with at least 50 frames, and a generator. It returns the changed
shot and the first and last frame that it has touched.
"""

from collections.abc import Callable

import cv2
import numpy as np

Shot = np.ndarray
Decoyed = tuple[Shot, int, int]
_MARGIN = 12  # frames at the ends of a shot that stay as they are


def _place(shot: Shot, length: int, rng: np.random.Generator) -> int:
    return int(rng.integers(_MARGIN, len(shot) - _MARGIN - length))


def zoomed(shot: Shot, rng: np.random.Generator) -> Decoyed:
    """The camera jumps in or out by a factor of 1.5 to 3 within 4 to 10 frames, and stays there."""
    length, factor = int(rng.integers(4, 11)), rng.uniform(1.5, 3)
    at, (height, width) = _place(shot, length, rng), shot.shape[1:3]
    share = np.clip((np.arange(len(shot)) - at) / length, 0, 1)
    share = share * share * (3 - 2 * share)
    scales = factor ** (share if rng.random() < 0.5 else 1 - share)
    centre = width * rng.uniform(0.3, 0.7), height * rng.uniform(0.3, 0.7)
    out = [
        cv2.warpAffine(f, cv2.getRotationMatrix2D(centre, 0, s), (width, height))
        for f, s in zip(shot, scales, strict=True)
    ]
    return np.stack(out), at, at + length


def popped_up(shot: Shot, rng: np.random.Generator) -> Decoyed:
    """A window with text covers a fifth to half of the frame from one frame to the next, and perhaps goes again."""
    out, (height, width) = shot.copy(), shot.shape[1:3]
    w, h = int(width * rng.uniform(0.4, 0.75)), int(height * rng.uniform(0.4, 0.7))
    x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
    window = np.full((h, w, 3), rng.integers(180, 256, 3), np.uint8)
    window[: max(4, h // 10)] = rng.integers(0, 200, 3)
    for line in range(h // 5, h - 6, 10):
        text = "".join(rng.choice(list("abcdefgh ijkl mnop"), int(rng.integers(4, 24))))
        cv2.putText(window, text, (6, line), cv2.FONT_HERSHEY_SIMPLEX, 0.3, (30, 30, 30), 1, cv2.LINE_AA)
    at = _place(shot, 0, rng)
    stop = int(min(len(out), at + rng.integers(15, 120)))
    out[at:stop, y : y + h, x : x + w] = window
    return out, at, stop


def bubbled(shot: Shot, rng: np.random.Generator) -> Decoyed:
    """Bright bubbles rise past the lens for half a second to two."""
    out, (height, width) = shot.astype(np.float32), shot.shape[1:3]
    length = int(rng.integers(12, min(50, len(shot) - 2 * _MARGIN)))
    at = _place(shot, length, rng)
    for _ in range(int(rng.integers(40, 160))):
        start, life = at + int(rng.integers(0, length)), int(rng.integers(4, 14))
        x, radius, shade = rng.uniform(0, width), rng.uniform(3, width / 7), rng.uniform(120, 255)
        for i in range(start, min(start + life, at + length)):
            layer = np.zeros((height, width), np.float32)
            centre = int(x + rng.normal(0, 3)), int(height * (1.1 - 1.2 * (i - start) / life))
            cv2.circle(layer, centre, int(radius), float(rng.uniform(0.2, 0.6)), -1, cv2.LINE_AA)
            out[i] += layer[..., None] * (shade - out[i])
    return np.clip(out, 0, 255).astype(np.uint8), at, at + length


def strobed(shot: Shot, rng: np.random.Generator) -> Decoyed:
    """The light goes on and off several times a second for one to two seconds."""
    length, period = int(rng.integers(20, min(50, len(shot) - 2 * _MARGIN))), int(rng.integers(2, 8))
    at, low = _place(shot, length, rng), rng.uniform(0.05, 0.4)
    dark = (
        (np.arange(len(shot)) // period % 2 == 0) & (np.arange(len(shot)) >= at) & (np.arange(len(shot)) < at + length)
    )
    gain = np.where(dark, low, 1.0).astype(np.float32)
    return (shot * gain[:, None, None, None]).astype(np.uint8), at, at + length


def glared(shot: Shot, rng: np.random.Generator) -> Decoyed:
    """A light blinds the lens slowly and goes within a frame or a few, or the other way round."""
    slow, fast = int(rng.integers(10, 24)), int(rng.integers(1, 4))
    at, (height, width) = _place(shot, slow + fast, rng), shot.shape[1:3]
    level = np.zeros(len(shot), np.float32)
    ramp = np.concatenate([np.linspace(0, 1, slow), np.linspace(1, 0, fast + 1)[1:]])
    level[at : at + slow + fast] = (ramp if rng.random() < 0.6 else ramp[::-1]) * rng.uniform(0.5, 0.95)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    spot = np.exp(-((x - rng.random()) ** 2 + (y - rng.random()) ** 2) / rng.uniform(0.3, 1.2) ** 2)
    mask = level[:, None, None, None] * spot[None, :, :, None].astype(np.float32)
    return (shot + mask * (255 - shot.astype(np.float32))).astype(np.uint8), at, at + slow + fast


def stuck(shot: Shot, rng: np.random.Generator) -> Decoyed:
    """The frame stands still for 5 to 14 frames, as from a bad encoder, and then leaps to where the shot is by then."""
    length = int(rng.integers(5, 15))
    at, out = _place(shot, length, rng), shot.copy()
    out[at : at + length] = shot[at]
    return out, at, at + length


def rolled(shot: Shot, rng: np.random.Generator) -> Decoyed:
    """Credits roll over the darkened shot."""
    height, width = shot.shape[1:3]
    tall = np.zeros((height + len(shot) * 3, width), np.uint8)
    for y in range(height // 2, len(tall), 14):
        text = "".join(rng.choice(list("ABCDEFG HIJKLM NOPQ"), int(rng.integers(6, 20))))
        cv2.putText(
            tall, text, (int(rng.integers(5, width // 2)), y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 255, 1, cv2.LINE_AA
        )
    speed, dark = int(rng.integers(1, 4)), rng.uniform(0, 0.4)
    out = [
        f * dark * (1 - t) + 235 * t
        for i, f in enumerate(shot)
        for t in (tall[i * speed : i * speed + height, :, None] / 255,)
    ]
    return np.stack(out).astype(np.uint8), 0, len(shot) - 1


def whipped(shot: Shot, rng: np.random.Generator) -> Decoyed:
    """The camera is torn sideways by one to two widths of the frame, with the blur that goes with it."""
    n, out, width = int(rng.integers(6, 13)), shot.copy(), shot.shape[2]
    at = _place(shot, n, rng)
    s = np.linspace(0, 1, n + 1)
    path = (3 * s**2 - 2 * s**3) * rng.choice([2, 4]) * width / 2  # to the mirror image or back to the frame
    path = np.concatenate([path, np.full(len(shot) - at - n, path[-1])])
    for i in range(at, len(shot)):
        wide = np.concatenate([shot[i], shot[i][:, ::-1]] * 2, axis=1)
        here, before = path[i - at], path[max(0, i - at - 1)]
        blur = max(1, round(here - before))
        view = np.roll(wide, -(round(here) % (2 * width)), axis=1)[:, :width]
        out[i] = cv2.blur(view, (blur, 1)) if blur > 1 else view
    return out, at, at + n


DECOYS: dict[str, Callable[[Shot, np.random.Generator], Decoyed]] = {
    "zoom": zoomed,
    "pop-up": popped_up,
    "bubbles": bubbled,
    "strobe": strobed,
    "glare": glared,
    "stuck": stuck,
    "credits": rolled,
    "whip": whipped,
}
