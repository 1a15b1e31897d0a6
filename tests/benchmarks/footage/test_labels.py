"""What the labels lack is there to be seen in the footage."""

import copy

import numpy as np
import pytest

from benchmarks.footage.labels import amended
from curation.video.decoder import Decoder


def test_labels_are_added_in_order_and_nothing_else_changes() -> None:
    labels = {"cuts_frames": [300, 372], "fades": [], "gradual": [], "uncertain_cuts": [2]}
    truth = {"sintel_trailer_30s.mp4": labels, "other.mp4": labels}
    before = copy.deepcopy(truth)
    more = amended(truth)
    assert more["sintel_trailer_30s.mp4"]["cuts_frames"] == [300, 356, 372]
    assert more["sintel_trailer_30s.mp4"]["uncertain_cuts"][:2] == [2, 361]
    assert more["other.mp4"] == labels
    assert truth == before


@pytest.mark.needs_videos
def test_the_added_cut_changes_the_picture_and_the_added_dissolve_mixes_two(shared_videos, truth) -> None:
    added = {
        name: {key: [x for x in new[key] if x not in truth[name][key]] for key in new if new[key] != truth[name][key]}
        for name, new in amended(truth).items()
        if new != truth[name]
    }
    assert len(added) == 3

    def pictures(name: str) -> np.ndarray:
        return np.stack([frame.small_bgr(64) for frame in Decoder(str(shared_videos / name))]).astype(float)

    (cut,) = added["sintel_trailer_30s.mp4"]["cuts_frames"]
    film = pictures("sintel_trailer_30s.mp4")
    steps = np.abs(np.diff(film[cut - 5 : cut + 3], axis=0)).mean((1, 2, 3))
    assert steps.argmax() == 4
    assert steps[4] > 1.5 * np.sort(steps)[-2]
    ((start, end, _),) = added["photos_with_fades.mp4"]["gradual"]
    photos = pictures("photos_with_fades.mp4")
    mean = (photos[start] + photos[end]) / 2
    nearest = min(np.abs(photos[i] - mean).mean() for i in range(start, end))
    assert nearest < 0.2 * np.abs(photos[start] - photos[end]).mean()
