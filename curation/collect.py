"""Gathers a run's results, video by video, until a shard is whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation import sources
from curation.clips import bounds, stamps
from curation.engine import Clip, VideoPass
from curation.manifest import Shard
from curation.scores.base import Failure, Scored
from curation.sources import Source

Failures = list[tuple[str | None, Failure]]
"""What failed, each with the clip concerned or None for the whole video."""


@dataclass(frozen=True, slots=True)
class Task:
    """A file to be measured, and the shard that its results belong to."""

    shard: str
    source: Source
    video_id: str | None
    problem: tuple[str, str] | None = None  # step and message, for a file that could not even be read
    copy_of: str | None = None  # a file with the same bytes that is measured instead
    attempts: int = 0  # that were made before
    known: Mapping[str, Mapping[str, Any]] | None = None  # by clip, columns measured before that scorers read

    def scored(self, clip_id: str) -> Scored:
        """What is known of a clip before it is measured."""
        return Scored(dict((self.known or {}).get(clip_id, {})))


@dataclass(frozen=True, slots=True)
class End:
    """The last word on a video: its rows, and how many clips were sent before."""

    clips: int
    video: dict[str, Any]
    shots: list[dict[str, Any]]
    failures: Failures
    void: bool = False  # the clips are of bytes that have no id: none of them is kept


class Collector:
    """Gathers rows until a shard is whole."""

    def __init__(self, todo: Sequence[Task]) -> None:
        self._by_shard: dict[str, list[Task]] = {}
        for video in todo:
            self._by_shard.setdefault(video.shard, []).append(video)
        self._video = {v.source.uri: v for v in todo}
        self._clips: dict[str, list[tuple[dict[str, Any], list[Failure]]]] = {u: [] for u in self._video}
        self._end: dict[str, End] = {}
        self.videos_done = 0

    @property
    def open_videos(self) -> set[str]:
        """Videos of which something is still to come."""
        return {u for u in self._video if self._open(u)}

    def expects(self, video: Task) -> bool:
        """Whether the video has to be read at all."""
        return video.source.uri not in self._end

    def settle_unreadable(self) -> list[Shard]:
        """End the videos that need no decoding: unreadable files, and further copies of the same bytes."""
        out: list[Shard] = []
        for uri, video in self._video.items():
            if video.problem is not None:
                failure = Failure(video.problem[0], "UnreadableVideo", video.problem[1])
                out += self._finish(uri, end_of(video, None, [(None, failure)], 0))
            elif video.copy_of is not None:
                end = end_of(video, None, [], 0)
                end.video.update(status="duplicate", message=f"the same bytes as {video.copy_of}")
                out += self._finish(uri, end)
        return out

    def begin_again(self, video: Task) -> None:
        """Forget what came of a video of which something is missing."""
        self._clips[video.source.uri] = []
        self._end.pop(video.source.uri, None)

    def add(self, uri: str, content: Any) -> list[Shard]:
        """Take a clip's row or a video's end. Returns the shards that became whole."""
        if isinstance(content, End):
            return self._finish(uri, content)
        self._clips[uri].append(content)
        return self._check(uri)

    def _finish(self, uri: str, end: End) -> list[Shard]:
        self._end[uri] = end
        return self._check(uri)

    def _check(self, uri: str) -> list[Shard]:
        if self._open(uri):
            return []
        self.videos_done += 1
        shard = self._video[uri].shard
        members = [v.source.uri for v in self._by_shard[shard]]
        if any(self._open(m) for m in members):
            return []
        return [self._shard(shard, members)]

    def _open(self, uri: str) -> bool:
        return uri not in self._end or len(self._clips[uri]) < self._end[uri].clips

    def _shard(self, name: str, members: Sequence[str]) -> Shard:
        videos, shots, errors, clips = [], [], [], []
        for uri in members:
            end = self._end[uri]
            video_id = end.video["video_id"]
            by_number = {shot["shot"]: shot for shot in end.shots}
            videos.append(end.video)
            shots += end.shots
            tried = self._video[uri].attempts
            errors += [error_row(uri, video_id, clip, failure, tried) for clip, failure in end.failures]
            made = [] if end.void else sorted(self._clips[uri], key=lambda c: c[0]["start"])
            for row, failures in made:
                clips.append(row | stamps(row, end.video) | bounds(row, by_number.get(row["shot"])))
                errors += [error_row(uri, video_id, row["clip_id"], failure, tried) for failure in failures]
            self._clips[uri] = []
            self._end[uri] = End(0, end.video, [], [])
        return Shard(name, videos, shots, errors, clips)


def end_of(video: Task, reading: VideoPass | None, failures: Failures, clips: int) -> End:
    """The end of a video of which `clips` were made; `failures` are those that stopped it. The clips are void if the
    file changed while it was decoded."""
    source = video.source
    was_read = video.problem is None and (reading is not None or bool(failures))
    void = was_read and sources.changed(source, video.video_id)
    if void:
        failures = [(None, Failure("decode", "ChangedFile", f"{source.uri}: {sources.CHANGED}"))]
    row: dict[str, Any] = {
        "uri": source.uri,
        "video_id": None if void else video.video_id,
        "size_bytes": source.size,
        "modified_ns": source.modified_ns,
        "revision": source.revision,
        "status": "failed" if failures else "ok",
        "message": failures[0][1].message if failures else None,
        "shots": 0,
        "clips": 0 if void else clips,
    }
    if reading is None or void:
        return End(clips, row, [], failures, void)
    info = reading.info
    names = "container codec pix_fmt width height interlaced fps variable_rate duration frames"
    stamped = "first_pts time_base_num time_base_den"
    row |= {name: getattr(info, name) for name in f"{names} {stamped}".split()} | {"shots": len(reading.shots)}
    row |= {name: getattr(info.geometry, name) for name in ("coded_width", "coded_height")}
    row |= {name: getattr(info.geometry.orientation, name) for name in ("rotation", "mirrored")}
    if info.color:
        row |= {f"color_{name}": getattr(info.color, name) for name in ("primaries", "transfer", "matrix")}
        row["color_range"] = "full" if info.color.full_range else "limited"
    shots = [
        {
            "video_id": video.video_id,
            "uri": source.uri,
            "shot": s.index,
            "start": s.start,
            "end": s.end,
            "begins_with": s.begins_with,
            "ends_with": s.ends_with,
            "clips": s.clips,
            "reason": s.reason,
        }
        for s in reading.shots
    ]
    return End(clips, row, shots, [*reading.failures, *failures])


def clip_row(clip: Clip, scored: Scored) -> tuple[dict[str, Any], list[Failure]]:
    """A clip's row of the manifest, and what failed on it."""
    frames = clip.frames
    row = {
        "clip_id": frames.clip_id,
        "video_id": frames.video_id,
        "uri": frames.uri,
        "shot": clip.shot,
        "start": frames.start,
        "end": frames.end,
        "start_frame": clip.start_frame,
        "frames": clip.frame_count,
        "fps": frames.fps,
        "width": frames.width,
        "height": frames.height,
        "starts_on_keyframe": clip.starts_on_keyframe,
        "preview": clip.preview,
        **scored.values,
    }
    return row, scored.failures


def error_row(uri: str, video_id: str | None, clip_id: str | None, failure: Failure, before: int = 0) -> dict[str, Any]:
    """A row of the error table, for what was tried `before` too."""
    return {
        "uri": uri,
        "video_id": video_id,
        "clip_id": clip_id,
        "step": failure.step,
        "error": failure.error,
        "message": failure.message,
        "attempts": failure.attempts + before,
    }
