"""Display matrices, pixel aspect ratios, crops, odd and changing sizes."""

from tests.formats.make import H264, HEVC, Film, encoded, joined, remuxed, spliced, with_matrix
from tests.formats.row import AV1, MPEG2, VP8, VP9, Row


def _size(width: int, height: int, first: int = 0, count: int = 60) -> Film:
    return Film(count, width=width, height=height, first=first)


def _without_the_60th(n: int) -> float:
    """Times of a film whose 60th frame is lost where two parts were joined, as ffmpeg loses it."""
    return n / 25 + 0.04 * (n > 58)


TURNED = {
    "as stored": (1, 0, 0, 1),
    "mirrored left to right": (-1, 0, 0, 1),
    "turned by 180 degrees": (-1, 0, 0, -1),
    "mirrored top to bottom": (1, 0, 0, -1),
    "turned by 90 degrees": (0, 1, -1, 0),
    "turned by 270 degrees": (0, -1, 1, 0),
    "transposed": (0, 1, 1, 0),
    "transposed the other way": (0, -1, -1, 0),
}

ROWS = [
    *(
        Row(
            f"matrix_{i}.mp4",
            "geometry",
            f"display matrix: {name}",
            with_matrix(*matrix),
            shows=None,
            sizes=((120, 160),) if matrix[0] == 0 else ((160, 120),),
        )
        for i, (name, matrix) in enumerate(TURNED.items())
    ),
    *(
        Row(
            f"matrix_sar_{i}.mp4",
            "geometry",
            f"display matrix: {name}, pixels twice as wide as high",
            with_matrix(*TURNED[name], args=f"{H264} -vf setsar=2"),
            shows=None,
            sizes=(size,),
        )
        for i, (name, size) in enumerate(
            {"turned by 90 degrees": (120, 320), "transposed": (120, 320), "mirrored top to bottom": (320, 120)}.items()
        )
    ),
    Row(
        "matrix_tilted.mp4",
        "geometry",
        "display matrix that turns by 0.5 degrees",
        with_matrix(0.99996, 0.0087, -0.0087, 0.99996),
        converted="taken for the nearest multiple of 90 degrees",
    ),
    Row(
        "matrix_30.mp4",
        "geometry",
        "display matrix that turns by 30 degrees",
        with_matrix(0.866, 0.5, -0.5, 0.866),
        refused="30 degrees",
    ),
    Row(
        "matrix_scaled.mp4",
        "geometry",
        "display matrix that turns by 90 degrees and enlarges",
        with_matrix(0, 2, -2, 0),
        shows=None,
        sizes=((120, 160),),
        independent=False,
    ),
    Row("matrix.mov", "geometry", "MOV, display matrix: mirrored left to right", with_matrix(-1, 0, 0, 1), shows=None),
    *(
        Row(
            f"sar_{w}_{h}.mp4",
            "geometry",
            f"pixel aspect ratio {w}:{h}",
            encoded(f"{H264} -vf setsar={w}/{h}"),
            sizes=((round(160 * w / h), 120),),
        )
        for w, h in ((2, 1), (1, 2), (64, 45), (8, 9))
    ),
    Row(
        "sar.mkv",
        "geometry",
        "pixel aspect ratio 4:3 in Matroska",
        encoded(f"{H264} -vf setsar=4/3"),
        sizes=((213, 120),),
    ),
    Row(
        "sar.mpg",
        "geometry",
        "MPEG-2, display aspect ratio 16:9",
        encoded(f"{MPEG2} -aspect 16:9"),
        codec="mpeg2video",
        sizes=((213, 120),),
    ),
    Row(
        "sar_100.mkv",
        "geometry",
        "pixels 100 times as wide as high",
        encoded(f"{H264} -vf setsar=100"),
        refused="pixels 100 times as wide as high",
    ),
    *(
        Row(f"odd_{w}x{h}.{suffix}", "geometry", f"{w} x {h}", encoded(args, _size(w, h)), sizes=((w, h),), codec=codec)
        for w, h, suffix, args, codec in (
            (161, 121, "mkv", "-c:v ffv1 -pix_fmt yuv420p", "ffv1"),
            (161, 121, "webm", f"{VP9} -pix_fmt yuv420p", "vp9"),
            (161, 121, "mp4", H264.replace("yuv420p", "yuv444p"), "h264"),
            (150, 118, "mp4", H264, "h264"),
        )
    ),
    Row(
        "cropped.mp4",
        "geometry",
        "H.264 with a cropped frame",
        encoded(f"{H264} -bsf:v h264_metadata=crop_left=16:crop_right=0:crop_top=0:crop_bottom=24"),
        sizes=((144, 104),),
        shows=None,
    ),
    *(
        Row(
            f"resized.{suffix}",
            "geometry",
            f"{what}, the frame size changes",
            make,
            codec=codec,
            sizes=((160, 120), (240, 180)),
            frames=120,
        )
        for suffix, what, codec, make in (
            (
                "ts",
                "H.264 in TS",
                "h264",
                joined(encoded(H264), encoded(f"{H264} -output_ts_offset 2.48", _size(240, 180, 60))),
            ),
            ("webm", "VP9 in WebM", "vp9", spliced(".webm", encoded(VP9), encoded(VP9, _size(240, 180, 60)))),
            ("mkv", "AV1 in Matroska", "av1", spliced(".mkv", encoded(AV1), encoded(AV1, _size(240, 180, 60)))),
            ("h264", "H.264 without a container", "h264", joined(encoded(H264), encoded(H264, _size(240, 180, 60)))),
            (
                "avi",
                "MJPEG in AVI",
                "mjpeg",
                spliced(
                    ".avi",
                    *(encoded("-c:v mjpeg -q:v 3", _size(w, h, f)) for w, h, f in ((160, 120, 0), (240, 180, 60))),
                ),
            ),
        )
    ),
    Row(
        "cropped_hevc.mkv",
        "geometry",
        "HEVC with a cropped frame",
        encoded(f"{HEVC} -bsf:v hevc_metadata=crop_left=16:crop_right=0:crop_top=0:crop_bottom=24"),
        sizes=((144, 104),),
        shows=None,
        codec="hevc",
    ),
    *(
        Row(
            f"resized_inside.{suffix}",
            "geometry",
            f"H.264 in {what}, the frame size changes",
            remuxed(joined(encoded(H264), encoded(f"{H264} -output_ts_offset 2.48", _size(240, 180, 60))), ".ts"),
            120,
            sizes=((160, 120), (240, 180)),
        )
        for suffix, what in (("mkv", "Matroska"), ("mp4", "MP4"), ("flv", "FLV"))
    ),
    Row(
        "resized_thrice.ts",
        "geometry",
        "H.264 in TS, the frame size changes and returns",
        joined(
            *(
                encoded(f"{H264} -output_ts_offset {2.4 * i + 0.08 * (i > 0)}", _size(*size, 60 * i))
                for i, size in enumerate(((160, 120), (240, 180), (160, 120)))
            )
        ),
        180,
        sizes=((160, 120), (240, 180)),
    ),
    *(
        Row(
            f"resized_mpeg2.{suffix}",
            "geometry",
            f"MPEG-2 in {what}, the frame size changes",
            joined(encoded(f"{MPEG2} -bf 2"), encoded(f"{MPEG2} -bf 2 -output_ts_offset {start}", _size(240, 180, 60))),
            119,
            sizes=((160, 120), (240, 180)),
            times=_without_the_60th,
            codec="mpeg2video",
            shows=[*range(59), *range(60, 120)],
            reported="DamagedVideo" if suffix == "ts" else "",
        )
        for suffix, what, start in (("ts", "TS", 2.44), ("mpg", "PS", 2.94))
    ),
    Row(
        "resized_hevc.ts",
        "geometry",
        "HEVC in TS, the frame size changes",
        joined(encoded(HEVC), encoded(f"{HEVC} -output_ts_offset 2.48", _size(240, 180, 60))),
        120,
        codec="hevc",
        sizes=((160, 120), (240, 180)),
    ),
    Row(
        "resized_portrait.ts",
        "geometry",
        "H.264 in TS, landscape becomes portrait",
        joined(encoded(H264), encoded(f"{H264} -output_ts_offset 2.48", _size(120, 160, 60))),
        120,
        sizes=((160, 120), (120, 160)),
    ),
    Row(
        "resized_vp8.webm",
        "geometry",
        "VP8 in WebM, the frame size changes",
        spliced(".webm", encoded(VP8), encoded(VP8, _size(240, 180, 60))),
        120,
        codec="vp8",
        sizes=((160, 120), (240, 180)),
    ),
    Row(
        "resized_sar.ts",
        "geometry",
        "H.264 in TS, the pixel aspect ratio changes",
        joined(encoded(H264), encoded(f"{H264} -output_ts_offset 2.48 -vf setsar=2", _size(160, 120, 60))),
        120,
        sizes=((160, 120), (320, 120)),
    ),
]
