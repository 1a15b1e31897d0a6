"""Where the cascade says that shots begin, in the words of `--predictions`; and the score."""

import numpy as np
import pytest

from benchmarks.cuts import cascade, score
from benchmarks.transitions import HEIGHT, WIDTH, _encode
from tests.curation.conftest import texture


@pytest.mark.parametrize(("fallen", "begins"), [(0.75, []), (1.0, [88])])
def test_no_shot_begins_where_the_video_ends_within_a_fade(tmp_path, fallen, begins) -> None:
    """One that has come to black is told, as is every fade: at its middle."""
    wide = texture(1, HEIGHT, WIDTH + 200).astype(float)
    pictures = [wide[:, i : i + WIDTH] for i in range(100)]
    light = np.concatenate([np.ones(76), np.linspace(1, 1 - fallen, 24)])
    frames = [(p * f).astype(np.uint8) for p, f in zip(pictures, light, strict=True)]
    _encode(frames, str(tmp_path / "a.mkv"), "ffv1", {})
    told = cascade(str(tmp_path / "a.mkv"))
    assert len(told) == len(begins)
    assert all(abs(a - b) <= 8 for a, b in zip(told, begins, strict=True))


def test_score_counts_hits_one_to_one_and_excuses_what_lies_in_a_transition() -> None:
    labels = {"cuts_frames": [10, 50], "fades": [[100, 110, 112, 120]], "gradual": [], "uncertain_cuts": [70]}
    s = score({"a": [9, 11, 71, 105, 115, 200]}, {"a": labels})
    # 9 hits 10; 11 is near it, too, and false; 50 is missed; 71 is near a doubtful one; 200 is false
    assert s == {"precision": 1 / 3, "recall": 1 / 2, "F1": 2 / 5, "gradual": 1.0}
