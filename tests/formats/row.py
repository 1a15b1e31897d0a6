"""A row of the table of formats, and the encoder options that rows share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from tests.formats.make import H264, Make

FAULTS = Path(__file__).resolve().parents[3] / "shared" / "faults"
_MP4_CODECS = {"av1", "h264", "hevc", "mpeg4", "vp9"}
_STAMPED = set("3g2 3gp f4v flv m2ts mkv mov mp4 qt ts webm".split())
Kind = Literal["codec", "container", "time stamps", "frame rate", "geometry", "color", "interlaced", "streams"]


@dataclass(frozen=True)
class Row:
    """One file and the facts about it.

    `times` are seconds since the first frame, by number of the frame. `rate` gives them where it is constant, and the
    independent reader where it is empty. `stream` is the place of the film among the video streams. `shows` are the
    burned-in numbers, in order; None where the file has none. `sizes` are the display sizes in the order in which they
    occur. `refused` is a pattern of the reason, `reported` one of the error row about footage that is left out. `psnr`
    is the least agreement with the independent reader's frames. `independent` is false where that reader shows
    something else than what is right. `clips` is false for films from which no clips are made, `cuts` is true for films
    with several scenes. `slow` rows run with `-m slow`.
    """

    name: str
    kind: Kind
    what: str
    make: Make | None = None
    frames: int = 60
    rate: str = "25"
    times: Callable[[int], float] | None = None
    shows: Sequence[int] | None = field(default_factory=lambda: range(4096))
    sizes: Sequence[tuple[int, int]] = ((160, 120),)
    codec: str = "h264"
    stream: int = 0
    converted: str = ""
    refused: str = ""
    reported: str = ""
    hdr: bool = False
    interlaced: bool = False
    psnr: float = 26.0
    independent: bool = True
    tolerance: float = 0.0015
    slow: bool = False
    clips: bool = True
    upright: bool = True
    cuts: bool = False

    @property
    def status(self) -> str:
        """supported, converted, reported or refused, as the page says it."""
        states = {"refused": self.refused, "reported": self.reported, "converted": self.converted}
        return next((state for state, words in states.items() if words), "supported")

    @property
    def copies(self) -> bool:
        """Whether clips must be copied, not re-encoded: MP4 holds the codec, and stamps find the frames."""
        plain = self.kind in {"codec", "container"} and self.converted == self.refused == ""
        return plain and self.codec in _MP4_CODECS and self.name.rpartition(".")[2] in _STAMPED

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
