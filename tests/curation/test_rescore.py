"""Which scores are outdated, and what joins old rows: asked of manifests written by hand and of scorers that count."""

from pathlib import Path

import pyarrow as pa
import pytest

from curation import discovery, sources
from curation.collect import Collector
from curation.config import CurateConfig, MotionSettings, TextSettings, WeightSettings
from curation.errors import CurationError
from curation.ledger import clip_schema, plan
from curation.manifest import Manifest, Shard
from curation.progress import silent
from curation.rescore import difference, structure
from curation.scores import scorers_for
from curation.scores.base import Column, Failure, Scorer
from curation.scores.motion import Motion
from curation.weights import svd_models


class Count(Scorer):
    """A score whose definition is given; what it would measure is written by hand here."""

    def __init__(self, name: str, reads: tuple[str, ...] = (), **settings: int) -> None:
        self.name, self.requires, self._settings = name, reads, settings  # type: ignore[misc]

    @property
    def columns(self):
        return [Column(self.name, pa.float32(), "a count")]

    @property
    def settings(self):
        return self._settings

    def score(self, clips, known):
        raise NotImplementedError


A, B, C = Count("a"), Count("b", size=1), Count("c", ("b",))


@pytest.fixture
def world(tmp_path):
    """Four files; of three, two clips each with scores a, b and c in two shards, one clip's b having failed; the fourth
    cannot be read."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in "wxyz":
        (folder / f"{name}.mp4").write_bytes(name.encode() * 100)
    config = CurateConfig(videos=str(folder), out=str(tmp_path / "out"), videos_per_shard=2)
    manifest = Manifest(tmp_path / "out" / "manifest")
    found = discovery.find(str(folder))
    for name, group in (("s1", found[:2]), ("s2", found[2:])):
        manifest.commit(shard(name, group, ("a", "b", "c")), clip_schema(config, [A, B, C]))
    return folder, config, manifest


def shard(name: str, videos, scores, value=1.0, bad="x") -> Shard:
    rows, clips, errors = [], [], []
    for source in videos:
        stem, video_id = Path(source.uri).stem, sources.identify(source.uri)
        failed = stem == "z"
        row = {"uri": source.uri, "video_id": video_id, "size_bytes": source.size, "modified_ns": source.modified_ns}
        rows.append(row | {"status": "failed" if failed else "ok"})
        for i in range(0 if failed else 2):
            clip = {"clip_id": f"{stem}{i}", "video_id": video_id, "uri": source.uri, "start": float(i)}
            clips.append(clip | dict.fromkeys(scores, value))
            if (stem, i) == (bad, 1) and "b" in scores:
                clips[-1]["b"] = None
                errors.append(
                    {
                        "uri": source.uri,
                        "video_id": video_id,
                        "clip_id": "x1",
                        "step": "b",
                        "message": "old",
                        "attempts": 1,
                    }
                )
        if failed:
            errors.append(
                {"uri": source.uri, "video_id": video_id, "step": "open", "message": "no video", "attempts": 1}
            )
    return Shard(name, rows, [], errors, clips)


def planned(world, scorers, **more):
    messages: list[str] = []
    config = world[1].model_copy(update=more)
    return plan(config, world[2], scorers, discovery.find(str(world[0])), silent, messages), messages


def carried_out(world, todo, value=2.0, but=()):
    """Write what a run would, with `value` for every new score; the videos of `but` are not read."""
    made = [c.name for s in todo.scorers for c in s.columns]
    by_shard: dict[str, list] = {}
    for task in todo.tasks:
        by_shard.setdefault(task.shard, []).append(task.source)
    names = {*by_shard, *(todo.kept.shards if todo.kept else ())}
    for name in sorted(names):
        rows = shard(name, [s for s in by_shard.get(name, []) if Path(s.uri).stem not in but], made, value, bad="")
        todo.target.write(name, todo.kept.joined(rows))
    world[2].adopt_next()


def scores(manifest, *names):
    return {c["clip_id"]: tuple(c[n] for n in names) for c in manifest.read("clips").to_pylist()}


def test_an_added_score_is_measured_alone_and_the_rest_is_kept(world):
    before = scores(world[2], "a", "b", "c")
    new = Count("d", ("a",))
    todo, messages = planned(world, [A, B, C, new])
    assert [s.name for s in todo.scorers] == ["d"]
    assert sorted(Path(t.source.uri).stem for t in todo.tasks) == ["w", "x", "y"]
    assert todo.given == ["a"]
    assert todo.tasks[0].scored("w0").values == {"a": 1.0}
    assert todo.tasks[0].scored("x0").values == {}  # each task carries its own video's
    assert messages == ["measured anew: d; other scores are kept"]
    assert scores(world[2], "a", "b", "c") == before  # nothing is seen of it before it is complete
    carried_out(world, todo)
    assert scores(world[2], "a", "b", "c") == before
    assert set(scores(world[2], "d").values()) == {(2.0,)}
    assert len(world[2].read("videos")) == 4
    assert sorted(e["message"] for e in world[2].read("errors").to_pylist()) == ["no video", "old"]
    assert planned(world, [A, B, C, new])[0].tasks == []
    assert not list(world[2].next.root.rglob("*.parquet"))


def test_a_changed_score_takes_along_those_that_read_it_when_it_is_asked_for(world):
    other = Count("b", size=2)
    with pytest.raises(CurationError, match=r"b: size 1 -> 2.*--remeasure to measure these scores anew"):
        planned(world, [A, other, C])
    todo, _ = planned(world, [A, other, C], remeasure=True)
    assert [s.name for s in todo.scorers] == ["b", "c"]
    carried_out(world, todo)
    assert scores(world[2], "a", "b", "c")["x1"] == (1.0, 2.0, 2.0)
    assert [e["message"] for e in world[2].read("errors").to_pylist()] == ["no video"]  # b did not fail this time


def test_a_score_that_is_not_wanted_any_more_goes_without_measuring(world):
    with pytest.raises(CurationError, match="c is not measured"):
        planned(world, [A, B])
    todo, _ = planned(world, [A, B], remeasure=True)
    assert (todo.tasks, todo.scorers) == ([], [])
    carried_out(world, todo)
    assert "c" not in world[2].schema("clips").names
    assert scores(world[2], "a", "b")["x1"] == (1.0, None)


def test_what_was_measured_before_a_kill_is_not_measured_again(world):
    scorers = [A, B, C, Count("d")]
    todo, _ = planned(world, scorers)
    first = todo.tasks[0].shard
    mine = [t.source for t in todo.tasks if t.shard == first]
    todo.target.write(first, todo.kept.joined(shard(first, mine, ["d"], 2.0, bad="")))
    again, _ = planned(world, scorers)
    assert {t.shard for t in again.tasks} == {t.shard for t in todo.tasks} - {first}
    with pytest.raises(CurationError, match="still other settings waits"):
        planned(world, [A, B, C, Count("d", size=9)])
    other, _ = planned(world, [A, B, C, Count("d", size=9)], remeasure=True)
    assert len(other.tasks) == 3
    assert not other.target.shards()


@pytest.mark.parametrize("moment", range(12))
def test_a_kill_while_the_new_manifest_takes_the_place_is_finished_by_the_next_run(world, monkeypatch, moment):
    todo, _ = planned(world, [A, B, C, Count("d")])
    calls = iter(range(99))

    def dying(real):
        def call(*arguments, **options):
            if next(calls) == moment:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        return call

    from curation import manifest as module

    monkeypatch.setattr(Manifest, "remove", dying(Manifest.remove))
    monkeypatch.setattr(module.store, "move", dying(module.store.move))
    try:
        carried_out(world, todo)
    except KeyboardInterrupt:
        with pytest.raises(CurationError, match="just being replaced"):
            world[2].read("clips")
    monkeypatch.undo()
    world[2].sweep()
    assert sorted(scores(world[2], "a", "d")) == ["w0", "w1", "x0", "x1", "y0", "y1"]
    assert set(scores(world[2], "d").values()) == {(2.0,)}
    assert len(world[2].read("videos")) == 4


def test_what_cannot_be_measured_anew_is_null_with_its_reason(world):
    (world[0] / "w.mp4").unlink()
    todo, messages = planned(world, [A, B, C, Count("d")])
    assert any("are gone" in m for m in messages)
    assert sorted(Path(t.source.uri).stem for t in todo.tasks) == ["x", "y"]
    carried_out(world, todo, but="y")
    assert scores(world[2], "a", "d")["w0"] == (1.0, None)
    told = {e["clip_id"]: e["error"] for e in world[2].read("errors").to_pylist() if e["step"] == "d"}
    assert told == {"w0": "SourceGone", "w1": "SourceGone", "y0": "ClipGone", "y1": "ClipGone"}


def test_other_clips_than_before_are_refused(world):
    todo, _ = planned(world, [A, B, C, Count("d")])
    name = todo.tasks[0].shard
    rows = shard(name, [todo.tasks[0].source], ["d"])
    rows.clips[0]["clip_id"] = "another"
    with pytest.raises(CurationError, match="other clips come of it than before"):
        todo.kept.joined(rows)


def test_new_and_changed_files_are_measured_with_every_score(world):
    (world[0] / "new.mp4").write_bytes(b"new")
    (world[0] / "w.mp4").write_bytes(b"other")
    todo, messages = planned(world, [A, B, C, Count("d")])
    whole = [Path(t.source.uri).stem for t in todo.tasks if t.shard not in todo.kept]
    assert sorted(whole) == ["new", "w"]
    assert any("w.mp4 has changed" in m for m in messages)


def test_settings_that_decide_on_clips_are_told_from_those_of_scores():
    def said(**settings):
        from curation.ledger import measuring

        return structure(measuring(CurateConfig(videos="x", **settings)))

    assert said() == said(motion=MotionSettings(method="dis"), text={"enabled": False}, weights={"folder": "f"})
    assert said() != said(motion=MotionSettings(fps=4))
    assert said() != said(motion=MotionSettings(size_px=96))
    assert said() != said(clips={"max_length_s": 5})
    assert said() != said(thumbnail_px=320)


def test_a_difference_says_what_it_is(world):
    schema = clip_schema(world[1], [A, B])
    same = difference(schema, [A, B])
    assert not same.any
    assert same.outdated == []
    other = difference(schema, [A, Count("b", size=3), C])
    assert (other.added, other.changed, other.removed) == (["c"], ["b: size 1 -> 3"], [])
    assert [s.name for s in other.outdated] == ["b", "c"]


def told(old: dict, new: dict) -> list[str]:
    """What is said of the scores of two configurations."""
    before, after = (CurateConfig(videos="x", **given) for given in (old, new))
    return difference(clip_schema(before, scorers_for(before)), scorers_for(after)).changed


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({}, {"motion": {"method": "dis"}}, ["motion.method 'farneback' -> 'dis'"]),
        ({"motion": {"method": "dis"}}, {}, ["motion.method 'dis' -> 'farneback'"]),
        ({}, {"text": {"recognise": False}}, ["text.recognise True -> False"]),
        ({}, {"text": {"method": "craft", "canvas_px": 320}}, ["text.method 'cascade' -> 'craft'"]),
        (
            {"text": {"method": "craft"}},
            {"text": {"method": "craft", "canvas_px": 320, "recognise": False}},
            ["text.canvas_px 640 -> 320, text.recognise True -> False"],
        ),
        ({}, {"text": {"enabled": False}}, ["text.enabled True -> False"]),
        (
            {},
            {"motion": {"method": "dis"}, "text": {"recognise": False}},
            ["motion.method 'farneback' -> 'dis'", "text.recognise True -> False"],
        ),
    ],
)
def test_what_the_user_set_is_told_by_its_name(old, new, said):
    assert told(old, new) == said


def test_of_another_profile_and_model_the_options_are_told(tmp_path):
    weights = {}
    for name, model in svd_models(WeightSettings()).items():
        weights[name] = str(tmp_path / name)
        for place in (tmp_path / name, tmp_path / "other" / name):
            place.mkdir(parents=True)
            for alternatives in model.files:
                (place / alternatives.split("|")[0]).write_bytes(str(place).encode())
    weights["aesthetic_head"] += "/" + svd_models(WeightSettings())["aesthetic_head"].files[0]
    svd = {"profile": "svd", "weights": weights}
    assert told({}, svd) == ["profile 'embedded' -> 'svd'"]
    other = {**svd, "weights": {**weights, "coca": str(tmp_path / "other" / "coca")}}
    assert told(svd, other) == [f"weights.coca {weights['coca']!r} -> {other['weights']['coca']!r}"]


def test_what_no_option_explains_is_told_version_first():
    class Newer(Motion):
        version = 7

        @property
        def settings(self):
            return {**super().settings, "agreement": 2, "a digest": "f" * 64}

    config = CurateConfig(videos="x", text=TextSettings(enabled=False))
    (words,) = difference(clip_schema(config, [Motion()]), [Newer()]).changed
    assert words == f"motion: version 1 -> 7, a digest None -> '{'f' * 12}…', agreement None -> 2"


def test_attempts_add_up(world):
    todo, _ = planned(world, [A, B, C], retry_failed=True)
    tasks = {Path(t.source.uri).stem: t for t in todo.tasks}
    assert {n: t.attempts for n, t in tasks.items()} == {"x": 1, "z": 1}  # x has a clip whose score b failed
    collector = Collector([tasks["z"]])
    from curation.collect import end_of

    (made,) = collector.add(tasks["z"].source.uri, end_of(tasks["z"], None, [(None, Failure("open", "E", "again"))], 0))
    assert [e["attempts"] for e in made.errors] == [2]
