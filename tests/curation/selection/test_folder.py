"""Reading single rows of a manifest against reading it whole."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from curation.manifest import Manifest
from curation.schema import CLIP_IDENTITY
from curation.selection.folder import rows_at

COLUMNS = ["clip_id", "uri", "start"]


@given(positions=st.sets(st.integers(0, 29)))
def test_rows_are_those_of_the_whole_manifest(tmp_path_factory, positions):
    root = tmp_path_factory.mktemp("m")
    (root / "clips").mkdir()
    schema = pa.schema(CLIP_IDENTITY)
    for at, count in ((0, 7), (7, 0), (7, 23)):  # a fragment of one row group, one of none, one of several
        rows = [{"clip_id": f"c{i}", "uri": f"f{i}.mp4", "start": i / 2} for i in range(at, at + count)]
        pq.write_table(
            pa.Table.from_pylist(rows, schema), root / "clips" / f"{at}-{count:02}.parquet", row_group_size=7
        )
    manifest = Manifest(root)
    whole = manifest.read("clips", COLUMNS).to_pylist()
    assert len(whole) == 30
    wanted = np.array(sorted(positions), np.int64)
    assert rows_at(manifest, wanted, COLUMNS) == [whole[i] for i in wanted]
