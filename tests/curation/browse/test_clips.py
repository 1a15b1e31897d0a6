"""Rows by number, texts, errors, and which files may be served."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.browse.clips import Clips, Videos
from curation.errors import CurationError


def test_rows_come_in_the_order_asked_for(made) -> None:
    clips = Clips(str(made.folder))
    assert len(clips) == 6
    rows = clips.rows(np.array([5, 0, 3, 0]))
    assert [r["clip_id"] for r in rows] == ["c5", "c0", "c3", "c0"]
    assert "preview" not in rows[0]
    assert clips.line(np.array([4]))[0]["caption_fused"] == "a Street"
    assert clips.rows([]) == []
    assert clips.numbers_of(pa.array(["c4", "nobody", "c0"])).tolist() == [4, -1, 0]


def test_previews(made) -> None:
    clips = Clips(str(made.folder))
    assert clips.preview(3) != clips.preview(4)
    assert clips.preview(2) is None
    for beyond in (-1, 6):
        with pytest.raises(IndexError):
            clips.preview(beyond)


def test_search_is_literal_and_looks_into_paths(made) -> None:
    clips = Clips(str(made.folder))
    assert clips.search("a street").tolist() == [True] * 5 + [False]
    assert np.flatnonzero(clips.search("<SCRIPT>")).tolist() == [5]
    assert np.flatnonzero(clips.search("onerror")).tolist() == [4, 5]
    assert not clips.search(".*").any()


def test_errors_are_those_of_the_clip(made) -> None:
    clips = Clips(str(made.folder))
    found = [[e["step"] for e in clips.errors(row)] for row in clips.rows([1, 2])]
    assert found == [[], ["motion"]]


def test_a_manifest_that_was_exchanged_is_noticed(made) -> None:
    clips = Clips(str(made.folder))
    first, second = sorted((made.folder / "manifest" / "clips").glob("*.parquet"))
    rows = pq.read_table(second).slice(0, 2)
    pq.write_table(rows, first)
    with pytest.raises(CurationError, match="manifest: "):
        clips.rows([0])
    first.unlink()
    with pytest.raises(CurationError, match="manifest: "):
        clips.rows([0])
    assert clips.rows([3])[0]["clip_id"] == "c3"


def test_only_the_videos_that_were_measured_are_served(made) -> None:
    videos = Videos(str(made.folder))
    assert videos.where(made.ids["plain"]) == str(made.plain)
    assert videos.where(made.ids["nasty"]) == str(made.nasty)
    for asked in ("", "None", "nobody", str(made.plain), "/etc/hostname", "../films/street.mp4"):
        assert videos.where(asked) is None

    made.nasty.unlink()
    assert videos.where(made.ids["nasty"]) is None
    secret = made.folder / "secret"
    secret.write_text("password")
    made.plain.unlink()
    made.plain.symlink_to(secret)
    assert videos.where(made.ids["plain"]) is None
