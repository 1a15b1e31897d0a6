"""A policy reads the columns that it looks at, and no others."""

import pyarrow as pa
import pytest

from curation.config import DuplicateSettings, Policy, Rule
from curation.manifest import Manifest, Shard
from curation.progress import silent
from curation.schema import CLIP_IDENTITY, score_field
from curation.selection.columns import read

SCORES = ("motion", "text_area", "aesthetic")


@pytest.mark.parametrize(
    ("policy", "columns"),
    [
        ({}, set()),
        ({"rules": [Rule(score="motion", min=1)]}, {"motion"}),
        ({"rules": [Rule(where='Text_Area < 1 or "end" > 2')]}, {"text_area", "end"}),
        ({"rules": [Rule(score="motion", top=1, per=["shot", "uri"])]}, {"motion", "shot", "uri"}),
        ({"max_clips_per_video": 2, "best_by": "aesthetic"}, {"aesthetic", "video_id"}),
        ({"weight": "motion + 1", "sample": 2}, {"motion"}),
        ({"rules": [Rule(score="perceptual_size", max=1)]}, {"perceptual_size"}),
        ({"validation": 0.5}, {"video_id", "perceptual_group", "perceptual_size"}),
    ],
)
def test_what_is_read(tmp_path, policy, columns):
    schema = pa.schema([*CLIP_IDENTITY, *(score_field(s, pa.float32(), s, "", {"scorer": s}) for s in SCORES)])
    schema = schema.append(score_field("phash", pa.list_(pa.uint64()), "hash", "", {"scorer": "phash"}))
    rows = [{"clip_id": f"c{i}", "video_id": "v", "uri": "f", "shot": i, "start": i, "end": i + 1} for i in range(3)]
    made = Manifest(tmp_path)
    made.commit(Shard("s", [], [], [], rows), schema)
    table = read(made, Policy(**policy, drop_duplicates=False), DuplicateSettings(), silent)
    assert set(table.column_names) == {"clip_id"} | columns
    assert table["clip_id"].to_pylist() == ["c0", "c1", "c2"]
