"""YAML as people write it by hand: plain values alone, and no key twice."""

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Of a key that stands twice in a mapping the library silently takes the last; here it is a mistake."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                words = f"{key.value!r} is given twice, first in line {lines[name]}; leave one of them out"
                raise yaml.MarkedYAMLError(problem=words, problem_mark=key.start_mark)
            lines[name] = line
        return node


def load(text: str) -> Any:
    """What a YAML text says. Raises ValueError, which begins with the line where there is one, for a text that is no
    YAML or gives a key of a mapping twice."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem or 'no valid YAML'}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"no valid YAML: {' '.join(str(error).split())}") from error
