"""Three captions from what was measured: of the middle frame, of the clip, and both fused into one sentence.

The published recipe has CoCa, VideoBLIP and a language model here. These templates say only what was measured, in plain
English, the same words for the same numbers.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from curation.scores.base import ClipFrames, Column, Scorer
from curation.scores.tags import SUBJECT_MIN
from curation.weights import EFFICIENTNET

TEMPLATE_VERSION = 1
CAMERA = {
    "static": "the camera stands still",
    "shake": "the camera shakes",
    "complex": "the whole picture moves",
    "pan left": "the camera pans left",
    "pan right": "the camera pans right",
    "tilt up": "the camera tilts up",
    "tilt down": "the camera tilts down",
    "zoom in": "the camera moves closer",
    "zoom out": "the camera moves away",
}
QUIET, LIVELY = 38, 132  # motion buckets of 1 and 10 percent of the short side per second
DARK, GREY, BLURRED = 0.12, 0.03, 0.2  # exposure, colourfulness and sharpness below which a picture is called so
MAX_WORDS = 8
# Class names that take no article: substances, and those that are plural already.
NO_ARTICLE = frozenset(
    "corn hay velvet wool guacamole broccoli cauliflower eggnog espresso consomme dough carbonara rapeseed "
    "sunglasses binoculars zucchini".split()
)
NO_ARTICLE_ENDINGS = (" trunks", " sauce", " wine", " tissue", " potato", " mail", " squash")


def noun_phrase(name: str) -> str:
    """A class name with its article: "a cab", "an ox", "corn"."""
    if name in NO_ARTICLE or name.endswith(NO_ARTICLE_ENDINGS):
        return name
    first = name.lower()
    # Spelling misleads where a vowel is spoken as "you".
    vowel = first[0] in "aeiou" and not first.startswith(("uni", "eu", "one"))
    return f"{'an' if vowel else 'a'} {name}"


def join_words(phrases: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(phrases[:-1]), phrases[-1]]) if len(phrases) > 1 else "".join(phrases)


def words_on_screen(text: str | None, area: float | None) -> str:
    """A clause about the text: the words, if they look like words, else that there is text, else ""."""
    words = re.findall(r"[^\W_][\w'&.-]*", text or "")
    if sum(len(w) for w in words) >= 3:
        shown = " ".join(words[:MAX_WORDS])
        return f'the words "{shown}" are on screen'
    return "there is text on screen" if area is not None and area > 0 else ""


def caption_image(known: Mapping[str, Any]) -> str:
    """The middle frame: its looks and its subjects."""
    return _picture("picture", known, known["frame_subjects"])


def caption_video(known: Mapping[str, Any]) -> str:
    """The clip: its subjects, the camera, how lively it is, the text."""
    subjects = join_words([noun_phrase(s) for s in known["subjects"]]) or "a scene"
    return ", ".join([subjects, *_happenings(known)])


def caption_fused(known: Mapping[str, Any]) -> str:
    """One sentence of both: looks, subjects of frame and clip, then what happens."""
    subjects = list(dict.fromkeys([*known["subjects"], *known["frame_subjects"]]))[:3]
    sentence = f"{_picture('video', known, subjects)} in which {join_words(_happenings(known))}."
    return sentence[0].upper() + sentence[1:]


def _picture(medium: str, known: Mapping[str, Any], subjects: Sequence[str]) -> str:
    """ "a dark picture of a cab and a minibus"."""
    whole = noun_phrase(" ".join([*_looks(known), medium]))
    return f"{whole} of {join_words([noun_phrase(s) for s in subjects])}" if len(subjects) else whole


def _looks(known: Mapping[str, Any]) -> list[str]:
    """Adjectives for what the technical scores are sure of."""
    looks = [("dark", "exposure", DARK), ("blurred", "sharpness", BLURRED), ("black-and-white", "colourfulness", GREY)]
    return [word for word, column, below in looks if known[column] < below]


def _happenings(known: Mapping[str, Any]) -> list[str]:
    """Clauses about camera, motion and text; never empty."""
    clauses = [CAMERA[known["camera"]]]
    if known["camera"] == "static":
        if known["motion_bucket"] < QUIET:
            clauses = ["hardly anything moves"]
        elif known["motion_bucket"] > LIVELY:
            clauses.append("there is fast motion")
    return [c for c in [*clauses, words_on_screen(known.get("text"), known.get("text_area"))] if c]


class Captions(Scorer):
    """The three captioners of the embedded profile; `with_text` if the text scorer runs too."""

    name = "captions"
    version = TEMPLATE_VERSION

    def __init__(self, with_text: bool = True) -> None:
        self.with_text = with_text
        needs = ("subjects", "frame_subjects", "camera", "motion_bucket", "exposure", "colourfulness", "sharpness")
        # `text` itself may be null where reading is off; the area says whether text was looked for.
        self.requires = (*needs, "text_area") if with_text else needs  # type: ignore[misc]

    @property
    def columns(self) -> Sequence[Column]:
        return [
            Column("caption_image", pa.string(), "the middle frame: looks and tags"),
            Column("caption_video", pa.string(), "the clip: tags of three frames, camera motion, text on screen"),
            Column("caption_fused", pa.string(), "one sentence of both"),
        ]

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        return {
            "method": "template",
            "template_version": TEMPLATE_VERSION,
            "tags_model": EFFICIENTNET.name,
            "subject_min": SUBJECT_MIN,
            "camera": "farneback flow",
            "with_text": self.with_text,
            "max_words": MAX_WORDS,
            "quiet_bucket": QUIET,
            "lively_bucket": LIVELY,
            "dark_below": DARK,
            "grey_below": GREY,
            "blurred_below": BLURRED,
        }

    @property
    def options(self) -> Mapping[str, Any]:
        return {"profile": "embedded", "text.enabled": self.with_text}

    def score(self, clips: Sequence[ClipFrames], known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """From the columns in `requires`; the pixels are not looked at again."""
        return [
            {"caption_image": caption_image(k), "caption_video": caption_video(k), "caption_fused": caption_fused(k)}
            for k in known
        ]
