"""Deinterlace single frames."""

import numpy as np
from av.video.frame import VideoFrame


def progressive(frame: VideoFrame) -> VideoFrame:
    """Deinterlace a frame; return it unchanged if it is not marked as interlaced.

    The lines of the first field are kept. Each line between them is interpolated from its four neighbours in that field
    with the kernel (-1, 9, 9, -1)/16, VC-1's half-pixel interpolation (SMPTE 421M). Neighbouring frames are not used,
    so that the result does not depend on where the decode began.
    """
    if not frame.interlaced_frame:
        return frame
    made = VideoFrame(frame.width, frame.height, frame.format.name)
    bits = max(c.bits for c in frame.format.components)
    for source, target in zip(frame.planes, made.planes, strict=True):
        rows = np.frombuffer(memoryview(source), np.uint8).reshape(source.height, source.line_size)
        length = min(source.line_size, target.line_size)
        filled = np.zeros((target.height, target.line_size), np.uint8)
        samples = rows[:, :length].view("<u2") if bits > 8 else rows[:, :length]
        filled[:, :length] = _interpolated(samples, (1 << bits) - 1).view(np.uint8)
        target.update(filled.tobytes())
    made.pts, made.time_base = frame.pts, frame.time_base
    made.color_range, made.colorspace = frame.color_range, frame.colorspace
    made.color_primaries, made.color_trc = frame.color_primaries, frame.color_trc
    return made


def _interpolated(rows: np.ndarray, largest: int) -> np.ndarray:
    """Rows (h, w) with every second row interpolated from its neighbours; samples are at most `largest`."""
    field = rows[::2].astype(np.int32)
    if len(field) < 2:
        return np.ascontiguousarray(rows)
    edge = np.concatenate([field[:1], field, field[-1:], field[-1:]])
    between = (9 * (edge[1:-2] + edge[2:-1]) - edge[:-3] - edge[3:] + 8) >> 4
    out = rows.copy()
    out[1::2] = np.clip(between, 0, largest)[: len(out[1::2])]
    return out
