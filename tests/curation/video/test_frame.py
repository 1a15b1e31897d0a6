"""Small pictures from the planes, against libav's own conversion and closed forms."""

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation

from curation.video.decoder import Decoder
from curation.video.frame import Frame
from curation.video.geometry import Geometry, Orientation
from tests.curation.conftest import texture

BT709, BT601, UNTAGGED = 1, 5, 2
VIDEO, FULL = 1, 2


def frame_of(picture: VideoFrame, rotation: int = 0, width: int | None = None) -> Frame:
    aspect = (width or picture.width) / picture.width
    return Frame(
        0, 0.0, 0.04, True, None, picture, Geometry(picture.width, picture.height, aspect, Orientation(rotation))
    )


def coded(rgb: np.ndarray, pix_fmt: str, matrix: int = BT601, color_range: int = VIDEO) -> VideoFrame:
    """The picture as a decoder would give it, converted by libav."""
    picture = VideoFrame.from_ndarray(rgb, format="rgb24")
    picture = picture.reformat(format=pix_fmt, dst_colorspace=matrix, dst_color_range=color_range)
    picture.colorspace, picture.color_range = matrix, color_range
    return picture


def libav(picture: VideoFrame, width: int, height: int) -> np.ndarray:
    """libav's most accurate conversion; its fast one, PyAV's default, is some two grey levels too dark."""
    flags = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    return picture.reformat(width=width, height=height, format="rgb24", interpolation=flags).to_ndarray().astype(int)


def scene(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    """Fine structure in brightness, coarse structure in colour, as in the world."""
    fine, coarse = texture(seed, height, width), texture(seed + 100, height, width)
    luma = fine.mean(axis=2, keepdims=True)
    tint = cv2.GaussianBlur(coarse, (0, 0), 8).astype(float) - 128
    return np.clip(luma + tint, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("color_range", [VIDEO, FULL])
@pytest.mark.parametrize("matrix", [BT709, BT601])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p12le"])
def test_thumbnails_are_those_of_libav(pix_fmt, matrix, color_range):
    made = scene(3, 240, 320)
    picture = coded(made, pix_fmt, matrix, color_range)
    seen = frame_of(picture).rgb(160).astype(int)
    assert np.abs(seen - libav(picture, 160, 120)).mean() < 1.5
    assert np.abs(seen - cv2.resize(made, (160, 120), interpolation=cv2.INTER_AREA)).mean() < 1.3


@pytest.mark.parametrize("pix_fmt", ["nv12", "gbrp", "rgb24", "yuvj420p", "gray", "gray10le", "yuv410p"])
@pytest.mark.parametrize("size", [(160, 120), (107, 80), (106, 79)])
def test_other_formats_and_odd_sizes_too(pix_fmt, size):
    made = scene(4, 240, 320)
    picture = VideoFrame.from_ndarray(made, format="rgb24").reformat(format=pix_fmt)
    crop = made[: size[1] * 2, : size[0] * 2]
    picture = VideoFrame.from_ndarray(np.ascontiguousarray(crop), format="rgb24").reformat(format=pix_fmt)
    seen = frame_of(picture).rgb(size[0])
    assert seen.shape == (size[1], size[0], 3)
    reference = libav(picture, *size)
    assert np.abs(seen.astype(int) - reference).mean() < (4 if pix_fmt == "yuv410p" else 1.5)


@pytest.mark.parametrize("depth", [8, 10])
def test_flat_colours_have_their_closed_form(depth):
    """BT.709 in video range: Y' = 16 + 219 (.2126 R + .7152 G + .0722 B), and so on (ITU-R BT.709-6, 3)."""
    red, green, blue = 200 / 255, 40 / 255, 90 / 255
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    y, u, v = 16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748
    scale = 2 ** (depth - 8)
    planes = np.empty((96, 64), np.uint8 if depth == 8 else np.uint16)
    planes[:64], planes[64:80], planes[80:] = round(y * scale), round(u * scale), round(v * scale)
    picture = VideoFrame.from_ndarray(planes, format="yuv420p" if depth == 8 else "yuv420p10le")
    picture.colorspace, picture.color_range = BT709, VIDEO
    assert np.abs(frame_of(picture).rgb(32).astype(int) - (200, 40, 90)).max() <= 3
    assert abs(int(frame_of(picture).gray(32)[5, 5]) - y) <= 1


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_pictures_are_turned_upright_and_made_square(rotation):
    made = scene(5, 120, 160)
    frame = frame_of(coded(made, "yuv420p"), rotation, width=200)
    turned = np.rot90(cv2.resize(made, (200, 120), interpolation=cv2.INTER_AREA), rotation // 90)
    assert frame.rgb(1000).shape == turned.shape
    assert np.abs(frame.rgb(1000).astype(int) - turned).mean() < 4
    upright = frame_of(coded(made, "yuv420p"), 0, width=200)
    assert np.array_equal(frame.gray(60), np.rot90(upright.gray(60), rotation // 90))
    assert np.array_equal(frame.small_bgr(10_000), np.rot90(upright.small_bgr(10_000), rotation // 90))


def test_who_asks_first_changes_nothing():
    """Halves are shared between the small pictures."""
    picture = coded(scene(6, 240, 320), "yuv420p")
    one, other = frame_of(picture), frame_of(picture)
    first = one.small_bgr(64), one.gray(32), one.rgb(160)
    second = other.rgb(160), other.gray(32), other.small_bgr(64)
    assert all(np.array_equal(a, b) for a, b in zip(first, second[::-1], strict=True))


def test_a_still_is_half_as_large_as_its_rgb():
    frame = frame_of(coded(scene(7, 240, 320), "yuv420p"))
    still = frame.still(160)
    assert sum(p.nbytes for p in still.planes) * 2 == still.rgb().nbytes


def test_detectors_see_the_same_whatever_the_range():
    made = scene(8)
    video, full = (frame_of(coded(made, "yuv420p", BT601, r)).small_bgr(64).astype(int) for r in (VIDEO, FULL))
    luma = [cv2.cvtColor(p.astype(np.uint8), cv2.COLOR_BGR2GRAY).astype(int) for p in (video, full)]
    assert np.abs(luma[0] - luma[1]).mean() < 2


def test_interlaced_pictures_show_no_comb(tmp_path):
    """Two moments woven into one picture: what we see is the first of them."""
    wide = scene(9, 120, 400)
    moments = [np.ascontiguousarray(wide[:, 8 * i : 8 * i + 160]) for i in range(24)]
    path = tmp_path / "interlaced.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.options = {"crf": "10", "preset": "veryfast", "x264-params": "tff=1"}
        for first, second in zip(moments[::2], moments[1::2], strict=True):
            woven = first.copy()
            woven[1::2] = second[1::2]
            planes = VideoFrame.from_ndarray(woven, format="rgb24").reformat(format="yuv444p")
            # chroma rows alternate between the fields as luma's do
            y, u, v = (
                np.frombuffer(memoryview(p), np.uint8).reshape(p.height, p.line_size)[:, :160] for p in planes.planes
            )
            half = [np.stack([c[0::4], c[1::4]], 1).reshape(60, 160)[:, ::2] for c in (u, v)]
            i420 = np.concatenate([y.ravel(), half[0].ravel(), half[1].ravel()]).reshape(180, 160)
            container.mux(stream.encode(VideoFrame.from_ndarray(i420, format="yuv420p")))
        container.mux(stream.encode())
    frames = list(Decoder(str(path)))
    assert len(frames) == 12
    assert frames[5].picture.interlaced_frame
    for frame, first, second in zip(frames, moments[::2], moments[1::2], strict=True):
        for seen, size in ((frame.rgb(160), (160, 120)), (frame.small_bgr(80)[..., ::-1], (80, 60))):
            errors = [
                np.abs(seen.astype(int) - cv2.resize(m, size, interpolation=cv2.INTER_AREA)).mean()
                for m in (first, second)
            ]
            assert errors[0] < 5
            assert errors[0] < errors[1] / 2
        whole = frame.full_rgb().astype(int)
        comb = np.abs(2 * whole[1:-1:2] - whole[:-2:2] - whole[2::2]).mean()  # of odd lines against their neighbors
        woven = frame.picture.to_ndarray(format="rgb24").astype(int)
        assert comb < np.abs(2 * woven[1:-1:2] - woven[:-2:2] - woven[2::2]).mean() / 3
        assert np.abs(whole - first).mean() < 6
