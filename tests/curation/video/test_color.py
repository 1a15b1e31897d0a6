"""Color conversion, against the ffmpeg binary of imageio-ffmpeg and against closed forms in float64."""

import functools
import io
import subprocess
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from av.video.frame import VideoFrame

from curation.errors import UnreadableVideo
from curation.video.color import Color, color_of, rgb_of, sdr_yuv420, to_sdr_rgb
from tests.curation.conftest import texture

FAULTS = Path(__file__).parents[4] / "shared" / "faults"
WIDTH, HEIGHT = 320, 240
UNTAGGED = 2
MATRICES = {"gbr": 0, "bt709": 1, "fcc": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "bt2020nc": 9}
SDR_TAGS = "color_primaries=bt709:color_trc=bt709"


def ffmpeg(*arguments: str, data: bytes | None = None) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments, "-"]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def raw(pix_fmt: str) -> list[str]:
    return ["-f", "rawvideo", "-pix_fmt", pix_fmt, "-s", f"{WIDTH}x{HEIGHT}"]


def converted(data: bytes, pix_fmt: str, filters: str, out: str) -> bytes:
    """A raw frame through ffmpeg's filters."""
    return ffmpeg(*raw(pix_fmt), "-i", "-", "-vf", filters, "-f", "rawvideo", "-pix_fmt", out, data=data)


def frame_of(data: bytes, pix_fmt: str, **tags: int) -> VideoFrame:
    """A raw frame as libav's decoder gives it, with these tags."""
    options = {"pixel_format": pix_fmt, "video_size": f"{WIDTH}x{HEIGHT}"}
    with av.open(io.BytesIO(data), format="rawvideo", options=options) as container:
        frame = next(container.decode(video=0))
    for name, value in tags.items():
        setattr(frame, name, value)
    return frame


def first_frame(source: Path | io.BytesIO, index: int = 0) -> VideoFrame:
    with av.open(source) as container:
        return next(frame for i, frame in enumerate(container.decode(video=0)) if i == index)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b.astype(float)) ** 2))))


@functools.cache
def original() -> np.ndarray:
    """RGB with smooth colors over the whole range and a white, a black and three saturated corners."""
    rgb = cv2.GaussianBlur(texture(3, HEIGHT, WIDTH), (0, 0), 3).astype(float)
    rgb = np.clip((rgb - 128) * 1.6 + 128, 0, 255).astype(np.uint8)
    for i, color in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)]):
        rgb[:40, i * 64 : i * 64 + 40] = color
    return rgb


# --- plain SDR: the numbers of ffmpeg's conversion to rgb24

PLAIN = [
    *[(f, matrix, full) for f in ("yuv420p", "yuv444p", "yuv420p10le") for matrix in MATRICES for full in (0, 1, 2)],
    *[
        (f, matrix, full)
        for f in (
            "yuv422p", "yuv410p", "yuva420p", "yuvj420p", "nv12", "p010le", "yuyv422", "uyvy422", "yuv422p10be",
            "yuv444p12le", "yuv420p9le", "gray", "gray10le", "gray16le", "ya8", "rgb24", "bgra", "gbrp", "gbrp10le",
            "rgb48le", "rgb565le", "pal8", "gbrpf32le", "x2rgb10le", "monow",
        )
        for matrix, full in ((None, 0), ("bt709", 1), ("smpte170m", 2))
    ],
]  # fmt: skip


@pytest.mark.parametrize(("pix_fmt", "matrix", "value_range"), PLAIN)
def test_plain_sdr_is_as_ffmpeg_shows_it(pix_fmt: str, matrix: str | None, value_range: int):
    # with primaries bt2020, which this matrix would imply, the gamut is converted
    tags = f"color_primaries={'bt709' if matrix == 'bt2020nc' else 'unknown'}"
    data = converted(original().tobytes(), "rgb24", "null", pix_fmt)
    declared = f"setparams=colorspace={matrix or 'unknown'}:range={('unknown', 'tv', 'pc')[value_range]}:{tags}"
    shown = converted(data, pix_fmt, f"{declared},scale=flags=bicubic", "rgb24")
    expected = np.frombuffer(shown, np.uint8).reshape(HEIGHT, WIDTH, 3)

    primaries = 1 if matrix == "bt2020nc" else UNTAGGED
    number = MATRICES[matrix] if matrix else UNTAGGED
    frame = frame_of(data, pix_fmt, colorspace=number, color_range=value_range, color_primaries=primaries)
    assert psnr(to_sdr_rgb(frame), expected) > 44
    again = sdr_yuv420(frame).to_ndarray(format="rgb24")
    assert psnr(smooth(again), smooth(expected)) > 30


def smooth(rgb: np.ndarray) -> np.ndarray:
    """An eighth of the size, so that the resolution of chroma does not count."""
    return cv2.resize(rgb, (rgb.shape[1] // 8, rgb.shape[0] // 8), interpolation=cv2.INTER_AREA)


def test_untagged_video_is_bt601_at_every_size():
    for width, height in ((320, 240), (1280, 720), (3840, 2160)):
        assert color_of(VideoFrame(width, height, "yuv420p")) == Color("smpte170m", "bt709", "smpte170m", False)


@pytest.mark.parametrize(
    ("pix_fmt", "tags", "color"),
    [
        ("yuv420p10le", {"color_trc": 16}, Color("bt2020", "smpte2084", "bt2020nc", False)),
        ("yuv420p10le", {"color_trc": 18}, Color("bt2020", "arib-std-b67", "bt2020nc", False)),
        ("yuv420p10le", {"color_primaries": 9}, Color("bt2020", "bt709", "bt2020nc", False)),
        ("yuv420p", {"colorspace": 9}, Color("bt2020", "bt709", "bt2020nc", False)),
        ("yuv420p", {"colorspace": 1}, Color("bt709", "bt709", "bt709", False)),
        ("yuv420p", {"colorspace": 0}, Color("smpte170m", "bt709", "smpte170m", False)),
        ("yuv420p", {"colorspace": 12, "color_primaries": 1}, Color("bt709", "bt709", "bt709", False)),
        ("yuv420p", {"colorspace": 3, "color_trc": 3, "color_primaries": 3}, Color("smpte170m", "bt709", "smpte170m", False)),  # reserved  # noqa: E501
        ("yuvj444p", {}, Color("smpte170m", "bt709", "smpte170m", True)),
        ("gray", {}, Color("smpte170m", "bt709", "smpte170m", True)),
        ("gray", {"color_range": 1}, Color("smpte170m", "bt709", "smpte170m", False)),
        ("rgb24", {"color_range": 1, "colorspace": 1}, Color("bt709", "bt709", "gbr", True)),
        ("gbrp", {}, Color("bt709", "bt709", "gbr", True)),
        ("pal8", {}, Color("bt709", "bt709", "gbr", True)),
    ],
)  # fmt: skip
def test_tags_are_resolved(pix_fmt: str, tags: dict[str, int], color: Color):
    frame = VideoFrame(64, 64, pix_fmt)
    for name, value in tags.items():
        setattr(frame, name, value)
    assert color_of(frame) == color
    assert color.is_plain_sdr is (color.primaries != "bt2020")


@pytest.mark.parametrize("depth", [8, 10, 12, 16])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020nc", "smpte240m", "ycgco", "gbr"])
def test_plain_planes_are_converted_as_the_standard_says(matrix: str, full_range: bool, depth: int):
    coded = original().astype(float) / 255
    planes = planes_of(coded, matrix, full_range, depth)
    rgb = rgb_of(*planes, Color("bt709", "bt709", matrix, full_range), depth)
    # the planes are rounded to `depth` bits, which moves 8-bit RGB by up to two
    assert np.abs(rgb.astype(int) - original()).max() <= (2 if depth == 8 else 1)


def planes_of(coded: np.ndarray, matrix: str, full_range: bool, depth: int) -> list[np.ndarray]:
    """Planes of R'G'B' of 0 to 1 (ITU-T H.273, equations 23 to 44), in float64 until they are rounded."""
    red, green, blue = np.moveaxis(coded, 2, 0)
    weights = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "smpte240m": (0.212, 0.087)}
    if matrix == "gbr":
        luma, cb, cr = green, blue, red
    elif matrix == "ycgco":
        luma, cb, cr = (red + 2 * green + blue) / 4, (2 * green - red - blue) / 4, (red - blue) / 2
    else:
        kr, kb = weights.get(matrix, (0.2627, 0.0593))
        luma = kr * red + (1 - kr - kb) * green + kb * blue
        cb, cr = (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    step, top = 1 << (depth - 8), (1 << depth) - 1
    gain, zero = (top, 0) if full_range else (219 * step, 16 * step)
    chroma_gain, chroma_zero = (top if full_range else 224 * step), 128 * step
    if matrix == "gbr":
        chroma_gain, chroma_zero = gain, zero
    levels = [luma * gain + zero, cb * chroma_gain + chroma_zero, cr * chroma_gain + chroma_zero]
    return [np.clip(np.round(v), 0, top).astype(np.uint8 if depth == 8 else np.uint16) for v in levels]


# --- HDR and wide gamut: back to the SDR original that zscale made them of

WIDE = [
    (transfer, primaries, pix_fmt, value_range)
    for transfer, primaries in (
        ("smpte2084", "bt2020"), ("smpte2084", "smpte432"), ("smpte2084", "bt709"), ("arib-std-b67", "bt2020"),
        ("bt709", "bt2020"), ("bt2020-10", "bt2020"), ("bt709", "smpte432"),
    )
    for pix_fmt, value_range in (
        ("yuv444p10le", "tv"), ("yuv444p12le", "pc"), ("yuv444p16le", "tv"), ("yuv420p10le", "tv"),
        ("yuv422p12le", "tv"), ("p010le", "tv"), ("yuv420p", "pc"), ("gbrp10le", "pc"),
        ("gbrp16le", "pc"), ("rgb48le", "pc"),
    )
]  # fmt: skip
NUMBERS = {
    "bt709": 1, "bt2020": 9, "smpte431": 11, "smpte432": 12, "bt2020-10": 14, "smpte2084": 16, "arib-std-b67": 18,
}  # fmt: skip


def zscaled(transfer: str, primaries: str, pix_fmt: str, value_range: str) -> VideoFrame:
    """The original as zscale converts it, with SDR white at 203 nits."""
    is_rgb = pix_fmt.startswith(("gbr", "rgb"))
    matrix = "gbr" if is_rgb else "bt2020nc"
    planar = {"p010le": "yuv420p10le", "rgb48le": "gbrp16le"}.get(pix_fmt, pix_fmt)
    filters = (
        f"setparams=colorspace=gbr:range=pc:{SDR_TAGS},format=gbrp,zscale=t=linear:npl=203,format=gbrpf32le,"
        f"zscale=p={primaries},zscale=t={transfer}:m={matrix}:r={value_range}:npl=203,format={planar}"
    )
    data = converted(original().tobytes(), "rgb24", filters, pix_fmt)
    return frame_of(
        data,
        pix_fmt,
        colorspace=MATRICES[matrix],
        color_range={"tv": 1, "pc": 2}[value_range],
        color_primaries=NUMBERS[primaries],
        color_trc=NUMBERS[transfer],
    )


@pytest.mark.parametrize(("transfer", "primaries", "pix_fmt", "value_range"), WIDE)
def test_footage_made_of_sdr_comes_back(transfer: str, primaries: str, pix_fmt: str, value_range: str):
    frame = zscaled(transfer, primaries, pix_fmt, value_range)
    rgb, again = to_sdr_rgb(frame), sdr_yuv420(frame)
    subsampled = "420" in pix_fmt or "422" in pix_fmt or pix_fmt == "p010le"
    if subsampled:  # hard edges between saturated colors: chroma of another matrix is averaged to other colors
        assert psnr(smooth(rgb), smooth(original())) > 29
    else:
        assert psnr(rgb, original()) > (35 if "10" in pix_fmt else 40)
    assert psnr(smooth(again.to_ndarray(format="rgb24")), smooth(original())) > 29
    assert (again.format.name, again.colorspace, again.color_primaries, again.color_trc, again.color_range) == (
        "yuv420p", 1, 1, 1, 1,
    )  # fmt: skip


def test_without_conversion_hdr_is_far_off():
    assert psnr(zscaled("smpte2084", "bt2020", "yuv444p10le", "tv").to_ndarray(format="rgb24"), original()) < 20


def test_grey_hdr():
    levels = np.linspace(0, 0.58, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)
    data = np.round(levels * 65535).astype("<u2").tobytes()
    rgb = to_sdr_rgb(frame_of(data, "gray16le", color_trc=16))
    assert np.ptp(rgb.astype(int), axis=2).max() <= 1
    assert (rgb[0, 0, 0], rgb[-1, -1, 0]) == (0, 250)  # white of 203 nits


def test_dci_white_becomes_white():
    data = converted(original().tobytes(), "rgb24", "format=gray", "rgb24")
    rgb = to_sdr_rgb(frame_of(data, "rgb24", color_primaries=11))
    assert np.abs(rgb.astype(int) - np.frombuffer(data, np.uint8).reshape(rgb.shape)).max() <= 1


# --- the conversion of HDR with highlights, against float64


def light_of(coded: np.ndarray, transfer: str) -> np.ndarray:
    """Display light in units of 203 nits (ITU-R BT.2100, tables 4 and 5)."""
    if transfer == "smpte2084":
        root = coded ** (32 / 2523)
        return (np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)) ** (8192 / 1305) * 10000 / 203
    a, b = 0.17883277, 1 - 4 * 0.17883277
    c = 0.5 - a * np.log(4 * a)
    scene = np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)
    return scene**1.2 * 1000 / 203


def reference(coded: np.ndarray, transfer: str) -> np.ndarray:
    """SDR R'G'B' of 0 to 255 in float64; not a number for colors outside of BT.709."""
    light = light_of(coded, transfer)
    largest = np.maximum(light.max(axis=2), 1e-9)
    t, p = np.maximum(largest - 0.9, 0) / 0.1, (1000 / 203 - 0.9) / 0.1
    light *= ((np.minimum(largest, 0.9) + 0.1 * np.minimum(t * (1 + t / p**2) / (1 + t), 1)) / largest)[..., None]
    light = (
        light
        @ np.array(  # BT.2020 to BT.709 (ITU-R BT.2087)
            [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
        ).T
    )
    return 255 * np.where((light >= 0) & (light <= 1), light, np.nan) ** (1 / 2.4)


@pytest.mark.parametrize(("transfer", "top"), [("smpte2084", 0.75), ("arib-std-b67", 1.0)])
def test_highlights_follow_the_float64_reference(transfer: str, top: float):
    texel = cv2.GaussianBlur(texture(5, 240, 320), (0, 0), 2).astype(float) - 128
    coded = np.clip((texel * 0.1 + np.linspace(26, 229, 320)[None, :, None]) / 255, 0, 0.95) * top
    coded[:40] = top  # a sixth of the frame is at the peak
    rgb = rgb_of(*planes_of(coded, "bt2020nc", False, 16), Color("bt2020", transfer, "bt2020nc", False), 16)
    assert light_of(np.full((1, 1, 3), top), transfer).max() > 2
    error = np.abs(rgb - reference(coded, transfer))
    inside = ~np.isnan(error).any(axis=2)
    assert inside.mean() > 0.65
    assert error[inside].max() <= 1


def ramp(nits: np.ndarray, tint: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    """SDR RGB (n, 3) of BT.709 colors of these luminances, coded as PQ in BT.709 primaries."""
    light = nits[:, None] / 10000 * np.array(tint)
    power = light ** (1305 / 8192)
    coded = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    planes = planes_of(coded[None], "bt709", True, 16)
    return rgb_of(*planes, Color("bt709", "smpte2084", "bt709", True), 16)[0]


def test_highlights_roll_off_and_shadows_stay():
    nits = np.linspace(0, 1000, 4001)
    grey = ramp(nits)[:, 1].astype(int)
    shadows = nits <= 180
    assert np.abs(grey[shadows] - 255 * (nits[shadows] / 203) ** (1 / 2.4)).max() <= 1
    assert (np.diff(grey) >= 0).all()
    white, bright = np.interp([203, 600], nits, grey)
    assert 245 < white < 252
    assert white + 2 < bright <= 255


def test_bright_colors_keep_their_hue():
    for tint in ((1, 0.3, 0.1), (0.1, 0.4, 1), (0.9, 1, 0.2)):
        rgb = ramp(np.linspace(1, 1000, 2001), tint).astype(float)
        light = (rgb / 255) ** 2.4
        bright = light[light.max(axis=1) > 0.3]
        expected = np.array(tint) / max(tint)
        assert np.abs(bright / bright.max(axis=1, keepdims=True) - expected).max() < 0.03


def test_colors_out_of_gamut_lose_saturation_not_hue():
    coded = np.tile([0.1, 0.5, 0.1], (8, 8, 1))  # a BT.2020 green
    rgb = rgb_of(*planes_of(coded, "bt2020nc", False, 10), Color("bt2020", "smpte2084", "bt2020nc", False), 10)
    red, green, blue = rgb[0, 0].astype(int)
    assert red <= blue < 0.6 * green
    assert green > 150


# --- files


@pytest.mark.skipif(not FAULTS.is_dir(), reason="the failing inputs are not in ../shared/faults")
@pytest.mark.parametrize("index", [0, 10, 40])
def test_hdr10_file_shows_its_sdr_original(index: int):
    hdr, sdr = (first_frame(FAULTS / name, index) for name in ("hdr10.mp4", "rgb_h264.mkv"))
    expected = sdr.to_ndarray(format="rgb24")
    assert psnr(hdr.to_ndarray(format="rgb24"), expected) < 16
    assert psnr(to_sdr_rgb(hdr), expected) > 28.5
    assert psnr(sdr_yuv420(hdr).to_ndarray(format="rgb24"), expected) > 28.5


@pytest.mark.needs_videos
@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        ("libx265 -x265-params log-level=error -crf 14", "yuv420p10le"),
        ("libx264 -crf 12", "yuv420p10le"),
        ("libsvtav1 -crf 14", "yuv420p10le"),
        ("libvpx-vp9 -crf 12 -b:v 0 -deadline realtime", "yuv420p10le"),
        ("prores_ks -profile:v 4", "yuv444p10le"),
        ("ffv1", "gbrp16le"),
    ],
)
@pytest.mark.parametrize("name", ["bikes.mp4", "carphone_pristine.mp4"])
def test_encoded_hdr_shows_its_sdr_original(shared_videos: Path, tmp_path: Path, name, codec, pix_fmt, transfer):
    sdr, hdr = tmp_path / "sdr.mkv", tmp_path / "hdr.mkv"
    size = f"scale=320:240:out_color_matrix=bt709:out_range=tv,setparams=colorspace=bt709:range=tv:{SDR_TAGS}"
    source = ["-i", str(shared_videos / name), "-frames:v", "3"]
    ffmpeg(*source, "-vf", size, "-pix_fmt", "yuv444p", "-c:v", "ffv1", str(sdr), "-f", "null")
    matrix, value_range = ("gbr", "pc") if pix_fmt.startswith("gbr") else ("bt2020nc", "tv")
    filters = (
        "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt2020,"
        f"zscale=t={transfer}:m={matrix}:r={value_range}:npl=203,format={pix_fmt}"
    )
    ffmpeg("-i", str(sdr), "-vf", filters, "-c:v", *codec.split(), str(hdr), "-f", "null")
    expected, frame = first_frame(sdr, 2).to_ndarray(format="rgb24"), first_frame(hdr, 2)
    assert color_of(frame) == Color("bt2020", transfer, matrix, matrix == "gbr")
    assert psnr(to_sdr_rgb(frame), expected) > 34
    assert psnr(sdr_yuv420(frame).to_ndarray(format="rgb24"), expected) > 33


# --- what goes to an encoder


@pytest.mark.parametrize(
    ("pix_fmt", "tags", "expected"),
    [
        ("yuv420p", {}, (2, 2, 2)),
        ("yuv420p10le", {"colorspace": 1, "color_primaries": 1, "color_trc": 1}, (1, 1, 1)),
        ("yuv422p", {"colorspace": 6, "color_primaries": 6, "color_trc": 6}, (6, 6, 6)),
        ("yuv444p", {"colorspace": 5, "color_primaries": 5, "color_trc": 5}, (5, 5, 5)),
        ("yuvj420p", {"colorspace": 5}, (5, 2, 2)),
        ("rgb24", {}, (1, 1, 1)),
        ("gbrp", {"colorspace": 0}, (1, 1, 1)),
        ("bgra", {"colorspace": 0, "color_primaries": 1, "color_trc": 13}, (1, 1, 1)),
        ("yuv420p", {"colorspace": 12, "color_primaries": 1}, (1, 1, 2)),
        ("yuv420p", {"colorspace": 3}, (6, 2, 2)),  # reserved
        ("yuv420p", {"colorspace": 8}, (1, 1, 1)),
        ("yuv420p10le", {"colorspace": 9, "color_primaries": 9, "color_trc": 14}, (1, 1, 1)),
    ],
)
def test_tags_for_the_encoder(pix_fmt: str, tags: dict[str, int], expected: tuple[int, int, int]):
    frame = VideoFrame(64, 48, pix_fmt)
    for name, value in tags.items():
        setattr(frame, name, value)
    frame.pts = 7
    made = sdr_yuv420(frame)
    assert (made.colorspace, made.color_primaries, made.color_trc) == expected
    assert (made.format.name, made.width, made.height, made.color_range, made.pts) == ("yuv420p", 64, 48, 1, 7)
    assert {name: getattr(frame, name) for name in tags} == tags  # the source keeps its own
    assert to_sdr_rgb(frame).shape == (48, 64, 3)


def test_gbr_tag_on_420_is_not_kept():
    """Some encoders wrote the matrix tag of their RGB source into a 4:2:0 stream."""
    data = converted(original().tobytes(), "rgb24", "null", "yuv420p")
    made = sdr_yuv420(frame_of(data, "yuv420p", colorspace=0))
    assert made.colorspace != 0


def test_frames_are_scaled():
    frame = zscaled("smpte2084", "bt2020", "yuv420p10le", "tv")
    small = to_sdr_rgb(frame, 80, 60)
    expected = cv2.resize(original(), (80, 60), interpolation=cv2.INTER_AREA)
    assert psnr(small, expected) > 25
    assert (sdr_yuv420(frame, 80, 60).width, sdr_yuv420(frame, 80, 60).height) == (80, 60)


@pytest.mark.parametrize(("width", "height"), [(321, 241), (6, 4), (1, 1)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "gray10le", "rgb24"])
@pytest.mark.parametrize("transfer", [UNTAGGED, 16, 18])
def test_odd_and_tiny_sizes(width: int, height: int, pix_fmt: str, transfer: int):
    frame = VideoFrame(width, height, pix_fmt)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    frame.color_trc = transfer
    assert to_sdr_rgb(frame).shape == (height, width, 3)
    assert (sdr_yuv420(frame).width, sdr_yuv420(frame).height) == (width, height)


# --- refused


@pytest.mark.parametrize("matrix", [10, 11, 13, 14, 15, 16, 17])
def test_matrices_without_a_conversion_are_refused(matrix: int):
    frame = VideoFrame(64, 64, "yuv420p10le")
    frame.colorspace = matrix
    for use in (color_of, to_sdr_rgb, sdr_yuv420):
        with pytest.raises(UnreadableVideo, match=r"is not supported; convert the video to BT.709 SDR"):
            use(frame)


def test_dolby_vision_without_a_base_layer_is_refused():
    metadata = [SimpleNamespace(type=SimpleNamespace(name="DOVI_METADATA"))]
    bits = SimpleNamespace(name="yuv420p10le", components=[SimpleNamespace(bits=10)], is_rgb=False, has_palette=False)
    tags = {"colorspace": UNTAGGED, "color_primaries": UNTAGGED, "color_range": 2, "format": bits}
    with pytest.raises(UnreadableVideo, match="Dolby Vision profile 5"):
        color_of(SimpleNamespace(color_trc=UNTAGGED, side_data=metadata, **tags))
    assert color_of(SimpleNamespace(color_trc=18, side_data=metadata, **tags)).transfer == "arib-std-b67"
