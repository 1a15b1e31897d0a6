"""The sound of one clip: copied where MP4 holds it, else as AAC."""

from collections.abc import Iterable, Iterator

import av.audio.resampler
import av.container
from av.audio.stream import AudioStream
from av.packet import Packet

MP4_AUDIO = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"})
_LEAD_S = 1.0  # looked for from so far ahead: demuxers seek by decoding time


class Sound:
    """The source's first audio track in the output: copied where MP4 holds it, else as AAC. Silent without one."""

    def __init__(self, source: av.container.InputContainer, out: av.container.OutputContainer) -> None:
        self.source = source
        self.track = next((a for a in source.streams.audio if a.codec_context is not None), None)
        self.codec: str | None = None
        if self.track is None:
            return
        name = self.track.codec_context.codec.canonical_name
        self.copied = name in MP4_AUDIO
        self.codec = name if self.copied else "aac"
        self.target: AudioStream
        if self.copied:
            self.target = out.add_stream_from_template(self.track)
        else:
            layout = "mono" if self.track.channels == 1 else "stereo"  # containers may name none
            self.target = out.add_stream("aac", rate=self.track.rate, layout=layout)

    def between(self, origin: float, seconds: float) -> list[Packet]:
        """Packets of the `seconds` from `origin` (the container's clock) on, moved to start there: each at its time,
        whole packets only, so up to one (some 20 ms) is missing at either end."""
        if self.track is None or self.track.time_base is None:
            return []
        base = self.track.time_base
        start, end = round(origin / base), round((origin + seconds) / base)
        self.source.seek(max(start - round(_LEAD_S / base), 0), stream=self.track)
        found = []
        for packet in self.source.demux(self.track):
            if packet.pts is None or packet.pts < start:
                continue
            if packet.pts + (packet.duration or 0) > end:
                break
            found.append(packet)
        if self.copied:
            for packet in found:
                assert packet.pts is not None
                packet.pts = packet.dts = packet.pts - start
                packet.stream = self.target
            return found
        return list(self._encoded(self.track, found, start))

    def _encoded(self, track: AudioStream, packets: Iterable[Packet], start: int) -> Iterator[Packet]:
        context = self.target.codec_context
        fit = av.audio.resampler.AudioResampler(context.format, context.layout, context.rate)
        for packet in packets:
            for frame in track.decode(packet):
                frame.pts = None if frame.pts is None else frame.pts - start
                for fitted in fit.resample(frame):
                    yield from self.target.encode(fitted)
        for fitted in fit.resample(None):
            yield from self.target.encode(fitted)
        yield from self.target.encode(None)
