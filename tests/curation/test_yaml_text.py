"""YAML without keys given twice, against the library where there are none."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from curation.yaml_text import load

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=12,
)


@given(VALUES, st.booleans())
def test_what_is_written_is_read(value, flow):
    assert load(yaml.safe_dump(value, default_flow_style=flow)) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: 'a' is given twice, first in line 1"),
        ("a: {x: 1,\n    y: 2, x: 3}\n", "line 2: 'x' is given twice, first in line 1"),
        ('- {a: 1}\n- a: 1\n  "a": 2\n', "line 3: 'a' is given twice, first in line 2"),
        ("? [1, 2]\n: 1\n3: x\n3: y\n", "line 4: '3' is given twice, first in line 3"),
        ("a: [1\nb: 2\n", "line 2: "),
        ("a: !!python/name:os.system\n", "line 1: could not determine a constructor"),
        ("a: \x07\n", "no valid YAML: "),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, message):
    with pytest.raises(ValueError) as caught:
        load(text)
    assert str(caught.value).startswith(message)


def test_a_key_may_replace_what_is_merged_in():
    text = "base: &b {x: 1, y: 2}\nmore: &m {<<: *b, x: 3}\nlast: {<<: *m, y: 4}\nsame: {x: 1}\n"
    assert load(text) == yaml.safe_load(text)
    assert load(text)["more"] == {"x": 3, "y": 2}  # of merges into merges PyYAML's versions think differently
