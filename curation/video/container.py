"""Open a file safely, and choose its main video stream, here called the film."""

import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from typing import IO, cast

import av
import av.container
import av.error
import fsspec.core
from av.codec.hwaccel import HWAccel
from av.format import Flags
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curation.errors import UnreadableVideo, in_words

MAX_SIDE_PX = 16384
MAX_PIXELS = 1 << 26  # 8192 x 8192: one frame takes 200 MB and more, and a decoder holds several
# Playlists, file lists and session descriptions are excluded: they make libav open other files and URLs. Formats of
# images and texts are excluded: libav reads each as a video of one frame.
_OPTIONS = {
    "format_whitelist": "apng,asf,avi,dv,flv,gif,gxf,h264,hevc,ivf,m4v,matroska,mov,mpeg,mpegts,mpegvideo,mxf,nut,obu,"
    "ogg,rm,wtv,yuv4mpegpipe",
    "protocol_whitelist": "file",
    "max_pixels": str(MAX_PIXELS),
}
_NO_FILM = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_PREVIEW_SHARE = 1 / 3  # a stream below this fraction of the largest stream's area is a preview
_PEEKED_PACKETS = 400
_HEADER_BYTES = 32  # of a keyframe, with the sequence header
_LONGEST_LOSS_S = 10.0  # a longer gap in decoding times before a keyframe is a seam, not missing packets
_SEAM_PACKETS = 4  # packets that a parser may still hold when the container reports missing data
_DURATION_TAG = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


@contextmanager
def opened(uri: str, acceleration: HWAccel | None = None) -> Iterator[tuple[av.container.InputContainer, VideoStream]]:
    """Open `uri`, a local path or any fsspec URL, and yield the container and its main video stream.

    Raises UnreadableVideo with the reason if the file cannot be read.
    """
    with _container(uri, acceleration) as container:
        candidates = _candidates(uri, container)
        if len(candidates) == 1:
            yield container, candidates[0]
            return
        index = _film(container, candidates)
    with _container(uri, acceleration) as container:
        yield container, next(s for s in container.streams.video if s.index == index)


@contextmanager
def _container(uri: str, acceleration: HWAccel | None) -> Iterator[av.container.InputContainer]:
    with ExitStack() as stack:
        try:
            source: str | IO[bytes] = uri
            if "://" in uri:
                store, path = fsspec.core.url_to_fs(uri)
                source = cast(IO[bytes], stack.enter_context(store.open(path, "rb")))
            container: av.container.InputContainer = av.open(
                source, "r", metadata_errors="ignore", hwaccel=acceleration, options=_OPTIONS
            )
        except (av.error.FFmpegError, OSError, ValueError, ImportError) as error:
            raise UnreadableVideo(f"{uri}: {_reason(error)}", step="open") from error
        stack.callback(container.close)
        yield container


def _candidates(uri: str, container: av.container.InputContainer) -> list[VideoStream]:
    """Return the video streams other than cover images, thumbnails and streams without a decoder."""
    streams = container.streams.video
    if not streams:
        kinds = sorted({s.type for s in container.streams}) or ["nothing"]
        raise UnreadableVideo(f"{uri}: no video stream (the file holds {' and '.join(kinds)})", step="probe")
    films = [s for s in streams if _is_film(s)]
    if not films:
        raise UnreadableVideo(f"{uri}: the only video stream is a cover image or thumbnails", step="probe")
    decoded = [s for s in films if s.codec_context is not None]
    if not decoded:
        raise UnreadableVideo(f"{uri}: no decoder for its codec; convert the video to another one", step="probe")
    return decoded


def _film(container: av.container.InputContainer, streams: list[VideoStream]) -> int:
    """Return the index of the main stream.

    Streams of a single frame and previews are excluded. Of the remaining streams, the stream with the default flag is
    chosen, or the first one if none has the flag. This reads packets from the beginning of the container; open the
    container again afterwards.
    """
    packets = Counter({s.index: 0 for s in streams})
    with suppress(av.error.FFmpegError, IndexError):  # the decoder finds the same damage later and reports it
        for number, packet in enumerate(container.demux(streams)):
            packets[packet.stream.index] += bool(packet.size)
            if number >= _PEEKED_PACKETS or all(count > 1 for count in packets.values()):
                break

    def area(stream: VideoStream) -> int:
        return stream.codec_context.width * stream.codec_context.height

    moving = [s for s in streams if packets[s.index] > 1] or streams
    full = [s for s in moving if area(s) >= _PREVIEW_SHARE * max(map(area, moving))]
    return max(full, key=lambda s: (bool(int(s.disposition) & Disposition.default.value), -s.index)).index


class Frames:
    """Iterate over all decodable frames in presentation order. None stands for a packet that cannot be decoded.

    `in_decoding_order` says whether the time stamps of all packets so far increased from packet to packet. `unread`
    counts packets of other video streams at the end of this stream.
    """

    def __init__(self, container: av.container.InputContainer, stream: VideoStream) -> None:
        self.in_decoding_order = True
        self._runs = deque([0], maxlen=_SEAM_PACKETS + 1)  # other streams' packets, by packet of this one
        self._container, self._stream = container, stream
        films = [s for s in container.streams.video if s.codec_context is not None and _is_film(s)]
        self._others = [s for s in films if s.index != stream.index]
        self._latest: int | None = None

    @property
    def unread(self) -> int:
        """Longest run of packets of other video streams near the end of this stream.

        The last few packets of this stream count as its end, because a parser delays them.
        """
        return max(self._runs)

    def __iter__(self) -> Iterator[VideoFrame | None]:
        for packet in self._packets():
            if packet is None:
                yield None
                continue
            if packet.pts is not None:
                self.in_decoding_order &= self._latest is None or packet.pts > self._latest
                self._latest = packet.pts
            try:
                yield from packet.decode()
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                yield None

    def _packets(self) -> Iterator[Packet | None]:
        """Yield the packets; yield None before a packet with missing data, and at the end if reading fails.

        Missing data right before a keyframe marks the seam between two concatenated files. The packets at the seam are
        complete, and no later frame depends on data before the seam, so that no None is yielded.
        """
        packets = self._of_film()
        held: list[Packet] = []  # from the first packet with missing data on
        header = b""  # of the last keyframe: size and settings of the encoder
        step, last = 0, None  # decoding times: the distance of the last two, and the last one
        while True:
            try:
                packet = next(packets)
            except (StopIteration, IndexError):  # PyAV raises IndexError at the end if streams were added on the way
                yield from (None, *held) if held else ()
                return
            except av.error.FFmpegError:
                yield from (None, *held, None) if held else (None,)
                return
            if held and (held[-1].is_keyframe or len(held) == _SEAM_PACKETS or not packet.size):
                yield from held if _is_seam([*held, packet], step, header) else (None, *held)
                held.clear()
            if held or packet.is_corrupt:
                held.append(packet)
            else:
                header = _header(packet) if packet.is_keyframe else header
                if packet.dts is not None:
                    step, last = packet.dts - (packet.dts if last is None else last), packet.dts
                yield packet

    def _of_film(self) -> Iterator[Packet]:
        """Yield the packets of this stream, and count those of other video streams."""
        for packet in self._container.demux(self._stream, *self._others):
            if packet.stream.index == self._stream.index:  # a flush packet has no stream_index of its own
                if packet.size:
                    self._runs.append(0)
                yield packet
            else:
                self._runs[-1] += bool(packet.size)


def _header(packet: Packet) -> bytes:
    return bytes(packet)[:_HEADER_BYTES]


def _is_seam(packets: Sequence[Packet], step: int, header: bytes) -> bool:
    """Whether packets, the last but one a keyframe, are the whole end of one recording and the beginning of another.

    The keyframe must have another header than the one before it, or its decoding time must start again; elsewhere no
    packet may be missing. `step` is the usual distance of decoding times, in ticks.
    """
    keyframe, base = packets[-2], packets[0].time_base
    known = [p.dts for p in packets if p.size and p.dts is not None]
    if len(packets) < 3 or not keyframe.is_keyframe or len(known) < sum(p.size > 0 for p in packets) or base is None:
        return False
    gaps = [b - a for a, b in pairwise(known)]
    jump = gaps.pop(len(packets) - 3)  # to the keyframe
    begins = _header(keyframe) != header or jump <= 0 or jump * base > _LONGEST_LOSS_S
    return begins and all(gap <= 1.5 * (packets[0].duration or step) for gap in gaps)


def _is_film(stream: VideoStream) -> bool:
    """Whether a stream is neither a cover image nor thumbnails."""
    return not int(stream.disposition) & _NO_FILM.value


def clock_may_jump(container: av.container.InputContainer) -> bool:
    """Whether the container's format allows time stamps that jump, as transport streams do."""
    return bool(container.format.flags & Flags.ts_discont.value)


def claimed_duration(container: av.container.InputContainer, stream: VideoStream) -> float | None:
    """Duration of the video stream in seconds, according to the file's header; None if the header has none."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    start = max(0.0, (container.start_time or 0) / av.time_base)  # Matroska's durations begin at 0
    if match := _DURATION_TAG.match(stream.metadata.get("DURATION", "")):
        return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) - start
    return container.duration / av.time_base - start if container.duration is not None else None


def other_streams_end(uri: str) -> float:
    """End of the last packet of the other streams, in seconds of the container's clock; 0 if there are none."""
    end = 0.0
    with opened(uri) as (container, film):
        others = [s for s in container.streams if s.index != film.index and s.type in {"audio", "subtitle", "video"}]
        if not others:
            return end
        start = (container.start_time or 0) / av.time_base
        with suppress(av.error.FFmpegError, IndexError):  # the rest of the file cannot be read
            for packet in container.demux(others):
                if packet.pts is not None and packet.time_base is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base) - start)
    return end


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, av.error.EOFError):
        return "the file is empty or ends too early"
    if isinstance(error, av.error.InvalidDataError | av.error.ArgumentError):
        return "not a video that can be read (damaged, truncated before its index, or not a video at all)"
    return in_words(error)
