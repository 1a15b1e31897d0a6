"""Configurations refuse what cannot be meant."""

import pytest
from pydantic import BaseModel, ValidationError

from curation.config import ClipSettings, CurateConfig, CutSettings, ExportConfig, Policy, Rule, SelectConfig


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: CurateConfig.model_validate({"videos": "x", "vidoes": "y"}), "vidoes"),
        (lambda: CurateConfig.model_validate({"videos": "x", "cuts": {"treshold": 1}}), "treshold"),
        (lambda: CurateConfig(videos="x", cpus=0), "cpus"),
        (lambda: Rule(score="motion", min_percentile=140), "min_percentile"),
        (lambda: Rule(score="motion", max_percentile=-1), "max_percentile"),
        (lambda: Rule(score="motion"), "needs min, max"),
        (lambda: Rule(score="motion", min=float("nan")), "min"),
        (lambda: Rule(min=3), "needs a score"),
        (lambda: Rule(score="motion", where="motion > 2"), "either where or a score"),
        (lambda: Rule(where="motion > 2", top=3), "either where or a score"),
        (lambda: Rule(score="motion", min=2, top=3), "either bounds or top"),
        (lambda: Rule(score="motion", min=2, per=["video_id"]), "per belongs to top"),
        (lambda: Rule(score="motion", top=0), "top"),
        (lambda: Policy(best_by="motion"), "best_by belongs to max_clips_per_video"),
        (lambda: Policy(validation=1), "validation"),
        (lambda: Policy(sample=0), "sample"),
        (lambda: CurateConfig(videos="x", out=""), "out"),
        (lambda: Policy(name="../../etc"), "name"),
        (lambda: Policy(drop_duplicates=False, duplicate_similarity=0.9), "nothing reads duplicate_similarity"),
        (lambda: Policy(drop_duplicates=False, duplicate_mirrored=True), "nothing reads duplicate_mirrored"),
        (lambda: ClipSettings(min_length_s=0.1), "min_length_s"),
        (lambda: SelectConfig(manifest="m", policy="p.yaml", inline_policy=Policy()), "not both"),
    ],
)
def test_mistakes_are_named(make, field):
    with pytest.raises(ValidationError, match=field):
        make()


def test_what_makes_a_duplicate_is_read_by_rules_over_groups_too():
    """Without dropping any, a rule may ask how many clips mean the same."""
    rules = [Rule(score="semantic_size", max=3)]
    assert Policy(rules=rules, drop_duplicates=False, duplicate_similarity=0.9).duplicate_similarity == 0.9
    with pytest.raises(ValidationError, match="nothing reads duplicate_bits"):
        Policy(rules=rules, drop_duplicates=False, duplicate_bits=4)


def test_every_field_explains_itself():
    """The UI's form and --help show these."""

    def fields(model, seen):
        for name, field in model.model_fields.items():
            assert field.description or hasattr(field.annotation, "model_fields"), f"{model.__name__}.{name}"
            inner = field.annotation
            if hasattr(inner, "model_fields") and inner not in seen:
                seen.add(inner)
                fields(inner, seen)

    for model in (CurateConfig, SelectConfig, Policy, Rule):
        fields(model, set())


def test_a_configuration_survives_json():
    config = CurateConfig(videos="x", cpus=2)
    assert CurateConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_refused(value):
    """NaN equals nothing, itself included: a manifest measured with it could never be resumed."""
    for field in ("gradual_threshold", "hard_threshold"):
        with pytest.raises(ValidationError, match="finite number"):
            CutSettings.model_validate({field: value})


@pytest.mark.parametrize(("model", "given"), [(SelectConfig, {"manifest": "m"}), (ExportConfig, {"selection": "s"})])
def test_selections_and_exports_go_to_disk(model: type[BaseModel], given: dict[str, str]):
    for out, why in (("s3://bucket/x", "written to disk"), ("", "at least 1 character")):
        with pytest.raises(ValidationError, match=why):
            model.model_validate({**given, "out": out})
    assert model.model_validate({**given, "out": "here"}).model_dump()["out"] == "here"
    assert model.model_json_schema()["properties"]["out"]["type"] == "string"
