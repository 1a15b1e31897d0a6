"""Groups of pictures that make random access hard."""

from tests.formats.make import H264, HEVC, Film, encoded
from tests.formats.row import AV1, LOW, MPEG2, THEORA, Row

_LONG = Film(100)
_OPEN_H264 = H264.replace("keyint=12", "open-gop=1:keyint=25:bframes=3:b-adapt=0")
HEVC_OPEN = HEVC.replace("keyint=12", "open-gop=1:keyint=25:bframes=4:b-adapt=0:rc-lookahead=20").replace(
    "ultrafast", "fast"
)
_LONG_GOP = H264.replace("keyint=12", "keyint=250:bframes=3:b-adapt=0")
_PYRAMID = H264.replace("keyint=12", "keyint=50:bframes=7:b-adapt=0:b-pyramid=normal:ref=4")
_REFRESH = H264.replace("keyint=12", "intra-refresh=1:keyint=20:bframes=0")
ROWS = [
    Row(
        f"{name}.{suffix}",
        "container",
        f"{what} in {container}",
        encoded(args, _LONG),
        100,
        codec=codec,
        slow=suffix in {"mkv", "flv"},
    )
    for suffix, container in (("mp4", "MP4"), ("mkv", "Matroska"), ("ts", "TS"), ("avi", "AVI"), ("flv", "FLV"))
    for name, what, args, codec in (
        ("open", "H.264 with open groups", _OPEN_H264, "h264"),
        ("long", "H.264 with one long group", _LONG_GOP, "h264"),
        ("pyramid", "H.264 with a B pyramid", _PYRAMID, "h264"),
        ("refresh", "H.264 with intra refresh", _REFRESH, "h264"),
        *([("open_hevc", "HEVC with open groups", HEVC_OPEN, "hevc")] if suffix in {"mp4", "mkv", "ts"} else []),
    )
] + [
    Row(f"{name}.{suffix}", "container", what, encoded(args, _LONG), 100, codec=codec)
    for name, suffix, what, args, codec in (
        (
            "long_mpeg2",
            "mpg",
            "MPEG-2 with long groups in PS",
            f"{MPEG2.replace('-g 12', '-g 60')} -bf 2",
            "mpeg2video",
        ),
        (
            "closed_mpeg2",
            "mpg",
            "MPEG-2 with closed groups in PS",
            f"{MPEG2} -bf 2 -flags +cgop -sc_threshold 1000000000",
            "mpeg2video",
        ),
        ("long_mpeg2", "ts", "MPEG-2 with long groups in TS", f"{MPEG2.replace('-g 12', '-g 60')} -bf 2", "mpeg2video"),
        (
            "long_vp9",
            "webm",
            "VP9 with alternate references in WebM",
            "-c:v libvpx-vp9 -b:v 0 -crf 20 -cpu-used 5 -g 60 -auto-alt-ref 1 -lag-in-frames 16",
            "vp9",
        ),
        ("long_av1", "mp4", "AV1 with long groups in MP4", AV1.replace("-g 12", "-g 60"), "av1"),
        ("long_theora", "ogv", "Theora with long groups in OGV", THEORA.replace("-g 12", "-g 64"), "theora"),
        ("long_mpeg4", "mp4", "MPEG-4 part 2 with B frames in MP4", f"{LOW.replace('-g 12', '-g 60')} -bf 2", "mpeg4"),
        ("long_wmv", "wmv", "WMV 8 with long groups in ASF", "-c:v wmv2 -q:v 3 -g 60", "wmv2"),
    )
]
