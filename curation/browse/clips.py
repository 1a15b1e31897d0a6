"""The rows behind the numbers: one page of clips, one clip with everything known of it, and where its video lies.

Nothing is loaded before it is asked for, and previews one fragment at a time.
"""

import functools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation import sources
from curation.duplicates import table as duplicates
from curation.errors import CurationError, UnreadableVideo
from curation.inspect import open_table, readable
from curation.manifest import Manifest
from curation.schema import definition_of

_IN_A_ROW = ("clip_id", "video_id", "uri", "start", "end")
_NOT_SHOWN = ("preview",)


class Clips:
    """A manifest's clips by row number, in the order of its fragments. Safe to ask from several threads."""

    def __init__(self, manifest: str) -> None:
        self.manifest = manifest
        self.root = Manifest.find(manifest).root
        self._table = open_table(manifest, "clips")
        self.schema = self._table.schema
        with readable(manifest):
            self._fragments = list(self._table.get_fragments())
            self._ends = np.cumsum([f.count_rows() for f in self._fragments], dtype=np.int64)
        captions = [f.name for f in self.schema if _is_caption(f)]
        self.texts = [*sorted(captions, key=_rank), "uri"]  # the most telling one first
        self._preview_column = functools.lru_cache(maxsize=4)(self._read_preview_column)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def rows(self, numbers: Sequence[int] | np.ndarray, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """These rows, in the order of `numbers`, without previews.

        Raises:
            CurationError: a fragment is not what it was when it was opened.
        """
        names = [n for n in columns or self.schema.names if n not in _NOT_SHOWN]
        wanted = np.asarray(numbers, np.int64)
        out: list[dict[str, Any]] = [{}] * len(wanted)
        within = np.searchsorted(self._ends, wanted, side="right")
        for i in np.unique(within).tolist():
            places = np.flatnonzero(within == i)
            part = self._read(i, names).take(pa.array(wanted[places] - self._first(i)))
            for place, row in zip(places.tolist(), part.to_pylist(), strict=True):
                out[place] = row
        return out

    def line(self, numbers: np.ndarray) -> list[dict[str, Any]]:
        """What a table shows of these clips beside their scores: who they are, and their texts."""
        return self.rows(numbers, list(dict.fromkeys((*_IN_A_ROW, *self.texts))))

    def preview(self, number: int) -> bytes | None:
        """A clip's small picture. Raises IndexError for a row that is not there."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        if "preview" not in self.schema.names:
            return None
        i = int(np.searchsorted(self._ends, number, side="right"))
        with self._lock:  # a page asks for many of one fragment at once
            column = self._preview_column(i)
        return column[number - self._first(i)].as_py()

    def search(self, text: str) -> np.ndarray:
        """Which clips have `text` in their file's path or a caption, whatever the case, bool (n,)."""
        found, at = np.zeros(len(self), bool), 0
        with readable(self.manifest):
            for batch in self._table.to_batches(columns=self.texts):
                for column in batch.columns:
                    hit = pc.match_substring(column, text, ignore_case=True)  # type: ignore[attr-defined]
                    found[at : at + len(batch)] |= pc.fill_null(hit, False).to_numpy(zero_copy_only=False)  # type: ignore[attr-defined]
                at += len(batch)
        return found

    def numbers_of(self, clip_ids: pa.ChunkedArray | pa.Array) -> np.ndarray:
        """Row numbers of these clips, int64 (n,); -1 for one that is not there."""
        every = self._table.to_table(columns=["clip_id"])["clip_id"]
        return pc.index_in(clip_ids, value_set=every).fill_null(-1).to_numpy().astype(np.int64)  # type: ignore[attr-defined]

    def errors(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """What went wrong with a clip, or with its video as a whole."""
        table = self._errors
        of_clip = pc.equal(table["clip_id"], row["clip_id"])  # type: ignore[attr-defined]
        of_video = pc.and_(pc.is_null(table["clip_id"]), pc.equal(table["video_id"], row["video_id"]))  # type: ignore[attr-defined]
        return table.filter(pc.fill_null(pc.or_kleene(of_clip, of_video), False)).to_pylist()  # type: ignore[attr-defined]

    @functools.cached_property
    def _errors(self) -> pa.Table:
        with readable(self.manifest):
            return open_table(self.manifest, "errors").to_table()

    def repeats(self, row: dict[str, Any]) -> list[tuple[str, int, bool]]:
        """(kind of duplicate, clips in its group, whether it is the one that stands for them), of groups of several."""
        path = duplicates.whole(Manifest(self.root))
        if path is None:
            return []
        names = [n for n in pq.read_schema(path).names if n.endswith(("_size", "_representative"))]
        found = pq.read_table(path, columns=names, filters=[("clip_id", "=", row["clip_id"])]).to_pylist()
        kinds = [k for k in duplicates.KINDS if f"{k}_size" in names]
        return [(k, r[f"{k}_size"], r[f"{k}_representative"] == 1) for r in found for k in kinds if r[f"{k}_size"] > 1]

    def _first(self, fragment: int) -> int:
        return int(self._ends[fragment - 1]) if fragment else 0

    def _read(self, fragment: int, columns: list[str]) -> pa.Table:
        with readable(self.manifest):
            table = self._fragments[fragment].to_table(schema=self.schema, columns=columns)
        if len(table) != self._ends[fragment] - self._first(fragment):
            raise CurationError(f"manifest: {self.manifest!r} has changed since it was opened; open it again")
        return table

    def _read_preview_column(self, fragment: int) -> pa.ChunkedArray:
        return self._read(fragment, ["preview"])["preview"]


def _rank(name: str) -> int:
    return 0 if name == "caption_fused" else 1 if name.startswith("caption") else 2


def _is_caption(field: pa.Field) -> bool:
    return bool(definition_of(field)) and (pa.types.is_string(field.type) or pa.types.is_large_string(field.type))


class Videos:
    """The files that a manifest's clips were cut from: the only ones that are ever served."""

    def __init__(self, manifest: str) -> None:
        columns = ["video_id", "uri", "size_bytes", "modified_ns", "revision"]
        with readable(manifest):
            rows = open_table(manifest, "videos").to_table(columns=columns).to_pylist()
        rows = [row for row in rows if row["video_id"]]
        self._uris: dict[str, list[str]] = {}
        for row in rows:
            self._uris.setdefault(row["video_id"], []).append(row["uri"])
        self._contents = sources.Contents.of_rows(rows)

    def where(self, video_id: str) -> str | None:
        """The path or URL of a video now; None if the manifest knows none of this name, or its file is gone or has
        changed.

        A file that has been exchanged since, by a link to a private one for instance, is not the video any more.
        """
        for uri in self._uris.get(video_id, ()):
            try:
                if self._contents.hold(uri, video_id):
                    return uri
            except (ValueError, UnreadableVideo):
                continue
        return None
