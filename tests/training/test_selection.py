from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.conftest import clip
from training.errors import TrainingError
from training.selection import best, drawn, read_selection, split_holdout


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

    def test_split_and_weight_are_read_and_make_another_selection(self, footage):
        rows = [{**row, "split": "train", "weight": i / 2} for i, row in enumerate(footage.rows)]
        selection = read_selection(footage.write("weighted", rows))
        assert [(c.split, c.weight) for c in selection.clips] == [("train", i / 2) for i in range(6)]
        heavier = [{**row, "weight": row["weight"] + 1} for row in rows]
        hashes = {read_selection(footage.write("weighted", r)).content_hash for r in (footage.rows, rows, heavier)}
        assert len(hashes) == 3
        assert {(c.split, c.weight) for c in read_selection(footage.selection).clips} == {(None, None)}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"split": "test"}, "split of clip 0-0 is 'test', neither train nor validation"),
            ({"split": None}, "split of clip 0-0 is None"),
            ({"split": "validation"}, "split puts video video0 on both sides"),
            ({"weight": -0.5}, "weight of clip 0-0 is -0.5, not a number"),
            ({"weight": None}, "weight of clip 0-0 is None"),
            ({"weight": float("inf")}, "weight of clip 0-0 is inf"),
            ({"weight": float("nan")}, "weight of clip 0-0 is nan"),
        ],
    )
    def test_a_split_or_weight_that_is_none_is_named(self, footage, change, message):
        rows = [{**row, "split": "train", "weight": 1.0} for row in footage.rows]
        with pytest.raises(TrainingError, match=message):
            read_selection(footage.write("wrong", [{**rows[0], **change}, *rows[1:]]))


class TestSplit:
    @given(sides=st.lists(st.sampled_from(["train", "validation"]), min_size=1, max_size=8), share=st.floats(0, 0.9))
    def test_a_selection_that_splits_is_taken_at_its_word(self, sides, share):
        clips = [clip(i, f"v{i // 2}", split=sides[i // 2]) for i in range(2 * len(sides))]
        if "train" not in sides:
            with pytest.raises(TrainingError, match="leaves no clip for training"):
                split_holdout(clips, share)
            return
        training, held, how = split_holdout(clips, share)
        assert training == [c for c in clips if c.split == "train"]
        assert held == [c for c in clips if c.split == "validation"]
        assert how == ("by policy" if held else "none")

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


def test_what_has_no_weight_is_not_drawn():
    clips = [clip(i, weight=w) for i, w in enumerate([0.0, 2.0, 0.5])]
    assert [c.clip_id for c in drawn(clips)] == ["c1", "c2"]
    assert drawn([clip(0), clip(1)]) == [clip(0), clip(1)]
    with pytest.raises(TrainingError, match="every clip for training has weight 0"):
        drawn(clips[:1])
