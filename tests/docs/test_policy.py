"""The page on policies against the models: its tables of keys are what this file makes of them, its example works."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from pydantic import BaseModel

from curation.config import Policy, Rule, SelectConfig
from curation.manifest import Manifest, Shard
from curation.policy import levels, select
from curation.schema import CLIP_IDENTITY, score_field

PAGE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()
WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true, false"}


def kind(schema: dict[str, Any]) -> str:
    """What a key takes, in words."""
    if "anyOf" in schema:
        return " or ".join(kind(s) for s in schema["anyOf"] if s.get("type") != "null")
    if "enum" in schema:
        return ", ".join(schema["enum"])
    if schema.get("type") == "array":
        return "rules" if "$ref" in schema["items"] else "column, or list of columns"
    limits = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[name]:g}" for name, sign in limits.items() if name in schema]
    return WORDS[schema["type"]] + f" {', '.join(bounds)}" * bool(bounds)


def table(model: type[BaseModel]) -> str:
    """A model's fields as a markdown table."""
    lines = ["| key | takes | default | |", "|---|---|---|---|"]
    for name, schema in model.model_json_schema()["properties"].items():
        default = schema.get("default")
        shown = "" if default in (None, "", []) else f"`{str(default).lower()}`"
        lines.append(f"| `{name}` | {kind(schema)} | {shown} | {' '.join(schema['description'].split())} |")
    return "\n".join(lines)


@pytest.mark.parametrize("model", [Policy, Rule])
def test_every_key_is_on_the_page_as_the_model_has_it(model: type[BaseModel]):
    assert table(model) in PAGE, f"docs/policy.md should have:\n\n{table(model)}"


def test_the_example_does_what_the_page_says(tmp_path: Path):
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    policy = Policy.model_validate(yaml.safe_load(text))
    assert {"where", "score"} <= {key for rule in policy.rules for key in rule.model_fields_set}
    scores = ("motion", "text_area", "aesthetic", "technical_quality")
    schema = pa.schema([*CLIP_IDENTITY, *(score_field(s, pa.float32(), s, "", {"scorer": s}) for s in scores)])
    rows = [
        {"clip_id": f"c{i:04}", "video_id": f"v{i % 20}", "uri": "f.mp4", "start": 0.0, "end": 1.0 + i % 7}
        | {"motion": i % 97 / 10, "text_area": i % 13 / 100, "aesthetic": 4 + i % 31 / 10, "technical_quality": 0.5}
        for i in range(3000)
    ]
    Manifest(tmp_path / "m").commit(Shard("s", [], [], [], rows), schema)
    made = select(SelectConfig(manifest=str(tmp_path / "m"), out=str(tmp_path / "s"), inline_policy=policy))
    assert made.kept == policy.sample
    assert sum(made.split.values()) == made.kept
    assert len(made.funnel) == len(policy.rules) + 2


ENDS = {
    "rules: [{score: motion, min: 5}]": 0,
    "rules: [{score: motion, min: 50}]": 2,
    "{weight: motion, sample: 3}": 0,
    "{weight: motion * 0, sample: 3}": 2,
    "weight: motion * 0": 2,
    "rules: [{score: moton, min: 5}]": 2,
    "{validation: 0.3, rules: [{score: motion, max: 0}]}": 2,
    "{validation: 0.3, rules: [{score: motion, min: 50}]}": 2,
    "rules: []": 0,
}


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A manifest of ten clips of three videos, their motion from 0 to 9."""
    schema = pa.schema([*CLIP_IDENTITY, score_field("motion", pa.float32(), "", "", {"scorer": "motion"})])
    rows = [
        {"clip_id": f"c{i}", "video_id": f"v{i % 3}", "uri": "f.mp4", "start": 1.0 * i, "motion": float(i)}
        for i in range(10)
    ]
    Manifest(tmp_path / "films").commit(Shard("s", [], [], [], rows), schema)
    return tmp_path / "films"


@pytest.mark.parametrize("way", ["", "--sweep=motion=0,20", "--sweep=motion=20,100", "out"])
@pytest.mark.parametrize(("policy", "status"), ENDS.items())
def test_a_dry_run_ends_as_the_selection_itself(films: Path, policy: str, status: int, way: str):
    from flows import cli

    assert re.search(r"\| 0 \| Clips stay.*\n\| 2 \| Nothing stays, or manifest, policy or `--out` cannot", PAGE)
    (films.parent / "p.yaml").write_text(policy)
    if way == "out":  # something else lies there
        (films.parent / "s").mkdir()
        (films.parent / "s" / "notes.txt").write_text("mine")
    args = ["select", str(films), "--policy", str(films.parent / "p.yaml"), "--out", str(films.parent / "s")]
    args += [way] if way.startswith("--") else []
    before = sorted(films.parent.rglob("*"))
    told = cli.main([*args, "--dry-run"])
    assert sorted(films.parent.rglob("*")) == before
    assert told == cli.main(args)
    assert told == (2 if way == "out" else status)


def test_the_commands_on_the_page_are_accepted():
    from flows import cli
    from flows.options import parse

    lines = re.findall(r"^    rushes (select|diff) (.*?)(?: +#.*)?$", PAGE, re.MULTILINE)
    assert {name for name, _ in lines} == {"select", "diff"}
    for name, line in lines:
        command = cli.COMMANDS[name]
        model = cli._load(command.model)
        config = parse(model, line.split(), prog=name, about="", example="", positional=command.positional).config
        if name == "select" and config.sweep:
            config = config.model_copy(update={"manifest": "nowhere"})
            with pytest.raises(Exception, match="no manifest"):
                list(levels(config))
