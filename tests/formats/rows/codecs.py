"""Codecs in their containers."""

from tests.formats.make import H264, HEVC, Film, encoded
from tests.formats.row import AV1, LOW, MPEG2, THEORA, VP8, VP9, Row


_RARE = set(
    "asv2 avif cfhd cinepak dirac dnxhr_mxf dxv ffvhuff flashsv h263p h264_3g2 h264_asf h264_f4v h264_ismv h264_nut "
    "h264_qt h264_wtv hap jpeg2000 magicyuv mpeg4_3gp mpeg4_asf msmpeg4v2 msvideo1 obu png qtrle rawvideo_mov rpza rv20 "
    "snow speedhq svq1 theora_ogm vp8_avi wmv1 wtv zmbv".split()
)


def _codec(name: str, suffix: str, what: str, args: str, **facts: object) -> Row:
    facts = {"codec": name, "slow": name in _RARE} | facts
    film = facts.pop("film", Film())
    return Row(f"{name}.{suffix}", "codec", what, encoded(args, film), **facts)  # type: ignore[arg-type]


ROWS = [
    _codec("h264", "mp4", "H.264 in MP4", H264),
    _codec("hevc", "mp4", "HEVC in MP4", HEVC),
    _codec("av1", "mp4", "AV1 in MP4", AV1),
    _codec("av1_webm", "webm", "AV1 in WebM", AV1, codec="av1"),
    _codec("vp8", "webm", "VP8 in WebM", VP8),
    _codec("vp9", "webm", "VP9 in WebM", VP9),
    _codec("vp9_mp4", "mp4", "VP9 in MP4", VP9, codec="vp9"),
    _codec(
        "vvc", "mp4", "VVC in MP4", "-c:v libvvenc -preset faster -qp 24 -pix_fmt yuv420p10le", film=Film(30), frames=30
    ),
    _codec("mpeg4", "mp4", "MPEG-4 part 2 in MP4", f"{LOW} -bf 2"),
    _codec("mpeg4_mkv", "mkv", "MPEG-4 part 2 in Matroska", f"{LOW} -bf 2", codec="mpeg4"),
    _codec("mpeg4_3gp", "3gp", "MPEG-4 part 2 in 3GP", LOW, codec="mpeg4"),
    _codec(
        "h263", "3gp", "H.263 in 3GP", "-c:v h263 -q:v 3 -g 12", film=Film(width=176, height=144), sizes=((192, 144),)
    ),
    _codec("h264_3g2", "3g2", "H.264 in 3G2", H264, codec="h264"),
    _codec("mpeg2", "mpg", "MPEG-2 in PS", f"{MPEG2} -bf 2", codec="mpeg2video"),
    _codec("mpeg2_ts", "ts", "MPEG-2 in TS", f"{MPEG2} -bf 2", codec="mpeg2video"),
    _codec("mpeg2_vob", "vob", "MPEG-2 in VOB", f"{MPEG2} -bf 2 -f vob", codec="mpeg2video"),
    _codec("mpeg1", "mpg", "MPEG-1 in PS", "-c:v mpeg1video -q:v 3 -bf 2 -g 12 -f mpeg", codec="mpeg1video"),
    _codec("h264_ts", "m2ts", "H.264 in M2TS", H264, codec="h264"),
    _codec("hevc_ts", "ts", "HEVC in TS", HEVC, codec="hevc"),
    _codec("h264_flv", "flv", "H.264 in FLV", H264, codec="h264"),
    _codec("flv1", "flv", "Sorenson H.263 in FLV", "-c:v flv -q:v 3 -g 12"),
    _codec("wmv1", "wmv", "WMV 7 in ASF", "-c:v wmv1 -q:v 3 -g 12"),
    _codec("wmv2", "wmv", "WMV 8 in ASF", "-c:v wmv2 -q:v 3 -g 12"),
    _codec("msmpeg4v3", "avi", "MS-MPEG-4 in AVI", "-c:v msmpeg4 -q:v 3 -g 12"),
    _codec("msmpeg4v2", "avi", "MS-MPEG-4 version 2 in AVI", "-c:v msmpeg4v2 -q:v 3 -g 12"),
    _codec("theora", "ogv", "Theora in OGV", THEORA),
    _codec("mjpeg", "avi", "MJPEG in AVI", "-c:v mjpeg -q:v 3"),
    _codec("mjpeg_mov", "mov", "MJPEG in MOV", "-c:v mjpeg -q:v 3", codec="mjpeg"),
    _codec("prores", "mov", "ProRes in MOV", "-c:v prores_ks -profile:v 2"),
    _codec(
        "dnxhr",
        "mov",
        "DNxHR in MOV",
        "-c:v dnxhd -profile:v dnxhr_sq -pix_fmt yuv422p",
        codec="dnxhd",
        film=Film(30, width=256, height=144),
        frames=30,
        sizes=((256, 144),),
    ),
    _codec(
        "dnxhr_mxf",
        "mxf",
        "DNxHR in MXF",
        "-c:v dnxhd -profile:v dnxhr_sq -pix_fmt yuv422p",
        codec="dnxhd",
        film=Film(30, width=256, height=144),
        frames=30,
        sizes=((256, 144),),
    ),
    _codec("mpeg2_mxf", "mxf", "MPEG-2 in MXF", f"{MPEG2} -bf 2", codec="mpeg2video"),
    _codec("cfhd", "mov", "CineForm in MOV", "-c:v cfhd"),
    _codec("ffv1", "mkv", "FFV1 in Matroska", "-c:v ffv1 -pix_fmt yuv420p"),
    _codec("huffyuv", "avi", "HuffYUV in AVI", "-c:v huffyuv -pix_fmt yuv422p"),
    _codec("ffvhuff", "avi", "FFVHuff in AVI", "-c:v ffvhuff -pix_fmt yuv420p"),
    _codec("utvideo", "avi", "Ut Video in AVI", "-c:v utvideo -pix_fmt yuv422p"),
    _codec("magicyuv", "avi", "MagicYUV in AVI", "-c:v magicyuv -pix_fmt yuv420p"),
    _codec("cinepak", "mov", "Cinepak in MOV", "-c:v cinepak", film=Film(30), frames=30, psnr=22),
    _codec("svq1", "mov", "Sorenson Video in MOV", "-c:v svq1 -q:v 3", psnr=18, sizes=((160, 120),)),
    _codec("rpza", "mov", "Apple Video in MOV", "-c:v rpza", psnr=26),
    _codec("qtrle", "mov", "QuickTime RLE in MOV", "-c:v qtrle", psnr=26),
    _codec("msvideo1", "avi", "Microsoft Video 1 in AVI", "-c:v msvideo1", psnr=26),
    _codec("zmbv", "avi", "Zip Motion Blocks in AVI", "-c:v zmbv -pix_fmt bgr0", psnr=26),
    _codec("flashsv", "flv", "Flash Screen Video in FLV", "-c:v flashsv", psnr=26),
    _codec("png", "avi", "PNG in AVI", "-c:v png -pix_fmt rgb24", psnr=26),
    _codec("jpeg2000", "mov", "JPEG 2000 in MOV", "-c:v jpeg2000 -q:v 3", psnr=22),
    _codec(
        "rv20",
        "rm",
        "RealVideo 2 in RM",
        "-c:v rv20 -q:v 3 -g 12",
        film=Film(width=176, height=144),
        sizes=((176, 144),),
        psnr=20,
    ),
    _codec("dirac", "mkv", "VC-2 in Matroska", "-c:v vc2 -pix_fmt yuv420p", psnr=26),
    _codec("snow", "nut", "Snow in NUT", "-c:v snow -q:v 3 -strict -2 -pix_fmt yuv420p", psnr=22),
    _codec("gif", "gif", "GIF", "-gifflags -transdiff", psnr=20),
    _codec("apng", "apng", "animated PNG", "-c:v apng -plays 0 -f apng", psnr=30, frames=60),
    _codec(
        "webp",
        "webp",
        "animated WebP",
        "-c:v libwebp_anim -quality 90 -loop 0",
        codec="webp_anim",
        refused="not a video that can be read",
    ),
    _codec("rawvideo", "y4m", "Y4M", "-pix_fmt yuv420p", psnr=26),
    _codec("ivf", "ivf", "VP9 in IVF", VP9, codec="vp9"),
    _codec("obu", "obu", "AV1 as OBU", AV1, codec="av1"),
    _codec("h264_mkv", "mkv", "H.264 in Matroska", H264, codec="h264"),
    _codec("h264_mov", "mov", "H.264 in MOV", H264, codec="h264"),
    _codec("h264_qt", "qt", "H.264 in QuickTime", f"{H264} -f mov", codec="h264"),
    _codec("h264_f4v", "f4v", "H.264 in F4V", H264, codec="h264"),
    _codec("h264_nut", "nut", "H.264 in NUT", H264, codec="h264"),
    _codec("fragmented", "mp4", "H.264 in fragmented MP4", f"{H264} -movflags +frag_keyframe+empty_moov", codec="h264"),
    _codec("wtv", "wtv", "MPEG-2 in WTV", f"{MPEG2} -bf 2", codec="mpeg2video"),
    _codec("avif", "avif", "animated AVIF", AV1, codec="av1", stream=1),
    _codec("h264_ismv", "ismv", "H.264 in ISMV", H264, codec="h264"),
    _codec(
        "mjpeg_raw",
        "mjpeg",
        "MJPEG without a container",
        "-c:v mjpeg -q:v 3 -f mjpeg",
        refused="not a video that can be read",
    ),
    _codec("mpeg4_asf", "asf", "MPEG-4 part 2 in ASF", f"{LOW} -bf 0", codec="mpeg4"),
    _codec("h264_asf", "asf", "H.264 in ASF", H264, codec="h264"),
    _codec("h263p", "avi", "H.263+ in AVI", "-c:v h263p -q:v 3 -g 12", codec="h263"),
    _codec("vp8_avi", "avi", "VP8 in AVI", VP8, codec="vp8"),
    _codec("theora_ogm", "ogm", "Theora in OGM", f"{THEORA} -f ogg", codec="theora"),
    _codec("h264_wtv", "wtv", "H.264 in WTV", H264, codec="h264"),
    _codec("asv2", "avi", "ASUS V2 in AVI", "-c:v asv2 -q:v 3", psnr=22),
    _codec(
        "dxv",
        "mov",
        "DXV in MOV",
        "-c:v dxv",
        film=Film(30, width=256, height=144),
        frames=30,
        sizes=((256, 144),),
        psnr=22,
    ),
    _codec("rawvideo_mov", "mov", "uncompressed in MOV", "-c:v rawvideo -pix_fmt uyvy422", codec="rawvideo"),
    _codec(
        "vp9_ts",
        "mkv",
        "VP9 with hidden frames in Matroska",
        "-c:v libvpx-vp9 -b:v 0 -crf 20 -cpu-used 5 -g 30 -auto-alt-ref 1 -lag-in-frames 16",
        codec="vp9",
    ),
    _codec("speedhq", "nut", "SpeedHQ in NUT", "-c:v speedhq -pix_fmt yuv422p"),
    _codec("hap", "mov", "Hap in MOV", "-c:v hap"),
    _codec(
        "roq",
        "roq",
        "id RoQ",
        "-c:v roqvideo -pix_fmt yuvj444p",
        codec="roq",
        film=Film(30, "30", 256, 128),
        frames=30,
        rate="30",
        sizes=((256, 128),),
        refused="not a video that can be read",
    ),
]
