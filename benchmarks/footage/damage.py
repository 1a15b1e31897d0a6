"""Files that are broken, or no videos at all: each function takes a random source and gives a file's bytes."""

import io
import random
import zipfile
from typing import cast

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream

from benchmarks.footage.small import TABLE, box, footage, patched


def _shuffled(data: bytes, name: str, header: int, rng: random.Random) -> bytes:
    """The 32-bit entries of an index in another order."""
    start, end = box(data, *TABLE, name)
    start += header
    entries = [data[i : i + 4] for i in range(start, end, 4)]
    rng.shuffle(entries)
    return data[:start] + b"".join(entries) + data[end:]


def _renamed(data: bytes, old: bytes, new: bytes) -> bytes:
    at = data.index(old, data.index(b"moov"))
    return data[:at] + new + data[at + 4 :]


def truncated_before_index(rng: random.Random) -> bytes:
    """An MP4 whose index, at its end, is cut off."""
    data = footage(1)
    return data[: data.index(b"moov") - 4]


def truncated_after_index(rng: random.Random) -> bytes:
    """An MP4 with its index in front, and half of its pictures."""
    data = footage(2, movflags="faststart")
    start, end = box(data, "mdat")
    return data[: (start + end) // 2]


def truncated_webm(rng: random.Random) -> bytes:
    """Half a WebM."""
    data = footage(3, ".webm")
    return data[: len(data) // 2]


def cut_off_header(rng: random.Random) -> bytes:
    """The second half of an MKV."""
    data = footage(4, ".mkv")
    return data[len(data) // 2 :]


def bit_flips(rng: random.Random) -> bytes:
    """One bit in three thousand bytes of the pictures is wrong."""
    data = bytearray(footage(5))
    start, end = box(data, "mdat")
    for _ in range((end - start) // 3000):
        data[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
    return bytes(data)


def zeroed_block(rng: random.Random) -> bytes:
    """A tenth of the pictures, in the middle, is zeros."""
    data = footage(6)
    start, end = box(data, "mdat")
    middle, tenth = (start + end) // 2, (end - start) // 10
    return data[:middle] + bytes(tenth) + data[middle + tenth :]


def noise_in_packets(rng: random.Random) -> bytes:
    """Noise over the headers of transport packets."""
    data = bytearray(footage(7, ".ts"))
    middle = len(data) // 2
    data[middle : middle + 3000] = rng.randbytes(3000)
    return bytes(data)


def wrong_sizes(rng: random.Random) -> bytes:
    """An MP4's index of sizes, shuffled."""
    return _shuffled(footage(8), "stsz", 12, rng)


def wrong_offsets(rng: random.Random) -> bytes:
    """An MP4's index of places points past the end of the file."""
    data = footage(9)
    start, end = box(data, *TABLE, "stco")
    return patched(data, start + 8, *[0x7FFFFFF0] * ((end - start - 8) // 4))


def wrong_order(rng: random.Random) -> bytes:
    """Presentation times jump to and fro."""
    data = footage(10)
    start, end = box(data, *TABLE, "ctts")
    for at in range(start + 8, end, 8):
        data = patched(data, at + 4, rng.randrange(0, 40_000))
    return data


def broken_clusters(rng: random.Random) -> bytes:
    """An MKV whose clusters, but the first, lost their names."""
    return footage(11, ".mkv", cluster_time_limit="500").replace(b"\x1f\x43\xb6\x75", b"junk").replace(
        b"junk", b"\x1f\x43\xb6\x75", 1
    )  # fmt: skip


def no_extradata(rng: random.Random) -> bytes:
    """H.264 without the parameters it is decoded by."""
    return _renamed(footage(12), b"avcC", b"free")


def encrypted(rng: random.Random) -> bytes:
    """Marked as encrypted, and noise."""
    data = bytearray(_renamed(footage(13), b"avc1", b"encv"))
    start, end = box(data, "mdat")
    data[start:end] = rng.randbytes(end - start)
    return bytes(data)


def unknown_codec(rng: random.Random) -> bytes:
    """A codec that nobody has."""
    return _renamed(footage(14), b"avc1", b"zzzz")


def changing_size(rng: random.Random) -> bytes:
    """The picture's size and shape change half way."""
    return footage(15, ".ts") + footage(15, ".ts", (96, 192), output_ts_offset="4")


def empty(rng: random.Random) -> bytes:
    """No byte."""
    return b""


def text(rng: random.Random) -> bytes:
    """A text."""
    return b"The quick brown fox jumps over the lazy dog.\n" * 99


def archive(rng: random.Random) -> bytes:
    """A ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr(zipfile.ZipInfo("a.txt"), b"0" * 100_000)
    return file.getvalue()


def picture(rng: random.Random) -> bytes:
    """A photograph."""
    noise = np.frombuffer(rng.randbytes(60 * 80 * 3), np.uint8).reshape(60, 80, 3)
    return cv2.imencode(".jpg", noise)[1].tobytes()


def noise(rng: random.Random) -> bytes:
    """Random bytes."""
    return rng.randbytes(50_000)


def sound_only(rng: random.Random) -> bytes:
    """A film without a picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = cast(AudioStream, out.add_stream("aac", rate=16_000))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file.getvalue()


def hls_of_itself(rng: random.Random) -> bytes:
    """A live playlist without an end, whose only piece is itself."""
    return b"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nSELF\n"


def hls_of_elsewhere(rng: random.Random) -> bytes:
    """A playlist of a server's and of the machine's files."""
    return b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXTINF:1,\nfile:///etc/passwd\n"


def concat_of_itself(rng: random.Random) -> bytes:
    """A list of films whose only entry is itself."""
    return b"ffconcat version 1.0\nfile SELF\n"


def concat_of_a_neighbour(rng: random.Random) -> bytes:
    """A list of films that repeats a sound neighbour a thousand times."""
    return b"ffconcat version 1.0\n" + b"file good_000.mp4\n" * 1000


def session_description(rng: random.Random) -> bytes:
    """A description that asks for packets from the network."""
    return b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 49170 RTP/AVP 33\n"
