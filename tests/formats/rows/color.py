"""Matrices, ranges, HDR, RGB, gray and alpha."""

from tests.formats.make import H264, HEVC, encoded
from tests.formats.row import AV1, HDR_HEVC, HLG, PQ, VP8, VP9, Row


def _tagged(matrix: str, pixels: str = "yuv420p", range_: str = "tv") -> str:
    zimg = {"smpte170m": "170m", "bt2020nc": "2020_ncl", "bt709": "709", "bt470bg": "470bg", "fcc": "fcc"}
    return f"zscale=matrixin=gbr:rangein=full:matrix={zimg[matrix]}:range={range_},format={pixels}"


_USUAL = {"bgr0", "gbrp", "yuv422p10le", "yuv444p", "yuv420p10le", "yuva420p", "yuyv422"}

ROWS = [
    *(
        Row(
            f"hdr_{name}",
            "color",
            f"{what}, 10 bit, BT.2020",
            encoded(args, filters=filters),
            hdr=True,
            codec=codec,
            converted="tone mapped to BT.709",
        )
        for name, what, args, filters, codec in (
            ("pq.mp4", "HEVC, PQ", HDR_HEVC, PQ, "hevc"),
            ("hlg.mp4", "HEVC, HLG", HDR_HEVC, HLG, "hevc"),
            ("pq.mkv", "AV1, PQ", AV1, PQ, "av1"),
            ("hlg.mkv", "AV1, HLG", AV1, HLG, "av1"),
            ("pq.webm", "VP9, PQ", VP9, PQ, "vp9"),
            ("hlg.webm", "VP9, HLG", VP9, HLG, "vp9"),
            ("hlg_h264.mp4", "H.264, HLG", H264.replace("-pix_fmt yuv420p", ""), HLG, "h264"),
            ("pq.mov", "ProRes, PQ", "-c:v prores_ks -profile:v 3", PQ.replace("420p10", "422p10"), "prores"),
        )
    ),
    *(
        Row(
            f"matrix_{m}.mp4",
            "color",
            f"H.264, matrix {m}",
            encoded(H264, filters=f"{_tagged(m)},setparams=color_primaries=bt709:color_trc=bt709"),
        )
        for m in ("smpte170m", "bt709", "bt2020nc", "bt470bg", "fcc")
    ),
    Row("full_range.mp4", "color", "H.264, full range", encoded(H264, filters=_tagged("bt709", range_="pc"))),
    Row(
        "full_range.mkv",
        "color",
        "FFV1, full range",
        encoded("-c:v ffv1", filters=_tagged("bt709", range_="pc")),
        codec="ffv1",
    ),
    Row(
        "rgb_h264.mp4", "color", "H.264, RGB", encoded("-c:v libx264rgb -preset veryfast -crf 12 -g 12 -pix_fmt rgb24")
    ),
    Row("rgb_hevc.mkv", "color", "HEVC, RGB", encoded(HEVC.replace("yuv420p", "gbrp")), codec="hevc"),
    Row("rgb_vp9.webm", "color", "VP9, RGB", encoded(f"{VP9} -pix_fmt gbrp"), codec="vp9"),
    *(
        Row(
            f"{codec}_{pixels}.{suffix}",
            "color",
            f"{what}, {pixels}",
            encoded(f"{args} -pix_fmt {pixels}"),
            codec=codec,
            psnr=psnr,
            slow=pixels not in _USUAL,
        )
        for codec, suffix, what, args, pixels, psnr in (
            ("ffv1", "mkv", "FFV1", "-c:v ffv1", "gbrp", 40),
            ("ffv1", "mkv", "FFV1", "-c:v ffv1", "bgr0", 40),
            ("ffv1", "mkv", "FFV1", "-c:v ffv1", "gbrp10le", 40),
            ("ffv1", "mkv", "FFV1", "-c:v ffv1", "yuv422p10le", 30),
            ("ffv1", "mkv", "FFV1", "-c:v ffv1", "yuva420p", 26),
            ("ffv1", "mkv", "FFV1", "-c:v ffv1", "bgra", 40),
            ("ffv1", "mkv", "FFV1", "-c:v ffv1", "yuv411p", 24),
            ("ffv1", "mkv", "FFV1", "-c:v ffv1", "yuv410p", 22),
            ("ffv1", "mkv", "FFV1", "-c:v ffv1", "yuv444p16le", 30),
            ("ffv1", "mkv", "FFV1", "-c:v ffv1", "yuv440p", 26),
            ("qtrle", "mov", "QuickTime RLE", "-c:v qtrle", "argb", 40),
            ("qtrle", "mov", "QuickTime RLE", "-c:v qtrle", "rgb24", 40),
            ("png", "mov", "PNG", "-c:v png", "rgba", 40),
            ("png", "mov", "PNG", "-c:v png", "rgb48be", 40),
            ("prores", "mov", "ProRes 4444", "-c:v prores_ks -profile:v 4", "yuva444p10le", 30),
            ("vp9", "webm", "VP9 with alpha", VP9, "yuva420p", 26),
            ("vp8", "webm", "VP8 with alpha", VP8.replace("-pix_fmt yuv420p", "-auto-alt-ref 0"), "yuva420p", 26),
            ("rawvideo", "avi", "uncompressed", "-c:v rawvideo", "yuyv422", 26),
            ("rawvideo", "avi", "uncompressed", "-c:v rawvideo", "bgr24", 40),
            ("rawvideo", "nut", "uncompressed", "-c:v rawvideo", "nv12", 26),
            ("rawvideo", "nut", "uncompressed", "-c:v rawvideo", "rgb565le", 30),
            ("v210", "mov", "uncompressed, 10 bit", "-c:v v210", "yuv422p10le", 26),
            ("h264", "mp4", "H.264", H264.replace("-pix_fmt yuv420p", ""), "yuv444p", 30),
            ("h264", "mkv", "H.264", H264.replace("-pix_fmt yuv420p", ""), "yuv422p10le", 26),
            ("hevc", "mkv", "HEVC", HEVC.replace("-pix_fmt yuv420p", ""), "yuv420p12le", 26),
            ("av1", "mp4", "AV1", AV1, "yuv420p10le", 26),
            ("mjpeg", "mov", "MJPEG", "-c:v mjpeg -q:v 3", "yuvj444p", 28),
        )
    ),
    *(
        Row(f"gray_{i}.{suffix}", "color", f"{what}, gray", encoded(args), codec=codec, shows=range(60), upright=False)
        for i, (suffix, what, args, codec) in enumerate(
            (
                ("mp4", "H.264", H264.replace("yuv420p", "gray"), "h264"),
                ("mkv", "FFV1", "-c:v ffv1 -pix_fmt gray", "ffv1"),
                ("mkv", "FFV1, 10 bit", "-c:v ffv1 -pix_fmt gray10le", "ffv1"),
                ("mov", "MJPEG", "-c:v mjpeg -q:v 3 -pix_fmt gray", "mjpeg"),
            )
        )
    ),
]
