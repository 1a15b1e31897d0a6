"""The files of ../shared/faults."""

from tests.formats.row import Kind, Row


def _fault(name: str, kind: Kind, what: str, **facts: object) -> Row:
    defaults = {"sizes": ((320, 240),), "frames": 200}
    return Row(name, kind, what, **(defaults | facts))  # type: ignore[arg-type]


ROWS = [
    _fault("xvid_bf1.avi", "time stamps", "XviD with packed B frames in AVI", frames=199, codec="mpeg4"),
    _fault(
        "joined_reset.ts",
        "time stamps",
        "two transport streams joined, whose stamps start again",
        frames=300,
        shows=[*range(200), *range(100)],
    ),
    _fault("hold_cut.mp4", "time stamps", "the last frame is held", frames=126, shows=None, rate="", cuts=True),
    _fault(
        "delays.gif",
        "frame rate",
        "GIF with several delays, the last frame held",
        frames=20,
        shows=None,
        rate="",
        codec="gif",
        sizes=((160, 120),),
    ),
    _fault(
        "gif_10ms.gif",
        "frame rate",
        "GIF with 10 ms delays",
        frames=40,
        rate="10",
        shows=None,
        codec="gif",
        converted="delays below 20 ms are 100 ms, as browsers show them",
        independent=False,
        sizes=((160, 120),),
    ),
    _fault("lapse_20s.mp4", "frame rate", "a frame every 20 s", frames=40, rate="0.05", clips=False),
    _fault(
        "cuts_200.mp4", "frame rate", "200 frames a second", frames=1200, slow=True, rate="200", shows=None, cuts=True
    ),
    _fault("opengop_hevc.mp4", "container", "HEVC with open groups of pictures", frames=150, codec="hevc"),
    _fault("matrix_hflip.mp4", "geometry", "display matrix that mirrors", shows=None),
    _fault("matrix_45.mp4", "geometry", "display matrix that turns by 45 degrees", refused="45 degrees"),
    _fault(
        "sar_absurd.mp4",
        "geometry",
        "pixels 100 times as wide as high",
        frames=75,
        refused="pixels 100 times as wide as high",
    ),
    _fault(
        "resize.ts",
        "geometry",
        "H.264 in TS, the frame size changes",
        sizes=((320, 240), (180, 320)),
        shows=None,
        independent=False,
    ),
    _fault(
        "adaptive.ts",
        "geometry",
        "H.264 in TS, the frame size changes",
        frames=100,
        sizes=((320, 240), (160, 120)),
        independent=False,
        shows=None,
    ),
    _fault(
        "hdr10.mp4", "color", "HEVC, 10 bit, PQ, BT.2020", hdr=True, codec="hevc", converted="tone mapped to BT.709"
    ),
    _fault("rgb_h264.mkv", "color", "H.264, RGB", frames=75),
    _fault("av1_grain.mp4", "codec", "AV1 with film grain in MP4", frames=100, codec="av1"),
    _fault("still_track_first.mkv", "streams", "a still is the first video stream", stream=1),
    _fault("cover_udta_first.mp4", "streams", "an attached cover is the first video stream", stream=1),
    _fault("audio_longer.mkv", "streams", "the audio is longer than the video"),
    _fault(
        "interlaced.mp4",
        "interlaced",
        "H.264, top field first",
        frames=100,
        interlaced=True,
        shows=None,
        converted="deinterlaced",
    ),
    _fault(
        "short.dv",
        "codec",
        "DV",
        frames=1,
        rate="30000/1001",
        codec="dvvideo",
        sizes=((640, 480),),
        clips=False,
        interlaced=True,
        converted="deinterlaced",
    ),
    _fault("anim.webp", "codec", "animated WebP", codec="webp_anim", refused="not a video that can be read"),
    _fault("text_cyrillic.mp4", "codec", "H.264 in MP4", frames=15, rate="10", shows=None, sizes=((640, 360),)),
]
