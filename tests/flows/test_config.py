"""The pipeline's sections and the paths that follow from them."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from curation.config import CurateConfig, SelectConfig
from flows.config import DemoConfig, DiffConfig, PipelineConfig, ReportConfig, ServeConfig
from training.config import TrainStagedConfig


def test_paths_follow_from_out():
    config = PipelineConfig(videos="v", out="o")
    assert (config.curation().videos, config.curation().out) == ("v", "o")
    assert (config.selection().manifest, config.selection().out) == ("o", "o/selection")
    assert (config.training().selection, config.training().out) == ("o/selection", "o/training")
    sampling = config.sampling(["a caption"])
    assert (sampling.checkpoint, sampling.out) == ("o/training/finetune", "o/sample")
    assert sampling.prompts == ["a caption"]


def test_prompts_of_the_configuration_win():
    config = PipelineConfig.model_validate({"videos": "v", "sample": {"prompts": ["mine"]}})
    assert config.sampling(["other"]).prompts == ["mine"]


@pytest.mark.parametrize(
    "section",
    [
        {"curate": {"out": "m"}},
        {"select": {"manifest": "m"}},
        {"select": {"dry_run": True}},
        {"select": {"sweep": "motion=5"}},
        {"train": {"replace": True}},
    ],
)
def test_what_follows_from_out_cannot_be_given(section: dict):
    with pytest.raises(ValidationError, match="follows from the pipeline"):
        PipelineConfig.model_validate({"videos": "v", **section})


@pytest.mark.parametrize(
    ("system", "sample", "message"),
    [
        ("gen1", {}, "sample.source: gen1 makes a video anew; name its file"),
        ("svd", {"source": "x.mp4"}, "sample.source: svd makes no video anew"),
        ("svd", {"system": "text2video_zero"}, "sample.system: the pipeline samples from a network of video"),
        ("svd", {"control": "x.mp4"}, "sample.control: the pipeline samples from a network of video"),
        ("control_video", {}, "control_video has one stage"),
    ],
)
def test_a_pipeline_that_could_not_sample_is_refused_before_it_trains(system: str, sample: dict, message: str):
    fields = {"videos": "v", "train": {"model": {"system": system}}, "sample": sample}
    with pytest.raises(ValidationError, match=message):
        PipelineConfig.model_validate(fields)


def test_the_form_accepts_its_own_defaults():
    # The UI sends back the defaults that the schema shows, and Prefect checks them against that schema.
    schema = PipelineConfig.model_json_schema()
    for name, field in schema["properties"].items():
        if "$ref" in field:
            known = schema["$defs"][field["$ref"].rpartition("/")[2]]
            assert known["additionalProperties"] is False
            assert set(field["default"]) <= set(known["properties"]), name


def test_sections_are_the_phases_own_configurations():
    config = PipelineConfig.model_validate(
        {"videos": "v", "curate": {"motion": {"fps": 3}}, "train": {"data": {"frames": 4}, "seed": 9}}
    )
    assert config.curation() == CurateConfig.model_validate(
        {"videos": "v", "out": "runs/pipeline", "motion": {"fps": 3}}
    )
    assert isinstance(config.selection(), SelectConfig)
    assert isinstance(config.training(), TrainStagedConfig)
    assert [s.data.frames for s in config.training().stages()] == [4, 4, 4]
    assert all(s.replace for s in config.training().stages())  # another selection's stages are in its own folder
    assert {s.seed for s in config.training().stages()} == {9}


def test_the_form_asks_for_no_path_that_follows():
    definitions = PipelineConfig.model_json_schema()["$defs"]
    for section, hidden in {
        "CurateSection": {"videos", "out"},
        "SelectSection": {"manifest", "out", "dry_run", "sweep"},
        "TrainSection": {"selection", "out", "replace"},
        "SampleSection": {"checkpoint", "out"},
    }.items():
        assert not hidden & set(definitions[section]["properties"])
    assert PipelineConfig.model_json_schema()["required"] == ["videos"]


def test_every_field_of_the_form_is_described():
    schema = PipelineConfig.model_json_schema()
    for name, definition in {"": schema, **schema["$defs"]}.items():
        for field, entry in definition.get("properties", {}).items():
            meant = schema["$defs"].get(entry.get("$ref", "").rpartition("/")[2], {})
            assert entry.get("description") or meant.get("description"), f"{name}.{field}"


@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "n", "flow": "curate", "config": {}},
        {"name": "n", "flow": "curate", "config": {}, "cron": "* * * * *", "interval_s": 5},
        {"name": "N", "flow": "curate", "config": {}, "interval_s": 5},
        {"name": "n", "flow": "bogus", "config": {}, "interval_s": 5},
        {"name": "n", "flow": "curate", "config": {}, "interval_s": 5, "timezone": "Mars/Olympus"},
        {"name": "n", "flow": "curate", "config": {}, "interval_s": 5, "timezone": "../etc"},
    ],
)
def test_a_schedule_has_one_clock_a_known_flow_and_a_plain_name(schedule: dict):
    with pytest.raises(ValidationError):
        ServeConfig.model_validate({"schedules": [schedule]})


def test_schedules_have_different_names():
    schedule = {"name": "n", "flow": "curate", "config": {}, "interval_s": 5}
    with pytest.raises(ValidationError, match="two schedules are named n"):
        ServeConfig.model_validate({"schedules": [schedule, schedule]})


def test_the_example_in_infra_is_a_good_one():
    import yaml

    from flows.serve import check_schedules

    file = Path(__file__).parents[2] / "infra" / "serve.yaml"
    config = ServeConfig.model_validate(yaml.safe_load(file.read_text()))
    assert config.schedules
    check_schedules(config.schedules)


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (ReportConfig, {"manifest": "m"}),
        (DiffConfig, {"a": "a", "b": "b"}),
        (PipelineConfig, {"videos": "v"}),
        (DemoConfig, {}),
    ],
)
def test_what_is_written_to_disk_alone_takes_no_object_store(model: type[BaseModel], given: dict[str, str]):
    with pytest.raises(ValidationError, match="written to disk"):
        model.model_validate({**given, "out": "s3://bucket/x"})
