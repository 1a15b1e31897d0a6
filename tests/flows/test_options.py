"""Options, YAML and errors, against small models of our own and the real ones."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from curation.config import CurateConfig, SelectConfig, Strict
from flows.config import PipelineConfig, ServeConfig
from flows.options import UsageError, closest, glance, merge, parse


class Inner(Strict):
    """Nested things."""

    rate: float = Field(default=2.0, gt=0, le=30)
    """How fast."""
    on: bool = True
    """Whether at all."""


class Outer(Strict):
    """A small job."""

    source: str
    """Where it comes from."""
    two_words: int = 3
    """A number."""
    names: list[str] = ["a"]  # noqa: RUF012 - pydantic copies it
    """Some names."""
    maybe: int | None = None
    """Perhaps a number."""
    inner: Inner = Inner.model_validate({})
    """The nested part."""


def read(*args: str, model: type = Outer, positional: str | None = "source"):
    return parse(model, args, prog="rushes x", about="About.", example="rushes x A", positional=positional).config


def fault(*args: str, model: type = Outer, positional: str | None = "source") -> str:
    with pytest.raises(UsageError) as caught:
        read(*args, model=model, positional=positional)
    return str(caught.value)


def test_only_what_is_given_replaces_a_default():
    config = read("here", "--inner.rate", "4", "--no-inner.on")
    assert config == Outer(source="here", inner=Inner(rate=4.0, on=False))


@pytest.mark.parametrize("spelling", ["--two-words", "--two_words"])
@pytest.mark.parametrize("glue", [True, False])
def test_both_spellings_of_an_option(spelling: str, glue: bool):
    assert read("here", *([f"{spelling}=5"] if glue else [spelling, "5"])).two_words == 5


def test_underscores_of_values_stay():
    assert read("my_films", "--names", "a_b", "--names", "c").names == ["a_b", "c"]


def test_values_that_look_like_numbers_stay_text():
    assert read("2024").source == "2024"


def test_the_command_line_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path):
    file = tmp_path / "job.yaml"
    file.write_text("source: file\ntwo_words: 7\ninner: {rate: 9}\n")
    config = read("--config", str(file), "--inner.rate", "4")
    assert config == Outer(source="file", two_words=7, inner=Inner(rate=4.0))
    assert read("line", "--config", str(file)).source == "line"


@pytest.mark.parametrize(
    ("line", "config", "debug", "stage"),
    [
        ("films --config a.yaml --out o", "a.yaml", False, None),
        ("films --config=a.yaml --debug --no-text.enabled", "a.yaml", True, None),
        ("--config a.yaml --config=b.yaml --stage=finetune", "b.yaml", False, "finetune"),
        ("--out --debug --stage finetune", None, True, "finetune"),
        ("--config", None, False, None),
        ("films -- --config a.yaml --debug", None, False, None),
    ],
)
def test_a_glance_finds_options_as_the_parser_does(line: str, config: str | None, debug: bool, stage: str | None):
    found = glance(line.split(), "--stage")
    assert (found.config, found.debug, found.stage) == (config, debug, stage)


def test_an_empty_file_changes_nothing(tmp_path: Path):
    file = tmp_path / "empty.yaml"
    file.write_text("# nothing\n")
    assert read("here", "--config", str(file)) == Outer(source="here")


def test_a_missing_argument_says_both_ways_to_give_it():
    assert fault() == "source is missing; give SOURCE or `source: ...` in the file of --config"


def test_an_unknown_option_names_the_closest():
    assert "unknown argument --two-worlds; did you mean --two-words?" in fault("here", "--two-worlds", "3")


def test_a_second_value_of_a_list_says_how_to_give_it():
    assert "unknown argument b; give --names once for each: --names A --names B" in fault("s", "--names", "a", "b")
    assert "give --names once for each" in fault("s", "--names=a c", "b")
    for others in (["s", "--two-words", "3", "b"], ["s", "--names", "a", "--two-words", "3", "b"], ["s", "b"]):
        assert "once for each" not in fault(*others)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("sauce: x\n", ["unknown field sauce", "did you mean source?"]),
        ("source: x\ninner: {rait: 3}\n", ["unknown field inner.rait", "did you mean rate?"]),
        ("source: x\ninner: {rate: 31}\n", ["inner.rate", "less than or equal to 30", "(got 31)"]),
        ("source: x\ntwo_words: many\n", ["two_words", "valid integer", "(got 'many')"]),
        ("- a\n- b\n", ["must be a mapping, `field: value`", "list"]),
        ("- source: x\n", ["must be a mapping, `field: value`", "list"]),
        ("source: [unclosed\n", ["line 2"]),
        ("source: x\ninner:\n  rate: 3\n  rate: 4\n", ["line 4: 'rate' is given twice, first in line 3"]),
        ("source: x\nnames: [a]\nsource: y\n", ["line 3: 'source' is given twice, first in line 1"]),
        ("just text", ["must be a mapping, `field: value`", "str"]),
    ],
)
def test_a_fault_in_a_file_names_the_file_and_the_field(tmp_path: Path, content: str, words: list[str]):
    file = tmp_path / "job.yaml"
    file.write_text(content)
    first = fault("--config", str(file)).splitlines()[0]
    assert first.startswith(str(file))
    for word in words:
        assert word in first


def test_each_fault_has_a_line_of_its_own(tmp_path: Path):
    file = tmp_path / "job.yaml"
    file.write_text("two_words: x\nbogus: 1\n")
    assert len(fault("here", "--inner.rate", "0", "--config", str(file)).splitlines()) == 3


def test_a_value_out_of_range_on_the_command_line_is_blamed_on_it():
    assert fault("here", "--inner.rate", "40").startswith("on the command line: inner.rate: ")


def test_a_file_that_is_not_there(tmp_path: Path):
    assert fault("--config", str(tmp_path / "no.yaml")).startswith(f"{tmp_path / 'no.yaml'}: no such file")


def test_a_file_that_is_a_folder_or_no_text(tmp_path: Path):
    assert "cannot be read" in fault("--config", str(tmp_path))
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in fault("--config", str(tmp_path / "b.yaml"))


def test_yaml_cannot_run_code(tmp_path: Path):
    file = tmp_path / "evil.yaml"
    file.write_text(f"source: !!python/object/apply:os.system ['touch {tmp_path}/ran']\n")
    assert str(file) in fault("--config", str(file))
    assert not (tmp_path / "ran").exists()


def test_help_shows_groups_defaults_and_the_example(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        read("--help")
    out = capsys.readouterr().out
    assert left.value.code == 0
    for words in ("About.", "SOURCE", "inner options", "--inner.rate", "(default: 2.0)", "rushes x A", "--no-inner.on"):
        assert words in out
    assert "(default: None)" not in out


def test_a_percentile_of_140_is_one_line(tmp_path: Path):
    file = tmp_path / "s.yaml"
    file.write_text("manifest: m\ninline_policy: {rules: [{score: motion, min_percentile: 140}]}\n")
    message = fault("--config", str(file), model=SelectConfig, positional="manifest")
    assert message.count("\n") == 0
    assert "inline_policy.rules.0.min_percentile" in message
    assert "140" in message


@pytest.mark.parametrize("given", ["motion=abc", "motion=-5", "motion=nan", "motion", "motion=1,,2", "motion=1e1"])
def test_what_a_sweep_may_be_is_said_in_words(given: str):
    message = fault("m", "--sweep", given, model=SelectConfig, positional="manifest")
    assert message.startswith("on the command line: sweep: give a score and percentiles from 0 to 100")
    assert "motion=12.5,25,50" in message
    assert repr(given) in message
    assert "\\" not in message


@pytest.mark.parametrize(("model", "positional"), [(CurateConfig, "videos"), (PipelineConfig, "videos")])
def test_every_field_of_the_real_models_has_help(model: type, positional: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        read("--help", model=model, positional=positional)
    out = capsys.readouterr().out
    assert "default factory" not in out
    assert "None)" not in out


def test_help_of_limits_teaches_what_lies_beyond(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        read("--help", model=CurateConfig, positional="videos")
    out = " ".join(capsys.readouterr().out.split())
    bits, stride = (out.split(f"--{name} ")[-1].split(" --")[0] for name in ("duplicates.bits", "clips.stride-s"))
    assert "At most 16" in bits
    assert "0 to 4 strict" in bits
    assert "shots that are shorter, give no clip" in stride


def test_a_whole_configuration_survives_yaml(tmp_path: Path):
    config = PipelineConfig.model_validate({"videos": "v", "train": {"image_pretrain": {"samples": 5}}})
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert read("--config", str(file), model=PipelineConfig, positional="videos") == config


def test_schedules_come_from_a_file(tmp_path: Path):
    file = tmp_path / "serve.yaml"
    file.write_text("schedules: [{name: nightly, flow: curate, cron: 0 3 * * *, config: {videos: v}}]\n")
    config = read("--config", str(file), "--port", "4300", model=ServeConfig, positional=None)
    assert (config.port, config.schedules[0].name) == (4300, "nightly")


nested = st.recursive(
    st.integers(0, 9),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.sampled_from("abc"), nested, max_size=3)


@given(mappings, mappings)
def test_merging_keeps_all_of_the_upper_one(base: dict, over: dict):
    def inside(small: object, large: object) -> bool:
        if isinstance(small, dict) and isinstance(large, dict):
            return all(k in large and inside(v, large[k]) for k, v in small.items())
        return small == large

    merged = merge(base, over)
    assert inside(over, merged)
    assert set(merged) == set(base) | set(over)
    assert merge(merged, over) == merged


@given(mappings)
def test_an_empty_mapping_is_neutral(mapping: dict):
    assert merge(mapping, {}) == mapping == merge({}, mapping)


def test_closest_is_silent_where_nothing_is_near():
    assert closest("zzzz", [f"option{i}" for i in range(30)]) == ""


def test_a_comma_in_a_text_separates_nothing():
    assert read("here", "--names", "a ball, panning left").names == ["a ball, panning left"]
    assert read("here", "--names", "one, two", "--names", "three").names == ["one, two", "three"]
    assert read("here", "--names", '["x, y", "z"]').names == ["x, y", "z"]


class Pair(Strict):
    """Two things."""

    a: str
    """One."""
    b: str
    """The other."""
    out: str = ""
    """Where to."""


@pytest.mark.parametrize("line", ["x y --out z", "--out z x y"])
def test_two_fields_may_need_no_option_name(line: str):
    parsed = parse(Pair, line.split(), prog="rushes pair", about="", example="", positional="a b")
    assert (parsed.config.a, parsed.config.b, parsed.config.out) == ("x", "y", "z")


def test_of_two_positionals_the_missing_one_is_named():
    with pytest.raises(UsageError, match="^b is missing; give B or"):
        parse(Pair, ["x"], prog="rushes pair", about="", example="", positional="a b")
