from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from tests.training.conftest import clip
from training.config import CaptionWeights, DataSettings
from training.data import ClipData, collate, fits, longest
from training.errors import TrainingError
from training.selection import read_selection

SETTINGS = DataSettings(height=48, width=64, frames=3, fps=[6.0, 12.0])


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


class TestWeights:
    """Each of four clips has its own caption, which tells it apart."""

    WEIGHTS = (1.0, 0.0, 6.0, 3.0)

    def weighted(self, footage, weights=WEIGHTS, **more) -> ClipData:
        uri = footage.rows[0]["uri"]
        clips = [clip(i, uri=uri, end=1.0, captions=(f"{i}", "", ""), weight=w) for i, w in enumerate(weights)]
        return data(footage, frames=None, clips=clips, text_drop=0.0, height=8, width=8, **more)

    def test_clips_are_drawn_in_proportion(self, footage):
        draws, ours = 2000, self.weighted(footage)
        seen = Counter(int(ours.example(n).caption) for n in range(draws))
        for i, weight in enumerate(self.WEIGHTS):
            p = weight / sum(self.WEIGHTS)
            assert abs(seen[i] - draws * p) <= 4 * np.sqrt(draws * p * (1 - p))  # of 0 exactly none

    def test_draws_do_not_depend_on_one_another(self, footage):
        """Pairs of neighbouring draws come as often as the product of their shares says."""
        draws, ours = 2000, self.weighted(footage)
        seen = [int(ours.example(n).caption) for n in range(draws + 1)]
        pairs = Counter(pairwise(seen))
        for a in (0, 2, 3):
            for b in (0, 2, 3):
                p = self.WEIGHTS[a] * self.WEIGHTS[b] / sum(self.WEIGHTS) ** 2
                assert abs(pairs[a, b] - draws * p) <= 5 * np.sqrt(draws * p * (1 - p))

    def test_only_proportions_count(self, footage):
        one, ten = self.weighted(footage), self.weighted(footage, [8 * w for w in self.WEIGHTS])
        assert [one.example(n).caption for n in range(200)] == [ten.example(n).caption for n in range(200)]

    def test_resumed_draws_are_those_that_would_have_come(self, footage):
        whole, resumed = self.weighted(footage), self.weighted(footage)
        for n in range(37, 60):
            a, b = whole.example(n), resumed.example(n)
            assert np.array_equal(a.pixels, b.pixels)
            assert a.caption == b.caption

    def test_another_seed_draws_otherwise(self, footage):
        ours = self.weighted(footage)
        first = [ours.example(n).caption for n in range(40)]
        ours.seed = 1
        assert [ours.example(n).caption for n in range(40)] != first

    def test_a_clip_that_is_gone_leaves_its_draws_to_the_next(self, footage, tmp_path):
        uri, warnings = footage.rows[0]["uri"], []
        clips = [
            clip(0, uri=str(tmp_path / "gone.mp4"), weight=9.0),
            clip(1, uri=uri, captions=("1", "", ""), weight=1.0),
        ]
        ours = data(footage, frames=None, clips=clips, text_drop=0.0, cache_gb=0.0, warn=warnings.append)
        assert {ours.example(n).caption for n in range(10)} == {"1"}
        assert all("the next clip stands in" in w for w in warnings)

    def test_without_weights_examples_are_what_they_were(self, footage):
        """A permutation an epoch, by a generator of seed and epoch."""
        ours = self.weighted(footage, [None] * 4)
        for epoch in range(5):
            order = np.random.default_rng([0, 1, epoch]).permutation(4)
            assert [int(ours.example(4 * epoch + i).caption) for i in range(4)] == order.tolist()


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


def test_a_clip_fits_where_it_has_so_many_frames():
    assert fits(clip(), 24, [8.0])  # 2 s of 12 a second
    assert not fits(clip(), 26, [8.0])


@pytest.mark.parametrize("fps", [1.0, 12.0, 23.976, 29.97, 60.0])
@pytest.mark.parametrize("end", [0.01, 0.5, 1.0, 2.0, 61.7])
def test_the_longest_that_fits(fps, end):
    most = longest(clip(fps=fps, end=end))
    assert fits(clip(fps=fps, end=end), most, [8.0])
    assert not fits(clip(fps=fps, end=end), most + 1, [8.0])


def test_collate_scales_to_plus_minus_one(footage):
    batch = collate([data(footage).example(n) for n in range(2)])
    assert batch.pixels.shape == (2, 3, 3, 48, 64)
    assert batch.pixels.min() >= -1
    assert batch.pixels.max() <= 1
    assert batch.fps.shape == batch.motion.shape == (2,)
