"""The table beside a manifest: what it holds, when it holds, and other manifests."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.config import DuplicateSettings
from curation.duplicates.table import groups_of, holds, made_of, path_of, update
from curation.errors import CurationError
from curation.manifest import Manifest, Shard
from curation.schema import CLIP_IDENTITY, definition_of, score_field
from curation.scores.duplicates import mirrored


def schema(method: str = "dhash") -> pa.Schema:
    return pa.schema(
        [
            *CLIP_IDENTITY,
            score_field("technical_quality", pa.float32(), "quality", "", {"scorer": "technical"}),
            score_field("live_area", pa.float32(), "inside borders", "", {"scorer": "phash", "method": method}),
            score_field("phash", pa.list_(pa.uint64()), "hash", "", {"scorer": "phash", "method": method}),
            score_field("embedding", pa.list_(pa.float16()), "embedding", "", {"scorer": "clip"}),
        ]
    )


def scene(seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 2**64, 6, np.uint64).tolist()


def clip(name: str, phash: list[int] | None, embedding: list[float] | None, **more) -> dict:
    row = {"clip_id": name, "video_id": f"v{name}", "uri": f"{name}.mp4", "shot": 0, "start": 0.0, "end": 3.0}
    return row | {"width": 640, "height": 360, "phash": phash, "embedding": embedding} | more


def commit(folder, shard: str, *clips: dict, method: str = "dhash") -> Manifest:
    manifest = Manifest(folder)
    manifest.commit(Shard(shard, [], [], [], clips), schema(method))
    return manifest


@pytest.fixture
def manifest(tmp_path):
    """a, its copies b (larger) and m (mirrored); s means the same; n was not measured."""
    turned = mirrored(np.array(scene(1), np.uint64)).tolist()
    first = [clip("a", scene(1), [1, 0, 0]), clip("b", scene(1), [0, 1, 0], width=1280, height=720)]
    second = [clip("m", turned, [0, 0, 1]), clip("s", scene(2), [0.99, 0.01, 0]), clip("n", None, None)]
    commit(tmp_path / "m", "s1", *first)
    return commit(tmp_path / "m", "s2", *second)


def column(table: pa.Table, name: str) -> dict[str, object]:
    return dict(zip(table["clip_id"].to_pylist(), table[name].to_pylist(), strict=True))


def test_groups_representatives_sizes_and_distances(manifest):
    table = groups_of(manifest, DuplicateSettings())
    assert table["clip_id"].to_pylist() == manifest.read("clips", ["clip_id"])["clip_id"].to_pylist()
    assert column(table, "exact_group") == {c: c for c in "abmsn"}
    assert column(table, "perceptual_group") == {"a": "b", "b": "b", "m": "m", "s": "s", "n": None}
    assert column(table, "perceptual_representative") == {"a": 0, "b": 1, "m": 1, "s": 1, "n": None}
    assert column(table, "perceptual_size") == {"a": 2, "b": 2, "m": 1, "s": 1, "n": None}
    assert column(table, "perceptual_bits") == {"a": 0, "b": 0, "m": 0, "s": 0, "n": None}
    assert column(table, "semantic_group") == {"a": "a", "b": "b", "m": "m", "s": "a", "n": None}
    assert column(table, "semantic_similarity")["s"] == pytest.approx(0.99 / np.hypot(0.99, 0.01), abs=1e-3)
    assert definition_of(table.schema.field("perceptual_group"))["bits"] == 8
    assert all(definition_of(field) for field in table.schema if field.name != "clip_id")


def test_mirrored_clips_are_grouped_when_asked_for(manifest):
    table = groups_of(manifest, DuplicateSettings(mirrored=True))
    assert column(table, "perceptual_group") == {"a": "b", "b": "b", "m": "b", "s": "s", "n": None}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"end": 5.0}, {"end": 3.9}),
        ({"technical_quality": 0.9}, {"technical_quality": 0.2}),
        ({"technical_quality": 0.1}, {}),
        ({"height": 480}, {"height": 640, "live_area": 0.75}),  # as many lines of picture, the others are bars
    ],
)
def test_the_representative_is_the_largest_longest_and_best(tmp_path, better, worse):
    made = commit(tmp_path, "s", clip("a", scene(1), None, **worse), clip("b", scene(1), None, **better))
    assert column(groups_of(made, DuplicateSettings()), "perceptual_group") == {"a": "b", "b": "b"}


def test_the_table_is_written_once_and_again_when_clips_or_settings_change(manifest):
    settings = DuplicateSettings()
    assert made_of(manifest) is None
    update(manifest, settings)
    assert groups_of(manifest, settings).equals(pq.read_table(path_of(manifest)))
    before = path_of(manifest).stat().st_mtime_ns
    update(manifest, settings)
    assert path_of(manifest).stat().st_mtime_ns == before
    assert not holds(manifest, DuplicateSettings(bits=4))
    assert not holds(manifest, DuplicateSettings(similarity=0.9))
    assert holds(manifest, DuplicateSettings(similarity=0.9), ["perceptual"])
    commit(manifest.root, "s3", clip("z", scene(2), None))
    assert not holds(manifest, settings)
    assert column(groups_of(manifest, settings), "perceptual_group")["z"] == "s"
    assert "z" not in pq.read_table(path_of(manifest))["clip_id"].to_pylist()  # nobody but `update` writes
    update(manifest, settings)
    assert holds(manifest, settings)


def test_clips_of_an_existing_manifest_represent(manifest, tmp_path):
    """One is a worse copy of a, one the very same piece of the same bytes as s, one is alike to nothing."""
    worse = clip("old", scene(1), None, width=160, height=90)
    same = clip("s", scene(2), None, video_id="vs")
    old = commit(tmp_path / "old" / "manifest", "o", worse, same, clip("other", scene(9), None))
    settings = DuplicateSettings(against=[str(tmp_path / "old")])
    table = groups_of(manifest, settings)
    assert column(table, "exact_group") == {c: c for c in "abmsn"}
    assert column(table, "exact_representative") == {"a": 1, "b": 1, "m": 1, "s": 0, "n": 1}
    assert column(table, "perceptual_group") == {"a": "old", "b": "old", "m": "m", "s": "s", "n": None}
    assert column(table, "perceptual_representative") == {"a": 0, "b": 0, "m": 1, "s": 0, "n": None}
    assert column(table, "perceptual_size")["a"] == 3
    update(manifest, settings)
    assert holds(manifest, settings)
    old.commit(Shard("more", [], [], [], []), schema())
    assert not holds(manifest, settings)


def test_hashes_made_in_another_way_are_not_compared(manifest, tmp_path):
    commit(tmp_path / "old", "o", clip("old", scene(1), None), method="another")
    with pytest.raises(CurationError, match="measured in another way"):
        groups_of(manifest, DuplicateSettings(against=[str(tmp_path / "old")]))


def test_a_manifest_that_is_not_there_is_named(manifest, tmp_path):
    with pytest.raises(CurationError, match="nowhere"):
        groups_of(manifest, DuplicateSettings(against=[str(tmp_path / "nowhere")]))


def test_a_manifest_without_clips_or_hashes_has_a_table_too(tmp_path):
    bare = Manifest(tmp_path / "bare")
    bare.commit(Shard("s", [], [], [], [{"clip_id": "x", "video_id": "v"}]), pa.schema(CLIP_IDENTITY))
    assert groups_of(bare, DuplicateSettings()).to_pylist()[0] == {
        "clip_id": "x", "exact_group": "x", "exact_representative": 1, "exact_size": 1, "exact_distance": 0.0,
        "perceptual_group": None, "perceptual_representative": None, "perceptual_size": None, "perceptual_bits": None,
        "semantic_group": None, "semantic_representative": None, "semantic_size": None, "semantic_similarity": None,
    }  # fmt: skip
    empty = Manifest(tmp_path / "empty")
    (tmp_path / "empty" / "clips").mkdir(parents=True)
    update(empty, DuplicateSettings())
    assert pq.read_table(path_of(empty)).num_rows == 0
