"""A card's pictures come back as software's do. What only a card can show is skipped without one."""

import av
import numpy as np
import pytest
from av.codec.hwaccel import hwdevices_available

from curation.config import CurateConfig
from curation.engine import open_clips
from curation.errors import CurationError
from curation.scores.accelerator import cards
from curation.video import nvdec
from curation.video.decoder import Decoder


def decoded(path, accel=None):
    with av.open(str(path), hwaccel=accel) as container:
        pictures = list(container.decode(video=0))
        return pictures, container.streams.video[0].codec_context.is_hwaccel


def facts(picture):
    return (
        picture.format.name, picture.pts, picture.time_base, picture.duration, bool(picture.key_frame),
        int(picture.color_range), int(picture.colorspace), picture.rotation, bool(picture.interlaced_frame),
    )  # fmt: skip


@pytest.mark.needs_videos
@pytest.mark.parametrize(
    ("name", "interleaved"),
    [("rotate90.mov", "nv12"), ("rotate90_metadata.mp4", "nv12"), ("vfr.mp4", "nv12"), ("hevc10.mp4", "p010le")],
)
def test_planes_are_told_apart_without_loss(shared_videos, name, interleaved):
    """What the card sends is made here by interleaving software's pictures."""
    pictures, _ = decoded(shared_videos / "odd" / name)
    assert any(p.rotation for p in pictures) == name.startswith("rotate")
    for picture in pictures[:20]:
        back = nvdec.planar(picture.reformat(format=interleaved))
        assert facts(back) == facts(picture)
        np.testing.assert_array_equal(back.to_ndarray(), picture.to_ndarray())


def test_a_planar_picture_is_left_alone(two_shots):
    picture = decoded(two_shots)[0][0]
    assert nvdec.planar(picture) is picture


def test_a_machine_without_a_card_is_told_so(monkeypatch):
    monkeypatch.setattr(nvdec, "cards", lambda: 0)
    with pytest.raises(CurationError, match="needs an NVIDIA GPU.*use `--decoder cpu`"):
        nvdec.acceleration()
    monkeypatch.setattr(nvdec, "hwdevices_available", list)
    with pytest.raises(CurationError, match="without CUDA"):
        nvdec.acceleration()


def test_a_decoder_that_is_to_use_a_card_says_that_there_is_none(two_shots, monkeypatch):
    monkeypatch.setattr(nvdec, "cards", lambda: 0)
    with pytest.raises(CurationError, match="use `--decoder cpu`"):
        list(Decoder(str(two_shots), decoder="nvdec"))


@pytest.mark.skipif(not cards() or "cuda" not in hwdevices_available(), reason="no NVIDIA card")
def test_a_card_decodes_what_software_decodes(two_shots):
    theirs, software = decoded(two_shots)
    ours, on_card = decoded(two_shots, nvdec.acceleration())
    assert (software, on_card) == (False, True)
    for a, b in zip(ours, theirs, strict=True):
        planes = nvdec.planar(a)
        assert facts(planes) == facts(b)
        np.testing.assert_array_equal(planes.to_ndarray(), b.to_ndarray())


@pytest.mark.skipif(not cards() or "cuda" not in hwdevices_available(), reason="no NVIDIA card")
def test_the_whole_pass_is_the_same_on_a_card(two_shots):
    ours, theirs = (
        open_clips(str(two_shots), CurateConfig(videos=str(two_shots), decoder=decoder)) for decoder in ("nvdec", "cpu")
    )
    assert [c.clip_id for c in ours] == [c.clip_id for c in theirs]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(np.stack(a.frames), np.stack(b.frames))
        np.testing.assert_array_equal(a.flow, b.flow)
