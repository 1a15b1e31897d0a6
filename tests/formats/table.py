"""The table of formats: what each file is, and what every reader must say of it.

One row is one file. `docs/formats.md` is made of these rows, and the tests beside this file check them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Literal

from tests.formats.make import (
    H264,
    HEVC,
    Film,
    Make,
    dropped,
    encoded,
    gif_delays,
    image,
    interlaced,
    joined,
    matroska_cropped,
    muxed,
    not_coded,
    pes_patched,
    remuxed,
    repeated_fields,
    restamped,
    silent_file,
    spliced,
    with_matrix,
    with_stamps,
    words,
)

FAULTS = Path(__file__).resolve().parents[3] / "shared" / "faults"
Kind = Literal["container", "codec", "time stamps", "frame rate", "geometry", "colour", "streams", "interlaced"]


@dataclass(frozen=True)
class Row:
    """One file and the facts about it.

    `times` are seconds since the first frame, by number of the frame; `rate` gives them where it is constant,
    and where it is empty the independent reader does. `stream`
    is the video stream's place among the video streams. `shows` are the burned-in numbers, in order; None where the
    file has none. `sizes` are the display sizes in the order in which they occur. `refused` is a pattern of the reason.
    `psnr` is the least agreement with the independent reader's frames. `independent` is false where that reader shows
    something else than what is right. `clips` is false where the film's clips are no matter, `cuts` is true where it has
    scenes.
    """

    name: str
    kind: Kind
    what: str
    make: Make | None = None
    frames: int = 60
    rate: str = "25"
    times: Callable[[int], float] | None = None
    last: float | None = None
    shows: Sequence[int] | None = field(default_factory=lambda: range(4096))
    sizes: Sequence[tuple[int, int]] = ((160, 120),)
    codec: str = "h264"
    stream: int = 0
    converted: str = ""
    refused: str = ""
    hdr: bool = False
    interlaced: bool = False
    psnr: float = 26.0
    copies: bool | None = None
    reported: str = ""
    independent: bool = True
    tolerance: float = 0.0015
    slow: bool = False
    clips: bool = True
    upright: bool = True
    cuts: bool = False

    @property
    def fault(self) -> bool:
        """Whether the file is one of ../shared/faults."""
        return self.make is None

    @property
    def status(self) -> str:
        """supported, converted or refused, as the page says it."""
        return "refused" if self.refused else "converted" if self.converted else "supported"

    def time(self, n: int) -> float:
        """When frame n is shown."""
        return self.times(n) if self.times else float(n / Fraction(self.rate))

    def file(self, folder: Path) -> Path:
        """The file, made in the folder where it is not there yet."""
        if self.make is None:
            return FAULTS / self.name
        path = folder / self.name
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            self.make(path)
        return path


LOW = "-c:v mpeg4 -q:v 3 -g 12 -pix_fmt yuv420p"
MPEG2 = "-c:v mpeg2video -q:v 3 -g 12 -pix_fmt yuv420p"
VP8 = "-c:v libvpx -b:v 800k -deadline realtime -cpu-used 8 -g 12 -pix_fmt yuv420p"
VP9 = "-c:v libvpx-vp9 -b:v 0 -crf 20 -deadline realtime -cpu-used 8 -g 12"
AV1 = "-c:v libsvtav1 -preset 10 -crf 24 -g 12"
THEORA = "-c:v libtheora -q:v 8 -g 12 -pix_fmt yuv420p"
NO_B = H264 + " -bf 0"
PQ = (
    "zscale=transferin=bt709:primariesin=bt709:matrixin=gbr:rangein=full:transfer=smpte2084:primaries=bt2020:"
    "matrix=bt2020nc:range=limited:npl=203,format=yuv420p10le"
)
HLG = PQ.replace("smpte2084", "arib-std-b67")
HDR_HEVC = "-c:v libx265 -preset ultrafast -crf 14 -x265-params log-level=error:keyint=12:scenecut=0"


def _fault(name: str, kind: Kind, what: str, **facts: object) -> Row:
    defaults = {"sizes": ((320, 240),), "frames": 200}
    return Row(name, kind, what, **(defaults | facts))  # type: ignore[arg-type]


def _size(width: int, height: int, first: int = 0, count: int = 60) -> Film:
    return Film(count, width=width, height=height, first=first)


TURNED = {
    "as stored": (1, 0, 0, 1), "mirrored left to right": (-1, 0, 0, 1), "turned by 180 degrees": (-1, 0, 0, -1),
    "mirrored top to bottom": (1, 0, 0, -1), "turned by 90 degrees": (0, 1, -1, 0),
    "turned by 270 degrees": (0, -1, 1, 0), "transposed": (0, 1, 1, 0), "transposed the other way": (0, -1, -1, 0),
}  # fmt: skip

FAULT_ROWS = [
    _fault("xvid_bf1.avi", "time stamps", "XviD with packed B frames in AVI", frames=199, codec="mpeg4"),
    _fault("joined_reset.ts", "time stamps", "two transport streams joined, whose stamps start again", frames=300,
           shows=[*range(200), *range(100)]),
    _fault("hold_cut.mp4", "time stamps", "the last frame is held", frames=126, shows=None, rate="", cuts=True),
    _fault("delays.gif", "frame rate", "GIF with several delays, the last frame held", frames=20, shows=None,
           rate="", codec="gif", sizes=((160, 120),)),
    _fault("gif_10ms.gif", "frame rate", "GIF with 10 ms delays", frames=40, rate="10", shows=None, codec="gif",
           converted="delays below 20 ms are 100 ms, as browsers show them", independent=False, sizes=((160, 120),)),
    _fault("lapse_20s.mp4", "frame rate", "a frame every 20 s", frames=40, rate="0.05", clips=False),
    _fault("cuts_200.mp4", "frame rate", "200 frames a second", frames=1200, rate="200", shows=None, cuts=True),
    _fault("opengop_hevc.mp4", "container", "HEVC with open groups of pictures", frames=150, codec="hevc"),
    _fault("matrix_hflip.mp4", "geometry", "display matrix that mirrors", shows=None),
    _fault("matrix_45.mp4", "geometry", "display matrix that turns by 45 degrees", refused="45 degrees"),
    _fault("sar_absurd.mp4", "geometry", "pixels 100 times as wide as high", frames=75, refused="(aspect|pixels)"),
    _fault("resize.ts", "geometry", "H.264 in TS, the frame size changes", sizes=((320, 240), (180, 320)),
           shows=None, independent=False),
    _fault("adaptive.ts", "geometry", "H.264 in TS, the frame size changes", frames=100,
           sizes=((320, 240), (160, 120)), independent=False, shows=None),
    _fault("hdr10.mp4", "colour", "HEVC, 10 bit, PQ, BT.2020", hdr=True, codec="hevc",
           converted="tone mapped to BT.709"),
    _fault("rgb_h264.mkv", "colour", "H.264, RGB", frames=75),
    _fault("av1_grain.mp4", "codec", "AV1 with film grain", frames=100, codec="av1"),
    _fault("still_track_first.mkv", "streams", "a still is the first video stream", stream=1),
    _fault("cover_udta_first.mp4", "streams", "an attached cover is the first video stream", stream=1),
    _fault("audio_longer.mkv", "streams", "the sound is longer than the video"),
    _fault("interlaced.mp4", "interlaced", "H.264, top field first", frames=100, interlaced=True, shows=None,
           converted="deinterlaced"),
    _fault("short.dv", "codec", "DV", frames=1, rate="30000/1001", codec="dvvideo", sizes=((640, 480),), clips=False,
           interlaced=True, converted="deinterlaced"),
]  # fmt: skip

STAMPS = [
    *(
        Row(f"xvid_b{b}.avi", "time stamps", f"XviD, {b} packed B frames, in AVI", encoded(f"-c:v libxvid -q:v 3 -bf {b} -g 12"),
            frames=60 - b, codec="mpeg4", shows=range(59) if b == 1 else None)
        for b in (1, 2)
    ),
    *(
        Row(f"mpeg4_b{b}.avi", "time stamps", f"MPEG-4 part 2, {b} plain B frames, in AVI", encoded(f"{LOW} -bf {b}"), codec="mpeg4")
        for b in (1, 2, 3)
    ),
    Row("mpeg4_qpel.avi", "time stamps", "MPEG-4 part 2, quarter-pixel and B frames, in AVI",
        encoded(f"{LOW} -bf 2 -flags +qpel+mv4"), codec="mpeg4"),
    Row("xvid_from_mp4.avi", "time stamps", "MPEG-4 part 2 copied from MP4 to AVI",
        remuxed(encoded(f"{LOW} -bf 2"), ".mp4"), codec="mpeg4"),
    Row("h264.avi", "time stamps", "H.264 with B frames in AVI", encoded(H264)),
    Row("h264_pyramid.avi", "time stamps", "H.264 with a B pyramid in AVI",
        encoded(H264.replace("keyint=12", "keyint=50:bframes=7:b-adapt=0:b-pyramid=normal"))),
    Row("h264_noreorder.avi", "time stamps", "H.264 without B frames in AVI", encoded(NO_B)),
    Row("hevc.avi", "time stamps", "HEVC with B frames in AVI", encoded(f"{HEVC} -tag:v HEVC"), codec="hevc"),
    Row("mpeg2.avi", "time stamps", "MPEG-2 with B frames in AVI", encoded(f"{MPEG2} -bf 2"), codec="mpeg2video"),
    Row("mpeg1.avi", "time stamps", "MPEG-1 with B frames in AVI",
        encoded("-c:v mpeg1video -q:v 3 -bf 2 -g 12 -pix_fmt yuv420p"), codec="mpeg1video", independent=False),
    Row("mpeg4_gaps.avi", "time stamps", "MPEG-4 part 2 with B frames and left-out frames, in AVI",
        dropped("-c:v mpeg4 -qscale 3 -bf 2", {20: 3, 40: 5}), codec="mpeg4",
        times=lambda n: (n + 3 * (n >= 20) + 5 * (n >= 40)) / 25, psnr=22),
    Row("mpeg4_gaps_no_b.avi", "time stamps", "MPEG-4 part 2 without B frames and left-out frames, in AVI",
        dropped("-c:v mpeg4 -qscale 3 -bf 0", {20: 3, 40: 5}), codec="mpeg4",
        times=lambda n: (n + 3 * (n >= 20) + 5 * (n >= 40)) / 25, psnr=22),
    Row("mjpeg_gaps.avi", "time stamps", "MJPEG with left-out frames in AVI",
        dropped("-c:v mjpeg -qscale 3 -pix_fmt yuvj420p", {20: 3, 40: 5}), codec="mjpeg",
        times=lambda n: (n + 3 * (n >= 20) + 5 * (n >= 40)) / 25),
    Row("vfr.mp4", "time stamps", "H.264, variable rate, in MP4", with_stamps(lambda n: n * 0.04 + (n % 3) * 0.01),
        times=lambda n: n * 0.04 + (n % 3) * 0.01),
    Row("vfr.mkv", "time stamps", "H.264, variable rate, in Matroska",
        with_stamps(lambda n: n * 0.04 if n < 30 else 1.2 + (n - 30) * 0.02),
        times=lambda n: n * 0.04 if n < 30 else 1.2 + (n - 30) * 0.02),
    Row("vfr.webm", "time stamps", "VP9, variable rate, in WebM",
        with_stamps(lambda n: n * 0.04 if n < 30 else 1.2 + (n - 30) * 0.05, "-c:v libvpx-vp9 -g 12 -deadline realtime"),
        times=lambda n: n * 0.04 if n < 30 else 1.2 + (n - 30) * 0.05, codec="vp9"),
    Row("vfr.ts", "time stamps", "H.264, variable rate, in TS", with_stamps(lambda n: n * 0.04 + (n % 2) * 0.015),
        times=lambda n: n * 0.04 + (n % 2) * 0.015),
    *(
        Row(f"raw.{suffix}", "time stamps", f"{what} without a container", encoded(args), codec=codec)
        for suffix, what, args, codec in (
            ("h264", "H.264", H264, "h264"), ("hevc", "HEVC", HEVC, "hevc"),
            ("m4v", "MPEG-4 part 2", f"{LOW} -bf 2 -f m4v", "mpeg4"),
            ("m2v", "MPEG-2", f"{MPEG2} -bf 2 -f mpeg2video", "mpeg2video"),
        )
    ),
    Row("one_stamp.ts", "time stamps", "only the first packet in TS has a stamp",
        pes_patched(lambda n, pts: pts if n == 0 else None, encoded(H264))),
    Row("some_stamps.ts", "time stamps", "every fifth packet in TS lacks its stamp",
        pes_patched(lambda n, pts: None if n % 5 == 3 else pts, encoded(H264))),
    Row("no_b_some_stamps.ts", "time stamps", "every fifth packet in TS lacks its stamp, no B frames",
        pes_patched(lambda n, pts: None if n % 5 == 3 else pts, encoded(NO_B))),
    Row("first_no_stamp.ts", "time stamps", "the first packet in TS lacks its stamp",
        pes_patched(lambda n, pts: None if n == 0 else pts, encoded(H264))),
    Row("jump_forward.ts", "time stamps", "one stamp in TS is 10 s too late",
        pes_patched(lambda n, pts: pts + 900_000 * (n == 20), encoded(NO_B)), independent=False),
    Row("jump_back.ts", "time stamps", "one stamp in TS is 1 s too early",
        pes_patched(lambda n, pts: pts - 90_000 * (n == 40), encoded(NO_B)), independent=False),
    Row("doubled.ts", "time stamps", "one stamp in TS repeats the one before",
        pes_patched(lambda n, pts: pts - 3600 * (n == 20), encoded(NO_B)), independent=False),
    Row("doubled.mkv", "time stamps", "one stamp in Matroska repeats the one before",
        restamped(encoded(NO_B), ".mkv", lambda n, t: t - 0.04 * (n == 20)), independent=False),
    Row("doubled_many.mkv", "time stamps", "every second stamp in Matroska repeats the one before",
        restamped(encoded(NO_B), ".mkv", lambda n, t: t - 0.04 * (n % 2)), independent=False),
    Row("jump_forward.mkv", "time stamps", "stamps in Matroska jump forward by 30 s and go on",
        restamped(encoded(NO_B), ".mkv", lambda n, t: t + 30 * (n >= 30)), times=lambda n: n / 25 + 30 * (n >= 30),
        last=None),
    Row("joined_reset.mpg", "time stamps", "two program streams joined, whose stamps start again",
        joined(encoded(f"{MPEG2} -bf 2"), encoded(f"{MPEG2} -bf 2", Film(first=60))), frames=120, codec="mpeg2video"),
    Row("joined_mpeg1.mpg", "time stamps", "two MPEG-1 program streams joined, whose stamps start again",
        joined(*(encoded("-c:v mpeg1video -q:v 3 -bf 2 -g 12 -f mpeg", Film(first=i)) for i in (0, 60))), frames=120,
        codec="mpeg1video"),
    Row("joined_later.ts", "time stamps", "two transport streams joined, whose stamps leap ahead by 1000 s",
        joined(encoded(H264), encoded(f"{H264} -output_ts_offset 1000", Film(first=60))), frames=120),
    Row("joined_back.ts", "time stamps", "two transport streams joined, whose stamps go back by 1000 s",
        joined(encoded(f"{H264} -output_ts_offset 1000"), encoded(H264, Film(first=60))), frames=120),
    Row("joined_three.ts", "time stamps", "three transport streams joined, whose stamps start again",
        joined(*(encoded(H264, Film(first=i)) for i in (0, 60, 120))), frames=180),
    Row("joined_mpeg2.ts", "time stamps", "two MPEG-2 transport streams joined, whose stamps start again",
        joined(*(encoded(f"{MPEG2} -bf 2", Film(first=i)) for i in (0, 60))), frames=120, codec="mpeg2video"),
    Row("joined_hevc.ts", "time stamps", "two HEVC transport streams joined, whose stamps start again",
        joined(*(encoded(HEVC, Film(first=i)) for i in (0, 60))), frames=120, codec="hevc"),
    Row("joined_overlap.ts", "time stamps", "two transport streams joined, the second starts 1 s before the first ends",
        joined(encoded(H264), encoded(f"{H264} -output_ts_offset 1.4", Film(first=60))), frames=120, independent=False),
    Row("edited.mp4", "time stamps", "MP4 whose edit list hides the first frames",
        remuxed(encoded(H264), ".mp4", before="-ss 0.72"), frames=42, shows=range(18, 60)),
    Row("edited.mov", "time stamps", "MOV whose edit list hides the first frames, without B frames",
        remuxed(encoded(NO_B), ".mp4", before="-ss 0.72"), frames=42, shows=range(18, 60)),
    Row("delayed.mp4", "time stamps", "MP4 whose edit list starts 2 s late",
        remuxed(encoded(H264), ".mp4", before="-itsoffset 2")),
    Row("negative.mkv", "time stamps", "Matroska whose first stamps are negative",
        remuxed(encoded(H264), ".mp4", "-c copy -avoid_negative_ts disabled -output_ts_offset -0.5"), independent=False),
    Row("held.mp4", "time stamps", "the last frame is held for 3 s",
        with_stamps(lambda n: n / 25 if n < 59 else 2.32 + 3), times=lambda n: n / 25 if n < 59 else 2.32 + 3),
    Row("held_end.mkv", "time stamps", "the last frame lasts for 3 s",
        remuxed(encoded(NO_B), ".mp4", "-c copy -bsf:v setts=duration='if(eq(N,59),38400,DURATION)'")),
    Row("far.mkv", "time stamps", "the first stamp is 10 h", encoded(f"{H264} -output_ts_offset 36000")),
    Row("far.ts", "time stamps", "the first stamp is 20 h", encoded(f"{H264} -output_ts_offset 72000")),
    Row("wrapping.ts", "time stamps", "stamps of 33 bits wrap around", encoded(f"{H264} -output_ts_offset 95441.5")),
    Row("wrapping.mpg", "time stamps", "stamps of 33 bits wrap around in PS",
        encoded(f"{MPEG2} -bf 2 -output_ts_offset 95442.5"), codec="mpeg2video"),
]  # fmt: skip

MORE_STAMPS = [
    Row("mpeg4_not_coded.avi", "time stamps", "MPEG-4 part 2 with frames that are not coded, in AVI",
        not_coded({20: 3, 40: 5}, f"{LOW} -bf 0"), codec="mpeg4",
        times=lambda n: (n + 3 * (n >= 20) + 5 * (n >= 40)) / 25),
    Row("repeated.m2v", "time stamps", "MPEG-2 with repeated fields, without a container",
        repeated_fields(encoded(f"{MPEG2} -bf 0 -f mpeg2video")), codec="mpeg2video", rate=""),
    Row("repeated.mpg", "time stamps", "MPEG-2 with repeated fields in PS",
        remuxed(repeated_fields(encoded(f"{MPEG2} -bf 0 -f mpeg2video")), ".m2v", "-c copy"), codec="mpeg2video", rate=""),
    Row("repeated.ts", "time stamps", "MPEG-2 with repeated fields in TS",
        remuxed(remuxed(repeated_fields(encoded(f"{MPEG2} -bf 0 -f mpeg2video")), ".m2v", "-c copy"), ".mpg"),
        codec="mpeg2video", rate=""),
    Row("sparse.mpg", "time stamps", "only every twelfth packet in PS has a stamp, as on DVDs",
        pes_patched(lambda n, pts: None if n % 12 else pts, encoded(f"{MPEG2} -bf 2 -f vob")), codec="mpeg2video"),
    Row("sparse_no_b.mpg", "time stamps", "only every twelfth packet in PS has a stamp, no B frames",
        pes_patched(lambda n, pts: None if n % 12 else pts, encoded(f"{MPEG2} -bf 0 -f vob")), codec="mpeg2video"),
    Row("sparse.ts", "time stamps", "only every twelfth packet in TS has a stamp",
        pes_patched(lambda n, pts: None if n % 12 else pts, encoded(f"{MPEG2} -bf 2")), codec="mpeg2video"),
    Row("no_stamps.ts", "time stamps", "no packet in TS has a stamp",
        pes_patched(lambda n, pts: None, encoded(H264))),
    Row("jump_forward_b.ts", "time stamps", "one stamp in TS is 10 s too late, with B frames",
        pes_patched(lambda n, pts: pts + 900_000 * (n == 20), encoded(H264)), independent=False),
    Row("jump_small.ts", "time stamps", "one stamp in TS is 1 s too late",
        pes_patched(lambda n, pts: pts + 90_000 * (n == 20), encoded(NO_B)), independent=False),
    Row("jump_back_b.ts", "time stamps", "one stamp in TS is 1 s too early, with B frames",
        pes_patched(lambda n, pts: pts - 90_000 * (n == 40), encoded(H264)), independent=False),
    Row("jump_first.ts", "time stamps", "the first stamp in TS is 5 s too early",
        pes_patched(lambda n, pts: pts - 450_000 * (n == 0), encoded(f"{NO_B} -output_ts_offset 20")), independent=False),
    Row("jump_one.mkv", "time stamps", "one stamp in Matroska is 1 s too late",
        restamped(encoded(NO_B), ".mkv", lambda n, t: t + (n == 20)), independent=False),
    Row("doubled_b.mkv", "time stamps", "one stamp in Matroska repeats the one before, with B frames",
        restamped(encoded(H264), ".mp4", lambda n, t: t - 0.04 * (n == 20)), independent=False),
    Row("doubled_first.mkv", "time stamps", "the second stamp in Matroska repeats the first",
        restamped(encoded(NO_B), ".mkv", lambda n, t: t - 0.04 * (n == 1)), independent=False),
    Row("doubled_last.mkv", "time stamps", "the last stamp in Matroska repeats the one before",
        restamped(encoded(NO_B), ".mkv", lambda n, t: t - 0.04 * (n == 59)), independent=False),
    Row("joined_mp4_parts.ts", "time stamps", "a transport stream joined twice to itself", joined(*[encoded(H264)] * 3),
        frames=180, shows=[*range(60)] * 3),
    Row("joined_small_step.ts", "time stamps", "two transport streams joined, the second starts 3 s late",
        joined(encoded(H264), encoded(f"{H264} -output_ts_offset 5.48", Film(first=60))), frames=120,
        times=lambda n: n / 25 + 3 * (n >= 60)),
    Row("negative_offsets.mp4", "time stamps", "MP4 with negative composition offsets",
        encoded(f"{H264} -movflags +negative_cts_offsets")),
    Row("edited_fragments.mp4", "time stamps", "fragmented MP4 that starts 2 s late",
        remuxed(encoded(H264), ".mp4", "-c copy -movflags +frag_keyframe+delay_moov", "-itsoffset 2")),
    Row("edited.mkv", "time stamps", "Matroska cut at a frame that is no keyframe",
        remuxed(encoded(H264), ".mp4", before="-ss 0.72"), rate="", frames=48, shows=range(12, 60), independent=True),
    Row("rate_ntsc.ts", "time stamps", "60000/1001 frames a second in TS", encoded(H264, Film(120, "60000/1001")), 120, "60000/1001"),
    Row("rate_ntsc.flv", "time stamps", "24000/1001 frames a second in FLV", encoded(H264, Film(60, "24000/1001")), 60, "24000/1001"),
]  # fmt: skip

RATES = [
    *(
        Row(f"rate_{r.replace('/', '_')}.mp4", "frame rate", f"{r} frames a second", encoded(H264, Film(n, r)), n, r)
        for r, n in (("5", 20), ("24000/1001", 60), ("60", 120), ("120", 240), ("240", 300), ("480", 600))
    ),
    Row("rate_1.mkv", "frame rate", "one frame a second", encoded(H264, Film(12, "1")), 12, "1"),
    Row("lapse.avi", "frame rate", "a frame every 20 s, in AVI", encoded(f"{LOW} -bf 0", Film(12, "1/20")), 12, "1/20",
        codec="mpeg4", clips=False),
    Row("lapse.mkv", "frame rate", "a frame every 30 s", encoded(H264, Film(12, "1/30")), 12, "1/30", clips=False,
        tolerance=0.01),
    Row("lapse.ts", "frame rate", "a frame every 5 s, in TS", encoded(H264, Film(12, "1/5")), 12, "1/5", clips=False),
    Row("delays_10.gif", "frame rate", "GIF with 10 ms delays", gif_delays(encoded("-gifflags -transdiff"), lambda n: 1),
        rate="10", codec="gif", converted="delays below 20 ms are 100 ms, as browsers show them", independent=False, psnr=20),
    Row("delays_0.gif", "frame rate", "GIF with delays of 0", gif_delays(encoded("-gifflags -transdiff"), lambda n: 0),
        rate="10", codec="gif", converted="delays below 20 ms are 100 ms, as browsers show them", independent=False, psnr=20),
    Row("delays_20.gif", "frame rate", "GIF with 20 ms delays", gif_delays(encoded("-gifflags -transdiff"), lambda n: 2),
        rate="50", codec="gif", psnr=20),
    Row("delays_mixed.gif", "frame rate", "GIF with delays of 10 ms and 70 ms",
        gif_delays(encoded("-gifflags -transdiff"), lambda n: 1 if n % 2 else 7), codec="gif", psnr=20,
        times=lambda n: 0.17 * (n // 2) + 0.07 * (n % 2), independent=False,
        converted="delays below 20 ms are 100 ms, as browsers show them"),
]  # fmt: skip

GEOMETRY = [
    *(
        Row(f"matrix_{i}.mp4", "geometry", f"display matrix: {name}", with_matrix(*matrix), shows=None,
            sizes=((120, 160),) if matrix[0] == 0 else ((160, 120),))
        for i, (name, matrix) in enumerate(TURNED.items())
    ),
    *(
        Row(f"matrix_sar_{i}.mp4", "geometry", f"display matrix: {name}, pixels twice as wide as high",
            with_matrix(*TURNED[name], args=f"{H264} -vf setsar=2"), shows=None, sizes=(size,))
        for i, (name, size) in enumerate({"turned by 90 degrees": (120, 320), "transposed": (120, 320),
                                         "mirrored top to bottom": (320, 120)}.items())
    ),
    Row("matrix_tilted.mp4", "geometry", "display matrix that turns by 0.5 degrees",
        with_matrix(0.99996, 0.0087, -0.0087, 0.99996), converted="taken for the nearest multiple of 90 degrees"),
    Row("matrix_30.mp4", "geometry", "display matrix that turns by 30 degrees", with_matrix(0.866, 0.5, -0.5, 0.866),
        refused="30 degrees"),
    Row("matrix_scaled.mp4", "geometry", "display matrix that turns by 90 degrees and enlarges",
        with_matrix(0, 2, -2, 0), shows=None, sizes=((120, 160),), independent=False),
    Row("matrix.mov", "geometry", "MOV, display matrix: mirrored left to right", with_matrix(-1, 0, 0, 1), shows=None),
    *(
        Row(f"sar_{w}_{h}.mp4", "geometry", f"pixel aspect ratio {w}:{h}", encoded(f"{H264} -vf setsar={w}/{h}"),
            sizes=((round(160 * w / h), 120),))
        for w, h in ((2, 1), (1, 2), (64, 45), (8, 9))
    ),
    Row("sar.mkv", "geometry", "pixel aspect ratio 4:3 in Matroska", encoded(f"{H264} -vf setsar=4/3"), sizes=((213, 120),)),
    Row("sar.mpg", "geometry", "MPEG-2, display aspect ratio 16:9", encoded(f"{MPEG2} -aspect 16:9"), codec="mpeg2video",
        sizes=((213, 120),)),
    Row("sar_100.mkv", "geometry", "pixels 100 times as wide as high", encoded(f"{H264} -vf setsar=100"), refused="(aspect|pixels)"),
    *(
        Row(f"odd_{w}x{h}.{suffix}", "geometry", f"{w} x {h}", encoded(args, _size(w, h)), sizes=((w, h),), codec=codec)
        for w, h, suffix, args, codec in (
            (161, 121, "mkv", "-c:v ffv1 -pix_fmt yuv420p", "ffv1"), (161, 121, "webm", f"{VP9} -pix_fmt yuv420p", "vp9"),
            (161, 121, "mp4", H264.replace("yuv420p", "yuv444p"), "h264"), (150, 118, "mp4", H264, "h264"),
        )
    ),
    Row("cropped.mp4", "geometry", "H.264 with a cropped frame", encoded(f"{H264} -bsf:v h264_metadata=crop_left=16:crop_right=0:crop_top=0:crop_bottom=24"),
        sizes=((144, 104),), shows=None),
    *(
        Row(f"resized.{suffix}", "geometry", f"{what}, the frame size changes", make, codec=codec, independent=False,
            sizes=((160, 120), (240, 180)), tolerance=0.05, **({"frames": 119, "shows": [*range(59), *range(60, 120)]} if suffix == "mpg" else {"frames": 120}))
        for suffix, what, codec, make in (
            ("ts", "H.264 in TS", "h264",
             joined(encoded(H264), encoded(f"{H264} -output_ts_offset 2.48", _size(240, 180, 60)))),
            ("mpg", "MPEG-2 in PS", "mpeg2video",
             joined(encoded(f"{MPEG2} -bf 2"), encoded(f"{MPEG2} -bf 2 -output_ts_offset 2.48", _size(240, 180, 60)))),
            ("webm", "VP9 in WebM", "vp9", spliced(".webm", encoded(VP9), encoded(VP9, _size(240, 180, 60)))),
            ("mkv", "AV1 in Matroska", "av1", spliced(".mkv", encoded(AV1), encoded(AV1, _size(240, 180, 60)))),
            ("h264", "H.264 without a container", "h264", joined(encoded(H264), encoded(H264, _size(240, 180, 60)))),
            ("avi", "MJPEG in AVI", "mjpeg",
             spliced(".avi", *(encoded("-c:v mjpeg -q:v 3", _size(w, h, f)) for w, h, f in ((160, 120, 0), (240, 180, 60))))),
        )
    ),
    Row("cropped.mkv", "geometry", "Matroska whose header crops the frame",
        matroska_cropped(encoded(f"{H264} -vf setsar=2")), sizes=((144, 96),), shows=None),
    Row("cropped_hevc.mkv", "geometry", "HEVC with a cropped frame",
        encoded(f"{HEVC} -bsf:v hevc_metadata=crop_left=16:crop_right=0:crop_top=0:crop_bottom=24"), sizes=((144, 104),),
        shows=None, codec="hevc"),
    *(
        Row(f"resized_inside.{suffix}", "geometry", f"H.264 in {what}, the frame size changes",
            remuxed(joined(encoded(H264), encoded(f"{H264} -output_ts_offset 2.48", _size(240, 180, 60))), ".ts"), 120,
            independent=False, sizes=((160, 120), (240, 180)), tolerance=0.05)
        for suffix, what in (("mkv", "Matroska"), ("mp4", "MP4"), ("flv", "FLV"))
    ),
    Row("resized_thrice.ts", "geometry", "H.264 in TS, the frame size changes and returns",
        joined(*(encoded(f"{H264} -output_ts_offset {2.48 * i}", _size(*size, 60 * i))
                 for i, size in enumerate(((160, 120), (240, 180), (160, 120))))), 180,
        independent=False, sizes=((160, 120), (240, 180)), tolerance=0.09),
    Row("resized_scene.ts", "geometry", "MPEG-2 in TS, the frame size changes",
        joined(encoded(f"{MPEG2} -bf 2"), encoded(f"{MPEG2} -bf 2 -output_ts_offset 2.48", _size(240, 180, 60))), 119,
        independent=False, sizes=((160, 120), (240, 180)), tolerance=0.05, codec="mpeg2video", shows=[*range(59), *range(60, 120)]),
    Row("resized_hevc.ts", "geometry", "HEVC in TS, the frame size changes",
        joined(encoded(HEVC), encoded(f"{HEVC} -output_ts_offset 2.48", _size(240, 180, 60))), 120, codec="hevc",
        independent=False, sizes=((160, 120), (240, 180)), tolerance=0.05),
    Row("resized_portrait.ts", "geometry", "H.264 in TS, landscape becomes portrait",
        joined(encoded(H264), encoded(f"{H264} -output_ts_offset 2.48", _size(120, 160, 60))), 120,
        independent=False, sizes=((160, 120), (120, 160)), tolerance=0.05),
    Row("resized_vp8.webm", "geometry", "VP8 in WebM, the frame size changes",
        spliced(".webm", encoded(VP8), encoded(VP8, _size(240, 180, 60))), 120, codec="vp8",
        independent=False, sizes=((160, 120), (240, 180)), tolerance=0.05),
    Row("resized_sar.ts", "geometry", "H.264 in TS, the pixel aspect ratio changes",
        joined(encoded(H264), encoded(f"{H264} -output_ts_offset 2.48 -vf setsar=2", _size(160, 120, 60))), 120,
        independent=False, sizes=((160, 120), (320, 120)), tolerance=0.05),
]  # fmt: skip


def _tagged(matrix: str, pixels: str = "yuv420p", range_: str = "tv") -> str:
    zimg = {"smpte170m": "170m", "bt2020nc": "2020_ncl", "bt709": "709", "bt470bg": "470bg", "fcc": "fcc"}
    return f"zscale=matrixin=gbr:rangein=full:matrix={zimg[matrix]}:range={range_},format={pixels}"


COLOUR = [
    *(
        Row(f"hdr_{name}", "colour", f"{what}, 10 bit, BT.2020", encoded(args, filters=filters), hdr=True, codec=codec,
            converted="tone mapped to BT.709")
        for name, what, args, filters, codec in (
            ("pq.mp4", "HEVC, PQ", HDR_HEVC, PQ, "hevc"), ("hlg.mp4", "HEVC, HLG", HDR_HEVC, HLG, "hevc"),
            ("pq.mkv", "AV1, PQ", AV1, PQ, "av1"), ("hlg.mkv", "AV1, HLG", AV1, HLG, "av1"),
            ("pq.webm", "VP9, PQ", VP9, PQ, "vp9"), ("hlg.webm", "VP9, HLG", VP9, HLG, "vp9"),
            ("hlg_h264.mp4", "H.264, HLG", H264.replace("-pix_fmt yuv420p", ""), HLG, "h264"),
            ("pq.mov", "ProRes, PQ", "-c:v prores_ks -profile:v 3", PQ.replace("420p10", "422p10"), "prores"),
        )
    ),
    *(
        Row(f"matrix_{m}.mp4", "colour", f"H.264, matrix {m}", encoded(H264, filters=f"{_tagged(m)},setparams=color_primaries=bt709:color_trc=bt709"))
        for m in ("smpte170m", "bt709", "bt2020nc", "bt470bg", "fcc")
    ),
    Row("full_range.mp4", "colour", "H.264, full range", encoded(H264, filters=_tagged("bt709", range_="pc"))),
    Row("full_range.mkv", "colour", "FFV1, full range", encoded("-c:v ffv1", filters=_tagged("bt709", range_="pc")), codec="ffv1"),
    Row("rgb_h264.mp4", "colour", "H.264, RGB", encoded("-c:v libx264rgb -preset veryfast -crf 12 -g 12 -pix_fmt rgb24")),
    Row("rgb_hevc.mkv", "colour", "HEVC, RGB", encoded(HEVC.replace("yuv420p", "gbrp")), codec="hevc"),
    Row("rgb_vp9.webm", "colour", "VP9, RGB", encoded(f"{VP9} -pix_fmt gbrp"), codec="vp9"),
    *(
        Row(f"{codec}_{pixels}.{suffix}", "colour", f"{what}, {pixels}", encoded(f"{args} -pix_fmt {pixels}"), codec=codec, psnr=psnr)
        for codec, suffix, what, args, pixels, psnr in (
            ("ffv1", "mkv", "FFV1", "-c:v ffv1", "gbrp", 40), ("ffv1", "mkv", "FFV1", "-c:v ffv1", "bgr0", 40),
            ("ffv1", "mkv", "FFV1", "-c:v ffv1", "gbrp10le", 40), ("ffv1", "mkv", "FFV1", "-c:v ffv1", "yuv422p10le", 30),
            ("ffv1", "mkv", "FFV1", "-c:v ffv1", "yuva420p", 26), ("ffv1", "mkv", "FFV1", "-c:v ffv1", "bgra", 40),
            ("ffv1", "mkv", "FFV1", "-c:v ffv1", "yuv411p", 24), ("ffv1", "mkv", "FFV1", "-c:v ffv1", "yuv410p", 22),
            ("ffv1", "mkv", "FFV1", "-c:v ffv1", "yuv444p16le", 30), ("ffv1", "mkv", "FFV1", "-c:v ffv1", "yuv440p", 26),
            ("qtrle", "mov", "QuickTime RLE", "-c:v qtrle", "argb", 40), ("qtrle", "mov", "QuickTime RLE", "-c:v qtrle", "rgb24", 40),
            ("png", "mov", "PNG", "-c:v png", "rgba", 40), ("png", "mov", "PNG", "-c:v png", "rgb48be", 40),
            ("prores", "mov", "ProRes 4444", "-c:v prores_ks -profile:v 4", "yuva444p10le", 30),
            ("vp9", "webm", "VP9 with alpha", VP9, "yuva420p", 26), ("vp8", "webm", "VP8 with alpha", VP8.replace("-pix_fmt yuv420p", "-auto-alt-ref 0"), "yuva420p", 26),
            ("rawvideo", "avi", "uncompressed", "-c:v rawvideo", "yuyv422", 26), ("rawvideo", "avi", "uncompressed", "-c:v rawvideo", "bgr24", 40),
            ("rawvideo", "nut", "uncompressed", "-c:v rawvideo", "nv12", 26),
            ("rawvideo", "nut", "uncompressed", "-c:v rawvideo", "rgb565le", 30), ("v210", "mov", "uncompressed, 10 bit", "-c:v v210", "yuv422p10le", 26),
            ("h264", "mp4", "H.264", H264.replace("-pix_fmt yuv420p", ""), "yuv444p", 30),
            ("h264", "mkv", "H.264", H264.replace("-pix_fmt yuv420p", ""), "yuv422p10le", 26),
            ("hevc", "mkv", "HEVC", HEVC.replace("-pix_fmt yuv420p", ""), "yuv420p12le", 26),
            ("av1", "mp4", "AV1", AV1, "yuv420p10le", 26), ("mjpeg", "mov", "MJPEG", "-c:v mjpeg -q:v 3", "yuvj444p", 28),
        )
    ),
    *(
        Row(f"gray_{i}.{suffix}", "colour", f"{what}, gray", encoded(args), codec=codec, shows=range(60), upright=False)
        for i, (suffix, what, args, codec) in enumerate((
            ("mp4", "H.264", H264.replace("yuv420p", "gray"), "h264"), ("mkv", "FFV1", "-c:v ffv1 -pix_fmt gray", "ffv1"),
            ("mkv", "FFV1, 10 bit", "-c:v ffv1 -pix_fmt gray10le", "ffv1"), ("mov", "MJPEG", "-c:v mjpeg -q:v 3 -pix_fmt gray", "mjpeg"),
        ))
    ),
]  # fmt: skip

_SMALL = Film(20, "1", 80, 60, first=2000)
_SOUND = (silent_file(4.0), ".wav")
STREAMS = [
    Row("cover.mp4", "streams", "MP4 with an attached cover",
        muxed([(image, ".png"), (encoded(H264), ".mp4")], "-map 0 -map 1 -c copy -disposition:v:0 attached_pic")),
    Row("cover.m4v", "streams", "M4V, an attached cover is the second video stream",
        muxed([(encoded(H264), ".mp4"), (image, ".jpg")], "-map 0 -map 1 -c copy -disposition:v:1 attached_pic -f mp4")),
    Row("cover.mkv", "streams", "Matroska, a cover as an attachment",
        muxed([(encoded(H264), ".mp4"), (image, ".jpg")], "-map 0 -map 1 -c copy -disposition:v:1 attached_pic"), stream=0),
    Row("still_first.mkv", "streams", "a still is the first video stream",
        muxed([(image, ".jpg"), (encoded(H264), ".mp4")], "-map 0 -map 1 -c copy"), stream=1),
    Row("still_first.mp4", "streams", "MP4, a still is the first video stream",
        muxed([(image, ".png"), (encoded(H264), ".mp4")], "-map 0 -map 1 -c copy"), stream=1),
    Row("preview_first.mkv", "streams", "a small preview is the first video stream",
        muxed([(encoded(H264, Film(6, "5", 80, 60, first=2000)), ".mp4"), (encoded(H264), ".mp4")], "-map 0 -map 1 -c copy"), stream=1),
    Row("preview_first.mp4", "streams", "MP4, a small preview of the same length is the first video stream",
        muxed([(encoded(H264, Film(60, "25", 80, 60, first=2000)), ".mp4"), (encoded(H264), ".mp4")], "-map 0 -map 1 -c copy -disposition:v 0"), stream=1),
    Row("two_default_second.mkv", "streams", "two films, the second is flagged as default",
        muxed([(encoded(H264, Film(first=2000)), ".mp4"), (encoded(H264), ".mp4")],
              "-map 0 -map 1 -c copy -disposition:v:0 0 -disposition:v:1 default"), stream=1),
    Row("two_default_first.mkv", "streams", "two films, the first is flagged as default",
        muxed([(encoded(H264), ".mp4"), (encoded(H264, Film(first=2000)), ".mp4")],
              "-map 0 -map 1 -c copy -disposition:v:0 default -disposition:v:1 0")),
    Row("two.mp4", "streams", "two films of one size, neither is marked",
        muxed([(encoded(H264), ".mp4"), (encoded(H264, Film(first=2000)), ".mp4")], "-map 0 -map 1 -c copy")),
    Row("two.ts", "streams", "two films in TS", muxed([(encoded(H264), ".mp4"), (encoded(H264, Film(first=2000)), ".mp4")], "-map 0 -map 1 -c copy")),
    *(
        Row(f"sound_longer.{suffix}", "streams", f"the sound is longer than the video, in {what}",
            muxed([(encoded(args), source), (silent_file(9.0), ".wav")], f"-map 0 -map 1 -c:v copy -c:a {sound}"), codec=codec)
        for suffix, what, args, source, sound, codec in (
            ("mkv", "Matroska", H264, ".mp4", "aac", "h264"), ("mp4", "MP4", H264, ".mp4", "aac", "h264"),
            ("ts", "TS", H264, ".ts", "mp2", "h264"), ("avi", "AVI", f"{LOW} -bf 0", ".avi", "mp2", "mpeg4"),
            ("flv", "FLV", H264, ".mp4", "aac", "h264"), ("webm", "WebM", VP9, ".webm", "libopus", "vp9"),
            ("mpg", "PS", f"{MPEG2} -bf 2", ".mpg", "mp2", "mpeg2video"), ("wmv", "ASF", "-c:v wmv2 -q:v 3 -g 12", ".wmv", "wmav2", "wmv2"),
        )
    ),
    Row("video_longer.mkv", "streams", "the video is longer than the sound",
        muxed([(encoded(H264), ".mp4"), (silent_file(0.5), ".wav")], "-map 0 -map 1 -c:v copy -c:a aac")),
    Row("sound_first.mp4", "streams", "the sound is the first stream",
        muxed([_SOUND, (encoded(H264), ".mp4")], "-map 0 -map 1 -c:v copy -c:a aac")),
    Row("timecode.mov", "streams", "MOV with a time code track", encoded(f"{H264} -timecode 10:00:00:00")),
    Row("words_only.mkv", "streams", "subtitles alone", muxed([(words, ".srt")], "-c copy"), refused="no video stream"),
    Row("words_first.mkv", "streams", "subtitles that end after the video",
        muxed([(words, ".srt"), (encoded(H264), ".mp4")], "-map 0 -map 1 -c copy")),
    Row("sound_only.mp4", "streams", "no video", partial(remuxed(silent_file(2.0), ".wav", "-c:a aac")), refused="no video stream"),
    Row("cover_only.m4a", "streams", "sound with a cover",
        muxed([_SOUND, (image, ".jpg")], "-map 0 -map 1 -c:a aac -c:v copy -disposition:v attached_pic -f mp4"),
        refused="no film"),
    Row("cover_only.mp3", "streams", "MP3 with a cover",
        muxed([_SOUND, (image, ".jpg")], "-map 0 -map 1 -c:a libmp3lame -c:v copy -disposition:v attached_pic"),
        refused="(no film|not a video)"),
]  # fmt: skip

_INTERLACED = "the fields differ"
INTERLACED = [
    *(
        Row(f"{order}.{suffix}", "interlaced", f"{what}, {'top' if order == 'tff' else 'bottom'} field first",
            interlaced(args, order == "tff"), interlaced=True, codec=codec, converted="deinterlaced", psnr=18)
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
    Row("pal.dv", "interlaced", "DV, PAL, bottom field first",
        interlaced("-c:v dvvideo -pix_fmt yuv420p", False, Film(30, width=720, height=576)), 30, interlaced=True, codec="dvvideo",
        converted="deinterlaced", sizes=((768, 576),), psnr=20),
    Row("flagged.mp4", "interlaced", "H.264, flagged as interlaced, but progressive",
        encoded(f"{H264} -flags +ilme+ildct", filters="setparams=field_mode=tff"), psnr=20),
    Row("unflagged.mkv", "interlaced", "FFV1 flagged as interlaced by the container alone",
        interlaced("-c:v ffv1 -pix_fmt yuv422p -field_order tt"), interlaced=True, codec="ffv1", converted="deinterlaced", psnr=18),
]  # fmt: skip


def _codec(name: str, suffix: str, what: str, args: str, **facts: object) -> Row:
    film = facts.pop("film", Film())
    return Row(f"{name}.{suffix}", "codec", what, encoded(args, film), codec=str(facts.pop("codec", name)), **facts)  # type: ignore[arg-type]


CODECS = [
    _codec("h264", "mp4", "H.264 in MP4", H264),
    _codec("hevc", "mp4", "HEVC in MP4", HEVC),
    _codec("av1", "mp4", "AV1 in MP4", AV1),
    _codec("av1_webm", "webm", "AV1 in WebM", AV1, codec="av1"),
    _codec("vp8", "webm", "VP8 in WebM", VP8),
    _codec("vp9", "webm", "VP9 in WebM", VP9),
    _codec("vp9_mp4", "mp4", "VP9 in MP4", VP9, codec="vp9"),
    _codec("vvc", "mp4", "VVC in MP4", "-c:v libvvenc -preset faster -qp 24 -pix_fmt yuv420p10le", film=Film(30), frames=30),
    _codec("mpeg4", "mp4", "MPEG-4 part 2 in MP4", f"{LOW} -bf 2"),
    _codec("mpeg4_mkv", "mkv", "MPEG-4 part 2 in Matroska", f"{LOW} -bf 2", codec="mpeg4"),
    _codec("mpeg4_3gp", "3gp", "MPEG-4 part 2 in 3GP", LOW, codec="mpeg4"),
    _codec("h263", "3gp", "H.263 in 3GP", "-c:v h263 -q:v 3 -g 12", film=Film(width=176, height=144), sizes=((192, 144),)),
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
    _codec("dnxhr", "mov", "DNxHR in MOV", "-c:v dnxhd -profile:v dnxhr_sq -pix_fmt yuv422p", codec="dnxhd", film=Film(30, width=256, height=144), frames=30, sizes=((256, 144),)),
    _codec("dnxhr_mxf", "mxf", "DNxHR in MXF", "-c:v dnxhd -profile:v dnxhr_sq -pix_fmt yuv422p", codec="dnxhd", film=Film(30, width=256, height=144), frames=30, sizes=((256, 144),)),
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
    _codec("rv20", "rm", "RealVideo 2 in RM", "-c:v rv20 -q:v 3 -g 12", film=Film(width=176, height=144), sizes=((176, 144),), psnr=20),
    _codec("dirac", "mkv", "VC-2 in Matroska", "-c:v vc2 -pix_fmt yuv420p", psnr=26),
    _codec("snow", "nut", "Snow in NUT", "-c:v snow -q:v 3 -strict -2 -pix_fmt yuv420p", psnr=22),
    _codec("gif", "gif", "GIF", "-gifflags -transdiff", psnr=20),
    _codec("apng", "apng", "animated PNG", "-c:v apng -plays 0 -f apng", psnr=30, frames=60),
    _codec("webp", "webp", "animated WebP", "-c:v libwebp_anim -quality 90 -loop 0", codec="webp_anim", refused="(not a video|WebP)"),
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
    _codec("mjpeg_raw", "mjpeg", "MJPEG without a container", "-c:v mjpeg -q:v 3 -f mjpeg", refused="not a video"),
    _codec("mpeg4_asf", "asf", "MPEG-4 part 2 in ASF", f"{LOW} -bf 0", codec="mpeg4"),
    _codec("h264_asf", "asf", "H.264 in ASF", H264, codec="h264"),
    _codec("h263p", "avi", "H.263+ in AVI", "-c:v h263p -q:v 3 -g 12", codec="h263"),
    _codec("vp8_avi", "avi", "VP8 in AVI", VP8, codec="vp8"),
    _codec("theora_ogm", "ogm", "Theora in OGM", f"{THEORA} -f ogg", codec="theora"),
    _codec("h264_wtv", "wtv", "H.264 in WTV", H264, codec="h264"),
    _codec("asv2", "avi", "ASUS V2 in AVI", "-c:v asv2 -q:v 3", psnr=22),
    _codec("dxv", "mov", "DXV in MOV", "-c:v dxv", film=Film(30, width=256, height=144), frames=30, sizes=((256, 144),), psnr=22),
    _codec("rawvideo_mov", "mov", "uncompressed in MOV", "-c:v rawvideo -pix_fmt uyvy422", codec="rawvideo"),
    _codec("vp9_ts", "mkv", "VP9 with hidden frames in Matroska", "-c:v libvpx-vp9 -b:v 0 -crf 20 -cpu-used 5 -g 30 -auto-alt-ref 1 -lag-in-frames 16", codec="vp9"),
    _codec("speedhq", "nut", "SpeedHQ in NUT", "-c:v speedhq -pix_fmt yuv422p"),
    _codec("hap", "mov", "Hap in MOV", "-c:v hap"),
    _codec("roq", "roq", "id RoQ", "-c:v roqvideo -pix_fmt yuvj444p", codec="roq", film=Film(30, "30", 256, 128), frames=30, rate="30", sizes=((256, 128),), refused="not a video"),
]  # fmt: skip

_LONG = Film(100)
_OPEN_H264 = "-c:v libx264 -preset veryfast -crf 16 -x264-params open-gop=1:keyint=25:bframes=3:b-adapt=0:scenecut=0 -pix_fmt yuv420p"
HEVC_OPEN = "-c:v libx265 -preset fast -crf 16 -x265-params log-level=error:open-gop=1:keyint=25:bframes=4:b-adapt=0:scenecut=0:rc-lookahead=20 -pix_fmt yuv420p"
_LONG_GOP = H264.replace("keyint=12", "keyint=250:bframes=3:b-adapt=0")
_PYRAMID = H264.replace("keyint=12", "keyint=50:bframes=7:b-adapt=0:b-pyramid=normal:ref=4")
_REFRESH = "-c:v libx264 -preset veryfast -crf 16 -x264-params intra-refresh=1:keyint=20:bframes=0 -pix_fmt yuv420p"
ACCESS = [
    Row(f"{name}.{suffix}", "container", f"{what} in {container}", encoded(args, _LONG), 100, codec=codec)
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
        ("long_mpeg2", "mpg", "MPEG-2 with long groups in PS", f"{MPEG2.replace('-g 12', '-g 60')} -bf 2", "mpeg2video"),
        ("closed_mpeg2", "mpg", "MPEG-2 with closed groups in PS", f"{MPEG2} -bf 2 -flags +cgop -sc_threshold 1000000000", "mpeg2video"),
        ("long_mpeg2", "ts", "MPEG-2 with long groups in TS", f"{MPEG2.replace('-g 12', '-g 60')} -bf 2", "mpeg2video"),
        ("long_vp9", "webm", "VP9 with alternate references in WebM", "-c:v libvpx-vp9 -b:v 0 -crf 20 -cpu-used 5 -g 60 -auto-alt-ref 1 -lag-in-frames 16", "vp9"),
        ("long_av1", "mp4", "AV1 with long groups in MP4", AV1.replace("-g 12", "-g 60"), "av1"),
        ("long_theora", "ogv", "Theora with long groups in OGV", THEORA.replace("-g 12", "-g 64"), "theora"),
        ("long_mpeg4", "mp4", "MPEG-4 part 2 with B frames in MP4", f"{LOW.replace('-g 12', '-g 60')} -bf 2", "mpeg4"),
        ("long_wmv", "wmv", "WMV 8 with long groups in ASF", "-c:v wmv2 -q:v 3 -g 60", "wmv2"),
    )
]  # fmt: skip

ROWS = [*FAULT_ROWS, *STAMPS, *MORE_STAMPS, *RATES, *GEOMETRY, *COLOUR, *STREAMS, *INTERLACED, *CODECS, *ACCESS]
