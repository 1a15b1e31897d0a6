"""Small files that claim to be large: each function takes a random source and gives bytes."""

import io
import random
import re
import struct
import tempfile
from pathlib import Path

import av

from benchmarks.footage.small import SHOT_FRAMES, TABLE, box, footage, patched


def gif(side: int, frames: int) -> bytes:
    """A GIF of one pixel a frame on a canvas that is claimed to be square and this large."""
    head = b"GIF89a" + struct.pack("<HH", side, side) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    frame = b"\x21\xf9\x04\0\x04\0\0\0" + b"\x2c" + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0" + b"\x02\x02\x44\x01\0"
    return head + frame * frames + b"\x3b"


def gif_of_65535(rng: random.Random) -> bytes:
    """A GIF that claims 65535 by 65535 pixels."""
    return gif(65535, 75)


def gif_of_16000(rng: random.Random) -> bytes:
    """A GIF whose every frame is a gigabyte, and no libav check minds."""
    return gif(16000, 75)


def _h264(side: int, whole_before: bool = False) -> bytes:
    """H.264 in MPEG-TS whose parameters claim a square of this side, from its middle or from the beginning on."""
    bits = "01000010" + "11000000" + "00111110"  # baseline, level 6.2
    for number in (0, 0, 2, 1):  # identifier, frame numbers of 4 bits, times by order of decoding, one reference
        bits += _golomb(number)
    bits += "0" + _golomb(side // 16 - 1) * 2 + "1" + "1" + "0" + "0" + "1"
    bits += "0" * (-len(bits) % 8)
    claim = b"\0\0\1\x67" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    with tempfile.TemporaryDirectory() as folder, av.open(io.BytesIO(footage(16, ".ts")), "r") as sound:
        path = Path(folder) / "film.ts"
        with av.open(str(path), "w") as out:
            stream = out.add_stream_from_template(sound.streams.video[0])
            for number, packet in enumerate(p for p in sound.demux(video=0) if p.size):
                data = bytes(packet)
                if not whole_before or number > SHOT_FRAMES:
                    data = re.sub(rb"\x00\x00\x01\x67.*?(?=\x00\x00\x01)", lambda _: claim, data, flags=re.DOTALL)
                changed = av.Packet(data)
                changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
                changed.is_keyframe, changed.stream = packet.is_keyframe, stream
                out.mux(changed)
        return path.read_bytes()


def _golomb(number: int) -> str:
    """Exponential Golomb code (ITU-T H.264, 9.1)."""
    code = f"{number + 1:b}"
    return "0" * (len(code) - 1) + code


def h264_of_65536(rng: random.Random) -> bytes:
    """H.264 that claims 65536 by 65536 pixels."""
    return _h264(65536)


def h264_of_16000(rng: random.Random) -> bytes:
    """H.264 that claims 16000 by 16000 pixels, which no libav check minds."""
    return _h264(16000)


def size_grows(rng: random.Random) -> bytes:
    """A sound beginning, and then the parameters of 16000 by 16000 pixels."""
    return _h264(16000, whole_before=True)


def billion_frames(rng: random.Random) -> bytes:
    """An MP4 that claims 10^9 frames of one byte, and would have an index of 24 GB."""
    data = footage(18)
    data = patched(data, box(data, *TABLE, "stsz")[0] + 4, 1, 10**9)
    data = patched(data, box(data, *TABLE, "stsc")[0] + 8, 1, 10**9)
    return patched(data, box(data, *TABLE, "stts")[0] + 8, 10**9)


def lasts_for_ever(rng: random.Random) -> bytes:
    """An MP4 whose headers claim 136 years."""
    data = footage(19)
    data = patched(data, box(data, "moov", "mvhd")[0] + 12, 1, 0xFFFFFFF0)
    return patched(data, box(data, "moov", "trak", "tkhd")[0] + 20, 0xFFFFFFF0)


def frames_of_days(rng: random.Random) -> bytes:
    """An MP4 each of whose frames is shown for two days."""
    data = footage(20)
    return patched(data, box(data, *TABLE, "stts")[0] + 12, 0x7FFFFFFF)


def endless_mkv(rng: random.Random) -> bytes:
    """An MKV that claims to last 10^300 seconds."""
    data = footage(21, ".mkv")
    at = data.index(b"\x44\x89\x88") + 3
    return data[:at] + struct.pack(">d", 1e303) + data[at + 8 :]


def times_of_2_to_62(rng: random.Random) -> bytes:
    """An MKV whose second half comes 146 million years after the first."""
    data = footage(22, ".mkv", cluster_time_limit="500")
    cluster = data.index(b"\x1f\x43\xb6\x75", data.index(b"\x1f\x43\xb6\x75") + 4)
    at = data.index(b"\xe7", cluster)
    width = data[at + 1] & 0x7F
    longer = b"\xe7\x88" + (1 << 62).to_bytes(8, "big")
    return data[:cluster] + b"\x1f\x43\xb6\x75\x01" + b"\xff" * 7 + longer + data[at + 2 + width :]
