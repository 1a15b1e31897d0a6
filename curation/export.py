"""Clips of a selection as files of their own: MP4 and JSON, or WebDataset shards of both.

    OUT/export.json          what is exported and how; a folder that holds another export is refused
    OUT/CLIP_ID.mp4 .json    format files; the JSON file is written last and is the commit
    OUT/shard-000000.tar     format webdataset: CLIP_ID.json, CLIP_ID.mp4 and CLIP_ID.txt of each clip
    OUT/index.json           its finished shards, in the form of the webdataset library's `wids` index; the commit
    OUT/export_errors.json   clips that could not be written, and why

Each file appears whole or not at all, and the same selection gives the same bytes.
"""

import hashlib
import io
import json
import os
import re
import tarfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.clip_file import ClipFile, copy, reencode
from curation.clip_source import Check, ClipError, Piece, Stopped, wanted
from curation.config import ExportConfig, ExportFormat, ExportMode
from curation.errors import CurationError, UnreadableVideo
from curation.export_rows import CAPTIONS, CUT, STAMPS, clips_of, describe
from curation.manifest import Manifest
from curation.progress import Progress, silent
from curation.selection.folder import read_summary
from curation.sources import Contents
from curation.store import on_disk, place, writing

_OURS = re.compile(r"\.lock|\.probe-\d+|\..+\.\d+\.tmp")  # the last two are left by a run that was killed
_SIGNALS_SEEN_S = 1.0
_HOW = {"format", "mode", "trim_frames", "crf", "preset", "audio", "clips_per_shard"}
Row = dict[str, Any]


@dataclass(slots=True)
class ExportSummary:
    """What an export wrote. `failures` holds the clips that are missing from it, now or since before, with reasons."""

    out: str
    format: str
    clips: int
    already_done: int = 0
    copied: int = 0
    reencoded: int = 0
    failed_now: int = 0
    bytes: int = 0
    seconds: float = 0.0
    failures: list[dict[str, str]] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Clips that are missing."""
        return len(self.failures)

    @property
    def nothing_to_do(self) -> bool:
        """Whether every clip had been written, or had failed, before."""
        return not self.copied + self.reencoded + self.failed_now


def export(config: ExportConfig, progress: Progress = silent) -> ExportSummary:
    """Write the clips of a selection or manifest. A clip that cannot be written costs no other one.

    Raises:
        CurationError: there is no such selection, or `out` cannot be written or holds something else.
    """
    began = time.monotonic()
    out = on_disk(config.out)
    clips, content = clips_of(config.selection)
    if out.is_dir() and not (out / "export.json").is_file() and any(not _OURS.fullmatch(p.name) for p in out.iterdir()):
        raise CurationError(f"out: {str(out)!r} exists and is no export; choose another folder with --out")
    with Manifest(out).locked(), ThreadPoolExecutor(config.cpus or os.cpu_count()) as pool:
        _claim(out, config, content, len(clips))
        for leftover in (p for p in out.iterdir() if _OURS.fullmatch(p.name) and p.name != ".lock"):
            leftover.unlink(missing_ok=True)
        work = _Export(config, out, clips, pool, progress)
        try:
            (work.files if config.format is ExportFormat.files else work.shards)()
        finally:
            work.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            work.write_errors()
    work.summary.seconds = time.monotonic() - began
    return work.summary


def cut_out(
    clip: Mapping[str, Any], config: ExportConfig, check: Check = wanted, contents: Contents | None = None
) -> ClipFile:
    """One clip as the configuration wants it. `contents` remembers which files still hold their videos.

    Raises CurationError where that is not possible, and where its video is not the one that was curated.
    """
    path, contents = _on_disk(clip["uri"]), contents or Contents()
    _require_content(contents, path, clip["video_id"])
    made = _cut(path, clip, config, check)
    _require_content(contents, path, clip["video_id"])  # the file may have changed meanwhile
    return made


def _require_content(contents: Contents, path: str, video_id: str) -> None:
    try:
        if contents.hold(path, video_id):
            return
    except UnreadableVideo as error:
        raise ClipError(f"its video cannot be read: {error}") from error
    raise ClipError("its video has changed since it was curated; curate it again")


def _cut(path: str, clip: Mapping[str, Any], config: ExportConfig, check: Check) -> ClipFile:
    cut: dict[str, Any] = {k: clip[k] for k in CUT} | {k: clip.get(k) for k in STAMPS}
    piece = Piece(path, **cut)
    if config.mode is not ExportMode.reencode:
        try:
            plain = config.mode is ExportMode.auto
            return copy(piece, trim_frames=config.trim_frames, audio=config.audio, plain=plain, check=check)
        except ClipError:
            if config.mode is ExportMode.copy:
                raise
    return reencode(piece, crf=config.crf, preset=config.preset, audio=config.audio, check=check)


class _Export:
    """The work on one folder: what is finished already, what has failed, what was written."""

    def __init__(
        self, config: ExportConfig, out: Path, clips: pa.Table, pool: ThreadPoolExecutor, progress: Progress
    ) -> None:
        self.config, self.out, self.clips, self.pool, self.progress = config, out, clips, pool, progress
        self.failed = {row["clip_id"]: row for row in _read(out / "export_errors.json", [])}
        self._summary = ExportSummary(str(out), config.format.value, len(clips))
        self._done = 0
        self._stopped = threading.Event()
        self._contents = _contents(config.selection)

    def stop(self) -> None:
        """Have the clips that are being cut out given up at their next frame: nobody waits for them any more."""
        self._stopped.set()

    def _check(self) -> None:
        if self._stopped.is_set():
            raise Stopped

    @property
    def summary(self) -> ExportSummary:
        """What was done so far."""
        self._summary.failures = [self.failed[k] for k in sorted(self.failed)]
        return self._summary

    def write_errors(self) -> None:
        """Put the failures where the next run finds them."""
        _write(self.out / "export_errors.json", self.summary.failures)

    def files(self) -> None:
        """CLIP_ID.mp4 and CLIP_ID.json for every clip that lacks them."""
        there = {p.name for p in self.out.iterdir()}
        ids = self.clips["clip_id"].to_pylist()
        whole = {i for i in ids if {f"{i}.mp4", f"{i}.json"} <= there}
        self.failed = {k: v for k, v in self.failed.items() if k not in whole}
        self._summary.already_done = self._done = len(whole)
        over = whole if self.config.retry_failed else whole | set(self.failed)
        for clip, made in self._made([i for i, name in enumerate(ids) if name not in over]):
            with writing(self.out / f"{clip['clip_id']}.mp4") as path:
                path.write_bytes(made.data)
            _write(self.out / f"{clip['clip_id']}.json", self._described(clip, made))

    def shards(self) -> None:
        """A tar of `clips_per_shard` clips each, in the order of their ids, and the index of those that are done."""
        index = {e["url"]: e for e in _read(self.out / "index.json", {"shardlist": []})["shardlist"]}
        size = self.config.clips_per_shard
        for at in range(0, len(self.clips), size):
            rows = range(at, min(at + size, len(self.clips)))
            name = f"shard-{at // size:06d}.tar"
            lost = set(self.failed) & set(self.clips["clip_id"].slice(at, size).to_pylist())
            path, entry = self.out / name, index.get(name)
            whole = entry and path.is_file() and path.stat().st_size == entry["filesize"]
            if entry and whole and not (lost and self.config.retry_failed):
                self._summary.already_done += entry["nsamples"]
                self._done += len(rows)
                continue
            index[name] = {"url": name, **self._shard(path, rows)}
            self.write_errors()
            listed = [index[k] for k in sorted(index)]
            _write(self.out / "index.json", {"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": listed})

    def _shard(self, path: Path, rows: Sequence[int]) -> Row:
        count = 0
        with writing(path) as temporary:
            with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
                for clip, made in self._made(rows):
                    captions = (clip.get(c) for c in CAPTIONS)
                    text = json.dumps(self._described(clip, made), indent=1, sort_keys=True, ensure_ascii=False)
                    caption = next((c for c in captions if c), "")
                    for suffix, data in (("json", text.encode()), ("mp4", made.data), ("txt", caption.encode())):
                        member = tarfile.TarInfo(f"{clip['clip_id']}.{suffix}")  # owner, mode and time are fixed
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
                    count += 1
            with temporary.open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            return {"md5sum": digest, "nsamples": count, "filesize": temporary.stat().st_size}

    def _made(self, rows: Sequence[int]) -> Iterator[tuple[Row, ClipFile]]:
        """Clips and what was cut out, in order, a few ahead of the one that is being written; failures are noted."""
        waiting: deque[tuple[Row, Future[ClipFile]]] = deque()
        todo = iter(rows)
        ahead = 2 * (self.config.cpus or os.cpu_count() or 1)
        self.progress("exporting clips", self._done, len(self.clips))
        while True:
            for i in todo:
                (clip,) = self.clips.slice(i, 1).to_pylist()
                waiting.append((clip, self.pool.submit(cut_out, clip, self.config, self._check, self._contents)))
                if len(waiting) >= ahead:
                    break
            if not waiting:
                return
            clip, future = waiting.popleft()
            self.failed.pop(clip["clip_id"], None)
            while not wait([future], _SIGNALS_SEEN_S).done:
                continue  # Python sees a signal that came just before it began to wait only when it has waited
            try:
                made = future.result()
            except Exception as error:  # noqa: BLE001 - one clip's failure, of whatever kind, costs no other one
                self._fail(clip, error)
            else:
                yield clip, made
                self._summary.copied += made.how == "copy"
                self._summary.reencoded += made.how == "reencode"
                self._summary.bytes += len(made.data)
            self._done += 1
            self.progress("exporting clips", self._done, len(self.clips))

    def _fail(self, clip: Row, error: Exception) -> None:
        self._summary.failed_now += 1
        self.failed[clip["clip_id"]] = {
            "clip_id": clip["clip_id"],
            "uri": clip["uri"],
            "error": type(error).__name__,
            "message": str(error)[:500],
        }

    def _described(self, clip: Row, made: ClipFile) -> Row:
        file = {k: v for k, v in asdict(made).items() if k != "data"}
        return {**describe(clip, self.clips.schema), "file": file}


def _claim(out: Path, config: ExportConfig, content: str, clips: int) -> None:
    """Write down what this folder holds. Raises CurationError if it is something else already."""
    record = {"clips": clips, "content": content, **config.model_dump(mode="json", include=_HOW)}
    there = _read(out / "export.json", record)
    differs = [f"{k} {there.get(k)} there, {v} now" for k, v in record.items() if there.get(k) != v]
    if differs:
        raise CurationError(
            f"out: {str(out)!r} holds another export ({'; '.join(differs)}); choose another folder with --out"
        )
    _write(out / "export.json", record)


def _on_disk(uri: str) -> str:
    """Where the file is: the manifest spells bytes of a name that are no UTF-8 as in `\\xff`."""
    if "://" in uri or Path(uri).exists():
        return uri
    undone = re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes.fromhex(m[1].decode()), uri.encode())
    return os.fsdecode(undone) if b"\0" not in undone and Path(os.fsdecode(undone)).exists() else uri


def _contents(folder: str) -> Contents:
    """What the manifest of a selection, where it is still there, tells of the files: their states need no reading."""
    try:
        root = place(folder)
        manifest = read_summary(root).manifest if (root / "selection.json").is_file() else str(root)
        columns = ["uri", "video_id", "size_bytes", "modified_ns", "revision"]
        return Contents.of_rows(Manifest.find(manifest).read("videos", columns).to_pylist())
    except (CurationError, OSError):
        return Contents()


def _read(path: Path, default: Any) -> Any:
    if not path.is_file():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CurationError(f"out: {str(path)!r} is damaged; delete it and run the same command again") from error


def _write(path: Path, content: Any) -> None:
    with writing(path) as part:
        part.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
