"""Interlaced footage."""

from tests.formats.make import H264, Film, encoded, interlaced
from tests.formats.row import LOW, MPEG2, Row

ROWS = [
    *(
        Row(
            f"{order}.{suffix}",
            "interlaced",
            f"{what}, {'top' if order == 'tff' else 'bottom'} field first",
            interlaced(args, order == "tff"),
            interlaced=True,
            codec=codec,
            converted="deinterlaced",
            psnr=18,
        )
        for suffix, what, args, codec in (
            ("mp4", "H.264", f"{H264} -flags +ilme+ildct", "h264"),
            ("mkv", "H.264", f"{H264} -flags +ilme+ildct", "h264"),
            ("mpg", "MPEG-2", f"{MPEG2} -bf 2 -flags +ilme+ildct", "mpeg2video"),
            ("ts", "MPEG-2", f"{MPEG2} -bf 2 -flags +ilme+ildct", "mpeg2video"),
            ("avi", "MPEG-4 part 2", f"{LOW} -flags +ilme+ildct", "mpeg4"),
            ("mov", "ProRes", "-c:v prores_ks -profile:v 2 -flags +ilme+ildct", "prores"),
        )
        for order in ("tff", "bff")
    ),
    Row(
        "pal.dv",
        "interlaced",
        "DV, PAL, bottom field first",
        interlaced("-c:v dvvideo -pix_fmt yuv420p", False, Film(30, width=720, height=576)),
        30,
        interlaced=True,
        codec="dvvideo",
        converted="deinterlaced",
        sizes=((768, 576),),
        psnr=20,
    ),
    Row(
        "flagged.mp4",
        "interlaced",
        "H.264, flagged as interlaced, but progressive",
        encoded(f"{H264} -flags +ilme+ildct", filters="setparams=field_mode=tff"),
        psnr=20,
    ),
    Row(
        "unflagged.mkv",
        "interlaced",
        "FFV1 flagged as interlaced only by the container",
        interlaced("-c:v ffv1 -pix_fmt yuv422p -field_order tt"),
        interlaced=True,
        codec="ffv1",
        converted="deinterlaced",
        psnr=18,
    ),
]
