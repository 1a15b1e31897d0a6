"""Makers of the test files: the pattern, encoded, remuxed and patched into each situation of the table."""

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream

from tests.formats.oracle import ffmpeg
from tests.formats.pattern import draw

Make = Callable[[Path], None]
"""Writes a file at the path."""

H264 = "-c:v libx264 -preset veryfast -crf 16 -x264-params scenecut=0:keyint=12 -pix_fmt yuv420p"
HEVC = "-c:v libx265 -preset ultrafast -crf 16 -x265-params log-level=error:keyint=12:scenecut=0 -pix_fmt yuv420p"
_PACKET, _SYNC = 188, 0x47


@dataclass(frozen=True)
class Film:
    """What is drawn: `count` frames of the pattern, numbered from `first` on, at `rate` frames a second."""

    count: int = 60
    rate: str = "25"
    width: int = 160
    height: int = 120
    first: int = 0
    fields: int = 0

    def raw(self, pixels: str = "rgb24") -> bytes:
        """The frames as bytes."""
        frames = (draw(n, self.width, self.height, self.fields) for n in range(self.first, self.first + self.count))
        return b"".join(frame.tobytes() for frame in frames)


def encoded(args: str, film: Film = Film(), before: str = "", filters: str = "") -> Make:
    """Encode a film with these options of the program. `before` are options for the input, `filters` a chain."""

    def make(path: Path) -> None:
        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{film.width}x{film.height}", "-r", film.rate]
        chain = ["-vf", filters] if filters else []
        log = ("-loglevel", "error")
        ffmpeg(*log, *before.split(), *source, "-i", "-", *chain, *args.split(), path, data=film.raw())

    return make


def remuxed(first: Make, suffix: str, args: str = "-c copy", before: str = "") -> Make:
    """Make a file with this suffix, and copy its packets into another container."""

    def make(path: Path) -> None:
        source = path.with_name(f"{path.stem}_source{suffix}")
        first(source)
        ffmpeg("-loglevel", "error", *before.split(), "-i", source, *args.split(), path)

    return make


def joined(*parts: Make) -> Make:
    """Write several files one after the other into one."""

    def make(path: Path) -> None:
        data = b""
        for i, part in enumerate(parts):
            piece = path.with_name(f"{path.stem}_{i}{path.suffix}")
            part(piece)
            data += piece.read_bytes()
        path.write_bytes(data)

    return make


def muxed(parts: Sequence[tuple[Make, str]], args: str) -> Make:
    """Make several files, each with its suffix, and mux them with these options."""

    def make(path: Path) -> None:
        inputs: list[str | Path] = []
        for i, (part, suffix) in enumerate(parts):
            piece = path.with_name(f"{path.stem}_{i}{suffix}")
            part(piece)
            inputs += ["-i", piece]
        ffmpeg("-loglevel", "error", *inputs, *args.split(), path)

    return make


def patched(first: Make, patch: Callable[[bytearray], bytearray | None]) -> Make:
    """Make a file, and change its bytes."""

    def make(path: Path) -> None:
        first(path)
        data = bytearray(path.read_bytes())
        path.write_bytes(patch(data) or data)

    return make


def spliced(suffix: str, *parts: Make) -> Make:
    """Put the packets of several files behind each other into one container, whose header is that of the first."""

    def make(path: Path) -> None:
        with av.open(str(path), "w") as out:
            stream, offset = None, 0.0
            for i, part in enumerate(parts):
                piece = path.with_name(f"{path.stem}_{i}{suffix}")
                part(piece)
                with av.open(str(piece)) as source:
                    video = source.streams.video[0]
                    stream = stream or out.add_stream_from_template(video, opaque=True)
                    tick, end = float(video.time_base or 0), offset
                    shift = round(offset / tick)
                    for packet in source.demux(video):
                        if packet.dts is None or packet.pts is None:
                            continue
                        end = max(end, offset + (packet.pts + (packet.duration or 0)) * tick)
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        out.mux(packet)
                offset = end

    return make


def with_matrix(a: float, b: float, c: float, d: float, film: Film = Film(), args: str = H264) -> Make:
    """An MP4 file whose track header has this display matrix: (x, y) is shown at (a x + c y, b x + d y)."""

    def patch(data: bytearray) -> None:
        at = data.index(b"tkhd") + 44
        data[at : at + 36] = struct.pack(
            ">9i", *(round(v * 65536) for v in (a, b)), 0, *(round(v * 65536) for v in (c, d)), 0, 0, 0, 1 << 30
        )

    return patched(encoded(args, film), patch)


def with_stamps(times: Callable[[int], float], args: str = H264, film: Film = Film()) -> Make:
    """Frame n is shown from `times(n)` seconds on: the encoder sees these stamps, to the millisecond."""

    def make(path: Path) -> None:
        words = args.split()
        options = {k.lstrip("-"): v for k, v in zip(words[::2], words[1::2], strict=True)}
        codec, pixels = options.pop("c:v"), options.pop("pix_fmt", "yuv420p")
        with av.open(str(path), "w") as out:
            stream = cast(VideoStream, out.add_stream(codec, rate=Fraction(film.rate), options=options))
            stream.width, stream.height, stream.pix_fmt = film.width, film.height, pixels
            stream.codec_context.time_base = Fraction(1, 1000)
            for n in range(film.count):
                frame = av.VideoFrame.from_ndarray(draw(n + film.first, film.width, film.height), format="rgb24")
                frame.pts, frame.time_base = round(times(n) * 1000), Fraction(1, 1000)
                out.mux(stream.encode(frame))
            out.mux(stream.encode())

    return make


def restamped(first: Make, suffix: str, pts: Callable[[int, float], float]) -> Make:
    """Mux packets again. `pts(n, time)` is the new time, in seconds, of the frame that is shown as number n.

    Decoding times stay: demuxers hand both on as the file has them.
    """

    def make(path: Path) -> None:
        source = path.with_name(f"{path.stem}_source{suffix}")
        first(source)
        with av.open(str(source)) as container, av.open(str(path), "w") as out:
            video = container.streams.video[0]
            stream = out.add_stream_from_template(video, opaque=True)
            packets = [p for p in container.demux(video) if p.dts is not None and p.pts is not None]
            order = {p.pts: n for n, p in enumerate(sorted(packets, key=lambda p: p.pts or 0))}
            tick = float(video.time_base or 0)
            for packet in packets:
                packet.pts = round(pts(order[packet.pts], (packet.pts or 0) * tick) / tick)
                packet.dts = min(packet.pts, packet.dts or 0)
                packet.stream = stream
                out.mux(packet)

    return make


def pes_patched(change: Callable[[int, int], int | None], first: Make) -> Make:
    """Change the presentation times of a transport stream: `change(n, pts)` for the n-th packet of video, in the order
    of the file; None takes the stamps away."""

    def patch(data: bytearray) -> None:
        seen = 0
        for at in _video_packets(data):
            flags = data[at + 7] >> 6
            if not flags:
                continue
            pts = _stamp(data[at + 9 : at + 14])
            new = change(seen, pts)
            seen += 1
            if new is None:
                size = 5 if flags == 2 else 10
                data[at + 7] &= 0x3F
                data[at + 9 : at + 9 + size] = b"\xff" * size
            else:
                data[at + 9 : at + 14] = _stamped(new, data[at + 9] >> 4)

    return patched(first, patch)


def _video_packets(data: bytearray) -> Iterable[int]:
    """Where packets of video begin in a transport or a program stream."""
    at = data.find(b"\x00\x00\x01\xe0")
    while at >= 0:
        yield at
        at = data.find(b"\x00\x00\x01\xe0", at + 4)


def _stamp(raw: bytes | bytearray) -> int:
    a, b, c, d, e = raw
    return (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1


def _stamped(pts: int, prefix: int) -> bytes:
    pts &= (1 << 33) - 1
    middle = (pts >> 30, pts >> 22 & 255, (pts >> 15 & 127) << 1 | 1, pts >> 7 & 255, (pts & 127) << 1 | 1)
    return bytes([prefix << 4 | middle[0] << 1 | 1, *middle[1:]])


def gif_delays(first: Make, delays: Callable[[int], int]) -> Make:
    """Set the delay of each frame of a GIF, in hundredths of a second."""

    def patch(data: bytearray) -> None:
        at = data.find(b"\x21\xf9\x04")
        n = 0
        while at >= 0:
            struct.pack_into("<H", data, at + 4, delays(n))
            n += 1
            at = data.find(b"\x21\xf9\x04", at + 8)

    return patched(first, patch)


def repeated_fields(first: Make) -> Make:
    """Mark every second frame of an MPEG-2 stream as shown twice, in the order in which frames are stored."""

    def patch(data: bytearray) -> None:
        at, n = data.find(b"\x00\x00\x01\xb5\x8f"), 0
        while at >= 0:
            data[at + 7] |= 2 * (n % 2)
            n += 1
            at = data.find(b"\x00\x00\x01\xb5\x8f", at + 4)

    return patched(first, patch)


def not_coded(gaps: dict[int, int], args: str) -> Make:
    """MPEG-4 part 2 without B frames, in AVI; before frame n lie `gaps[n]` packets that say: nothing has changed."""

    def make(path: Path) -> None:
        source = path.with_name(f"{path.stem}_source.avi")
        encoded(args)(source)
        with av.open(str(source)) as container, av.open(str(path), "w") as out:
            video = container.streams.video[0]
            stream = out.add_stream_from_template(video, opaque=True)
            slot = 0
            for n, packet in enumerate(p for p in container.demux(video) if p.size):
                for held in (*[av.Packet(b"\x00\x00\x01\xb6\x51\x4f")] * gaps.get(n, 0), packet):
                    held.pts = held.dts = slot
                    held.time_base, held.stream = Fraction(1, 25), stream
                    out.mux(held)
                    slot += 1

    return make


def interlaced(args: str, top_first: bool = True, film: Film = Film()) -> Make:
    """An interlaced film: the two fields of a frame are of different times."""
    fields, mode = (1, "tff") if top_first else (-1, "bff")
    return encoded(args, replace(film, fields=fields), filters=f"setparams=field_mode={mode}")


def dropped(args: str, gaps: dict[int, int]) -> Make:
    """A film in which some numbers are shown longer: before frame n, `gaps[n]` frames are left out."""

    def times(n: int) -> float:
        return (n + sum(extra for at, extra in gaps.items() if n >= at)) / 25

    return with_stamps(times, args)


def silent_file(seconds: float) -> Make:
    """An audio file without video."""
    return partial(_tone, seconds)


def _tone(seconds: float, path: Path) -> None:
    ffmpeg("-loglevel", "error", "-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}", path)


def image(path: Path) -> None:
    """A still of another size, without the pattern."""
    rgb = np.full((100, 100, 3), (200, 120, 40), np.uint8)
    ffmpeg("-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "100x100", "-i", "-",
           "-frames:v", "1", path, data=rgb.tobytes())  # fmt: skip


def words(path: Path) -> None:
    """Subtitles from 0 to 9 s."""
    path.write_text("1\n00:00:00,000 --> 00:00:01,000\none\n\n2\n00:00:08,000 --> 00:00:09,000\ntwo\n")
