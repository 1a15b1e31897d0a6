import pytest
from pydantic import BaseModel, ValidationError

from training.config import DataSettings, ModelSettings, SampleConfig, Stage, TrainStageConfig, TrainStagedConfig


def test_every_field_has_a_default_that_works():
    for model in (TrainStageConfig, TrainStagedConfig, SampleConfig):
        assert model.model_validate(model().model_dump(mode="json")) == model()


@pytest.mark.parametrize("model", [TrainStageConfig, TrainStagedConfig, SampleConfig])
def test_every_field_is_described(model):
    for name, field in model.model_fields.items():
        assert field.description, name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            test_every_field_is_described(field.annotation)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sede": 1}, "sede"),
        ({"stage": "finetune"}, "parent"),
        ({"data": {"fps": [0]}}, "above 0"),
        ({"data": {"captions": {"image": 0, "video": 0, "fused": 0}}}, "at least one"),
        ({"model": {"attention_levels": [5]}}, "do not exist"),
        ({"model": {"multipliers": [0], "attention_levels": []}}, "1 or more"),
        ({"optim": {"best_fraction": 0}}, "best_fraction"),
        ({"model": {"system": "text2video_zero"}}, "no training: `rushes sample CHECKPOINT --system text2video_zero`"),
        ({"model": {"system": "lumire"}}, r"no such system; did you mean lumiere\?"),
        ({"model": {"system": "xyz"}}, "no such system; there are vdm, .*control_video"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValidationError, match=message):
        TrainStageConfig.model_validate(fields)


def test_staged_is_three_stages_each_from_the_one_before():
    stages = TrainStagedConfig(out="runs/x", seed=3, replace=True).stages()
    assert all(s.replace for s in stages)
    assert [s.stage for s in stages] == list(Stage)
    assert [s.parent for s in stages] == ["", stages[0].out, stages[1].out]
    assert {s.seed for s in stages} == {3}
    assert len({s.data.cache for s in stages}) == 1
    assert stages[2].optim.best_fraction < 1


def test_systems_may_be_written_with_dashes():
    assert ModelSettings.model_validate({"system": "Video-LDM"}).system == "video_ldm"


def test_staged_keeps_the_users_settings():
    data, model = DataSettings(height=16, cache="elsewhere"), ModelSettings(width=8)
    for stage in TrainStagedConfig(data=data, model=model).stages():
        assert stage.data == data
        assert stage.model == model


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (TrainStageConfig, lambda x: {"optim": {"lr": x}}),
        (TrainStageConfig, lambda x: {"optim": {"p_mean": x}}),
        (TrainStagedConfig, lambda x: {"data": {"fps": [8.0, x]}}),
        (SampleConfig, lambda x: {"guidance": x}),
        (SampleConfig, lambda x: {"motion": x}),
    ],
)
def test_numbers_that_are_none_are_refused(model, fields, value):
    with pytest.raises(ValidationError, match="finite number"):
        model.model_validate(fields(value))


def test_one_setting_of_a_stage_leaves_its_others():
    config = TrainStagedConfig.model_validate({"finetune": {"samples": 1000}, "video_pretrain": {"batch": 2}})
    own = TrainStagedConfig()
    assert config.finetune == own.finetune.model_copy(update={"samples": 1000})
    assert config.video_pretrain == own.video_pretrain.model_copy(update={"batch": 2})
    assert config.image_pretrain == own.image_pretrain
