"""What the labels of the shared footage lack, found by looking at what several detectors told against them.

The labels themselves stay as they are, so that figures on them stay comparable; `amended` adds these.
"""

from typing import Any

Labels = dict[str, dict[str, Any]]  # by file name, as in `truth.json`

_LACKING: Labels = {
    # a dissolve between two of its photographs
    "photos_with_fades.mp4": {"gradual": [[528, 557, "dissolve"]]},
    # from the woman with a spear to the man with one, 8 frames after the cut before it; 361 may be another cut;
    # and the file ends within a fade out, from which no shot begins
    "sintel_trailer_30s.mp4": {"cuts_frames": [356], "uncertain_cuts": [361, *range(706, 720)]},
    # the same place a little later: a splice
    "grand_prix_1906.ogv": {"uncertain_cuts": [81]},
}


def amended(truth: Labels) -> Labels:
    """The labels, and for the files among them what they lack."""
    return {
        name: labels | {key: sorted([*labels[key], *more]) for key, more in _LACKING.get(name, {}).items()}
        for name, labels in truth.items()
    }
