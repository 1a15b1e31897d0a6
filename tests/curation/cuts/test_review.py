"""What becomes of boundaries that were found: joined where they are one, and judged by both networks."""

import cv2
import numpy as np
import pytest

from curation.config import CutSettings
from curation.cuts.cascade import Cascade
from curation.cuts.footage import OpenFootage, Seen, Step
from curation.cuts.opinion import thumbnail
from curation.cuts.review import merged, reviewed
from curation.cuts.transitions import Boundary, Signature
from tests.curation.conftest import texture

FPS = 25


def footage(pictures, odds=()) -> OpenFootage:
    """Kept frames with the network's log-odds of a hard cut, {position: log-odds}."""
    out, odds = OpenFootage(), dict(odds)
    for i, picture in enumerate(pictures):
        steps = (Step(i, i / FPS, 0.0),)
        signature, small = Signature.of(i / FPS, picture), thumbnail(picture)
        out.append(Seen(signature, 0.0, 0.0, None, picture, small, steps, cut=odds.get(i, -20.0)))
    return out


def pan(seed: int, frames: int) -> list[np.ndarray]:
    wide = texture(seed, 120, 160 + 2 * frames)
    return [np.ascontiguousarray(wide[:, 2 * i : 2 * i + 160]) for i in range(frames)]


def cut(at: int) -> Boundary:
    return Boundary("cut", at, at)


def test_two_cuts_too_close_for_a_shot_are_the_stronger_one():
    seen = footage(pan(1, 60), {20: 3.0, 22: 5.0, 40: 2.0})
    assert merged(seen, [cut(40), cut(22), cut(20)]) == [cut(22), cut(40)]


def test_a_shot_of_a_fifth_of_a_second_is_one():
    seen = footage(pan(1, 60))
    assert merged(seen, [cut(20), cut(25)]) == [cut(20), cut(25)]


def test_a_short_dissolve_takes_in_the_cut_at_its_end_and_a_fade_does_not():
    seen = footage(pan(1, 90))
    assert merged(seen, [Boundary("dissolve", 20, 26), cut(28)]) == [Boundary("dissolve", 20, 28)]
    apart = [cut(20), Boundary("fade", 20, 60)]
    assert merged(seen, apart) == apart


@pytest.mark.parametrize(
    ("pictures", "kept"), [(pan(1, 40) + pan(2, 40), True), (pan(1, 80), False)], ids=["a cut", "a camera move"]
)
def test_the_second_network_decides_where_ours_is_in_doubt(pictures, kept):
    (judged,) = reviewed(footage(pictures, {40: 1.5}), [cut(40)])
    assert (judged.odds >= 0) is kept


def test_nobody_is_asked_where_our_network_is_sure():
    (judged,) = reviewed(footage(pan(1, 80), {40: 9.0}), [cut(40)])
    assert judged.odds == 9.0


def test_an_iris_through_black_is_one_fade():
    y, x = np.mgrid[-1:1:120j, -1:1:160j]
    radius = np.concatenate(
        [np.full(40, 2.0), np.linspace(1.4, 0.05, 16), np.linspace(0.05, 1.4, 16), np.full(40, 2.0)]
    )
    pictures = [p for seed in (1, 2) for p in pan(seed, 56)]
    finder, out = Cascade(CutSettings(), FPS), []
    for i, (picture, r) in enumerate(zip(pictures, radius, strict=True)):
        out += finder.push(i, i / FPS, cv2.copyTo(picture, (np.hypot(x, y) < r).astype(np.uint8)))
    (only,) = out + finder.flush()
    assert only.kind == "fade"
    assert 38 <= only.start_frame < 56 < only.end_frame <= 76
