"""Write one clip as an MP4 file, by copying its packets where the copy is exact, or by re-encoding its frames.

Times are seconds on the video's own clock (first frame at 0), as in the manifest. Every file is verified by decoding
it: it must have the expected number of frames, begin at 0, be upright and have no damaged frame.
"""

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import av.container
import av.error
import numpy as np
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame

from curation.clip_sound import Sound
from curation.clip_source import (
    Check,
    ClipError,
    Piece,
    closed_prefix,
    first_frame,
    frames_of,
    packets_of,
    source_of,
    wanted,
)
from curation.errors import in_words
from curation.video.frame import Frame
from curation.video.geometry import Orientation, geometry_of
from curation.video.reader import SAME_TIME_S
from curation.video.timeline import first_stamp

MP4_VIDEO = frozenset({"av1", "h264", "hevc", "mpeg4", "vp9"})
_CLOCK = Fraction(1, 90_000)


@dataclass(frozen=True, slots=True)
class ClipFile:
    """An MP4 in memory and its properties. `seconds` is the time from its first frame to the end of its last frame."""

    data: bytes
    how: Literal["copy", "reencode"]
    codec: str
    width: int
    height: int
    frames: int
    seconds: float
    audio: str | None


def copy(
    piece: Piece, *, trim_frames: int = 0, audio: bool = False, plain: bool = False, check: Check = wanted
) -> ClipFile:
    """Copy the clip's packets unchanged, from its keyframe on. The player applies rotation and pixel aspect ratio.

    Frames can depend on later frames. If the last frames depend on frames after the clip's end, up to `trim_frames`
    frames are left out. The first frame is compared with the source. With `plain`, only progressive SDR footage is
    copied: other footage must be converted, so that copied and re-encoded clips look alike.

    Raises:
        ClipError: a copy would not be exact, or MP4 does not support the codec.
    """
    if not piece.starts_on_keyframe:
        raise ClipError("does not start on a keyframe; re-encode it")
    start, end = piece.start_pts, piece.end_pts
    if start is None or end is None:
        raise ClipError("its frames cannot be found by their time stamps; re-encode it")
    first = first_frame(piece)
    if plain and (first.picture.interlaced_frame or not first.color.is_plain_sdr):
        raise ClipError("its frames are interlaced, HDR or wide-gamut; re-encode it")
    with source_of(piece) as (container, stream):
        codec = stream.codec_context.codec.canonical_name
        if codec not in MP4_VIDEO:
            raise ClipError(f"codec {codec} is not copied into MP4; re-encode it")
        packets = packets_of(container, stream, start, end)
        times = [p.pts for p in packets if p.pts is not None]
        kept, until = closed_prefix(times, end)
        trimmed = sum(t < end for t in times) - kept
        if not kept or trimmed > trim_frames:
            raise ClipError(f"its last {trimmed} frames need frames beyond its end (trim_frames is {trim_frames})")
        if kept + trimmed != piece.frames:
            raise ClipError(f"it holds {kept + trimmed} packets for {piece.frames} frames; re-encode it")
        base = stream.time_base or Fraction(1)
        seconds = float((until - start) * base)
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mp4") as out:
            video = out.add_stream_from_template(stream, opaque=True)
            sound = Sound(container, out) if audio else None
            # some containers lack decoding times; sorted presentation times, shifted to be early enough, always work
            shown = sorted(times[:kept])
            delay = max(due - time for due, time in zip(shown, times, strict=False))
            ends = dict(zip(shown, [*shown[1:], until], strict=True))
            for packet, time, due in zip(packets, times, shown, strict=False):
                packet.pts, packet.dts, packet.stream = time - start, due - delay - start, video
                packet.duration = ends[time] - time
            tracks = _held(packets[:kept], until - start)
            if sound:
                tracks += sound.between(float(start * base), seconds)
            _mux(out, tracks)
        made = ClipFile(
            buffer.getvalue(), "copy", codec, piece.width, piece.height, kept, seconds, sound.codec if sound else None
        )
        _verify(made, check, first, aspect=stream.sample_aspect_ratio)
        return made


def reencode(
    piece: Piece, *, crf: int = 18, preset: str = "medium", audio: bool = False, check: Check = wanted
) -> ClipFile:
    """Encode the frames of `[start, end)` in H.264, 8-bit 4:2:0, upright, with square pixels and exact times.

    A single thread encodes, so that the bytes do not depend on the number of cores. An odd width or height is reduced
    by a pixel, since 4:2:0 needs even sizes.

    Raises:
        ClipError: the file cannot be read, or its frames differ from those that the manifest counts.
    """
    made = _encode(piece, crf, preset, audio, check)
    if made.frames != piece.frames:
        raise ClipError(
            f"the source has {made.frames} frames for it, the manifest {piece.frames}; curate the video again"
        )
    _verify(made, check)
    return made


def _encode(piece: Piece, crf: int, preset: str, audio: bool, check: Check) -> ClipFile:
    width, height = max(2, piece.width & ~1), max(2, piece.height & ~1)
    buffer, ticks, packets, begin = io.BytesIO(), [], [], 0.0
    with av.open(buffer, "w", format="mp4") as out:
        rate = Fraction(piece.fps).limit_denominator(1001)
        # with AVX-512, x264's macroblock tree gives different bytes in every run
        options = {"crf": str(crf), "preset": preset, "x264-params": "mbtree=0"}
        video = out.add_stream("libx264", rate=rate or Fraction(25), options=options)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        context = video.codec_context
        context.time_base, context.thread_count = _CLOCK, 1
        for frame in frames_of(piece, check):
            upright = frame.yuv420(width, height)
            if not ticks:
                begin = frame.time  # a clip that continues another one may begin between two frames
                context.color_range, context.colorspace = upright.color_range, upright.colorspace
                context.color_primaries, context.color_trc = upright.color_primaries, upright.color_trc
            ticks.append(round((frame.time - begin) / _CLOCK))
            upright.pts, upright.time_base, upright.pict_type = ticks[-1], _CLOCK, PictureType.NONE
            for packet in video.encode(upright):
                check()
                packets.append(packet)
        if not ticks:
            raise ClipError(f"the source has no frame for it, the manifest {piece.frames}; curate the video again")
        for packet in context.encode_lazy():  # slow presets buffer most frames until here
            check()
            packet.stream = video
            packets.append(packet)
        ends = dict(zip(ticks, [*ticks[1:], round((piece.end - begin) / _CLOCK)], strict=True))
        for packet in packets:
            packet.duration = ends[packet.pts] - packet.pts
        _held(packets, ends[ticks[-1]])
        seconds = float(ends[ticks[-1]] * _CLOCK)
        sound = None
        if audio and piece.start_pts is not None:  # sound is placed by time stamps
            with source_of(piece) as (container, stream):
                sound = Sound(container, out)
                origin = first_stamp(piece.start, piece.start_pts, stream.time_base or Fraction(1))
                packets += sound.between(float(origin * (stream.time_base or 0)) + begin, seconds)
                _mux(out, packets)
        else:
            _mux(out, packets)
    return ClipFile(
        buffer.getvalue(), "reencode", "h264", width, height, len(ticks), seconds, sound.codec if sound else None
    )


def _held(packets: list[Packet], end: int) -> list[Packet]:
    """Extend the last packet, so that MP4 shows the last frame until `end`; return the packets, in decoding order.

    MP4 computes the length of a track from decoding times, so the last packet in decoding order determines it.
    """
    first, last = packets[0], packets[-1]
    last.duration = max(last.duration or 0, end + (first.dts or 0) - (last.dts or 0))
    return packets


def _mux(out: av.container.OutputContainer, packets: list[Packet]) -> None:
    for packet in sorted(packets, key=lambda p: float((p.dts or 0) * (p.time_base or 0))):
        out.mux(packet)


def _verify(made: ClipFile, check: Check, first: Frame | None = None, aspect: Fraction | None = None) -> None:
    """Decode the file. Raises ClipError if it differs from `made` or does not begin with the frame `first`."""
    times: list[float] = []
    try:
        with av.open(io.BytesIO(made.data), "r") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for picture in container.decode(stream):
                check()
                if picture.is_corrupt or picture.time is None:
                    raise ClipError(f"the exported file is damaged at frame {len(times)}")
                if not times:
                    _verify_first(made, picture, stream.sample_aspect_ratio, first, aspect)
                times.append(picture.time)
            length = float((stream.duration or 0) * (stream.time_base or 0))
    except (av.error.FFmpegError, IndexError) as error:
        raise ClipError(f"the exported file cannot be decoded: {in_words(error)}") from error
    if len(times) != made.frames or times != sorted(set(times)):
        raise ClipError(f"the exported file has {len(times)} frames, not {made.frames}")
    if abs(times[0]) > SAME_TIME_S:
        raise ClipError(f"the exported file starts at {times[0]:.4f} s, not at 0")
    if abs(length - made.seconds) > 1.5 * made.seconds / made.frames:
        raise ClipError(f"the exported file lasts {length:.3f} s, not {made.seconds:.3f} s")


def _verify_first(
    made: ClipFile, picture: VideoFrame, shape: Fraction | None, first: Frame | None, aspect: Fraction | None
) -> None:
    seen = geometry_of(picture, float(shape or 0), "the exported file")
    if (shape or 1) != (aspect or 1):
        raise ClipError("the exported file has a different pixel aspect ratio")
    if first is None:
        if seen.orientation != Orientation() or (seen.width, seen.height) != (made.width, made.height):
            raise ClipError("the exported file is not upright or has another size")
        return
    same = np.array_equal(picture.to_ndarray(format="rgb24"), first.picture.to_ndarray(format="rgb24"))
    if not same or seen.orientation != first.geometry.orientation:
        raise ClipError("the exported file does not start with the source's frame")
