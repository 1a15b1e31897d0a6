"""What an export reads of a selection or manifest, and the JSON that it says of a clip, read back by json."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import CurationError
from curation.export_rows import clips_of, describe
from curation.manifest import Manifest, Shard
from curation.schema import score_field
from tests.curation.test_export import SCHEMA as EXPORTED

SCHEMA = EXPORTED.append(score_field("look", pa.list_(pa.uint8()), "cells", "", {"scorer": "duplicates", "version": 1}))


def row(name: str, **values: object) -> dict:
    return {f.name: None for f in SCHEMA} | {"clip_id": name, "video_id": "v", "uri": "v.mp4"} | values


def test_clips_come_by_id_without_pictures_from_a_manifest_as_from_a_selection(tmp_path: Path):
    rows = [row(name, preview=b"\xff", phash=[1], look=[7], embedding=[0.5], motion=1.0) for name in ("c", "a")]
    Manifest(tmp_path / "films").commit(Shard("1", [], [], [], rows), SCHEMA)
    Manifest(tmp_path / "films").commit(Shard("2", [], [], [], [row("b")]), SCHEMA)
    (tmp_path / "selection").mkdir()
    whole = Manifest(tmp_path / "films").read("clips")
    pq.write_table(whole, tmp_path / "selection" / "clips.parquet")
    hashes = set()
    for folder in ("films", "selection"):
        table, content = clips_of(str(tmp_path / folder))
        assert table["clip_id"].to_pylist() == ["a", "b", "c"]
        assert set(SCHEMA.names) - set(table.column_names) == {"preview", "phash", "look", "embedding"}
        assert clips_of(str(tmp_path / folder))[1] == content
        hashes.add(content)
    Manifest(tmp_path / "films").commit(Shard("3", [], [], [], [row("d")]), SCHEMA)
    pq.write_table(whole.slice(1), tmp_path / "selection" / "clips.parquet")
    hashes |= {clips_of(str(tmp_path / folder))[1] for folder in ("films", "selection")}
    assert len(hashes) == 4  # other clips, another hash


def test_what_holds_no_clips_is_said(tmp_path: Path):
    with pytest.raises(CurationError, match="holds no selection"):
        clips_of(str(tmp_path / "nowhere"))
    Manifest(tmp_path / "empty").commit(Shard("1", [], [], [], []), SCHEMA)
    with pytest.raises(CurationError, match="holds no clip"):
        clips_of(str(tmp_path / "empty"))
    pq.write_table(pa.table({"clip_id": ["a"], "video_id": ["v"]}), tmp_path / "clips.parquet")
    with pytest.raises(CurationError, match="no column uri"):
        clips_of(str(tmp_path))
    (tmp_path / "clips.parquet").write_bytes(b"PAR1")
    with pytest.raises(CurationError, match=f"^selection: '{tmp_path}' cannot be read: clips.parquet: "):
        clips_of(str(tmp_path))


@pytest.mark.parametrize("record", ["{", "{}", "[]", '{"thresholds": 1, "funnel": []}'])
def test_a_damaged_selection_is_refused_here_as_everywhere(tmp_path: Path, record: str):
    pq.write_table(pa.Table.from_pylist([row("a")], SCHEMA), tmp_path / "clips.parquet")
    assert clips_of(str(tmp_path))[0].num_rows == 1  # a table of one's own needs no record
    (tmp_path / "selection.json").write_text(record)
    with pytest.raises(CurationError, match=f"'{tmp_path}' is damaged.*rushes select MANIFEST --out {tmp_path}`"):
        clips_of(str(tmp_path))


@given(st.floats(width=32), st.lists(st.floats(width=32)), st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_said_of_a_clip_is_strict_json_and_exact(motion: float, vector: list[float], caption: str):
    values = row("c", motion=motion, camera_vector=vector, caption_fused=caption, preview=b"\xff")
    (clip,) = pa.Table.from_pylist([values], SCHEMA).to_pylist()
    said = json.loads(json.dumps(describe(clip, SCHEMA), allow_nan=False))
    kept = [None if v is None else np.float32(v) for v in (said["scores"]["motion"], *said["scores"]["camera_vector"])]
    assert kept == [np.float32(v) if math.isfinite(v) else None for v in (motion, *vector)]
    assert said["captions"] == {"caption_fused": caption, "caption_image": None}
    assert (said["clip_id"], said["source"]["uri"]) == ("c", "v.mp4")
    assert set(said["scores"]) == {"motion", "camera_vector"}
