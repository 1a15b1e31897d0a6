from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.config import CaptionWeights, DataSettings
from training.data import Clip, ClipData, best, collate, read_selection, split_holdout
from training.errors import TrainingError

SETTINGS = DataSettings(height=48, width=64, frames=3, fps=[6.0, 12.0])


def clip(i=0, video="v", **more):
    fields = {"clip_id": f"c{i}", "video_id": video, "uri": "x.mp4", "start": 0.0, "end": 2.0, "fps": 12.0}
    return Clip(**{**fields, "width": 64, "height": 48, "motion": 1.0, "captions": ("a", "b", "c"), **more})


def data(footage, frames=3, cache_gb=4.0, warn=None, clips=None, **settings):
    return ClipData(
        clips or read_selection(footage.selection).clips,
        SETTINGS.model_copy(update={"cache_gb": cache_gb, **settings}),
        frames,
        footage.folder / "cache",
        warn=warn or pytest.fail,
    )


def frame_number(pixels):
    """Which frame of the fixture's video this is, read from its grey."""
    return np.round((np.median(pixels[..., :8, :, :], axis=(-3, -2, -1)) - 20) / 8)


class TestSelection:
    def test_reads_every_row(self, footage):
        selection = read_selection(footage.selection, "technical_quality")
        assert [c.clip_id for c in selection.clips] == ["0-0", "0-1", "1-0", "1-1", "2-0", "2-1"]
        assert selection.clips[3].captions == ("a green square", "a square moves, clip 1", "")
        assert selection.clips[3].rank == pytest.approx(0.11)

    def test_hash_is_of_the_content_and_not_of_the_order(self, footage):
        turned = read_selection(footage.write("turned", footage.rows[::-1]))
        other = read_selection(footage.write("other", [{**footage.rows[0], "end": 0.9}, *footage.rows[1:]]))
        same = read_selection(footage.selection)
        assert turned.hash == same.hash == read_selection(footage.selection, "technical_quality").hash
        assert other.hash != same.hash

    def test_optional_columns_may_be_missing(self, footage):
        rows = [{k: v for k, v in row.items() if not k.startswith(("caption", "motion"))} for row in footage.rows]
        first = read_selection(footage.write("bare", rows)).clips[0]
        assert first.captions == ("", "", "")
        assert np.isnan(first.motion)

    def test_definition_of_the_motion_score(self, footage):
        folder = footage.write("defined", footage.rows, definition='{"scorer": "motion", "version": 1}')
        assert read_selection(folder).motion_definition == {"scorer": "motion", "version": 1}
        assert read_selection(footage.selection).motion_definition is None

    def test_what_is_wrong_is_named(self, footage, tmp_path):
        with pytest.raises(TrainingError, match="does not exist"):
            read_selection(str(tmp_path))
        with pytest.raises(TrainingError, match=r"no column beauty; it has .*technical_quality"):
            read_selection(footage.selection, "beauty")
        with pytest.raises(TrainingError, match="no column video_id"):
            read_selection(footage.write("novideo", [{"clip_id": "a"}]))
        pq.write_table(pa.Table.from_pylist(footage.rows)[:0], tmp_path / "clips.parquet")
        with pytest.raises(TrainingError, match="keeps no clip"):
            read_selection(str(tmp_path))
        (tmp_path / "clips.parquet").write_text("nonsense")
        with pytest.raises(TrainingError, match="cannot be read"):
            read_selection(str(tmp_path))


class TestSplit:
    @given(
        videos=st.lists(st.integers(0, 9), min_size=1, max_size=40),
        share=st.floats(0.01, 0.9),
    )
    def test_no_video_is_on_both_sides(self, videos, share):
        clips = [clip(i, f"v{v}") for i, v in enumerate(videos)]
        training, held, how = split_holdout(clips, share)
        assert sorted(c.clip_id for c in training + held) == sorted(c.clip_id for c in clips)
        assert training
        if len(set(videos)) > 1:
            assert how == "by video"
            assert held
            assert not {c.video_id for c in training} & {c.video_id for c in held}
            smallest = min(Counter(videos).values())
            assert len(held) <= max(share * len(clips), smallest)
        elif len(clips) > 1:
            assert how == "by clip"
            assert held

    def test_one_clip_is_not_split(self):
        assert split_holdout([clip()], 0.5) == ([clip()], [], "none")

    def test_more_videos_do_not_move_old_ones_out_of_training(self):
        few, many = ([clip(i, f"v{i}") for i in range(n)] for n in (20, 21))
        held = [{c.video_id for c in split_holdout(clips, 0.2)[1]} for clips in (few, many)]
        assert len(held[0] & held[1]) >= len(held[0]) - 1


def test_best_keeps_the_highest_and_puts_the_unranked_last():
    clips = [clip(i, rank=r) for i, r in enumerate([0.1, float("nan"), 0.9, 0.5])]
    assert [c.clip_id for c in best(clips, 0.5)] == ["c2", "c3"]
    assert [c.clip_id for c in best(clips, 0.75)] == ["c0", "c2", "c3"]
    assert len(best(clips, 0.01)) == 1


class TestExamples:
    @pytest.mark.parametrize("cache_gb", [4.0, 0.0], ids=["cached", "streamed"])
    def test_frames_are_those_on_screen_at_the_rate_that_is_told(self, footage, cache_gb):
        ours = data(footage, cache_gb=cache_gb)
        rates = set()
        for n in range(12):
            example = ours.example(n)
            steps = np.diff(frame_number(example.pixels))
            assert steps.tolist() == [12 / example.fps] * 2
            rates.add(example.fps)
        assert rates == {6.0, 12.0}

    def test_frames_stay_inside_the_clip(self, footage):
        ours = data(footage)
        for n in range(40):
            example = ours.example(n)
            clip_0 = example.caption.endswith("clip 0")
            numbers = frame_number(example.pixels)
            if example.caption.startswith("a square moves"):
                assert ((numbers < 12) if clip_0 else (numbers >= 12)).all()

    def test_cached_equals_streamed(self, footage):
        cached, streamed = data(footage, height=24, width=24), data(footage, height=24, width=24, cache_gb=0.0)
        assert (cached.cached, streamed.cached) == (True, False)
        for n in (0, 5, 11):
            a, b = cached.example(n), streamed.example(n)
            assert np.array_equal(a.pixels, b.pixels)
            assert a[1:] == b[1:]

    def test_an_example_is_a_function_of_its_number(self, footage):
        first, second = data(footage), data(footage)
        second.example(3)
        assert np.array_equal(first.example(17).pixels, second.example(17).pixels)
        assert first.example(17)[1:] == second.example(17)[1:]

    def test_an_epoch_sees_every_clip_once(self, footage):
        ours = data(footage)
        for epoch in range(3):
            seen = [(ours.example(n).motion) for n in range(6 * epoch, 6 * epoch + 6)]
            assert Counter(seen) == {1.0: 2, 2.0: 2, 3.0: 2}

    def test_captions_come_in_their_shares(self, footage):
        one = [clip(0, uri=footage.rows[0]["uri"], end=1.0)]
        ours = data(footage, clips=one, text_drop=0.2, captions=CaptionWeights())
        seen = Counter(ours.example(n).caption for n in range(1500))
        expected = {"": 0.2, "a": 0.4, "b": 0.2, "c": 0.2}
        assert set(seen) == set(expected)
        for caption, share in expected.items():
            assert seen[caption] / 1500 == pytest.approx(share, abs=0.045)

    def test_a_missing_caption_leaves_its_share_to_the_others(self, footage):
        one = [clip(0, uri=footage.rows[0]["uri"], end=1.0, captions=("", "b", "c"))]
        ours = data(footage, clips=one, text_drop=0.0)
        seen = Counter(ours.example(n).caption for n in range(600))
        assert set(seen) == {"b", "c"}
        assert seen["b"] / 600 == pytest.approx(0.5, abs=0.07)

    def test_images_know_no_rate_and_no_motion(self, footage):
        example = data(footage, frames=None).example(0)
        assert example.pixels.shape == (48, 64, 3)
        assert np.isnan(example.fps)
        assert np.isnan(example.motion)

    def test_short_clips_are_sampled_faster_or_left_out(self, footage):
        uri, warnings = footage.rows[0]["uri"], []
        clips = [clip(0, uri=uri, end=0.3), clip(1, uri=uri, end=0.2)]  # 3 and 2 frames
        ours = data(footage, clips=clips, fps=[6.0], warn=warnings.append)
        assert len(ours) == 1
        assert ours.example(0).fps == pytest.approx(2 / (0.3 - 1 / 12))
        assert len(warnings) == 1
        assert "fewer than 3 frames" in warnings[0]

    def test_nothing_to_give_is_an_error(self, footage, tmp_path):
        warnings = []
        with pytest.raises(TrainingError, match="none of its 1 clips"):
            data(footage, clips=[clip(uri=str(tmp_path / "gone.mp4"))], warn=warnings.append, height=16)
        assert "gone.mp4" in warnings[0]

    def test_fixed_examples_are_the_middle(self, footage):
        examples = data(footage).fixed()
        assert [e.caption for e in examples[:2]] == ["a red square"] * 2
        assert frame_number(examples[0].pixels).tolist() == [3.0, 5.0, 7.0]


def test_collate_scales_to_plus_minus_one(footage):
    batch = collate([data(footage).example(n) for n in range(2)])
    assert batch.pixels.shape == (2, 3, 3, 48, 64)
    assert batch.pixels.min() >= -1
    assert batch.pixels.max() <= 1
    assert batch.fps.shape == batch.motion.shape == (2,)
