"""What is said of a manifest, asked of manifests written by hand."""

import json

import pyarrow as pa
import pytest

from curation.manifest import Manifest, Shard
from curation.remarks import text_check, why_no_clip
from curation.schema import CLIP_IDENTITY, score_field


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([(0.2, 0.1), (0.0, 0.02), (0.5, None), (None, 0.3)], ["warning", "by 0.060 on average, over 2 checked"]),
        ([(0.2, 0.195), (0.1, None)], ["by 0.005 on average, over 1 checked"]),
        ([(0.2, None)], ["warning", "of 1 clips CRAFT checked none", "--text.check-every"]),
        ([], ["warning", "of 0 clips"]),
    ],
)
def test_the_check_of_the_light_text_score(tmp_path, pairs, words):
    areas = [score_field(n, pa.float32(), "area", "", {"scorer": "text"}) for n in ("text_area", "text_area_craft")]
    rows = [{"clip_id": f"c{i}", "text_area": a, "text_area_craft": b} for i, (a, b) in enumerate(pairs)]
    rows = [row | {"start": 0.0, "end": 1.0, "uri": "v.mp4"} for row in rows]
    manifest = Manifest(tmp_path)
    manifest.commit(Shard("a", [], [], [], rows), pa.schema([*CLIP_IDENTITY, *areas]))
    told = text_check(manifest)
    assert told.startswith("warning") == (words[0] == "warning")
    assert all(w in told for w in words)


def test_a_text_score_by_craft_needs_no_check(tmp_path):
    area = score_field("text_area", pa.float32(), "area", "", {"scorer": "text"})
    manifest = Manifest(tmp_path)
    manifest.commit(Shard("a", [], [], [], [{"clip_id": "c", "text_area": 0.5}]), pa.schema([*CLIP_IDENTITY, area]))
    assert text_check(manifest) is None


def test_why_there_is_no_clip(tmp_path):
    """Shots too short, shots long enough that gave none all the same, and no shot at all."""

    def why(videos, lengths, clips):
        schema = pa.schema(CLIP_IDENTITY).with_metadata({"rushes.config": json.dumps({"clips": clips})})
        shots = [{"uri": "a.mp4", "shot": i, "start": 1.0, "end": 1 + s} for i, s in enumerate(lengths)]
        manifest = Manifest(tmp_path)
        manifest.commit(Shard("s", [{"uri": "a.mp4", "status": s} for s in videos], shots, [], []), schema)
        return why_no_clip(manifest)

    rules = {"min_length_s": 1.0, "stride_s": None}
    short = why(["ok"], [0.25, 0.75], rules)
    assert short.startswith(
        "2 shots, the longest of 0.75 s, none as long as clips.min_length_s (1 s); see rushes inspect"
    )
    assert "none as long as clips.stride_s (5 s)" in why(["ok"], [2.0], rules | {"stride_s": 5.0})
    assert "none as long" not in why(["ok"], [2.0], rules)
    assert why(["ok", "failed"], [], rules).startswith("1 of 2 videos failed, and none has a shot")
