"""Time stamps: containers that store decoding order, stamps that start again, edit lists."""

from tests.formats.make import (
    H264,
    HEVC,
    Film,
    dropped,
    encoded,
    joined,
    muxed,
    pes_patched,
    remuxed,
    restamped,
    silent_file,
    with_stamps,
)
from tests.formats.row import LOW, MPEG2, NO_B, THEORA, Row

_SECOND = Film(first=60)
ROWS = [
    *(
        Row(
            f"xvid_b{b}.avi",
            "time stamps",
            f"XviD, {b} packed B frames, in AVI",
            encoded(f"-c:v libxvid -q:v 3 -bf {b} -g 12"),
            frames=60 - b,
            codec="mpeg4",
            shows=range(59) if b == 1 else None,
        )
        for b in (1, 2)
    ),
    *(
        Row(
            f"mpeg4_b{b}.avi",
            "time stamps",
            f"MPEG-4 part 2, {b} plain B frames, in AVI",
            encoded(f"{LOW} -bf {b}"),
            codec="mpeg4",
        )
        for b in (1, 2, 3)
    ),
    Row(
        "mpeg4_qpel.avi",
        "time stamps",
        "MPEG-4 part 2, quarter-pixel and B frames, in AVI",
        encoded(f"{LOW} -bf 2 -flags +qpel+mv4"),
        codec="mpeg4",
    ),
    Row(
        "xvid_from_mp4.avi",
        "time stamps",
        "MPEG-4 part 2 copied from MP4 to AVI",
        remuxed(encoded(f"{LOW} -bf 2"), ".mp4"),
        codec="mpeg4",
    ),
    Row("h264.avi", "time stamps", "H.264 with B frames in AVI", encoded(H264)),
    Row(
        "h264_pyramid.avi",
        "time stamps",
        "H.264 with a B pyramid in AVI",
        encoded(H264.replace("keyint=12", "keyint=50:bframes=7:b-adapt=0:b-pyramid=normal")),
    ),
    Row("h264_noreorder.avi", "time stamps", "H.264 without B frames in AVI", encoded(NO_B)),
    Row("hevc.avi", "time stamps", "HEVC with B frames in AVI", encoded(f"{HEVC} -tag:v HEVC"), codec="hevc"),
    Row("mpeg2.avi", "time stamps", "MPEG-2 with B frames in AVI", encoded(f"{MPEG2} -bf 2"), codec="mpeg2video"),
    Row(
        "mpeg1.avi",
        "time stamps",
        "MPEG-1 with B frames in AVI",
        encoded("-c:v mpeg1video -q:v 3 -bf 2 -g 12 -pix_fmt yuv420p"),
        codec="mpeg1video",
        rate="",
    ),
    Row(
        "mpeg4_gaps.avi",
        "time stamps",
        "MPEG-4 part 2 with B frames and left-out frames, in AVI",
        dropped("-c:v mpeg4 -qscale 3 -bf 2", {20: 3, 40: 5}),
        codec="mpeg4",
        times=lambda n: (n + 3 * (n >= 20) + 5 * (n >= 40)) / 25,
        psnr=22,
    ),
    Row(
        "mpeg4_gaps_no_b.avi",
        "time stamps",
        "MPEG-4 part 2 without B frames and left-out frames, in AVI",
        dropped("-c:v mpeg4 -qscale 3 -bf 0", {20: 3, 40: 5}),
        codec="mpeg4",
        times=lambda n: (n + 3 * (n >= 20) + 5 * (n >= 40)) / 25,
        psnr=22,
    ),
    Row(
        "mjpeg_gaps.avi",
        "time stamps",
        "MJPEG with left-out frames in AVI",
        dropped("-c:v mjpeg -qscale 3 -pix_fmt yuvj420p", {20: 3, 40: 5}),
        codec="mjpeg",
        times=lambda n: (n + 3 * (n >= 20) + 5 * (n >= 40)) / 25,
    ),
    Row(
        "vfr.mp4",
        "time stamps",
        "H.264, variable rate, in MP4",
        with_stamps(lambda n: n * 0.04 + (n % 3) * 0.01),
        times=lambda n: n * 0.04 + (n % 3) * 0.01,
    ),
    Row(
        "vfr.mkv",
        "time stamps",
        "H.264, variable rate, in Matroska",
        with_stamps(lambda n: n * 0.04 if n < 30 else 1.2 + (n - 30) * 0.02),
        times=lambda n: n * 0.04 if n < 30 else 1.2 + (n - 30) * 0.02,
    ),
    Row(
        "vfr.webm",
        "time stamps",
        "VP9, variable rate, in WebM",
        with_stamps(
            lambda n: n * 0.04 if n < 30 else 1.2 + (n - 30) * 0.05, "-c:v libvpx-vp9 -g 12 -deadline realtime"
        ),
        times=lambda n: n * 0.04 if n < 30 else 1.2 + (n - 30) * 0.05,
        codec="vp9",
    ),
    Row(
        "vfr.ts",
        "time stamps",
        "H.264, variable rate, in TS",
        with_stamps(lambda n: n * 0.04 + (n % 2) * 0.015),
        times=lambda n: n * 0.04 + (n % 2) * 0.015,
    ),
    *(
        Row(f"raw.{suffix}", "time stamps", f"{what} without a container", encoded(args), codec=codec)
        for suffix, what, args, codec in (
            ("h264", "H.264", H264, "h264"),
            ("hevc", "HEVC", HEVC, "hevc"),
            ("m4v", "MPEG-4 part 2", f"{LOW} -bf 2 -f m4v", "mpeg4"),
            ("m2v", "MPEG-2", f"{MPEG2} -bf 2 -f mpeg2video", "mpeg2video"),
        )
    ),
    Row(
        "one_stamp.ts",
        "time stamps",
        "only the first packet in TS has a stamp",
        pes_patched(lambda n, pts: pts if n == 0 else None, encoded(H264)),
    ),
    Row(
        "some_stamps.ts",
        "time stamps",
        "every fifth packet in TS lacks its stamp",
        pes_patched(lambda n, pts: None if n % 5 == 3 else pts, encoded(H264)),
    ),
    Row(
        "no_b_some_stamps.ts",
        "time stamps",
        "every fifth packet in TS lacks its stamp, no B frames",
        pes_patched(lambda n, pts: None if n % 5 == 3 else pts, encoded(NO_B)),
    ),
    Row(
        "first_no_stamp.ts",
        "time stamps",
        "the first packet in TS lacks its stamp",
        pes_patched(lambda n, pts: None if n == 0 else pts, encoded(H264)),
    ),
    Row(
        "jump_forward.ts",
        "time stamps",
        "one stamp in TS is 10 s too late",
        pes_patched(lambda n, pts: pts + 900_000 * (n == 20), encoded(NO_B)),
        independent=False,
    ),
    Row(
        "jump_back.ts",
        "time stamps",
        "one stamp in TS is 1 s too early",
        pes_patched(lambda n, pts: pts - 90_000 * (n == 40), encoded(NO_B)),
        independent=False,
    ),
    Row(
        "doubled.ts",
        "time stamps",
        "one stamp in TS repeats the one before",
        pes_patched(lambda n, pts: pts - 3600 * (n == 20), encoded(NO_B)),
        independent=False,
    ),
    Row(
        "doubled.mkv",
        "time stamps",
        "one stamp in Matroska repeats the one before",
        restamped(encoded(NO_B), ".mkv", lambda n, t: t - 0.04 * (n == 20)),
        independent=False,
    ),
    Row(
        "doubled_many.mkv",
        "time stamps",
        "every second stamp in Matroska repeats the one before",
        restamped(encoded(NO_B), ".mkv", lambda n, t: t - 0.04 * (n % 2)),
        independent=False,
    ),
    Row(
        "jump_forward.mkv",
        "time stamps",
        "stamps in Matroska jump forward by 30 s and go on",
        restamped(encoded(NO_B), ".mkv", lambda n, t: t + 30 * (n >= 30)),
        times=lambda n: n / 25 + 30 * (n >= 30),
    ),
    Row(
        "joined_reset.mpg",
        "time stamps",
        "two program streams joined, whose stamps start again",
        joined(encoded(f"{MPEG2} -bf 2"), encoded(f"{MPEG2} -bf 2", Film(first=60))),
        frames=120,
        codec="mpeg2video",
    ),
    Row(
        "joined_mpeg1.mpg",
        "time stamps",
        "two MPEG-1 program streams joined, whose stamps start again",
        joined(*(encoded("-c:v mpeg1video -q:v 3 -bf 2 -g 12 -f mpeg", Film(first=i)) for i in (0, 60))),
        frames=120,
        codec="mpeg1video",
    ),
    Row(
        "joined_later.ts",
        "time stamps",
        "two transport streams joined, whose stamps leap ahead by 1000 s",
        joined(encoded(H264), encoded(f"{H264} -output_ts_offset 1000", Film(first=60))),
        frames=120,
    ),
    Row(
        "joined_back.ts",
        "time stamps",
        "two transport streams joined, whose stamps go back by 1000 s",
        joined(encoded(f"{H264} -output_ts_offset 1000"), encoded(H264, Film(first=60))),
        frames=120,
    ),
    Row(
        "joined_three.ts",
        "time stamps",
        "three transport streams joined, whose stamps start again",
        joined(*(encoded(H264, Film(first=i)) for i in (0, 60, 120))),
        frames=180,
    ),
    Row(
        "joined_mpeg2.ts",
        "time stamps",
        "two MPEG-2 transport streams joined, whose stamps start again",
        joined(*(encoded(f"{MPEG2} -bf 2", Film(first=i)) for i in (0, 60))),
        frames=120,
        codec="mpeg2video",
    ),
    Row(
        "joined_hevc.ts",
        "time stamps",
        "two HEVC transport streams joined, whose stamps start again",
        joined(*(encoded(HEVC, Film(first=i)) for i in (0, 60))),
        frames=120,
        codec="hevc",
    ),
    Row(
        "joined_overlap.ts",
        "time stamps",
        "two transport streams joined, the second starts 1 s before the first ends",
        joined(encoded(H264), encoded(f"{H264} -output_ts_offset 1.4", Film(first=60))),
        frames=120,
        independent=False,
    ),
    Row(
        "edited.mp4",
        "time stamps",
        "MP4 whose edit list hides the first frames",
        remuxed(encoded(H264), ".mp4", before="-ss 0.72"),
        frames=42,
        shows=range(18, 60),
    ),
    Row(
        "edited.mov",
        "time stamps",
        "MOV whose edit list hides the first frames, without B frames",
        remuxed(encoded(NO_B), ".mp4", before="-ss 0.72"),
        frames=42,
        shows=range(18, 60),
    ),
    Row(
        "delayed.mp4",
        "time stamps",
        "MP4 whose edit list starts 2 s late",
        remuxed(encoded(H264), ".mp4", before="-itsoffset 2"),
    ),
    Row(
        "negative.mkv",
        "time stamps",
        "Matroska whose first stamps are negative",
        remuxed(encoded(H264), ".mp4", "-c copy -avoid_negative_ts disabled -output_ts_offset -0.5"),
        independent=False,
    ),
    Row(
        "held.mp4",
        "time stamps",
        "the last frame is held for 3 s",
        with_stamps(lambda n: n / 25 if n < 59 else 2.32 + 3),
        times=lambda n: n / 25 if n < 59 else 2.32 + 3,
    ),
    Row(
        "held_end.mkv",
        "time stamps",
        "the last frame lasts for 3 s",
        remuxed(encoded(NO_B), ".mp4", "-c copy -bsf:v setts=duration='if(eq(N,59),38400,DURATION)'"),
    ),
    Row("far.mkv", "time stamps", "the first stamp is 10 h", encoded(f"{H264} -output_ts_offset 36000")),
    Row("far.ts", "time stamps", "the first stamp is 20 h", encoded(f"{H264} -output_ts_offset 72000")),
    Row("wrapping.ts", "time stamps", "stamps of 33 bits wrap around", encoded(f"{H264} -output_ts_offset 95441.5")),
    Row(
        "wrapping.mpg",
        "time stamps",
        "stamps of 33 bits wrap around in PS",
        encoded(f"{MPEG2} -bf 2 -output_ts_offset 95442.5"),
        codec="mpeg2video",
    ),
    *(
        Row(
            f"joined.{suffix}",
            "time stamps",
            f"two {what} files joined",
            joined(encoded(args), encoded(args, _SECOND)),
            120,
            codec=codec,
            shows=range(120),
            psnr=20,
            independent=suffix not in {"ogv", "mkv"},
        )
        for suffix, what, args, codec in (
            ("vob", "MPEG-2 VOB", f"{MPEG2} -bf 2 -f vob", "mpeg2video"),
            ("h264", "H.264", H264, "h264"),
            ("m2ts", "H.264 M2TS", H264, "h264"),
            ("mkv", "H.264 Matroska", H264, "h264"),
            ("gif", "GIF", "-gifflags -transdiff", "gif"),
            ("ogv", "Theora OGV", THEORA, "theora"),
        )
    ),
    Row(
        "joined_sound.ts",
        "time stamps",
        "two transport streams with sound joined, whose stamps start again",
        joined(
            *(
                muxed(
                    [(encoded(H264, Film(first=n)), ".mp4"), (silent_file(2.4), ".wav")],
                    "-map 0 -map 1 -c:v copy -c:a mp2",
                )
                for n in (0, 60)
            )
        ),
        120,
    ),
    Row(
        "joined_rate.ts",
        "time stamps",
        "two transport streams of 25 and 50 frames a second joined",
        joined(encoded(H264), encoded(H264, Film(60, "50", first=60))),
        120,
        times=lambda n: n / 25 if n < 60 else 2.4 + (n - 60) / 50,
    ),
]
