"""Libav's own words on errors, from all of its threads. What damage costs is in test_decode.py."""

import random

import av
import numpy as np
import pytest

from curation.video.damage import Damage, LibavErrors
from tests.curation.conftest import texture
from tests.curation.video.test_decoder import spoil


@pytest.fixture
def broken(tmp_path, write_video):
    """A video with a packet of noise."""
    path = write_video(tmp_path / "broken.mp4", [np.roll(texture(5), 4 * i, axis=1) for i in range(40)])
    spoil(path, 20, random.Random(20))
    return path


def decode(path) -> None:
    """With four threads."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = 4
        for packet in container.demux(stream):
            try:
                packet.decode()
            except av.error.InvalidDataError:
                continue
        stream.codec_context.flush_buffers()


def test_an_error_is_told_once_and_a_sound_video_has_none(broken, two_shots):
    with LibavErrors() as errors:
        decode(two_shots)
        assert not errors.told()
        decode(broken)
        assert errors.told() == {"h264"}
        assert not errors.told()


def test_what_the_video_before_told_is_told_again(broken):
    for _ in range(3):
        with LibavErrors() as errors:
            decode(broken)
            assert errors.told()


def test_two_may_listen_and_stop_in_any_order(broken, two_shots):
    first, second = LibavErrors(), LibavErrors()
    with first:
        second.__enter__()
        decode(broken)
        assert first.told()
        assert second.told()
    decode(broken)
    assert second.told()
    decode(two_shots)
    assert not second.told()
    second.__exit__(None, None, None)


@pytest.mark.parametrize("level", [None, av.logging.ERROR])
def test_afterwards_libav_is_as_it_was(level, broken):
    before = av.logging.get_level()
    av.logging.set_level(level)
    try:
        with LibavErrors():
            decode(broken)
        assert av.logging.get_level() == level
        assert av.logging.get_skip_repeated()
        with av.logging.Capture(local=False) as ours:
            av.logging.log(av.logging.ERROR, "test", "heard by whom it was meant for")
        assert len(ours) == (level is not None)
    finally:
        av.logging.set_level(before)


def test_a_concealed_error_counts_and_other_news_does_not():
    with LibavErrors() as errors:
        av.logging.log(av.logging.INFO, "h264", "Reinit context to 160x128, pix_fmt: yuv420p")
        av.logging.log(av.logging.WARNING, "h264", "Increasing reorder buffer to 2")
        assert not errors.told()
        av.logging.log(av.logging.INFO, "h264", "concealing 8 DC, 8 AC, 8 MV errors in P frame")
        assert errors.told()


@pytest.mark.parametrize(("codec", "since"), [("hevc", 3.0), ("h264", 3.04)])
def test_a_reading_that_goes_on_from_a_place_reaches_back_no_further_than_the_picture_before(codec, since):
    """Where the first thing heard is an error; a decoder that marks its pictures would have marked that one."""
    damage = Damage([], codec, last=3.0)
    damage.lose()
    assert damage.see(av.VideoFrame(16, 16, "yuv420p"), 3.04, 3.04, delay=3) == since
